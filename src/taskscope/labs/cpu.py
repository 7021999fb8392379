"""Lab ``cpu``: which CPU a task is on, and who changes it."""

from __future__ import annotations

from typing import Any

from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys


def scenario(run: Run) -> None:
    """Move a running task by affinity, let the balancer move others; compare thread_info, the register, the events."""
    k = run.boot()
    k.trace()
    sets: list[tuple[int, int, int]] = []

    def moved(p: Any, cpu: int) -> None:
        if p.comm == "mover":
            sets.append((p.pid, p.thread_info.cpu, cpu))

    with k.probe("set_task_cpu", moved):
        p = k.spawn(mover, name="mover")
        p.wait()
    lines = [line for line in p.text.splitlines() if line.startswith("on ")]
    run.show(lines, "what the program sees (getcpu(2) is smp_processor_id())")
    run.equal(
        "it is where it asked to be, each time",
        lines,
        ["on 0 after affinity {0}", "on 1 after affinity {1}", "on 0 after affinity {0}"],
    )
    run.show([f"set_task_cpu({pid}): thread_info.cpu {old} -> {new}" for pid, old, new in sets], "set_task_cpu()")
    run.check("set_task_cpu() changed thread_info.cpu each time", [new for _, _, new in sets][-2:] == [1, 0], sets)
    recording = k.recording()
    seen = [
        (row["orig_cpu"], row["dest_cpu"])
        for row in run.events(recording, "sched_migrate_task", pid=p.pid, comm="mover")
    ]
    run.equal("sched_migrate_task tells each move", seen, [(old, new) for _, old, new in sets])
    life = run.life(recording, p.pid or 0)
    run.keep(recording, {"mover": life.pid})
    run.check("it ran on both CPUs", set(life.cpus) == {0, 1}, life.cpus)
    hogs = [k.spawn(hog, name="hog") for _ in range(4)]
    k.run(s=0.5)
    cpus = sorted(k.task(h.pid or 0).row.cpu or 0 for h in hogs)
    run.equal("four busy tasks are spread over two CPUs", cpus, [0, 0, 1, 1])
    for cpu in k.machine.cpus:
        run.check(
            f"the task that runs on CPU {cpu.id} says so in its thread_info",
            cpu.curr.thread_info.cpu == cpu.id,
            cpu.curr,
        )


def on_real(run: Run) -> None:
    """Move a program by affinity, and compare what it sees with the events."""
    # It is the migration thread that moves a task which runs: its events belong to it.
    shot = run.record(run.real.program("mover"), everything=True)
    recording = shot.recording
    run.equal(
        "it is where it asked to be, each time",
        shot.typed.output.splitlines(),
        ["on 0 after affinity {0}", "on 1 after affinity {1}", f"on {run.expect(0, 1)} after affinity {{0}}"],
    )
    life = run.life(recording, "mover")
    run.keep(recording, {"mover": life.pid})
    moves = [(row["orig_cpu"], row["dest_cpu"]) for row in run.events(recording, "sched_migrate_task", pid=life.pid)]
    run.show([f"sched_migrate_task: CPU {old} -> {new}" for old, new in moves], "moves")
    run.equal("sched_migrate_task tells each move", moves[-2:], [(0, 1), (1, 0)])
    run.check("it ran on both CPUs", {0, 1} <= set(life.cpus), life.cpus)
    told = run.events(recording, "sched_migrate_task", pid=life.pid)
    ran = [(span.at, span.cpu) for span in recording.lives.spans(life.ref) if span.state == 0]
    # Not each move shows as a span of its own: some kernels leave the switch from an idle task out.
    wrong = [
        (start, cpu)
        for start, cpu in ran
        if cpu != next((row["dest_cpu"] for row in reversed(told) if row["ts"] <= start), told[0]["orig_cpu"])
    ]
    run.check("where it ran is where the events say it was moved to", bool(ran) and not wrong, wrong or ran)


def mover(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Go from CPU to CPU."""
    for cpu in (0, 1, 0):
        sys.sched_setaffinity(0, [cpu])
        sys.run_for(1_000_000)
        sys.puts(f"on {sys.getcpu()} after affinity {{{cpu}}}")


def hog(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Compute."""
    sys.run_for(3_000_000_000)


LAB = Lab(
    name="cpu",
    title="which CPU a task is on, and who changes it",
    question="Where does smp_processor_id() get its answer, and how does a task get to another CPU?",
    look="thread_info.cpu before and after, and sched_migrate_task",
    answer=(
        "smp_processor_id() is current_thread_info()->cpu on ARM.  The field belongs to the task and says whose "
        "runqueue it is on; it changes in set_task_cpu() (__set_task_cpu() for a new task), called when a wakeup, "
        "the balancer or a changed affinity puts the task elsewhere.  sched_migrate_task tells every such move; a "
        "running task "
        "is moved by migration/N, which runs on its CPU in its place."
    ),
    scenario=scenario,
    real=on_real,
    real_note="A task that runs cannot be moved: sched_setaffinity() has migration/N of its CPU do it.",
    needs=("events",),
    mutant=Mutant(
        "set_task_cpu() tells no one",
        "kernel.sched.core:set_task_cpu",
        "    trace.trace_sched_migrate_task(p, new_cpu)\n",
        "    pass\n",
    ),
)
