"""The options of a trace.dat, from the one list of version 6 or the chain of sections of version 7.

Numbers and layouts as in trace-cmd.dat.v7(5) and trace-cmd's lib/trace-cmd/trace-input.c (3.4).  An option
that is not known is skipped by its size; a damaged one leaves a note and costs only itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

from taskscope.ftrace.reader import Cursor, DamageError, Notes, show
from taskscope.ftrace.recorded import TscConversion
from taskscope.ftrace.saved import parse_clock

#: option lists longer than this are damage
OPTIONS_MAX = 100_000
BUFFERS_MAX = 255
CPUS_MAX = 65_535
NAME_MAX = 4096


class Option(IntEnum):
    """Option ids, which are the ids of the sections too."""

    DONE = 0
    DATE = 1
    CPUSTAT = 2
    BUFFER = 3
    TRACECLOCK = 4
    UNAME = 5
    HOOK = 6
    OFFSET = 7
    CPUCOUNT = 8
    VERSION = 9
    PROCMAPS = 10
    TRACEID = 11
    TIME_SHIFT = 12
    GUEST = 13
    TSC2NSEC = 14
    STRINGS = 15
    HEADER_INFO = 16
    FTRACE_EVENTS = 17
    EVENT_FORMATS = 18
    KALLSYMS = 19
    PRINTK = 20
    CMDLINES = 21
    BUFFER_TEXT = 22
    BTF_FILE = 23
    LAST_BOOT_INFO = 24
    MODULES_FILE = 25


#: a section of taskscope's own that no option names: the text of ``saved_tgids`` (8 bytes of size in front)
TGIDS_SECTION = 0x5447
#: how the option VERSION of a file begins that may have that section
RECORDER = "taskscope"

#: options whose data is where their section begins
_SECTIONS = frozenset({Option.HEADER_INFO, Option.FTRACE_EVENTS, Option.EVENT_FORMATS, Option.KALLSYMS,
                       Option.PRINTK, Option.CMDLINES, Option.BTF_FILE, Option.MODULES_FILE})


@dataclass(slots=True)
class BufferEntry:
    """One BUFFER or BUFFER_TEXT option: where its section is; in version 7, where each cpu is, too."""

    name: bytes
    offset: int
    is_text: bool = False
    clock: str | None = None
    page_size: int | None = None
    rows: list[tuple[int, int, int]] = field(default_factory=list)   # cpu, offset, size
    cpu_count: int | None = None     # version 6: the CPUCOUNT option behind it


class Options:
    """What the options say."""

    def __init__(self, version: int, notes: Notes) -> None:
        self.version = version
        self.notes = notes
        self.buffers: list[BufferEntry] = []
        self.sections: dict[Option, int] = {}
        self.cpustat = b""
        self.clock: str | None = None
        self.has_clock = False           # version 6: a clock follows each table of cpus
        self.uname: str | None = None
        self.recorder: str | None = None
        self.cpu_count: int | None = None
        self.trace_id: int | None = None
        self.ts_offset = 0
        self.tsc: TscConversion | None = None
        self._readers: dict[int, Callable[[Cursor], None]] = {
            Option.DATE: self._date,
            Option.OFFSET: self._offset,
            Option.CPUSTAT: self._cpustat,
            Option.BUFFER: self._buffer,
            Option.BUFFER_TEXT: self._buffer_text,
            Option.TRACECLOCK: self._traceclock,
            Option.UNAME: self._uname,
            Option.VERSION: self._version,
            Option.CPUCOUNT: self._cpucount,
            Option.TRACEID: self._traceid,
            Option.TIME_SHIFT: self._time_shift,
            Option.TSC2NSEC: self._tsc2nsec,
        }

    def read(self, id: int, cursor: Cursor) -> None:
        """Read one option, whose data `cursor` holds; a damaged one becomes a note."""
        try:
            if id in self._readers:
                self._readers[id](cursor)
            elif id in _SECTIONS:
                self.sections[Option(id)] = cursor.u64("where the section begins")
        except DamageError as e:
            self.notes.damage(f"option {Option(id).name}", e, "it is left out")

    def read_list(self, cursor: Cursor) -> int:
        """Read options up to DONE.

        :return: where the next options section begins, 0 if there is none (always in version 6)
        :raises DamageError: an option is cut short, or DONE is missing; the options before that are read
        """
        for _ in range(OPTIONS_MAX):
            id = cursor.u16("the id of an option")  # noqa: A001
            if id == Option.DONE and self.version < 7:
                return 0
            size = cursor.u32("the size of an option")
            offset = cursor.offset
            body = cursor.take(size, f"option {id}")
            option = Cursor(body, cursor.path, cursor.big_endian, base=offset, inflated=cursor.inflated)
            if id == Option.DONE:
                return option.u64("where the next options section begins")
            self.read(id, option)
        raise cursor.fail(f"more than {OPTIONS_MAX:,} options")

    # ---- one option each ---------------------------------------------------------------------------------

    def _shift_by(self, cursor: Cursor, unit: int, what: str) -> None:
        text = bytes(cursor.take(cursor.left, what))
        number = parse_number(text)
        if number is None:
            raise cursor.fail(f"{what} {show(text[:32])!r} is no number", 0)
        self.ts_offset = _wrap(self.ts_offset + number * unit)

    def _date(self, cursor: Cursor) -> None:
        # trace-cmd writes the difference to the time of day in µs.
        self._shift_by(cursor, 1000, "the time of day")

    def _offset(self, cursor: Cursor) -> None:
        self._shift_by(cursor, 1, "the time offset")

    def _cpustat(self, cursor: Cursor) -> None:
        # The NUL at the end of each stands for the line feed between one and the next.
        self.cpustat += bytes(cursor.take(cursor.left, "the cpu statistics")).rstrip(b"\0") + b"\n"

    def _buffer(self, cursor: Cursor) -> None:
        entry = self._entry(cursor)
        if entry is None or self.version < 7:
            return
        entry.page_size = cursor.u32("the page size of a buffer")
        count = cursor.u32("the cpus of a buffer")
        for k in range(min(count, cursor.left // 20)):
            what = f"cpu {k + 1} of {count} of a buffer"
            entry.rows.append((cursor.u32(what), cursor.u64(what), cursor.u64(what)))
        if len(entry.rows) < count:
            raise cursor.fail(f"the buffer {show(entry.name)!r} lists {len(entry.rows):,} of {count:,} cpus")

    def _buffer_text(self, cursor: Cursor) -> None:
        entry = self._entry(cursor)
        if entry is not None:
            entry.is_text = True

    def _entry(self, cursor: Cursor) -> BufferEntry | None:
        offset = cursor.u64("where a buffer begins")
        entry = BufferEntry(cursor.cstring(NAME_MAX, "the name of a buffer"), offset)
        if self.version >= 7:
            clock = cursor.cstring(NAME_MAX, "the clock of a buffer")
            entry.clock = parse_clock(clock)
        if len(self.buffers) >= BUFFERS_MAX:
            self.notes.add(f"only the first {BUFFERS_MAX} buffers are read")
            return None
        self.buffers.append(entry)
        return entry

    def _traceclock(self, cursor: Cursor) -> None:
        self.has_clock = True
        self.clock = parse_clock(bytes(cursor.take(cursor.left, "the trace clock"))) or self.clock

    def _uname(self, cursor: Cursor) -> None:
        self.uname = show(_text(cursor)) or None

    def _version(self, cursor: Cursor) -> None:
        self.recorder = show(_text(cursor)) or None

    def _cpucount(self, cursor: Cursor) -> None:
        count = cursor.u32("the number of cpus")
        if not 0 < count <= CPUS_MAX:
            raise cursor.fail(f"the number of cpus is {count:,}", 0)
        if self.version < 7 and self.buffers:
            # It stands behind the BUFFER option of an instance whose cpus are not those of the host.
            self.buffers[-1].cpu_count = count
        else:
            self.cpu_count = count

    def _traceid(self, cursor: Cursor) -> None:
        self.trace_id = cursor.u64("the trace id")

    def _time_shift(self, cursor: Cursor) -> None:
        if cursor.left >= 16:
            peer = cursor.u64("the trace id of the peer")
            self.notes.add("was recorded in a guest: its time stamps are the guest's own, not shifted to "
                           f"those of its host (trace id {peer:#x})")

    def _tsc2nsec(self, cursor: Cursor) -> None:
        mult = cursor.u32("the multiplier of the TSC")
        shift = cursor.u32("the shift of the TSC")
        offset = cursor.u64("the offset of the TSC")
        if not mult or shift > 63:
            raise cursor.fail(f"a TSC conversion by {mult:,} and a shift of {shift:,} bits cannot be", 0)
        self.tsc = TscConversion(mult, shift, offset)


def parse_number(text: bytes) -> int | None:
    """Parse a number as strtoll() with base 0 does (decimal, 0x hexadecimal, 0 octal); None without one."""
    m = re.match(rb"\s*([+-]?)(?:0[xX]([0-9a-fA-F]{1,16})|0([0-7]{0,22})(?![0-9])|([1-9]\d{0,19}))", text)
    if m is None:
        return None
    number = int(m[2], 16) if m[2] else int(m[4]) if m[4] else int(m[3] or b"0", 8)
    return -number if m[1] == b"-" else number


def _wrap(number: int) -> int:
    """Wrap to 64 bits with a sign: trace-cmd adds offsets to unsigned stamps."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _text(cursor: Cursor) -> bytes:
    return bytes(cursor.take(cursor.left, "a text")).split(b"\0")[0].strip()
