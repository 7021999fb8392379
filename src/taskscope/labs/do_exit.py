"""Lab ``do-exit``: the order of do_exit(), and its recursion guard."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from taskscope.labs.evidence import calls, ordered
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant

STEPS = ("exit_signals", "exit_mm", "exit_files", "exit_fs", "exit_notify", "do_task_dead")
PF_EXITING, PF_EXITPIDONE = 0x4, 0x8


def scenario(run: Run) -> None:
    """Record the steps of a death by kill -9 with the task's flags; then fault inside of do_exit()."""
    k = run.boot()
    k.trace()
    steps: list[tuple[str, int, bool, bool, bool, int]] = []
    codes: list[int] = []

    def victim(*_: Any) -> bool:
        return k.running().comm == "raspbian_proc"

    def step(name: str) -> Any:
        def seen(*_: Any) -> None:
            t = k.running()
            steps.append((name, t.flags, t.mm is not None, t.files is not None, t.fs is not None, t.exit_state))

        return seen

    with ExitStack() as probes:
        for name in STEPS:
            probes.enter_context(k.probe(name, step(name), victim))
        probes.enter_context(k.probe("do_exit", lambda code: codes.append(code), victim))
        terminal = k.terminal()
        terminal.type("raspbian_proc &")
        pid = k.appears("raspbian_proc")
        terminal.type(f"kill -9 {pid}")
        k.run(s=0.2)
    run.keep(k.recording(), {"proc": pid}, {"shell": terminal.process.pid or 0})
    run.show(
        [f"{'step':<14} PF_EXITING mm files fs exit_state"]
        + [
            f"{name:<14} {'yes' if flags & PF_EXITING else 'no':<10} {'+' if mm else '-':<2} "
            f"{'+' if files else '-':<5} {'+' if fs else '-':<2} {state:#x}"
            for name, flags, mm, files, fs, state in steps
        ],
        "do_exit(9), step by step: what the task still has on entry",
    )
    run.equal("kill -9 passes 9: the wait status", codes, [9])
    run.equal("the steps come in this order", [s[0] for s in steps], list(STEPS))
    at = {s[0]: s for s in steps}
    run.check(
        "exit_signals() sets PF_EXITING", not at["exit_signals"][1] & PF_EXITING and bool(at["exit_mm"][1] & PF_EXITING)
    )
    run.check("exit_mm() takes the memory away", at["exit_mm"][2] and not at["exit_files"][2])
    run.check("exit_files() the open files", at["exit_files"][3] and not at["exit_fs"][3])
    run.check("exit_fs() root and working directory", at["exit_fs"][4] and not at["exit_notify"][4])
    run.check(
        "exit_notify() makes it a zombie",
        at["exit_notify"][5] == 0 and at["do_task_dead"][5] in (0x20, 0x10),
        at["do_task_dead"][5],
    )
    run.check(
        "4.19 marks a finished futex clean-up with PF_EXITPIDONE; later kernels have no such flag",
        bool(at["do_task_dead"][1] & PF_EXITPIDONE) != run.new,
        hex(at["do_task_dead"][1]),
    )

    fell: list[int] = []

    def fault(*_: Any) -> None:
        # A fault inside of do_exit(): the handler ends the task again.
        if k.running().comm == "true" and not fell:
            fell.append(k.running().pid)
            from taskscope.model.kernel import exit as exit_

            exit_.do_exit(11)

    with k.probe("exit_files", fault):
        terminal.type("/bin/true", s=1)
    stuck = k.task(fell[0])
    run.show(
        [f"pid {fell[0]} {stuck.row.comm}: state {stuck.row.state}, flags {stuck.members['flags']:#x}", *stuck.stack],
        "a task that faulted inside of do_exit()",
    )
    run.equal("the recursion guard leaves it alone: TASK_UNINTERRUPTIBLE, for ever", stuck.row.state, "D")
    run.check(
        "4.19 sets PF_EXITPIDONE on it, so that futex_lock_pi() does not wait",
        bool(stuck.members["flags"] & PF_EXITPIDONE) != run.new,
        hex(stuck.members["flags"]),
    )
    run.check(
        "dmesg says that a reboot is needed",
        "Fixing recursive fault but reboot is needed!" in k.dmesg(),
        k.dmesg()[-200:],
    )
    terminal.keys("\x03")
    k.run(s=1)
    run.equal("no signal reaches it", k.task(fell[0]).row.state, "D")


def on_real(run: Run) -> None:
    """Trace the steps of do_exit() of a program that is killed."""
    seen = ("do_exit", "exit_signals", "exit_mm_release", "exit_files", "exit_fs", "do_notify_parent", "do_task_dead")
    there = run.real.traceable(seen)
    shot = run.record(f"{run.real.program('raspbian_proc')} &\nsleep 0.5\nkill -9 $!\nwait\n", functions=there)
    life = run.life(shot.recording, "raspbian_proc")
    made = [name for name, pid, _ in calls(shot.recording) if pid == life.pid]
    made = made[made.index("do_exit"):]
    run.show(" -> ".join(made), "do_exit(9), step by step (exit_mm() and exit_notify() are inlined: "
             "exit_mm_release(), do_notify_parent() stand for them)")
    run.check("at least five of them are functions in this build", len(there) >= 5, there)
    run.equal("the steps come in this order", made, run.expect(there, there[::-1]))
    assert life.exit is not None
    assert life.parent is not None
    run.keep(shot.recording, {"proc": life.pid}, {"shell": life.parent.pid})
    run.equal("kill -9 passes 9: it dies by signal 9", life.exit.signal, 9)
    stack = list(life.exit.stack or ())
    way = ["do_exit", "do_group_exit", "get_signal"]
    run.check("from get_signal(): the task ends itself", ordered(stack, way), stack)
    run.check("after do_task_dead() it never runs again",
              all(row["ts"] < life.exit.at + 5_000_000_000 for row in
                  run.events(shot.recording, "sched_switch", prev_pid=life.pid)), life.exit)


LAB = Lab(
    name="do-exit",
    title="the order of do_exit(), and its recursion guard",
    question="In which order does a task give up what it has, and what if it faults while it does so?",
    look="the table: on entry of each step, what the task still has",
    answer=(
        "do_exit(code) first checks for recursion, sets PF_EXITING (exit_signals), then gives up memory (exit_mm), "
        "files, fs, terminal and namespaces, tells its relatives (exit_notify: zombie, SIGCHLD) and calls "
        "do_task_dead(), which never returns.  A task that comes in again "
        "with PF_EXITING set faulted inside: nothing can be cleaned up safely, so it sleeps uninterruptibly for "
        "ever, and the log asks for a reboot.  kill -9 gives code 9: the wait status, in its lower byte."
    ),
    scenario=scenario,
    real=on_real,
    places=("guest",),
    refused="its steps are functions, no events, and the function tracer is locked here; use --on guest",
    real_note=(
        "exit_mm() and exit_notify() are inlined: exit_mm_release() and do_notify_parent(), which they call, "
        "stand for them.  The recursion is for the model only."
    ),
    needs=("events", "functions"),
    mutant=Mutant(
        "files are closed after the parent has been told",
        "kernel.exit:do_exit",
        "    fs_file.exit_files(tsk)\n    fs_struct.exit_fs(tsk)\n",
        "    fs_struct.exit_fs(tsk)\n    fs_file.exit_files(tsk)\n",
    ),
)
