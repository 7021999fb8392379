"""Files that stand for namespaces: fs/nsfs.c, v4.19, and /proc/PID/ns/ of fs/proc/namespaces.c.

Opening one keeps the namespace; its inode number tells which it is.
"""

from __future__ import annotations

from errno import EACCES, ESRCH
from stat import S_IFREG
from typing import Any, Final

import taskscope.model.fs.proc.inode as proc_inode
import taskscope.model.fs.super as super_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.pid_namespace as pid_namespace
import taskscope.model.kernel.ptrace as ptrace_
from taskscope.model.include.linux.fs import File, FileOperations, Inode, InodeOperations
from taskscope.model.include.linux.pid import PIDTYPE_PID, Pid, PidNamespace
from taskscope.model.include.linux.ptrace import PTRACE_MODE_READ_FSCREDS
from taskscope.model.include.linux.sched import Task


def proc_ns_file(file: File) -> bool:
    """Tell whether a file stands for a namespace."""
    return file.f_op is ns_file_operations


def ns_get(task: Task, name: str) -> PidNamespace | None:
    """Return the namespace behind a name in /proc/PID/ns; None if the task has none any more.

    pid_for_children is None, too, until that namespace has its init.
    """
    if name == "pid":
        return None if task.thread_pid is None else pid_.task_active_pid_ns(task)
    if task.nsproxy is None:
        return None
    ns: PidNamespace = task.nsproxy.pid_ns_for_children
    return None if ns.child_reaper is None else ns


def ns_open(inode: Inode, file: File) -> int:
    """Take a reference; -EACCES for who may not look into the task, -ESRCH if it has no such namespace."""
    pid, name = inode.i_private
    task = pid_.pid_task(pid, PIDTYPE_PID)
    if task is None:
        return -ESRCH
    if not ptrace_.ptrace_may_access(task, PTRACE_MODE_READ_FSCREDS):
        return -EACCES
    ns = ns_get(task, name)
    if ns is None:
        return -ESRCH
    file.private_data = pid_namespace.get_pid_ns(ns)
    return 0


def ns_release(inode: Inode, file: File) -> int:
    """Drop the reference."""
    del inode
    pid_namespace.put_pid_ns(file.private_data)
    return 0


def proc_ns_dir_inode(pid: Pid) -> Inode:
    """Return the directory /proc/PID/ns."""
    return proc_inode.proc_dir_inode(proc_ns_dir_inode_operations, proc_ns_dir_operations, pid, 0o511)


def proc_ns_dir_lookup(dir: Inode, name: str) -> Inode | None:
    """Look a namespace up.  A link in C; here the name leads to the file at once, as open() and stat() follow it."""
    pid: Pid = dir.i_private
    task = pid_.pid_task(pid, PIDTYPE_PID)
    if name not in PROC_NS or task is None:
        return None
    inode = super_.new_inode(S_IFREG | 0o444, ns_file_operations)
    inode.i_private = (pid, name)
    ns = ns_get(task, name)
    if ns is not None:
        inode.i_ino = ns.inum
    return inode


def proc_ns_dir_readdir(f: File) -> list[str]:
    """Return the names in /proc/PID/ns."""
    del f
    return list(PROC_NS)


# Not modelled: cgroup, ipc, mnt, net, time, user, uts.
PROC_NS: Final = ("pid", "pid_for_children")
ns_file_operations: Final[Any] = FileOperations(open=ns_open, release=ns_release)
proc_ns_dir_operations: Final = FileOperations(iterate=proc_ns_dir_readdir)
proc_ns_dir_inode_operations: Final = InodeOperations(lookup=proc_ns_dir_lookup)
