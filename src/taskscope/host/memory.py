"""Probes of what looking into the kernel's memory needs: kcore, type information, BPF, debuggers."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from taskscope.host.answer import Answer, Host, error_name
from taskscope.host.tools import package

GROUP = "kernel memory"
_BPF_PROG_LOAD = 5
_BPF_PROG_TYPE_TRACEPOINT = 5
#: two struct bpf_insn, the same in both byte orders: r0 = 0; exit
_NOTHING = bytes([0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0])


def kcore(host: Host) -> Answer:
    """Tell whether /proc/kcore can be read, which is an ELF core of the running kernel (proc_kcore(5))."""
    try:
        descriptor = os.open(host.path("/proc/kcore"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Answer("kcore", GROUP, "no", "no /proc/kcore (built without CONFIG_PROC_KCORE, nothing mends it here); "
                                            "use a guest")
    except OSError as e:
        if not host.is_root:
            return Answer("kcore", GROUP, "no", "/proc/kcore needs root", "sudo taskscope check")
        return Answer("kcore", GROUP, "no", f"the kernel answers {error_name(e)} to /proc/kcore: locked for this "
                                            "machine or container; use a guest")
    try:
        good = os.read(descriptor, 4) == b"\x7fELF"
    except OSError as e:
        return Answer("kcore", GROUP, "no", f"/proc/kcore opens and answers {error_name(e)} when read")
    finally:
        os.close(descriptor)
    return Answer("kcore", GROUP, "yes", "/proc/kcore is readable") if good else \
        Answer("kcore", GROUP, "no", "/proc/kcore is no ELF file")


def btf(host: Host) -> Answer:
    """Tell whether the kernel describes its own types (BTF), so that no debug symbols are needed."""
    head = host.read("/sys/kernel/btf/vmlinux", 4)
    if head is None:
        release = platform.release()
        return Answer("btf", GROUP, "no", "no /sys/kernel/btf/vmlinux (built without CONFIG_DEBUG_INFO_BTF)",
                      host.install(f"linux-image-{release}-dbg", f"the debug symbols of {release}"))
    # The magic of struct btf_header, in the byte order of the kernel.
    if head[:2] not in (b"\x9f\xeb", b"\xeb\x9f"):
        return Answer("btf", GROUP, "no", "/sys/kernel/btf/vmlinux holds something else")
    return Answer("btf", GROUP, "yes", "the kernel describes its types")


def bpf(host: Host) -> Answer:
    """Tell whether a program can be loaded into the kernel: one that does nothing is loaded, and dropped at once."""
    from taskscope.abi.syscalls import call_of_name
    from taskscope.errors import UsageError

    try:
        call = call_of_name(platform.machine(), "bpf")
    except UsageError:
        call = None
    if call is None:
        return Answer("bpf", GROUP, "unknown", f"the number of bpf(2) is not known for {platform.machine()}")
    error = load_nothing(call.number)
    if error == 0:
        return Answer("bpf", GROUP, "yes", "programs can be loaded")
    if error == errno.ENOSYS:
        return Answer("bpf", GROUP, "no", "this kernel has no bpf(2) (built without CONFIG_BPF_SYSCALL)")
    name = errno.errorcode.get(error, str(error))
    if error in (errno.EPERM, errno.EACCES) and not host.is_root:
        disabled = host.text("/proc/sys/kernel/unprivileged_bpf_disabled")
        return Answer("bpf", GROUP, "no", f"needs root (unprivileged_bpf_disabled is {disabled or 'not readable'})",
                      "sudo taskscope check")
    return Answer("bpf", GROUP, "no", f"the kernel answers {name} to a program that does nothing")


def load_nothing(number: int) -> int:
    """Load the smallest program for a tracepoint and close it.

    :param number: of the system call bpf(2) on this architecture
    :return: 0, or the errno
    """
    program = ctypes.create_string_buffer(_NOTHING, len(_NOTHING))
    licence = ctypes.create_string_buffer(b"GPL")
    # union bpf_attr for BPF_PROG_LOAD: type, instructions, their place, the licence's place; the rest is 0.
    attributes = struct.pack("=IIQQ", _BPF_PROG_TYPE_TRACEPOINT, len(_NOTHING) // 8, ctypes.addressof(program),
                             ctypes.addressof(licence)).ljust(72, b"\0")
    given = ctypes.create_string_buffer(attributes, len(attributes))
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    descriptor = syscall(ctypes.c_long(number), ctypes.c_long(_BPF_PROG_LOAD), given,
                         ctypes.c_long(len(attributes)))
    if descriptor < 0:
        return ctypes.get_errno()
    os.close(descriptor)
    return 0


def gdb(host: Host) -> Answer:
    """Tell whether gdb is there."""
    where = host.program("gdb")
    return Answer("gdb", GROUP, "yes", where) if where else \
        Answer("gdb", GROUP, "no", "the debugger", host.install("gdb"))


def drgn(host: Host) -> Answer:
    """Tell whether drgn is there."""
    return package(host, "drgn", "drgn", "a debugger of kernels as a library", GROUP)


PROBES = (kcore, btf, bpf, gdb, drgn)
