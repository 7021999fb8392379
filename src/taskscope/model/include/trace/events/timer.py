"""The events of timers: include/trace/events/timer.h, v4.19 to v6.18.

The addresses of timers and of their functions are what `kallsyms_address` and the objects' own ``address`` say; a timer
that has no address is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.kernel.trace import trace_events


def trace_hrtimer_init(hrtimer: Any, clockid: int, mode: int) -> None:
    """Trace that an hrtimer is set up (hrtimer_setup since v6.15)."""
    probes = machine.cur.tp.hrtimer_init
    if probes:
        for probe, data in probes:
            probe(data, hrtimer, clockid, mode)


def trace_hrtimer_start(hrtimer: Any, mode: int) -> None:
    """Trace that an hrtimer is started."""
    probes = machine.cur.tp.hrtimer_start
    if probes:
        for probe, data in probes:
            probe(data, hrtimer, mode)


def trace_hrtimer_expire_entry(hrtimer: Any, now: int) -> None:
    """Trace that an hrtimer's function is called; `now` in ns."""
    probes = machine.cur.tp.hrtimer_expire_entry
    if probes:
        for probe, data in probes:
            probe(data, hrtimer, now)


def trace_hrtimer_expire_exit(hrtimer: Any) -> None:
    """Trace that an hrtimer's function has returned."""
    probes = machine.cur.tp.hrtimer_expire_exit
    if probes:
        for probe, data in probes:
            probe(data, hrtimer)


def trace_hrtimer_cancel(hrtimer: Any) -> None:
    """Trace that an hrtimer is taken back."""
    probes = machine.cur.tp.hrtimer_cancel
    if probes:
        for probe, data in probes:
            probe(data, hrtimer)


def trace_timer_init(timer: Any) -> None:
    """Trace that a timer of the wheel is set up."""
    probes = machine.cur.tp.timer_init
    if probes:
        for probe, data in probes:
            probe(data, timer)


def trace_timer_start(timer: Any, expires: int, flags: int) -> None:
    """Trace that a timer of the wheel is started; `expires` in jiffies."""
    probes = machine.cur.tp.timer_start
    if probes:
        for probe, data in probes:
            probe(data, timer, expires, flags)


def trace_timer_expire_entry(timer: Any, baseclk: int) -> None:
    """Trace that a timer's function is called."""
    probes = machine.cur.tp.timer_expire_entry
    if probes:
        for probe, data in probes:
            probe(data, timer, baseclk)


def trace_timer_expire_exit(timer: Any) -> None:
    """Trace that a timer's function has returned."""
    probes = machine.cur.tp.timer_expire_exit
    if probes:
        for probe, data in probes:
            probe(data, timer)


def trace_timer_cancel(timer: Any) -> None:
    """Trace that a timer is taken back."""
    probes = machine.cur.tp.timer_cancel
    if probes:
        for probe, data in probes:
            probe(data, timer)


def trace_tick_stop(success: int, dependency: int) -> None:
    """Trace an attempt to stop the tick of a busy CPU."""
    probes = machine.cur.tp.tick_stop
    if probes:
        for probe, data in probes:
            probe(data, success, dependency)


def trace_itimer_state(which: int, value: Sequence[int], expires: int) -> None:
    """Trace setitimer(); `value` is it_value (s, ns) and it_interval (s, ns)."""
    probes = machine.cur.tp.itimer_state
    if probes:
        for probe, data in probes:
            probe(data, which, value, expires)


def trace_itimer_expire(which: int, pid: Any, now: int) -> None:
    """Trace that an interval timer has expired; `pid` is a struct pid."""
    probes = machine.cur.tp.itimer_expire
    if probes:
        for probe, data in probes:
            probe(data, which, pid, now)


# ---- probes ----------------------------------------------------------------------------------------------


def _address(thing: Any) -> int:
    """Return the address of a timer or of a function."""
    return trace_events.kernel_word(machine.cur, thing)


def trace_event_raw_event_hrtimer_init(file: TraceEventFile, hrtimer: Any, clockid: int, mode: int) -> None:
    """Write the record of an hrtimer set up."""
    trace_events.trace_event_buffer_commit(file, (_address(hrtimer), clockid, mode))


def trace_event_raw_event_hrtimer_setup(file: TraceEventFile, hrtimer: Any, clockid: int, mode: int) -> None:
    """Write the record of an hrtimer set up, as v6.15 and later call it."""
    trace_events.trace_event_buffer_commit(file, (_address(hrtimer), clockid, mode))


