"""Times as people read and write them: stamps of the recording's clock, lengths, and what ``--from 1.5`` means.

Inside, time is integer ns.  Here it becomes text: a stamp has the six decimals that tracefs shows (rounded as
the kernel rounds, ns2usecs() in kernel/trace/trace.h, v6.12), so that a line can be found again in
``taskscope report``. A clock that counts cycles (x86-tsc without a conversion) is shown in cycles, as the
kernel does.
"""

from __future__ import annotations

import re
from typing import Literal

from taskscope.errors import UsageError
from taskscope.trace.source import Clock

_S = 1_000_000_000
_UNITS = {"": _S, "s": _S, "ms": 1_000_000, "us": 1_000, "ns": 1}
_TIME = re.compile(r"(?P<rel>\+)?(?P<whole>\d+)?(?:\.(?P<part>\d*))?\s*(?P<unit>ns|us|ms|s)?", re.ASCII)


class Times:
    """Shows and parses the times of one recording.

    :param clock: the recording's clock
    :param start: its first time stamp, for times given as ``+1.5``
    """

    def __init__(self, clock: Clock | None = None, start: int = 0) -> None:
        self.cycles = clock is not None and clock.unit == "cycles"
        self.resolution = 1 if clock is None else clock.resolution
        self.start = start

    def stamp(self, at: int | None, digits: int = 6) -> str:
        """Show a point in time in seconds with `digits` decimals, at most what the clock resolves; ``-`` for None."""
        if at is None:
            return "-"
        if self.cycles:
            return str(at)
        if digits > 6 and self.resolution < 1000:
            return f"{at // _S}.{at % _S:09d}"
        usecs = (at + 500) // 1000
        return f"{usecs // 1_000_000}.{usecs % 1_000_000:06d}"

    def length(self, ns: int) -> str:
        """Show a length of time for prose: ``13.503 s``, ``1.204 ms``, ``61 us``, ``850 ns``."""
        if self.cycles:
            return f"{ns:,} cycles"
        if ns < 0:
            return "-" + self.length(-ns)
        if ns >= 999_999_500:
            return f"{ns / _S:.3f} s"
        if ns >= 999_500:
            return f"{ns / 1_000_000:.3f} ms"
        if ns >= 9_950 or (self.resolution >= 1000 and ns):
            return f"{ns / 1000:.0f} us"
        return f"{ns / 1000:.1f} us" if ns >= 1000 else f"{ns} ns"

    def short(self, ns: int | None) -> str:
        """Show a length in at most six cells without a space, for tables: ``13.5s``, ``1.20ms``; ``543Mc`` cycles."""
        if ns is None:
            return "-"
        if ns == 0:
            return "0"
        for least, unit, name in _CYCLES if self.cycles else _SHORT:
            if ns >= least:
                value = ns / unit
                return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}{name}"
        return f"{ns}c" if self.cycles else f"{ns}ns"

    def parse(self, text: str, option: str = "time", edge: Literal["exact", "first", "last"] = "exact") -> int:
        """Read a time: seconds of the recording's clock, ``+1.5`` from its start, or with a suffix ns, us, ms, s.

        :param edge: what a stamp as `stamp` shows it (seconds, at most six decimals) stands for: itself, or the first
            or the last ns that is shown so; records at a stamp that was copied from a report are then included
        :raises UsageError: the text is no time
        """
        found = _TIME.fullmatch(text.strip())
        if found is None or (found["whole"] is None and not found["part"]):
            raise UsageError(
                f"{option}: {text!r} is no time; give seconds of the recording's clock (163.25), a time from its start "
                "(+1.5), or either with ns, us, ms (163250000000ns)"
            )
        if self.cycles and (found["unit"] or found["part"]):
            raise UsageError(
                f"{option}: this recording's clock counts cycles; give a whole number of cycles, or +N from its start"
            )
        unit = 1 if self.cycles else _UNITS[found["unit"] or ""]
        part = found["part"] or ""
        # Exact: digits beyond a nanosecond are dropped, never rounded through a float.
        ns = int(found["whole"] or 0) * unit + (int(part) * unit // 10 ** len(part) if part else 0)
        if found["rel"]:
            return ns + self.start
        if unit != _S or len(part) > 6 or edge == "exact":
            return ns
        return max(ns - 500, 0) if edge == "first" else ns + 499


_SHORT = (
    (359_640 * _S, 86_400 * _S, "d"),
    (9_994 * _S, 3_600 * _S, "h"),
    (999_500_000, _S, "s"),
    (999_500, 1_000_000, "ms"),
    (1_000, 1_000, "us"),
)
_CYCLES = ((999_500_000_000, 10**12, "Tc"), (999_500_000, 10**9, "Gc"), (999_500, 10**6, "Mc"), (1_000, 10**3, "kc"))
