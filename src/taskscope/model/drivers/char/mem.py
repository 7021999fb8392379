"""/dev/null, /dev/zero, /dev/full: drivers/char/mem.c, v4.19."""

from __future__ import annotations

from errno import ENOSPC
from typing import Final

import taskscope.model.fs.super as super_
from taskscope.model.include.linux.fs import File, FileOperations


def read_null(f: File, count: int) -> bytes:
    """Read nothing."""
    del f, count
    return b""


def write_null(f: File, data: bytes) -> int:
    """Take everything."""
    del f
    return len(data)


def read_zero(f: File, count: int) -> bytes:
    """Read zeros."""
    del f
    return bytes(count)


def write_full(f: File, data: bytes) -> int:
    """Take nothing."""
    del f, data
    return -ENOSPC


def chr_dev_init() -> None:
    """Put the devices into /dev."""
    super_.kern_device("/dev/null", 1 << 8 | 3, null_fops)
    super_.kern_device("/dev/zero", 1 << 8 | 5, zero_fops)
    super_.kern_device("/dev/full", 1 << 8 | 7, full_fops)


null_fops: Final = FileOperations(read=read_null, write=write_null)
zero_fops: Final = FileOperations(read=read_zero, write=write_null)
full_fops: Final = FileOperations(read=read_zero, write=write_full)
