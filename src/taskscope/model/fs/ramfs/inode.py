"""A file system in memory: fs/ramfs/inode.c, file-mmu.c, v4.19."""

from __future__ import annotations

from errno import ENOENT
from stat import S_ISDIR
from typing import Final

import taskscope.model.fs.read_write as read_write
import taskscope.model.fs.super as super_
from taskscope.model import machine
from taskscope.model.include.linux.fs import File, FileOperations, Inode, InodeOperations


def ramfs_get_inode(mode: int) -> Inode:
    """Return a new inode of this file system, owned by the current task's file system ids."""
    inode = super_.new_inode(mode, ramfs_dir_operations if S_ISDIR(mode) else ramfs_file_operations,
                             ramfs_dir_inode_operations if S_ISDIR(mode) else InodeOperations())
    current = machine.cur.cpu.curr
    cred = None if current is None else getattr(current, "cred", None)
    if cred is not None:
        inode.i_uid, inode.i_gid = cred.fsuid, cred.fsgid
    return inode


def ramfs_create(dir: Inode, name: str, mode: int) -> Inode:
    """Make a file or a folder in a folder."""
    assert dir.i_children is not None
    inode = ramfs_get_inode(mode)
    dir.i_children[name] = inode
    return inode


def ramfs_unlink(dir: Inode, name: str) -> int:
    """Take a name away; who has the file open keeps it."""
    assert dir.i_children is not None
    inode = dir.i_children.pop(name, None)
    if inode is None:
        return -ENOENT
    inode.i_nlink -= 1
    if not inode.i_nlink:
        super_.evict_inode(inode)
    return 0


def ramfs_read(f: File, count: int) -> bytes:
    """Read; what can be read of a program in Python is its source text."""
    inode = f.f_inode
    if inode.i_program is not None and not inode.i_content:
        program_text(inode)
    return read_write.generic_read(f, count)


def program_text(inode: Inode) -> None:
    """Fill in the text of a program's file: it is needed by those who read it only."""
    import inspect

    try:
        text = inspect.getsource(inode.i_program)  # type: ignore[arg-type]
    except (OSError, TypeError):
        text = f"# {inode.i_program}\n"
    inode.i_content = b"#!python\n" + text.encode()


def ramfs_write(f: File, data: bytes) -> int:
    """Write."""
    return read_write.generic_write(f, data)


def ramfs_llseek(f: File, offset: int, whence: int) -> int:
    """Seek."""
    return read_write.generic_file_llseek(f, offset, whence)


def dcache_readdir(f: File) -> list[str]:
    """Return the names in a folder (libfs.c)."""
    assert f.f_inode.i_children is not None
    return sorted(f.f_inode.i_children)


ramfs_file_operations: Final = FileOperations(read=ramfs_read, write=ramfs_write, llseek=ramfs_llseek)
ramfs_dir_operations: Final = FileOperations(iterate=dcache_readdir)
ramfs_dir_inode_operations: Final = InodeOperations(create=ramfs_create, unlink=ramfs_unlink)
