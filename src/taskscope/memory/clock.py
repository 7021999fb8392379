"""What time it is in kernel memory: `clock_of`, out of the timekeeper (include/linux/timekeeper_internal.h, v6.12).

It is that of the last tick: a CPU that reads the clock adds what has passed since then, which memory does not hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taskscope.memory.image import Clock

if TYPE_CHECKING:
    from taskscope.memory.fields import Fields

_S: Final = 1_000_000_000
#: what tk_core holds before its timekeeper: seqcount_raw_spinlock_t since v5.10, seqcount_t before
_SEQCOUNTS: Final = ("seqcount_raw_spinlock", "seqcount")


def clock_of(memory: Fields) -> Clock | None:
    """Read the clocks; None if they are not found."""
    core = memory.image.symbol("tk_core")
    if core is None:
        return None
    # Since v6.13 it is struct tk_data, which has a name.
    inside = memory.types.member("tk_data", "timekeeper")
    before = next((size for name in _SEQCOUNTS if (size := memory.types.size(name))), None)
    if inside is None and before is None:
        return None
    offset = inside.offset if inside is not None else (before or 0) + 7 & ~7
    keeper = memory.struct("timekeeper", core + offset)
    base, part, shift, wall, slept = (memory.number(keeper, path) for path in (
        "tkr_mono.base", "tkr_mono.xtime_nsec", "tkr_mono.shift", "xtime_sec", "offs_boot"))
    if base is None or part is None or shift is None or wall is None or not 0 <= shift < 64:
        return None
    now = base + (part >> shift)
    # xtime_nsec is the part of both clocks that is less than a second.
    return Clock(now, None if slept else (wall * _S + (part >> shift) - now) // _S)
