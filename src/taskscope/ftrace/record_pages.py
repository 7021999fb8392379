"""One pass over the pages of a recording that has ended: what they hold, and what does not belong there.

A ``stacktrace`` trigger also fires for records that the kernel then drops, because a filter or ``set_event_pid``
excludes them (event_triggers_post_call() after the discard, include/trace and kernel/trace/trace.c, 6.1 to 6.18): the
stack of somebody else's fork is left, without the fork, and a reader would take it for the stack of the record
before.  Such a stack is discarded here as ring_buffer.c's rb_event_discard() does it, in place.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.pages import MISSED_EVENTS, TYPE_PADDING, PageLayout, PageWalker, Walked, parse_header_page
from taskscope.ftrace.rawdir import split_formats
from taskscope.ftrace.saved import parse_stats
from taskscope.ftrace.spool import SpoolInfo

_BLOCK = 4096
#: interrupted records between an event and its stack that are looked past
_BACK = 16
#: common_flags: in an interrupt, in a softirq (TRACE_FLAG_HARDIRQ, TRACE_FLAG_SOFTIRQ)
_IRQ = 0x08 | 0x10
_FILE = re.compile(r"cpu(\d{1,5})\.raw")


@dataclass(slots=True)
class Counted:
    """What the pages of a spool hold; ``buffers`` are the files of pages by buffer and cpu."""

    events: int = 0
    lost: int | None = 0
    discarded: int = 0
    buffers: dict[str, dict[int, Path]] = field(default_factory=dict)


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
    rule = stack_rule(split_formats(_text(folder / "formats")), info)
    layout = parse_header_page(_text(folder / "header_page"), info.long_size)
    files = {int(m[1]): p for p in folder.iterdir() if (m := _FILE.fullmatch(p.name))}
    counted.buffers[""] = dict(sorted(files.items()))
    for cpu, path in counted.buffers[""].items():
        size = path.stat().st_size // info.page_size * info.page_size
        overrun = 0
        for name in ("overrun", "dropped"):
            overrun += getattr(parse_stats(_text(folder / f"cpu{cpu}.stats")), name) or 0
        lost: int | None = 0
        if size:
            data = np.memmap(path, np.uint8, "r+", shape=(size,))
            lost = tidy(data, 0, size, layout, info.page_size, big_endian(), rule, counted)
            data.flush()
            del data
        # The kernel counts what was overwritten; the pages say it where it happened.
        lost = overrun or lost
        counted.lost = None if lost is None or counted.lost is None else counted.lost + lost
    return counted


def tidy(data: npt.NDArray[np.uint8], start: int, size: int, layout: PageLayout, page_size: int, big: bool,
         rule: StackRule | None, counted: Counted) -> int | None:
    """Count the records of one cpu, and discard the stacks that belong to none.

    :param data: an array that may be written; the cpu's pages are `size` bytes from `start`
    :return: how many events its pages say were lost before them, None if some say only that it happened
    """
    walker = PageWalker(data, big, layout, page_size)
    offsets = start + np.arange(0, size // page_size * page_size, page_size, dtype=np.int64)
    lost: int | None = 0
    before = _Last()
    for k in range(0, len(offsets), _BLOCK):
        block = offsets[k:k + _BLOCK]
        w = walker.walk(block, walker.lengths(block, np.full(len(block), page_size, np.int64)))
        counted.events += len(w.ts)
        missed = np.flatnonzero(walker.commits(block) & np.uint32(MISSED_EVENTS))
        for page in missed.tolist():
            _, count = walker.missed(int(block[page]), page_size)
            lost = None if count is None or lost is None else lost + count
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
        between = ~outside & ~unknown & ~fits & ((flags[index] & _IRQ) > (flags[s] & _IRQ))
        orphan[open_] = ~fits & ~unknown & ~between
        at[open_] -= 1
        open_ = open_[between]
    before.id, before.pid = int(w.id[-1]), int(pids[-1])
    return stacks[orphan]


def _discard(walker: PageWalker, heads: npt.NDArray[np.uint32]) -> None:
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
