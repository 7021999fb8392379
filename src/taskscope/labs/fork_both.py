"""Lab ``fork-both``: parent and child run the same program."""

from __future__ import annotations

from itertools import pairwise

from taskscope.labs.evidence import family
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant

TIMES = 50


def on_real(run: Run) -> None:
    """Run the notes' C program with three rounds instead of fifty."""
    shot = run.record(f"{run.real.program('raspbian_fork')} 3\nsleep 0.2\n")
    lines = shot.typed.output.splitlines()
    run.equal(
        "both say who they are",
        sorted(line for line in lines if "execution" in line),
        ["start execution of child process", "start execution of parent process"],
    )
    run.equal("each prints 3 times", lines.count("raspbian tracing"), run.expect(6, 3))
    both = [life for life in shot.recording.lives if life.comm == "raspbian_fork"]
    run.equal("there are two lives of that name", len(both), 2)
    first, second = both
    run.check("the second is the child of the first", second.parent == first.ref, second.parent)
    run.check("the first was exec'ed, the child never was", bool(first.execs) and not second.execs)
    run.check(
        "both end by themselves, by no signal",
        all(life.exit is not None and life.exit.signal is None for life in both),
        [life.exit for life in both],
    )
    overlap = min(a.last for a in both) - max(a.first for a in both)
    run.check("they live side by side: their lines interleave", overlap > 4_000_000_000, overlap)
    run.keep(shot.recording, family(shot.recording, first.pid, "fork"))


def scenario(run: Run) -> None:
    """Run the notes' program on a terminal and look at its output and its two lives."""
    k = run.boot()
    k.trace()
    terminal = k.terminal()
    before = len(terminal.text)
    terminal.type("raspbian_fork")
    # The child may be behind its parent, whom alone the shell waits for.
    k.run(s=3)
    out = terminal.text[before:]
    lines = [line.strip() for line in out.splitlines() if "tracing" in line or "execution" in line]
    run.show([*lines[:8], "…"], "the first lines")
    run.equal(
        "both say who they are",
        sorted(line for line in lines if "execution" in line),
        ["start execution of child process", "start execution of parent process"],
    )
    run.equal(f"each prints {TIMES} times", lines.count("raspbian tracing"), 2 * TIMES)
    recording = k.recording()
    both = [life for life in recording.lives if life.comm == "raspbian_fork"]
    run.equal("there are two lives of that name", len(both), 2)
    first, second = both
    run.keep(recording, family(recording, first.pid, "fork"))
    run.check(
        "the second is the child of the first",
        second.parent is not None and second.parent.pid == first.pid,
        second.parent,
    )
    run.check(
        "the first was exec'ed, the child never was",
        bool(first.execs) and not second.execs,
        (first.execs, second.execs),
    )
    run.check(
        "both end by themselves, by no signal",
        all(life.exit is not None and life.exit.signal is None for life in both),
        [life.exit for life in both],
    )
    wakes = [row["ts"] for row in run.events(recording, "sched_waking", pid=second.pid)]
    steps = [b - a for a, b in pairwise(wakes)]
    run.check(
        "it wakes every 2 s",
        len(steps) >= TIMES - 2 and all(abs(step - 2_000_000_000) < 50_000_000 for step in steps[1:-1]),
        steps[:4],
    )
    overlap = min(a.last for a in both) - max(a.first for a in both)
    run.check(
        "they live side by side for the whole time: their lines interleave",
        overlap > (TIMES - 1) * 2_000_000_000,
        overlap,
    )


LAB = Lab(
    name="fork-both",
    title="parent and child run the same program",
    question="After fork(), which of the two lines is printed, and by whom?",
    look="the interleaved output, and the two lives of one name",
    answer=(
        "Both.  After fork() two processes stand at the same place of the same program with different results: 0 "
        "in the child, which takes the first branch, the child's pid "
        "in the parent, which takes the second.  From then on they are scheduled like any two processes, so that "
        "their lines interleave.  Both keep the name, since neither execs."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "Who prints first is up to the scheduler.  If it is the other way round than on the model, the "
        "comparison says allowed: a race."
    ),
    needs=("events",),
    mutant=Mutant(
        "a sleep lasts twice as long", "kernel.time.hrtimer:hrtimer_nanosleep", "rqtp + (m.now", "2 * rqtp + (m.now"
    ),
)
