"""``taskscope tree``: who created whom, living and dead; or who was whose child at one moment.

Over a whole recording a task stands under the parent it was given at its creation, whatever became of either.
At a moment, only what existed then is shown, under the parent it had then.  Threads are ``{name}`` under
their process, kernel threads ``[name]`` under kthreadd.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from taskscope.lives.life import Life, TaskRef
from taskscope.lives.lives import Lives
from taskscope.snapshot.snapshot import Snapshot
from taskscope.views.json import dumps
from taskscope.views.table import Column, Row, table
from taskscope.views.text import Cell, Paint
from taskscope.views.who import comm_at, decorated, end_text, pid_text, who

KTHREADD = 2


@dataclass(slots=True, eq=False)
class Node:
    """One task of a tree."""

    ref: TaskRef
    kind: str | None
    name: str  # escaped
    state: str  # a letter as in ps(1), X for a task that is gone, "?" if unknown
    end: str | None  # how it ended, None while it lives
    killed: bool
    marks: list[str]  # adopted, lost
    parent: TaskRef | None  # under which it stands
    inferred: bool  # the parent was concluded, not recorded
    children: list[Node] = field(default_factory=list)


def life_nodes(lives: Lives, at: int | None = None, snapshot: Snapshot | None = None) -> list[Node]:
    """Return a node for each life, or for each task of a snapshot of them; not linked yet.

    :param at: the snapshot's time; names and marks are those of then
    """
    chosen: list[tuple[Life, str, TaskRef | None]] = []
    if snapshot is None:
        last = {(t.pid, t.generation): t.state for t in lives.at(lives.trace.end).tasks}
        chosen = [(life, _last_state(life, last), life.parent) for life in lives]
    else:
        by_pid = {t.pid: TaskRef(t.pid, t.generation or 0) for t in snapshot.tasks if t.pid}
        for task in snapshot.tasks:
            life = lives[(task.pid, task.generation or 0)]
            chosen.append((life, task.state, None if task.ppid is None else by_pid.get(task.ppid)))
    known = {life.ref for life, *_ in chosen}
    leaders: dict[int | None, list[Life]] = {}
    for life, *_ in chosen:
        if life.kind != "thread":
            leaders.setdefault(life.pid, []).append(life)
    nodes = []
    for life, state, parent in chosen:
        inferred = False
        if life.kind == "thread":
            leader = leader_of(life, leaders.get(life.tgid, []))
            parent = leader.ref if leader else parent
        elif life.kind == "kthread" and parent is None and life.pid != KTHREADD:
            daemon = next(iter(leaders.get(KTHREADD, [])), None)
            # Every kernel thread is created by kthreadd (kernel/kthread.c).
            parent, inferred = (daemon.ref, True) if daemon else (None, False)
        ended = snapshot is None and (life.exit is not None or life.freed is not None)
        nodes.append(
            Node(
                life.ref,
                life.kind,
                decorated(life.kind, comm_at(life, at)),
                state,
                end_text(life) if ended else None,
                ended and life.exit is not None and life.exit.signal is not None,
                _marks(lives, life, at),
                parent if parent in known and parent != life.ref else None,
                inferred,
            )
        )
    return nodes


def snapshot_nodes(snapshot: Snapshot) -> list[Node]:
    """Return a node for each task of a snapshot that is of no recording; not linked yet."""
    leaders = {t.pid for t in snapshot.tasks if t.kind != "thread"}
    nodes = []
    for task in snapshot.tasks:
        if task.kind == "idle":
            continue
        parent = task.tgid if task.kind == "thread" else task.ppid
        above = TaskRef(parent, 0) if parent and parent in leaders and parent != task.pid else None
        name = decorated(task.kind, task.comm)
        nodes.append(Node(TaskRef(task.pid, 0), task.kind, name, task.state, None, False, [], above, False))
    return nodes


def leader_of(thread: Life, leaders: Sequence[Life]) -> Life | None:
    """Return the leader of a thread's group: of those that bore the pid, the one that lived at its birth."""
    for leader in reversed(leaders):
        if leader.first <= thread.first:
            return leader
    return leaders[0] if leaders else None


