"""The passes over the pages of a recording that has ended: what they hold, and what does not belong there.

A ``stacktrace`` trigger also fires for records that the kernel then drops, because a filter or ``set_event_pid``
excludes them (event_triggers_post_call() after the discard, include/trace and kernel/trace/trace.c, 6.1 to 6.18): the
stack of somebody else's fork is left, without the fork, and a reader would take it for the stack of the record
before.  Such a stack is discarded here as ring_buffer.c's rb_event_discard() does it, in place.  So is what the second
instance recorded of tasks that are not of this recording (see `taskscope.ftrace.record_outside`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.formats import split_formats
from taskscope.ftrace.pages import MISSED_EVENTS, TYPE_PADDING, PageLayout, PageWalker, Walked, parse_header_page
from taskscope.ftrace.record_outside import IRQ, Kinds, Ours, Rows, births, ours_of, rows_of
from taskscope.ftrace.record_splice import Spliced, splice
from taskscope.ftrace.recorded import Buffer
from taskscope.ftrace.saved import parse_stats
from taskscope.ftrace.spool import OUTSIDE, OUTSIDE_NAME, SpoolInfo

_BLOCK = 4096
#: interrupted records between an event and its stack that are looked past
_BACK = 16
_FILE = re.compile(r"cpu(\d{1,5})\.raw")


@dataclass(slots=True)
class Counted:
    """What the pages of a spool hold.

    ``cpus`` are the pages to be written, ``births`` the (time, pid) of those in them.
    """

    events: int = 0
    lost: int | None = 0
    discarded: int = 0
    cpus: dict[int, Path | Spliced] = field(default_factory=dict)
    births: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StackRule:
    """Which records are stacks, and after which records one may stand (ids of event types)."""

    stack: int
    after: frozenset[int]


def big_endian() -> bool:
    """Tell the byte order of this machine's kernel."""
    return sys.byteorder == "big"


def stack_rule(formats: Collection[tuple[str, bytes]], info: SpoolInfo) -> StackRule | None:
    """Return the rule of a recording's stacks; None where every record may have one."""
    ids: dict[str, int] = {}
    for system, text in formats:
        m = re.search(rb"^name: (\S+)\nID: (\d{1,5})$", text, re.MULTILINE)
        if m:
            ids[f"{system}/{m[1].decode('utf-8', 'replace')}"] = int(m[2])
    if not info.stacks or "ftrace/kernel_stack" not in ids:
        return None
    return StackRule(ids["ftrace/kernel_stack"], frozenset(ids[e] for e in info.stacks if e in ids))


def go_through(folder: Path, info: SpoolInfo) -> Counted:
    """Count the records of a spool, and discard the stacks that belong to none.

    :raises OSError: its files cannot be read or written
    """
    counted = Counted()
    formats = split_formats(_text(folder / "formats"))
    rule = stack_rule(formats, info)
    kinds = Kinds.of(formats)
    layout = parse_header_page(_text(folder / "header_page"), info.long_size)
    files = _files(folder)
    counted.cpus.update(files)
    for path in files.values():
        lost: int | None = 0
        size = _size(path, info)
        if size:
            data = _map(path, size, "r+")
            lost = tidy(data, 0, size, layout, info.page_size, big_endian(), rule, counted, kinds)
        _add_lost(counted, _overrun(path) or lost)
    _add_outside(folder / OUTSIDE, info, kinds, layout, counted)
    return counted


def _add_outside(folder: Path, info: SpoolInfo, kinds: Kinds, layout: PageLayout, counted: Counted) -> None:
    """Put what others did to the recorded tasks among the records of their cpus."""
    if not folder.is_dir():
        return
    cpus: list[tuple[int, Rows, list[bytes]]] = []
    for cpu, path in _files(folder).items():
        size = _size(path, info)
        lost: int | None = 0
        if size:
            data = _map(path, size, "r")
            rows, records, lost = _outside(data, 0, size, layout, info.page_size, big_endian(), kinds)
            cpus.append((cpu, rows, records))
        _add_lost(counted, _overrun(path) or lost)
    ours = Ours(info.tasks)
    if info.children:
        for ts, pid in counted.births:
            ours.born(ts, pid)
    for (cpu, rows, records), keep in zip(cpus, ours_of([rows for _, rows, _ in cpus], ours, kinds), strict=True):
        added = [(int(rows.ts[k]), records[k]) for k in np.flatnonzero(keep)]
        pages = counted.cpus.get(cpu)
        if added and isinstance(pages, Path):
            counted.cpus[cpu] = splice(pages, _size(pages, info), info.page_size, layout, big_endian(), added)
            counted.events += len(added)


