"""Who may signal whom, and signals to groups and to all: the middle of kernel/signal.c, v4.19.

What kill(2), the terminal and dying parents call.  That the signal is sent is `send`'s.
"""

from __future__ import annotations

from errno import EINVAL, EPERM, ESRCH
from typing import Any, Final

import taskscope.model.kernel.cred as cred
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.signal.send as send
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.pid import PIDTYPE_MAX, PIDTYPE_PGID, PIDTYPE_PID, PIDTYPE_TGID, Pid
from taskscope.model.include.linux.sched import Task, same_thread_group
from taskscope.model.include.linux.sched_signal import SEND_SIG_NOINFO, SEND_SIG_PRIV
from taskscope.model.include.linux.spinlock import read_lock, read_unlock

SIGCONT: Final = 18
_NSIG: Final = 64


def kill_ok_by_cred(t: Task) -> bool:
    """Tell whether uids, or CAP_KILL, allow a signal."""
    mine = machine.cur.cpu.curr.cred
    its = t.cred
    if mine.euid in (its.suid, its.uid) or mine.uid in (its.suid, its.uid):
        return True
    return cred.capable(cred.CAP_KILL)


def check_kill_permission(sig: int, info: Any, t: Task) -> int:
    """Check that the caller may send the signal: 0, -EINVAL or -EPERM."""
    if not 0 <= sig <= _NSIG:
        return -EINVAL
    if not send.si_fromuser(info):
        return 0
    current = machine.cur.cpu.curr
    if not same_thread_group(current, t) and not kill_ok_by_cred(t):
        if sig == SIGCONT:
            sid = pid_.task_session(t)
            # We don't return the error if sid == NULL.  The task was unhashed, the caller must notice this.
            if sid is None or sid is pid_.task_session(current):
                return 0
        return -EPERM
    return 0


def group_send_sig_info(sig: int, info: Any, p: Task, type: int) -> int:
    """Send to a process if the caller may."""
    ret = check_kill_permission(sig, info, p)
    if not ret and sig:
        ret = send.do_send_sig_info(sig, info, p, type)
    return ret


def __kill_pgrp_info(sig: int, info: Any, pgrp: Pid | None) -> int:
    """Send to each process of a group, youngest member first; 0 if one got it.

    Context: tasklist_lock held.
    """
    success = False
    retval = -ESRCH
    for p in pid_.do_each_pid_task(pgrp, PIDTYPE_PGID):
        err = group_send_sig_info(sig, info, p, PIDTYPE_PGID)
        success |= not err
        retval = err
    return 0 if success else retval


def kill_pgrp(pid: Pid | None, sig: int, priv: bool) -> int:
    """Send to a process group."""
    lock = machine.cur.tasklist_lock
    read_lock(lock)
    ret = __kill_pgrp_info(sig, SEND_SIG_PRIV if priv else SEND_SIG_NOINFO, pid)
    read_unlock(lock)
    return ret


def kill_pid_info(sig: int, info: Any, pid: Pid | None) -> int:
    """Send to the process that has the pid, or a thread with it."""
    p = pid_.pid_task(pid, PIDTYPE_PID)
    if p is None:
        return -ESRCH
    return group_send_sig_info(sig, info, p, PIDTYPE_TGID)


def kill_pid(pid: Pid | None, sig: int, priv: bool) -> int:
    """Send to a process from inside the kernel."""
    return kill_pid_info(sig, SEND_SIG_PRIV if priv else SEND_SIG_NOINFO, pid)


def kill_something_info(sig: int, info: Any, pid: int) -> int:
    """Send as kill(2) does: to a process, to a group (0, < -1), or to all but init and the caller (-1)."""
    m = machine.cur
    if pid > 0:
        return kill_pid_info(sig, info, pid_.find_vpid(pid))
    # -INT_MIN is undefined.
    if pid == -(1 << 31):
        return -ESRCH
    current = m.cpu.curr
    read_lock(m.tasklist_lock)
    if pid != -1:
        ret = __kill_pgrp_info(sig, info, pid_.find_vpid(-pid) if pid else pid_.task_pgrp(current))
    else:
        retval = 0
        count = 0
        for p in list_for_each_entry(m.init_task.tasks):
            if pid_.task_pid_vnr(p) > 1 and not same_thread_group(p, current):
                err = group_send_sig_info(sig, info, p, PIDTYPE_MAX)
                count += 1
                if err != -EPERM:
                    retval = err
        ret = retval if count else -ESRCH
    read_unlock(m.tasklist_lock)
    return ret
