"""Structs in kernel memory: each is read with one read, and its members are taken out of the bytes.

A path goes through embedded structs and pointers alike, as `Memory` has it: ``signal.tty.name``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from taskscope.memory.image import FaultError, Image
from taskscope.memory.types import Member

#: a member that holds more than its name says, and where that stands: arm64 keeps need_resched in preempt_count too,
#: since 396244692232 ("arm64: preempt: Provide our own implementation of asm/preempt.h", v5.0)
_WITHIN: Final = {("thread_info", "preempt_count"): "preempt.count"}


@dataclass(frozen=True, slots=True, eq=False)
class Struct:
    """A struct in kernel memory: its bytes as they were when it was first looked at."""

    name: str
    address: int
    data: bytes


class Structs:
    """Reads structs, and remembers them: memory is looked at once.

    :param image: the memory of a kernel
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self.types = image.types
        self.wounds: list[str] = []
        self._structs: dict[tuple[str, int], Struct | None] = {}
        self._paths: dict[tuple[str, str], list[tuple[Member, str | None]] | None] = {}

    def _wound(self, text: str) -> None:
        if text not in self.wounds:
            self.wounds.append(text)

    def forget(self) -> None:
        """Look at memory anew from now on."""
        self._structs.clear()

    def struct(self, name: str, address: int) -> Struct | None:
        """Return the struct at an address; None for NULL, or if it cannot be read: then there is a wound."""
        if not address:
            return None
        key = name, address
        try:
            return self._structs[key]
        except KeyError:
            found = self._structs[key] = self._read(name, address)
            return found

    def _read(self, name: str, address: int) -> Struct | None:
        size = self.types.size(name)
        if not size:
            return None
        try:
            return Struct(name, address, self.image.read(address, size))
        except FaultError:
            self._wound(f"struct {name} at {address:#x} cannot be read: the pointer to it is wrong, or the memory is "
                        "not there")
            return None

    def _path(self, name: str, path: str) -> list[tuple[Member, str | None]] | None:
        """Find the members along a path: each with the struct that its pointer leads to, the last as it is."""
        key = name, path
        try:
            return self._paths[key]
        except KeyError:
            found = self._paths[key] = self._look(name, path)
            return found

    def _look(self, name: str, path: str) -> list[tuple[Member, str | None]] | None:
        if self.types.member(name, _WITHIN.get((name, path), "")) is not None:
            path = _WITHIN[name, path]
        steps: list[tuple[Member, str | None]] = []
        parts = path.split(".")
        at, held = name, ""
        for n, part in enumerate(parts):
            held = f"{held}.{part}" if held else part
            member = self.types.member(at, held)
            if member is None:
                return None
            if member.kind == "pointer" and n + 1 < len(parts):
                if member.of is None:
                    return None
                steps.append((member, member.of))
                at, held = member.of, ""
            elif n + 1 == len(parts):
                steps.append((member, None))
        return steps

    def _reach(self, obj: Struct, path: str) -> tuple[Struct, Member] | None:
        """Go along a path; None if there is no such member, or a pointer on the way is NULL or wrong."""
        steps = self._path(obj.name, path)
        if steps is None:
            return None
        for member, leads in steps:
            if leads is None:
                return obj, member
            following = self.struct(leads, self._int(obj, member))
            if following is None:
                return None
            obj = following
        return None

    @staticmethod
    def _int(obj: Struct, member: Member) -> int:
        value = int.from_bytes(obj.data[member.offset : member.offset + member.size], "little",
                               signed=member.signed and member.bits is None)
        if member.bits is not None:
            value = value >> (member.bit or 0) & (1 << member.bits) - 1
        return value
