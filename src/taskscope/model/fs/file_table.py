"""Open files and their reference counts: fs/file_table.c, v4.19."""

from __future__ import annotations

from stat import S_ISREG

from taskscope.model.include.linux.fs import FMODE_WRITE, File, FileOperations, Path, put_write_access


def alloc_file(path: Path, flags: int, fop: FileOperations) -> File:
    """Return a new open file with one reference."""
    # Not modelled: sysctl fs.file-max, credentials of the file.
    return File(path, flags, fop)


def get_file(f: File) -> File:
    """Take a reference."""
    f.f_count += 1
    return f


def fput(f: File) -> None:
    """Drop a reference; the last one closes the file.

    In Linux the last fput() of a task is done by task work on the way to user space, or in a worker; here at once.
    """
    assert f.f_count > 0, "fput() of a closed file"
    f.f_count -= 1
    if f.f_count == 0:
        __fput(f)


def __fput(f: File) -> None:
    release = f.f_op.release
    if release is not None:
        release(f.f_inode, f)
    if f.f_mode & FMODE_WRITE and S_ISREG(f.f_inode.i_mode):
        put_write_access(f.f_inode)
