"""Kernel threads on request: kernel/kthread.c, v4.19.

kthread_create() puts a request on kthread_create_list and wakes kthreadd (pid 2), which makes the thread: so it
descends from a clean parent, whoever asked.  The result comes back by a completion.  The thread starts in kthread(),
which waits to be woken before it runs its function; kthread_stop(), kthread_park() and kthread_bind() steer it.
"""

from __future__ import annotations

from errno import EBUSY, EINTR, ENOMEM, ENOSYS
from typing import Any, Final, NoReturn

import taskscope.model.fs.exec as exec_
import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.sched.completion as completion_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.signal.deliver as signal_deliver
import taskscope.model.kernel.time.timer as timer_
import taskscope.model.lib.fault_inject as fault_inject
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.kthread import KthreadDelayedWork, KthreadWork, KthreadWorker
from taskscope.model.include.linux.list import (
    ListHead,
    list_add,
    list_add_tail,
    list_del_init,
    list_empty,
    list_first_entry,
)
from taskscope.model.include.linux.sched import (
    PF_NO_SETAFFINITY,
    PF_NOFREEZE,
    TASK_INTERRUPTIBLE,
    TASK_PARKED,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Task,
    set_current_state,
)
from taskscope.model.include.linux.sched_task import get_task_struct, put_task_struct
from taskscope.model.include.linux.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_irq,
    spin_lock_irqsave,
    spin_unlock,
    spin_unlock_irq,
    spin_unlock_irqrestore,
)
from taskscope.model.include.linux.timer import TimerList
from taskscope.model.include.trace.events.sched import (
    trace_sched_kthread_stop,
    trace_sched_kthread_stop_ret,
    trace_sched_kthread_work_execute_end,
    trace_sched_kthread_work_execute_start,
    trace_sched_kthread_work_queue_work,
)
from taskscope.model.include.uapi.linux.sched import CLONE_FILES, CLONE_FS

SIGCHLD: Final = 17

KTHREAD_IS_PER_CPU: Final = 1 << 0
KTHREAD_SHOULD_STOP: Final = 1 << 1
KTHREAD_SHOULD_PARK: Final = 1 << 2


class KthreadCreateInfo:
    """struct kthread_create_info: a request to kthreadd."""

    __slots__ = ("data", "done", "full_name", "list", "node", "result", "threadfn")

    def __init__(self, threadfn: Any, data: Any, node: int) -> None:
        # Information passed to kthread() from kthreadd.
        self.threadfn = threadfn
        self.data = data
        self.node = node
        # Result passed back to kthread_create() from kthreadd.
        self.result: Task | int = 0
        self.done: Completion | None = None
        self.list = ListHead(self)
        self.full_name = ""


class Kthread:
    """struct kthread: what steers one thread; found through the task."""

    __slots__ = ("cpu", "data", "exited", "flags", "full_name", "parked", "threadfn")

    def __init__(self, threadfn: Any, data: Any) -> None:
        self.flags = 0
        self.cpu = 0
        self.threadfn = threadfn
        self.data = data
        self.parked = Completion()
        self.exited = Completion()
        self.full_name = ""                 # untruncated (v5.17)


def take_done(create: KthreadCreateInfo) -> Completion | None:
    """Take the completion of a request, once: whoever gets None was overtaken (xchg())."""
    done, create.done = create.done, None
    return done


def kthread_init() -> None:
    """Make the list of requests; called by start_kernel()."""
    m = machine.cur
    m.kthread_create_lock = Spinlock("kthread_create_lock")
    m.kthread_create_list = ListHead()


def to_kthread(k: Task) -> Kthread:
    """Return what steers a kernel thread."""
    self: Kthread = k.kthread
    return self


def kthread_should_stop() -> bool:
    """Tell the running kernel thread whether kthread_stop() was called on it."""
    return bool(to_kthread(machine.cur.cpu.curr).flags & KTHREAD_SHOULD_STOP)


def kthread_should_park() -> bool:
    """Tell the running kernel thread whether kthread_park() was called on it."""
    return bool(to_kthread(machine.cur.cpu.curr).flags & KTHREAD_SHOULD_PARK)


def kthread_data(task: Task) -> Any:
    """Return the argument that the thread was created with."""
    return to_kthread(task).data


def __kthread_parkme(self: Kthread) -> None:
    current = machine.cur.cpu.curr
    while True:
        # TASK_PARKED is a special state; we must serialize against possible pending wakeups to avoid store-store
        # collisions.
        set_current_state(TASK_PARKED)
        if not self.flags & KTHREAD_SHOULD_PARK:
            break
        completion_.complete(self.parked)
        sched_core.schedule()
    current.state = TASK_RUNNING


