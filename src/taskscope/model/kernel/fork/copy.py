"""copy_process(): the heart of kernel/fork.c, v4.19: what a child shares or copies, and how a failed step is undone."""

from __future__ import annotations

from errno import EAGAIN, EFAULT, EINTR, EINVAL, ENOMEM
from typing import Any

import taskscope.model.fs.file as fs_file
import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.fs_struct as fs_struct
import taskscope.model.fs.pidfs as pidfs
import taskscope.model.kernel.cred as cred
import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.nsproxy as nsproxy
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.ptrace as ptrace_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.kernel.time.posix_cpu_timers as posix_cpu_timers
import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.mm.slab as slab
from taskscope.model import costs, machine
from taskscope.model.include.linux.errno import ERESTARTNOINTR
from taskscope.model.include.linux.futex import FUTEX_STATE_OK
from taskscope.model.include.linux.list import ListHead, list_add, list_add_tail, list_add_tail_rcu, list_del_init
from taskscope.model.include.linux.pid import (
    PIDNS_ADDING,
    PIDTYPE_MAX,
    PIDTYPE_PGID,
    PIDTYPE_PID,
    PIDTYPE_SID,
    PIDTYPE_TGID,
    Pid,
)
from taskscope.model.include.linux.sched import (
    PF_FORKNOEXEC,
    PF_IDLE,
    PF_NPROC_EXCEEDED,
    PF_SUPERPRIV,
    PF_WQ_WORKER,
    TASK_DEAD,
    Task,
    thread_group_leader,
)
from taskscope.model.include.linux.sched_signal import (
    RLIMIT_NPROC,
    SIG_IGN,
    SIGNAL_UNKILLABLE,
    SighandStruct,
    SignalStruct,
    SigPending,
)
from taskscope.model.include.linux.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_irq,
    spin_unlock,
    spin_unlock_irq,
    write_lock_irq,
    write_unlock_irq,
)
from taskscope.model.include.linux.thread_info import clear_task_syscall_work, signal_pending
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.linux.wait import WaitQueueHead
from taskscope.model.include.trace.events.task import trace_task_newtask
from taskscope.model.include.uapi.linux.sched import (
    CLONE_CHILD_CLEARTID,
    CLONE_CHILD_SETTID,
    CLONE_CLEAR_SIGHAND,
    CLONE_DETACHED,
    CLONE_FILES,
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PARENT,
    CLONE_PIDFD,
    CLONE_PTRACE,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
)

# ---- what is shared or copied ---------------------------------------------------------------------------

def copy_files(clone_flags: int, tsk: Task) -> int:
    """Share or copy the table of open files."""
    oldf = machine.cur.cpu.curr.files
    if oldf is None:                        # a background process may not have any files
        return 0
    if clone_flags & CLONE_FILES:
        oldf.count += 1
        return 0
    if fault_inject.should_fail("files_cache"):
        return -ENOMEM
    newf = fs_file.dup_fd(oldf)
    if isinstance(newf, int):
        return newf
    tsk.files = newf
    return 0


def copy_fs(clone_flags: int, tsk: Task) -> int:
    """Share or copy root, working directory and umask."""
    fs = machine.cur.cpu.curr.fs
    if clone_flags & CLONE_FS:
        # -EAGAIN while an execve() is between its check for sharing and its end
        if fs.in_exec:
            return -EAGAIN
        fs.users += 1
        return 0
    if fault_inject.should_fail("fs_cache"):
        return -ENOMEM
    tsk.fs = fs_struct.copy_fs_struct(fs)
    return 0


def copy_sighand(clone_flags: int, tsk: Task) -> int:
    """Share or copy the table of signal actions."""
    m = machine.cur
    current = m.cpu.curr
    assert current.sighand is not None
    if clone_flags & CLONE_SIGHAND:
        current.sighand.count += 1
        return 0
    if not slab.kmem_cache_alloc_object(m.sighand_cachep):
        return -ENOMEM
    action = list(current.sighand.action)
    if clone_flags & CLONE_CLEAR_SIGHAND:
        # Reset all signal handlers not set to SIG_IGN to SIG_DFL (v5.5).
        action = [old if old.sa_handler == SIG_IGN else m.ka_default for old in action]
    tsk.sighand = SighandStruct(action)
    return 0


