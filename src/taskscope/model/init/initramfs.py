"""The first root file system: init/initramfs.c, v4.19; its archive is `taskscope.model.user.programs`."""

from __future__ import annotations

import taskscope.model.user.programs as programs
from taskscope.model import machine


def populate_rootfs() -> int:
    """Unpack the archive into the root: 0."""
    m = machine.cur
    programs.install()
    if m.init_program is not None:
        programs.install_program("/sbin/init", m.init_program)
    return 0
