"""Completions: include/linux/completion.h, v4.19.  What works on them is in kernel/sched/completion.py."""

from __future__ import annotations

from taskscope.model.include.linux.wait import WaitQueueHead


class Completion:
    """struct completion."""

    __slots__ = ("done", "wait")

    def __init__(self) -> None:
        self.done = 0
        self.wait = WaitQueueHead("completion.wait")


def init_completion(x: Completion) -> None:
    """Make nothing be completed."""
    x.done = 0


def reinit_completion(x: Completion) -> None:
    """Make nothing be completed, for a completion that was in use."""
    x.done = 0
