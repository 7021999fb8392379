"""Descriptors that stand for processes: kernel/fork.c and pid.c, v5.3; fs/pidfs.c since v6.9.

Not modelled: poll(); waitid(P_PIDFD) and pidfd_send_signal() work.
"""

from __future__ import annotations

from errno import EBADF, EINVAL, ESRCH
from stat import S_IFREG
from typing import Any, Final

import taskscope.model.fs.file as fs_file
import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.super as super_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.signal.send as signal_send
from taskscope.model import machine
from taskscope.model.include.linux.fs import O_CLOEXEC, File, FileOperations, Path
from taskscope.model.include.linux.pid import PIDTYPE_TGID, Pid
from taskscope.model.include.linux.sched_signal import SEND_SIG_NOINFO, Siginfo

O_RDWR: Final = 2


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
    """pidfd_send_signal(2), v5.1."""
    if flags:
        return -EINVAL
    pid = pidfd_get_pid(pidfd)
    if isinstance(pid, int):
        return pid
    if info:
        if not isinstance(info, Siginfo) or info.si_signo != sig:
            ret = -EINVAL
        elif info.si_code >= 0 and pid_.task_pid(machine.cur.cpu.curr) is not pid:
            ret = -1                        # EPERM
        else:
            ret = signal_send.kill_pid_info(sig, info, pid)
    else:
        ret = signal_send.kill_pid_info(sig, SEND_SIG_NOINFO, pid)
    pid_.put_pid(pid)
    return ret


pidfd_fops: Final = FileOperations(release=pidfd_release)
