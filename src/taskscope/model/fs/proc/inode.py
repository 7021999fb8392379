"""Files of /proc: fs/proc/inode.c, generic.c, and what they use of fs/seq_file.c, v4.19.

A file's text is made when it is read from the start, and the rest of that text is handed out from then on, as
single_open() does it.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from stat import S_IFDIR, S_IFREG
from typing import Any, Final

import taskscope.model.fs.super as super_
from taskscope.model.include.linux.fs import File, FileOperations, Inode, InodeOperations


class ProcEntry:
    """What a file of /proc shows and takes.

    ``show(private)`` gives its text (or -errno), ``store(private, data)`` takes a write.
    """

    __slots__ = ("private", "show", "store")

    def __init__(
        self, show: Callable[[Any], str | int] | None, store: Callable[[Any, bytes], int] | None, private: Any
    ) -> None:
        self.show = show
        self.store = store
        self.private = private


def proc_get_inode(mode: int, entry: ProcEntry) -> Inode:
    """Return the inode of a file."""
    inode = super_.new_inode(S_IFREG | mode, proc_reg_file_ops)
    inode.i_private = entry
    return inode


def proc_create(
    path: str,
    mode: int,
    show: Callable[[Any], str | int] | None,
    store: Callable[[Any, bytes], int] | None = None,
    private: Any = None,
) -> Inode:
    """Put a file at a place below /proc."""
    return super_.kern_add("/proc/" + path, proc_get_inode(mode, ProcEntry(show, store, private)))


def proc_dir_inode(op: InodeOperations, fop: FileOperations, private: Any, mode: int = 0o555) -> Inode:
    """Return the inode of a directory whose names are looked up, not kept."""
    inode = super_.new_inode(S_IFDIR | mode, fop, op)
    inode.i_private = private
    return inode


def proc_reg_read(f: File, count: int) -> bytes | int:
    """Read on; at the start the text is made."""
    entry: ProcEntry = f.f_inode.i_private
    if entry.show is None:
        return -EINVAL
    if f.f_pos == 0 or f.private_data is None:
        text = entry.show(entry.private)
        if isinstance(text, int):
            return text
        f.private_data = text.encode()
    data: bytes = f.private_data[f.f_pos : f.f_pos + count]
    f.f_pos += len(data)
    return data


def proc_reg_write(f: File, data: bytes) -> int:
    """Hand a write to the entry."""
    entry: ProcEntry = f.f_inode.i_private
    return -EINVAL if entry.store is None else entry.store(entry.private, data)


def proc_reg_llseek(f: File, offset: int, whence: int) -> int:
    """Seek, from the start or from here."""
    if whence not in (0, 1):
        return -EINVAL
    pos = offset + (f.f_pos if whence == 1 else 0)
    if pos < 0:
        return -EINVAL
    f.f_pos = pos
    return pos


proc_reg_file_ops: Final = FileOperations(read=proc_reg_read, write=proc_reg_write, llseek=proc_reg_llseek)