def __cleanup_sighand(sighand: SighandStruct) -> None:
    """Drop a reference to the table of signal actions."""
    sighand.count -= 1
    assert sighand.count >= 0, "a freed sighand_struct is dropped"
    if sighand.count == 0:
        slab.kmem_cache_free_object(machine.cur.sighand_cachep)


def copy_signal(clone_flags: int, tsk: Task) -> int:
    """Make what the threads of a process share; a thread has that of its leader."""
    if clone_flags & CLONE_THREAD:
        return 0
    m = machine.cur
    current = m.cpu.curr
    if not slab.kmem_cache_alloc_object(m.signal_cachep):
        return -ENOMEM
    sig = SignalStruct()
    was = current.signal
    tsk.signal = sig
    sig.nr_threads = 1
    sig.quick_threads = 1
    sig.live = 1
    sig.sigcnt = 1
    # list_add(&sig->thread_head, &tsk->thread_node) without using it
    sig.thread_head = ListHead()
    tsk.thread_node = ListHead(tsk)
    list_add(tsk.thread_node, sig.thread_head)
    sig.wait_chldexit = WaitQueueHead("wait_chldexit")
    sig.curr_target = tsk
    sig.shared_pending = SigPending()
    sig.multiprocess = ListHead()
    sig.posix_timers = None
    sig.real_timer = None
    sig.rlim = list(was.rlim)
    sig.it = None if was.it is None else posix_cpu_timers.posix_cpu_timers_init_group(sig, was)
    # Not modelled: tty_audit_fork(), sched_autogroup_fork().
    sig.oom_score_adj = was.oom_score_adj
    sig.oom_score_adj_min = was.oom_score_adj_min
    sig.cred_guard_mutex = None
    zero_signal_struct(sig)
    return 0


def zero_signal_struct(sig: SignalStruct) -> None:
    """Set what kmem_cache_zalloc() leaves as 0."""
    sig.group_exit_code = sig.notify_count = sig.group_stop_count = sig.flags = 0
    sig.group_exit_task = sig.coredump = None
    sig.is_child_subreaper = sig.has_child_subreaper = sig.leader = False
    sig.pids = [None] * PIDTYPE_MAX  # type: ignore[list-item]
    sig.tty = sig.tty_old_pgrp = None
    sig.utime = sig.stime = sig.cutime = sig.cstime = 0
    sig.nvcsw = sig.nivcsw = sig.cnvcsw = sig.cnivcsw = 0
    sig.min_flt = sig.maj_flt = sig.cmin_flt = sig.cmaj_flt = 0
    sig.sum_sched_runtime = 0
    sig.oom_mm = None


def free_signal_struct(sig: SignalStruct) -> None:
    """Free the signal_struct of a process."""
    # Not modelled: taskstats_tgid_free(), sched_autogroup_exit().
    # __mmdrop is not safe to call from softirq context on x86 due to pgd_dtor: C leaves it to a workqueue.
    if sig.oom_mm is not None:
        fork.mmdrop(sig.oom_mm)
    slab.kmem_cache_free_object(machine.cur.signal_cachep)


def put_signal_struct(sig: SignalStruct) -> None:
    """Drop a thread's reference."""
    sig.sigcnt -= 1
    assert sig.sigcnt >= 0, "a freed signal_struct is dropped"
    if sig.sigcnt == 0:
        free_signal_struct(sig)


def copy_io(clone_flags: int, tsk: Task) -> int:
    """Share or copy the I/O context: nobody here has one."""
    del clone_flags, tsk
    # Not modelled: block I/O.
    return 0


# ---- copy_process() -------------------------------------------------------------------------------------

