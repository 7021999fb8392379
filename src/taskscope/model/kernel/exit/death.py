"""Process exit: do_exit() to EXIT_ZOMBIE, release_task(): the first half of kernel/exit.c, v4.19.

Entered from sys_exit(), do_group_exit() and fatal signals.  A task that leaves do_exit() never runs again; its
stack is dropped by the next task, in finish_task_switch().  release_task() takes it off all lists; the task_struct goes
when a grace period is over and nobody holds a reference.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

import taskscope.model.drivers.tty.tty_jobctrl as tty_jobctrl
import taskscope.model.fs.coredump as coredump
import taskscope.model.fs.file as fs_file
import taskscope.model.fs.fs_struct as fs_struct
import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.nsproxy as nsproxy
import taskscope.model.kernel.panic as panic_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.pid_namespace as pid_namespace
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.ptrace as ptrace_
import taskscope.model.kernel.rcu.tree as rcu
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.deliver as signal_deliver
import taskscope.model.kernel.signal.kill as signal_kill
import taskscope.model.kernel.signal.notify as signal_notify
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.kernel.signal.sigqueue as sigqueue
import taskscope.model.kernel.task_work as task_work
import taskscope.model.kernel.time.itimer as itimer
import taskscope.model.kernel.time.posix_timers as posix_timers
import taskscope.model.mm.oom_kill as oom_kill
from taskscope.model import costs, machine
from taskscope.model.include.linux.list import (
    ListHead,
    list_add,
    list_del_init,
    list_del_rcu,
    list_for_each_entry,
    list_for_each_entry_safe,
    list_splice_tail_init,
)
from taskscope.model.include.linux.pid import PIDTYPE_PGID, PIDTYPE_PID, PIDTYPE_SID, PIDTYPE_TGID, Pid
from taskscope.model.include.linux.preempt import in_interrupt, preempt_disable
from taskscope.model.include.linux.ptrace import PTRACE_EVENT_EXIT, ptrace_reparented
from taskscope.model.include.linux.sched import (
    EXIT_DEAD,
    EXIT_TRACE,
    EXIT_ZOMBIE,
    PF_EXITING,
    PF_EXITPIDONE,
    TASK_UNINTERRUPTIBLE,
    Task,
    is_global_init,
    same_thread_group,
    set_current_state,
    thread_group_leader,
)
from taskscope.model.include.linux.sched_signal import (
    SEND_SIG_NOINFO,
    SEND_SIG_PRIV,
    SIGNAL_GROUP_EXIT,
    SIGNAL_STOP_STOPPED,
    signal_group_exit,
    thread_group_empty,
)
from taskscope.model.include.linux.sched_task import put_task_struct
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock_irq,
    raw_spin_unlock_irq,
    read_lock,
    read_unlock,
    spin_lock,
    spin_lock_irq,
    spin_unlock,
    spin_unlock_irq,
    write_lock_irq,
    write_unlock_irq,
)
from taskscope.model.include.linux.thread_info import clear_tsk_sigpending
from taskscope.model.include.trace.events.sched import (
    trace_sched_process_exit,
    trace_sched_process_free,
)

SIGHUP: Final = 1
SIGCHLD: Final = 17
SIGCONT: Final = 18


# ---- release --------------------------------------------------------------------------------------------

def __unhash_process(p: Task, group_dead: bool) -> None:
    m = machine.cur
    m.nr_threads -= 1
    pid_.detach_pid(p, PIDTYPE_PID)
    if group_dead:
        pid_.detach_pid(p, PIDTYPE_TGID)
        pid_.detach_pid(p, PIDTYPE_PGID)
        pid_.detach_pid(p, PIDTYPE_SID)
        list_del_rcu(p.tasks)
        list_del_init(p.sibling)
        m.process_counts[m.cpu.id] -= 1
    list_del_rcu(p.thread_group)
    list_del_rcu(p.thread_node)


def __exit_signal(tsk: Task) -> None:
    """Take the task out of its process and add up what it used.

    Context: tasklist_lock held for writing.
    """
    assert machine.cur.tasklist_lock.held, "tasklist_lock"
    sig = tsk.signal
    group_dead = thread_group_leader(tsk)
    sighand = tsk.sighand
    assert sighand is not None, f"{tsk} is released twice"
    spin_lock(sighand.siglock)
    if group_dead:
        sig.tty = None
    else:
        # If there is any task waiting for the group exit then notify it.
        if sig.notify_count > 0:
            sig.notify_count -= 1
            if not sig.notify_count:
                assert sig.group_exit_task is not None
                sched_core.wake_up_process(sig.group_exit_task)
        if tsk is sig.curr_target:
            sig.curr_target = signal_send.next_thread(tsk)
    # Accumulate here the counters for all threads as they die.
    utime, stime = tsk.utime, tsk.stime
    sig.utime += utime
    sig.stime += stime
    sig.min_flt += tsk.min_flt
    sig.maj_flt += tsk.maj_flt
    sig.nvcsw += tsk.nvcsw
    sig.nivcsw += tsk.nivcsw
    sig.sum_sched_runtime += tsk.se.sum_exec_runtime
    sig.nr_threads -= 1
    __unhash_process(tsk, group_dead)
    # Do this under ->siglock, we can race with another thread doing sigqueue_free() if we have SIGQUEUE_PREALLOC
    # signals.
    sigqueue.flush_sigqueue(tsk.pending)
    tsk.sighand = None
    spin_unlock(sighand.siglock)
    fork.__cleanup_sighand(sighand)
    clear_tsk_sigpending(tsk)
    if group_dead:
        sigqueue.flush_sigqueue(sig.shared_pending)


def delayed_put_task_struct(tsk: Task) -> None:
    """Drop the reference of the lists, after a grace period.

    Context: RCU callback.
    """
    trace_sched_process_free(tsk)
    put_task_struct(tsk)


def put_task_struct_rcu_user(task: Task) -> None:
    """Drop one of the two references that keep a task_struct until it neither runs nor stands on lists (v5.4)."""
    task.rcu_users -= 1
    assert task.rcu_users >= 0, f"{task}: rcu_users"
    if task.rcu_users == 0:
        rcu.call_rcu(task, delayed_put_task_struct)


def release_task(p: Task) -> None:
    """Reap a dead task: take it off every list; the last thread takes a leader with it that nobody waits for."""
    m = machine.cur
    while True:
        p.cred.user.processes -= 1
        # Not modelled: proc_flush_task() of cached dentries, cgroup_release().
        write_lock_irq(m.tasklist_lock)
        ptrace_.ptrace_release_task(p)
        __exit_signal(p)
        # If we are the last non-leader member of the thread group, and the leader is zombie, then notify the
        # group leader's parent process. (if it wants notification.)
        zap_leader = False
        leader = p.group_leader
        if leader is not p and thread_group_empty(leader) and leader.exit_state == EXIT_ZOMBIE:
            # If we were the last child thread and the leader has exited already, and the leader's parent ignores
            # SIGCHLD, then we are the one who should release the leader.
            zap_leader = signal_notify.do_notify_parent(leader, leader.exit_signal)
            if zap_leader:
                set_exit_state(leader, EXIT_DEAD)
        write_unlock_irq(m.tasklist_lock)
        if m.flavour.switches.rcu_user_reference:
            put_task_struct_rcu_user(p)
        else:
            rcu.call_rcu(p, delayed_put_task_struct)
        p = leader
        if not zap_leader:
            return


def set_exit_state(tsk: Task, state: int) -> None:
    """Move on to a later exit state: 0, then EXIT_ZOMBIE (or EXIT_DEAD at once), then EXIT_DEAD."""
    allowed = {0: (EXIT_ZOMBIE, EXIT_DEAD), EXIT_ZOMBIE: (EXIT_DEAD, EXIT_TRACE), EXIT_TRACE: (EXIT_ZOMBIE, EXIT_DEAD)}
    assert state in allowed.get(tsk.exit_state, ()), f"{tsk}: exit state {tsk.exit_state:#x} to {state:#x}"
    tsk.exit_state = state


# ---- orphaned process groups ----------------------------------------------------------------------------

def will_become_orphaned_pgrp(pgrp: Pid | None, ignored_task: Task | None) -> bool:
    """Tell whether no member, `ignored_task` aside, has a parent in another group of the session.

    "I ask you, have you ever known what it is to be an orphan?"  Orphaned process groups are not to be affected by
    terminal-generated stop signals; newly orphaned process groups are to receive a SIGHUP and a SIGCONT.
    """
    for p in pid_.do_each_pid_task(pgrp, PIDTYPE_PGID):
        if p is ignored_task or (p.exit_state and thread_group_empty(p)) or is_global_init(p.real_parent):
            continue
        if (pid_.task_pgrp(p.real_parent) is not pgrp
                and pid_.task_session(p.real_parent) is pid_.task_session(p)):
            return False
    return True


def is_current_pgrp_orphaned() -> bool:
    """Tell whether the caller's group is orphaned."""
    lock = machine.cur.tasklist_lock
    read_lock(lock)
    retval = will_become_orphaned_pgrp(pid_.task_pgrp(machine.cur.cpu.curr), None)
    read_unlock(lock)
    return retval


