"""A kernel that drgn has opened, dump or guest, as an `Image`: its memory, its symbols, its types.

No debug package is needed where the kernel's memory holds its types (BTF, from v5.2 on where it is configured) and its
symbols (kallsyms); else they are named: a BTF file, a System.map, or a vmlinux with both.
"""

from __future__ import annotations

import lzma
import os
import re
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskscope.errors import TraceError, UsageError
from taskscope.memory.btf import Btf
from taskscope.memory.dwarf import Dwarf, load_vmlinux
from taskscope.memory.image import FaultError, Image, Symbol
from taskscope.memory.kallsyms import Kallsyms
from taskscope.memory.search import Search
from taskscope.memory.symbols import SystemMap
from taskscope.memory.types import Types

if TYPE_CHECKING:
    import drgn

XZ: Final = b"\xfd7zXZ\0"
_ARCHES: Final = {"X86_64": "x86_64", "AARCH64": "aarch64", "ARM": "armv7l"}
#: bytes of BTF that no kernel has
_MOST: Final = 256 << 20


class _Drgn:
    """Symbols as drgn finds them: of a vmlinux, or in kernel memory where our own reader cannot."""

    def __init__(self, program: drgn.Program) -> None:
        self._program = program

    def symbol(self, name: str) -> int | None:
        try:
            return int(self._program.symbol(name).address)
        except LookupError:
            return None

    def symbol_at(self, address: int) -> Symbol | None:
        try:
            found = self._program.symbol(address)
        except LookupError:
            return None
        return Symbol(found.name, address - found.address, found.size or None)


class ProgramImage(Image):
    """See `taskscope.memory.image.Image`.

    :param program: of drgn; a Linux kernel
    :param source: what it is called in messages
    :raises TraceError: it is of an architecture that is not known here
    """

    def __init__(self, program: drgn.Program, source: str) -> None:
        self.arch = _ARCHES.get(program.platform.arch.name if program.platform else "", "")
        if not self.arch:
            raise TraceError("is of an architecture whose task descriptors are not known here (x86-64, arm64, ARM)",
                             source)
        self._program = program
        self._symbols: SystemMap | Kallsyms | _Drgn
        self._more: _Drgn | None = None          # those of a vmlinux: of data too, where kallsyms have none of that
        self._init_task: int | None = None       # where no symbol says it
        self.source = source
        self.types: Types
        self.release = _release(program)

    def learn(
        self, btf: str | PathLike[str] | None, symbols: str | PathLike[str] | None,
        vmlinux: str | PathLike[str] | None = None,
    ) -> None:
        """Find the symbols and the types: in the files that are named, else in the kernel's memory.

        :param btf: a file of raw BTF
        :param symbols: a System.map
        :param vmlinux: what has DWARF and symbols, where the others are not named
        :raises TraceError: they are neither here nor there, or `vmlinux` is of another kernel
        """
        if symbols is not None:
            self._symbols = SystemMap(_text(symbols), os.fspath(symbols))
        else:
            try:
                self._symbols = _kallsyms(self._program, self.source)
            except TraceError:
                if vmlinux is None:
                    raise
                self._symbols = _Drgn(self._program)
        if vmlinux is not None:
            load_vmlinux(self._program, vmlinux, _build_id(self._program), self.source)
            self._more = _Drgn(self._program)
        self.types = (Btf(_text(btf), os.fspath(btf)) if btf is not None else
                      self._btf_inside() if vmlinux is None else Dwarf(self._program, os.fspath(vmlinux)))
        if self.symbol("init_task") is None and symbols is None:
            self._init_task = self._search.init_task(self.types)
        if self.symbol("init_task") is None:
            raise TraceError("the symbols know no init_task (a kernel without CONFIG_KALLSYMS_ALL): name those of its "
                             "debug package with --symbols System.map", self.source)

    def _btf_inside(self) -> Btf:
        start, stop = self.symbol("__start_BTF"), self.symbol("__stop_BTF")
        if start is not None and stop is not None and 0 < stop - start < _MOST:
            return Btf(self.read(start, stop - start), f"{self.source}: BTF")
        found = self._search.btf()
        if found is None:
            raise TraceError("its kernel carries no types (BTF) in its memory: name them with --btf FILE (made by "
                             "pahole --btf_encode_detached of its vmlinux)", self.source)
        return Btf(found, f"{self.source}: BTF")

    @cached_property
    def _search(self) -> Search:
        return Search(self.read, _vmcoreinfo(self._program), 4 if self.arch == "armv7l" else 8)

    def read(self, address: int, count: int) -> bytes:
        """See `Image.read`."""
        return read_memory(self._program, address, count)

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        found = self._symbols.symbol(name)
        if found is None and self._more is not None:
            found = self._more.symbol(name)
        return self._init_task if found is None and name == "init_task" else found

    def symbol_at(self, address: int) -> Symbol | None:
        """See `Image.symbol_at`."""
        return self._symbols.symbol_at(address)


