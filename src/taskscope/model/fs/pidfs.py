"""Descriptors that stand for processes: kernel/fork.c and pid.c, v5.3; fs/pidfs.c since v6.9.

Not modelled: poll(); waitid(P_PIDFD) and pidfd_send_signal() work.
"""

from __future__ import annotations

from errno import EBADF, EFAULT, EINVAL, EPERM, ESRCH
from stat import S_IFREG
from typing import Any, Final

import taskscope.model.fs.file as fs_file
import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.super as super_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.signal.kill as signal_kill
from taskscope.model import machine
from taskscope.model.include.linux.fs import O_CLOEXEC, File, FileOperations, Path
from taskscope.model.include.linux.pid import PIDTYPE_PGID, PIDTYPE_PID, PIDTYPE_TGID, Pid
from taskscope.model.include.linux.sched_signal import SI_TKILL, SI_USER, Siginfo
from taskscope.model.include.linux.spinlock import read_lock, read_unlock

O_RDWR: Final = 2
PIDFD_SIGNAL_THREAD: Final = 1
PIDFD_SIGNAL_THREAD_GROUP: Final = 2
PIDFD_SIGNAL_PROCESS_GROUP: Final = 4
_PIDFD_SEND_SIGNAL_FLAGS: Final = 7
PIDFD_SELF_THREAD: Final = -10000
PIDFD_SELF_THREAD_GROUP: Final = -10001


def pidfd_release(inode: Any, file: File) -> int:
    """Let go of the pid when the last descriptor is closed."""
    del inode
    pid_.put_pid(file.private_data)
    return 0


def pidfd_prepare(pid: Pid) -> tuple[int, Any]:
    """Reserve a descriptor and make the file; (a negative errno, None) if that fails."""
    fd = fs_file.get_unused_fd_flags(O_RDWR | O_CLOEXEC)
    if fd < 0:
        return fd, None
    file = file_table.alloc_file(Path(super_.new_inode(S_IFREG | 0o600, pidfd_fops), None, "anon_inode:[pidfd]"),
                                 O_RDWR, pidfd_fops)
    file.private_data = pid_.get_pid(pid)
    return fd, file


def pidfd_get_pid(fd: int) -> Pid | int:
    """Return the pid behind a descriptor with a reference taken; -EBADF if it is no pidfd."""
    file = fs_file.fget(fd)
    if file is None:
        return -EBADF
    pid = file.private_data if file.f_op is pidfd_fops else None
    found = pid_.get_pid(pid) if isinstance(pid, Pid) else None
    file_table.fput(file)
    return -EBADF if found is None else found


def sys_pidfd_open(pid: int, flags: int = 0) -> int:
    """pidfd_open(2), v5.3."""
    if flags or pid <= 0:
        return -EINVAL
    p = pid_.find_vpid(pid)
    if p is None:
        return -ESRCH
    # pidfds of threads that are not leaders: not before v6.9, with PIDFD_THREAD
    if pid_.pid_task(p, PIDTYPE_TGID) is None:
        return -EINVAL
    fd, file = pidfd_prepare(p)
    if file is not None:
        fs_file.fd_install(fd, file)
    return fd


def sys_pidfd_send_signal(pidfd: int, sig: int, info: Any = None, flags: int = 0) -> int:
    """pidfd_send_signal(2), v5.1; with PIDFD_SIGNAL_* flags since v6.9, with PIDFD_SELF* since v6.14."""
    new = machine.cur.flavour.switches.pidfd_signal_flags
    # Enforce flags be set to 0 until we add an extension; and that at most one is.
    if flags & ~(_PIDFD_SEND_SIGNAL_FLAGS if new else 0) or flags & flags - 1:
        return -EINVAL
    current = machine.cur.cpu.curr
    pid: Pid | int | None
    if new and pidfd == PIDFD_SELF_THREAD:
        pid, type_ = pid_.get_pid(current.thread_pid), PIDTYPE_PID
    elif new and pidfd == PIDFD_SELF_THREAD_GROUP:
        pid, type_ = pid_.get_pid(current.signal.pids[PIDTYPE_TGID]), PIDTYPE_TGID
    else:
        # Infer scope from the type of pidfd.  Not modelled: PIDFD_THREAD, and a descriptor of /proc/PID.
        pid, type_ = pidfd_get_pid(pidfd), PIDTYPE_TGID
    if isinstance(pid, int):
        return pid
    assert pid is not None
    if flags & PIDFD_SIGNAL_THREAD:
        type_ = PIDTYPE_PID
    elif flags & PIDFD_SIGNAL_PROCESS_GROUP:
        type_ = PIDTYPE_PGID
    ret = _send(pid, sig, info, type_)
    pid_.put_pid(pid)
    return ret


def _send(pid: Pid, sig: int, info: Any, type_: int) -> int:
    current = machine.cur.cpu.curr
    if info:
        if not isinstance(info, Siginfo):
            return -EFAULT
        if info.si_signo != sig:
            return -EINVAL
        # Only allow sending arbitrary signals to yourself.
        if pid_.task_pid(current) is not pid and (info.si_code >= 0 or info.si_code == SI_TKILL):
            return -EPERM
        info = info.copy()
    else:
        # prepare_kill_siginfo()
        code = SI_TKILL if type_ == PIDTYPE_PID else SI_USER
        info = Siginfo(sig, code, pid_.task_tgid_vnr(current), current.cred.uid)
    if type_ == PIDTYPE_PGID:
        m = machine.cur
        read_lock(m.tasklist_lock)
        ret = signal_kill.__kill_pgrp_info(sig, info, pid)
        read_unlock(m.tasklist_lock)
        return ret
    # kill_pid_info_type()
    p = pid_.pid_task(pid, PIDTYPE_PID)
    return -ESRCH if p is None else signal_kill.group_send_sig_info(sig, info, p, type_)


pidfd_fops: Final = FileOperations(release=pidfd_release)
