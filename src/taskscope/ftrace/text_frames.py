r"""Call stacks in text: the lines below a record, and which record they belong to.

tracefs prints `` => name`` below a ``<stack trace>``, with offset and address if options ask for them; trace-cmd
``=> name (address)``; perf ``\taddress name+offset (file)`` below the sample itself.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_FRAME = re.compile(rb"^ {0,2}=> (.*)", re.MULTILINE)
#: what may stand behind a symbol: +0xoff/0xsize, [+0xoff] of a file, [module], <address>, (address)
_BEHIND = re.compile(rb"\+0x[0-9a-f]{1,8}(?:/0x[0-9a-f]{1,8})?|\[\+0x[0-9a-f]{1,16}\]| \[[^\s\]]{1,63}\]"
                     rb"| [<(][0-9a-f]{1,16}[>)]")
_ADDRESS = re.compile(rb"(?:0x|<)?([0-9a-f]{6,16})>?\Z")
_PERF_FRAME = re.compile(rb"^\t {0,32}([0-9a-f]{1,16}) ([^\n]{1,4096})", re.MULTILINE)
#: dso names of user space that stand in brackets as the kernel's do
_USER = (b"([unknown])", b"([vdso])", b"([vsyscall])", b"([heap])", b"([stack])", b"([anon])")

#: how many records of its cpu may stand between a stack and the record it belongs to
_REACH = 64
#: hardirq, softirq, NMI of common_flags
_CONTEXT = 0x58


class PerfFrame(NamedTuple):
    """One line of a call chain."""

    name: str
    kernel: bool


def perf_frames(text: bytes) -> list[PerfFrame]:
    """Return the frames of the call chain of one sample of perf, innermost first."""
    frames = []
    for m in _PERF_FRAME.finditer(text):
        address, rest = m[1], m[2].rstrip()
        symbol, _, place = rest.rpartition(b" ")
        name = symbol.split(b" ", 1)[0].split(b"+0x", 1)[0] if symbol else rest
        kernel = int(address, 16) >> 63 == 1 or place.endswith((b".ko)", b".ko.xz)", b".ko.zst)"))
        kernel = kernel or (place.startswith(b"([") and place not in _USER)
        unnamed = not name or name == b"[unknown]"
        frames.append(PerfFrame(f"{int(address, 16):#x}" if unnamed else _text(name), kernel))
    return frames


def symbols(text: bytes) -> tuple[str, ...]:
    """Return the names of the frames that tracefs or trace-cmd printed, innermost first, without their offsets.

    A frame without a name is its address, as hexadecimal.
    """
    found = []
    for line in _FRAME.findall(text):
        line = line.strip()
        address = _ADDRESS.match(line)
        if address:
            found.append(f"{int(address[1], 16):#x}")
        elif line:
            behind = _BEHIND.search(line)
            found.append(_text(line[:behind.start()] if behind else line))
    return tuple(found)


def shown(text: bytes) -> list[bytes]:
    """Return the frames' texts as tracefs shows them, what trace-cmd adds cut off."""
    return [re.sub(rb" \([0-9a-f]{1,16}\)\Z", b"", line.rstrip()) for line in _FRAME.findall(text)]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def storage_order(cpu: npt.NDArray[np.uint16], buffer: npt.NDArray[np.uint8], pid: npt.NDArray[np.int32],
                  flags: npt.NDArray[np.integer[Any]], stack: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64] | None:
    """Find the order in which every stack stands directly behind the record that it belongs to.

    In the text, records of other cpus, or of an interrupt on the same one, may stand between the two.

    :param stack: 0 for a record that is no call stack, 1 for a kernel stack, 2 for a user stack
    :return: the rows in that order; None if that is the order of the text
    """
    rows = np.flatnonzero(stack)
    if not len(rows):
        return None
    place = np.arange(len(cpu), dtype=np.int64)
    before = np.maximum(rows - 1, 0)
    direct = ((rows > 0) & (cpu[before] == cpu[rows]) & (buffer[before] == buffer[rows]) & (pid[before] == pid[rows])
              & ((flags[before] ^ flags[rows]) & _CONTEXT == 0) & (stack[before] == 0))
    place[rows[direct]] = before[direct]
    if not direct.all():
        _search(place, rows[~direct].tolist(), cpu.astype(np.int64) << 8 | buffer, pid, flags, stack)
    order = np.lexsort((stack, place))
    return None if (order == np.arange(len(order))).all() else order


def _search(place: npt.NDArray[np.int64], rows: list[int], track: npt.NDArray[np.int64], pid: npt.NDArray[np.int32],
            flags: npt.NDArray[np.integer[Any]], stack: npt.NDArray[np.uint8]) -> None:
    """Give stacks that do not stand directly behind their record its place: the nearest in the same context."""
    order = np.argsort(track, kind="stable")
    at = np.empty(len(order), np.int64)
    at[order] = np.arange(len(order))
    placed = np.flatnonzero((stack > 0) & (place != np.arange(len(place))))
    taken = set(zip(place[placed].tolist(), stack[placed].tolist(), strict=True))
    for row in rows:
        position, kind = int(at[row]), int(stack[row])
        for k in range(position - 1, max(position - 1 - _REACH, -1), -1):
            near = int(order[k])
            if track[near] != track[row]:
                break
            if not stack[near] and (near, kind) not in taken and pid[near] == pid[row] \
                    and (int(flags[near]) ^ int(flags[row])) & _CONTEXT == 0:
                taken.add((near, kind))
                place[row] = near
                break
