"""Event formats: the text of a ``format`` file, parsed.

Follows the output of f_show() in the kernel's kernel/trace/trace_events.c.  Offsets, sizes and signedness come from
the recording; nothing is assumed.  Only the element size of an array of open length has to be told from its type,
because the file does not say it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from taskscope.trace.source import Field

_NAME = re.compile(r"name: (\S+)\s*\Z")
_ID = re.compile(r"ID: (\d{1,10})\s*\Z")
_FIELD = re.compile(r"\s*field:(.+?);\s*offset:(\d{1,9});\s*size:(\d{1,9});(?:\s*signed:([01]);)?\s*\Z")
_DECLARATION = re.compile(r"(.*?)(\w+)((?:\[[^\]]*\])*)\Z", re.DOTALL)
_FUNCTION_POINTER = re.compile(r"(.*?\(\s*\*\s*)(\w+)(\s*\).*)\Z", re.DOTALL)
_LOCATION = re.compile(r"__(data|rel)_loc\s+(.*)\Z", re.DOTALL)
_QUALIFIERS = re.compile(r"\b(?:const|volatile|__user|__kernel|__iomem|__rcu|__percpu)\b")

#: a record cannot be longer than this (a sub-buffer is at most 64 KiB times the page order the kernel allows)
_LONGEST = 1 << 24

_SIZES = {
    "char": 1, "signed char": 1, "unsigned char": 1, "bool": 1, "_Bool": 1,
    "u8": 1, "s8": 1, "__u8": 1, "__s8": 1, "uint8_t": 1, "int8_t": 1,
    "short": 2, "unsigned short": 2, "u16": 2, "s16": 2, "__u16": 2, "__s16": 2, "uint16_t": 2, "int16_t": 2,
    "__le16": 2, "__be16": 2,
    "int": 4, "unsigned int": 4, "unsigned": 4, "u32": 4, "s32": 4, "__u32": 4, "__s32": 4, "uint32_t": 4,
    "int32_t": 4, "__le32": 4, "__be32": 4, "pid_t": 4, "dev_t": 4, "uid_t": 4, "gid_t": 4,
    "long long": 8, "unsigned long long": 8, "u64": 8, "s64": 8, "__u64": 8, "__s64": 8, "uint64_t": 8,
    "int64_t": 8, "__le64": 8, "__be64": 8, "loff_t": 8, "sector_t": 8, "dma_addr_t": 8, "phys_addr_t": 8,
}
_LONGS = frozenset({"long", "unsigned long", "size_t", "ssize_t", "uintptr_t", "cpumask_t"})


@dataclass(frozen=True, slots=True)
class RawField:
    """One ``field:`` line."""

    name: str
    type: str            # the C type without the name: "char[16]", "__data_loc char[]", "unsigned long"
    offset: int          # bytes from the start of the record's data
    size: int            # bytes; 0 for a flexible array that runs to the end of the record
    signed: bool
    location: str        # "fixed", "data_loc" (u32: length << 16 | offset in the record), "rel_loc" (behind the word)
    is_string: bool      # char array, fixed or dynamic
    element: int         # bytes of an array's element; equals size for a scalar
    count: int           # elements; 1 for a scalar, 0 for an array of open length

    @property
    def is_array(self) -> bool:
        """Tell whether the field holds more than one value and is not text."""
        return not self.is_string and (self.location != "fixed" or self.count != 1)


@dataclass(frozen=True, slots=True)
class EventFormat:
    """One parsed ``format`` file."""

    system: str
    name: str
    id: int
    common: tuple[RawField, ...]       # common_type, common_flags, …
    fields: tuple[RawField, ...]       # the event's own
    print_fmt: str                     # text after "print fmt: "

    def public_fields(self) -> tuple[Field, ...]:
        """Return the event's own fields as `taskscope.trace.source.Field`."""
        return tuple(_public(f) for f in self.fields)

    def field(self, name: str) -> RawField | None:
        """Return the field of that name, the event's own before the common ones; None if there is none."""
        return next((f for f in (*self.fields, *self.common) if f.name == name), None)


def _public(f: RawField) -> Field:
    if f.is_string:
        return Field(f.name, f.type, "string", f.signed, f.size)
    if f.is_array or f.size not in (1, 2, 4, 8):
        return Field(f.name, f.type, "array", f.signed, f.element)
    return Field(f.name, f.type, "int", f.signed, f.size)


