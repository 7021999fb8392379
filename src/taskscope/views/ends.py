"""The last chapters of a story: adoption, exit, zombie, reaped, freed; or still there at the end."""

from __future__ import annotations

from collections.abc import Iterable

from taskscope.lives.life import STATE_LETTERS, Exit, State
from taskscope.views.entry import Entry, Teller
from taskscope.views.evidence import arrows, plain
from taskscope.views.names import signal_name, wait_status


def adopted(teller: Teller) -> Iterable[Entry]:
    """Tell ADOPTED: a new parent after the old one died."""
    life = teller.life
    before = life.parent
    for one in life.adopted:
        entry = Entry(one.at, None, "ADOPTED", [], 5, near=life.exit.at if life.exit else life.last)
        text = f"by {teller.who(one.by, one.at)}" if one.by else "by a task that was not recorded"
        if before is not None:
            text += f"; was a child of {teller.who(before, one.at)}"
        row = teller.evidence.find(one.at, None, ("sched_process_exit",), {} if before is None else {"pid": before.pid})
        if row is not None:
            entry.cpu = int(teller.trace.source.index.cpu[row])
        teller.seen(entry, text, row)
        teller.inferred(entry, one.inferred)
        before = one.by
        yield entry


def ended(teller: Teller) -> Iterable[Entry]:
    """Tell EXIT: why, through which functions, and the status that the parent sees."""
    life, end = teller.life, teller.life.exit
    if end is None:
        return
    entry = Entry(end.at, end.cpu, "EXIT", [], 7, "kill" if end.signal is not None else None)
    row = teller.evidence.find(end.at, end.cpu, ("sched_process_exit", "do_exit"), {"pid": life.pid})
    if row is None:
        row = teller.evidence.find(
            end.at, None, ("sched_process_exit", "sched_switch"), {"pid": life.pid, "prev_pid": life.pid}
        )
    teller.seen(entry, _why(teller, end), row)
    way = arrows(end.stack)
    if way:
        entry.say(way)
    status = wait_status(end.code, end.signal, end.core)
    if status is not None and end.cause not in ("group_exit", "exec"):
        entry.say(status)
    teller.inferred(entry, end.inferred)
    yield entry


def _why(teller: Teller, end: Exit) -> str:
    if end.cause == "exec":
        return "another thread of the group called execve"
    if end.cause == "group_exit":
        if end.signal is not None:
            return f"its thread group is killed by {signal_name(end.signal)}"
        return "its thread group exits" + (f" with {end.code}" if end.code is not None else "")
    if end.signal is not None:
        by = f" from {teller.who(end.killer, end.at)}" if end.killer else ""
        return (
            f"{signal_name(end.signal)} by the OOM killer" if end.cause == "oom" else f"{signal_name(end.signal)}{by}"
        )
    if end.code is not None:
        return f"exit({end.code})"
    return "exit(?), status not recorded" if end.cause == "exit" else "why is not recorded"


def zombie(teller: Teller) -> Iterable[Entry]:
    """Tell ZOMBIE: waits to be reaped, and whom it told."""
    life, end = teller.life, teller.life.exit
    if end is None:
        return
    span = next((s for s in reversed(teller.spans) if s.state is State.ZOMBIE), None)
    if span is None and end.notified_at is None:
        return
    at = end.notified_at if end.notified_at is not None else span.at if span is not None else end.at
    entry = Entry(at, end.cpu, "ZOMBIE", [], 8, "zombie")
    if end.notified_at is not None:
        row = teller.evidence.find(end.notified_at, None, ("signal_generate",), {})
        name = signal_name(end.notified_sig) if end.notified_sig is not None else "the exit signal"
        whom = f" to {teller.who(end.notified, end.notified_at)}" if end.notified else ""
        if row is not None:
            entry.cpu = int(teller.trace.source.index.cpu[row])
        teller.seen(entry, f"sends {name}{whom}", row)
    if span is not None:
        row = teller.evidence.find(span.at, None, ("sched_switch",), {"prev_pid": life.pid})
        teller.seen(entry, "last switch" + (f" at {teller.times.stamp(span.at)}" if at != span.at else ""), row)
    yield entry


