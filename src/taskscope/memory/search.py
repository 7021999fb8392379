"""What a kernel without CONFIG_KALLSYMS_ALL (Debian's for arm64) has no symbols for: found by what it is.

The kernel's image is looked through from ``_stext`` on.  BTF begins with a header that nothing else has, and init_task
is the only task_struct of its name that is its own parent and that the list of tasks leads back to: what does not
fulfil all of it is not taken.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final

from taskscope.memory.image import FaultError
from taskscope.memory.types import Types

#: bytes that are read at once; where some are missing, a page
_CHUNK: Final = 1 << 16
_PAGE: Final = 1 << 12
#: no kernel's image is longer; what lies behind the last symbol that VMCOREINFO names
_LONGEST: Final = 256 << 20
_BEHIND: Final = 4 << 20
#: struct btf_header: magic, version, flags, hdr_len, type_off of 0; then type_len, str_off, str_len
_BTF: Final = b"\x9f\xeb\x01\x00" + struct.pack("<II", 24, 0)


class Search:
    """The image of a kernel, in the ranges that are there.

    :param read: reads kernel memory; raises FaultError
    :param vmcoreinfo: the text of VMCOREINFO, which says where the image is
    """

    def __init__(self, read: Callable[[int, int], bytes], vmcoreinfo: str, word: int = 8) -> None:
        self._read = read
        self._word = word
        self._ranges: list[tuple[int, bytes]] = []
        symbols = {name: int(text, 16) for name, text in
                   re.findall(r"^SYMBOL\((\w+)\)=([0-9a-f]+)$", vmcoreinfo, re.MULTILINE)}
        start = symbols.get("_stext")
        if start is None:
            return
        last = max(address for address in symbols.values() if 0 <= address - start < _LONGEST)
        self._look(start & -_PAGE, last + _BEHIND)

    def _look(self, start: int, stop: int) -> None:
        parts: list[bytes] = []
        begin = start

        def end() -> None:
            if parts:
                self._ranges.append((begin, b"".join(parts)))
                parts.clear()

        for chunk in range(start, stop, _CHUNK):
            for at, count in ((chunk, _CHUNK), *((page, _PAGE) for page in range(chunk, chunk + _CHUNK, _PAGE))):
                try:
                    data = self._read(at, count)
                except FaultError:
                    if count == _PAGE:
                        end()
                    continue
                if not parts:
                    begin = at
                parts.append(data)
                if count == _CHUNK:
                    break
        end()

    def btf(self) -> bytes | None:
        """Return the types of the kernel; None if it has none, or there are several."""
        found: list[bytes] = []
        for _, data in self._ranges:
            at = data.find(_BTF)
            while at >= 0:
                if at + 24 <= len(data):
                    types, strings, length = struct.unpack_from("<III", data, at + 12)
                    if types == strings and types and length and at + 24 + strings + length <= len(data):
                        found.append(data[at : at + 24 + strings + length])
                at = data.find(_BTF, at + 1)
        return found[0] if len(found) == 1 else None

    def init_task(self, types: Types) -> int | None:
        """Return where init_task is; None if nothing is just that."""
        comm, size = types.member("task_struct", "comm"), types.size("task_struct")
        if comm is None or not size:
            return None
        found = {
            start + match.start() - comm.offset
            for start, data in self._ranges for match in re.finditer(rb"swapper(?:/0)?\0", data)
            if match.start() >= comm.offset and self._is_first(types, start + match.start() - comm.offset, size)
        }
        return found.pop() if len(found) == 1 else None

    def _is_first(self, types: Types, address: int, size: int) -> bool:
        tasks = types.member("task_struct", "tasks")
        if address % self._word or tasks is None:
            return False
        try:
            data = self._read(address, size)
            values = {}
            for name in ("pid", "tgid", "real_parent", "parent", "group_leader", "tasks.next"):
                member = types.member("task_struct", name)
                if member is None:
                    return False
                values[name] = int.from_bytes(data[member.offset : member.offset + member.size], "little")
            # Of the list_head behind it: prev.
            back = int.from_bytes(self._read(values["tasks.next"] + self._word, self._word), "little")
        except FaultError:
            return False
        return (values["pid"] == values["tgid"] == 0 and back == address + tasks.offset
                and values["real_parent"] == values["parent"] == values["group_leader"] == address)
