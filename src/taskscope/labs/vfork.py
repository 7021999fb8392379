"""Lab ``vfork``: the parent waits until the child execs or exits."""

from __future__ import annotations

from taskscope.labs.evidence import family, plain
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

CLONE_VM, CLONE_VFORK, SIGCHLD = 0x100, 0x4000, 17


def scenario(run: Run) -> None:
    """Vfork twice: once the child execs, once it exits; look at the parent meanwhile."""
    k = run.boot()
    k.trace()
    flags: list[int] = []
    completed: list[int] = []
    with (
        k.probe(run.name("_do_fork"), lambda *a: flags.append(a[0]), when=lambda *a: k.running().comm == "vforker"),
        k.probe("complete_vfork_done", lambda *a: completed.append(k.now)),
    ):
        p = k.spawn(vforker, name="vforker")
        k.run(until="wait_for_vfork_done")
        k.run(ns=200_000)
        parent = k.task(p.pid or 0)
        run.show(
            [
                f"{parent.row.comm} is in state {parent.row.state}, its kernel stack:",
                *("  " + line for line in parent.stack),
            ],
            "the parent, right after vfork()",
        )
        p.wait()
    run.equal("vfork() is _do_fork(CLONE_VFORK | CLONE_VM | SIGCHLD)", flags[0], CLONE_VFORK | CLONE_VM | SIGCHLD)
    names = plain(parent.stack)
    run.check(
        "the parent waits: its stack leads from _do_fork() into wait_for_vfork_done()",
        "wait_for_vfork_done" in names and run.name("_do_fork") in names,
        names,
    )
    run.equal("it sleeps in D: killable, no other signal wakes it", parent.row.state, "D")
    child_mm = [k.find(c) for c in parent.children]
    run.check(
        "the child borrows the parent's mm",
        (bool(child_mm) and all(c is not None and c.mm is k.find(p.pid or 0) for c in child_mm))
        or parent.members.get("mm.mm_users") == 2,
        parent.members.get("mm.mm_users"),
    )
    recording = k.recording()
    run.keep(recording, family(recording, p.pid or 0, "vforker"))
    states = [row["prev_state"] for row in run.events(recording, "sched_switch", prev_pid=p.pid)]
    run.check(
        "sched_switch shows the parent leave in D (TASK_UNINTERRUPTIBLE)",
        any(int(state) & 2 for state in states),
        states,
    )
    ts_exec = [row["ts"] for row in run.events(recording, "sched_process_exec", filename="/bin/true")]
    run.check(
        "the exec'ing child lets the parent go before sched_process_exec",
        len(completed) == 2 and len(ts_exec) == 1 and completed[0] < ts_exec[0],
        (completed, ts_exec),
    )
    exits = {row["pid"]: row["ts"] for row in run.events(recording, "sched_process_exit")}
    children = sorted(x.pid for x in recording.lives if x.parent and x.parent.pid == p.pid)
    order = (completed[1] < exits[children[1]]) != run.flavour.startswith("6.18")
    run.check(
        "the exiting one in exit_mm(): before sched_process_exit until 6.15, behind it since",
        order,
        (completed[1], exits[children[1]]),
    )
    run.equal("the program went on in both cases", p.text.splitlines()[-2:], ["exec: went on", "exit: went on"])


def on_real(run: Run) -> None:
    """Let a C program vfork a child that execs and one that exits; both take 20 ms before."""
    shot = run.record(run.real.program("vforker"))
    recording = shot.recording
    run.equal("the program went on in both cases", shot.typed.output.splitlines(), ["exec: went on", "exit: went on"])
    parent = run.program(recording, "vforker").pid
    roles = family(recording, parent, "vforker")
    first, second = (run.life(recording, roles[f"vforker.{n}"]) for n in (1, 2))
    for child in (first, second):
        assert child.born is not None
        run.equal(
            "vfork() is CLONE_VFORK | CLONE_VM, and SIGCHLD at the end",
            (child.born.clone_flags, child.born.exit_signal),
            (run.expect(CLONE_VFORK | CLONE_VM, CLONE_VFORK), SIGCHLD),
        )
    leaves = [row for row in run.events(recording, "sched_switch", prev_pid=parent) if int(row["prev_state"]) & 2]
    run.show([f"{row['ts'] / 1e9:.6f}  the parent leaves in D" for row in leaves], "sched_switch")
    run.check("the parent leaves in D (TASK_UNINTERRUPTIBLE) both times", len(leaves) >= 2, leaves)
    woken = [row["ts"] for row in run.events(recording, "sched_waking", pid=parent)]
    execed = first.execs[0].at
    run.check(
        "the exec'ing child lets the parent go before sched_process_exec",
        any(first.born is not None and first.born.at < at < execed for at in woken),
        (woken, execed),
    )
    assert second.exit is not None
    freed = [at for at in woken if second.born is not None and second.born.at < at]
    # The event moved before exit_mm() with the commit that gave it the field group_dead (6.16).
    kind = recording.type("sched_process_exit")
    moved = kind is not None and any(field.name == "group_dead" for field in kind.fields)
    run.check(
        "the exiting one in exit_mm(): before sched_process_exit until 6.15, behind it since",
        bool(freed) and (freed[0] < second.exit.at) != moved,
        (freed, second.exit.at),
    )
    run.keep(recording, roles)


def vforker(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Vfork a child that execs and one that exits."""
    pid = sys.vfork()
    if pid == 0:
        sys.run_for(1_000_000)
        sys.execv("/bin/true", ["true"])
    sys.puts("exec: went on")
    sys.waitpid(pid)
    pid = sys.vfork()
    if pid == 0:
        sys.run_for(1_000_000)
        sys._exit(0)
    sys.puts("exit: went on")
    sys.waitpid(pid)


LAB = Lab(
    name="vfork",
    title="the parent waits until the child execs or exits",
    question="What does the parent do after vfork(), and what exactly ends its wait?",
    look="the parent's state and kernel stack right after vfork()",
    answer=(
        "CLONE_VM lets the child run in the parent's memory, CLONE_VFORK makes the parent wait for it: _do_fork() "
        "puts a completion on its stack, stores it in the child's "
        "vfork_done, and sleeps in wait_for_vfork_done() in state D (killable).  The child completes it in "
        "mm_release(), when it lets go of the borrowed mm: inside of exec, "
        "before sched_process_exec, or in exit_mm()."
    ),
    scenario=scenario,
    real=on_real,
    real_note="The parent leaves its CPU in state D twice: for the child that execs and for the one that exits.",
    needs=("events",),
    mutant=Mutant(
        "the parent does not wait",
        "kernel.fork:_do_fork",
        "killed = fork.wait_for_vfork_done(p, vfork)\n",
        "killed = 0\n",
    ),
)
