"""What a container of ring-buffer pages holds, before any event is decoded.

Made by `taskscope.ftrace.dat` (trace.dat) and `taskscope.ftrace.rawdir` (a folder of raw pages); consumed by
`taskscope.ftrace.ring`, which walks the pages.  All pages of a recording lie in one flat byte array: the mapped
file itself where nothing is compressed, else one array into which the sections were inflated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class CpuPages:
    """The sub-buffers of one cpu: ``size`` bytes from ``offset`` in `Recorded.data`, oldest first."""

    cpu: int
    offset: int              # bytes, a multiple of 4
    size: int                # bytes, cut down to what is there; a multiple of the sub-buffer size unless truncated
    overrun: int | None = None    # events overwritten, from the stats, None if not said
    dropped: int | None = None    # events not written because the buffer was full, from the stats
    missing: int = 0              # bytes that should follow and do not (file cut short, damaged): events are lost there


@dataclass(slots=True)
class Buffer:
    """One ring buffer: the top-level one (name "") or an instance."""

    name: str
    page_size: int           # bytes of a sub-buffer, header included
    cpus: list[CpuPages]
    clock: str | None = None


@dataclass(slots=True)
class TscConversion:
    """ns = (cycles * mult >> shift) - offset, from the TSC2NSEC option (trace-cmd's trace_tsc2nsec)."""

    mult: int
    shift: int
    offset: int


@dataclass(slots=True)
class Recorded:
    """One recording as its container holds it; texts are bytes as recorded."""

    path: str
    container: str           # for people: "trace.dat v7 (zstd)"
    data: npt.NDArray[np.uint8]
    big_endian: bool
    long_size: int
    header_page: bytes       # text of events/header_page; b"" if absent
    header_event: bytes
    formats: list[tuple[str, bytes]]          # (system, text of one format file)
    buffers: list[Buffer]
    kallsyms: bytes = b""
    printk_formats: bytes = b""
    cmdlines: dict[int, bytes] = field(default_factory=dict)
    tgids: dict[int, int] = field(default_factory=dict)
    clock: str | None = None
    uname: str | None = None                  # "Linux host 6.1.0 x86_64" as in the UNAME option
    release: str | None = None
    machine: str | None = None
    cpu_count: int | None = None
    trace_id: int | None = None
    ts_offset: int = 0                        # added to every stamp (OFFSET option), ns
    tsc: TscConversion | None = None
    texts: dict[str, bytes] = field(default_factory=dict)   # buffers recorded as text of ``trace`` (latency tracers)
    notes: list[str] = field(default_factory=list)   # what is missing or damaged, one sentence each
