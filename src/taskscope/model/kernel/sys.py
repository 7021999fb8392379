"""What a process may use and whom it belongs to: kernel/sys.c, v4.19: groups and sessions, prctl, limits, times.

The ids of a task, the first part of the C file, are in kernel/sys_ids.py.

User memory is plain Python: structures are small objects or tuples that are put through the caller's pointer.
"""

from __future__ import annotations

from errno import EACCES, EFAULT, EINVAL, ENOSYS, EPERM, ESRCH
from typing import Any, Final

import taskscope.model.fs.exec as exec_
import taskscope.model.fs.proc.root as proc_root
import taskscope.model.kernel.cred as cred_
import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.cputime as cputime
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.kernel.time.posix_cpu_timers as posix_cpu_timers
import taskscope.model.mm.page_alloc as page_alloc
import taskscope.model.security.commoncap as commoncap
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.pid import PIDTYPE_PGID, PIDTYPE_SID
from taskscope.model.include.linux.sched import (
    MAX_NICE,
    MIN_NICE,
    PF_FORKNOEXEC,
    Task,
    same_thread_group,
    task_nice,
    thread_group_leader,
)
from taskscope.model.include.linux.sched_signal import (
    RLIM_INFINITY,
    RLIM_NLIMITS,
    RLIMIT_CPU,
    RLIMIT_NOFILE,
    Rlimit,
)
from taskscope.model.include.linux.spinlock import read_lock, read_unlock, write_lock_irq, write_unlock_irq
from taskscope.model.include.linux.uaccess import get_user, put_user

RUSAGE_SELF: Final = 0
RUSAGE_CHILDREN: Final = -1
RUSAGE_BOTH: Final = -2
RUSAGE_THREAD: Final = 1

PRIO_PROCESS: Final = 0
PRIO_PGRP: Final = 1
PRIO_USER: Final = 2

PR_SET_PDEATHSIG: Final = 1
PR_GET_PDEATHSIG: Final = 2
PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
PR_SET_NAME: Final = 15
PR_GET_NAME: Final = 16
PR_SET_CHILD_SUBREAPER: Final = 36
PR_GET_CHILD_SUBREAPER: Final = 37
PR_SET_NO_NEW_PRIVS: Final = 38
PR_GET_NO_NEW_PRIVS: Final = 39
PR_GET_TID_ADDRESS: Final = 40

NSEC_PER_TICK: Final = 10_000_000
NR_OPEN: Final = 1024 * 1024
PER_LINUX: Final = 0
_NO_NEW_PRIVS: Final = 1


class Rusage:
    """struct rusage; times in ns."""

    __slots__ = (
        "ru_inblock", "ru_majflt", "ru_maxrss", "ru_minflt", "ru_nivcsw", "ru_nvcsw", "ru_oublock", "ru_stime",
        "ru_utime",
    )

    def __init__(self) -> None:
        self.ru_utime = self.ru_stime = 0
        self.ru_maxrss = 0
        self.ru_minflt = self.ru_majflt = 0
        self.ru_nvcsw = self.ru_nivcsw = 0
        self.ru_inblock = self.ru_oublock = 0


# ---- process groups and sessions ------------------------------------------------------------------------

def sys_setpgid(pid: int, pgid: int) -> int:
    """setpgid(2)."""
    m = machine.cur
    current = m.cpu.curr
    group_leader = current.group_leader
    if not pid:
        pid = pid_.task_pid_vnr(group_leader)
    if not pgid:
        pgid = pid
    if pgid < 0:
        return -EINVAL
    # From this point forward we keep holding onto the tasklist lock so that our parent does not change from under us.
    write_lock_irq(m.tasklist_lock)
    err = set_process_group(pid, pgid, group_leader)
    write_unlock_irq(m.tasklist_lock)
    return err