def trace_event_raw_event_hrtimer_start(file: TraceEventFile, hrtimer: Any, mode: int) -> None:
    """Write the record of an hrtimer started."""
    expires = hrtimer.expires
    soft = getattr(hrtimer, "softexpires", expires)
    values: tuple[Any, ...] = (_address(hrtimer), _address(hrtimer.function), expires, soft, mode)
    if file.event_call.field("was_armed") is not None:
        values = (*values, 0)  # not known to the caller in 4.19's code
    trace_events.trace_event_buffer_commit(file, values)


def trace_event_raw_event_hrtimer_expire_entry(file: TraceEventFile, hrtimer: Any, now: int) -> None:
    """Write the record of an hrtimer that has expired."""
    trace_events.trace_event_buffer_commit(file, (_address(hrtimer), now, _address(hrtimer.function)))


def trace_event_raw_event_timer_class(file: TraceEventFile, timer: Any) -> None:
    """Write the record of a timer."""
    trace_events.trace_event_buffer_commit(file, (_address(timer),))


def trace_event_raw_event_timer_start(file: TraceEventFile, timer: Any, expires: int, flags: int) -> None:
    """Write the record of a timer started."""
    jiffies = machine.cur.jiffies
    function = _address(timer.function)
    if file.event_call.field("bucket_expiry") is not None:
        trace_events.trace_event_buffer_commit(file, (_address(timer), function, expires, expires, jiffies, flags))
    else:
        trace_events.trace_event_buffer_commit(file, (_address(timer), function, expires, jiffies, flags))


def trace_event_raw_event_timer_expire_entry(file: TraceEventFile, timer: Any, baseclk: int) -> None:
    """Write the record of a timer that has expired."""
    function, jiffies = _address(timer.function), machine.cur.jiffies
    if file.event_call.field("baseclk") is not None:
        trace_events.trace_event_buffer_commit(file, (_address(timer), jiffies, function, baseclk))
    else:
        trace_events.trace_event_buffer_commit(file, (_address(timer), jiffies, function))


def trace_event_raw_event_tick_stop(file: TraceEventFile, success: int, dependency: int) -> None:
    """Write the record of an attempt to stop the tick."""
    trace_events.trace_event_buffer_commit(file, (success, dependency))


def trace_event_raw_event_itimer_state(file: TraceEventFile, which: int, value: Sequence[int], expires: int) -> None:
    """Write the record of an interval timer set."""
    trace_events.trace_event_buffer_commit(file, (which, expires, *value))


def trace_event_raw_event_itimer_expire(file: TraceEventFile, which: int, pid: Any, now: int) -> None:
    """Write the record of an interval timer that has expired."""
    trace_events.trace_event_buffer_commit(file, (which, pid.nr, now))


# ---- text ------------------------------------------------------------------------------------------------

_CLOCKS: Final = {0: "CLOCK_REALTIME", 1: "CLOCK_MONOTONIC", 7: "CLOCK_BOOTTIME", 11: "CLOCK_TAI"}
# enum hrtimer_mode: the bits are relative, pinned, softirq, hard.
_MODES: Final = tuple(
    ("ABS", "REL")[m & 1] + "".join(text for bit, text in ((2, "|PINNED"), (4, "|SOFT"), (8, "|HARD")) if m & bit)
    for m in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)
)


def trace_raw_output_hrtimer_init(v: Any) -> str:
    """Print an hrtimer set up."""
    return f"hrtimer={_pointer(v[0])} clockid={_CLOCKS.get(v[1], hex(v[1]))} mode={_MODES[v[2]]}"


def trace_raw_output_hrtimer_start(v: Any) -> str:
    """Print an hrtimer started."""
    text = f"hrtimer={_pointer(v[0])} function={_symbol(v[1])} expires={v[2]} softexpires={v[3]} mode={_MODES[v[4]]}"
    return f"{text} was_armed={v[5]}" if len(v) > 5 else text


def trace_raw_output_timer_start(v: Any) -> str:
    """Print a timer started."""
    timer, function, expires, *bucket, now, flags = v
    letters = "|".join(c for i, c in enumerate("MDPI") if flags >> 18 + i & 1)
    middle = f" bucket_expiry={bucket[0]}" if bucket else ""
    return (
        f"timer={_pointer(timer)} function={_symbol(function)} expires={expires} [timeout={expires - now}]{middle} "
        f"cpu={flags & 0x3FFFF} idx={flags >> 22} flags={letters}"
    )


