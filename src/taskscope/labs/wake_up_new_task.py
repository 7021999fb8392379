"""Lab ``wake-up-new-task``: from TASK_NEW to the runqueue."""

from __future__ import annotations

from typing import Any

from taskscope.labs.evidence import family
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

TASK_NEW, TASK_RUNNING = 0x800, 0


def scenario(run: Run) -> None:
    """Look at the child when wake_up_new_task() is entered, when it is enqueued, and when it first runs."""
    k = run.boot()
    k.trace()
    seen: dict[str, tuple[object, ...]] = {}

    def of_forker(*_: object) -> bool:
        return k.running().comm == "forker"

    def entered(p: Any, *_: Any) -> None:
        seen.setdefault("entered", (p.pid, p.state, p.on_rq, p.thread_info.cpu))

    def selected(p: Any, *_: Any) -> None:
        seen.setdefault("select_task_rq", (p.pid, p.state))

    def activated(rq: Any, p: Any, *_: Any) -> None:
        seen.setdefault("activate_task", (p.pid, p.state, p.thread_info.cpu, rq.cpu_id, rq.nr_running))

    def woken(p: Any, *_: Any) -> None:
        rq = k.machine.cpus[p.thread_info.cpu].rq
        seen.setdefault("sched_wakeup_new", (p.pid, p.on_rq, p.thread_info.cpu, rq.nr_running, p.se.on_rq))

    with (
        k.probe("wake_up_new_task", entered, of_forker),
        k.probe("select_task_rq", selected, lambda p, *_: of_forker() and p.state in (0, TASK_NEW)),
        k.probe("activate_task", activated, of_forker),
        k.probe("sched_wakeup_new", woken, of_forker),
    ):
        p = k.spawn(forker, name="forker")
        p.wait()
    run.show([f"{name:<18} {values}" for name, values in seen.items()], "the child on its way (pid first)")
    child = seen["entered"][0]
    run.equal(
        "copy_process() leaves it in TASK_NEW: no signal or stray wakeup can run it",
        seen["entered"][1:3],
        (TASK_NEW, 0),
    )
    run.equal(
        "wake_up_new_task() sets TASK_RUNNING before it chooses a CPU", seen["select_task_rq"], (child, TASK_RUNNING)
    )
    run.check(
        "__set_task_cpu() wrote the chosen CPU into thread_info, whose runqueue it is put on",
        seen["activate_task"][0] == child and seen["activate_task"][2] == seen["activate_task"][3],
        seen["activate_task"],
    )
    run.check(
        "activate_task() puts it on that runqueue: one more runs there",
        seen["sched_wakeup_new"][1] == 1
        and seen["sched_wakeup_new"][4] == 1
        and seen["sched_wakeup_new"][3] == int(str(seen["activate_task"][4])) + 1,
        seen["sched_wakeup_new"],
    )
    recording = k.recording()
    event = run.events(recording, "sched_wakeup_new", pid=child)
    run.equal(
        "sched_wakeup_new was fired once for it, with the CPU chosen",
        [row["target_cpu"] for row in event],
        [seen["activate_task"][2]],
    )
    life = run.life(recording, int(str(child)))
    run.keep(recording, {"child": life.pid}, {"forker": p.pid or 0})
    assert life.born is not None
    first = next(span for span in recording.lives.spans(life.ref) if span.state == 0)
    run.check(
        "it is runnable from then on, and runs later",
        life.born.woken_at is not None and first.at >= life.born.woken_at,
        (life.born.woken_at, first.at),
    )


def on_real(run: Run) -> None:
    """Look at the events of a new task until it first runs."""
    # A CPU that becomes idle may pull it: that move is an event of another task.
    shot = run.record(run.real.program("forker"), everything=True)
    recording = shot.recording
    parent = run.program(recording, "forker")
    roles = family(recording, parent.pid, "forker")
    child = run.life(recording, roles["forker.1"])
    assert child.born is not None
    event = run.events(recording, "sched_wakeup_new", pid=child.pid)
    run.equal("sched_wakeup_new was fired once for it", len(event), run.expect(1, 0))
    fork = run.events(recording, "sched_process_fork", child_pid=child.pid)[0]["ts"]
    run.check("after sched_process_fork: copy_process() has ended", event[0]["ts"] >= fork, (fork, event))
    first = next(span for span in recording.lives.spans(child.ref) if span.state == 0)
    run.show(
        [
            f"{fork / 1e9:.6f}  sched_process_fork",
            f"{event[0]['ts'] / 1e9:.6f}  sched_wakeup_new, for CPU {event[0]['target_cpu']}",
            f"{first.at / 1e9:.6f}  first runs, on CPU {first.cpu}",
        ],
        f"the child {child.pid} of {parent.comm}",
    )
    run.check(
        "it is runnable from then on, and runs later",
        child.born.woken_at is not None and first.at >= child.born.woken_at,
        (child.born.woken_at, first.at),
    )
    moved = run.events(recording, "sched_migrate_task", pid=child.pid)
    run.check(
        "it first runs on the CPU whose runqueue it was put on, unless it was moved",
        first.cpu == event[0]["target_cpu"] or bool(moved),
        (first, event, moved),
    )
    run.keep(recording, {"child": child.pid}, {"forker": parent.pid})


def forker(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Fork once."""
    pid = sys.fork()
    if pid == 0:
        sys._exit(0)
    sys.waitpid(pid)


LAB = Lab(
    name="wake-up-new-task",
    title="from TASK_NEW to the runqueue",
    question="When can a new task run for the first time, and where?",
    look="the child's state, CPU and place on the runqueue at each step",
    answer=(
        "sched_fork() gives the child TASK_NEW, which no wakeup matches.  wake_up_new_task() sets TASK_RUNNING, "
        "lets select_task_rq() choose a CPU (fork balancing), writes it with __set_task_cpu() into the child's "
        "thread_info, and activate_task() puts it on that CPU's runqueue; sched_wakeup_new tells.  It runs when "
        "that CPU next schedules: the parent usually goes on first."
    ),
    scenario=scenario,
    real=on_real,
    real_note="sched_wakeup_new names the CPU whose runqueue got the child; the runqueue itself is not looked into.",
    needs=("events",),
    mutant=Mutant(
        "the new task stays in TASK_NEW while its CPU is chosen",
        "kernel.sched.core:wake_up_new_task",
        "    p.state = TASK_RUNNING\n",
        "    pass\n",
    ),
)
