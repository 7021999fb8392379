"""What is in a BPF object: `BpfObject`, one program and the places where its map goes.

As much of ELF as clang writes for ``-target bpf`` (elf(5), Documentation/bpf/llvm_reloc.rst).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from taskscope.errors import TraceError

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_EM_BPF, _REL, _R_BPF_64_64 = 247, 9, 1
#: in the high half of the second byte of a 16-byte load: its number is a map's file descriptor
_PSEUDO_MAP_FD: Final = 1 << 4


@dataclass(frozen=True, slots=True)
class BpfObject:
    """A program as clang made it.

    :param code: its instructions, 8 bytes each
    :param maps: where in them the address of a map goes: byte offsets
    """

    code: bytes
    maps: tuple[int, ...]

    @classmethod
    def read(cls, data: bytes, section: str, name: str = "BPF object") -> Self:
        """Take a program out of an object file.

        :param data: the whole file
        :param section: of the program: ``syscall``, ``iter/task``
        :param name: for messages
        :raises TraceError: it is no BPF object, or has no such program
        """
        try:
            return cls._read(data, section, name)
        except (struct.error, IndexError, ValueError):
            raise TraceError("is cut short or damaged; install taskscope again", name) from None

    @classmethod
    def _read(cls, data: bytes, section: str, name: str) -> Self:
        head = _HEADER.unpack_from(data)
        if data[:4] != b"\x7fELF" or head[2] != _EM_BPF or head[11] != _SECTION.size:
            raise TraceError("is no BPF object; install taskscope again", name, 0)
        at, count, names_at = head[6], head[12], head[13]
        sections = [_SECTION.unpack_from(data, at + k * _SECTION.size) for k in range(count)]

        def held(number: int) -> bytes:
            offset, size = sections[number][4], sections[number][5]
            if offset + size > len(data):
                raise ValueError
            return data[offset : offset + size]

        names = held(names_at)
        titles = [names[s[0] : names.index(b"\0", s[0])].decode("ascii") for s in sections]
        if section not in titles:
            raise TraceError(f"has no program {section}; install taskscope again", name)
        number = titles.index(section)
        code = held(number)
        if not code or len(code) % 8:
            raise ValueError
        places: list[int] = []
        for k, part in enumerate(sections):
            if part[1] != _REL or part[7] != number:
                continue
            table = held(k)
            for offset, info in struct.iter_unpack("<QQ", table):
                if info & 0xFFFFFFFF != _R_BPF_64_64 or offset % 8 or offset + 16 > len(code):
                    raise ValueError
                _SYMBOL.unpack_from(held(part[6]), (info >> 32) * _SYMBOL.size)
                places.append(offset)
        return cls(code, tuple(places))

    def linked(self, fd: int | None = None) -> bytes:
        """Return the instructions with the file descriptor of a map where the map's address goes."""
        code = bytearray(self.code)
        for at in self.maps:
            assert fd is not None, "the program has a map"
            code[at + 1] = code[at + 1] & 0x0F | _PSEUDO_MAP_FD
            struct.pack_into("<I", code, at + 4, fd)
        return bytes(code)
