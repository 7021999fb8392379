"""Lab ``task-dead``: who drops the stack and the task_struct of a dead task."""

from __future__ import annotations

from typing import Any

from taskscope.labs.evidence import calls, family
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

TASK_DEAD, PF_NOFREEZE = 0x80, 0x8000


def scenario(run: Run) -> None:
    """Watch the last references of three tasks: reaped late, reaped early, and never waited for."""
    k = run.boot()
    k.trace()
    log: list[tuple[str, int, str, int, int]] = []
    dead: dict[int, tuple[int, int]] = {}

    def note(name: str) -> Any:
        def seen(p: Any, *_: Any) -> None:
            if p.comm == "mortal":
                log.append((name, p.pid, f"{k.running().comm}-{k.running().pid}", k.running().pid, p.usage))

        return seen

    def dying(*_: Any) -> None:
        t = k.running()
        if t.comm == "mortal":
            dead[t.pid] = (t.state, t.flags)

    def switched(_: Any, prev: Any, next_: Any) -> None:
        if prev.comm == "mortal" and prev.state == TASK_DEAD:
            log.append(("last switch", prev.pid, f"to {next_.comm}-{next_.pid}", next_.pid, prev.usage))
            dead[prev.pid] = (prev.state, prev.flags)

    k.install(mortal, "/usr/local/bin/mortal")
    with (
        k.probe("put_task_stack", note("put_task_stack")),
        k.probe("__put_task_struct", note("__put_task_struct")),
        k.probe("release_task", note("release_task")),
        k.probe("delayed_put_task_struct", note("delayed_put_task_struct")),
        k.probe("sched_switch", switched),
    ):
        p = k.spawn(parent, name="parent")
        p.wait()
        k.run(s=0.5)
    recording = k.recording()
    run.keep(recording, family(recording, p.pid or 0, "parent"))
    run.show(
        [f"{name:<24} of {pid} by {who:<18} references left: {usage}" for name, pid, who, _, usage in log],
        "the ends of the tasks called mortal",
    )
    pids = sorted({entry[1] for entry in log})
    for pid in pids:
        mine = [entry for entry in log if entry[1] == pid]
        names = [entry[0] for entry in mine]
        after = next((e for e in mine if e[0] == "last switch"), None)
        stack = next((e for e in mine if e[0] == "put_task_stack"), None)
        run.check(
            f"{pid}: TASK_DEAD and PF_NOFREEZE in its last switch",
            pid in dead and dead[pid][0] == TASK_DEAD and bool(dead[pid][1] & PF_NOFREEZE),
            dead.get(pid),
        )
        run.check(
            f"{pid}: its stack is dropped by the next task, which came to run in finish_task_switch()",
            after is not None and stack is not None and stack[3] == after[3] != pid,
            (after, stack),
        )
        run.check(
            f"{pid}: the task_struct is freed once, after release_task() and an RCU grace period",
            names.count("__put_task_struct") == 1
            and names.index("release_task")
            < names.index("delayed_put_task_struct")
            <= names.index("__put_task_struct"),
            names,
        )
    run.equal("three died", len(pids), 3)
    zombie = pids[0]
    order = [e[0] for e in log if e[1] == zombie]
    run.check(
        "the one that was a zombie for a while: the switch first, the reaper much later",
        order.index("last switch") < order.index("release_task"),
        order,
    )
    run.check(
        "so the last reference is not always dropped in finish_task_switch(): RCU drops it",
        order[-1] == "__put_task_struct" and order[-2] == "delayed_put_task_struct",
        order,
    )


def on_real(run: Run) -> None:
    """Trace who drops the stack and the task_struct of a child that is a zombie for half a second."""
    seen = ("do_task_dead", "put_task_stack", "release_task", "delayed_put_task_struct", "__put_task_struct")
    run.real.program("mortal")
    shot = run.record(run.real.program("parent") + "\nsleep 0.3\n", functions=run.real.traceable(seen))
    recording = shot.recording
    roles = family(recording, run.program(recording, "parent").pid, "parent")
    dead = roles["parent.1"]
    run.keep(recording, roles)
    made = calls(recording)
    at = made.index(("do_task_dead", dead, "do_exit"))
    after = [call for call in made[at:] if call[0] != "do_task_dead"]
    run.show([f"{name:<24} by {pid:<6} from {caller}()" for name, pid, caller in made[at : at + 8]],
             f"from do_task_dead() of {dead} on")
    switch = run.events(recording, "sched_switch", prev_pid=dead)[-1]
    run.check("its last switch is in Z: TASK_DEAD, with the zombie's exit_state shown",
              bool(int(switch["prev_state"]) & 0x30), switch)
    stack = next(call for call in after if call[0] == "put_task_stack")
    run.equal("its stack is dropped by the next task, in finish_task_switch()",
              (stack[1], stack[2].partition(".")[0]), (run.expect(int(switch["next_pid"]), dead), "finish_task_switch"))
    release = next(call for call in after if call[0] == "release_task")
    run.equal("the parent releases it half a second later, in wait4()", release[1], roles["parent"])
    names = [call[0] for call in after]
    run.check("then RCU drops the last reference: delayed_put_task_struct(), __put_task_struct()",
              names.index("release_task") < names.index("delayed_put_task_struct"), names)


def mortal(sys: Sys, argv: list[str]) -> int:  # noqa: ARG001
    """Die."""
    return 0


def parent(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Have three children: one reaped late, one at once, one by nobody (SIGCHLD ignored)."""
    pid = sys.clone(become_mortal)
    sys.nanosleep(100_000_000)
    sys.waitpid(pid)
    pid = sys.clone(become_mortal)
    sys.waitpid(pid)
    sys.sigaction(17, 1)
    sys.clone(become_mortal)
    sys.nanosleep(100_000_000)


def become_mortal(sys: Sys) -> None:
    """Exec the program."""
    sys.execv("/usr/local/bin/mortal", ["mortal"])


LAB = Lab(
    name="task-dead",
    title="who drops the stack and the task_struct of a dead task",
    question="A task cannot free the stack it stands on.  Who does, and when is the task_struct itself freed?",
    look="who calls put_task_stack() for whom, and the order of release_task(), RCU and the last put",
    answer=(
        "do_task_dead() sets TASK_DEAD and PF_NOFREEZE and calls __schedule(false), which switches away for ever.  "
        "The next task on that CPU arrives in finish_task_switch(), sees prev's state TASK_DEAD, and drops its "
        "stack (put_task_stack) and one reference of the "
        "task_struct (put_task_struct).  That is the last reference only if everything else is done: usually the "
        "task is still a zombie, and the reference of the lists goes later: release_task() by the waiting parent, "
        "then, after a grace period, "
        "delayed_put_task_struct(), which fires sched_process_free."
    ),
    scenario=scenario,
    real=on_real,
    places=("guest",),
    refused="its steps are functions, no events, and the function tracer is locked here; use --on guest",
    real_note=(
        "The next task is often the idle one: put_task_stack() by pid 0, from finish_task_switch().  The "
        "parent releases the rest, wherever it runs."
    ),
    needs=("events", "functions"),
    mutant=Mutant(
        "the stack of a dead task is kept",
        "kernel.sched.core:finish_task_switch",
        "        fork.put_task_stack(prev)\n",
        "        pass\n",
    ),
)
