"""Files, inodes and what can be done with them: include/linux/fs.h, path.h, fdtable.h, fs_struct.h, v4.19.

The tree of names is light: an inode of a directory knows its children by name, and a `Path` (a name that was looked up,
with those above it) stands for dentry and mount together.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import ETXTBSY
from stat import S_ISDIR
from typing import Any, Final, NamedTuple

O_ACCMODE: Final = 0o3
O_RDONLY: Final = 0o0
O_WRONLY: Final = 0o1
O_RDWR: Final = 0o2
O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_NOCTTY: Final = 0o400
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
O_DIRECTORY: Final = 0o200000
O_CLOEXEC: Final = 0o2000000

FMODE_READ: Final = 0x1
FMODE_WRITE: Final = 0x2

MAY_EXEC: Final = 1
MAY_WRITE: Final = 2
MAY_READ: Final = 4

S_IALLUGO: Final = 0o7777
PATH_MAX: Final = 4096
NAME_MAX: Final = 255


class FileOperations(NamedTuple):
    """struct file_operations.  A missing one is what C has as NULL."""

    read: Callable[[File, int], Any] | None = None  # bytes, or -errno
    write: Callable[[File, bytes], int] | None = None  # bytes taken, or -errno
    open: Callable[[Inode, File], int] | None = None
    release: Callable[[Inode, File], int] | None = None
    llseek: Callable[[File, int, int], int] | None = None
    unlocked_ioctl: Callable[[File, int, Any], int] | None = None
    iterate: Callable[[File], list[str]] | None = None


class InodeOperations(NamedTuple):
    """struct inode_operations of directories."""

    lookup: Callable[[Inode, str], Inode | None] | None = None
    create: Callable[[Inode, str, int], Any] | None = None  # the Inode, or -errno
    unlink: Callable[[Inode, str], int] | None = None
    readdir: Callable[[Inode], list[str]] | None = None


class Inode:
    """struct inode."""

    __slots__ = (
        "i_children",
        "i_content",
        "i_fop",
        "i_gid",
        "i_ino",
        "i_mode",
        "i_nlink",
        "i_op",
        "i_pages",
        "i_pipe",
        "i_private",
        "i_program",
        "i_rdev",
        "i_uid",
        "i_writecount",
    )

    def __init__(self, i_ino: int, i_mode: int, i_fop: FileOperations, i_op: InodeOperations) -> None:
        self.i_ino = i_ino
        self.i_mode = i_mode
        self.i_uid = 0
        self.i_gid = 0
        self.i_nlink = 1
        self.i_rdev = 0
        self.i_fop = i_fop
        self.i_op = i_op
        self.i_children: dict[str, Inode] | None = {} if S_ISDIR(i_mode) else None
        self.i_content = b""  # of a file in memory
        self.i_private: Any = None  # the file system's or driver's own
        self.i_pages: Any = None  # the page cache of a program's text: a PageTable
        self.i_pipe: Any = None  # struct pipe_inode_info
        self.i_program: Callable[..., Any] | None = None  # what the loader runs: a program in Python
        self.i_writecount = 0  # > 0: open for writing so often; < 0: executed so often, and not to be written

    @property
    def i_size(self) -> int:
        """How long the file is."""
        return len(self.i_content)


def get_write_access(inode: Inode) -> int:
    """Count one who writes; -ETXTBSY if the file is executed."""
    if inode.i_writecount < 0:
        return -ETXTBSY
    inode.i_writecount += 1
    return 0


def put_write_access(inode: Inode) -> None:
    """Count one less who writes."""
    inode.i_writecount -= 1


def deny_write_access(file: File) -> int:
    """Count one who executes the file; -ETXTBSY if it is open for writing."""
    if file.f_inode.i_writecount > 0:
        return -ETXTBSY
    file.f_inode.i_writecount -= 1
    return 0


def allow_write_access(file: File) -> None:
    """Count one less who executes the file."""
    file.f_inode.i_writecount += 1


class Path:
    """struct path: a name with those above it."""

    __slots__ = ("inode", "name", "parent")

    def __init__(self, inode: Inode, parent: Path | None, name: str) -> None:
        self.inode = inode
        self.parent = parent
        self.name = name


class File:
    """struct file: one open()."""

    __slots__ = ("f_count", "f_flags", "f_inode", "f_mode", "f_op", "f_path", "f_pos", "private_data")

    def __init__(self, path: Path, flags: int, op: FileOperations) -> None:
        self.f_count = 1
        self.f_path = path
        self.f_inode = path.inode
        self.f_flags = flags
        self.f_mode = (flags + 1) & O_ACCMODE
        self.f_op = op
        self.f_pos = 0
        self.private_data: Any = None


class FilesStruct:
    """struct files_struct: the descriptor table; shared by CLONE_FILES."""

    __slots__ = ("close_on_exec", "count", "fd", "next_fd")

    def __init__(self) -> None:
        self.count = 1
        self.fd: list[File | None] = []
        self.close_on_exec = 0  # bit mask
        self.next_fd = 0


class FsStruct:
    """struct fs_struct: where names begin; shared by CLONE_FS."""

    __slots__ = ("in_exec", "pwd", "root", "umask", "users")

    def __init__(self, root: Path, pwd: Path, umask: int) -> None:
        self.users = 1
        self.root = root
        self.pwd = pwd
        self.umask = umask
        self.in_exec = False


class Kstat(NamedTuple):
    """struct stat, the fields that are modelled."""

    st_ino: int
    st_mode: int
    st_nlink: int
    st_uid: int
    st_gid: int
    st_rdev: int
    st_size: int
