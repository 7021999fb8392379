"""Lab ``pid``: how pids are given out, and reused."""

from __future__ import annotations

from typing import Any

from taskscope.labs.evidence import table
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

RESERVED_PIDS = 300


def scenario(run: Run) -> None:
    """Fork in a row, look at threads, then let the numbers wrap."""
    k = run.boot()
    k.write("/proc/sys/kernel/pid_max", "700")
    seen: dict[str, Any] = {}
    k.install(report, "/usr/local/bin/report")
    out = k.spawn(report, name="report")
    code = out.wait()
    lines = out.text.splitlines()
    for line in lines:
        name, _, value = line.partition(": ")
        seen[name] = [int(n) for n in value.split()] if value.replace(" ", "").replace("-", "").isdigit() else value
    run.show([line if len(line) < 100 else line[:96] + " …" for line in lines], "what the program saw")
    run.equal("it ran to its end", code, 0)
    rows = {t.pid: t for t in k.ps().tasks}
    run.equal(
        "swapper is 0, init 1, kthreadd 2",
        (rows[0].comm[:7], rows[1].comm, rows[2].comm),
        ("swapper", "init", "kthreadd"),
    )
    first = seen["forked"]
    run.equal("each fork gives the next number", first, list(range(first[0], first[0] + len(first))))
    run.equal(
        "getpid() is the thread group's id, in every thread; gettid() differs", seen["thread"][0], seen["main"][0]
    )
    run.check(
        "the thread's own id is another, and not its tgid",
        seen["thread"][1] != seen["thread"][0] and seen["main"][0] == seen["main"][1],
    )
    wrapped = seen["wrapped"]
    turn = next((n for n in range(1, len(wrapped)) if wrapped[n] < wrapped[n - 1]), None)
    run.check("pids wrap at pid_max", turn is not None and max(wrapped) == 699, wrapped[-5:])
    if turn is not None:
        run.check(
            f"after the turn they go on from {RESERVED_PIDS} (RESERVED_PIDS), not from 1",
            wrapped[turn] >= RESERVED_PIDS,
            wrapped[turn],
        )
        run.check("a number in use is skipped", seen["main"][0] not in wrapped)
        run.check(
            "a number of a task that has gone is given out again",
            bool(set(wrapped[turn:]) & set(wrapped[:turn])) or wrapped[turn] < first[0],
        )


def on_real(run: Run) -> None:
    """Fork in a row, look at a thread and at the turn, in a pid namespace of its own."""
    typed = run.real.type(run.real.program("pids"))
    run.typed("pids", typed.output)
    run.equal("it ran to its end", typed.status, 0)
    seen = {name: [int(n) for n in value.split()] for name, value in table(typed.output).items()}
    first = seen["forked"]
    run.equal("each fork gives the next number", first, list(range(first[0], first[0] + len(first))))
    run.equal(
        "getpid() is the thread group's id, in every thread; gettid() differs", seen["thread"][0], seen["main"][0]
    )
    run.check("the thread's own id is another, and not its tgid", seen["thread"][1] != seen["thread"][0])
    wrapped, largest = seen["wrapped"], seen["max"][0]
    run.equal("pids wrap at pid_max, and go on from 300 (RESERVED_PIDS)", wrapped,
              [largest - 3, largest - 2, largest - 1, *(run.expect(RESERVED_PIDS, 1) + n for n in range(3))])
    run.check("a number of a task that has gone is given out again", bool(set(seen["again"]) & set(first)), seen)
    ps = run.real.type("cat /proc/1/comm /proc/2/comm").output.split()
    run.equal("kthreadd is 2", ps[-1], "kthreadd")


def report(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Print the pids that forks give, the ids of a thread, and the pids around the turn."""

    def some(count: int) -> list[int]:
        pids = []
        for _ in range(count):
            pid = sys.clone(nothing)
            sys.waitpid(pid)
            pids.append(pid)
        return pids

    sys.puts("forked: " + " ".join(map(str, some(5))))
    sys.puts(f"main: {sys.getpid()} {sys.gettid()}")
    ids: list[int] = []
    sys.pthread_create(thread, ids)
    while not ids:
        sys.sched_yield()
    sys.puts(f"thread: {ids[0]} {ids[1]}")
    sys.puts("wrapped: " + " ".join(map(str, some(700))))


def nothing(sys: Sys) -> int:  # noqa: ARG001
    """Be a child that ends at once."""
    return 0


def thread(sys: Sys, ids: list[int]) -> None:
    """Tell the ids of a thread."""
    ids += [sys.getpid(), sys.gettid()]


LAB = Lab(
    name="pid",
    title="how pids are given out, and reused",
    question="Does a higher pid mean a younger process?",
    look="the numbers of five forks in a row, getpid() and gettid() of a thread, and the numbers around pid_max",
    answer=(
        "pid_t is an int, and alloc_pid() hands numbers out in a circle (idr_alloc_cyclic): the next free one "
        "after the last.  So a higher pid is a "
        "younger task only until the numbers wrap at kernel.pid_max; after the turn they go on from RESERVED_PIDS "
        "(300), and numbers of dead tasks come "
        "again.  getpid() is task_tgid_vnr(current): the id of the thread group, equal in all threads of a process "
        "and equal "
        "to pid only in the leader."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "32,768 forks would take long: the lab makes a PID namespace of its own, in which init is 1 again, "
        "and sets ns_last_pid just below pid_max."
    ),
    needs=("/proc",),
    mutant=Mutant(
        "numbers wrap to 1", "kernel.pid:alloc_pid", "RESERVED_PIDS if tmp.idr_next > RESERVED_PIDS else 1", "1"
    ),
)
