"""Crash dumps as an `Image`: ELF vmcores and kdump-compressed files, read by drgn (libkdumpfile).

No debug package is needed where the kernel's memory holds its types (BTF, from v5.2 on where it is configured) and the
names of its data (kallsyms, with CONFIG_KALLSYMS_ALL); else they are named: a BTF file, a System.map.
"""

from __future__ import annotations

import lzma
import os
import re
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskscope.errors import PermissionRefusedError, TraceError, UsageError
from taskscope.memory.btf import Btf
from taskscope.memory.image import FaultError, Symbol
from taskscope.memory.kallsyms import Kallsyms, covering
from taskscope.memory.kdump import whole
from taskscope.memory.types import Types

if TYPE_CHECKING:
    import drgn

_XZ: Final = b"\xfd7zXZ\0"
_ARCHES: Final = {"X86_64": "x86_64", "AARCH64": "aarch64", "ARM": "armv7l"}
#: bytes of BTF that no kernel has
_MOST: Final = 256 << 20


class SystemMap:
    """Symbols out of a System.map, or the text of /proc/kallsyms: one ``address type name`` a line.

    :raises TraceError: a line is none
    """

    def __init__(self, text: bytes, name: str) -> None:
        found: list[tuple[int, str]] = []
        self._address: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(rb"([0-9a-fA-F]{4,16}) (\S) (\S+)", line)
            if match is None:
                raise TraceError("is no 'address type name'; give a System.map", name, number, "line")
            label = match[3].decode("ascii", "replace")
            # Mapping symbols of ARM ($a, $d, $t) name nothing.
            if not label.startswith("$"):
                address = int(match[1], 16)
                found.append((address, label))
                self._address.setdefault(label, address)
        found.sort(key=lambda entry: entry[0])
        self._starts = [address for address, _ in found]
        self._names = [label for _, label in found]

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        return self._address.get(name)

    def symbol_at(self, address: int) -> Symbol | None:
        """See `Image.symbol_at`."""
        found = covering(self._starts, address)
        return None if found is None else Symbol(self._names[found[0]], found[1], found[2])


class _Found:
    """Symbols in kernel memory: by name as drgn finds them, by address as the kernel does."""

    def __init__(self, program: drgn.Program) -> None:
        from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

        program.register_symbol_finder("kallsyms", load_vmlinux_kallsyms(program), enable_index=0)
        self._program = program

    @cached_property
    def _by_address(self) -> Kallsyms | None:
        import drgn

        try:
            return Kallsyms(self._program.read, _vmcoreinfo(self._program))
        except (LookupError, drgn.FaultError):
            return None

    def symbol(self, name: str) -> int | None:
        try:
            return int(self._program.symbol(name).address)
        except LookupError:
            return None

    def symbol_at(self, address: int) -> Symbol | None:
        if self._by_address is not None:
            return self._by_address.symbol_at(address)
        try:
            found = self._program.symbol(address)
        except LookupError:
            return None
        return Symbol(found.name, address - found.address, found.size or None)


class CoreImage:
    """See `taskscope.memory.image.Image`; made by `open_core`."""

    def __init__(self, program: drgn.Program, source: str, arch: str, symbols: SystemMap | _Found) -> None:
        self._program = program
        self._symbols = symbols
        self.source = source
        self.arch = arch
        self.types: Types
        self.wrong = ""
        self.release = _release(program)

    def read(self, address: int, count: int) -> bytes:
        """See `Image.read`."""
        import drgn

        try:
            found: bytes = self._program.read(address, count)
            return found
        except (drgn.FaultError, OverflowError, ValueError) as error:
            raise FaultError(address, count, _why(error)) from None
        except OSError as error:
            raise FaultError(address, count, error.strerror or str(error)) from None

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        return self._symbols.symbol(name)

    def symbol_at(self, address: int) -> Symbol | None:
        """See `Image.symbol_at`."""
        return self._symbols.symbol_at(address)


def open_core(
    path: str | PathLike[str], *, btf: str | PathLike[str] | None = None, symbols: str | PathLike[str] | None = None
) -> CoreImage:
    """Open a crash dump.

    :param path: an ELF vmcore or a kdump-compressed file
    :param btf: the types, where the kernel's memory has none: a file of raw BTF
    :param symbols: the symbols, where the kernel's memory has none of its data: a System.map
    :raises TraceError: it is no dump, is damaged, or has no types or symbols and none were named
    :raises UsageError: drgn is not installed
    """
    name = os.fspath(path)
    program, wrong = _program(name, compressed=_look_at(name))
    arch = _ARCHES.get(program.platform.arch.name if program.platform else "", "")
    if not arch:
        raise TraceError("is of an architecture whose task descriptors are not known here (x86-64, arm64, ARM)", name)
    try:
        image = _image(program, name, arch, btf, symbols)
    except TraceError:
        if wrong:
            raise TraceError(f"{wrong}; what is left does not hold the kernel's symbols and types", name) from None
        raise
    image.wrong = wrong
    return image


