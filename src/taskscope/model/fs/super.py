"""The tree of names at boot: fs/super.c, inode.c, namespace.c, v4.19: inode numbers, the root, what is mounted where.

mnt_init() makes the root: a ramfs with the folders that programs expect; the file systems and drivers then put
themselves in.
"""

from __future__ import annotations

from stat import S_IFCHR, S_IFDIR, S_IFREG
from typing import Any

import taskscope.model.fs.fs_struct as fs_struct
import taskscope.model.fs.ramfs.inode as ramfs
import taskscope.model.mm.memory as memory
from taskscope.model import machine
from taskscope.model.include.linux.fs import FileOperations, Inode, InodeOperations, Path


def new_inode(mode: int, fop: FileOperations, op: InodeOperations | None = None) -> Inode:
    """Return an inode with a number of its own."""
    m = machine.cur
    m.last_ino += 1
    return Inode(m.last_ino, mode, fop, op or InodeOperations())


def mnt_init() -> None:
    """Make the root file system and init_task's idea of it; called by vfs_caches_init()."""
    machine.cur.last_ino = 0
    root = Path(ramfs.ramfs_get_inode(S_IFDIR | 0o755), None, "")
    fs_struct.fs_struct_init(root)
    for name in ("bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr"):
        ramfs.ramfs_create(root.inode, name, S_IFDIR | (0o1777 if name == "tmp" else 0o755))


def kern_mkdir(path: str, mode: int = 0o755) -> Inode:
    """Return the folder at an absolute path, made where it is missing."""
    inode: Inode = machine.cur.init_fs.root.inode
    for part in path.split("/"):
        if not part:
            continue
        assert inode.i_children is not None, f"{path}: {part} stands in what is no folder"
        found = inode.i_children.get(part)
        inode = ramfs.ramfs_create(inode, part, S_IFDIR | mode) if found is None else found
    return inode


def kern_add(path: str, inode: Inode) -> Inode:
    """Put an inode at an absolute path, in place of what stood there."""
    folder, _, name = path.rpartition("/")
    parent = kern_mkdir(folder)
    assert parent.i_children is not None
    old = parent.i_children.get(name)
    if old is not None:
        evict_inode(old)
    parent.i_children[name] = inode
    return inode


def evict_inode(inode: Inode) -> None:
    """Let go of what the page cache has of a file without a name; those who have it mapped keep it."""
    table, inode.i_pages = inode.i_pages, None
    if table is not None:
        memory.put_table(table)


def kern_file(path: str, content: bytes, mode: int = 0o644) -> Inode:
    """Put a file in memory at an absolute path."""
    inode = ramfs.ramfs_get_inode(S_IFREG | mode)
    inode.i_content = content
    return kern_add(path, inode)


def kern_device(path: str, dev: int, fop: FileOperations, private: Any = None, mode: int = 0o666) -> Inode:
    """Put a character device at an absolute path (devtmpfs).

    :param dev: major << 8 | minor
    """
    inode = new_inode(S_IFCHR | mode, fop)
    inode.i_rdev = dev
    inode.i_private = private
    return kern_add(path, inode)