def set_process_group(pid: int, pgid: int, group_leader: Task) -> int:
    """Check and change a process group: what setpgid(2) does under the lock.

    Context: tasklist_lock held for writing.
    """
    p = pid_.find_task_by_vpid(pid)
    if p is None:
        return -ESRCH
    if not thread_group_leader(p):
        return -EINVAL
    if same_thread_group(p.real_parent, group_leader):
        if pid_.task_session(p) is not pid_.task_session(group_leader):
            return -EPERM
        if not p.flags & PF_FORKNOEXEC:
            return -EACCES
    elif p is not group_leader:
        return -ESRCH
    if p.signal.leader:
        return -EPERM
    pgrp = pid_.task_pid(p)
    if pgid != pid:
        pgrp = pid_.find_vpid(pgid)
        g = pid_.pid_task(pgrp, PIDTYPE_PGID)
        if g is None or pid_.task_session(g) is not pid_.task_session(group_leader):
            return -EPERM
    assert pgrp is not None
    if pid_.task_pgrp(p) is not pgrp:
        pid_.change_pid(p, PIDTYPE_PGID, pgrp)
    return 0


def sys_getpgid(pid: int) -> int:
    """getpgid(2)."""
    p = pid_.find_task_by_vpid(pid) if pid else machine.cur.cpu.curr
    return -ESRCH if p is None else pid_.task_pgrp_vnr(p)


def sys_getpgrp() -> int:
    """getpgrp(2)."""
    return sys_getpgid(0)


def sys_getsid(pid: int) -> int:
    """getsid(2)."""
    p = pid_.find_task_by_vpid(pid) if pid else machine.cur.cpu.curr
    return -ESRCH if p is None else pid_.task_session_vnr(p)


def sys_setsid() -> int:
    """setsid(2): a session of its own; -EPERM for who leads a process group."""
    m = machine.cur
    group_leader = m.cpu.curr.group_leader
    sid = pid_.task_pid(group_leader)
    assert sid is not None
    session = pid_.pid_vnr(sid)
    write_lock_irq(m.tasklist_lock)
    # Fail if I am already a session leader, or if a process group id already exists that equals the proposed session
    # id.
    if group_leader.signal.leader or pid_.pid_task(sid, PIDTYPE_PGID) is not None:
        write_unlock_irq(m.tasklist_lock)
        return -EPERM
    group_leader.signal.leader = True
    # __set_special_pids()
    if pid_.task_session(group_leader) is not sid:
        pid_.change_pid(group_leader, PIDTYPE_SID, sid)
    if pid_.task_pgrp(group_leader) is not sid:
        pid_.change_pid(group_leader, PIDTYPE_PGID, sid)
    # proc_clear_tty()
    group_leader.signal.tty = None
    write_unlock_irq(m.tasklist_lock)
    # Not modelled: proc_sid_connector(), sched_autogroup_create_attach().
    return session


# ---- prctl ----------------------------------------------------------------------------------------------

def propagate_has_child_subreaper(p: Task, data: Any) -> int:
    """Mark a descendant: it has a subreaper above it.  See `taskscope.model.kernel.fork.walk_process_tree`."""
    del data
    # If task has has_child_subreaper - all its descendants already have these flag too and new descendants will inherit
    # it on fork, skip them.
    if p.signal.has_child_subreaper or (p.thread_pid is not None and pid_.is_child_reaper(p.thread_pid)):
        return 0
    p.signal.has_child_subreaper = True
    return 1