class _Line(NamedTuple):
    """A field line taken apart, and its number."""

    number: int
    name: str
    type: str
    offset: int
    size: int
    signed: bool


def parse_format(text: bytes, system: str, long_size: int | None = None) -> EventFormat:
    """Parse one format file.

    :param long_size: bytes of the kernel's ``long``; None: told from the fields that are one, else 8
    :raises ValueError: the text is no event format; the message names the line
    """
    lines = text.decode("utf-8", "backslashreplace").rstrip("\0").split("\n")
    name: str | None = None
    number: int | None = None
    rows: list[_Line] = []
    print_fmt = ""
    for n, line in enumerate(lines, 1):
        stripped = line.strip()
        if not stripped or stripped == "format:":
            continue
        if stripped.startswith("field"):
            rows.append(_split(n, line))
        elif name is None and (m := _NAME.match(stripped)):
            name = m[1]
        elif number is None and (m := _ID.match(stripped)):
            number = int(m[1])
        elif stripped.startswith("print fmt:"):
            # A print format that holds a newline goes on to the end of the file.
            print_fmt = "\n".join([stripped.removeprefix("print fmt:").lstrip(), *lines[n:]]).rstrip()
            break
        else:
            raise ValueError(f"line {n} is not part of an event format: {_quote(line)}")
    if name is None or not name.isprintable():
        raise ValueError("line 1 does not name the event (no \"name:\")")
    if number is None:
        raise ValueError(f"format of {name}: line 2 does not number the event (no \"ID:\")")
    long_size = long_size or _long_size(rows) or 8
    fields = [_field(name, row, long_size) for row in rows]
    return EventFormat(system, name, number, tuple(f for f in fields if f.name.startswith("common_")),
                       tuple(f for f in fields if not f.name.startswith("common_")), print_fmt)


def _quote(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:57] + "...")


def _split(n: int, line: str) -> _Line:
    m = _FIELD.match(line)
    if m is None:
        raise ValueError(f"line {n} is no field of an event format: {_quote(line)}")
    declaration, offset, size = m[1].strip(), int(m[2]), int(m[3])
    signed = m[4] == "1"
    if offset + size > _LONGEST:
        raise ValueError(f"line {n} declares a field beyond any record: {_quote(line)}")
    d = _FUNCTION_POINTER.match(declaration) or _DECLARATION.match(declaration)
    if d is None or not d[1].strip():
        raise ValueError(f"line {n} does not name its field: {_quote(line)}")
    type_ = d[1].strip() + d[3] if "[" in d[3] and not d[3].lstrip().startswith(")") else (d[1] + d[3]).strip()
    return _Line(n, d[2], " ".join(type_.split()), offset, size, signed)


def _long_size(lines: list[_Line]) -> int | None:
    """Tell the size of a long from the scalar fields that are longs or pointers."""
    for f in lines:
        if (f.type in _LONGS or f.type.endswith("*")) and f.size in (4, 8):
            return f.size
    return None


def _field(event: str, line: _Line, long_size: int) -> RawField:
    size = line.size
    location, inner = "fixed", line.type
    if m := _LOCATION.match(line.type):
        location, inner = f"{m[1]}_loc", m[2]
        if size != 4:
            raise ValueError(f"format of {event}: line {line.number} declares a {line.type} of {size} bytes; it must "
                             "have 4")
    base, bracket, dims = inner.partition("[")
    base = " ".join(_QUALIFIERS.sub(" ", base).split())
    # An array of open length has brackets since v5.8; before, only its size of 0 tells it (caller and buf of ftrace).
    is_open = size == 0 and (bool(bracket) or base == "char" or base in _LONGS or base in _SIZES)
    is_string = base == "char" and (bool(bracket) or is_open or location != "fixed")
    element, count = size, 1
    if location != "fixed" or is_open:
        element, count = _element(base, long_size), 0
    elif bracket:
        declared = 1
        for dim in ("[" + dims).strip("[]").split("]["):
            declared *= int(dim) if dim.strip().isdigit() else 0
        # An array whose length is a macro's name (old kernels) is told from its type.
        element = size // declared if declared and size % declared == 0 else _element(base, long_size)
        count = size // element if element and size % element == 0 else size
        element = element if count * element == size else 1
    return RawField(line.name, line.type, line.offset, size, line.signed, location, is_string, element, count)


def _element(base: str, long_size: int) -> int:
    if base.endswith("*") or base in _LONGS:
        return long_size
    return _SIZES.get(base, 1)
