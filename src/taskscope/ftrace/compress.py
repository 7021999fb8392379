"""Inflating the compressed parts of a recording, within bounds.

trace.dat version 7 names one algorithm, ``zlib`` or ``zstd``; each chunk is a stream of its own with its
two sizes in front (trace-cmd.dat.v7(5)).  What a size claims is never believed: output goes into buffers of
the claimed size, the claim is held against what compressed bytes can plausibly give, and a chunk that gives
less or more is damaged.
"""

from __future__ import annotations

import lzma
import zlib
from typing import Protocol

import zstandard

from taskscope.errors import TraceError

#: a claim within this many bytes is plausible whatever it is compared with
FLOOR = 64 << 20
#: inflated bytes that one compressed byte can plausibly stand for; recordings have 5 to 40
RATIO = 256


def limit_for(compressed: int) -> int:
    """Return the inflated bytes above which a claim is refused as a decompression bomb."""
    return max(FLOOR, RATIO * compressed)


class InflateError(ValueError):
    """A chunk is damaged; the message says how."""


class Codec(Protocol):
    """One algorithm.  Objects are not shared between threads: call `codec` once per thread."""

    name: str

    def inflate_into(self, source: memoryview, target: memoryview) -> None:
        """Inflate one chunk that fills `target` exactly.

        :raises InflateError: it is damaged, or does not have the size of `target`
        """


class _Zstd:
    name = "zstd"

    def __init__(self) -> None:
        self._context = zstandard.ZstdDecompressor()

    def inflate_into(self, source: memoryview, target: memoryview) -> None:
        try:
            with self._context.stream_reader(source) as stream:
                at = 0
                while at < len(target):
                    n = stream.readinto(target[at:])
                    if not n:
                        raise InflateError(f"inflates to {at:,} bytes instead of {len(target):,}")
                    at += n
                if stream.read(1):
                    raise InflateError(f"inflates to more than {len(target):,} bytes")
        except zstandard.ZstdError as e:
            raise InflateError(f"no valid zstd data: {e}") from None


class _Zlib:
    name = "zlib"

    def inflate_into(self, source: memoryview, target: memoryview) -> None:
        size = len(target)
        stream = zlib.decompressobj()
        try:
            inflated = stream.decompress(source, size + 1)
        except zlib.error as e:
            raise InflateError(f"no valid zlib data: {e}") from None
        if len(inflated) != size or not stream.eof:
            much = "more" if len(inflated) > size else f"{len(inflated):,} bytes"
            raise InflateError(f"inflates to {much} instead of {size:,} bytes")
        target[:] = inflated


def codec(name: str, path: str) -> Codec | None:
    """Return a new codec by the name in the file, None for ``none``.

    :raises TraceError: an algorithm that this program does not know
    """
    if name == "none":
        return None
    if name == "zstd":
        return _Zstd()
    if name == "zlib":
        return _Zlib()
    raise TraceError(f"compressed with {name!r}, which taskscope does not know (zlib, zstd and none it "
                     "does); convert it with `trace-cmd convert --compression none`", path)


def inflate_xz(source: memoryview, path: str) -> tuple[bytearray, str | None]:
    """Inflate an xz file in memory.

    :return: the bytes, and what is wrong if the file ends early or is damaged behind them
    :raises TraceError: nothing can be inflated, or it is implausibly large
    """
    limit = limit_for(len(source))
    out = bytearray()
    at, step, problem = 0, 1 << 20, None
    try:
        while at < len(source):
            stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 << 20)
            first, fed = at, at
            while not stream.eof:
                if stream.needs_input:
                    if fed >= len(source):
                        break
                    piece = source[fed:fed + step]
                    fed += len(piece)
                else:
                    piece = source[:0]
                out += stream.decompress(piece, step)
                if len(out) > limit:
                    raise TraceError(f"inflates to more than {limit:,} bytes, which no recording does; if it "
                                     "is one, unpack it with `unxz` first", path)
            if not stream.eof:
                problem = f"the xz data end early, after {len(out):,} inflated bytes"
                break
            at = fed - len(stream.unused_data)
            while at < len(source) and source[at:at + 4].tobytes() == b"\0\0\0\0":      # stream padding
                at += 4
            if at <= first:
                break
    except lzma.LZMAError as e:
        problem = f"the xz data are damaged after {len(out):,} inflated bytes ({e})"
    if not out and problem:
        raise TraceError(f"{problem}; copy the file again from where it was recorded", path)
    return out, problem