def sys_prctl(option: int, arg2: Any = 0, arg3: Any = 0, arg4: Any = 0, arg5: Any = 0) -> int:
    """prctl(2)."""
    m = machine.cur
    me = m.cpu.curr
    error = commoncap.cap_task_prctl(option, arg2, arg3, arg4, arg5)        # security_task_prctl()
    if error != -ENOSYS:
        return error
    if option == PR_SET_PDEATHSIG:
        if not isinstance(arg2, int) or not 0 <= arg2 <= 64:
            return -EINVAL
        me.pdeath_signal = arg2
        return 0
    if option == PR_GET_PDEATHSIG:
        return -EFAULT if put_user(me.pdeath_signal, arg2) else 0
    if option == PR_GET_DUMPABLE:
        return int(me.mm.dumpable)
    if option == PR_SET_DUMPABLE:
        if arg2 not in (0, 1):
            return -EINVAL
        me.mm.dumpable = arg2
        return 0
    if option == PR_SET_NAME:
        if isinstance(arg2, bytes):
            arg2 = arg2.decode(errors="surrogateescape")
        if not isinstance(arg2, str):
            return -EFAULT
        exec_.set_task_comm(me, arg2)
        return 0
    if option == PR_GET_NAME:
        return -EFAULT if put_user(me.comm, arg2) else 0
    if option == PR_SET_CHILD_SUBREAPER:
        me.signal.is_child_subreaper = bool(arg2)
        if arg2:
            # walk_process_tree() begins with the children of every thread
            read_lock(m.tasklist_lock)
            fork.walk_process_tree(me, propagate_has_child_subreaper, None)
            read_unlock(m.tasklist_lock)
        return 0
    if option == PR_GET_CHILD_SUBREAPER:
        return -EFAULT if put_user(int(me.signal.is_child_subreaper), arg2) else 0
    if option == PR_SET_NO_NEW_PRIVS:
        if arg2 != 1 or arg3 or arg4 or arg5:
            return -EINVAL
        me.atomic_flags |= _NO_NEW_PRIVS
        return 0
    if option == PR_GET_NO_NEW_PRIVS:
        return -EINVAL if arg2 or arg3 or arg4 or arg5 else int(bool(me.atomic_flags & _NO_NEW_PRIVS))
    # PR_GET_TID_ADDRESS needs CONFIG_CHECKPOINT_RESTORE.  Not modelled: seccomp, timer slack, mm fields.
    return -EINVAL


# ---- limits and usage -----------------------------------------------------------------------------------

def do_prlimit(tsk: Task, resource: int, new: tuple[int, int] | None) -> tuple[int, int] | int:
    """Read and change a limit of a process: the old (soft, hard), or a negative errno."""
    if not 0 <= resource < RLIM_NLIMITS:
        return -EINVAL
    old = tsk.signal.rlim[resource]
    if new is not None:
        soft, hard = (RLIM_INFINITY if value < 0 else value for value in new)
        if soft > hard:
            return -EINVAL
        if resource == RLIMIT_NOFILE and hard > NR_OPEN:
            return -EPERM
        # Keep the capable check against init_user_ns until cgroups can contain all limits.
        if hard > old.rlim_max and not cred_.capable(cred_.CAP_SYS_RESOURCE):
            return -EPERM
        if resource == RLIMIT_CPU and soft == 0 and machine.cur.flavour.version < (5, 4):
            # The caller is asking for an immediate RLIMIT_CPU expiry.  But we use the zero value to mean "it was never
            # set".  So let's cheat and make it one second instead (until 2bbdbdae0516, "posix-cpu-timers: Get rid of
            # zero checks", v5.4).
            soft = 1
        tsk.signal.rlim[resource] = Rlimit(soft, hard)
        if resource == RLIMIT_CPU and soft != RLIM_INFINITY:
            posix_cpu_timers.update_rlimit_cpu(tsk)
    return old.rlim_cur, old.rlim_max


def sys_getrlimit(resource: int, rlim: Any) -> int:
    """getrlimit(2); (soft, hard) goes through the pointer."""
    old = do_prlimit(machine.cur.cpu.curr, resource, None)
    if isinstance(old, int):
        return old
    return -EFAULT if put_user(old, rlim) else 0


def sys_setrlimit(resource: int, rlim: Any) -> int:
    """setrlimit(2)."""
    new = rlim if isinstance(rlim, tuple) else get_user(rlim)
    if not isinstance(new, tuple):
        return -EFAULT
    old = do_prlimit(machine.cur.cpu.curr, resource, new)
    return old if isinstance(old, int) else 0


