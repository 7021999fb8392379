"""Lab ``parents``: real_parent and parent, and who adopts orphans."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from taskscope.abi.ptrace import PtraceRequest
from taskscope.labs.lab import Lab, Run
from taskscope.labs.look import Look
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

if TYPE_CHECKING:
    from taskscope.lives.life import Life
    from taskscope.recording import Recording

PR_SET_CHILD_SUBREAPER = 36


def scenario(run: Run) -> None:
    """Let a parent die before its child in three ways, and look at both fields before and after."""
    k = run.boot()
    k.trace()
    calls: list[str] = []
    with ExitStack() as probes:
        for name in ("exit_notify", "forget_original_parent", "find_new_reaper"):
            probes.enter_context(
                k.probe(name, lambda *_, name=name: calls.append(name), when=lambda *_: k.running().comm == "to-init")
            )
        orphan(run, k, "to-init", to_init, "init", "init adopts")
    run.show(" -> ".join(calls[:3]), "calls in the dying parent")
    run.equal(
        "the way: exit_notify -> forget_original_parent -> find_new_reaper",
        calls[:3],
        ["exit_notify", "forget_original_parent", "find_new_reaper"],
    )
    orphan(
        run,
        k,
        "to-subreaper",
        to_subreaper,
        "to-subreaper",
        "the nearest ancestor that is a subreaper adopts, not the grandparent as such",
    )
    orphan(run, k, "to-thread", to_thread, "to-thread", "another thread of the same process adopts")
    under_ptrace(run, k)


def orphan(run: Run, k: Any, name: str, program: Any, adopter: str, what: str) -> None:
    """Run one case: the program prints the child's pid; the parent dies 50 ms later."""
    p = k.spawn(program, name=name)
    k.run(until=lambda: "child" in p.text)
    pid = int(p.text.split()[1])
    task = k.find(pid)
    before = (task.real_parent.pid, task.parent.pid)
    old = task.real_parent
    siblings = [node.pid for node in children(old)]
    k.run(s=0.15)
    after = (task.real_parent.pid, task.parent.pid)
    run.show(
        [
            f"before: real_parent {before[0]} ({old.comm}), parent {before[1]}",
            f"after:  real_parent {after[0]} ({task.real_parent.comm}), parent {after[1]}",
        ],
        f"{name}, child {pid}",
    )
    run.check(f"{name}: {what}", task.real_parent.comm == adopter and task.real_parent is not old, task.real_parent)
    run.check(
        f"{name}: the kernel changes both fields: they are equal before and after",
        before[0] == before[1] and after[0] == after[1],
        (before, after),
    )
    run.check(
        f"{name}: it moved from the old parent's children to the new one's",
        pid in siblings
        and pid in [c.pid for c in children(task.real_parent)]
        and pid not in [c.pid for c in children(old)],
    )
    k.run(s=0.5)
    recording = k.recording()
    keep(run, recording, run.life(recording, pid), p.pid)


def keep(run: Run, recording: Recording, orphan: Life, process: int) -> None:
    """Keep what becomes of an orphan for the comparison.

    :param process: the pid of the program: the creator, or who adopts
    """
    creator = orphan.born.by.pid if orphan.born is not None and orphan.born.by is not None else process
    run.keep(recording, {"orphan": orphan.pid},
             {"creator": creator} if creator == process else {"creator": creator, "process": process})


