r"""Call stacks as tracefs prints them: a line ``<stack trace>``, then `` => name`` for each frame.

Follows trace_stack_print() and trace_user_stack_print() in the kernel's kernel/trace/trace_output.c (v6.18).  Stacks
repeat: each different one is made once.
"""

from __future__ import annotations

import numpy as np

from taskscope.ftrace.format import EventFormat
from taskscope.ftrace.lines_symbols import TRAMPOLINE
from taskscope.ftrace.printfmt.evaluate import Kernel
from taskscope.ftrace.printfmt.pieces import Chosen, Piece, Texts
from taskscope.ftrace.printfmt.records import PageRecords

#: different stacks kept; with more, they are made anew
_MOST = 1 << 16


class Stack:
    """The body of kernel_stack and user_stack records."""

    def __init__(self, fmt: EventFormat, kernel: Kernel, *, user: bool) -> None:
        caller = fmt.field("caller")
        if caller is None:
            raise ValueError("a stack without callers")
        self._caller = caller
        self._kernel = kernel
        self._user = user
        self.reach = caller.offset
        self._order = np.dtype(f"{'>' if kernel.big_endian else '<'}u{kernel.long_size}")
        self._reset()

    def _reset(self) -> None:
        self._texts = Texts(32)
        self._slots: dict[bytes, int] = {}

    def pieces(self, records: PageRecords) -> list[Piece]:
        """Make the text of records."""
        if len(self._slots) > _MOST:
            self._reset()
        # The kernel prints to the end of the record, whatever length the format gives the array.
        start = records.at + self._caller.offset
        end = records.at + records.sizes
        data = records.data
        raw = [data[a:b].tobytes() for a, b in zip(start.tolist(), end.tolist(), strict=True)]
        slots = self._slots
        found = [slots.get(r, -1) for r in raw]
        if -1 in found:
            new = [r for r in dict.fromkeys(raw) if r not in slots]
            first = self._texts.add(self._make(new))
            slots.update(zip(new, range(first, first + len(new)), strict=True))
            found = [slots[r] for r in raw]
        return [Chosen(self._texts, np.array(found, np.int64))]

    def _make(self, stacks: list[bytes]) -> list[bytes]:
        frames = [self._frames(s) for s in stacks]
        addresses = list({a for f in frames for a in f})
        if self._user:
            names = [b" <%0*x>" % (2 * self._kernel.long_size, a) for a in addresses]
        else:
            names = self._kernel.symbols(addresses, "ip")
        name = dict(zip(addresses, names, strict=True))
        if not self._user:
            name[TRAMPOLINE] = b"[FTRACE TRAMPOLINE]"
        head = b"<user stack trace>\n" if self._user else b"<stack trace>\n"
        return [head + b"".join(b" => " + name[a] + b"\n" for a in f) for f in frames]

    def _frames(self, raw: bytes) -> list[int]:
        raw = raw[:len(raw) // self._order.itemsize * self._order.itemsize]
        frames: list[int] = np.frombuffer(raw, self._order).tolist()
        stop = 0 if self._user else (1 << (8 * self._kernel.long_size)) - 1
        return frames[:frames.index(stop)] if stop in frames else frames