def copy_process(
    clone_flags: int, stack_start: Any, stack_size: Any, child_tidptr: Any, pid: Pid | None, trace: int, tls: Any,
    node: int = -1, *, exit_signal: int = 0, pidfd: Any = None, set_tid: tuple[int, ...] = (),
) -> Task | int:
    """Make a new task as a copy of the caller, without starting it; a negative errno if that fails.

    :param pid: init_struct_pid for an idle task, which takes no number; None for everybody else
    :param stack_start: of a kernel thread: its function, and `stack_size` its argument
    :param exit_signal: the low byte of clone()'s flags, which clone3() has as a field
    :param set_tid: numbers that clone3() chooses, of the innermost namespace first
    """
    del node
    m = machine.cur
    current = m.cpu.curr
    clone3 = m.flavour.switches.clone3

    # Don't allow sharing the root directory with processes in a different namespace.
    if clone_flags & (CLONE_NEWNS | CLONE_FS) == CLONE_NEWNS | CLONE_FS:
        return -EINVAL
    if clone_flags & (CLONE_NEWUSER | CLONE_FS) == CLONE_NEWUSER | CLONE_FS:
        return -EINVAL
    # Thread groups must share signals as well, and detached threads can only be started up within the thread group.
    if clone_flags & CLONE_THREAD and not clone_flags & CLONE_SIGHAND:
        return -EINVAL
    # Shared signal handlers imply shared VM.
    if clone_flags & CLONE_SIGHAND and not clone_flags & CLONE_VM:
        return -EINVAL
    # Siblings of global init remain zombies on exit since they are not reaped by their parent (swapper).
    if clone_flags & CLONE_PARENT and current.signal.flags & SIGNAL_UNKILLABLE:
        return -EINVAL
    # If the new process will be in a different pid or user namespace do not allow it to share a thread group.
    if clone_flags & CLONE_THREAD and (
            clone_flags & (CLONE_NEWUSER | CLONE_NEWPID)
            or pid_.task_active_pid_ns(current) is not current.nsproxy.pid_ns_for_children):
        return -EINVAL
    # CLONE_DETACHED is blocked so that it can be reused; there are no pidfds of threads (until v6.9).
    if clone3 and clone_flags & CLONE_PIDFD and clone_flags & (CLONE_DETACHED | (
            CLONE_THREAD if m.flavour.version < (6, 9) else 0)):
        return -EINVAL

    # Force any signals received before this point to be delivered before the fork happens.  Collect up signals sent
    # to multiple processes during the fork and delay them so that they appear to happen after the fork.
    assert current.sighand is not None
    siglock = current.sighand.siglock
    delayed = signal_send.MultiprocessSignals()
    spin_lock_irq(siglock)
    if not clone_flags & CLONE_THREAD:
        list_add(delayed.node, current.signal.multiprocess)
    signal_send.recalc_sigpending()
    spin_unlock_irq(siglock)
    if signal_pending(current):
        return fork_out(delayed, -ERESTARTNOINTR)

    p = fork.dup_task_struct(current)
    if p is None:
        return fork_out(delayed, -ENOMEM)
    m.cost(costs.FORK_THREAD if clone_flags & CLONE_VM else costs.FORK)
    p.set_child_tid = child_tidptr if clone_flags & CLONE_CHILD_SETTID else None
    p.clear_child_tid = child_tidptr if clone_flags & CLONE_CHILD_CLEARTID else None
    p.pi_lock = Spinlock("pi_lock")
    if (current.cred.user.processes >= signal_send.task_rlimit(p, RLIMIT_NPROC) and current.cred.user is not m.root_user
            and not cred.capable(cred.CAP_SYS_RESOURCE) and not cred.capable(cred.CAP_SYS_ADMIN)):
        return bad_fork_free(p, delayed, -EAGAIN)
    current.flags &= ~PF_NPROC_EXCEEDED

    retval = cred.copy_creds(p, clone_flags)
    if retval < 0:
        return bad_fork_free(p, delayed, retval)
    # If multiple threads are within copy_process(), then this check triggers too late.  This doesn't hurt.
    if m.nr_threads >= m.max_threads:
        return bad_fork_cleanup(p, clone_flags, 0, None, delayed, -EAGAIN)
    p.flags &= ~(PF_SUPERPRIV | PF_WQ_WORKER | PF_IDLE)
    p.flags |= PF_FORKNOEXEC
    p.children = ListHead()
    p.sibling = ListHead(p)
    p.vfork_done = None
    p.pending = SigPending()
    p.utime = p.stime = 0
    p.in_iowait = False
    p.in_execve = False
    p.jobctl = 0
    p.wake_entry = False
    # Not modelled: delayacct_tsk_init(), task_io_accounting_init(), posix_cpu_timers_init(), cgroup_fork(), mpol_dup(),
    # lockdep.

    # Perform scheduler related setup.  Assign this task to a CPU.
    retval = sched_core.sched_fork(clone_flags, p)
    if not retval and fault_inject.should_fail("sched_fork"):
        retval = -EAGAIN
    if retval:
        return bad_fork_cleanup(p, clone_flags, 0, None, delayed, retval)
    # Not modelled: perf_event_init_task(), audit_alloc(), shm_init_task(), copy_semundo().
    if fault_inject.should_fail("security_task_alloc"):
        return bad_fork_cleanup(p, clone_flags, 0, None, delayed, -ENOMEM)
    retval = copy_files(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 0, None, delayed, retval)
    retval = copy_fs(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 1, None, delayed, retval)
    retval = copy_sighand(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 2, None, delayed, retval)
    retval = copy_signal(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 3, None, delayed, retval)
    retval = fork.copy_mm(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 4, None, delayed, retval)
    retval = nsproxy.copy_namespaces(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 5, None, delayed, retval)
    retval = copy_io(clone_flags, p)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 6, None, delayed, retval)
    retval = m.arch.copy_thread(clone_flags, stack_start, stack_size, p, tls)
    if retval:
        return bad_fork_cleanup(p, clone_flags, 6, None, delayed, retval)

    if pid is not m.init_struct_pid:
        new = pid_.alloc_pid(p.nsproxy.pid_ns_for_children, set_tid)
        if isinstance(new, int):
            return bad_fork_cleanup(p, clone_flags, 7, None, delayed, new)
        pid = new
    assert pid is not None

    fd, pidfile = -1, None
    if clone3 and clone_flags & CLONE_PIDFD:
        fd, pidfile = pidfd_prepare(pid)
        if fd < 0:
            return bad_fork_cleanup(p, clone_flags, 8, pid, delayed, fd)
        if put_user(fd, pidfd):
            pidfd_cancel(fd, pidfile)
            return bad_fork_cleanup(p, clone_flags, 8, pid, delayed, -EFAULT)

    # sigaltstack should be cleared when sharing the same VM.
    if clone_flags & (CLONE_VM | CLONE_VFORK) == CLONE_VM:
        p.sas_ss_sp = (0, 0, 0)
    # Syscall tracing and stepping should be turned off in the child regardless of CLONE_PTRACE.
    bits = m.syscall_work_bits
    clear_task_syscall_work(p, bits.SYSCALL_TRACE | bits.SYSCALL_EMU)

    # ok, now we should be set up..
    p.pid = pid.nr                          # pid_nr()
    if clone_flags & CLONE_THREAD:
        p.exit_signal = -1
        p.group_leader = current.group_leader
        p.tgid = current.tgid
    else:
        # CLONE_PARENT re-uses the exit_signal of the caller's leader.
        p.exit_signal = current.group_leader.exit_signal if clone_flags & CLONE_PARENT else exit_signal
        p.group_leader = p
        p.tgid = p.pid
    p.pdeath_signal = 0
    p.thread_group = ListHead(p)
    p.task_works = None
    p.robust_list = None
    p.futex_state, p.futex_exit_mutex = FUTEX_STATE_OK, None    # futex_init_task()
    p.pi = None                             # rt_mutex_init_task()
    if clone_flags & CLONE_THREAD:
        p.thread_node = ListHead(p)

    # cgroup_can_fork(): the pids controller's limit
    if fault_inject.should_fail("cgroup_can_fork"):
        pidfd_cancel(fd, pidfile)
        return bad_fork_cleanup(p, clone_flags, 8, pid, delayed, -EAGAIN)

    p.start_time = m.now
    p.start_boottime = m.now

    # Make it visible to the rest of the system, but don't wake it up yet.
    write_lock_irq(m.tasklist_lock)
    # CLONE_PARENT re-uses the old parent.
    if clone_flags & (CLONE_PARENT | CLONE_THREAD):
        p.real_parent = current.real_parent
        p.parent_exec_id = current.parent_exec_id
        if clone3 and clone_flags & CLONE_THREAD:
            p.exit_signal = -1
    else:
        p.real_parent = current
        p.parent_exec_id = current.self_exec_id
    spin_lock(siglock)
    # Not modelled: copy_seccomp(), rseq_fork().
    # Don't start children in a dying pid namespace; let kill terminate clone/fork in the middle.
    retval = 0
    if not pid_.ns_of_pid(pid).pid_allocated & PIDNS_ADDING:
        retval = -ENOMEM
    elif signal_send.fatal_signal_pending(current):
        retval = -EINTR
    if retval:
        # bad_fork_cancel_cgroup:
        spin_unlock(siglock)
        write_unlock_irq(m.tasklist_lock)
        pidfd_cancel(fd, pidfile)
        return bad_fork_cleanup(p, clone_flags, 8, pid, delayed, retval)
    # past the last point of failure
    if pidfile is not None:
        fs_file.fd_install(fd, pidfile)

    init_task_pid_links(p)
    if p.pid:
        ptrace_.ptrace_init_task(p, bool(clone_flags & CLONE_PTRACE) or bool(trace))
        p.thread_pid = pid
        if thread_group_leader(p):
            pids = p.signal.pids
            pids[PIDTYPE_TGID] = pid
            pids[PIDTYPE_PGID] = current.signal.pids[PIDTYPE_PGID]
            pids[PIDTYPE_SID] = current.signal.pids[PIDTYPE_SID]
            if pid_.is_child_reaper(pid):
                pid_.ns_of_pid(pid).child_reaper = p
                p.signal.flags |= SIGNAL_UNKILLABLE
            p.signal.shared_pending.signal = delayed.signal
            p.signal.tty = current.signal.tty
            # Inherit has_child_subreaper flag under the same tasklist_lock with adding child to the process tree.
            above = p.real_parent.signal
            p.signal.has_child_subreaper = above.has_child_subreaper or above.is_child_subreaper
            list_add_tail(p.sibling, p.real_parent.children)
            p.tasks = ListHead(p)
            list_add_tail_rcu(p.tasks, m.init_task.tasks)
            pid_.attach_pid(p, PIDTYPE_TGID)
            pid_.attach_pid(p, PIDTYPE_PGID)
            pid_.attach_pid(p, PIDTYPE_SID)
            m.process_counts[m.cpu.id] += 1
        else:
            p.tasks = ListHead(p)
            current.signal.nr_threads += 1
            current.signal.quick_threads += 1
            current.signal.live += 1
            current.signal.sigcnt += 1
            signal_send.task_join_group_stop(p)
            list_add_tail_rcu(p.thread_group, p.group_leader.thread_group)
            list_add_tail_rcu(p.thread_node, p.signal.thread_head)
        pid_.attach_pid(p, PIDTYPE_PID)
        m.nr_threads += 1
    else:
        # An idle task belongs to the group of the one that made it: init has no business in its lists.
        p.tasks = ListHead(p)
    m.total_forks += 1
    list_del_init(delayed.node)
    spin_unlock(siglock)
    write_unlock_irq(m.tasklist_lock)
    # Not modelled: syscall_tracepoint_update(), proc_fork_connector(), cgroup_post_fork(), perf_event_fork(),
    # uprobe_copy_process().
    trace_task_newtask(p, clone_flags if clone3 else clone_flags | exit_signal)
    return p