def read_memory(program: drgn.Program, address: int, count: int) -> bytes:
    """Read memory of a program of drgn.

    :raises FaultError: some of it is not there
    """
    import drgn

    try:
        found: bytes = program.read(address, count)
        return found
    except (drgn.FaultError, OverflowError, ValueError) as error:
        raise FaultError(address, count, why(error)) from None
    except OSError as error:
        raise FaultError(address, count, error.strerror or str(error)) from None


def new_program() -> drgn.Program:
    """Return a program of drgn that is nothing yet.

    :raises UsageError: drgn is not installed
    """
    try:
        import drgn
    except ImportError:
        raise UsageError("reading kernel memory needs drgn: pip install 'taskscope[memory]'") from None
    return drgn.Program()


def is_kernel(program: drgn.Program) -> bool:
    """Tell whether drgn knows it for a Linux kernel: it has found VMCOREINFO."""
    import drgn

    return bool(program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL)


def why(error: BaseException) -> str:
    """Return the first line of what an error says."""
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__


def _kallsyms(program: drgn.Program, name: str) -> Kallsyms | _Drgn:
    import drgn

    platform = program.platform
    word = 8 if platform is not None and platform.flags & drgn.PlatformFlags.IS_64_BIT else 4
    try:
        try:
            return Kallsyms(program.read, _vmcoreinfo(program), word)
        except (LookupError, drgn.FaultError):
            from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

            program.register_symbol_finder("kallsyms", load_vmlinux_kallsyms(program), enable_index=0)
            return _Drgn(program)
    except Exception as error:
        raise TraceError(f"its symbols cannot be read from its memory ({why(error)}): name them with --symbols "
                         "System.map", name) from None


def _text(path: str | PathLike[str]) -> bytes:
    name = os.fspath(path)
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise TraceError(error.strerror or str(error), name) from None
    if data.startswith(XZ):
        try:
            return lzma.decompress(data)
        except (lzma.LZMAError, EOFError) as error:
            raise TraceError(f"cannot be unpacked ({error}); copy it again", name) from None
    return data


def _vmcoreinfo(program: drgn.Program) -> str:
    text: bytes = program["VMCOREINFO"].string_()
    return text.decode("ascii", "replace")


def _build_id(program: drgn.Program) -> bytes | None:
    """Return the kernel's build ID, which VMCOREINFO tells since v5.9 (0935288c6e00)."""
    found = re.search(r"^BUILD-ID=([0-9a-f]{2,})$", _vmcoreinfo(program), re.MULTILINE)
    return bytes.fromhex(found[1]) if found and not len(found[1]) % 2 else None


def _release(program: drgn.Program) -> str:
    found = re.search(r"^OSRELEASE=(\S+)$", _vmcoreinfo(program), re.MULTILINE)
    return found[1] if found else ""
