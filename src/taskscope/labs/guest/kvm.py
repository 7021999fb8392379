"""Whether KVM works.

/dev/kvm may be there and the guest hang, or QEMU abort, as where this machine is a guest itself.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from taskscope.labs.guest.kernel import cache_folder


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def worth_a_try(machine: str) -> bool:
    """Tell whether KVM may work: its device is there for us, and it has not failed since this machine booted."""
    if platform.machine() != machine or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return False
    try:
        said = (cache_folder() / "kvm").read_text().split()
    except OSError:
        return True
    return said != [_boot(), "broken"]


def remember(works: bool) -> None:
    """Note what a try has shown."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kvm").write_text(f"{_boot()} {'works' if works else 'broken'}\n")