def kthread_parkme() -> None:
    """Sleep until kthread_unpark()."""
    __kthread_parkme(to_kthread(machine.cur.cpu.curr))


def kthread(_create: KthreadCreateInfo) -> NoReturn:
    """Be a new kernel thread: report to whoever asked, wait to be woken, run the function, end."""
    m = machine.cur
    current = m.cpu.curr
    # Copy data: it's on kthread's stack
    create = _create
    threadfn = create.threadfn
    data = create.data
    self = Kthread(threadfn, data)
    current.kthread = self
    # If user was SIGKILLed, I release the structure.
    done = take_done(create)
    if done is None:
        exit_.do_exit(-EINTR & 0xFFFF_FFFF)
    if fault_inject.should_fail("kthread"):
        create.result = -ENOMEM
        completion_.complete(done)
        exit_.do_exit(-ENOMEM & 0xFFFF_FFFF)
    # vfork_done tells kthread_stop() that the thread is gone
    current.vfork_done = self.exited
    # OK, tell user we're spawned, wait for stop or wakeup
    set_current_state(TASK_UNINTERRUPTIBLE)
    create.result = current
    completion_.complete(done)
    sched_core.schedule()
    ret = -EINTR
    if not self.flags & KTHREAD_SHOULD_STOP:
        # Not modelled: cgroup_kthread_ready().
        if self.flags & KTHREAD_SHOULD_PARK:
            __kthread_parkme(self)
        ret = threadfn(data)
    exit_.do_exit(ret & 0xFFFF_FFFF)


def create_kthread(create: KthreadCreateInfo) -> None:
    """Let kthreadd make one thread."""
    # We want our own signal handler (we take no signals by default).
    pid = fork.kernel_thread(kthread, create, CLONE_FS | CLONE_FILES | SIGCHLD)
    if pid < 0:
        # If user was SIGKILLed, I release the structure.
        done = take_done(create)
        if done is None:
            return
        create.result = pid
        completion_.complete(done)


def __kthread_create_on_node(threadfn: Any, data: Any, node: int, name: str) -> Task | int:
    m = machine.cur
    create = KthreadCreateInfo(threadfn, data, node)
    done = Completion()
    create.done = done
    create.full_name = name
    spin_lock(m.kthread_create_lock)
    list_add_tail(create.list, m.kthread_create_list)
    spin_unlock(m.kthread_create_lock)
    sched_core.wake_up_process(m.kthreadd_task)
    # Wait for completion in killable state, for I might be chosen by the OOM killer while kthreadd is trying to
    # allocate memory for new kernel thread.
    if completion_.wait_for_completion_killable(done):
        # If I was SIGKILLed before kthreadd (or new kernel thread) calls complete(), leave the cleanup of this
        # structure to that thread.
        if take_done(create) is not None:
            return -EINTR
        # kthreadd (or new kernel thread) will call complete() shortly.
        completion_.wait_for_completion(done)
    task = create.result
    if isinstance(task, Task):
        # task is now visible to others; its comm is cut to 15 bytes
        exec_.set_task_comm(task, name)
        to_kthread(task).full_name = name
        # root may have changed our (kthreadd's) priority or CPU mask.  The kernel thread should not inherit these
        # properties.
        sched_syscalls.sched_setscheduler_nocheck(task, 0, 0)
        sched_core.set_cpus_allowed_ptr(task, (1 << m.nr_cpus) - 1)
    return task


def kthread_create_on_node(threadfn: Any, data: Any, node: int, name: str) -> Task | int:
    """Make a kernel thread that will run ``threadfn(data)`` once it is woken; a negative errno if that fails.

    Context: process context; sleeps.

    :param name: what C gives as a format with its arguments
    """
    return __kthread_create_on_node(threadfn, data, node, name)


def kthread_create(threadfn: Any, data: Any, name: str) -> Task | int:
    """Make a kernel thread on the node of the caller (there is one)."""
    return kthread_create_on_node(threadfn, data, -1, name)


def kthread_run(threadfn: Any, data: Any, name: str) -> Task | int:
    """Make a kernel thread and wake it."""
    k = kthread_create(threadfn, data, name)
    if isinstance(k, Task):
        sched_core.wake_up_process(k)
    return k


def __kthread_bind_mask(p: Task, mask: int, state: int) -> None:
    if not sched_core.wait_task_inactive(p, state):
        raise AssertionError(f"{p}: bound while it runs")
    # It's safe because the task is inactive.
    sched_core.do_set_cpus_allowed(p, mask)
    p.flags |= PF_NO_SETAFFINITY