def clean_outside(data: npt.NDArray[np.uint8], buffers: Collection[Buffer], info: SpoolInfo,
                  formats: Collection[tuple[str, bytes]], layout: PageLayout, big: bool) -> None:
    """Discard what the second instance has of other tasks, in the pages of a spool that was read.

    :param data: an array that may be written
    :param buffers: of the recording; that of the second instance is found by its name
    """
    kinds = Kinds.of(formats)
    ours = Ours(info.tasks)
    outside = [b for b in buffers if b.name == OUTSIDE_NAME]
    for buffer in buffers:
        if info.children and buffer not in outside:
            for c in buffer.cpus:
                walker = PageWalker(data, big, layout, buffer.page_size)
                for _, w in _walks(walker, c.offset, c.size):
                    for ts, pid in births(walker, w, kinds):
                        ours.born(ts, pid)
    for buffer in outside:
        walker = PageWalker(data, big, layout, buffer.page_size)
        parts = [_outside(data, c.offset, c.size, layout, buffer.page_size, big, kinds)[0] for c in buffer.cpus]
        for rows, keep in zip(parts, ours_of(parts, ours, kinds), strict=True):
            _discard(walker, rows.head[~keep])


def births_of(data: npt.NDArray[np.uint8], layout: PageLayout, page_size: int, big: bool,
              kinds: Kinds) -> list[tuple[int, int]]:
    """Return (time, pid) of the births in pages."""
    walker = PageWalker(data, big, layout, page_size)
    return [birth for _, w in _walks(walker, 0, len(data)) for birth in births(walker, w, kinds)]


def clean(data: npt.NDArray[np.uint8], layout: PageLayout, page_size: int, big: bool, kinds: Kinds,
          ours: Ours) -> None:
    """Discard, in pages of one cpu of the second instance, what is not about recorded tasks."""
    rows = _outside(data, 0, len(data), layout, page_size, big, kinds)[0]
    _discard(PageWalker(data, big, layout, page_size), rows.head[~ours_of([rows], ours, kinds)[0]])


def _outside(data: npt.NDArray[np.uint8], start: int, size: int, layout: PageLayout, page_size: int, big: bool,
             kinds: Kinds) -> tuple[Rows, list[bytes], int | None]:
    """Return the records of a cpu of the second instance: rows, their data, and how many are missing."""
    walker = PageWalker(data, big, layout, page_size)
    parts: list[Rows] = []
    records: list[bytes] = []
    lost: int | None = 0
    for block, w in _walks(walker, start, size):
        parts.append(rows_of(walker, w, kinds))
        at, sizes = (walker.data_words(w.head) * 4).tolist(), walker.sizes(w.head).tolist()
        records += [data[a:a + n].tobytes() for a, n in zip(at, sizes, strict=True)]
        lost = _missing(walker, block, lost)
    rows = Rows(*(np.concatenate([getattr(p, name) for p in parts]) for name in Rows.__slots__))
    return rows, records, lost


