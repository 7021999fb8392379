"""A recording as people use it: a `Trace` that knows its lives.

Stands at the front door because it joins rooms that may not know each other: the readers (ftrace), the meaning
(lives) and what a person sees (views).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskscope.errors import TaskscopeError, UsageError
from taskscope.trace.trace import Trace

if TYPE_CHECKING:
    from taskscope.lives.life import Life
    from taskscope.lives.lives import Lives


class Recording(Trace):
    """A `Trace` with the lives of its tasks.

    >>> import taskscope
    >>> t = taskscope.open("tests/data/d05-zombie.dat")
    >>> t.life(158).exit.cause
    'exit'
    """

    @classmethod
    def open(cls, path: str | PathLike[str], *, buffer: str | None = None) -> Recording:
        """See `taskscope.open`."""
        from taskscope.ftrace.open import open_source

        return cls(open_source(fspath(path), buffer=buffer))

    @classmethod
    def record(cls, command: Sequence[str], output: str | PathLike[str], *, everything: bool, seconds: float | None,
               pids: Sequence[int], stacks: str, **more: Any) -> Recording:
        """See `taskscope.record`."""
        from taskscope.ftrace.record import Recorder
        from taskscope.ftrace.record_order import Order

        if isinstance(command, str):
            raise UsageError(f"a command is a list of words: {command.split()!r}")
        if stacks not in ("rare", "all", "none"):
            raise UsageError(f"stacks are 'rare', 'all' or 'none', not {stacks!r}")
        if not command and not pids:
            everything = True
        if everything and not command and seconds is None:
            raise UsageError("without a command or pids recording ends by time alone: give seconds")
        order = Order(output=Path(output), command=tuple(command), pids=tuple(pids), everything=everything,
                      seconds=seconds, stacks=stacks, **more)
        result = Recorder(order).run()
        if result.signal is not None:
            # It came for this process, and was held back while it recorded.
            os.kill(os.getpid(), result.signal)
        if result.failed:
            kept = f"; what was recorded is kept in {result.spool}" if result.spool is not None else ""
            raise TaskscopeError(f"{result.failed}{kept}")
        return cls.open(output)

    @cached_property
    def lives(self) -> Lives:
        """The life of every task in the recording."""
        from taskscope.lives.lives import Lives

        def story(life: Life) -> str:
            from taskscope.views.story import story_text

            return story_text(life, self)

        return Lives(self, story=story)

    def life(self, task: str | int | tuple[int, int]) -> Life:
        """Return one life.

        :param task: pid, comm, ``pid:comm``, ``pid.generation`` or (pid, generation)
        :raises NoSuchTaskError: none fits
        :raises AmbiguousTaskError: more than one fits; the message lists them
        """
        return self.lives.get(task)
