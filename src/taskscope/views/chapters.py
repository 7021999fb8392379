"""The chapters of a story: each looks at one part of a life and makes the entries it is worth.

`tell` collects and orders them.  No chapter guesses: a part of the life that the recording does not show has
no entry, or one that says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from taskscope.lives.life import Birth, Exec, Span, State
from taskscope.views import rhythm
from taskscope.views.ends import adopted, ended, freed, reaped, still_there, zombie
from taskscope.views.entry import Entry, Teller
from taskscope.views.evidence import arrows, wake_function, wchan
from taskscope.views.names import clone_text
from taskscope.views.signals import signals
from taskscope.views.text import escape

#: how many entries of one kind are told one by one; the rest is folded into a line that counts them
FOLD = 6

#: how many spans are looked up one by one for their call stacks
_MOST = 5000


def tell(teller: Teller, bar_cells: int) -> list[Entry]:
    """Return the entries of a life in order of time."""
    entries = [
        *created(teller),
        *first_run(teller),
        *programs(teller),
        *rhythm_of(teller, bar_cells),
        *signals(teller),
        *stops(teller),
        *adopted(teller),
        *gaps(teller),
        *ended(teller),
        *zombie(teller),
        *reaped(teller),
        *freed(teller),
        *still_there(teller),
    ]
    return sorted(entries, key=lambda e: e.key)


def fold(teller: Teller, entries: list[Entry], summary: Callable[[list[Entry]], str]) -> list[Entry]:
    """Leave the first and the last few of many entries, and put a line that counts the others between them."""
    if teller.verbose or len(entries) <= FOLD:
        return entries
    head, middle, tail = entries[: FOLD - 3], entries[FOLD - 3 : -2], entries[-2:]
    first = middle[0]
    folded = Entry(
        first.at,
        None,
        "…",
        [(f"{summary(middle)}, up to {teller.times.stamp(middle[-1].at)} (-v shows them)", None)],
        first.rank,
    )
    return [*head, folded, *tail]


def created(teller: Teller) -> Iterable[Entry]:
    """Tell CREATED: by whom, through which call, with which flags; or FOUND, where the recording began later."""
    life, born = teller.life, teller.life.born
    if born is None:
        if life.kind == "idle":
            return
        entry = Entry(life.first, None, "FOUND", [], 0)
        row = _shows(teller, life.first)
        if row is not None:
            entry.cpu = int(teller.trace.source.index.cpu[row])
        teller.seen(entry, "was there before the recording", row)
        teller.inferred(entry, life.inferred)
        yield entry
        return
    entry = Entry(born.at, born.cpu, "CREATED", [], 0, "born")
    row = teller.evidence.find(
        born.at, born.cpu, ("task_newtask", "sched_process_fork"), {"pid": life.pid, "child_pid": life.pid}
    )
    teller.seen(entry, _by(teller, born), row)
    parent = life.parent
    if parent is not None and born.by is not None and parent != born.by:
        entry.say(f"its parent is {teller.who(parent, born.at)}, not its creator")
    way = arrows(born.stack)
    if way:
        entry.say(way)
    if born.clone_flags is not None:
        number = born.clone_flags | (born.exit_signal or 0)
        entry.say(f"{clone_text(born.clone_flags, born.exit_signal)} (0x{number:x})")
    teller.inferred(entry, (*born.inferred, *life.inferred))
    yield entry


def _by(teller: Teller, born: Birth) -> str:
    life = teller.life
    by = f"by {teller.who(born.by, born.at)}" if born.by else "its creator was not recorded"
    what = {"thread": f"a thread of group {life.tgid}", "kthread": "a kernel thread"}.get(born.how or "", born.how)
    return f"{by}: {what}" if what else by


def _shows(teller: Teller, at: int) -> int | None:
    """Return the row of a record at a time that names the task or that it wrote itself."""
    pid = teller.life.pid
    for row in teller.evidence.rows(at):
        for name in ("next_pid", "prev_pid", "pid", "child_pid", "parent_pid"):
            if teller.evidence.value(row, name) == pid:
                return row
        if teller.evidence.pid(row) == pid:
            return row
    return None


def first_run(teller: Teller) -> Iterable[Entry]:
    """Tell RAN: the first time on a cpu, and how long after the parent had woken it."""
    life = teller.life
    if life.born is None:
        return
    first = next((s for s in teller.spans if s.state is State.RUNNING), None)
    if first is None:
        return
    row = teller.evidence.find(first.at, first.cpu, ("sched_switch",), {"next_pid": life.pid})
    text = "first time"
    if life.born.woken_at is not None:
        text += f", after waiting {teller.times.length(first.at - life.born.woken_at)}"
    if any(s.state is State.UNKNOWN for s in teller.spans if s.at < first.at):
        text = "first time that was recorded"
    entry = Entry(first.at, first.cpu, "RAN", [], 2)
    teller.seen(entry, text, row)
    yield entry


def programs(teller: Teller) -> Iterable[Entry]:
    """Tell EXEC: each program it ran; RENAMED: each name it took otherwise."""
    life = teller.life
    told: set[int] = set()
    entries: list[Entry] = []
    for one in life.execs:
        change = _change(teller, one, told)
        entry = Entry(one.at, one.cpu, "EXEC", [], 3)
        row = teller.evidence.find(one.at, one.cpu, ("sched_process_exec",), {"pid": life.pid})
        names = ""
        if change is not None:
            told.add(change)
            names = f"   {_before(teller, change)} → {escape(life.comms[change].comm)}"
        teller.seen(entry, escape(one.filename) + names, row)
        if one.old_pid != life.pid:
            entry.say(f"execve by thread {one.old_pid}, which takes over pid {life.pid}")
        entries.append(entry)
    yield from fold(teller, entries, lambda some: f"{len(some):,} more programs")
    renamed = [_renamed(teller, k) for k in range(1, len(life.comms)) if k not in told]
    yield from fold(teller, renamed, lambda some: f"renamed {len(some):,} more times")


def _before(teller: Teller, change: int) -> str:
    return escape(teller.life.comms[change - 1].comm) if change else "?"


def _change(teller: Teller, one: Exec, told: set[int]) -> int | None:
    """Return the number of the name in ``life.comms`` that an exec gave.

    begin_new_exec() takes the comm from the file's name, cut to TASK_COMM_LEN (fs/exec.c, v6.12), shortly
    before sched_process_exec.
    """
    name = one.filename.rpartition("/")[2]
    cut = name.encode("utf-8", "surrogatepass")[:15].decode("utf-8", "backslashreplace")
    comms = teller.life.comms
    near = [k for k in range(1, len(comms)) if comms[k].at <= one.at and k not in told]
    for k in reversed(near):
        if comms[k].comm == cut:
            return k
    return None


def _renamed(teller: Teller, k: int) -> Entry:
    life = teller.life
    comm = life.comms[k]
    row = teller.evidence.find(comm.at, None, ("task_rename", "sched_switch"), {"pid": life.pid})
    entry = Entry(comm.at, None, "RENAMED", [], 3)
    if row is not None:
        entry.cpu = int(teller.trace.source.index.cpu[row])
    teller.seen(entry, f"{_before(teller, k)} → {escape(comm.comm)}", row)
    return entry


def rhythm_of(teller: Teller, cells: int) -> Iterable[Entry]:
    """Tell RHYTHM: a bar of the life, its totals, and what woke it."""
    life, times = teller.life, teller.times
    spans = [s for s in teller.spans if s.state in rhythm.MARKS]
    if not any(s.state is State.RUNNING for s in spans):
        return
    start, end = spans[0].at, life.exit.at if life.exit else spans[-1].end
    spans = [s for s in spans if s.at <= end]
    killed = life.exit is not None and life.exit.signal is not None
    entry = Entry(start, None, "RHYTHM", [], 2)
    first = next(s for s in spans if s.state is State.RUNNING)
    entry.at, entry.cpu = (first.at, first.cpu) if life.born else (start, spans[0].cpu)
    drawn = rhythm.bar(spans, entry.at, end, cells, teller.paint, killed)
    if end > entry.at:
        entry.say(drawn)
    for total in rhythm.totals(spans):
        mark, name = rhythm.MARKS[total.state]
        n = f"{total.times:,} time{'s' if total.times != 1 else ''}"
        text = f"{mark} {name} {times.length(total.time)}, {n}"
        if total.state in (State.SLEEPING, State.BLOCKED):
            text += _where(teller, spans, total.state)
        entry.say(text, "sched_switch" if total.state is State.RUNNING else None)
    if end > entry.at:
        entry.say(
            f"one mark is {times.length((end - entry.at) // max(cells - killed, 1))}"
            + ("; × cut short by the signal" if killed else "")
        )
    entry.lines += _wakeups(teller, spans)
    voluntary, involuntary = life.switches.voluntary, life.switches.involuntary
    cpus = ",".join(map(str, life.cpus)) or "?"
    text = f"switches {voluntary:,} voluntary, {involuntary:,} involuntary; cpu{'s' * (len(life.cpus) > 1)} {cpus}"
    if life.migrations:
        text += f"; {life.migrations:,} migration{'s' if life.migrations != 1 else ''}"
    entry.say(text)
    yield entry


def _where(teller: Teller, spans: list[Span], state: State) -> str:
    """Say in which kernel functions it slept, where the switches have stacks."""
    if not len(teller.trace.stacks):
        return ""
    functions: dict[str, int] = {}
    for span in spans[:_MOST]:
        if span.state is not state:
            continue
        row = teller.evidence.find(span.at, None, ("sched_switch",), {"prev_pid": teller.life.pid})
        function = wchan(teller.trace.stacks.get(row)) if row is not None else None
        if function is not None:
            functions[function] = functions.get(function, 0) + 1
    if not functions:
        return ""
    often = sorted(functions.items(), key=lambda x: -x[1])
    names = [f"{name} ({n:,})" if len(often) > 1 else name for name, n in often[:3]]
    return f", in {', '.join(names)}" + (f" and {len(often) - 3} others" if len(often) > 3 else "")


def _wakeups(teller: Teller, spans: list[Span]) -> list[tuple[str, str | None]]:
    found = rhythm.wakers(spans)
    if not found.by:
        return []
    times = teller.times
    event = "sched_waking" if teller.trace.rows("sched_waking").size else "sched_wakeup"
    count = sum(len(w.at) for w in found.by)
    most = len(found.by) if teller.verbose else 3
    words = [_waker(teller, w, alone=len(found.by) == 1) for w in found.by[:most]]
    rest = found.by[most:]
    if rest:
        words.append(f"{sum(len(w.at) for w in rest):,} by {len(rest):,} others")
    head = f"woken {count:,} time{'s' if count != 1 else ''}"
    text = f"{head} {words[0]}" if len(found.by) == 1 else f"{head}: {'; '.join(words)}"
    lines: list[tuple[str, str | None]] = [(text, event)]
    if found.latencies:
        n = len(found.latencies)
        median = times.length(found.latencies[(n - 1) // 2])
        worst = f" (median), at worst {times.length(found.latencies[-1])}" if n > 1 else ""
        lines.append((f"on a cpu {median} later{worst}", None))
    return lines


def _waker(teller: Teller, waker: rhythm.Waker, *, alone: bool) -> str:
    """Say who woke it, in which kernel function, and how regularly."""
    if waker.irq:
        name = "an interrupt"
    else:
        name = teller.who(waker.ref) if waker.ref is not None else "an unrecorded waker"
    text = f"by {name}" if alone else f"{len(waker.at):,} by {name}"
    functions: set[str] = set()
    if len(teller.trace.stacks):
        for at in waker.at[:_MOST]:
            row = teller.evidence.find(at, None, ("sched_waking", "sched_wakeup"), {"pid": teller.life.pid})
            function = wake_function(teller.trace.stacks.get(row)) if row is not None else None
            if function is not None:
                functions.add(function)
    if functions:
        shown = ", ".join(sorted(functions)) if len(functions) <= 3 else f"{len(functions)} functions"
        text += f" in {shown}"
    every = rhythm.period(waker.at)
    return text if every is None else f"{text}, every {teller.times.length(every)}"


def stops(teller: Teller) -> Iterable[Entry]:
    """Tell STOPPED and CONTINUED, by a signal or by a tracer."""
    life = teller.life
    entries: list[Entry] = []
    for span in teller.spans:
        if span.state not in (State.STOPPED, State.TRACED):
            continue
        word = "STOPPED" if span.state is State.STOPPED else "TRACED"
        begin = Entry(span.at, span.cpu, word, [], 4, "stopped")
        row = teller.evidence.find(span.at, None, ("sched_switch",), {"prev_pid": life.pid})
        how = "state T" if span.state is State.STOPPED else "state t: by its tracer"
        teller.seen(begin, f"{how}, for {teller.times.length(span.dur)}", row)
        entries.append(begin)
        if life.exit is None or span.end < life.exit.at or span.end < life.last:
            waking = teller.evidence.find(
                span.end,
                None,
                ("sched_waking", "sched_wakeup", "sched_switch"),
                {"pid": life.pid, "next_pid": life.pid},
            )
            if waking is not None:
                go = Entry(span.end, int(teller.trace.source.index.cpu[waking]), "CONTINUED", [], 4)
                teller.seen(go, "runnable again", waking)
                entries.append(go)
    yield from fold(teller, entries, lambda some: f"{len(some):,} more stops and continuations")


def gaps(teller: Teller) -> Iterable[Entry]:
    """Tell LOST: where the kernel dropped events while the task lived."""
    life = teller.life
    # Only losses that the life counts: those of cpus and times on which it could have left a record.
    found = [
        g
        for g in teller.trace.lost
        if (g.end is None or g.end > life.first) and (g.start is None or g.start < life.last)
    ]
    if not life.gaps:
        return
    entries = []
    for gap in found:
        lost = "events" if gap.count is None else f"{gap.count:,} events"
        cpu = f" of cpu {gap.cpu}" if gap.cpu is not None else ""
        many = ", how many is unknown," if gap.count is None else ""
        until = f"up to {teller.times.stamp(gap.end)}" if gap.end is not None else "up to the end"
        at = gap.start if gap.start is not None else teller.trace.start
        entry = Entry(at, gap.cpu, "LOST", [], 1, "lost")
        entry.say(f"{lost}{cpu}{many} {until}")
        entries.append(entry)
    yield from fold(teller, entries, lambda some: f"{len(some):,} more gaps")


__all__ = ["FOLD", "fold", "tell"]
