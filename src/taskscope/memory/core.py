"""Crash dumps as an `Image`: ELF vmcores and kdump-compressed files, read by drgn (libkdumpfile)."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from taskscope.errors import PermissionRefusedError, TraceError
from taskscope.memory.kdump import FLAT, whole
from taskscope.memory.program import XZ, ProgramImage, is_kernel, new_program, why

if TYPE_CHECKING:
    import drgn

class CoreImage(ProgramImage):
    """The memory in a crash dump; made by `open_core`."""


def open_core(
    path: str | PathLike[str], *, btf: str | PathLike[str] | None = None, symbols: str | PathLike[str] | None = None,
    vmlinux: str | PathLike[str] | None = None,
) -> CoreImage:
    """Open a crash dump.

    :param path: an ELF vmcore or a kdump-compressed file
    :param btf: the types, where the kernel's memory has none: a file of raw BTF
    :param symbols: the symbols, where the kernel's memory has none of its data: a System.map
    :param vmlinux: types and symbols of its DWARF instead
    :raises TraceError: it is no dump, is damaged, or has no types or symbols and none were named
    :raises UsageError: drgn is not installed
    """
    name = os.fspath(path)
    program, wrong = _program(name, compressed=_look_at(name))
    image = CoreImage(program, name)
    try:
        image.learn(btf, symbols, vmlinux)
    except TraceError:
        if wrong:
            raise TraceError(f"{wrong}; what is left does not hold the kernel's symbols and types", name) from None
        raise
    image.wrong = wrong
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
    if head.startswith(XZ):
        raise TraceError(f"is compressed by xz; unpack it: unxz -k {name}", name)
    if not head.startswith((b"\x7fELF", b"KDUMP   ", b"DISKDUMP", FLAT)):
        raise TraceError("is no crash dump: neither an ELF vmcore nor a kdump-compressed file", name, 0)
    return not head.startswith(b"\x7fELF")


def _program(name: str, compressed: bool) -> tuple[drgn.Program, str]:
    """Let drgn open the dump; return what is wrong with it too."""
    program = new_program()
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
        raise TraceError(f"cannot be opened ({why(error)}); copy it again from where it was made", name) from None
    except Exception as error:
        raise TraceError(f"cannot be read as a dump ({why(error)}); copy it again from where it was made",
                         name) from None
    if not is_kernel(program):
        raise TraceError("is no dump of a Linux kernel: it has no VMCOREINFO (of a guest: start QEMU with -device "
                         "vmcoreinfo)", name)
    return program, wrong
