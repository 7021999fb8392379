"""Types as drgn knows them: out of the DWARF of a vmlinux, as Debian's packages linux-image-…-dbg hold it.

A drgn that reads BTF too would give the same through `Dwarf`: it asks for types by name only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from os import PathLike
from typing import TYPE_CHECKING, Final

from taskscope.errors import PermissionRefusedError, TraceError
from taskscope.memory.types import Member

if TYPE_CHECKING:
    import drgn

_PART: Final = re.compile(r"(\w+)((?:\[\d+\])*)")
#: no type of a kernel is nested so deeply
_DEEP: Final = 64
#: of TypeKind -> kind of `Member`
_KINDS: Final = {"INT": "int", "BOOL": "bool", "ENUM": "enum", "FLOAT": "float", "POINTER": "pointer",
                 "ARRAY": "array", "STRUCT": "struct", "UNION": "union", "CLASS": "struct"}
#: what has members, and what has a tag
_COMPOUND: Final = frozenset({"struct", "union"})
_TAGGED: Final = _COMPOUND | {"enum"}


class Dwarf:
    """See `taskscope.memory.types.Types`.

    :param program: of drgn, which has loaded debug information
    :param name: for messages: the file
    """

    def __init__(self, program: drgn.Program, name: str) -> None:
        import drgn

        self._program = program
        self._name = name
        platform = program.platform
        self.word = 8 if platform is None or platform.flags & drgn.PlatformFlags.IS_64_BIT else 4
        self._types: dict[tuple[str, ...], drgn.Type | None] = {}
        self._found: dict[tuple[str, str], Member | None] = {}

    def _type(self, *texts: str) -> drgn.Type | None:
        """Return the first type that is there, of several ways to write it."""
        if texts not in self._types:
            self._types[texts] = next((found for text in texts if (found := self._look_up(text)) is not None), None)
        return self._types[texts]

    def _look_up(self, text: str) -> drgn.Type | None:
        try:
            return self._program.type(text)
        except (LookupError, SyntaxError):
            return None
        except Exception as error:
            raise self._damaged(error) from None

    def _damaged(self, error: Exception) -> TraceError:
        return TraceError(f"its debug information is damaged ({str(error).splitlines()[0]}); copy or install it again",
                          self._name)

    def _owner(self, name: str) -> drgn.Type | None:
        """Return the struct or union of a name, or that a typedef means."""
        found = self._type(f"struct {name}", f"union {name}", name)
        bare = None if found is None else _bare(found)
        return bare if bare is not None and _kind(bare) in _COMPOUND else None

    def _find(self, owner: drgn.Type, name: str, base: int, deep: int = 0) -> tuple[drgn.Type, int, int] | None:
        """Find a member by name, in anonymous members too: its type, bit, and width of a bit field or 0."""
        for member in owner.members or ():
            of = member.type
            if member.name == name:
                return of, base + member.bit_offset, member.bit_field_size or 0
            if member.name is None and deep < _DEEP and _kind(bare := _bare(of)) in _COMPOUND:
                found = self._find(bare, name, base + member.bit_offset, deep + 1)
                if found is not None:
                    return found
        return None

    def _flat(self, owner: drgn.Type, prefix: str, base: int, deep: int = 0) -> Iterator[tuple[str, Member]]:
        for member in owner.members or ():
            bare, bit = _bare(member.type), base + member.bit_offset
            if _kind(bare) in _COMPOUND and deep < _DEEP:
                yield from self._flat(bare, f"{prefix}{member.name}." if member.name else prefix, bit, deep + 1)
            elif member.name:
                yield prefix + member.name, _member(member.type, bit, member.bit_field_size or 0)

    # ---- what is asked ---------------------------------------------------------------------------------------

    def size(self, name: str) -> int | None:
        """See `Types.size`."""
        found = self._type(f"struct {name}", f"union {name}", name, f"enum {name}")
        return None if found is None else _size(found)

    def member(self, struct: str, path: str) -> Member | None:
        """See `Types.member`.

        :raises TraceError: the debug information is damaged
        """
        key = struct, path
        if key not in self._found:
            try:
                self._found[key] = self._look(struct, path)
            except TraceError:
                raise
            except Exception as error:
                raise self._damaged(error) from None
        return self._found[key]

    def _look(self, struct: str, path: str) -> Member | None:
        owner = self._owner(struct)
        bit = bits = 0
        of: drgn.Type | None = None
        for part in path.split("."):
            match = _PART.fullmatch(part)
            found = None if match is None or owner is None else self._find(owner, match[1], bit)
            if match is None or found is None:
                return None
            of, bit, bits = found
            for index in map(int, re.findall(r"\d+", match[2])):
                of = _bare(of)
                if _kind(of) != "array" or (of.length and index >= of.length):
                    return None
                of = of.type
                bit += 8 * index * _size(of)
            bare = _bare(of)
            owner = bare if _kind(bare) in _COMPOUND else None
        return None if of is None else _member(of, bit, bits)

    def members(self, struct: str) -> list[tuple[str, Member]]:
        """See `Types.members`.

        :raises TraceError: the debug information is damaged
        """
        owner = self._owner(struct)
        try:
            return [] if owner is None else list(self._flat(owner, "", 0))
        except Exception as error:
            raise self._damaged(error) from None

    def enumerators(self, name: str) -> dict[str, int] | None:
        """See `Types.enumerators`."""
        found = self._type(f"enum {name}")
        if found is None or found.enumerators is None:
            return None
        return {one.name: one.value for one in found.enumerators}


def load_vmlinux(
    program: drgn.Program | None, path: str | PathLike[str], build_id: bytes | None, of: str,
) -> drgn.Program:
    """Let drgn load the debug information of a kernel, for its types and symbols.

    :param program: a kernel that drgn has opened; None for one of its own, that has types only
    :param path: the vmlinux, as it was built or stripped of all but debug information
    :param build_id: of the kernel that is looked at; None if it is not known
    :param of: what that is called in messages
    :raises TraceError: the file cannot be read, has no debug information, or is of another kernel
    """
    import drgn

    name = os.fspath(path)
    _look_at(name)
    alone = drgn.Program()
    extra = alone.extra_module(name, create=True)
    probe = extra[0] if isinstance(extra, tuple) else extra
    _try(probe, name)
    if probe.debug_file_status != drgn.ModuleFileStatus.HAVE:
        raise TraceError("has no debug information (DWARF), or is cut short; name the vmlinux of the kernel's debug "
                         "package (Debian: linux-image-…-dbg)", name)
    if build_id is not None and probe.build_id != build_id:
        raise TraceError(f"is of another kernel: its build ID is {_hex(probe.build_id)}, that of {of} is "
                         f"{_hex(build_id)}; name the vmlinux of that kernel's debug package", name)
    if program is None:
        return alone
    found = program.main_module("kernel", create=True)
    _try(found[0] if isinstance(found, tuple) else found, name)
    return program


def _try(module: drgn.Module, name: str) -> None:
    try:
        module.try_file(name)
    except Exception as error:
        raise TraceError(f"cannot be read as a vmlinux ({str(error).splitlines()[0]}); copy or install it again",
                         name) from None


def _look_at(name: str) -> None:
    """Say what is wrong with a file that can be no vmlinux."""
    try:
        with open(name, "rb") as file:  # noqa: PTH123
            head = file.read(4)
    except PermissionError:
        raise PermissionRefusedError("may not be read; run it as root: sudo taskscope …", name) from None
    except OSError as error:
        raise TraceError(error.strerror or str(error), name) from None
    if head != b"\x7fELF":
        raise TraceError("is no ELF file; name a vmlinux with debug information (a vmlinuz has none)", name, 0)


def _hex(build_id: bytes | None) -> str:
    return "not there" if build_id is None else build_id.hex()


def _bare(type_: drgn.Type) -> drgn.Type:
    """Go through typedefs."""
    import drgn

    while type_.kind == drgn.TypeKind.TYPEDEF:
        type_ = type_.type
    return type_


def _kind(type_: drgn.Type) -> str:
    return _KINDS.get(type_.kind.name, "void")


def _size(type_: drgn.Type) -> int:
    import drgn

    bare = _bare(type_)
    if _kind(bare) == "array":
        return (bare.length or 0) * _size(bare.type)
    return drgn.sizeof(bare) if _kind(bare) != "void" and bare.is_complete() else 0


def _name_of(type_: drgn.Type) -> str | None:
    bare = _bare(type_)
    return bare.tag if _kind(bare) in _TAGGED else \
        bare.name if _kind(bare) in ("int", "bool", "float") else None


def _member(type_: drgn.Type, bit: int, bits: int) -> Member:
    """Describe a member."""
    bare, size = _bare(type_), _size(type_)
    kind = _kind(bare)
    # Numbers are called by what they are made of where something leads to them.
    name = _name_of(bare.type) if kind == "pointer" else bare.tag if kind in _TAGGED else None
    length = None
    if kind == "array":
        # Arrays of arrays are told as one, as pahole writes them into BTF.
        length, inner = bare.length or 0, _bare(bare.type)
        while _kind(inner) == "array":
            length, inner = length * (inner.length or 0), _bare(inner.type)
        name = _name_of(inner)
    signed = bool(bare.is_signed if kind == "int" else bare.type and bare.type.is_signed if kind == "enum" else False)
    if bits:
        start = bit // 8 // max(size, 1) * max(size, 1)
        return Member(start, size, kind, signed, bit - start * 8, bits, name)
    return Member(bit // 8, size, kind, signed, None, None, name, length)
