"""A recording as people use it: a `Trace` that knows its lives.

Stands at the front door because it joins rooms that may not know each other: the readers (ftrace), the meaning
(lives) and what a person sees (views).
"""

from __future__ import annotations

from functools import cached_property
from os import PathLike, fspath
from typing import TYPE_CHECKING

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