def has_stopped_jobs(pgrp: Pid | None) -> bool:
    """Tell whether a process of the group is stopped."""
    return any(p.signal.flags & SIGNAL_STOP_STOPPED for p in pid_.do_each_pid_task(pgrp, PIDTYPE_PGID))


def kill_orphaned_pgrp(tsk: Task, parent: Task | None) -> None:
    """Wake a group with stopped jobs that has just become orphaned by the end, or the reparenting, of `tsk`.

    Context: tasklist_lock held for writing.
    """
    pgrp = pid_.task_pgrp(tsk)
    ignored_task: Task | None = tsk
    if parent is None:
        # exit: our father is in a different pgrp than we are and we were the only connection outside.
        parent = tsk.real_parent
    else:
        # reparent: our child is in a different pgrp than we are, and it was the only connection outside.
        ignored_task = None
    if (pid_.task_pgrp(parent) is not pgrp and pid_.task_session(parent) is pid_.task_session(tsk)
            and will_become_orphaned_pgrp(pgrp, ignored_task) and has_stopped_jobs(pgrp)):
        signal_kill.__kill_pgrp_info(SIGHUP, SEND_SIG_PRIV, pgrp)
        signal_kill.__kill_pgrp_info(SIGCONT, SEND_SIG_PRIV, pgrp)