def trace_raw_output_tick_stop(v: Any) -> str:
    """Print an attempt to stop the tick."""
    names = {1 << i: name for i, name in enumerate(_DEPENDENCIES)}
    return f"success={v[0]} dependency={names.get(v[1], 'NONE' if v[1] == 0 else hex(v[1]))}"


def trace_raw_output_itimer_state(v: Any) -> str:
    """Print an interval timer set."""
    which, expires, value_s, value_ns, interval_s, interval_ns = v
    return (
        f"which={which} expires={expires} it_value={value_s}.{value_ns // 1000:06d} "
        f"it_interval={interval_s}.{interval_ns // 1000:06d}"
    )


def _pointer(address: int) -> str:
    return f"{address:0{2 * machine.cur.flavour.long_size}x}"


def _symbol(address: int) -> str:
    from taskscope.model.kernel import kallsyms

    return kallsyms.sprint_symbol(machine.cur, address, False)


def _names(with_hard: bool) -> str:
    numbers = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11) if with_hard else (0, 1, 2, 3, 4, 5, 6, 7)
    return ", ".join(f'{{ HRTIMER_MODE_{_MODES[m].replace("|", "_")}, "{_MODES[m]}" }}' for m in numbers)


_CLOCK_NAMES: Final = ", ".join(f'{{ {n}, "{name}" }}' for n, name in _CLOCKS.items())
_INIT: Final = (
    '"hrtimer=%p clockid=%s mode=%s", REC->hrtimer, __print_symbolic(REC->clockid, {}), __print_symbolic(REC->mode, {})'
)
_START: Final = (
    '"hrtimer=%p function=%ps expires=%llu softexpires=%llu mode=%s{}", REC->hrtimer, REC->function, '
    "(unsigned long long) REC->expires, (unsigned long long) REC->softexpires, __print_symbolic(REC->mode, {}){}"
)
_TIMER_FLAGS: Final = '"|", { 0x00040000, "M" }, { 0x00080000, "D" }, { 0x00100000, "P" }, { 0x00200000, "I" })'
_TIMER_START: Final = (
    '"timer=%p function=%ps expires=%lu [timeout=%ld]{} cpu=%u idx=%u flags=%s", REC->timer, REC->function, '
    "REC->expires, (long)REC->expires - REC->now{}, REC->flags & 0x0003FFFF, REC->flags >> 22, "
    "__print_flags(REC->flags & (0x00040000 | 0x00080000 | 0x00100000 | 0x00200000), "
)
_HR: Final = "void * hrtimer; void * function; s64 expires; s64 softexpires; enum hrtimer_mode mode"
_DEPENDENCIES: Final = ("POSIX_TIMER", "PERF_EVENTS", "SCHED", "CLOCK_UNSTABLE", "RCU", "RCU_EXP")


def _tick_stop(count: int) -> str:
    return (
        '"success=%d dependency=%s", REC->success, __print_symbolic(REC->dependency, { 0, "NONE" }, '
        + ", ".join(f'{{ (1 << {i}), "{n}" }}' for i, n in enumerate(_DEPENDENCIES[:count]))
        + ")"
    )


