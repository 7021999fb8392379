"""Namespaces: kernel/nsproxy.c, v4.19, with setns() by pidfd (v5.8).

Of the kinds only pid namespaces are modelled; of each other kind there is the initial one, and who asks for a new one
gets the -EINVAL of a kernel that is built without them.
"""

from __future__ import annotations

from errno import EBADF, EINVAL, EPERM, ESRCH
from typing import Any, Final

import taskscope.model.fs.file as fs_file
import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.nsfs as nsfs
import taskscope.model.fs.pidfs as pidfs
import taskscope.model.kernel.cred as cred
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.pid_namespace as pid_namespace
import taskscope.model.kernel.ptrace as ptrace_
from taskscope.model import machine
from taskscope.model.include.linux.fs import File
from taskscope.model.include.linux.pid import PIDTYPE_PID, Pid, PidNamespace
from taskscope.model.include.linux.ptrace import PTRACE_MODE_READ_REALCREDS
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.uapi.linux.sched import CLONE_NAMESPACES, CLONE_NEWPID, CLONE_NEWUSER

_ASKED: Final = CLONE_NAMESPACES & ~CLONE_NEWUSER


class NsProxy:
    """struct nsproxy: uts, ipc, mount, pid and network namespace.  Never changed once a task has it."""

    __slots__ = ("count", "pid_ns_for_children")

    def __init__(self) -> None:
        self.count = 1
        self.pid_ns_for_children: PidNamespace = None  # type: ignore[assignment]  # set by whoever makes one


def create_new_namespaces(flags: int, tsk: Task) -> NsProxy | int:
    """Make an nsproxy with what is asked for new and the rest that of `tsk`; a negative errno if that fails."""
    # Not modelled: mount, uts, ipc, user, cgroup, network and time namespaces.
    if flags & CLONE_NAMESPACES & ~CLONE_NEWPID:
        return -EINVAL
    pid_ns = pid_namespace.copy_pid_ns(flags, tsk.nsproxy.pid_ns_for_children)
    if isinstance(pid_ns, int):
        return pid_ns
    new_nsp = NsProxy()
    new_nsp.pid_ns_for_children = pid_ns
    return new_nsp


def copy_namespaces(flags: int, tsk: Task) -> int:
    """Share the caller's namespaces or make new ones; -EPERM or -EINVAL where that is not possible."""
    if not flags & CLONE_NAMESPACES:
        tsk.nsproxy.count += 1
        return 0
    if flags & _ASKED and not cred.capable(cred.CAP_SYS_ADMIN):
        return -EPERM
    new_ns = create_new_namespaces(flags, tsk)
    if isinstance(new_ns, int):
        return new_ns
    tsk.nsproxy = new_ns
    return 0


def unshare_nsproxy_namespaces(unshare_flags: int) -> NsProxy | int | None:
    """Make what unshare(2) asks for: None if that is nothing, a negative errno if it is not possible."""
    if not unshare_flags & CLONE_NAMESPACES:
        return None
    if not cred.capable(cred.CAP_SYS_ADMIN):
        return -EPERM
    return create_new_namespaces(unshare_flags, machine.cur.cpu.curr)


def switch_task_namespaces(p: Task, new: NsProxy | None) -> None:
    """Give a task other namespaces, or none at its end."""
    ns: NsProxy | None = p.nsproxy
    p.nsproxy = new
    if ns is not None:
        ns.count -= 1
        if ns.count == 0:
            free_nsproxy(ns)


def free_nsproxy(ns: NsProxy) -> None:
    """Drop what an nsproxy without users refers to."""
    assert ns is not machine.cur.init_task.nsproxy or machine.cur.closed, "the initial namespaces lose their last user"
    pid_namespace.put_pid_ns(ns.pid_ns_for_children)


def exit_task_namespaces(p: Task) -> None:
    """Drop the task's namespaces."""
    switch_task_namespaces(p, None)


def validate_nsset(flags: int, pid: Pid, nsproxy: NsProxy) -> int:
    """Take the namespaces of the process behind a pidfd."""
    # Take a "snapshot" of the target task's namespaces.
    tsk = pid_.pid_task(pid, PIDTYPE_PID)
    if tsk is None:
        return -ESRCH
    if not ptrace_.ptrace_may_access(tsk, PTRACE_MODE_READ_REALCREDS):
        return -EPERM
    if tsk.nsproxy is None or tsk.thread_pid is None:
        return -ESRCH
    return pid_namespace.pidns_install(nsproxy, pid_.task_active_pid_ns(tsk)) if flags & CLONE_NEWPID else 0


def check_setns_flags(flags: int) -> int:
    """Check what is asked of a pidfd: at least one kind of namespace, and only kinds that there are."""
    if not flags or flags & ~(CLONE_NAMESPACES | 0x80):     # CLONE_NEWTIME
        return -EINVAL
    # Not modelled: the other kinds.
    return 0 if flags == CLONE_NEWPID else -EINVAL


def _set_namespaces(file: File, flags: int, nsproxy: NsProxy) -> int:
    """Put the namespaces of a descriptor into the nsproxy: of a file of nsfs, or (v5.8) of a pidfd."""
    ns: Any = file.private_data
    if nsfs.proc_ns_file(file):
        if flags and flags != CLONE_NEWPID:                 # ns->ops->type
            return -EINVAL
        return pid_namespace.pidns_install(nsproxy, ns)
    if machine.cur.flavour.version >= (5, 8) and file.f_op is pidfs.pidfd_fops:
        return check_setns_flags(flags) or validate_nsset(flags, ns, nsproxy)
    return -EINVAL


def sys_setns(fd: int, flags: int) -> int:
    """setns(2): let the caller's children live in the pid namespace that a descriptor stands for."""
    file = fs_file.fget(fd)
    if file is None:
        return -EBADF
    current = machine.cur.cpu.curr
    # prepare_nsset()
    nsproxy = create_new_namespaces(0, current)
    err = nsproxy if isinstance(nsproxy, int) else _set_namespaces(file, flags, nsproxy)
    if not isinstance(nsproxy, int):
        if err:
            free_nsproxy(nsproxy)
        else:
            switch_task_namespaces(current, nsproxy)        # commit_nsset()
    file_table.fput(file)
    return err