# ---- who takes the children -----------------------------------------------------------------------------

def exit_mm() -> None:
    """Turn the caller into a lazy TLB user: it has no address space any more, and borrows one until it is gone."""
    current = machine.cur.cpu.curr
    mm = current.mm
    fork.mm_release(current, mm)
    if mm is None:
        return
    if current.signal.coredump is not None and not machine.cur.flavour.switches.coredump_is_group_exit:
        # Serialize with any possible pending coredump.
        coredump.exit_hook(current)
    fork.mmgrab(mm)
    assert mm is current.active_mm, "active_mm"
    current.mm = None
    mm_update_next_owner(mm)
    fork.mmput(mm)
    if current.thread_info.flags & machine.cur.tif.MEMDIE:
        oom_kill.exit_oom_victim()


def mm_update_next_owner(mm: Any) -> None:
    """Find another task that answers for the address space (CONFIG_MEMCG)."""
    if mm.owner is not machine.cur.cpu.curr or mm.mm_users <= 1:
        return
    mm.owner = None
    for p in list_for_each_entry(machine.cur.init_task.tasks):
        for thread in signal_send.for_each_thread(p):
            if thread.mm is mm:
                mm.owner = thread
                return


def find_alive_thread(p: Task) -> Task | None:
    """Return a thread of the process that is not dying."""
    for t in signal_send.for_each_thread(p):
        if not t.flags & PF_EXITING:
            return t
    return None


