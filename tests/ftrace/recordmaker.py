"""Makes recordings out of event formats and values: a `RingSource` over pages that `pagewriter` wrote."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pagewriter import Page

from taskscope.ftrace.format import EventFormat, parse_format
from taskscope.ftrace.recorded import Buffer, CpuPages, Recorded
from taskscope.ftrace.ring import RingSource

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;
"""

Value = int | bytes | Sequence[int]


@dataclass(frozen=True)
class Event:
    """One record: ns after the last of its cpu, event name, values by field."""

    delta: int
    name: str
    values: Mapping[str, Value]
    pid: int = 1
    cpu: int = 0
    flags: int = 0
    preempt_count: int = 0


def format_text(name: str, number: int, fields: Sequence[tuple[str, int, int, int]], print_fmt: str) -> bytes:
    """Write a format file; a field is (declaration, offset, size, signed)."""
    lines = "".join(f"\tfield:{d};\toffset:{o};\tsize:{s};\tsigned:{g};\n" for d, o, s, g in fields)
    return f"name: {name}\nID: {number}\nformat:\n{COMMON}\n{lines}\nprint fmt: {print_fmt}\n".encode()


def pack(fmt: EventFormat, e: Event, big_endian: bool) -> bytes:
    """Write the data of one record."""
    order = ">" if big_endian else "<"
    fixed = max([8, *(f.offset + f.size for f in fmt.fields)])
    data = bytearray(fixed)
    struct.pack_into(order + "HBBi", data, 0, fmt.id, e.flags, e.preempt_count, e.pid)
    tail = b""
    for f in fmt.fields:
        value = e.values.get(f.name, 0)
        raw = value if isinstance(value, bytes) else _numbers(value, f.element, f.signed, order)
        if f.location == "fixed" and f.count == 0:
            tail += raw
        elif f.location == "fixed":
            data[f.offset : f.offset + f.size] = raw[: f.size].ljust(f.size, b"\0")
        else:
            at = fixed + len(tail) - (f.offset + 4 if f.location == "rel_loc" else 0)
            struct.pack_into(order + "I", data, f.offset, len(raw) << 16 | at)
            tail += raw
    data += tail
    return bytes(data) + bytes(-len(data) % 4)


def _numbers(value: int | Sequence[int], size: int, signed: bool, order: str) -> bytes:
    name = "big" if order == ">" else "little"
    values = [value] if isinstance(value, int) else value
    return b"".join((v & ((1 << 8 * size) - 1)).to_bytes(size, name) for v in values)  # type: ignore[arg-type]


def make(
    formats: Sequence[tuple[str, bytes]],
    events: Sequence[Event],
    *,
    big_endian: bool = False,
    long_size: int = 8,
    start: int = 1_000_000_000,
    lost: Mapping[int, int | None] | None = None,
    **more: object,
) -> RingSource:
    """Make a recording.

    :param formats: (system, text of a format file)
    :param start: time of the pages' headers
    :param lost: cpus whose only page says that events were lost before it, and how many
    :param more: further attributes of `Recorded`
    """
    parsed = {f.name: f for f in (parse_format(t, s, long_size) for s, t in formats)}
    pages: dict[int, Page] = {}
    for e in events:
        page = pages.setdefault(e.cpu, Page(start, big_endian, long_size, 65536))
        page.event(e.delta, pack(parsed[e.name], e, big_endian))
    data = b""
    cpus = []
    for cpu, page in sorted(pages.items()):
        missed = lost is not None and cpu in lost
        cpus.append(CpuPages(cpu, len(data), page.size))
        data += page.bytes(missed, (lost or {}).get(cpu))
    recorded = Recorded(
        "made",
        "raw pages",
        np.frombuffer(data, np.uint8),
        big_endian,
        long_size,
        b"",
        b"",
        list(formats),
        [Buffer("", 65536, cpus)],
    )
    for name, value in more.items():
        setattr(recorded, name, value)
    return RingSource(recorded)


def lines(source: RingSource) -> list[str]:
    """Return the whole report in order of time, line by line."""
    order = np.argsort(source.index.ts, kind="stable")
    return source.report(order).decode().splitlines()


def bodies(source: RingSource) -> list[str]:
    """Return the report's lines without their heads."""
    return [line.split(": ", 1)[1] for line in lines(source)]
