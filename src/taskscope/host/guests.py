"""Probes of what a guest needs: QEMU, KVM, a kernel to boot."""

from __future__ import annotations

import fcntl
import os
import platform
from pathlib import Path

from taskscope.host.answer import Answer, Host, error_name
from taskscope.host.tools import package

GROUP = "guests"
#: linux/kvm.h: _IO(0xAE, 0x00), _IO(0xAE, 0x01)
_KVM_GET_API_VERSION, _KVM_CREATE_VM = 0xAE00, 0xAE01
_KVM_API = 12
#: uname -m -> Debian's name
_DEBIAN = {"x86_64": "amd64", "aarch64": "arm64"}


def qemu(host: Host) -> Answer:
    """Tell whether QEMU emulates x86."""
    return _qemu(host, "qemu", "qemu-system-x86_64", "qemu-system-x86", "emulates x86")


def qemu_arm(host: Host) -> Answer:
    """Tell whether QEMU emulates ARM."""
    return _qemu(host, "qemu-arm", "qemu-system-arm", "qemu-system-arm", "emulates ARM")


def _qemu(host: Host, name: str, program: str, debian: str, what: str) -> Answer:
    where = host.program(program)
    return Answer(name, GROUP, "yes", where) if where else \
        Answer(name, GROUP, "no", f"no {program}, which {what}", host.install(debian, program))


def kvm(host: Host) -> Answer:
    """Tell whether guests run at full speed: /dev/kvm opens, and makes a machine, which is dropped at once."""
    device = host.path("/dev/kvm")
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return Answer("kvm", GROUP, "no", "no /dev/kvm: guests run, and are emulated, about ten times slower")
    except OSError as e:
        if isinstance(e, PermissionError) and not host.is_root:
            return Answer("kvm", GROUP, "no", "/dev/kvm may not be opened by this user",
                          "sudo adduser $USER kvm, then log in again")
        return Answer("kvm", GROUP, "no", f"the kernel answers {error_name(e)} to /dev/kvm: guests are emulated")
    try:
        api = fcntl.ioctl(descriptor, _KVM_GET_API_VERSION, 0)
        if api != _KVM_API:
            return Answer("kvm", GROUP, "no", f"/dev/kvm speaks version {api} of its interface, not {_KVM_API}")
        os.close(fcntl.ioctl(descriptor, _KVM_CREATE_VM, 0))
    except OSError as e:
        return Answer("kvm", GROUP, "no", f"/dev/kvm opens, and answers {error_name(e)} when a machine is made")
    finally:
        os.close(descriptor)
    if "hypervisor" in (host.text("/proc/cpuinfo") or "").split():
        return Answer("kvm", GROUP, "partly", "/dev/kvm makes machines, but this is one itself: QEMU may fail with it; "
                                              "then guests are emulated")
    return Answer("kvm", GROUP, "yes", "/dev/kvm makes machines")


def kernel_image(host: Host) -> Answer:
    """Tell whether a kernel lies in /boot that a guest can boot."""
    try:
        images = sorted(p for p in host.path("/boot").iterdir() if p.name.startswith(("vmlinuz", "vmlinux")))
    except OSError:
        images = []
    if not images:
        return Answer("kernel-image", GROUP, "no", "no kernel in /boot for a guest", _fetch(host))
    readable = [p for p in images if os.access(p, os.R_OK)]
    if not readable:
        return Answer("kernel-image", GROUP, "partly", f"{_shown(host, images[-1])}, which only root may read",
                      _fetch(host))
    more = f" and {len(readable) - 1} more" if len(readable) > 1 else ""
    return Answer("kernel-image", GROUP, "yes", f"{_shown(host, readable[-1])}{more}")


def kernel_package(host: Host) -> Answer:
    """Tell whether apt knows packages, so that a kernel can be downloaded for a guest."""
    if not host.program("apt-get"):
        return Answer("kernel-package", GROUP, "no", "no apt-get: a kernel for a guest has to come from elsewhere")
    try:
        lists = any("_Packages" in p.name for p in host.path("/var/lib/apt/lists").iterdir())
    except OSError:
        lists = False
    if not lists:
        return Answer("kernel-package", GROUP, "no", "apt has no lists of packages", host.sudo("apt-get update"))
    return Answer("kernel-package", GROUP, "yes", "apt has lists of packages to download a kernel by")


def qmp(host: Host) -> Answer:
    """Tell whether qemu.qmp is there."""
    return package(host, "qemu.qmp", "qemu.qmp", "talks to a running guest", GROUP)


def _fetch(host: Host) -> str | None:
    machine = _DEBIAN.get(platform.machine())
    return f"apt-get download linux-image-cloud-{machine}" if machine and host.program("apt-get") else None


def _shown(host: Host, path: Path) -> str:
    return "/" + str(path.relative_to(host.root))


PROBES = (qemu, qemu_arm, kvm, kernel_image, kernel_package, qmp)