def find_child_reaper(father: Task, dead: ListHead) -> Task:
    """Return the reaper of the namespace; if that is dying, another thread of it, or the end of the namespace.

    Context: tasklist_lock held for writing; released and taken again where the namespace ends, which sleeps.
    """
    m = machine.cur
    pid_ns = pid_.task_active_pid_ns(father)
    reaper = pid_ns.child_reaper
    assert reaper is not None, "a namespace that a task lives in has its init"
    if reaper is not father:
        return reaper
    other = find_alive_thread(father)
    if other is not None:
        pid_ns.child_reaper = other
        return other
    write_unlock_irq(m.tasklist_lock)
    if pid_ns is m.init_pid_ns:
        panic_.panic(f"Attempted to kill init! exitcode=0x{father.signal.group_exit_code or father.exit_code:08x}\n")
    # Those whom exit_notify() was to reap: their numbers must not keep us waiting.
    for p in list_for_each_entry_safe(dead):
        list_del_init(p.ptrace_entry)
        release_task(p)
    pid_namespace.zap_pid_ns_processes(pid_ns)
    write_lock_irq(m.tasklist_lock)
    return father


def find_new_reaper(father: Task, child_reaper: Task) -> Task:
    """Return who takes the children: another thread of the process, the nearest subreaper above, or init."""
    thread = find_alive_thread(father)
    if thread is not None:
        return thread
    if father.signal.has_child_subreaper:
        # Find the first ->is_child_subreaper ancestor in our pid_ns.  We can't check reaper != child_reaper to
        # ensure we do not cross the namespaces, the exiting parent could be injected by setns() + fork().
        init_task = machine.cur.init_task
        assert father.thread_pid is not None
        ns_level = father.thread_pid.level
        reaper = father.real_parent
        while reaper is not init_task and reaper.thread_pid is not None and reaper.thread_pid.level == ns_level:
            if reaper.signal.is_child_subreaper:
                thread = find_alive_thread(reaper)
                if thread is not None:
                    return thread
            reaper = reaper.real_parent
    return child_reaper


def reparent_leader(father: Task, p: Task, dead: ListHead) -> None:
    """Let the new parent hear of a child that is dead already; wake its group if it has become orphaned.

    Any that need to be release_task'd are put on the `dead` list.
    """
    if p.exit_state == EXIT_DEAD:
        return
    # We don't want people slaying init.
    p.exit_signal = SIGCHLD
    # If it has exited notify the new parent about this child's death.
    if (not p.ptrace and p.exit_state == EXIT_ZOMBIE and thread_group_empty(p)
            and signal_notify.do_notify_parent(p, p.exit_signal)):
        set_exit_state(p, EXIT_DEAD)
        list_add(p.ptrace_entry, dead)
    kill_orphaned_pgrp(p, father)


def forget_original_parent(father: Task, dead: ListHead) -> None:
    """Give all children to their new parent, and send the signals that they asked for with PR_SET_PDEATHSIG.

    Context: tasklist_lock held for writing.
    """
    if father.ptraced.next is not father.ptraced:
        ptrace_.exit_ptrace(father, dead)
    reaper = find_child_reaper(father, dead)
    if father.children.next is father.children:
        return
    reaper = find_new_reaper(father, reaper)
    for p in list_for_each_entry(father.children):
        for t in signal_send.for_each_thread(p):
            t.real_parent = reaper
            assert (not t.ptrace) == (t.parent is father), f"{t}: parent"
            if not t.ptrace:
                t.parent = t.real_parent
            if t.pdeath_signal:
                signal_kill.group_send_sig_info(t.pdeath_signal, SEND_SIG_NOINFO, t, PIDTYPE_TGID)
        # If this is a threaded reparent there is no need to notify anyone anything has happened.
        if not same_thread_group(reaper, father):
            reparent_leader(father, p, dead)
    list_splice_tail_init(father.children, reaper.children)