def kthread_bind_mask(p: Task, mask: int) -> None:
    """Bind a thread that was just created to some CPUs."""
    __kthread_bind_mask(p, mask, TASK_UNINTERRUPTIBLE)


def kthread_bind(p: Task, cpu: int) -> None:
    """Bind a thread that was just created to one CPU."""
    __kthread_bind_mask(p, 1 << cpu, TASK_UNINTERRUPTIBLE)


def kthread_create_on_cpu(threadfn: Any, data: Any, cpu: int, name: str) -> Task | int:
    """Make a kernel thread that belongs to one CPU; `name` may hold ``%u`` for its number."""
    p = kthread_create_on_node(threadfn, data, -1, name.replace("%u", str(cpu)))
    if isinstance(p, int):
        return p
    kthread_bind(p, cpu)
    # CPU hotplug need to bind once again when unparking the thread.
    self = to_kthread(p)
    self.flags |= KTHREAD_IS_PER_CPU
    self.cpu = cpu
    return p


def kthread_unpark(k: Task) -> None:
    """Let a parked thread go on."""
    self = to_kthread(k)
    # Newly created kthread was parked when the CPU was offline.  The binding was lost and we need to set it again.
    if self.flags & KTHREAD_IS_PER_CPU and k.state == TASK_PARKED:
        __kthread_bind_mask(k, 1 << self.cpu, TASK_PARKED)
    self.flags &= ~KTHREAD_SHOULD_PARK
    # __kthread_parkme() will either see !SHOULD_PARK or get the wakeup.
    sched_core.wake_up_state(k, TASK_PARKED)


def kthread_park(k: Task) -> int:
    """Let a thread sleep in kthread_parkme() and wait until it does.

    0, -ENOSYS if it is dying, -EBUSY if asked already.
    """
    self = to_kthread(k)
    if k.flags & 0x4:                       # PF_EXITING
        return -ENOSYS
    if self.flags & KTHREAD_SHOULD_PARK:
        return -EBUSY
    self.flags |= KTHREAD_SHOULD_PARK
    if k is not machine.cur.cpu.curr:
        sched_core.wake_up_process(k)
        # Wait for __kthread_parkme() to complete(), this means we _will_ have TASK_PARKED and are about to call
        # schedule().
        completion_.wait_for_completion(self.parked)
        # Now wait for that schedule() to complete and the task to get scheduled out.
        sched_core.wait_task_inactive(k, TASK_PARKED)
    return 0


def kthread_stop(k: Task) -> int:
    """Ask a thread to end and wait for it; what its function returned."""
    trace_sched_kthread_stop(k)
    get_task_struct(k)
    self = to_kthread(k)
    self.flags |= KTHREAD_SHOULD_STOP
    kthread_unpark(k)
    sched_core.wake_up_process(k)
    completion_.wait_for_completion(self.exited)
    ret = k.exit_code
    if ret & 0x8000_0000:
        ret -= 1 << 32
    put_task_struct(k)
    trace_sched_kthread_stop_ret(ret)
    return ret


# ---- kthread_worker ------------------------------------------------------------------------------------------


def kthread_worker_fn(worker_ptr: KthreadWorker) -> int:
    """Be a kthread_worker: do its works one after the other, sleep when there is none, until kthread_stop()."""
    worker = worker_ptr
    current = machine.cur.cpu.curr
    assert worker.task is None or worker.task is current, "a kthread_worker is one thread"
    worker.task = current
    # Not modelled: the freezer (KTW_FREEZABLE).
    while True:                                             # repeat:
        set_current_state(TASK_INTERRUPTIBLE)
        if kthread_should_stop():
            current.state = TASK_RUNNING
            spin_lock_irq(worker.lock)
            worker.task = None
            spin_unlock_irq(worker.lock)
            return 0
        work: KthreadWork | None = None
        spin_lock_irq(worker.lock)
        if not list_empty(worker.work_list):
            work = list_first_entry(worker.work_list)
            list_del_init(work.node)
        worker.current_work = work
        spin_unlock_irq(worker.lock)
        if work is not None:
            current.state = TASK_RUNNING
            func = work.func
            trace_sched_kthread_work_execute_start(work)
            func(work)
            # Avoid dereferencing work after this point.  The trace event only cares about the address.
            trace_sched_kthread_work_execute_end(work, func)
        else:
            sched_core.schedule()
        sched_core._cond_resched()