def bad_fork_cleanup(
    p: Task, clone_flags: int, done: int, pid: Pid | None, delayed: signal_send.MultiprocessSignals, retval: int,
) -> int:
    """Undo copy_process(): the labels bad_fork_free_pid: … bad_fork_cleanup_count: of the C, entered where `done` says.

    :param done: the steps that succeeded: 1 files, 2 fs, 3 sighand, 4 signal, 5 mm, 6 namespaces and io, 7 thread, 8
    pid
    """
    m = machine.cur
    if done >= 8 and pid is not m.init_struct_pid:
        assert pid is not None
        pid_.free_pid(pid)
    if done >= 7:
        m.arch.exit_thread(p)
    if done >= 6:
        nsproxy.exit_task_namespaces(p)
    if done >= 5 and p.mm is not None:
        fork.mmput(p.mm)
    if done >= 4 and not clone_flags & CLONE_THREAD:
        free_signal_struct(p.signal)
    if done >= 3:
        assert p.sighand is not None
        __cleanup_sighand(p.sighand)
    if done >= 2:
        fs_struct.exit_fs(p)
    if done >= 1:
        fs_file.exit_files(p)
    # bad_fork_cleanup_count:
    p.cred.user.processes -= 1
    cred.exit_creds(p)
    return bad_fork_free(p, delayed, retval)