def exit_notify(tsk: Task, group_dead: bool) -> None:
    """Send signals to all our closest relatives so that they know to properly mourn us."""
    m = machine.cur
    dead = ListHead()
    write_lock_irq(m.tasklist_lock)
    forget_original_parent(tsk, dead)
    if group_dead:
        kill_orphaned_pgrp(tsk.group_leader, None)
    if tsk.ptrace:
        # A tracer hears of every thread; SIGCHLD unless it is the parent, who asked for the signal.
        sig = tsk.exit_signal
        if not (thread_group_leader(tsk) and thread_group_empty(tsk)) or ptrace_reparented(tsk):
            sig = SIGCHLD
        autoreap = signal_notify.do_notify_parent(tsk, sig)
    elif thread_group_leader(tsk):
        autoreap = thread_group_empty(tsk) and signal_notify.do_notify_parent(tsk, tsk.exit_signal)
    else:
        autoreap = True
    # The parent was woken above and looks only when tasklist_lock is free: it must find the zombie then.
    set_exit_state(tsk, EXIT_DEAD if autoreap else EXIT_ZOMBIE)
    if tsk.exit_state == EXIT_DEAD:
        list_add(tsk.ptrace_entry, dead)
    # mt-exec, de_thread() is waiting for group leader
    if tsk.signal.notify_count < 0:
        assert tsk.signal.group_exit_task is not None
        sched_core.wake_up_process(tsk.signal.group_exit_task)
    write_unlock_irq(m.tasklist_lock)
    for p in list_for_each_entry_safe(dead):
        list_del_init(p.ptrace_entry)
        release_task(p)


# ---- do_exit() ------------------------------------------------------------------------------------------

def synchronize_group_exit(tsk: Task, code: int) -> None:
    """Let the last thread that exits decide how its process ended, if nothing else has.

    Context: the exiting task.  Since v6.1 at the latest.
    """
    assert tsk.sighand is not None
    spin_lock_irq(tsk.sighand.siglock)
    sig = tsk.signal
    sig.quick_threads -= 1
    assert sig.quick_threads >= 0, "quick_threads"
    if sig.quick_threads == 0 and not sig.flags & SIGNAL_GROUP_EXIT:
        sig.flags = SIGNAL_GROUP_EXIT
        sig.group_exit_code = code
        sig.group_stop_count = 0
    spin_unlock_irq(tsk.sighand.siglock)


def do_exit(code: int) -> NoReturn:
    """End the running task; `code` is the wait status.  Never returns.

    Context: process context, no locks held.
    """
    m = machine.cur
    tsk = m.cpu.curr
    if in_interrupt():
        panic_.panic("Aiee, killing interrupt handler!")
    if not tsk.pid:
        panic_.panic("Attempted to kill the idle task!")
    if m.flavour.switches.last_thread_decides and not tsk.flags & PF_EXITING:
        synchronize_group_exit(tsk, code)
    if tsk.signal.coredump is not None and m.flavour.switches.coredump_is_group_exit:
        coredump.exit_hook(tsk)
    if tsk.ptrace:
        ptrace_.ptrace_event(PTRACE_EVENT_EXIT, code)

    # We're taking recursive faults here in do_exit.  Safest is to just leave this task alone and wait for reboot.
    if tsk.flags & PF_EXITING:
        printk_.printk("<1>Fixing recursive fault but reboot is needed!\n")
        # We can do this unlocked here.
        if m.flavour.switches.pf_exitpidone:
            tsk.flags |= PF_EXITPIDONE
        set_current_state(TASK_UNINTERRUPTIBLE)
        sched_core.schedule()
        raise AssertionError("a task that left do_exit() by recursion runs again")

    signal_deliver.exit_signals(tsk)        # sets PF_EXITING
    # Ensure that all new tsk->pi_lock acquisitions must observe PF_EXITING.
    raw_spin_lock_irq(tsk.pi_lock)
    raw_spin_unlock_irq(tsk.pi_lock)
    if m.cpu.preempt_count:
        printk_.printk(f"<6>note: {tsk.comm}[{tsk.pid}] exited with preempt_count {m.cpu.preempt_count}\n")
        m.cpu.preempt_count = 0

    m.cost(costs.EXIT)
    sig = tsk.signal
    sig.live -= 1
    group_dead = sig.live == 0
    if group_dead:
        # If the last thread of global init has exited, panic immediately to get a useable coredump:
        # find_child_reaper().
        itimer.hrtimer_cancel_real_timer(sig)
        posix_timers.exit_itimers(sig)
    # Not modelled: acct_collect(), tty_audit_exit(), audit_free(), taskstats_exit(), perf_event_exit_task().
    tsk.exit_code = code

    if m.flavour.switches.exit_event_first:
        trace_sched_process_exit(tsk, group_dead)
    exit_mm()
    if not m.flavour.switches.exit_event_first:
        trace_sched_process_exit(tsk)
    # Not modelled: acct_process(), exit_sem(), exit_shm().
    fs_file.exit_files(tsk)
    fs_struct.exit_fs(tsk)
    if group_dead:
        tty_jobctrl.disassociate_ctty(1)
    nsproxy.exit_task_namespaces(tsk)
    task_work.exit_task_work(tsk)
    # Not modelled: perf_event_exit_task(), sched_autogroup_exit_task(), cgroup_exit(),
    # flush_ptrace_hw_breakpoint().
    m.arch.exit_thread(tsk)
    exit_notify(tsk, group_dead)
    # Not modelled: proc_exit_connector(), mpol_put_task_policy(), exit_io_context(), exit_rcu().
    if m.flavour.switches.pf_exitpidone:
        # Make sure we are holding no locks, and that futex_lock_pi() no longer waits for us.
        tsk.flags |= PF_EXITPIDONE
    preempt_disable()
    sched_core.do_task_dead()
    raise AssertionError("a dead task runs")


