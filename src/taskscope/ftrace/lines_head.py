"""The head of a line: ``comm-pid [cpu] flags seconds.microseconds: ``, for many rows at once.

Layout of trace_print_context() in the kernel's kernel/trace/trace_output.c (v6.18).  The column of thread group ids
is there where the recording has them saved for its tasks (the kernel prints it when the option record-tgid is set).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.abi.era import Version
from taskscope.abi.traceflags import flags_text
from taskscope.ftrace.printfmt.cache import SlotCache
from taskscope.ftrace.printfmt.numbers import digit_count, eight_digits, number
from taskscope.ftrace.printfmt.pieces import Cut, Literal, Piece, Word
from taskscope.ftrace.printfmt.plain import escaped
from taskscope.ftrace.printfmt.spec import Spec

Column = npt.NDArray[Any]

_MILLION = np.uint64(1_000_000)
_THOUSAND = np.uint64(1_000)

def _three() -> npt.NDArray[np.uint64]:
    """The digits of 0 to 999, the first lowest."""
    return np.array([int.from_bytes(b"%03d" % n, "little") for n in range(1000)], np.uint64)


_THREE = _three()
_COLON = np.uint64(int.from_bytes(b": ", "little") << 48)


def _counter(stamps: Column) -> list[Piece]:
    """Make ``%12llu``; nothing is written behind the last 8 digits, because the body follows."""
    high = stamps // np.uint64(10**8)
    low = stamps - high * np.uint64(10**8)
    shown = np.where(high > 0, 8, digit_count(low, 10, 10**8 - 1)).astype(np.uint64)
    # A zero is a space plus 16.
    blank = (np.uint64(1) << (np.uint64(8) * np.minimum(np.uint64(8) - shown, np.uint64(7)))) - np.uint64(1)
    word = eight_digits(low, 10, 10**8 - 1) - (blank & np.uint64(0x1010101010101010))
    upper = number(Spec("u", "", 4, None, "ll"), high)
    none = (high == 0).view(np.uint8)
    if none.any():
        upper = [Cut(b"    ", none * 4), *(_only(p, high > 0) for p in upper)]
    return [*upper, Word(word, 8)]


def _only(piece: Piece, rows: Column) -> Piece:
    """Keep a piece in some rows, make it empty in the others."""
    piece.length = np.where(rows, piece.length, 0)
    return piece


class Heads:
    """Writes heads.

    :param cmdlines: last comm known of each pid
    :param tgids: thread group of each task; empty: no such column
    :param cycles: the clock counts cycles, so stamps are shown as numbers
    :param kernel: version that was recorded, None if unknown
    """

    def __init__(self, cmdlines: Mapping[int, bytes], tgids: Mapping[int, int], cycles: bool,
                 kernel: Version | None) -> None:
        self._cmdlines = cmdlines
        self._tgids = tgids
        self._cycles = cycles
        self._kernel = kernel
        self._comms: dict[bytes, int] = {}
        self._comm_of: list[bytes] = []
        # What these write behind their ends must not reach into the body: the task's text has 25 bytes (so none are
        # behind it) unless a column or an escape makes it longer, the place and the time have 26 in all.
        self._tasks = SlotCache(self._make_tasks, 25)
        self._named = SlotCache(self._make_named, 25)
        self._places = SlotCache(self._make_places)
        self._seconds = SlotCache(lambda keys: [b" %5d." % k for k in keys.tolist()], 8)

    def pieces(self, pids: Column, cpus: Column, flags: Column, ts: Column,
               comms: Sequence[bytes] | None) -> list[Piece]:
        """Make the heads of rows.

        :param flags: common_flags, and common_preempt_count in the high byte
        :param comms: the comm of each row; None: as saved
        """
        tasks = pids.astype(np.int64).view(np.uint64)
        if comms is None:
            task = self._tasks.piece(tasks)
        else:
            task = self._named.piece((tasks & np.uint64(0xFFFFFFFF)) | (self._numbers(comms) << np.uint64(32)))
        place = self._places.piece((cpus.astype(np.uint64) << np.uint64(16)) | flags.astype(np.uint64))
        return [task, place, *self.time(ts)]

    def time(self, ts: Column) -> list[Piece]:
        """Make the time stamps, with the colon behind them; the last 8 bytes are written exactly."""
        stamps = ts.astype(np.int64, copy=False).view(np.uint64)
        if self._cycles:
            return [Literal(b" "), *_counter(stamps), Literal(b": ")]
        us = (stamps + np.uint64(500)) // _THOUSAND           # as ns2usecs() rounds
        seconds = us // _MILLION
        us -= seconds * _MILLION
        upper = us // _THOUSAND
        word = _THREE.take(upper.view(np.int64))
        word |= _THREE.take((us - upper * _THOUSAND).view(np.int64)) << np.uint64(24)
        return [self._seconds.piece(seconds), Word(word | _COLON, 8)]

    # ---- texts that are made once -----------------------------------------------------------------------------------

    def comm(self, pid: int) -> bytes:
        """Return the saved comm of a pid, as trace_find_cmdline() does."""
        if pid == 0:
            return b"<idle>"
        if pid < 0:
            return b"<XXX>"
        return self._cmdlines.get(pid, b"<...>")

    def _task(self, pid: int, comm: bytes) -> bytes:
        text = b" " * (16 - len(comm)) + escaped(comm) + b"-%-7d " % pid
        if self._tgids:
            tgid = self._tgids.get(pid, 0)
            text += b"(%7d) " % tgid if tgid else b"(-------) "
        return text

    def _make_tasks(self, keys: Column) -> list[bytes]:
        return [self._task(pid, self.comm(pid)) for pid in keys.view(np.int64).tolist()]

    def _make_named(self, keys: Column) -> list[bytes]:
        pids = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.int32).tolist()
        return [self._task(pid, self._comm_of[c])
                for pid, c in zip(pids, (keys >> np.uint64(32)).tolist(), strict=True)]

    def _numbers(self, comms: Sequence[bytes]) -> Column:
        """Number comms; the numbers stay as long as the writer lives."""
        numbers = self._comms
        try:
            found = list(map(numbers.__getitem__, comms))
        except KeyError:
            for new in set(comms) - numbers.keys():
                numbers[new] = len(self._comm_of)
                self._comm_of.append(new)
            found = list(map(numbers.__getitem__, comms))
        return np.array(found, np.uint64)

    def _make_places(self, keys: Column) -> list[bytes]:
        texts = []
        for key in keys.tolist():
            shown = flags_text(key & 0xFF, (key >> 8) & 0xFF, self._kernel)
            texts.append(b"[%03d] " % (key >> 16) + shown.encode())
        return texts
