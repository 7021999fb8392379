"""Setting up the file systems at boot: vfs_caches_init() of fs/dcache.c, v4.19, and what initcalls put into the root."""

from __future__ import annotations

from collections.abc import Callable
from stat import S_IFREG
from typing import Any

import taskscope.model.drivers.char.hostctl as hostctl
import taskscope.model.drivers.char.mem as mem
import taskscope.model.drivers.tty.tty_io as tty_io
import taskscope.model.fs.proc.root as proc_root
import taskscope.model.fs.ramfs.inode as ramfs
import taskscope.model.fs.super as super_
import taskscope.model.user.programs as programs


def vfs_caches_init() -> None:
    """Make the root, /proc and the devices."""
    super_.mnt_init()
    proc_root.proc_root_init()
    mem.chr_dev_init()
    tty_io.tty_init()
    hostctl.hostctl_init()
    programs.install()


def install_program(path: str, program: Callable[..., Any], mode: int = 0o755) -> None:
    """Put a program in Python at an absolute path: what an archive of the root file system would hold."""
    inode = ramfs.ramfs_get_inode(S_IFREG | mode)
    inode.i_program = program
    super_.kern_add(path, inode)
