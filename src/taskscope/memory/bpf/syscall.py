"""bpf(2) as far as it is needed: an array that is mapped, a program that is run, an iterator that is read.

Layouts are those of union bpf_attr in include/uapi/linux/bpf.h, v6.1; later kernels take them as they are.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

from taskscope.errors import PermissionRefusedError, TraceError

_NUMBERS: Final = {"x86_64": 321, "aarch64": 280, "armv7l": 386, "riscv64": 280}
_NUMBER: Final = _NUMBERS.get(os.uname().machine)
_MAP_CREATE, _PROG_LOAD, _TEST_RUN, _LINK_CREATE, _ITER_CREATE = 0, 5, 10, 28, 33
_ARRAY, _F_MMAPABLE = 2, 1 << 10
TRACING, SYSCALL = 26, 31
_F_SLEEPABLE, _TRACE_ITER = 1 << 4, 28
#: the largest attr of a kernel that is read here
_ATTR: Final = 152

_libc = ctypes.CDLL(None, use_errno=True)


def _bpf(command: int, attr: bytes | ctypes.Array[ctypes.c_char], doing: str) -> int:
    if _NUMBER is None:
        raise TraceError(f"bpf(2) is not known on {os.uname().machine}", "this kernel's memory")
    buffer = attr if isinstance(attr, ctypes.Array) else ctypes.create_string_buffer(attr, _ATTR)
    result: int = _libc.syscall(_NUMBER, command, buffer, len(buffer))
    if result < 0:
        raise _refused(ctypes.get_errno(), doing)
    return result


def _refused(number: int, doing: str) -> TraceError:
    """Say why the kernel does not do it."""
    if number == errno.EPERM:
        if os.geteuid() != 0:
            return PermissionRefusedError("may not be read by this user; run it as root: sudo taskscope …",
                                          "this kernel's memory")
        return PermissionRefusedError(f"the kernel refuses {doing}: it is locked down (confidentiality), or this "
                                      "container lacks CAP_BPF and CAP_PERFMON; ask 'taskscope check'",
                                      "this kernel's memory")
    if number in (errno.ENOSYS, errno.EINVAL):
        return TraceError(f"this kernel cannot do {doing} ({os.strerror(number)}): it needs Linux 5.14 with "
                          "CONFIG_BPF_SYSCALL and CONFIG_DEBUG_INFO_BTF", "this kernel's memory")
    return TraceError(f"{doing} failed ({os.strerror(number)})", "this kernel's memory")


def create_array(size: int) -> int:
    """Make an array of one element that can be mapped; return its file descriptor.

    :param size: bytes of the element
    :raises TraceError: the kernel refuses
    """
    return _bpf(_MAP_CREATE, struct.pack("<IIIII", _ARRAY, 4, size, 1, _F_MMAPABLE), "making a BPF map")


def load(kind: int, code: bytes, name: bytes, *, of: int = 0) -> int:
    """Load a program; return its file descriptor.

    :param kind: `SYSCALL` or `TRACING` (an iterator)
    :param code: instructions, linked
    :param of: of an iterator: the BTF number of the kernel's function that it stands for
    :raises TraceError: the kernel refuses
    """
    license_ = ctypes.create_string_buffer(b"GPL")
    text = ctypes.create_string_buffer(code, len(code))
    attr = bytearray(_ATTR)
    struct.pack_into("<IIQQ", attr, 0, kind, len(code) // 8, ctypes.addressof(text), ctypes.addressof(license_))
    struct.pack_into("<I16s", attr, 44, _F_SLEEPABLE if kind == SYSCALL else 0, name)
    if of:
        struct.pack_into("<I", attr, 68, _TRACE_ITER)
        struct.pack_into("<I", attr, 108, of)
    return _bpf(_PROG_LOAD, bytes(attr), "loading a BPF program")


def iterate(program: int) -> bytes:
    """Run an iterator once over everything; return what it wrote.

    :raises TraceError: the kernel refuses
    """
    link = _bpf(_LINK_CREATE, struct.pack("<IIII", program, 0, _TRACE_ITER, 0), "attaching a BPF iterator")
    try:
        fd = _bpf(_ITER_CREATE, struct.pack("<II", link, 0), "starting a BPF iterator")
    finally:
        os.close(link)
    with os.fdopen(fd, "rb") as file:
        return file.read()


class Run:
    """A program that is run with a context that both sides write.

    :param program: file descriptor of one of kind `SYSCALL`
    :param size: bytes of the context
    """

    def __init__(self, program: int, size: int) -> None:
        self.context = ctypes.create_string_buffer(size)
        self._attr = ctypes.create_string_buffer(struct.pack(
            "<IIIIQQIIIIQQ", program, 0, 0, 0, 0, 0, 0, 0, size, 0, ctypes.addressof(self.context), 0), _ATTR)

    def __call__(self) -> None:
        """Run it.

        :raises TraceError: the kernel refuses
        """
        _bpf(_TEST_RUN, self._attr, "running a BPF program")