def make_task_dead(signr: int) -> NoReturn:
    """End a task that has made an oops: do_exit(), unless that is where it made it (v5.17, 0e25498f8cd4).

    Before, do_exit() itself has these checks.
    """
    m = machine.cur
    tsk = m.cpu.curr
    if in_interrupt():
        panic_.panic("Aiee, killing interrupt handler!")
    if not tsk.pid:
        panic_.panic("Attempted to kill the idle task!")
    if m.cpu.irqs_off:
        printk_.printk(f"<6>note: {tsk.comm}[{tsk.pid}] exited with irqs disabled\n")
        m.cpu.irqs_off = False
    if m.cpu.preempt_count:
        printk_.printk(f"<6>note: {tsk.comm}[{tsk.pid}] exited with preempt_count {m.cpu.preempt_count}\n")
        m.cpu.preempt_count = 0
    # Every time the system oopses, if the oops happens while a reference to an object was held, the reference leaks.
    # If the oops doesn't also leak memory, repeated oopsing can cause reference counters to wrap around.
    state = panic_.panic_state()
    state.oops_count += 1
    if state.oops_limit and state.oops_count >= state.oops_limit:
        panic_.panic(f"Oopsed too often (kernel.oops_limit is {state.oops_limit})")
    # We're taking recursive faults here in make_task_dead. Safest is to just leave this task alone and wait for reboot.
    if tsk.flags & PF_EXITING:
        printk_.printk("<1>Fixing recursive fault but reboot is needed!\n")
        tsk.exit_state = EXIT_DEAD
        tsk.rcu_users += 1
        preempt_disable()
        sched_core.do_task_dead()
    do_exit(signr)


def complete_and_exit(comp: Any, code: int) -> NoReturn:
    """Complete and end the running kernel thread."""
    import taskscope.model.kernel.sched.completion as completion

    if comp is not None:
        completion.complete(comp)
    do_exit(code)


def sys_exit(error_code: int) -> NoReturn:
    """exit(2) of one thread."""
    do_exit((error_code & 0xFF) << 8)


def do_group_exit(exit_code: int) -> NoReturn:
    """End every thread of the process, the running one here and now.

    Context: also called by get_signal() for a fatal signal.
    """
    m = machine.cur
    current = m.cpu.curr
    sig = current.signal
    assert not exit_code & 0x80, "core dumps don't get here"
    if signal_group_exit(sig):
        exit_code = sig.group_exit_code
    elif m.flavour.switches.zap_always or not thread_group_empty(current):
        sighand = current.sighand
        assert sighand is not None
        spin_lock_irq(sighand.siglock)
        if signal_group_exit(sig):
            # Another thread got here before we took the lock.
            exit_code = sig.group_exit_code
        else:
            sig.group_exit_code = exit_code
            sig.flags = SIGNAL_GROUP_EXIT
            signal_send.zap_other_threads(current)
        spin_unlock_irq(sighand.siglock)
    do_exit(exit_code)


def sys_exit_group(error_code: int) -> NoReturn:
    """exit_group(2): what exit(3) and the return from main() come to."""
    do_group_exit((error_code & 0xFF) << 8)