EVENTS: Final = (
    Declaration(
        "timer",
        "hrtimer_init",
        "void * hrtimer; clockid_t clockid; enum hrtimer_mode mode",
        _INIT.format(_CLOCK_NAMES, _names(False)),
        trace_event_raw_event_hrtimer_init,
        trace_raw_output_hrtimer_init,
        before=(5, 4),
    ),
    Declaration(
        "timer",
        "hrtimer_init",
        "void * hrtimer; clockid_t clockid; enum hrtimer_mode mode",
        _INIT.format(_CLOCK_NAMES, _names(True)),
        trace_event_raw_event_hrtimer_init,
        trace_raw_output_hrtimer_init,
        since=(5, 4),
        before=(6, 15),
    ),
    Declaration(
        "timer",
        "hrtimer_setup",
        "void * hrtimer; clockid_t clockid; enum hrtimer_mode mode",
        _INIT.format(_CLOCK_NAMES, _names(True)),
        trace_event_raw_event_hrtimer_setup,
        trace_raw_output_hrtimer_init,
        since=(6, 15),
        tracepoint="hrtimer_init",
    ),
    Declaration(
        "timer",
        "hrtimer_start",
        _HR,
        _START.format("", _names(False), ""),
        trace_event_raw_event_hrtimer_start,
        trace_raw_output_hrtimer_start,
        before=(5, 4),
    ),
    Declaration(
        "timer",
        "hrtimer_start",
        _HR,
        _START.format("", _names(True), ""),
        trace_event_raw_event_hrtimer_start,
        trace_raw_output_hrtimer_start,
        since=(5, 4),
        before=(6, 1),
    ),
    Declaration(
        "timer",
        "hrtimer_start",
        f"{_HR}; bool was_armed",
        _START.format(" was_armed=%d", _names(True), ", REC->was_armed"),
        trace_event_raw_event_hrtimer_start,
        trace_raw_output_hrtimer_start,
        since=(6, 1),
    ),  # v6.17, and carried back to stable series
    Declaration(
        "timer",
        "hrtimer_expire_entry",
        "void * hrtimer; s64 now; void * function",
        '"hrtimer=%p function=%ps now=%llu", REC->hrtimer, REC->function, (unsigned long long) REC->now',
        trace_event_raw_event_hrtimer_expire_entry,
        None,
    ),
    *(
        Declaration(
            "timer", name, "void * hrtimer", '"hrtimer=%p", REC->hrtimer', trace_event_raw_event_timer_class, None
        )
        for name in ("hrtimer_expire_exit", "hrtimer_cancel")
    ),
    *(
        Declaration("timer", name, "void * timer", '"timer=%p", REC->timer', trace_event_raw_event_timer_class, None)
        for name in ("timer_init", "timer_expire_exit", "timer_cancel")
    ),
    Declaration(
        "timer",
        "timer_start",
        "void * timer; void * function; unsigned long expires; unsigned long now; unsigned int flags",
        _TIMER_START.format("", "") + _TIMER_FLAGS,
        trace_event_raw_event_timer_start,
        trace_raw_output_timer_start,
        before=(6, 4),
    ),
    Declaration(
        "timer",
        "timer_start",
        "void * timer; void * function; unsigned long expires; unsigned long bucket_expiry; "
        "unsigned long now; unsigned int flags",
        _TIMER_START.format(" bucket_expiry=%lu", ", REC->bucket_expiry") + _TIMER_FLAGS,
        trace_event_raw_event_timer_start,
        trace_raw_output_timer_start,
        since=(6, 4),
    ),
    Declaration(
        "timer",
        "timer_expire_entry",
        "void * timer; unsigned long now; void * function",
        '"timer=%p function=%ps now=%lu", REC->timer, REC->function, REC->now',
        trace_event_raw_event_timer_expire_entry,
        None,
        before=(5, 1),
    ),
    Declaration(
        "timer",
        "timer_expire_entry",
        "void * timer; unsigned long now; void * function; unsigned long baseclk",
        '"timer=%p function=%ps now=%lu baseclk=%lu", REC->timer, REC->function, REC->now, REC->baseclk',
        trace_event_raw_event_timer_expire_entry,
        None,
        since=(5, 1),
    ),
    Declaration(
        "timer",
        "tick_stop",
        "int success; int dependency",
        _tick_stop(4),
        trace_event_raw_event_tick_stop,
        trace_raw_output_tick_stop,
        before=(5, 5),
    ),
    Declaration(
        "timer",
        "tick_stop",
        "int success; int dependency",
        _tick_stop(6),
        trace_event_raw_event_tick_stop,
        trace_raw_output_tick_stop,
        since=(5, 5),
    ),
    Declaration(
        "timer",
        "itimer_state",
        "int which; unsigned long long expires; long value_sec; long value_nsec; long interval_sec; long interval_nsec",
        '"which=%d expires=%llu it_value=%ld.%06ld it_interval=%ld.%06ld", REC->which, REC->expires, REC->value_sec, '
        "REC->value_nsec / 1000L, REC->interval_sec, REC->interval_nsec / 1000L",
        trace_event_raw_event_itimer_state,
        trace_raw_output_itimer_state,
        since=(5, 5),
    ),
    Declaration(
        "timer",
        "itimer_expire",
        "int which; pid_t pid; unsigned long long now",
        '"which=%d pid=%d now=%llu", REC->which, (int) REC->pid, REC->now',
        trace_event_raw_event_itimer_expire,
        None,
    ),
    # Not modelled: the idle bases of v6.9.
    Declaration(
        "timer",
        "timer_base_idle",
        "bool is_idle; unsigned int cpu",
        '"is_idle=%d cpu=%d", REC->is_idle, REC->cpu',
        None,
        None,
        since=(6, 9),
    ),
)
