"""The SIGNAL chapter: each signal sent to a task, by whom and how, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable

from taskscope.lives.life import Life, Signal
from taskscope.views.entry import Entry, Teller
from taskscope.views.evidence import arrows
from taskscope.views.names import si_code_name, signal_name

#: result of signal_generate, include/trace/events/signal.h (v6.12)
RESULTS = {0: "delivered", 1: "ignored", 2: "already pending", 3: "not queued: overflow", 4: "queued without siginfo"}

#: how many signals are told one by one before equal ones are folded
_FEW = 8

#: how many alike are told one by one
_ALIKE = 2

SIGCHLD, SIGCONT = 17, 18

SI_KERNEL = 0x80


def fatal(life: Life, one: Signal) -> bool:
    """Tell whether a signal is the one that ended the life.

    The last one of its number from its killer that was sent before the exit and not discarded.
    """
    end = life.exit
    if end is None or end.signal is None or end.cause not in ("signal", "oom"):
        return False
    deadly = [
        s
        for s in life.signals
        if s.sig == end.signal and s.at <= end.at and s.result != 1 and (end.killer is None or s.sender == end.killer)
    ]
    # The first that takes effect kills; a later one finds the group exiting already.
    return bool(deadly) and one is deadly[0] if end.killer is not None else bool(deadly) and one is deadly[-1]


def signals(teller: Teller) -> Iterable[Entry]:
    """Tell SIGNAL: one entry a signal; many equal ones are folded."""
    life = teller.life
    groups: dict[tuple[object, ...], list[Signal]] = {}
    few = teller.verbose or len(life.signals) <= _FEW
    for k, one in enumerate(life.signals):
        notice = one.sig == SIGCHLD and one.code > 0
        key: tuple[object, ...] = (one.sig, one.code, None if notice else one.sender, one.result, fatal(life, one))
        # Children that ended are many and alike; of other signals a few are told one by one.
        groups.setdefault((k,) if teller.verbose or (few and not notice) else key, []).append(one)
    for some in groups.values():
        if len(some) <= _ALIKE:
            yield from (_entry(teller, one) for one in some)
            continue
        entry = _entry(teller, some[0])
        others = " from others" if any(one.sender != some[0].sender for one in some) else ""
        entry.say(
            f"and {len(some) - 1:,} more like it{others}, up to {teller.times.stamp(some[-1].at)} (-v shows them)"
        )
        yield entry


def _entry(teller: Teller, one: Signal) -> Entry:
    life, times = teller.life, teller.times
    deadly = fatal(life, one)
    entry = Entry(one.at, one.cpu, "SIGNAL", [], 6, "kill" if deadly else "wake")
    row = teller.evidence.find(one.at, one.cpu, ("signal_generate",), {"pid": life.pid, "sig": one.sig})
    name, code = signal_name(one.sig), si_code_name(one.sig, one.code)
    if one.code == SI_KERNEL:
        # The task that was current did not send it: the kernel did, in its context.
        context = (
            "" if one.sender is None else f" while {'it' if one.sender == life.ref else teller.who(one.sender)} ran"
        )
        teller.seen(entry, f"{name} from the kernel{context}", row)
    else:
        sender = f"from {teller.who(one.sender, one.at)}" if one.sender else "from an interrupt"
        teller.seen(entry, f"{name} {sender}: {code}", row)
    way = arrows(teller.trace.stacks.get(row), 4) if row is not None else None
    if way:
        entry.say(way)
    if one.result:
        more = "; SIGCONT continues a stopped task even so" if (one.sig, one.result) == (SIGCONT, 1) else ""
        entry.say(RESULTS.get(one.result, f"result {one.result}") + more)
    if one.delivered_at is not None:
        delivery = teller.evidence.find(one.delivered_at, None, ("signal_deliver",), {})
        handler = one.handler
        what = "" if handler is None else {0: ", SIG_DFL", 1: ", SIG_IGN"}.get(handler, f", handler 0x{handler:x}")
        teller.seen(entry, f"delivered after {times.length(one.delivered_at - one.at)}{what}", delivery)
    return entry
