"""From names to inodes: fs/namei.c, v4.19.

Not modelled: symbolic and hard links, mounts other than those made at boot, the dentry cache.
"""

from __future__ import annotations

from errno import EACCES, EBUSY, EEXIST, EFAULT, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM
from stat import S_IFDIR, S_IFREG, S_ISDIR, S_ISREG
from typing import Any

import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.fs_struct as fs_struct
import taskscope.model.kernel.cred as cred_
from taskscope.model import machine
from taskscope.model.include.linux.fs import (
    FMODE_WRITE,
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    NAME_MAX,
    O_ACCMODE,
    O_CREAT,
    O_DIRECTORY,
    O_EXCL,
    O_RDONLY,
    O_TRUNC,
    PATH_MAX,
    S_IALLUGO,
    Inode,
    Path,
    get_write_access,
    put_write_access,
)
from taskscope.model.include.uapi.linux.capability import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


def getname(filename: Any) -> str | int:
    """Take a name from user space; -EFAULT, -ENOENT if it is empty, -ENAMETOOLONG."""
    if not isinstance(filename, str):
        return -EFAULT
    if not filename:
        return -ENOENT
    return filename if len(filename) < PATH_MAX else -ENAMETOOLONG


def inode_permission(inode: Inode, mask: int) -> int:
    """Check the mode bits for the current task's file system ids and capabilities: 0 or -EACCES."""
    current = machine.cur.cpu.curr
    cred = current.cred
    mode = inode.i_mode
    # acl_permission_check()
    if cred.fsuid == inode.i_uid:
        mode >>= 6
    elif cred_.in_group_p(inode.i_gid):
        mode >>= 3
    if mask & ~mode & 0o7 == 0:
        return 0
    # Read/write DACs are always overridable.  Executable DACs are overridable when there is at least one exec bit set.
    mode = inode.i_mode
    if (not mask & MAY_EXEC or S_ISDIR(mode) or mode & 0o111) and cred_.capable(CAP_DAC_OVERRIDE):
        return 0
    # Searching includes executable on directories, else just read.
    if (mask == MAY_READ or (S_ISDIR(mode) and not mask & MAY_WRITE)) and cred_.capable(CAP_DAC_READ_SEARCH):
        return 0
    return -EACCES


def lookup(dir: Inode, name: str) -> Inode | None:
    """Return what a directory has under a name."""
    assert dir.i_children is not None, "lookup() in what is no directory"
    found = dir.i_children.get(name)
    if found is None and dir.i_op.lookup is not None:
        found = dir.i_op.lookup(dir, name)
    return found


def link_path_walk(name: str, stop: int) -> Any:
    """Walk along a name, all but the last `stop` components.

    Returns (Path, last components) or -errno.
    """
    fs = machine.cur.cpu.curr.fs
    path: Path = fs.root if name.startswith("/") else fs.pwd
    parts = [part for part in name.split("/") if part]
    last = parts[len(parts) - stop:] if stop else []
    for part in parts[:len(parts) - stop] if stop else parts:
        step = walk_component(path, part, fs.root)
        if isinstance(step, int):
            return step
        path = step
    return path, last


def walk_component(path: Path, name: str, root: Path) -> Any:
    """Go one component down (or up, for ``..``): the Path, or -errno."""
    if not S_ISDIR(path.inode.i_mode):
        return -ENOTDIR
    if len(name) > NAME_MAX:
        return -ENAMETOOLONG
    error = inode_permission(path.inode, MAY_EXEC)
    if error:
        return error
    if name == ".":
        return path
    if name == "..":
        return path if path.parent is None or path.inode is root.inode else path.parent
    inode = lookup(path.inode, name)
    return -ENOENT if inode is None else Path(inode, path, name)


def user_path(filename: Any) -> Any:
    """Return the Path of a name from user space, or -errno."""
    name = getname(filename)
    if isinstance(name, int):
        return name
    found = link_path_walk(name, 0)
    if isinstance(found, int):
        return found
    path = found[0]
    if name.endswith("/") and not S_ISDIR(path.inode.i_mode):
        return -ENOTDIR
    return path


def filename_parent(filename: Any) -> Any:
    """Return (Path of the directory, last component) of a name from user space, or -errno."""
    name = getname(filename)
    if isinstance(name, int):
        return name
    if not name.strip("/"):
        return -EEXIST
    found = link_path_walk(name, 1)
    if isinstance(found, int):
        return found
    path, (last,) = found
    return path, last


def vfs_create(path: Path, name: str, mode: int) -> Any:
    """Make something in a directory: the Inode, or -errno."""
    if not S_ISDIR(path.inode.i_mode):
        return -ENOTDIR
    error = inode_permission(path.inode, MAY_WRITE | MAY_EXEC)
    if error:
        return error
    if path.inode.i_op.create is None:
        return -EACCES
    return path.inode.i_op.create(path.inode, name, mode)