def check_prlimit_permission(task: Task) -> int:
    """Check whether the caller may look at and change the limits of another: 0 or -EPERM."""
    current = machine.cur.cpu.curr
    if current is task:
        return 0
    cred, its = current.cred, task.cred
    if (cred.uid == its.euid == its.suid == its.uid and cred.gid == its.egid == its.sgid == its.gid):
        return 0
    return 0 if cred_.capable(cred_.CAP_SYS_RESOURCE) else -EPERM


def sys_prlimit64(pid: int, resource: int, new_rlim: Any, old_rlim: Any = None) -> int:
    """prlimit(2)."""
    tsk = pid_.find_task_by_vpid(pid) if pid else machine.cur.cpu.curr
    if tsk is None:
        return -ESRCH
    ret = check_prlimit_permission(tsk)
    if ret:
        return ret
    new = new_rlim if isinstance(new_rlim, tuple) or not new_rlim else get_user(new_rlim)
    old = do_prlimit(tsk, resource, new or None)
    if isinstance(old, int):
        return old
    return -EFAULT if old_rlim and put_user(old, old_rlim) else 0


def fill_rusage(p: Task, who: int, r: Rusage) -> None:
    """Fill a struct rusage (getrusage() of the C file)."""
    if who == RUSAGE_THREAD:
        r.ru_utime, r.ru_stime = cputime.task_cputime_adjusted(p)
        r.ru_nvcsw, r.ru_nivcsw, r.ru_minflt, r.ru_majflt = p.nvcsw, p.nivcsw, p.min_flt, p.maj_flt
        return
    sig = p.signal
    if who in (RUSAGE_BOTH, RUSAGE_CHILDREN):
        r.ru_utime, r.ru_stime = sig.cutime, sig.cstime
        r.ru_nvcsw, r.ru_nivcsw = sig.cnvcsw, sig.cnivcsw
        r.ru_minflt, r.ru_majflt = sig.cmin_flt, sig.cmaj_flt
    if who in (RUSAGE_BOTH, RUSAGE_SELF):
        utime, stime = cputime.thread_group_cputime_adjusted(p)
        r.ru_utime += utime
        r.ru_stime += stime
        r.ru_nvcsw += sig.nvcsw
        r.ru_nivcsw += sig.nivcsw
        r.ru_minflt += sig.min_flt
        r.ru_majflt += sig.maj_flt
        for t in signal_send.for_each_thread(p):
            r.ru_nvcsw += t.nvcsw
            r.ru_nivcsw += t.nivcsw
            r.ru_minflt += t.min_flt
            r.ru_majflt += t.maj_flt
    if p.mm is not None:
        r.ru_maxrss = max(p.mm.hiwater_rss, p.mm.rss) * 4


def sys_getrusage(who: int, ru: Any) -> int:
    """getrusage(2); a `Rusage` goes through the pointer."""
    if who not in (RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD):
        return -EINVAL
    r = Rusage()
    fill_rusage(machine.cur.cpu.curr, who, r)
    return -EFAULT if put_user(r, ru) else 0