def on_real(run: Run) -> None:
    """Let C programs die before their children, and trace one."""
    program, adopters = run.real.program("orphans"), {}
    shot = run.record("".join(f"echo how: {how}; {program} {how}; sleep 0.4\n" for how in WAYS))
    recording = shot.recording
    rows = [line.split() for line in shot.typed.output.splitlines()]
    for number, (how, what) in enumerate(WAYS.items()):
        at = [index for index, row in enumerate(rows) if row[0] == "how:"][number]
        mine = [row for row in rows[at + 1 :] if row[0] != "how:"][:2]
        me = next(int(row[1]) for row in mine if row[0] == "me")
        pid, before, after = next((int(row[1]), int(row[3]), int(row[5])) for row in mine if row[0] == "orphan")
        life = run.life(recording, pid)
        adopters[how] = after
        run.story(life)
        assert life.born is not None
        assert life.born.by is not None
        creator = life.born.by.pid
        if how == "thread":
            run.check(f"{how}: {what}: its ppid stays, the thread that created it is gone",
                      before == after == me and creator != me, (before, after, creator))
        else:
            # A process above may be a subreaper: who looks after services often is.
            good = after == me if how == "subreaper" else after not in (me, creator)
            run.check(f"{how}: {what}", before == creator and good, (before, after, me, creator))
            told = [one.by.pid for one in life.adopted if one.by is not None]
            run.check(f"{how}: the recording tells who adopted it", told == [after], told)
        run.check(f"{how}: the new parent is told of its end",
                  life.exit is not None and life.exit.notified is not None and life.exit.notified.pid == after,
                  life.exit)
        keep(run, recording, life, me)
    traced = run.real.program("traced")
    shot = run.record(f"{traced} dies\n{traced} first\nsleep 0.2\n")
    text = dict(line.split(": ", 1) for line in shot.typed.output.splitlines() if ": " in line)
    creator, _, tracer = (int(word.split()[1]) for word in shot.typed.output.splitlines()[0].split(", "))
    above = adopters["init"]
    expected = [("before", creator, 0), ("traced", creator, run.expect(tracer, 0)), ("creator dead", above, tracer),
                ("let go", above, 0)]
    run.equal(
        "under ptrace the two differ: TracerPid, parent, is the tracer; PPid, real_parent, stays the creator, or who "
        "adopts after it",
        [(when, int(text[when].split()[1]), int(text[when].split()[3])) for when, _, _ in expected],
        expected,
    )
    run.equal("let go it is no child of who traced it", text["it is no child of who traced it"], "ECHILD")
    run.check("killed under ptrace: its parent, the tracer, gets the wait status; until then its creator gets nothing",
              "a zombie, and its creator gets 0\ntracer got 0x9\nthen its creator got 0x9" in shot.typed.output,
              shot.typed.output)


def in_memory(run: Run, look: Look) -> None:
    """Look at both fields in the kernel's memory: of traced tasks, of orphans, and of all others."""
    traced = [row for row in look.rows if row.tracer is not None and row.kind != "thread"]
    run.show([f"{row.comm} ({row.pid}): real_parent {row.real_parent}, parent {row.parent}" for row in traced],
             "tasks that are traced")
    run.check("under ptrace the two differ: parent is the tracer, real_parent who created it",
              bool(traced) and all((row.parent == row.tracer) is run.expect(True, False)
                                   and row.parent != row.real_parent for row in traced), traced)
    others = [row.pid for row in look.rows if row.tracer is None and row.parent != row.real_parent]
    run.check("of all others they are equal: orphans too, of whom the adopter is both", not others, others)
    for row in traced:
        assert row.real_parent is not None
        run.check(f"{row.comm}: children holds the child of real_parent, whoever traces it",
                  row.pid in (look.row(row.real_parent).children or ())
                  and row.pid not in (look.row(row.parent or 0).children or ()))
    subreaper = look.of("subreaper")
    if subreaper is not None:
        mine = [row for row in look.rows if row.real_parent == subreaper.pid]
        run.equal("an orphan is a child of the subreaper above it", [(row.comm, row.parent) for row in mine],
                  [("orphan", subreaper.pid)])


#: how the program orphans loses a parent, and who takes the child
WAYS = {
    "init": "init adopts, or a subreaper above",
    "subreaper": "the nearest ancestor that is a subreaper adopts",
    "thread": "another thread of the same process adopts",
}


def under_ptrace(run: Run, k: Any) -> None:
    """Trace a child, let its creator die, and let it go: the one time when the two fields differ."""
    p = k.spawn(creator, name="creator")
    k.run(until=lambda: "child" in p.text)
    pid = int(p.text.split()[1])
    task = k.find(pid)
    seen: list[tuple[str, str, str, bool, bool]] = []

    def look(when: str) -> None:
        tracers = [one for one in k.machine_tasks() if task in [node.owner for node in nodes(one.ptraced)]]
        seen.append(
            (
                when,
                task.real_parent.comm,
                task.parent.comm,
                task in children(task.real_parent),
                [one.comm for one in tracers] == ([] if task.parent is task.real_parent else [task.parent.comm]),
            )
        )

    look("before")
    tracer = k.spawn(traces, str(pid), name="tracer")
    k.run(until=lambda: "attached" in tracer.text)
    look("traced")
    line = k.read(f"/proc/{pid}/status").decode()
    told = [row for row in line.splitlines() if row.startswith(("State:", "PPid:", "TracerPid:"))]
    waits = k.waits_in(task)
    k.run(until=lambda: task.real_parent.comm != "creator")
    look("creator dead")
    k.run(until=lambda: "detached" in tracer.text)
    look("let go")
    run.show(
        [f"{when:<13} real_parent {real:<8} parent {parent}" for when, real, parent, _, _ in seen],
        f"creator, child {pid} and a tracer",
    )
    run.show(told, f"/proc/{pid}/status while it is stopped for the tracer")
    run.equal(
        "under ptrace the two differ: parent is the tracer, real_parent stays the creator, or who adopts after it",
        [row[:3] for row in seen],
        [
            ("before", "creator", "creator"),
            ("traced", "creator", "tracer"),
            ("creator dead", "init", "tracer"),
            ("let go", "init", "init"),
        ],
    )
    run.check("children holds the child of real_parent, whoever traces it", all(row[3] for row in seen), seen)
    run.check("the tracer has it on its list ptraced, by ptrace_entry", all(row[4] for row in seen), seen)
    run.check("a task that is stopped for its tracer sleeps in ptrace_stop()", waits == "ptrace_stop", waits)
    run.equal(
        "PPid is real_parent, TracerPid is parent",
        [int(row.split()[1]) for row in told[1:]],
        [p.pid, tracer.pid],
    )
    k.run(s=0.3)


