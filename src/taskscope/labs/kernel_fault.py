"""Lab ``kernel-fault``: what becomes of a task in whose name the kernel follows a bad pointer."""

from __future__ import annotations

import re

from taskscope.labs.evidence import plain
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant

DIRECT = "/sys/kernel/debug/provoke-crash/DIRECT"


def scenario(run: Run) -> None:
    """Let a shell's write() crash inside the kernel; then the same in an interrupt."""
    k = run.boot()
    terminal = k.terminal()
    terminal.type(f"insmod /lib/modules/{k.machine.flavour.release}/lkdtm.ko")
    k.trace()
    codes: list[int] = []
    calls: list[str] = []
    before = len(k.dmesg())

    def ends(code: int) -> None:
        if not codes:
            codes.append(code)
            calls.extend(k.running_stack())

    # In both the task is ended by a call with the signal that it seems to have died of.
    with k.probe("make_task_dead" if run.new else "do_exit", ends, lambda code: k.running().comm == "bash"):
        line = f"bash -c 'echo EXCEPTION > {DIRECT}'"
        run.typed(line, terminal.type(line, s=0.5))
    victim = next((int(found) for found in re.findall(r"PID: (\d+) Comm: bash", k.dmesg()[before:])), 0)
    status = terminal.type("echo $?", s=0.3)
    run.typed("echo $?", status)
    log = k.dmesg()[before:]
    run.show([text.partition("] ")[2] for text in log.splitlines()][:34], "the kernel's log")
    first = ("Unable to handle kernel NULL pointer dereference at virtual address 00000000" if not run.new
             else "BUG: kernel NULL pointer dereference, address: 0000000000000000")
    run.check("the oops says what was accessed", first in log)
    where = r"PC is at lkdtm_EXCEPTION\+0x" if not run.new else r"RIP: 0010:lkdtm_EXCEPTION\+0x"
    run.check("and by which function", re.search(where, log) is not None)
    run.check("and the stack: how the task came there, from its system call on",
              "direct_entry" in log and ("sys_write" in log) and "vfs_write" in log)
    signal = 9 if run.new else 11
    run.equal(f"the task ends as if by signal {signal}, without any signal", codes[:1], [signal])
    run.check(f"its parent finds 128 + {signal}", str(128 + signal) in status, status)
    way = ["page_fault_oops", "oops_end"] if run.new else ["__do_kernel_fault", "die", "oops_end"]
    run.show(calls, "the stack where the task is ended")
    names = plain(calls)
    run.check(f"from {' -> '.join(way)}", [name for name in reversed(names) if name in way] == way, calls)
    run.check("the task is gone, and what it had", bool(victim) and k.find(victim) is None, victim)
    recording = k.recording()
    life = run.life(recording, victim)
    run.story(life)
    sent = [row for row in run.events(recording, "signal:signal_generate") if row["pid"] == victim and row["sig"] != 17]
    run.equal("no signal was sent to it: do_exit() is called inside the fault", sent, [])
    run.check("the machine lives: others go on", k.machine.panicked is None and "alive" in terminal.type("echo alive"))
    run.equal("the kernel is tainted: D, died", k.read("/proc/sys/kernel/tainted").strip(), b"128")

    # Nobody can be killed for an interrupt.
    from taskscope.model.include.linux.compiler import READ_ONCE

    fell: list[int] = []

    def fault(*_: object) -> None:
        if not fell:
            fell.append(k.running().pid)
            READ_ONCE(0)

    with k.probe("scheduler_tick", fault):
        k.spawn("yes", "x")
        k.run(s=0.3)
    run.show([text.partition("] ")[2] for text in k.dmesg().splitlines()[-2:]], "the same in a timer interrupt")
    run.equal("in an interrupt it is the end of the machine", k.machine.panicked, "Fatal exception in interrupt")


LAB = Lab(
    name="kernel-fault",
    title="a bad pointer in the kernel: oops, and the task dies",
    question="What does the kernel do when its own code follows a bad pointer, and who has to die for it?",
    look="the kernel's log from the fault on, and the exit status that the shell finds",
    answer=(
        "The CPU's exception finds no mapping and no fixup.  The kernel logs an oops: the address, registers, the"
        " stack.  It cannot go on where it was, so it ends the task in whose name it ran, from inside of the "
        "fault: no signal is sent, the stack is simply left, with whatever locks it held.  The notes quote "
        "__do_kernel_fault() with its do_exit(SIGKILL); on ARM that line is not reached: die() before it ends the"
        " task by do_exit(SIGSEGV), unless somebody on the die chain takes the oops over, so that the parent "
        "finds 139.  On x86 it is SIGKILL, 137.  In an interrupt, in the idle task, in init, or with "
        "panic_on_oops, there is nobody who could die instead, and the kernel panics."
    ),
    scenario=scenario,
    mutant=Mutant(
        "die() returns",
        "arch.arm.kernel.traps:oops_end",
        "    if signr:\n        exit_.do_exit(signr)\n",
        "    pass\n",
    ),
    later=Mutant("die() returns", "arch.x86.kernel.traps:oops_end", "    exit_.make_task_dead(signr)\n", "    pass\n"),
)
