"""Setting up the file systems at boot: vfs_caches_init() of fs/dcache.c, v4.19."""

from __future__ import annotations

import taskscope.model.drivers.char.hostctl as hostctl
import taskscope.model.drivers.char.mem as mem
import taskscope.model.drivers.tty.tty_io as tty_io
import taskscope.model.fs.proc.root as proc_root
import taskscope.model.fs.super as super_
import taskscope.model.fs.tracefs.inode as tracefs
import taskscope.model.user.programs as programs


def vfs_caches_init() -> None:
    """Make the root, /proc, tracefs and the devices."""
    super_.mnt_init()
    proc_root.proc_root_init()
    tracefs.tracefs_init()
    mem.chr_dev_init()
    tty_io.tty_init()
    hostctl.hostctl_init()
    programs.install()
