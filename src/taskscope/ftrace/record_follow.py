"""The pages of both instances, for who follows a recording while it grows.

What the second instance has of tasks that are not of this recording is discarded on the way, as at the end of a
recording (see `taskscope.ftrace.record_outside`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from taskscope.ftrace.pages import parse_header_page
from taskscope.ftrace.record_outside import Kinds, Ours
from taskscope.ftrace.record_pages import big_endian, births_of, clean
from taskscope.ftrace.spool import SpoolInfo

if TYPE_CHECKING:
    from taskscope.ftrace.record_order import Follow, FollowSetup


class Both:
    """Passes pages on to a follower.

    :param follow: the follower
    :param info: of the recording
    """

    def __init__(self, follow: Follow, setup: FollowSetup, info: SpoolInfo) -> None:
        self._follow = follow
        self._info = info
        self._kinds = Kinds.of(setup.formats)
        self._layout = parse_header_page(setup.header_page, setup.long_size)
        self._ours = Ours(info.tasks)
        self._held: list[tuple[int, bytes]] = []

    @property
    def closed(self) -> bool:
        """Tell whether nobody is there to see it any more."""
        return self._follow.closed

    def feed(self, cpu: int, pages: bytes) -> None:
        """Take pages of the recording."""
        if self._info.outside and self._info.children:
            data = np.frombuffer(pages, np.uint8)
            for ts, pid in births_of(data, self._layout, self._info.page_size, big_endian(), self._kinds):
                self._ours.born(ts, pid)
        self._follow.feed(cpu, pages)

    def feed_outside(self, cpu: int, pages: bytes) -> None:
        """Take pages of the second instance, which is read before the other: they wait for the births there."""
        self._held.append((cpu, pages))

    def tick(self) -> None:
        """Know that all buffers have been read just now."""
        self._release()
        self._follow.tick()

    def end(self) -> None:
        """Know that nothing more comes."""
        self._release()
        self._follow.end()

    def _release(self) -> None:
        for cpu, pages in self._held:
            data = np.frombuffer(bytearray(pages), np.uint8)
            clean(data, self._layout, self._info.page_size, big_endian(), self._kinds, self._ours)
            self._follow.feed_outside(cpu, data.tobytes())
        self._held.clear()
