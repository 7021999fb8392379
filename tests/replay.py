"""Replays the pages of a recording through the follower, as a recorder reads them: by rounds, cpu after cpu."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lives_json import readable
from taskscope.follow import Follower
from taskscope.ftrace.open import open_source
from taskscope.ftrace.pages import PageWalker
from taskscope.ftrace.ring import RingSource
from taskscope.lives.happenings import Happening

Chunk = tuple[int, bytes]


@cache
def source_of(path: Path) -> RingSource:
    """Open a recording of ring-buffer pages, its first buffer if there are several."""
    source = open_source(str(readable(path)))
    if len(source.buffers) > 1:
        source = open_source(str(readable(path)), buffer=source.buffers[0])
    assert isinstance(source, RingSource)
    return source


def pages_of(path: Path) -> dict[int, list[bytes]]:
    """Return the pages of a recording by cpu, oldest first."""
    source = source_of(path)
    (buffer,) = [b for b in source.recorded.buffers if b.name == source.buffers[0]]
    found: dict[int, list[bytes]] = {}
    for c in buffer.cpus:
        data = source.recorded.data[c.offset:c.offset + c.size].tobytes()
        found[c.cpu] = [data[k:k + buffer.page_size] for k in range(0, len(data), buffer.page_size)]
    return found


def follower_of(path: Path, **options: Any) -> Follower:
    """Make the follower for the kernel of a recording."""
    source = source_of(path)
    rec = source.recorded
    (buffer,) = [b for b in rec.buffers if b.name == source.buffers[0]]
    cmdlines = b"".join(b"%d %s\n" % (pid, comm) for pid, comm in rec.cmdlines.items())
    return Follower(rec.header_page, rec.formats, rec.kallsyms, cmdlines, tgids=rec.tgids, long_size=rec.long_size,
                    big_endian=rec.big_endian, page_size=buffer.page_size, machine=rec.machine, **options)


def at_once(path: Path, **options: Any) -> list[Happening]:
    """Follow a recording whose pages all come at once."""
    follower = follower_of(path, **options)
    for cpu, pages in pages_of(path).items():
        follower.feed(cpu, b"".join(pages))
    return follower.end()


def rounds(path: Path, times: Iterable[int]) -> list[list[Chunk]]:
    """Cut the pages of a recording at times, as reading at those times would have: pages are read partly filled.

    The rest of a page begins, as in ring_buffer_read_page(), with the time stamp of the last record that was read.

    :return: for each round, the pages of all cpus, then a last round with what is left
    """
    source = source_of(path)
    out: list[list[Chunk]] = []
    left = {cpu: list(pages) for cpu, pages in pages_of(path).items()}
    for until in [*sorted(times), None]:
        now: list[Chunk] = []
        for cpu, pages in left.items():
            while pages:
                page = pages.pop(0)
                done, rest = (page, None) if until is None else cut(page, until, source)
                if done is not None:
                    now.append((cpu, done))
                if rest is not None:
                    pages.insert(0, rest)
                    break
        out.append(now)
    return out


def cut(page: bytes, until: int, source: RingSource) -> tuple[bytes | None, bytes | None]:
    """Cut a page behind its last record that is not later than a time: what was read then, and what comes later."""
    layout, big = source.layout, source.recorded.big_endian
    order = "big" if big else "little"
    walker = PageWalker(np.frombuffer(page, np.uint8), big, layout, len(page))
    offsets = np.zeros(1, np.int64)
    w = walker.walk(offsets, walker.lengths(offsets, np.array([len(page)])))
    if not len(w.ts) or int(w.ts[-1]) <= until:
        return page, None
    k = int(np.searchsorted(w.ts, until, side="right"))
    if k == 0:
        return None, page
    # A time extend may stand before a record: the cut is behind the record before it.
    last = w.head[k - 1:k]
    behind = int(walker.data_words(last)[0]) * 4 + -(-int(walker.sizes(last)[0]) // 4) * 4
    commit = int.from_bytes(page[layout.commit:layout.commit + layout.commit_size], order)
    length = commit & ((1 << 30) - 1)
    flags = commit & ~((1 << 30) - 1)
    done = behind - layout.data

    def made(ts: bytes, commit: int, body: bytes) -> bytes:
        head = ts + page[8:layout.commit] + commit.to_bytes(layout.commit_size, order)
        return (head.ljust(layout.data, b"\0") + body).ljust(len(page), b"\0")

    first = made(page[:8], done | (flags & ~(1 << 30)), page[layout.data:behind])
    rest = made(int(w.ts[k - 1]).to_bytes(8, order), length - done, page[behind:layout.data + length])
    return first, rest


def in_rounds(path: Path, chunks: Iterable[list[Chunk]], shuffle: Callable[[list[Chunk]], list[Chunk]] = list,
              **options: Any) -> list[Happening]:
    """Follow a recording round by round; takes what can be told after each.

    :param shuffle: puts the chunks of a round into another order
    """
    follower = follower_of(path, **options)
    found: list[Happening] = []
    for chunk in chunks:
        for cpu, page in shuffle(chunk):
            follower.feed(cpu, page)
        follower.tick(0.0)
        found += follower.take()
    return found + follower.end()
