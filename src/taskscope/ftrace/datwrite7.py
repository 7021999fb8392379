"""Writing trace.dat version 7: sections, compressed chunk by chunk, and the chain of options that finds them.

Follows trace-cmd.dat.v7(5).  As trace-cmd does: metadata first, then the options, then for each buffer its
pages and a section of options that tells where they lie, at the end the strings that describe the sections.
zstd with trace-cmd's own parameters (level 3, no size of content in the frame, 10 pages a chunk).
"""

from __future__ import annotations

import zstandard

from taskscope.ftrace.datwriteparts import (
    CHUNK_PAGES,
    DatBuffer,
    DatFile,
    Meter,
    Out,
    PageRun,
    clock_name,
    common_options,
    copy_plain,
    event_formats,
    ftrace_formats,
    head,
    header_info,
    option_list,
)
from taskscope.ftrace.options import TGIDS_SECTION, Option

_LEVEL = 3
_COMPRESSED = 1


def write7(out: Out, dat: DatFile, runs: list[dict[int, PageRun]], meter: Meter, compression: str) -> None:
    """Write the file.

    :param runs: the pages of the cpus of each buffer
    :param compression: ``zstd`` or ``none``
    """
    _File(out, dat, meter, compression).write(runs)


class _File:
    def __init__(self, out: Out, dat: DatFile, meter: Meter, compression: str) -> None:
        self.out = out
        self.dat = dat
        self.meter = meter
        self.compression = compression
        self.zstd = (zstandard.ZstdCompressor(level=_LEVEL, write_content_size=False)
                     if compression == "zstd" else None)
        self.strings = b""

    def write(self, runs: list[dict[int, PageRun]]) -> None:
        out, dat = self.out, self.dat
        version = ".".join(map(str, zstandard.ZSTD_VERSION)) if self.zstd else ""
        out.write(head(out, dat, 7) + self.compression.encode() + b"\0" + version.encode() + b"\0")
        link = out.at
        out.write(bytes(8))
        options: list[tuple[int, bytes]] = []
        for number, name, body in (
                (Option.HEADER_INFO, "headers", header_info(out, dat)),
                (Option.FTRACE_EVENTS, "ftrace events", ftrace_formats(out, dat)),
                (Option.EVENT_FORMATS, "events format", event_formats(out, dat)),
                (Option.KALLSYMS, "kallsyms", out.text4(dat.kallsyms)),
                (Option.PRINTK, "printk", out.text4(dat.printk_formats)),
                (Option.CMDLINES, "command lines", out.text8(dat.cmdlines))):
            options.append((int(number), out.n(8, out.at)))
            self._section(number, name, body)
        options += common_options(out, dat)
        options.append((int(Option.CPUCOUNT), out.n(4, dat.cpu_count)))
        link = self._options(link, options)
        for buffer, cpus in zip(dat.buffers, runs, strict=True):
            link = self._options(link, [self._buffer(buffer, cpus)])
        if dat.tgids:
            # No option names it: trace-cmd warns of options that it does not know, not of sections.
            self._section(TGIDS_SECTION, "thread groups", out.text8(dat.tgids))
        self._strings()

    def _described(self, name: str) -> int:
        """Return the place of a description among the strings."""
        at = len(self.strings)
        self.strings += name.encode(errors="surrogateescape") + b"\0"
        return at

    def _header(self, number: int, name: str, flags: int, size: int) -> None:
        n = self.out.n
        self.out.write(n(2, number) + n(2, flags) + n(4, self._described(name)) + n(8, size))

    def _section(self, number: int, name: str, body: bytes) -> None:
        if self.zstd is not None:
            packed = self.zstd.compress(body)
            body = self.out.n(4, len(packed)) + self.out.n(4, len(body)) + packed
        self._header(number, name, _COMPRESSED if self.zstd is not None else 0, len(body))
        self.out.write(body)

    def _strings(self) -> None:
        # Its own description is the last of them.
        strings = self.strings + b"strings\0"
        body = strings
        if self.zstd is not None:
            packed = self.zstd.compress(strings)
            body = self.out.n(4, len(packed)) + self.out.n(4, len(strings)) + packed
        self._header(Option.STRINGS, "strings", _COMPRESSED if self.zstd is not None else 0, len(body))
        self.out.write(body)

    def _options(self, link: int, options: list[tuple[int, bytes]]) -> int:
        """Write a section of options, let the 8 bytes at `link` point to it, return where its own link is."""
        out = self.out
        out.patch(link, out.n(8, out.at))
        body = option_list(out, options) + out.n(2, Option.DONE) + out.n(4, 8) + bytes(8)
        self._header(Option.DONE, "options", 0, len(body))
        out.write(body)
        return out.at - 8

    def _buffer(self, buffer: DatBuffer, cpus: dict[int, PageRun]) -> tuple[int, bytes]:
        """Write the pages of a buffer, return the option that tells where they lie."""
        out = self.out
        start = out.at
        self._header(Option.BUFFER, f"buffer flyrecord {buffer.name}", _COMPRESSED if self.zstd is not None else 0, 0)
        rows = b""
        for cpu, run in sorted(cpus.items()):
            if self.zstd is None or not run.size:
                out.align(buffer.page_size)
            at = out.at
            if self.zstd is None:
                copy_plain(out, run, self.meter)
            elif run.size:
                self._chunks(run, CHUNK_PAGES * buffer.page_size)
            rows += out.n(4, cpu) + out.n(8, at) + out.n(8, out.at - at)
        out.patch(start + 8, out.n(8, out.at - start - 16))
        entry = (out.n(8, start) + buffer.name.encode(errors="surrogateescape") + b"\0"
                 + (clock_name(buffer.clock) or "").encode() + b"\0"
                 + out.n(4, buffer.page_size) + out.n(4, len(cpus)) + rows)
        return int(Option.BUFFER), entry

    def _chunks(self, run: PageRun, step: int) -> None:
        """Write the chunks of one cpu: how many, then of each its two sizes and its data."""
        assert self.zstd is not None
        out = self.out
        out.write(out.n(4, -(-run.size // step)))
        for piece in run.pieces(step):
            packed = self.zstd.compress(piece)
            out.write(out.n(4, len(packed)) + out.n(4, len(piece)) + packed)
            self.meter.add(len(piece))