def __kthread_create_worker(cpu: int, name: str) -> KthreadWorker | int:
    worker = KthreadWorker()
    task = kthread_create_on_node(kthread_worker_fn, worker, -1, name)
    if isinstance(task, int):
        return task
    if cpu >= 0:
        kthread_bind(task, cpu)
    worker.task = task
    sched_core.wake_up_process(task)
    return worker


def kthread_create_worker(name: str) -> KthreadWorker | int:
    """Make a kthread_worker; a negative errno if that fails.

    Context: process context; sleeps.
    """
    return __kthread_create_worker(-1, name)


def kthread_create_worker_on_cpu(cpu: int, name: str) -> KthreadWorker | int:
    """Make a kthread_worker that runs on one CPU.

    Context: process context; sleeps.
    """
    return __kthread_create_worker(cpu, name)


def queuing_blocked(worker: KthreadWorker, work: KthreadWork) -> bool:
    """Tell whether a work cannot be queued: it is, or somebody cancels it.

    Context: worker.lock held.
    """
    assert worker.lock.held, "worker.lock"
    return not list_empty(work.node) or work.canceling > 0


def kthread_insert_work(worker: KthreadWorker, work: KthreadWork, pos: ListHead) -> None:
    """Put a work before a node of the worker's list.

    Context: worker.lock held.
    """
    assert worker.lock.held, "worker.lock"
    assert work.worker in (None, worker), "a work is used with one worker"
    trace_sched_kthread_work_queue_work(worker, work)
    list_add_tail(work.node, pos)
    work.worker = worker
    if worker.current_work is None and worker.task is not None:
        sched_core.wake_up_process(worker.task)


def kthread_queue_work(worker: KthreadWorker, work: KthreadWork) -> bool:
    """Give a work to a kthread_worker; False if it waits already.

    Context: any.
    """
    ret = False
    flags = spin_lock_irqsave(worker.lock)
    if not queuing_blocked(worker, work):
        kthread_insert_work(worker, work, worker.work_list)
        ret = True
    spin_unlock_irqrestore(worker.lock, flags)
    return ret


def kthread_delayed_work_timer_fn(t: TimerList) -> None:
    """Queue a delayed work whose time has come.

    Context: softirq.
    """
    dwork: KthreadDelayedWork = t.owner
    work = dwork.work
    worker = work.worker
    assert worker is not None, "this might happen when a pending work is reinitialized"
    flags = spin_lock_irqsave(worker.lock)
    # Move the work from worker->delayed_work_list.
    list_del_init(work.node)
    if not work.canceling:
        kthread_insert_work(worker, work, worker.work_list)
    spin_unlock_irqrestore(worker.lock, flags)


def __kthread_queue_delayed_work(worker: KthreadWorker, dwork: KthreadDelayedWork, delay: int) -> None:
    timer = dwork.timer
    work = dwork.work
    # The earliest a timer can expire is the next tick; users depend on that there is no such delay for 0.
    if not delay:
        kthread_insert_work(worker, work, worker.work_list)
        return
    assert work.worker in (None, worker), "a work is used with one worker"
    list_add(work.node, worker.delayed_work_list)
    work.worker = worker
    timer.expires = machine.cur.jiffies + delay
    timer_.add_timer(timer)


def kthread_queue_delayed_work(worker: KthreadWorker, dwork: KthreadDelayedWork, delay: int) -> bool:
    """Give a work to a kthread_worker in `delay` jiffies; False if it is pending already.

    Context: any.
    """
    ret = False
    flags = spin_lock_irqsave(worker.lock)
    if not queuing_blocked(worker, dwork.work):
        __kthread_queue_delayed_work(worker, dwork, delay)
        ret = True
    spin_unlock_irqrestore(worker.lock, flags)
    return ret


class KthreadFlushWork:
    """struct kthread_flush_work: a work that tells that it is reached."""

    __slots__ = ("done", "work")

    def __init__(self) -> None:
        self.work = KthreadWork(kthread_flush_work_fn, self, on_stack=True)
        self.done = Completion()


def kthread_flush_work_fn(work: KthreadWork) -> None:
    """Tell that all works before this one have ended."""
    fwork: KthreadFlushWork = work.owner
    completion_.complete(fwork.done)


