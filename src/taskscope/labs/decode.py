"""Lab ``decode``: the notes' numbers, decoded."""

from __future__ import annotations

from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys


def scenario(run: Run) -> None:
    """Take numbers from a running machine and say what they mean, with the tables that taskscope decode uses."""
    from taskscope.abi.decode import decode, lines

    k = run.boot()
    k.trace()
    numbers: list[tuple[str, str, str]] = []
    flags: list[int] = []
    with k.probe(run.name("_do_fork"), lambda *a: flags.append(a[0]), when=lambda *a: k.running().comm == "bash"):
        terminal = k.terminal()
        terminal.type("sleep 50 &")
    p = k.spawn(glibc_fork, name="glibc_fork")
    with k.probe(run.name("_do_fork"), lambda *a: flags.append(a[0]), when=lambda *a: k.running().comm == "glibc_fork"):
        k.run(s=0.2)
    numbers.append(("clone", f"{flags[-1]:#x}", "flags of fork() in the C library"))
    sleeper = k.appears("sleep")
    detail = k.task(sleeper)
    numbers.append(("pf", f"{detail.members['flags']:#x}", "task_struct.flags of sleep"))
    numbers.append(("pf", f"{k.task(2).members['flags']:#x}", "of kthreadd"))
    numbers.append(("state", f"{detail.members['__state' if run.new else 'state']:#x}", "its state"))
    numbers.append(("tif", f"{detail.thread_info['flags']:#x}", "thread_info.flags"))
    terminal.type(f"kill -9 {sleeper}")
    k.run(s=0.2)
    recording = k.recording()
    life = run.life(recording, sleeper)
    assert life.exit is not None
    numbers.append(("signal", str(life.exit.signal), "the signal that killed it"))
    numbers.append(("wait", "0x9", "its wait status"))
    arch = k.machine.flavour.machine
    from taskscope.abi.syscalls import call_of_name

    call = call_of_name(arch, "clone")
    assert call is not None
    numbers.append(("syscall", str(call.number), f"clone on {arch}"))
    numbers.append(("preempt", "0x10001", "preempt_count in an interrupt that holds a lock"))
    meanings = {}
    for kind, value, what in numbers:
        meaning = list(lines(decode(kind, [value], arch=arch, kernel=k.machine.flavour.version)))
        meanings[what] = meaning
        run.show([f"taskscope decode {kind} {value}   # {what}", *("  " + line for line in meaning)])
    joined = {what: " ".join(lines) for what, lines in meanings.items()}
    run.check(
        "0x1200011 is CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD",
        flags[-1] == 0x0120_0011
        and all(
            name in joined["flags of fork() in the C library"]
            for name in ("CLONE_CHILD_SETTID", "CLONE_CHILD_CLEARTID", "SIGCHLD")
        ),
        joined["flags of fork() in the C library"],
    )
    run.check("kthreadd has PF_KTHREAD", "PF_KTHREAD" in joined["of kthreadd"], joined["of kthreadd"])
    run.check(
        "a sleeping task is in TASK_INTERRUPTIBLE", "TASK_INTERRUPTIBLE" in joined["its state"], joined["its state"]
    )
    run.check("9 is SIGKILL", "SIGKILL" in joined["the signal that killed it"])
    run.equal("clone is 120 on ARM, 56 on x86-64", call.number, 56 if run.new else 120)
    del p


def glibc_fork(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Fork as the C library does."""
    if sys.fork() == 0:
        sys._exit(0)
    sys.wait()


LAB = Lab(
    name="decode",
    title="the notes' numbers, decoded",
    question="What do 0x01200011, 0x406040 or 120 mean?",
    look="numbers taken from the running machine, and what taskscope decode says of each",
    answer=(
        "They are sets of bits or entries of tables, and the tables belong to the kernel's version and "
        "architecture: clone flags with the exit signal in the low byte, PF_… of task_struct.flags, TIF_… of "
        "thread_info.flags, task states, wait statuses (signal in the low 7 bits, exit code in the second byte), "
        "system call numbers (clone is 120 on 32-bit ARM, 56 on x86-64), and the bit fields of preempt_count."
    ),
    scenario=scenario,
    mutant=Mutant(
        "clone() forgets CLONE_CHILD_SETTID",
        "kernel.fork:sys_clone",
        "clone_flags &= CLONE_LEGACY_FLAGS",
        "clone_flags &= CLONE_LEGACY_FLAGS & ~0x0100_0000",
    ),
)
