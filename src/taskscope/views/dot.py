r"""``export --to dot``: the tree of creations for Graphviz.

The tree is that of ``taskscope tree``.  A node is a task with its name, pid, life and end; an edge says how it was
created, with which flags; a dashed edge leads from who adopted an orphan.  Names stand in quoted strings, in which
Graphviz knows ``\"`` and, in labels, escapes such as ``\n``, ``\l`` and ``\N`` and entities such as ``&lt;``
(doc/info/lang.html, shapes.html): all are escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskscope.lives.life import Birth, Life, TaskRef
from taskscope.lives.lives import Lives
from taskscope.views.lives_table import lived
from taskscope.views.names import clone_text
from taskscope.views.text import escape
from taskscope.views.times import Times
from taskscope.views.tree import Node, life_nodes, link, pick, walk
from taskscope.views.who import pid_text

#: what a kind looks like, and what ended by a signal
_KINDS = {"thread": 'style="rounded,dashed"', "kthread": 'style="rounded,filled" fillcolor="#eeeeee"'}
_KILLED = 'color="#c00000" fontcolor="#c00000"'


def quoted(text: str) -> str:
    r"""Return escaped text as a string of the DOT language whose backslashes mean themselves.

    >>> quoted('a"b\\n')
    '"a\\"b\\\\n"'
    """
    return '"' + escape(text).replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') + '"'


def tree_dot(lives: Lives, chosen: Sequence[Life] | None = None, *, pids: Sequence[int] = ()) -> Iterator[str]:
    """Yield the lines of a digraph.

    :param chosen: the lives that are shown; all by default
    :param pids: only these tasks and their descendants
    """
    nodes = life_nodes(lives)
    roots = link(nodes)
    if pids:
        roots = pick(nodes, {n.ref for n in nodes if n.ref.pid in pids})
    wanted = None if chosen is None else {x.ref for x in chosen}
    times = Times(lives.trace.clock, lives.trace.start)
    shown = {n.ref: n for n, *_ in walk(roots) if wanted is None or n.ref in wanted}
    yield "digraph tasks {"
    yield "  rankdir=LR"
    yield f"  label={quoted(lives.trace.path)}"
    yield '  node [shape=box style=rounded fontname="sans-serif"]'
    yield '  edge [fontname="sans-serif" fontsize=10]'
    for node in shown.values():
        life = lives[node.ref]
        yield f"  {_id(node.ref)} [{_node(node, life, times)}]"
    for node in shown.values():
        yield from _edges(lives[node.ref], node, shown)
    yield "}"


def _id(ref: TaskRef) -> str:
    return f"t{ref.pid}_{ref.generation}"


def _node(node: Node, life: Life, times: Times) -> str:
    length = times.length(lived(life))
    lines = [f"{node.name} {pid_text(node.ref)}", length if life.born is not None else f"seen for {length}"]
    if node.end:
        lines.append(node.end)
    # Each line is a string of its own before the escape that parts them is put between.
    label = '"' + "\\n".join(quoted(line)[1:-1] for line in lines) + '"'
    looks = [_KINDS[node.kind]] if node.kind in _KINDS else []
    return " ".join([f"label={label}", *looks, *([_KILLED] if node.killed else [])])


def _edges(life: Life, node: Node, shown: dict[TaskRef, Node]) -> Iterator[str]:
    if node.parent in shown and node.parent is not None:
        label = f" [label={quoted(_creation(life.born))}]" if life.born is not None else " [style=dotted]"
        yield f"  {_id(node.parent)} -> {_id(node.ref)}{label}"
    for one in life.adopted:
        if one.by in shown and one.by is not None:
            yield f'  {_id(one.by)} -> {_id(node.ref)} [style=dashed label="adopts" constraint=false]'


def _creation(born: Birth) -> str:
    how = born.how or "created"
    return how if born.clone_flags is None or how in ("fork", "thread", "kthread") else \
        f"{how} {clone_text(born.clone_flags, born.exit_signal)}"