def reaped(teller: Teller) -> Iterable[Entry]:
    """Tell REAPED: released by the parent's wait(), or by the dying task itself."""
    life, done = teller.life, teller.life.reaped
    if done is None:
        return
    end = life.exit
    near = life.freed.at if life.freed else life.last
    entry = Entry(done.at, None, "REAPED", [], 9, near=near)
    itself = done.by is not None and done.by == life.ref
    by = (
        "by itself: nobody has to wait for it"
        if itself
        else f"by {teller.who(done.by, done.at)}"
        if done.by
        else "by whom was not recorded"
    )
    if done.at is not None and end is not None and not itself:
        by = f"after {teller.times.length(done.at - end.at)}, {by}"
    row = None
    if done.at is not None:
        row = _release(teller, done.at)
        if row is not None:
            entry.cpu = int(teller.trace.source.index.cpu[row])
    teller.seen(entry, by, row)
    way = arrows(teller.trace.stacks.get(row)) if row is not None else None
    if way:
        entry.say(way)
    teller.inferred(entry, done.inferred)
    yield entry


def _release(teller: Teller, at: int) -> int | None:
    """Return the row that shows the release: release_task() itself, else what the reaper wrote at that time."""
    done = teller.life.reaped
    by = None if done is None or done.by is None else done.by.pid
    rows = [r for r in teller.evidence.rows(at) if by is None or teller.evidence.pid(r) == by]
    for row in rows:
        stack = teller.trace.stacks.get(row)
        if stack and plain(stack[0]) == "release_task":
            return row
    known = (
        "function",
        "release_task",
        "sys_exit_wait4",
        "sys_exit_waitid",
        "wait4_ret",
        "sys_exit",
        "sched_process_exit",
        "sched_process_wait",
        "sched_switch",
    )
    return teller.evidence.find(at, None, known, {}) if rows else None


def freed(teller: Teller) -> Iterable[Entry]:
    """Tell FREED: when and in which context the last reference to the task_struct was dropped."""
    life, done = teller.life, teller.life.freed
    if done is None:
        return
    entry = Entry(done.at, done.cpu, "FREED", [], 10)
    row = teller.evidence.find(done.at, done.cpu, ("sched_process_free",), {"pid": life.pid})
    words = []
    if life.reaped is not None and life.reaped.at < done.at:
        words.append(f"after {teller.times.length(done.at - life.reaped.at)}")
    if row is not None:
        pid = teller.evidence.pid(row)
        words.append(f"in {teller.evidence.irq(row) or (f'pid {pid}' if pid else 'idle')}")
    teller.seen(entry, ", ".join(words) or "the last reference is dropped", row)
    way = arrows(teller.trace.stacks.get(row)) if row is not None else None
    if way:
        entry.say(way)
    yield entry


def still_there(teller: Teller) -> Iterable[Entry]:
    """Tell END: what it was doing when the recording ended."""
    life = teller.life
    if life.freed is not None or life.reaped is not None or life.kind == "idle":
        return
    last = teller.spans[-1] if teller.spans else None
    entry = Entry(teller.trace.end, None, "END", [], 11)
    if life.exit is not None:
        # A thread, or a child whose parent ignores SIGCHLD, needs nobody: no release recorded says nothing of it.
        if last is not None and last.state is State.ZOMBIE:
            entry.say("of the recording; nobody has reaped it yet")
            yield entry
        return
    text = "of the recording; the task is still there"
    # The snapshot knows what the very last record did; a span of no length is no span.
    task = next((t for t in teller.lives.at(teller.trace.end).tasks if (t.pid, t.generation) == life.ref), None)
    if task is not None and task.state != "?":
        text += f", in state {task.state}"
        if last is not None and STATE_LETTERS[last.state] == task.state:
            text += f" since {teller.times.stamp(last.at)}"
    entry.say(text)
    yield entry