def _image(
    program: drgn.Program, name: str, arch: str, btf: str | PathLike[str] | None, symbols: str | PathLike[str] | None
) -> CoreImage:
    found = SystemMap(_text(symbols), os.fspath(symbols)) if symbols is not None else _kallsyms(program, name)
    image = CoreImage(program, name, arch, found)
    image.types = Btf(_text(btf), os.fspath(btf)) if btf is not None else _btf_inside(image)
    if image.symbol("init_task") is None:
        raise TraceError("the symbols know no init_task (a kernel without CONFIG_KALLSYMS_ALL): name those of its "
                         "debug package with --symbols System.map", name)
    return image


def _look_at(name: str) -> bool:
    """Say what is wrong with a file that cannot be a dump; tell whether one is kdump-compressed."""
    try:
        with Path(name).open("rb") as file:
            head = file.read(16)
    except IsADirectoryError:
        raise TraceError("is a folder; name the dump in it", name) from None
    except FileNotFoundError:
        raise TraceError("there is no such file", name) from None
    except PermissionError:
        raise PermissionRefusedError("may not be read; run it as root: sudo taskscope …", name) from None
    if not head:
        raise TraceError("is empty; copy the dump again from where it was made", name)
    if head.startswith(_XZ):
        raise TraceError(f"is compressed by xz; unpack it: unxz -k {name}", name)
    if not head.startswith((b"\x7fELF", b"KDUMP   ", b"DISKDUMP", b"makedumpfile")):
        raise TraceError("is no crash dump: neither an ELF vmcore nor a kdump-compressed file", name, 0)
    if head.startswith(b"makedumpfile"):
        raise TraceError(f"is a flattened dump; rearrange it: makedumpfile -R dump < {name}", name)
    return not head.startswith(b"\x7fELF")


def _program(name: str, compressed: bool) -> tuple[drgn.Program, str]:
    """Let drgn open the dump; return what is wrong with it too."""
    try:
        import drgn
    except ImportError:
        raise UsageError("reading kernel memory needs drgn: pip install 'taskscope[memory]'") from None
    program = drgn.Program()
    try:
        if compressed:
            # The file is opened here, and its name not needed any more.
            with whole(name) as (path, wrong):
                program.set_core_dump(path)
        else:
            wrong = ""
            program.set_core_dump(name)
    except TraceError:
        raise
    except (ValueError, OSError, OverflowError) as error:
        raise TraceError(f"cannot be opened ({_why(error)}); copy it again from where it was made", name) from None
    except Exception as error:
        raise TraceError(f"cannot be read as a dump ({_why(error)}); copy it again from where it was made",
                         name) from None
    if not program.flags & drgn.ProgramFlags.IS_LINUX_KERNEL:
        raise TraceError("is no dump of a Linux kernel: it has no VMCOREINFO (of a guest: start QEMU with -device "
                         "vmcoreinfo)", name)
    return program, wrong


def _kallsyms(program: drgn.Program, name: str) -> _Found:
    try:
        return _Found(program)
    except Exception as error:
        raise TraceError(f"its symbols cannot be read from its memory ({_why(error)}): name them with --symbols "
                         "System.map", name) from None


def _btf_inside(image: CoreImage) -> Btf:
    start, stop = image.symbol("__start_BTF"), image.symbol("__stop_BTF")
    if start is None or stop is None or not 0 < stop - start < _MOST:
        raise TraceError("its kernel carries no types (BTF) in its memory: name them with --btf FILE (made by pahole "
                         "--btf_encode_detached of its vmlinux)", image.source)
    return Btf(image.read(start, stop - start), f"{image.source}: BTF")


def _text(path: str | PathLike[str] | None) -> bytes:
    assert path is not None
    name = os.fspath(path)
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise TraceError(error.strerror or str(error), name) from None
    if data.startswith(_XZ):
        try:
            return lzma.decompress(data)
        except (lzma.LZMAError, EOFError) as error:
            raise TraceError(f"cannot be unpacked ({error}); copy it again", name) from None
    return data


def _vmcoreinfo(program: drgn.Program) -> str:
    text: bytes = program["VMCOREINFO"].string_()
    return text.decode("ascii", "replace")


def _release(program: drgn.Program) -> str:
    found = re.search(r"^OSRELEASE=(\S+)$", _vmcoreinfo(program), re.MULTILINE)
    return found[1] if found else ""


def _why(error: BaseException) -> str:
    text = str(error).splitlines()
    return text[0] if text else type(error).__name__


