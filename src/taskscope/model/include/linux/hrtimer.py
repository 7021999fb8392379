"""High-resolution timers: include/linux/hrtimer.h, v4.19.  What works on them is in kernel/time/hrtimer.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from taskscope.model.machine import Cpu

HRTIMER_NORESTART: Final = 0
HRTIMER_RESTART: Final = 1

HRTIMER_MODE_ABS: Final = 0
HRTIMER_MODE_REL: Final = 1

CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1


class Hrtimer:
    """struct hrtimer; ``owner`` is what container_of() would find.  Times are monotonic ns."""

    __slots__ = ("base", "clockid", "expires", "function", "mode", "node", "owner", "softexpires")

    def __init__(self, owner: Any = None) -> None:
        self.owner = owner
        self.clockid = CLOCK_MONOTONIC
        self.mode = HRTIMER_MODE_ABS
        self.expires = 0                        # fires then at the latest
        self.softexpires = 0                    # may fire from then on
        self.function: Callable[[Hrtimer], int] | None = None
        self.base: Cpu | None = None            # the CPU on whose queue it is, or was last
        self.node: tuple[int, int, Hrtimer] | None = None