def _last_state(life: Life, last: dict[tuple[int, int | None], str]) -> str:
    """Return the state at the end of the recording, ``X`` for what is gone by then."""
    if life.freed is not None or life.reaped is not None:
        return "X"
    return last.get((life.pid, life.generation), "X" if life.exit is not None else "?")


def _marks(lives: Lives, life: Life, at: int | None) -> list[str]:
    marks = [
        f"adopted by {who(lives, a.by, a.at)}"
        for a in life.adopted
        if a.by is not None and (at is None or (a.at is not None and a.at <= at))
    ]
    if life.gaps:
        marks.append("lost events")
    return marks


def link(nodes: Sequence[Node]) -> list[Node]:
    """Hang each node under its parent and return the roots, all in the order in which they came."""
    by_ref = {n.ref: n for n in nodes}
    roots: list[Node] = []
    for node in nodes:
        parent = by_ref.get(node.parent) if node.parent is not None else None
        (roots if parent is None else parent.children).append(node)
    reached = {n.ref for n, *_ in walk(roots)}
    # A circle of parents cannot come from a kernel; from a damaged recording it must not swallow tasks.
    for node in nodes:
        if node.ref not in reached:
            parent = by_ref.get(node.parent) if node.parent is not None else None
            if parent is not None:
                parent.children.remove(node)
            roots.append(node)
            reached |= {n.ref for n, *_ in walk([node])}
    return roots


def walk(roots: Sequence[Node]) -> Iterator[tuple[Node, int, str]]:
    """Yield (node, depth, what is drawn before its name), parents before children; no recursion, trees can be deep."""
    stack: list[tuple[Node, int, str, str]] = [(n, 0, "", "") for n in reversed(roots)]
    while stack:
        node, depth, lead, under = stack.pop()
        yield node, depth, lead
        last = len(node.children) - 1
        for k in range(last, -1, -1):
            end = k == last
            stack.append(
                (node.children[k], depth + 1, under + ("└─ " if end else "├─ "), under + ("   " if end else "│  "))
            )


def pick(nodes: Sequence[Node], refs: set[TaskRef]) -> list[Node]:
    """Return the nodes of some tasks as roots: their own subtrees only."""
    return [n for n in nodes if n.ref in refs]


_COLUMNS = (Column("PID", least=5), Column("S", "<"), Column("TASK", "<"))
_STYLES = {"R": "running", "D": "blocked", "T": "stopped", "t": "traced", "Z": "zombie", "X": "note"}


def tree_table(roots: Sequence[Node], *, paint: Paint | None = None, header: bool = True) -> Iterator[str]:
    """Yield the lines of the tree: pid, state letter (``X``: gone), and the name where it stands in the tree."""
    return table(_COLUMNS, (_row(node, lead, paint) for node, _, lead in walk(roots)), paint, header)


def _row(node: Node, lead: str, paint: Paint | None) -> Row:
    name = node.name
    notes = ", ".join(([node.end] if node.end else []) + node.marks)
    text = lead + name
    if notes:
        text += "  " + (paint(notes, "kill" if node.killed else "note") if paint else notes)
    return [pid_text(node.ref), Cell("-" if node.state == "?" else node.state, _STYLES.get(node.state)), text]


def tree_json(roots: Sequence[Node], lives: Lives) -> Iterator[bytes]:
    """Yield one JSON object a task, parents first: pid, generation, depth, parent, kind, comm, state, end, adopted."""
    for node, depth, _ in walk(roots):
        life = lives[node.ref]
        yield (
            dumps(
                {
                    **node.ref._asdict(),
                    "depth": depth,
                    "parent": None if node.parent is None else node.parent._asdict(),
                    "kind": node.kind,
                    "comm": life.comm,
                    "state": None if node.state == "?" else node.state,
                    "end": node.end,
                    "adopted": [None if a.by is None else a.by._asdict() for a in life.adopted],
                    "gaps": life.gaps,
                    "inferred": ["parent: kernel threads are created by kthreadd"] if node.inferred else [],
                }
            )
            + "\n"
        ).encode()