def _walks(walker: PageWalker, start: int, size: int) -> Iterator[tuple[npt.NDArray[np.int64], Walked]]:
    page_size = walker.page_size
    offsets = start + np.arange(0, size // page_size * page_size, page_size, dtype=np.int64)
    # One empty block at least, so that there is something to join.
    for k in range(0, max(len(offsets), 1), _BLOCK):
        block = offsets[k:k + _BLOCK]
        yield block, walker.walk(block, walker.lengths(block, np.full(len(block), page_size, np.int64)))


def _missing(walker: PageWalker, block: npt.NDArray[np.int64], lost: int | None) -> int | None:
    """Add what the pages of a block say was lost before them."""
    for page in np.flatnonzero(walker.commits(block) & np.uint32(MISSED_EVENTS)).tolist():
        _, count = walker.missed(int(block[page]), walker.page_size)
        lost = None if count is None or lost is None else lost + count
    return lost


def _files(folder: Path) -> dict[int, Path]:
    files = {int(m[1]): p for p in folder.iterdir() if (m := _FILE.fullmatch(p.name)) and not p.is_symlink()}
    return dict(sorted(files.items()))


def _size(path: Path, info: SpoolInfo) -> int:
    return path.stat().st_size // info.page_size * info.page_size


def _map(path: Path, size: int, mode: Literal["r", "r+"]) -> npt.NDArray[np.uint8]:
    return np.memmap(path, np.uint8, mode, shape=(size,))


def _overrun(pages: Path) -> int:
    """Return what the kernel counted as overwritten; the pages say it where it happened."""
    stats = parse_stats(_text(pages.with_suffix(".stats")))
    return (stats.overrun or 0) + (stats.dropped or 0)


def _add_lost(counted: Counted, lost: int | None) -> None:
    counted.lost = None if lost is None or counted.lost is None else counted.lost + lost


def tidy(data: npt.NDArray[np.uint8], start: int, size: int, layout: PageLayout, page_size: int, big: bool,
         rule: StackRule | None, counted: Counted, kinds: Kinds | None = None) -> int | None:
    """Count the records of one cpu, and discard the stacks that belong to none.

    :param data: an array that may be written; the cpu's pages are `size` bytes from `start`
    :param kinds: collects the births, if given
    :return: how many events its pages say were lost before them, None if some say only that it happened
    """
    walker = PageWalker(data, big, layout, page_size)
    lost: int | None = 0
    before = _Last()
    for block, w in _walks(walker, start, size):
        counted.events += len(w.ts)
        if kinds is not None:
            counted.births += births(walker, w, kinds)
        missed = np.flatnonzero(walker.commits(block) & np.uint32(MISSED_EVENTS))
        lost = _missing(walker, block, lost)
        if rule is not None and len(w.ts):
            orphans = _orphans(walker, w, rule, before, missed)
            _discard(walker, w.head[orphans])
            counted.discarded += len(orphans)
            counted.events -= len(orphans)
    return lost


@dataclass(slots=True)
class _Last:
    """The last record of the block before."""

    id: int = -1
    pid: int = -1


def _orphans(walker: PageWalker, w: Walked, rule: StackRule, before: _Last,
             missed: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the numbers of the stack records that do not follow a record that has one."""
    stacks = np.flatnonzero(w.id == rule.stack)
    common = walker.data_words(w.head)
    pids = walker.words.take(common + 1)
    first = walker.words.take(common)
    flags = ((first >> 8) if walker.big_endian else (first >> 16)) & 0xFF
    has = np.isin(w.id, np.fromiter(rule.after, np.uint16, len(rule.after)))
    after_gap = w.first[missed]
    orphan = np.zeros(len(stacks), bool)
    at = stacks - 1
    open_ = np.arange(len(stacks))
    for _ in range(_BACK):
        if not len(open_):
            break
        a, s = at[open_], stacks[open_]
        # What stood before a gap is unknown, and so is whose stack this is: it stays.
        unknown = np.isin(a + 1, after_gap)
        outside = a < 0
        index = np.maximum(a, 0)
        fits = np.where(outside, (before.id in rule.after) & (pids[s] == np.uint32(before.pid & 0xFFFFFFFF)),
                        has[index] & (pids[index] == pids[s]))
        # An interrupt may have come between an event and its stack.
        between = ~outside & ~unknown & ~fits & ((flags[index] & IRQ) > (flags[s] & IRQ))
        orphan[open_] = ~fits & ~unknown & ~between
        at[open_] -= 1
        open_ = open_[between]
    before.id, before.pid = int(w.id[-1]), int(pids[-1])
    return stacks[orphan]


def _discard(walker: PageWalker, heads: npt.NDArray[Any]) -> None:
    """Make discarded events of records: padding that keeps its time, and has its length in the next word."""
    if not len(heads):
        return
    words = walker.words
    head = words.take(heads).astype(np.uint32)
    big = walker.big_endian
    kind, delta = ((head >> 27), head & 0x7FFFFFF) if big else ((head & 31), head >> 5)
    # Padding without a delta would end the page; the kernel gives it one too.
    delta = np.maximum(delta, 1).astype(np.uint32)
    length = np.where(kind == 0, words.take(heads.astype(np.int64) + 1).astype(np.uint32), kind * 4)
    kept = np.uint32(TYPE_PADDING)
    words[heads] = ((kept << np.uint32(27)) | delta) if big else ((delta << np.uint32(5)) | kept)
    words[heads.astype(np.int64) + 1] = length


def _text(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
