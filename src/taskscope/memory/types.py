"""What kernel types look like in memory: `Types`; `taskscope.memory.btf` reads them from BTF.

Members are looked up by name, through anonymous structs and unions; no version is ever compared.  A struct is read with
one read, and its members are taken out of the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member lies in its struct, and what it is."""

    offset: int                # bytes from the start of the outermost struct
    size: int                  # bytes; of a bit field: of the whole bytes that hold it
    kind: str                  # int, bool, enum, float, pointer, array, struct, union
    signed: bool = False
    bit: int | None = None     # a bit field: its lowest bit, counted from `offset`
    bits: int | None = None    # and its width
    of: str | None = None      # name of the struct, union or enum; of a pointer or array: of what it is of
    length: int | None = None  # of an array: elements; 0 for a flexible one


class Types(Protocol):
    """The types of one kernel."""

    word: int                  # bytes of a pointer

    def size(self, name: str) -> int | None:
        """Return the size of ``struct name`` or of a typedef in bytes; None if there is no such type."""

    def member(self, struct: str, path: str) -> Member | None:
        """Find a member of ``struct``, such as ``se.sum_exec_runtime`` or ``comm``; None if there is none.

        The path goes through embedded structs, not through pointers; ``name[3]`` is an element of an array.
        """

    def members(self, struct: str) -> list[tuple[str, Member]]:
        """Return the members of ``struct`` with their paths, those of embedded structs and unions too; arrays whole."""

    def enumerators(self, name: str) -> dict[str, int] | None:
        """Return the names and values of ``enum name``; None if there is no such enum."""
