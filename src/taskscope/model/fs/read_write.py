"""read, write, lseek: fs/read_write.c, v4.19.

A buffer to read into is a user pointer that takes bytes; one to write from is bytes.
"""

from __future__ import annotations

from errno import EBADF, EFAULT, EINVAL, EISDIR, ESPIPE
from stat import S_ISDIR
from typing import Any

import taskscope.model.fs.file as file
import taskscope.model.fs.file_table as file_table
from taskscope.model import machine
from taskscope.model.costs import COPY_KIB
from taskscope.model.include.linux.fs import FMODE_READ, FMODE_WRITE, O_APPEND, File
from taskscope.model.include.linux.uaccess import put_user

SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2
MAX_RW_COUNT = 0x7FFF_F000


def vfs_read(f: File, buf: Any, count: int) -> int:
    """Read into a user buffer: bytes read, 0 at the end, or -errno."""
    if not f.f_mode & FMODE_READ:
        return -EBADF
    if f.f_op.read is None:
        return -EISDIR if S_ISDIR(f.f_inode.i_mode) else -EINVAL
    if count < 0:
        return -EINVAL
    data = f.f_op.read(f, min(count, MAX_RW_COUNT))
    if isinstance(data, int):
        return data
    if put_user(data, buf) and data:
        return -EFAULT
    machine.cur.cost(len(data) * COPY_KIB >> 10)
    return len(data)


def vfs_write(f: File, buf: Any, count: int) -> int:
    """Write from a user buffer: bytes taken, or -errno."""
    if not f.f_mode & FMODE_WRITE:
        return -EBADF
    if f.f_op.write is None:
        return -EINVAL
    if not isinstance(buf, (bytes, bytearray, memoryview)):
        return -EFAULT
    machine.cur.cost(count * COPY_KIB >> 10)
    return f.f_op.write(f, bytes(buf[:min(count, MAX_RW_COUNT)]))


def sys_read(fd: int, buf: Any, count: int) -> int:
    """read(2)."""
    f = file.fget(fd)
    if f is None:
        return -EBADF
    ret = vfs_read(f, buf, count)
    file_table.fput(f)
    return ret


def sys_write(fd: int, buf: Any, count: int) -> int:
    """write(2)."""
    f = file.fget(fd)
    if f is None:
        return -EBADF
    ret = vfs_write(f, buf, count)
    file_table.fput(f)
    return ret


def sys_lseek(fd: int, offset: int, whence: int) -> int:
    """lseek(2)."""
    f = file.fcheck(fd)
    if f is None:
        return -EBADF
    if f.f_op.llseek is None:
        return -ESPIPE
    return f.f_op.llseek(f, offset, whence)


def generic_file_llseek(f: File, offset: int, whence: int) -> int:
    """Move the position of a file that has a size."""
    base = {SEEK_SET: 0, SEEK_CUR: f.f_pos, SEEK_END: f.f_inode.i_size}.get(whence)
    if base is None or base + offset < 0:
        return -EINVAL
    f.f_pos = base + offset
    return f.f_pos


def generic_read(f: File, count: int) -> bytes:
    """Read a file in memory."""
    data = f.f_inode.i_content[f.f_pos:f.f_pos + count]
    f.f_pos += len(data)
    return data


def generic_write(f: File, data: bytes) -> int:
    """Write to a file in memory."""
    inode = f.f_inode
    content = inode.i_content
    if f.f_flags & O_APPEND:
        f.f_pos = len(content)
    if f.f_pos > len(content):
        content += bytes(f.f_pos - len(content))
    inode.i_content = content[:f.f_pos] + data + content[f.f_pos + len(data):]
    # What was a program is one no longer.
    inode.i_program = None
    f.f_pos += len(data)
    return len(data)