def do_filp_open(filename: Any, flags: int, mode: int) -> Any:
    """Open a file by name: the File, or -errno."""
    name = getname(filename)
    if isinstance(name, int):
        return name
    path = user_path(name)
    if isinstance(path, int):
        if path != -ENOENT or not flags & O_CREAT or name.endswith("/"):
            return path
        parent = filename_parent(name)
        if isinstance(parent, int):
            return parent
        inode = vfs_create(parent[0], parent[1], S_IFREG | mode & ~fs_struct.current_umask() & S_IALLUGO)
        if isinstance(inode, int):
            return inode
        return do_open(Path(inode, parent[0], parent[1]), flags & ~O_TRUNC)
    if flags & O_CREAT and flags & O_EXCL:
        return -EEXIST
    error = may_open(path, flags)
    if error:
        return error
    return do_open(path, flags)


def may_open(path: Path, flags: int) -> int:
    """Check whether an inode may be opened so: 0 or -errno."""
    inode = path.inode
    acc_mode = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)[flags & O_ACCMODE]
    if flags & O_DIRECTORY and not S_ISDIR(inode.i_mode):
        return -ENOTDIR
    if S_ISDIR(inode.i_mode) and (acc_mode & MAY_WRITE or flags & O_CREAT):
        return -EISDIR
    return inode_permission(inode, acc_mode)


def do_open(path: Path, flags: int) -> Any:
    """Make the open file of a Path: the File, or -errno (do_dentry_open())."""
    inode = path.inode
    f = file_table.alloc_file(path, flags, inode.i_fop)
    writes = f.f_mode & FMODE_WRITE and S_ISREG(inode.i_mode)
    if writes:
        error = get_write_access(inode)
        if error:
            return error
    if f.f_op.open is not None:
        error = f.f_op.open(inode, f)
        if error:
            if writes:
                put_write_access(inode)
            return error
    # What is of this open() alone is no flag of the file.
    f.f_flags &= ~(O_CREAT | O_EXCL | O_TRUNC)
    if flags & O_TRUNC and flags & O_ACCMODE != O_RDONLY:
        inode.i_content = b""
    return f


def sys_mkdir(pathname: Any, mode: int) -> int:
    """mkdir(2)."""
    parent = filename_parent(pathname.rstrip("/") or "/" if isinstance(pathname, str) else pathname)
    if isinstance(parent, int):
        return parent
    path, name = parent
    if S_ISDIR(path.inode.i_mode) and (name in (".", "..") or lookup(path.inode, name) is not None):
        return -EEXIST
    inode = vfs_create(path, name, S_IFDIR | mode & ~fs_struct.current_umask() & 0o1777)
    return inode if isinstance(inode, int) else 0


def sys_unlink(pathname: Any) -> int:
    """unlink(2)."""
    parent = filename_parent(pathname)
    if isinstance(parent, int):
        return parent
    path, name = parent
    if not S_ISDIR(path.inode.i_mode):
        return -ENOTDIR
    inode = lookup(path.inode, name)
    if inode is None:
        return -ENOENT
    if S_ISDIR(inode.i_mode):
        return -EISDIR
    error = inode_permission(path.inode, MAY_WRITE | MAY_EXEC)
    if error:
        return error
    unlink = path.inode.i_op.unlink
    return -EPERM if unlink is None else unlink(path.inode, name)


def sys_rename(oldname: Any, newname: Any) -> int:
    """rename(2), within file systems in memory."""
    old, new = filename_parent(oldname), filename_parent(newname)
    if isinstance(old, int):
        return old
    if isinstance(new, int):
        return new
    source, target = old[0].inode, new[0].inode
    if not (S_ISDIR(source.i_mode) and S_ISDIR(target.i_mode)):
        return -ENOTDIR
    inode = lookup(source, old[1])
    if inode is None:
        return -ENOENT
    error = inode_permission(source, MAY_WRITE | MAY_EXEC) or inode_permission(target, MAY_WRITE | MAY_EXEC)
    if error:
        return error
    if source.i_op.unlink is None or target.i_op.create is None:
        return -EPERM
    over = lookup(target, new[1])
    if over is inode:
        return 0
    if over is not None and S_ISDIR(over.i_mode):
        # Not modelled: renaming a directory over an empty one.
        return -EISDIR if not S_ISDIR(inode.i_mode) else -EBUSY
    assert source.i_children is not None
    assert target.i_children is not None
    del source.i_children[old[1]]
    target.i_children[new[1]] = inode
    return 0
