"""Timers in jiffies: include/linux/timer.h, v4.19.  What works on them is in kernel/time/timer.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskscope.model.machine import Cpu


class TimerList:
    """struct timer_list; ``owner`` is what from_timer() would find."""

    __slots__ = ("base", "expires", "function", "node", "owner")

    def __init__(self, function: Callable[[TimerList], None], owner: Any = None) -> None:
        self.expires = 0                        # jiffies
        self.function = function
        self.owner = owner
        self.base: Cpu | None = None            # the CPU whose wheel it is, or was last, on
        self.node: tuple[int, int, TimerList] | None = None


def timer_setup(timer: TimerList, function: Callable[[TimerList], None]) -> None:
    """Prepare a timer."""
    timer.function = function
    timer.node = None


def timer_pending(timer: TimerList) -> bool:
    """Tell whether the timer is on a wheel."""
    return timer.node is not None
