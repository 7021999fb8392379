"""Root and working directory of a task: fs/fs_struct.c, v4.19."""

from __future__ import annotations

from taskscope.model import machine
from taskscope.model.include.linux.fs import FsStruct, Path
from taskscope.model.include.linux.sched import Task


def fs_struct_init(root: Path) -> None:
    """Make init_task's fs_struct; called when the root file system is mounted."""
    machine.cur.init_fs = FsStruct(root, root, 0o022)


def set_fs_pwd(fs: FsStruct, path: Path) -> None:
    """Change the working directory of all who share the structure."""
    fs.pwd = path


def free_fs_struct(fs: FsStruct) -> None:
    """Let go of a structure that nobody uses any more."""
    assert fs.users == 0, f"free_fs_struct(): {fs.users} users"


def exit_fs(tsk: Task) -> None:
    """Take a dying task's structure away."""
    fs = tsk.fs
    if fs is not None:
        tsk.fs = None
        fs.users -= 1
        if fs.users == 0:
            free_fs_struct(fs)


def copy_fs_struct(old: FsStruct) -> FsStruct:
    """Return a copy that has one user."""
    return FsStruct(old.root, old.pwd, old.umask)


def unshare_fs_struct() -> int:
    """Give the current task a structure of its own."""
    tsk = machine.cur.cpu.curr
    fs = tsk.fs
    tsk.fs = copy_fs_struct(fs)
    fs.users -= 1
    if fs.users == 0:
        free_fs_struct(fs)
    return 0


def current_umask() -> int:
    """Return the mask of permissions for new files."""
    umask: int = machine.cur.cpu.curr.fs.umask
    return umask