def kthread_flush_work(work: KthreadWork) -> None:
    """Wait until a work has ended that is queued or being done.

    Context: process context; sleeps.
    """
    worker = work.worker
    if worker is None:
        return
    fwork = KthreadFlushWork()
    noop = False
    spin_lock_irq(worker.lock)
    if not list_empty(work.node):
        kthread_insert_work(worker, fwork.work, work.node.next)
    elif worker.current_work is work:
        kthread_insert_work(worker, fwork.work, worker.work_list.next)
    else:
        noop = True
    spin_unlock_irq(worker.lock)
    if not noop:
        completion_.wait_for_completion(fwork.done)


def __kthread_cancel_work(work: KthreadWork, is_dwork: bool) -> bool:
    """Take a work off its list; whether it was there.

    Context: worker.lock held.  del_timer_sync() needs no release of it here: the timer's function is one step.
    """
    if is_dwork:
        dwork: KthreadDelayedWork = work.owner
        timer_.del_timer_sync(dwork.timer)
    if not list_empty(work.node):
        list_del_init(work.node)
        return True
    return False


def kthread_mod_delayed_work(worker: KthreadWorker, dwork: KthreadDelayedWork, delay: int) -> bool:
    """Let a work be queued in `delay` jiffies, whether it is pending (True) or not (False).

    Context: any.
    """
    work = dwork.work
    ret = False
    flags = spin_lock_irqsave(worker.lock)
    # Do not bother with canceling when never queued; do not fight with another command that is canceling this work.
    if not work.canceling:
        if work.worker is not None:
            ret = __kthread_cancel_work(work, True)
        __kthread_queue_delayed_work(worker, dwork, delay)
    spin_unlock_irqrestore(worker.lock, flags)
    return ret


def __kthread_cancel_work_sync(work: KthreadWork, is_dwork: bool) -> bool:
    worker = work.worker
    if worker is None:
        return False
    flags = spin_lock_irqsave(worker.lock)
    ret = __kthread_cancel_work(work, is_dwork)
    if worker.current_work is work:
        # The work is in progress and we need to wait with the lock released.  In the meantime, block any queuing.
        work.canceling += 1
        spin_unlock_irqrestore(worker.lock, flags)
        kthread_flush_work(work)
        flags = spin_lock_irqsave(worker.lock)
        work.canceling -= 1
    spin_unlock_irqrestore(worker.lock, flags)
    return ret


def kthread_cancel_work_sync(work: KthreadWork) -> bool:
    """Take a work back and wait for its end if it is being done; whether it was pending.

    Context: process context; sleeps.
    """
    return __kthread_cancel_work_sync(work, False)


def kthread_cancel_delayed_work_sync(dwork: KthreadDelayedWork) -> bool:
    """Take a delayed work back and wait for its end if it is being done; whether it was pending.

    Context: process context; sleeps.
    """
    return __kthread_cancel_work_sync(dwork.work, True)


def kthread_flush_worker(worker: KthreadWorker) -> None:
    """Wait until all works have ended that are queued now.

    Context: process context; sleeps.
    """
    fwork = KthreadFlushWork()
    kthread_queue_work(worker, fwork.work)
    completion_.wait_for_completion(fwork.done)


def kthread_destroy_worker(worker: KthreadWorker) -> None:
    """Finish a kthread_worker's works and end its thread.

    Context: process context; sleeps.
    """
    task = worker.task
    assert task is not None, "the worker runs"
    kthread_flush_worker(worker)
    kthread_stop(task)
    assert list_empty(worker.work_list), "nobody queued works meanwhile"
    assert list_empty(worker.delayed_work_list), "no delayed work is left"


# ---- kthreadd ------------------------------------------------------------------------------------------------


def kthreadd(unused: Any) -> int:
    """Make kernel threads for whoever asks: the life of pid 2."""
    del unused
    m = machine.cur
    tsk = m.cpu.curr
    # Setup a clean context for our children to inherit.
    exec_.set_task_comm(tsk, "kthreadd")
    signal_deliver.ignore_signals(tsk)
    sched_core.set_cpus_allowed_ptr(tsk, (1 << m.nr_cpus) - 1)
    tsk.flags |= PF_NOFREEZE
    # Not modelled: set_mems_allowed(), cgroup_init_kthreadd().
    while True:
        set_current_state(TASK_INTERRUPTIBLE)
        if list_empty(m.kthread_create_list):
            sched_core.schedule()
        tsk.state = TASK_RUNNING
        spin_lock(m.kthread_create_lock)
        while not list_empty(m.kthread_create_list):
            create: KthreadCreateInfo = list_first_entry(m.kthread_create_list)
            list_del_init(create.list)
            spin_unlock(m.kthread_create_lock)
            create_kthread(create)
            spin_lock(m.kthread_create_lock)
        spin_unlock(m.kthread_create_lock)