def bad_fork_free(p: Task, delayed: signal_send.MultiprocessSignals, retval: int) -> int:
    """Free the task_struct of a fork that failed."""
    p.state = TASK_DEAD
    stack, p.stack_greenlet = p.stack_greenlet, None
    if stack is not None:
        machine.cur.drop_stack(stack)
    fork.put_task_stack(p)
    p.usage = 0
    fork.free_task(p)
    return fork_out(delayed, retval)


def fork_out(delayed: signal_send.MultiprocessSignals, retval: int) -> int:
    """Stop collecting signals for a child that will not be."""
    sighand = machine.cur.cpu.curr.sighand
    assert sighand is not None
    spin_lock_irq(sighand.siglock)
    list_del_init(delayed.node)
    spin_unlock_irq(sighand.siglock)
    return retval


def init_task_pid_links(task: Task) -> None:
    """Make the nodes with which a task stands on the lists of its pids."""
    if task.exit_signal < 0:
        task.pid_links = {PIDTYPE_PID: ListHead(task)}
    else:
        task.pid_links = {PIDTYPE_PID: ListHead(task), PIDTYPE_TGID: ListHead(task), PIDTYPE_PGID: ListHead(task),
                          PIDTYPE_SID: ListHead(task)}


def fork_idle(cpu: int) -> Task:
    """Make the idle task of another CPU; called by idle_threads_init()."""
    m = machine.cur
    task = copy_process(CLONE_VM, 0, 0, None, m.init_struct_pid, 0, None)
    assert isinstance(task, Task), f"fork_idle({cpu}): {task}"
    # init_idle_pids(): the idle tasks share init_struct_pid
    task.thread_pid = m.init_struct_pid
    task.signal.pids = [m.init_struct_pid] * PIDTYPE_MAX
    task.ptraced = ListHead()
    task.ptrace_entry = ListHead(task)
    task.parent = task.real_parent
    sched_core.init_idle(task, cpu)
    return task


# ---- pidfds (v5.2) --------------------------------------------------------------------------------------

def pidfd_prepare(pid: Pid) -> tuple[int, Any]:
    """Reserve a descriptor and make the file that stands for a process; (errno, None) if that fails."""
    return pidfs.pidfd_prepare(pid)


def pidfd_cancel(fd: int, file: Any) -> None:
    """Take back what `pidfd_prepare` made."""
    if file is not None:
        fs_file.put_unused_fd(fd)
        file_table.fput(file)