def sys_times(tbuf: Any) -> int:
    """times(2): (utime, stime, cutime, cstime) in ticks of 1/100 s; returns the ticks since the boot."""
    m = machine.cur
    current = m.cpu.curr
    if tbuf:
        utime, stime = cputime.thread_group_cputime_adjusted(current)
        sig = current.signal
        if put_user(tuple(t // NSEC_PER_TICK for t in (utime, stime, sig.cutime, sig.cstime)), tbuf):
            return -EFAULT
    # jiffies_64_to_clock_t(); jiffies start 5 minutes before they wrap in C, and at 0 here
    return m.now // NSEC_PER_TICK


# ---- priorities -----------------------------------------------------------------------------------------

def which_tasks(which: int, who: int) -> list[Task] | int:
    """Return the tasks that getpriority() and setpriority() mean; -EINVAL or -ESRCH."""
    m = machine.cur
    current = m.cpu.curr
    if which == PRIO_PROCESS:
        p = pid_.find_task_by_vpid(who) if who else current
        return -ESRCH if p is None else [p]
    if which == PRIO_PGRP:
        pgrp = pid_.find_vpid(who) if who else pid_.task_pgrp(current)
        return [t for p in pid_.do_each_pid_task(pgrp, PIDTYPE_PGID) for t in signal_send.for_each_thread(p)]
    if which == PRIO_USER:
        uid = who or current.cred.uid
        return [t for p in list_for_each_entry(m.init_task.tasks) for t in signal_send.for_each_thread(p)
                if t.cred.uid == uid and pid_.task_pid_vnr(t)]
    return -EINVAL


def set_one_prio(p: Task, niceval: int, error: int) -> int:
    """Set one nice value: what setpriority() returns so far."""
    cred = machine.cur.cpu.curr.cred
    if p.cred.uid != cred.euid and p.cred.euid != cred.euid and not cred_.capable(cred_.CAP_SYS_NICE):
        return -EPERM
    if niceval < task_nice(p) and not sched_syscalls.can_nice(p, niceval):
        return -EACCES
    if error == -ESRCH:
        error = 0
    sched_syscalls.set_user_nice(p, niceval)
    return error


def sys_setpriority(which: int, who: int, niceval: int) -> int:
    """setpriority(2)."""
    tasks = which_tasks(which, who)
    if isinstance(tasks, int):
        return tasks
    error = -ESRCH
    # normalize: avoid signed division (rounding problems)
    niceval = max(MIN_NICE, min(MAX_NICE, niceval))
    for p in tasks:
        error = set_one_prio(p, niceval, error)
    return error


def sys_getpriority(which: int, who: int) -> int:
    """getpriority(2): 20 - nice of the most favoured, as the system call returns it (1…40)."""
    tasks = which_tasks(which, who)
    if isinstance(tasks, int):
        return tasks
    return max((MAX_NICE - task_nice(p) + 1 for p in tasks), default=-ESRCH)


# ---- the rest -------------------------------------------------------------------------------------------

def sys_umask(mask: int) -> int:
    """umask(2): the old one."""
    fs = machine.cur.cpu.curr.fs
    old: int = fs.umask
    fs.umask = mask & 0o777
    return old


def sys_newuname(name: Any) -> int:
    """uname(2): (sysname, nodename, release, version, machine)."""
    m = machine.cur
    preempt = sched_core.preempt_name()
    uts = ("Linux", proc_root.show_hostname(None).strip(), m.flavour.release, f"#1 SMP{preempt}", m.flavour.machine)
    return -EFAULT if put_user(uts, name) else 0


def sys_getcpu(cpup: Any, nodep: Any = None, unused: Any = None) -> int:
    """getcpu(2)."""
    del unused
    err = put_user(machine.cur.cpu.id, cpup) if cpup else 0
    if nodep:
        err |= put_user(0, nodep)
    return -EFAULT if err else 0


def sys_personality(personality: int) -> int:
    """personality(2): the old one; 0xffffffff asks only."""
    current = machine.cur.cpu.curr
    old = current.personality
    if personality != 0xFFFF_FFFF:
        current.personality = personality
    return old




class Sysinfo:
    """struct sysinfo, what is known here: times in s, memory in units of `mem_unit` bytes."""

    __slots__ = ("freeram", "loads", "mem_unit", "procs", "totalram", "uptime")

    def __init__(self) -> None:
        m = machine.cur
        self.uptime = m.now // 1_000_000_000
        self.loads = tuple(m.avenrun)
        self.totalram = page_alloc.totalram_pages()
        self.freeram = page_alloc.nr_free_pages()
        self.procs = m.nr_threads
        self.mem_unit = page_alloc.PAGE_SIZE


def sys_sysinfo(info: Any) -> int:
    """sysinfo(2)."""
    return -EFAULT if put_user(Sysinfo(), info) else 0
