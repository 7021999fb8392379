"""Types out of BTF, the type information that kernels carry in their own memory (Documentation/bpf/btf.rst, v6.12).

One pass finds where each type begins; everything else is read when it is asked for.  Nothing in the data is trusted:
a number that points outside of it, or a type that contains itself, is a `TraceError` that names the place.
"""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn

from taskscope.errors import TraceError
from taskscope.memory.types import Member

_MAGIC: Final = 0xEB9F
_INT, _PTR, _ARRAY, _STRUCT, _UNION, _ENUM, _FWD, _TYPEDEF, _VOLATILE, _CONST, _RESTRICT = range(1, 12)
_FUNC, _FUNC_PROTO, _VAR, _DATASEC, _FLOAT, _DECL_TAG, _TYPE_TAG, _ENUM64 = range(12, 20)
#: bytes that follow struct btf_type, by kind: always, and for each of its vlen
_MORE: Final = {
    _INT: (4, 0), _ARRAY: (12, 0), _STRUCT: (0, 12), _UNION: (0, 12), _ENUM: (0, 8), _FUNC_PROTO: (0, 8), _VAR: (4, 0),
    _DATASEC: (0, 12), _DECL_TAG: (4, 0), _ENUM64: (0, 12),
}
_KINDS: Final = 20
_THROUGH: Final = frozenset({_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG})
_NAMED: Final = frozenset({_INT, _STRUCT, _UNION, _ENUM, _TYPEDEF, _FLOAT, _ENUM64})
_SHAPES: Final = {_STRUCT: "struct", _UNION: "union", _ENUM: "enum", _ENUM64: "enum", _FLOAT: "float", _PTR: "pointer"}
#: no type of a kernel is nested so deeply
_DEEP: Final = 64
#: of the INT kind's encoding
_SIGNED, _BOOL = 1, 4
_PART: Final = re.compile(r"(\w+)((?:\[\d+\])*)")


class _Type(NamedTuple):
    """One struct btf_type."""

    at: int                # of what follows it, in the data
    name: int              # where its name begins, in the strings
    kind: int
    vlen: int
    flag: bool             # kind_flag
    size: int              # or the number of another type


