"""What a reader of recordings gives: the index of all records, and columns on demand.

A reader (ring-buffer pages, ftrace text, the executable kernel's pages through the same door) implements
`Source`; everything above speaks to `Trace`, which wraps one.  A *row* is the number of a record in storage
order: buffer by buffer and cpu by cpu for ring-buffer pages, in the order of the lines for text (a stack directly
behind its record); within a cpu always in the order in which the kernel wrote them.  So (ts, row) orders records of
equal time stamps as the kernel wrote them on each cpu.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Ints = npt.NDArray[np.integer[Any]]
Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event type.

    ``shape`` says what a column of it holds: ``int`` (an integer dtype), ``string`` (dtype ``S`` or object of
    ``bytes``, cut at the first NUL), ``array`` (object of integer arrays, one per record).
    ``type`` is the C type as the recording declares it, "" where it declares none (text).
    """

    name: str
    type: str
    shape: Literal["int", "string", "array"]
    signed: bool
    size: int


@dataclass(frozen=True, slots=True)
class EventType:
    """One event type that the recording declares; ``index`` is its number in `Source.types`."""

    index: int
    system: str
    name: str
    fields: tuple[Field, ...]
    print_fmt: str | None = None

    def field(self, name: str) -> Field | None:
        """Return the field of that name, or None."""
        return next((f for f in self.fields if f.name == name), None)


@dataclass(frozen=True, slots=True)
class Index:
    """All records in storage order, as parallel columns (one element a row)."""

    ts: npt.NDArray[np.int64]        # ns of the recording's clock (cycles where the clock counts cycles)
    cpu: npt.NDArray[np.uint16]
    type: npt.NDArray[np.uint16]     # EventType.index; UNKNOWN_TYPE where the recording declares none
    buffer: npt.NDArray[np.uint8]    # number in Source.buffers

    def __len__(self) -> int:
        return len(self.ts)


UNKNOWN_TYPE = 0xFFFF


@dataclass(frozen=True, slots=True)
class Gap:
    """A place where the kernel lost events of one cpu.

    ``start`` is the time of the last record before it (None: the loss is before the first record kept), ``end``
    the time of the first record after it (None: after the last).  ``cpu`` is None where the recording does not say
    which; ``count`` is None where it does not say how many.
    """

    cpu: int | None
    start: int | None
    end: int | None
    count: int | None
    buffer: int = 0


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of the time stamps: its trace_clock name, its unit, and how fine the stamps are.

    ``unit`` is "ns", or "cycles" for a counter that the recording gives no conversion for; ``resolution`` is the
    smallest step in ns that the recording can show (1000 for text, which has microseconds).
    """

    name: str
    unit: Literal["ns", "cycles"] = "ns"
    resolution: int = 1


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel that was recorded, as far as the recording says; None where it does not."""

    release: str | None = None
    machine: str | None = None       # uname -m
    endian: Literal["little", "big"] | None = None
    long_size: int | None = None     # bytes
    hostname: str | None = None


class Source(ABC):
    """One recording, read: what `Trace` wraps."""

    path: str
    container: str                   # "trace.dat v7 (zstd)", "raw pages", "tracefs text", …
    types: tuple[EventType, ...]
    index: Index
    buffers: tuple[str, ...]         # ring buffers; "" is the top-level one
    gaps: tuple[Gap, ...]
    clock: Clock
    kernel: Kernel
    cpus: tuple[int, ...]            # cpus that the recording covers, whether or not they have events
    cmdlines: dict[int, bytes]       # saved_cmdlines: pid -> last comm known
    tgids: dict[int, int]            # saved_tgids: tid -> tgid
    notes: tuple[str, ...]           # what could not be read, in sentences; () if everything was

    @abstractmethod
    def pids(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Return ``common_pid`` of the rows: the task that was current, also where an interrupt wrote the record."""

    @abstractmethod
    def flags(self, rows: Rows) -> npt.NDArray[np.uint16]:
        """Return ``common_flags`` (low byte) and ``common_preempt_count`` (high byte) of the rows.

        Bits as in the kernel's ``enum trace_flag_type`` (include/linux/trace_events.h); 0 where unknown.
        """

    @abstractmethod
    def column(self, type: EventType, field: str, rows: Rows) -> Column:
        """Gather one field of records that are all of `type`; see `Field` for the dtype.

        :raises KeyError: the type has no such field
        """

    @abstractmethod
    def field_text(self, type: EventType, field: str, values: Column) -> list[str]:
        """Show raw values of a field as the recording's own print format would (``prev_state`` -> ``S``, ``R+``).

        Values that the print format passes through are shown in decimal.
        """

    @abstractmethod
    def report(self, rows: Rows, *, comms: Sequence[bytes] | None = None) -> bytes:
        r"""Return the kernel's text of the rows, one line each, in the order given.

        Layout of tracefs' ``trace`` file: ``comm-pid [cpu] flags ts: event: body\n``; a stack takes more lines.
        ``comms`` replaces the comm column (one per row); without it, saved_cmdlines fills it, as in the kernel.
        Control characters are escaped.
        """

    @abstractmethod
    def frames(self, row: int) -> tuple[str, ...]:
        """Return the symbolised frames of one stack record (kernel_stack, user_stack), innermost first, unfolded.

        A kernel address without a symbol is shown as hexadecimal (``0xffffffffc05f6083``).
        """


def is_stack(type: EventType) -> bool:
    """Tell whether records of the type are kernel call stacks, which belong to the record before them."""
    return type.system == "ftrace" and type.name == "kernel_stack"
