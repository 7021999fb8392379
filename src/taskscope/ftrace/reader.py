"""A bounded cursor over the bytes of a recording.

Every read is checked against the bytes that are there, so no size, count or offset of a damaged file can
lead outside of it.  What fails raises `DamageError`, a `TraceError` that knows the file and the byte; a
caller that can go on without the damaged part turns it into a note with `Notes.damage`.
"""

from __future__ import annotations

import struct

from taskscope.errors import TraceError

#: notes kept of one recording; a thoroughly broken file repeats itself
MAX_NOTES = 64


class DamageError(TraceError):
    """Bytes that cannot be what they should be; ``reason`` is the message without place and remedy."""

    def __init__(self, reason: str, path: str, offset: int | None) -> None:
        super().__init__(f"{reason}; copy the file again from where it was recorded, or record again", path, offset)
        self.reason = reason


class Notes(list[str]):
    """The sentences about what is missing or damaged, each once and at most `MAX_NOTES`."""

    def add(self, note: str) -> None:
        """Append a note unless it is there already."""
        if note in self:
            return
        if len(self) < MAX_NOTES:
            self.append(note)
        elif len(self) == MAX_NOTES:
            self.append("more is damaged than is listed here")

    def damage(self, what: str, error: TraceError, consequence: str) -> None:
        """Note that `what` could not be read, why, where, and what follows from it."""
        reason = error.reason if isinstance(error, DamageError) else str(error)
        where = f" at byte {error.offset:,}" if error.offset is not None else ""
        self.add(f"{what} cannot be read{where} ({reason}): {consequence}")


class Cursor:
    """Reads numbers, texts and slices one after the other.

    :param view: the bytes
    :param path: file, for messages
    :param big_endian: byte order of the numbers
    :param base: byte of the file at which `view` begins
    :param inflated: `view` was inflated, so only `base`, where its compressed bytes begin, is in the file
    """

    __slots__ = ("_base", "_order", "at", "big_endian", "end", "inflated", "path", "view")

    def __init__(self, view: memoryview, path: str, big_endian: bool, *, base: int = 0,
                 inflated: bool = False) -> None:
        self.view = view
        self.path = path
        self.at = 0
        self.end = len(view)
        self.big_endian = big_endian
        self._base = base
        self.inflated = inflated
        self._order = ">" if big_endian else "<"

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.at

    @property
    def offset(self) -> int:
        """The place in the file that the next read reads."""
        return self._base if self.inflated else self._base + self.at

    def fail(self, reason: str, at: int | None = None) -> DamageError:
        """Make the error that says what is wrong at the position `at` of the view (by default, here)."""
        at = self.at if at is None else at
        if self.inflated:
            return DamageError(f"{reason}, {at:,} bytes into the inflated section", self.path, self._base)
        return DamageError(reason, self.path, self._base + at)

    def seek(self, at: int, what: str) -> None:
        """Go to an absolute position of the view.

        :raises DamageError: it lies outside
        """
        if not 0 <= at <= self.end:
            raise self.fail(f"{what} should be at byte {at:,}, but there are only {self.end:,}")
        self.at = at

    def take(self, size: int, what: str) -> memoryview:
        """Return the next `size` bytes without copying them.

        :raises DamageError: fewer are left
        """
        at = self.at
        if size > self.end - at:
            raise self.fail(f"{what} needs {size:,} bytes, {self.end - at:,} are left")
        self.at = at + size
        return self.view[at:at + size]

    def _number(self, code: str, size: int, what: str) -> int:
        value: int = struct.unpack(self._order + code, self.take(size, what))[0]
        return value

    def u8(self, what: str) -> int:
        """Read one byte."""
        return self._number("B", 1, what)

    def u16(self, what: str) -> int:
        """Read 2 bytes."""
        return self._number("H", 2, what)

    def u32(self, what: str) -> int:
        """Read 4 bytes."""
        return self._number("I", 4, what)

    def u64(self, what: str) -> int:
        """Read 8 bytes."""
        return self._number("Q", 8, what)

    def cstring(self, limit: int, what: str) -> bytes:
        """Read a text that ends in NUL and has at most `limit` bytes; the NUL is read and left out.

        :raises DamageError: no NUL within the limit
        """
        window = bytes(self.view[self.at:min(self.end, self.at + limit + 1)])
        length = window.find(b"\0")
        if length < 0:
            raise self.fail(f"{what} has no end within {min(limit, len(window)):,} bytes")
        self.at += length + 1
        return window[:length]


def show(text: bytes) -> str:
    """Decode a name from a recording for people: UTF-8 where it is, escapes elsewhere."""
    shown = text.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)