class Btf:
    """See `taskscope.memory.types.Types`.

    :param data: the whole of it, header included
    :param name: for messages: the file, or the kernel whose memory it comes from
    :raises TraceError: it is no BTF, or its sections or types do not fit into it
    """

    def __init__(self, data: bytes, name: str = "BTF") -> None:
        self._data = data
        self._name = name
        if len(data) < 24:
            self._fail("is cut short: BTF has a header of 24 bytes", len(data))
        self._order = order = "<" if data[:2] == b"\x9f\xeb" else ">"
        magic, version, _, head, types, types_size, strings, strings_size = struct.unpack_from(order + "HBBIIIII", data)
        if magic != _MAGIC or version != 1:
            self._fail("is no BTF of version 1", 0)
        if head < 24 or head + types + types_size > len(data) or head + strings + strings_size > len(data):
            self._fail("is cut short: its sections reach beyond its end", len(data))
        self._begin, self._end = head + types, head + types + types_size
        self._strings, self._strings_end = head + strings, head + strings + strings_size
        self._types: array[int] = array("I", [0])
        self._by_name: dict[int, list[int]] = {}
        self._index()
        self._found: dict[tuple[str, str], Member | None] = {}
        self._owners: dict[str, int | None] = {}
        self._sizes: dict[str, int | None] = {}
        self._enums: dict[str, dict[str, int] | None] = {}
        pointer = self._named("long", _INT) or self._named("long int", _INT) or self._named("unsigned long", _INT)
        self.word = 8 if pointer is None else self._type(pointer).size

    def _fail(self, what: str, at: int) -> NoReturn:
        raise TraceError(f"{what}; take it again from the kernel that it describes (/sys/kernel/btf/vmlinux)",
                         self._name, at)

    def _index(self) -> None:
        """Find where the types begin, and the numbers of those that have names."""
        at, end = self._begin, self._end
        unpack = struct.Struct(self._order + "II").unpack_from
        data, begins, by_name = self._data, self._types, self._by_name
        fixed = [_MORE.get(kind, (0, 0))[0] + 12 for kind in range(32)]
        each = [_MORE.get(kind, (0, 0))[1] for kind in range(32)]
        named = [kind in _NAMED for kind in range(32)]
        add = begins.append
        number = 0
        while at + 12 <= end:
            name, info = unpack(data, at)
            kind = info >> 24 & 31
            number += 1
            add(at)
            if name and named[kind]:
                known = by_name.get(name)
                if known is None:
                    by_name[name] = [number]
                else:
                    known.append(number)
            elif not 0 < kind < _KINDS:
                self._fail(f"has a type of an unknown kind, {kind}", at)
            at += fixed[kind] + each[kind] * (info & 0xFFFF)
        if at != end:
            self._fail("has a type that reaches beyond its end", at)

    # ---- reading types ---------------------------------------------------------------------------------------

    def _type(self, number: int) -> _Type:
        if not 0 < number < len(self._types):
            self._fail(f"names type {number:,}, and has {len(self._types) - 1:,}", self._begin)
        at = self._types[number]
        name, info, size = struct.unpack_from(self._order + "III", self._data, at)
        return _Type(at + 12, name, info >> 24 & 31, info & 0xFFFF, bool(info >> 31), size)

    def _string(self, offset: int) -> str:
        start = self._strings + offset
        end = self._data.find(b"\0", start, self._strings_end)
        if end < 0:
            self._fail("has a name that reaches beyond its end", min(start, len(self._data)))
        return self._data[start:end].decode("ascii", "replace")

    def function(self, name: str) -> int | None:
        """Return the number of the type of a function of the kernel; None if there is none of that name."""
        wanted = name.encode()
        at = self._data.find(b"\0" + wanted + b"\0", self._strings, self._strings_end)
        if at < 0:
            return None
        text = at + 1 - self._strings
        unpack = struct.Struct(self._order + "II").unpack_from
        for number in range(1, len(self._types)):
            found, info = unpack(self._data, self._types[number])
            if found == text and info >> 24 & 31 == _FUNC:
                return number
        return None

    def _named(self, name: str, *kinds: int) -> int | None:
        """Return the number of the first type of a name and of one of these kinds."""
        # A name may be the tail of another string.
        wanted = name.encode()
        at = self._data.find(wanted + b"\0", self._strings, self._strings_end)
        while at >= 0:
            for number in self._by_name.get(at - self._strings, ()):
                if self._type(number).kind in kinds:
                    return number
            at = self._data.find(wanted + b"\0", at + 1, self._strings_end)
        return None

    def _bare(self, number: int) -> tuple[int, _Type] | None:
        """Go through typedefs and qualifiers; None is void."""
        deep = 0
        while number:
            found = self._type(number)
            if found.kind not in _THROUGH:
                return number, found
            number = found.size
            deep += 1
            if deep > _DEEP:
                self._fail("has a typedef of itself", found.at)
        return None

    def _array(self, array: _Type) -> tuple[int, int, int]:
        """Return struct btf_array: type of an element, type of the index, elements."""
        of, index, length = struct.unpack_from(self._order + "III", self._data, array.at)
        return of, index, length

    def _size(self, number: int, deep: int = 0) -> int:
        bare = self._bare(number)
        if bare is None:
            return 0
        kind = bare[1].kind
        if kind == _PTR:
            return self.word
        if kind == _ARRAY:
            if deep > _DEEP:
                self._fail("has an array of itself", bare[1].at)
            of, _, length = self._array(bare[1])
            return length * self._size(of, deep + 1)
        return bare[1].size if kind in (_INT, _STRUCT, _UNION, _ENUM, _ENUM64, _FLOAT) else 0

    def _raw(self, number: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield the members of a struct or union: name, type, bit, width of a bit field or 0."""
        owner = self._type(number)
        for name, of, place in struct.iter_unpack(
            self._order + "III", self._data[owner.at : owner.at + 12 * owner.vlen]
        ):
            yield (name, of, place & 0xFFFFFF, place >> 24) if owner.flag else (name, of, place, 0)

    def _member(self, of: int, bit: int, bits: int) -> Member:
        """Describe a member."""
        bare = self._bare(of)
        size = self._size(of)
        if bare is None:
            return Member(bit // 8, 0, "void")
        found = bare[1]
        name: str | None = None
        length: int | None = None
        kind, signed = _SHAPES.get(found.kind, "void"), False
        if found.kind == _INT:
            (encoding,) = struct.unpack_from(self._order + "I", self._data, found.at)
            kind = "bool" if encoding >> 24 & _BOOL else "int"
            signed = bool(encoding >> 24 & _SIGNED)
            # Before kind_flag a bit field was an integer with a width of its own.
            if not bits and encoding & 0xFF != size * 8:
                bit, bits = bit + (encoding >> 16 & 0xFF), encoding & 0xFF
        elif found.kind == _ARRAY:
            kind = "array"
            inner, _, length = self._array(found)
            name = self._name_of(inner)
        elif found.kind == _PTR:
            name = self._name_of(found.size)
        else:
            signed = found.flag and found.kind in (_ENUM, _ENUM64)
            name = self._string(found.name) or None
        if bits:
            start = bit // 8 // max(size, 1) * max(size, 1)
            return Member(start, size, kind, signed, bit - start * 8, bits, name)
        return Member(bit // 8, size, kind, signed, None, None, name, length)

    def _name_of(self, number: int) -> str | None:
        bare = self._bare(number)
        return None if bare is None else self._string(bare[1].name) or None

    def _owner(self, struct_: str) -> int | None:
        if struct_ not in self._owners:
            self._owners[struct_] = self._look_owner(struct_)
        return self._owners[struct_]

    def _look_owner(self, struct_: str) -> int | None:
        number = self._named(struct_, _STRUCT, _UNION)
        if number is None:
            number = self._named(struct_, _TYPEDEF)
            if number is not None:
                bare = self._bare(number)
                number = bare[0] if bare is not None and bare[1].kind in (_STRUCT, _UNION) else None
        return number

    def _find(self, owner: int, name: str, base: int, deep: int = 0) -> tuple[int, int, int] | None:
        """Find a member by name, in anonymous members too: its type, bit, and width."""
        if deep > _DEEP:
            self._fail("has a struct that contains itself", self._types[owner])
        for label, of, bit, bits in self._raw(owner):
            if label:
                if self._data.startswith(name.encode() + b"\0", self._strings + label):
                    return of, base + bit, bits
                continue
            bare = self._bare(of)
            if bare is not None and bare[1].kind in (_STRUCT, _UNION):
                found = self._find(bare[0], name, base + bit, deep + 1)
                if found is not None:
                    return found
        return None

    def _flat(self, owner: int, prefix: str, base: int, deep: int = 0) -> Iterator[tuple[str, Member]]:
        """Yield the members of a struct or union with their paths."""
        if deep > _DEEP:
            self._fail("has a struct that contains itself", self._types[owner])
        for label, of, bit, bits in self._raw(owner):
            name = self._string(label) if label else ""
            bare = self._bare(of)
            if bare is not None and bare[1].kind in (_STRUCT, _UNION):
                yield from self._flat(bare[0], f"{prefix}{name}." if name else prefix, base + bit, deep + 1)
            elif name:
                yield prefix + name, self._member(of, base + bit, bits)

    # ---- what is asked ---------------------------------------------------------------------------------------

    def size(self, name: str) -> int | None:
        """See `Types.size`."""
        if name not in self._sizes:
            self._sizes[name] = self._look_size(name)
        return self._sizes[name]

    def _look_size(self, name: str) -> int | None:
        number = self._named(name, _STRUCT, _UNION)
        if number is None:
            number = self._named(name, _TYPEDEF, _INT, _ENUM)
        return None if number is None else self._size(number)

    def member(self, struct: str, path: str) -> Member | None:
        """See `Types.member`."""
        key = struct, path
        if key not in self._found:
            self._found[key] = self._look(struct, path)
        return self._found[key]

    def members(self, struct: str) -> list[tuple[str, Member]]:
        """See `Types.members`."""
        owner = self._owner(struct)
        return [] if owner is None else list(self._flat(owner, "", 0))

    def _look(self, struct_: str, path: str) -> Member | None:
        owner = self._owner(struct_)
        bit = bits = of = 0
        for part in path.split("."):
            match = _PART.fullmatch(part)
            if match is None or owner is None:
                return None
            found = self._find(owner, match[1], bit)
            if found is None:
                return None
            of, bit, bits = found
            for index in re.findall(r"\d+", match[2]):
                bare = self._bare(of)
                if bare is None or bare[1].kind != _ARRAY:
                    return None
                of, _, length = self._array(bare[1])
                if length and int(index) >= length:
                    return None
                bit += 8 * int(index) * self._size(of)
            bare = self._bare(of)
            owner = bare[0] if bare is not None and bare[1].kind in (_STRUCT, _UNION) else None
        return self._member(of, bit, bits)

    def _values(self, number: int) -> Iterator[tuple[int, int]]:
        """Yield the enumerators of an enum: name, value."""
        found = self._type(number)
        if found.kind == _ENUM:
            form = self._order + ("Ii" if found.flag else "II")
            yield from struct.iter_unpack(form, self._data[found.at : found.at + 8 * found.vlen])
            return
        for name, low, high in struct.iter_unpack(
            self._order + "III", self._data[found.at : found.at + 12 * found.vlen]
        ):
            value = low | high << 32
            yield name, value - (1 << 64) if found.flag and value >> 63 else value

    def enumerators(self, name: str) -> dict[str, int] | None:
        """See `Types.enumerators`."""
        if name not in self._enums:
            number = self._named(name, _ENUM, _ENUM64)
            self._enums[name] = None if number is None else {self._string(label): value
                                                             for label, value in self._values(number)}
        return self._enums[name]
