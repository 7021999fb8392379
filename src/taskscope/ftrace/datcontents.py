"""What the head and the metadata of a trace.dat say, before its pages are looked at.

Filled by `dat6` and `dat7`, each from its version of the file; `dat` makes a `Recorded` of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from taskscope.ftrace.compress import Codec
from taskscope.ftrace.cpudata import BufferPlace
from taskscope.ftrace.options import Options
from taskscope.ftrace.reader import Notes
from taskscope.ftrace.sections import Formats


@dataclass(slots=True)
class Head:
    """The initial format, which both versions begin with."""

    version: int
    big_endian: bool
    long_size: int
    page_size: int


@dataclass(slots=True)
class Contents:
    """What the metadata of a file say, before the pages are gathered."""

    options: Options
    notes: Notes
    header_page: bytes = b""
    header_event: bytes = b""
    formats: Formats = field(default_factory=list)
    kallsyms: bytes = b""
    printk_formats: bytes = b""
    cmdlines: bytes = b""
    tgids: bytes = b""               # only files that taskscope wrote have them
    cpu_count: int | None = None
    clock: str | None = None
    places: list[BufferPlace] = field(default_factory=list)
    texts: dict[str, bytes] = field(default_factory=dict)
    compression: str | None = None
    make_codec: Callable[[], Codec | None] = lambda: None
