"""``taskscope ps``: a process table of a `Snapshot` in the formats of ps(1).

Columns, their order, headers, widths and the forests are those of procps-ng 4.0.2; what the source cannot know is
``-``, never a guess.  As in ps, threads are left out unless they are asked for, and zombies are ``<defunct>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from taskscope.errors import UsageError
from taskscope.snapshot.snapshot import Snapshot, TaskRow
from taskscope.views.ps_cells import Column, Context
from taskscope.views.ps_columns import COLUMNS
from taskscope.views.ps_layout import Place, lines, place
from taskscope.views.text import Paint

_BSD: Final = {
    "": "pid,tname,stat,bsdtime,args",
    "j": "ppid,pid,pgid,sid,tname,tpgid,stat,uid,bsdtime,args",
    "l": "flags,uid,pid,ppid,priority,nice,vsz,rss,wchan,stat,tname,bsdtime,args",
    "s": "uid,pid,pending,blocked,ignored,caught,stat,tname,bsdtime,args",
    "u": "user,pid,pcpu,pmem,vsz,rss,tname,stat,start_time,bsdtime,args",
}


class Choice(NamedTuple):
    """One of `COLUMNS`, with a header and a width of its own, perhaps."""

    name: str
    header: str | None = None
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """What a table shows.

    :param forest: ``h`` indents children, ``f`` draws the branches too
    :param full: command lines where there are only names otherwise
    :param sort: names of `COLUMNS`, each with whether it is from the highest to the lowest
    """

    columns: tuple[Choice, ...]
    forest: str = ""
    threads: bool = False
    full: bool = False
    sort: tuple[tuple[str, bool], ...] = ()


def sysv(letters: str) -> Form:
    """Return the form that dashed letters of ps(1) choose: ``ely``, ``ejH``, ``eLf``.

    :raises UsageError: a letter is not known here, or -y is without -l
    """
    if unknown := set(letters) - set("eAfljyLHF"):
        raise UsageError(f"ps: -{min(unknown)} is none of the letters -e -A -f -F -l -y -j -H -L")
    has = letters.__contains__
    if has("y") and not has("l"):
        raise UsageError("ps: -y changes the long format: -ly")
    full = has("f") or has("F")
    names = ["s"] if has("y") else ["f", "s"] if has("l") else []
    names += ["uid_hack"] if full else ["uid"] if has("l") else []
    names += ["pid"] + ["ppid"] * (full or has("l")) + ["pgid", "sid"] * has("j") + ["lwp"] * has("L")
    names += ["c"] * (full or has("l")) + ["nlwp"] * (has("L") and full)
    names += ["opri", "ni"] * has("l") + (["rss"] if has("y") else ["addr_1"] if has("l") else [])
    names += ["sz"] * (has("l") or has("F")) + ["wchan"] * has("l")
    names += (["rss"] if has("F") and not has("y") else []) + ["psr"] * has("F")
    names += ["stime"] * full + ["tname", "time", "cmd" if full else "ucmd"]
    return Form(tuple(map(Choice, names)), "h" * has("H"), has("L"), full)


def bsd(letters: str) -> Form:
    """Return the form that letters without a dash choose: ``axjf``, ``aux``.

    :raises UsageError: a letter is not known here, or two formats are asked for
    """
    chosen = "".join(sorted(set(letters) & set("jlsu")))
    if set(letters) - set("axfwjlsu") or len(chosen) > 1:
        raise UsageError(f"ps: {letters!r} is none of the formats -ely, -ejH, -eLf, axjf, aux (see --help); a "
                         "recording is named by -i FILE")
    return Form(tuple(map(Choice, _BSD[chosen].split(","))), "f" * ("f" in letters))


def chosen_columns(text: str) -> tuple[Choice, ...]:
    """Return the columns of ``-o``: ``pid,comm``, ``pid=NUMBER,comm:30``, ``stat=`` (no header).

    :raises UsageError: there is no such column, or a width is none
    """
    found = []
    for word in re.split(r"[ ,\t\n]+", text.strip(" ,\t\n")):
        item, equals, header = word.partition("=")
        name, colon, wide = item.partition(":")
        _column(name, "-o")
        if colon and (not wide.isdecimal() or not 0 < int(wide) < 1 << 16):
            raise UsageError(f"ps -o: {wide!r} is no width of {name}: a number of cells, as in {name}:20")
        found.append(Choice(name, header if equals else None, int(wide) if colon else None))
    return tuple(found)


def sort_keys(text: str) -> tuple[tuple[str, bool], ...]:
    """Return the keys of ``--sort``: ``ppid,-rss``.

    :raises UsageError: there is no such column
    """
    found = []
    for part in text.split(","):
        name = part.strip().lstrip("+-")
        _column(name, "--sort")
        found.append((name, part.strip().startswith("-")))
    return tuple(found)


def _column(name: str, option: str) -> Column:
    if name not in COLUMNS:
        from difflib import get_close_matches

        near = get_close_matches(name, COLUMNS, 1)
        raise UsageError(f"ps {option}: there is no column {name!r}" + (f"; is {near[0]!r} meant?" if near else "; "
                         "'taskscope ps --columns' lists them"))
    return COLUMNS[name]


ELY: Final = sysv("ely")
#: the three of the classic notes
FORMS: Final = {"ely": ELY, "ejH": sysv("ejH"), "axjf": bsd("axjf")}


def ps_table(
    snapshot: Snapshot,
    form: Form = ELY,
    *,
    paint: Paint | None = None,
    header: bool = True,
    limit: int | None = None,
    now: float = 0.0,
) -> Iterator[str]:
    """Yield the lines of the table of all processes of a snapshot.

    :param limit: cells of the screen, to which lines are cut as ps cuts them; None cuts nothing
    :param now: s since the epoch that start times are seen from; 0: when the snapshot was taken
    """
    shown = [t for t in snapshot.tasks if t.kind != "idle" and t.pid and (form.threads or t.kind != "thread")]
    if form.threads:
        shown.sort(key=lambda t: (t.tgid or 0, t.pid))
    leads: dict[int, str] = {}
    context = Context(snapshot, leads, form.full, now)
    for name, down in reversed(form.sort):
        column = COLUMNS[name]
        values = {id(t): column.value(t, context) for t in shown}
        # What is unknown comes first, as 0 does in ps.
        shown.sort(key=lambda t: (False, 0) if values[id(t)] is None else (True, values[id(t)]), reverse=down)
    if form.forest:
        grown = list(forest(shown, sorted_=bool(form.sort)))
        shown = [t for t, *_ in grown]
        for t, depth, branch in grown:
            leads[t.pid] = branch if form.forest == "f" else "  " * depth
    digits = len(str(snapshot.pid_max - 1)) if snapshot.pid_max else max([5, *(len(str(t.pid)) for t in shown)])
    places: list[Place] = [place(COLUMNS[name], head, digits, wide) for name, head, wide in form.columns]
    return lines(places, shown, context, paint=paint, header=header, limit=limit)


def forest(tasks: Sequence[TaskRow], *, sorted_: bool = False) -> Iterator[tuple[TaskRow, int, str]]:
    r"""Yield tasks as ps's forest: (task, depth, lead), children below their parent, the oldest first.

    ``lead`` is what ``ps f`` draws before the command: `` \_ `` under ``|``; the children of init stand at the margin
    there.  Trees whose root's parent is known come first, the youngest first, as in ps.  Kernel threads whose parent is
    unknown stand under kthreadd (pid 2) if it is there: nothing else creates them.

    :param sorted_: keep the order of children
    """
    by_pid = {t.pid: t for t in tasks}
    roots: list[tuple[TaskRow, int | None]] = []
    children: dict[int, list[TaskRow]] = {}
    for t in tasks if sorted_ else sorted(tasks, key=lambda t: (t.start_time or 0, t.pid)):
        parent = t.ppid
        if parent is None and t.kind == "kthread" and t.pid != 2:
            parent = 2
        if parent is None or parent not in by_pid or parent == t.pid:
            roots.append((t, t.ppid))
        else:
            children.setdefault(parent, []).append(t)
    known = sorted((root for root in roots if root[1] is not None), key=lambda root: root[1] or 0)
    order = [t for t, parent in roots if parent is None][::-1] + [t for t, _ in known]
    stack: list[tuple[TaskRow, int, int, str, bool]] = [(t, 0, 0, "", True) for t in order]
    done: set[int] = set()
    while stack:
        t, depth, level, before, last = stack.pop()
        if t.pid in done:
            continue
        done.add(t.pid)
        yield t, depth, "" if level == 0 else f"{before} \\_ "
        under = "" if level == 0 else before + ("    " if last else " |  ")
        kids = children.get(t.pid, [])
        inner = level if t.pid == 1 else level + 1
        stack += [(kid, depth + 1, inner, under, k == 0) for k, kid in enumerate(reversed(kids))]
    # A circle of parents cannot come from a kernel; from a damaged recording it must not swallow tasks.
    for t in tasks:
        if t.pid not in done:
            yield t, 0, ""