def nodes(head: Any) -> list[Any]:
    """Return the nodes of a list."""
    found = []
    node = head.next
    while node is not head:
        found.append(node)
        node = node.next
    return found


def children(task: Any) -> list[Any]:
    """Return task.children, which link each child's sibling."""
    found = []
    node = task.children.next
    while node is not task.children:
        found.append(node.owner)
        node = node.next
    return found


def to_init(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Have a child and die first."""
    pid = sys.clone(rest)
    sys.write(1, f"child {pid}\n".encode())
    sys.nanosleep(50_000_000)


def to_subreaper(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Be a subreaper with two generations below that do not adopt: the grandparent is none."""
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    sys.clone(generation, 2)
    for _ in range(4):
        sys.waitpid(-1)
    # alive when the last of them is freed: that tells that it was reaped
    sys.nanosleep(50_000_000)


def generation(sys: Sys, left: int) -> None:
    """Be one of the generations between."""
    if left:
        sys.clone(generation, left - 1)
        sys.nanosleep(200_000_000)
        return
    pid = sys.clone(rest)
    sys.write(1, f"child {pid}\n".encode())
    sys.nanosleep(50_000_000)


def to_thread(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Let a second thread have the child and end before the process does."""
    sys.pthread_create(parent_thread)
    sys.nanosleep(400_000_000)
    sys.waitpid(-1)


def parent_thread(sys: Sys) -> None:
    """Have a child and end as a thread."""
    pid = sys.clone(rest)
    sys.write(1, f"child {pid}\n".encode())
    sys.nanosleep(50_000_000)


def creator(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Have a child, and die after 60 ms."""
    pid = sys.clone(rest)
    sys.write(1, f"child {pid}\n".encode())
    sys.nanosleep(60_000_000)


def traces(sys: Sys, argv: list[str]) -> None:
    """Trace a process for 120 ms."""
    pid = int(argv[1])
    sys.ptrace(PtraceRequest.PTRACE_ATTACH, pid)
    sys.waitpid(pid)
    sys.write(1, b"attached\n")
    sys.nanosleep(120_000_000)
    sys.ptrace(PtraceRequest.PTRACE_DETACH, pid)
    sys.write(1, b"detached\n")


def rest(sys: Sys) -> None:
    """Be the child."""
    sys.nanosleep(250_000_000)


LAB = Lab(
    name="parents",
    title="real_parent and parent, and who adopts orphans",
    question="The parent dies first: do real_parent and parent differ then, and who takes the child?",
    look="both fields before and after, in the three cases, and under ptrace",
    answer=(
        "They do not differ.  forget_original_parent() sets real_parent to the reaper, and parent too, unless the "
        "child is traced: only under ptrace do the two differ (parent is then the tracer).  find_new_reaper() asks "
        "in this order: another living thread of the same process, the "
        "nearest ancestor that called prctl(PR_SET_CHILD_SUBREAPER), else init.  A grandparent as such is never "
        "asked.  The study notes say that the fields differ once the creator has died; the kernel's code above "
        "shows otherwise."
    ),
    scenario=scenario,
    memory=in_memory,
    real=on_real,
    real_note="The same three adopters.  Under ptrace, seen in memory, parent is the tracer and real_parent stays.",
    needs=("events", "memory"),
    mutant=Mutant(
        "only real_parent is changed",
        "kernel.exit:forget_original_parent",
        "                t.parent = t.real_parent\n",
        "                pass\n",
    ),
)
