"""Asking for interrupts, disabling them, and their threads: kernel/irq/manage.c, v4.19.

request_irq() gives a line a handler, which runs in hard interrupt context.  request_threaded_irq() gives it a thread
too, ``irq/NUMBER-NAME``: the handler looks at the device and returns IRQ_WAKE_THREAD, the thread does the rest and may
sleep. With IRQF_ONESHOT the line stays masked until the thread is done.  The boot argument ``threadirqs`` makes threads
of all handlers that allow it.

Not modelled: nested threads, NMIs, wakeup interrupts, wake_up_and_wait_for_irq_thread_ready() (v5.18).
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, EIO
from typing import Any, Final

import taskscope.model.kernel.irq.chip as chip
import taskscope.model.kernel.irq.handle as handle
import taskscope.model.kernel.irq.irqdesc as irqdesc
import taskscope.model.kernel.irq.proc as irq_proc
import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.sched.wait as sched_wait
import taskscope.model.kernel.softirq as softirq
from taskscope.model import machine
from taskscope.model.include.linux.interrupt import (
    IRQ_HANDLED,
    IRQ_NONE,
    IRQ_WAKE_THREAD,
    IRQF_NO_THREAD,
    IRQF_ONESHOT,
    IRQF_PERCPU,
    IRQF_SHARED,
    IRQF_TRIGGER_MASK,
    IRQTF_AFFINITY,
    IRQTF_FORCED_THREAD,
    IRQTF_RUNTHREAD,
    IrqAction,
    IrqHandler,
)
from taskscope.model.include.linux.irqdesc import (
    IRQCHIP_ONESHOT_SAFE,
    IRQD_IRQ_DISABLED,
    IRQD_IRQ_INPROGRESS,
    IRQD_IRQ_MASKED,
    IRQS_ONESHOT,
    IRQS_SPURIOUS_DISABLED,
    IrqDesc,
)
from taskscope.model.include.linux.preempt import in_interrupt, local_irq_disable, local_irq_enable
from taskscope.model.include.linux.sched import (
    SCHED_FIFO,
    TASK_INTERRUPTIBLE,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Task,
    set_current_state,
)
from taskscope.model.include.linux.sched_task import get_task_struct, put_task_struct
from taskscope.model.include.linux.spinlock import (
    raw_spin_lock_irq,
    raw_spin_lock_irqsave,
    raw_spin_unlock_irq,
    raw_spin_unlock_irqrestore,
)
from taskscope.model.include.linux.wait import DEFINE_WAIT, wake_up

MAX_USER_RT_PRIO: Final = 100
#: what cpu_relax() in a loop that waits for another CPU takes (ns)
_RELAX: Final = 1_000

# ---- threads -----------------------------------------------------------------------------------------------


def irq_default_primary_handler(irq: int, dev_id: Any) -> int:
    """Be the handler of a line that has a thread only: wake it."""
    del irq, dev_id
    return IRQ_WAKE_THREAD


def irq_forced_secondary_handler(irq: int, dev_id: Any) -> int:
    """Never be called: the action of the second thread that threadirqs makes is woken by the first."""
    del dev_id
    printk_.printk(f"<4>Secondary action handler called for irq {irq}\n")
    return IRQ_NONE


def irq_wait_for_interrupt(action: IrqAction) -> int:
    """Sleep until the handler wants the thread: 0; -1 when it is to end."""
    while True:
        set_current_state(TASK_INTERRUPTIBLE)
        if kthread.kthread_should_stop():
            set_current_state(TASK_RUNNING)
            # may need to run one last time
            if action.thread_flags & IRQTF_RUNTHREAD:
                action.thread_flags &= ~IRQTF_RUNTHREAD
                return 0
            return -1
        if action.thread_flags & IRQTF_RUNTHREAD:
            action.thread_flags &= ~IRQTF_RUNTHREAD
            set_current_state(TASK_RUNNING)
            return 0
        sched_core.schedule()


def irq_finalize_oneshot(desc: IrqDesc, action: IrqAction) -> None:
    """Unmask the line if this was the last thread that it waited for."""
    if not desc.istate & IRQS_ONESHOT or action.handler is irq_forced_secondary_handler:
        return
    while True:
        raw_spin_lock_irq(desc.lock)
        # The thread may be faster done than the handler on another CPU: that would mask the line for ever.
        if not desc.irq_data.state & IRQD_IRQ_INPROGRESS:
            break
        raw_spin_unlock_irq(desc.lock)
        machine.cur.run_for(_RELAX)
    # Now check again, whether the thread should run.  Otherwise we would clear the bit which was just set.
    if not action.thread_flags & IRQTF_RUNTHREAD:
        desc.threads_oneshot &= ~action.thread_mask
        state = desc.irq_data.state
        if not desc.threads_oneshot and not state & IRQD_IRQ_DISABLED and state & IRQD_IRQ_MASKED:
            chip.unmask_threaded_irq(desc)
    raw_spin_unlock_irq(desc.lock)


def irq_thread_check_affinity(desc: IrqDesc, action: IrqAction) -> None:
    """Follow the line to the CPUs that its interrupts may go to."""
    if action.thread_flags & IRQTF_AFFINITY:
        action.thread_flags &= ~IRQTF_AFFINITY
        sched_core.set_cpus_allowed_ptr(machine.cur.cpu.curr, desc.affinity)


def irq_forced_thread_fn(desc: IrqDesc, action: IrqAction) -> int:
    """Call a handler that was written for hard interrupt context, with what it relies on.

    Softirqs are off, and so is preemption; since v5.12 (81e2073c175b) interrupts are too.
    """
    irqs_off = machine.cur.flavour.switches.forced_threads_irqs_off
    softirq.local_bh_disable()
    if irqs_off:
        local_irq_disable()
    assert action.thread_fn is not None, "it has a thread"
    ret = action.thread_fn(action.irq, action.dev_id)
    if ret == IRQ_HANDLED:
        desc.threads_handled += 1
    if irqs_off:
        local_irq_enable()
    irq_finalize_oneshot(desc, action)
    softirq.local_bh_enable()
    return ret


def irq_thread_fn(desc: IrqDesc, action: IrqAction) -> int:
    """Call the thread's function, which may sleep and can be preempted."""
    assert action.thread_fn is not None, "it has a thread"
    ret = action.thread_fn(action.irq, action.dev_id)
    if ret == IRQ_HANDLED:
        desc.threads_handled += 1
    irq_finalize_oneshot(desc, action)
    return ret


def wake_threads_waitq(desc: IrqDesc) -> None:
    """Note that a thread is done, and tell synchronize_irq() if it was the last."""
    desc.threads_active -= 1
    if not desc.threads_active:
        wake_up(desc.wait_for_threads)


def irq_wake_secondary(desc: IrqDesc, action: IrqAction) -> None:
    """Wake the second thread of a handler that threadirqs made a thread."""
    secondary = action.secondary
    assert secondary is not None, f"{action.name}: no secondary action"
    raw_spin_lock_irq(desc.lock)
    handle.__irq_wake_thread(desc, secondary)
    raw_spin_unlock_irq(desc.lock)


def irq_thread(data: Any) -> int:
    """Be the thread of an interrupt."""
    action: IrqAction = data
    desc = irqdesc.irq_to_desc(action.irq)
    assert desc is not None, f"irq {action.irq}"
    # Not modelled: irq_thread_dtor(), for threads that die before their handler is freed.
    irq_thread_check_affinity(desc, action)
    while not irq_wait_for_interrupt(action):
        irq_thread_check_affinity(desc, action)
        if action.thread_flags & IRQTF_FORCED_THREAD:
            action_ret = irq_forced_thread_fn(desc, action)
        else:
            action_ret = irq_thread_fn(desc, action)
        if action_ret == IRQ_WAKE_THREAD:
            irq_wake_secondary(desc, action)
        wake_threads_waitq(desc)
    return 0


def irq_wake_thread(irq: int, dev_id: Any) -> None:
    """Wake the thread of a handler without an interrupt."""
    desc = irqdesc.irq_to_desc(irq)
    if desc is None:
        return
    flags = raw_spin_lock_irqsave(desc.lock)
    action = desc.action
    while action is not None and action.dev_id is not dev_id:
        action = action.next
    if action is not None and action.thread is not None:
        handle.__irq_wake_thread(desc, action)
    raw_spin_unlock_irqrestore(desc.lock, flags)


def irq_setup_forced_threading(new: IrqAction) -> None:
    """Make a thread of a handler, with threadirqs on the command line."""
    if not machine.cur.force_irqthreads or new.flags & (IRQF_NO_THREAD | IRQF_PERCPU | IRQF_ONESHOT):
        return
    # No further action required for interrupts which are requested as threaded interrupts already
    if new.handler is irq_default_primary_handler:
        return
    new.flags |= IRQF_ONESHOT
    # Handle the case where we have a real primary handler and a thread handler.  We force thread them as well by
    # creating a secondary action.
    if new.thread_fn is not None:
        second = new.secondary = IrqAction(irq_forced_secondary_handler, new.thread_fn, 0, new.name, new.dev_id)
        second.irq = new.irq
    # Deal with the primary handler
    new.thread_flags |= IRQTF_FORCED_THREAD
    new.thread_fn = new.handler
    new.handler = irq_default_primary_handler


def setup_irq_thread(new: IrqAction, irq: int, secondary: bool) -> int:
    """Make the thread: SCHED_FIFO, priority 50; 49 for a second one.

    Context: process context; sleeps.
    """
    t = kthread.kthread_create(irq_thread, new, f"irq/{irq}-{'s-' if secondary else ''}{new.name}")
    if isinstance(t, int):
        return t
    sched_syscalls.sched_setscheduler_nocheck(t, SCHED_FIFO, MAX_USER_RT_PRIO // 2 - secondary)
    # We keep the reference to the task struct even if the thread dies.
    get_task_struct(t)
    new.thread = t
    # Tell the thread to set its affinity.
    new.thread_flags |= IRQTF_AFFINITY
    return 0


def _stop_threads(action: IrqAction) -> None:
    for each in (action, action.secondary):
        if each is not None and each.thread is not None:
            t: Task = each.thread
            each.thread = None
            kthread.kthread_stop(t)
            put_task_struct(t)


# ---- requesting --------------------------------------------------------------------------------------------


def __setup_irq(irq: int, desc: IrqDesc, new: IrqAction) -> int:
    """Give the line one more handler; its first starts the line.  0 or a negative errno."""
    new.irq = irq
    irq_setup_forced_threading(new)
    if new.thread_fn is not None:
        ret = setup_irq_thread(new, irq, False)
        if not ret and new.secondary is not None:
            ret = setup_irq_thread(new.secondary, irq, True)
        if ret:
            _stop_threads(new)
            return ret
    controller = desc.irq_data.chip
    assert controller is not None, f"{desc} has no chip"
    # Some irq chips like MSI based interrupts are per se one shot safe.
    if controller.flags & IRQCHIP_ONESHOT_SAFE:
        new.flags &= ~IRQF_ONESHOT
    # Not modelled: desc.request_mutex: a request is over before anybody else can make one.
    flags = raw_spin_lock_irqsave(desc.lock)
    ret = 0
    thread_mask = 0
    last: IrqAction | None = None
    old = desc.action
    if old is not None:
        # Can't share interrupts unless both agree to and are the same type.  Also all must agree on ONESHOT, and on
        # per-cpuness.
        differ = old.flags ^ new.flags
        if not old.flags & new.flags & IRQF_SHARED or differ & (IRQF_TRIGGER_MASK | IRQF_ONESHOT | IRQF_PERCPU):
            printk_.printk(
                f"<3>genirq: Flags mismatch irq {irq}. {new.flags:08x} ({new.name}) vs. {old.flags:08x} ({old.name})\n")
            ret = -EBUSY
        # add new interrupt at end of irq queue
        while old is not None:
            thread_mask |= old.thread_mask
            last, old = old, old.next
    if not ret and new.flags & IRQF_ONESHOT:
        # The new action gets the first zero bit of thread_mask assigned.
        new.thread_mask = ~thread_mask & (thread_mask + 1)
    elif not ret and new.handler is irq_default_primary_handler and not controller.flags & IRQCHIP_ONESHOT_SAFE:
        # With level interrupts this is deadly, because the default primary handler just wakes the thread, then the irq
        # lines is reenabled, but the device still has the level irq asserted.
        printk_.printk(f"<3>genirq: Threaded irq requested with handler=NULL and !ONESHOT for {new.name} (irq {irq})\n")
        ret = -EINVAL
    if ret:
        raw_spin_unlock_irqrestore(desc.lock, flags)
        _stop_threads(new)
        return ret
    if last is None:
        desc.istate &= ~(IRQS_SPURIOUS_DISABLED | IRQS_ONESHOT)
        desc.irq_data.state &= ~IRQD_IRQ_INPROGRESS
        if new.flags & IRQF_ONESHOT:
            desc.istate |= IRQS_ONESHOT
        chip.irq_startup(desc, True)
        desc.action = new
    else:
        last.next = new
    # Reset broken irq detection when installing new handler
    desc.irq_count = 0
    desc.irqs_unhandled = 0
    # Check whether we disabled the irq via the spurious handler before.  Reenable it and give it another chance.
    if last is not None and desc.istate & IRQS_SPURIOUS_DISABLED:
        desc.istate &= ~IRQS_SPURIOUS_DISABLED
        __enable_irq(desc)
    raw_spin_unlock_irqrestore(desc.lock, flags)
    # Strictly no need to wake it up, but hung_task complains when no hard interrupt wakes the thread up.
    if new.thread is not None:
        sched_core.wake_up_process(new.thread)
    if new.secondary is not None and new.secondary.thread is not None:
        sched_core.wake_up_process(new.secondary.thread)
    irq_proc.register_irq_proc(desc)
    return 0


def request_threaded_irq(
    irq: int, handler: IrqHandler | None, thread_fn: IrqHandler | None, irqflags: int, devname: str, dev_id: Any,
) -> int:
    """Give a line a handler, a thread, or both.

    Context: process context; sleeps if there is a thread to make.

    :param handler: called in hard interrupt context; None: only the thread is woken, which needs IRQF_ONESHOT
    :param thread_fn: called in the thread ``irq/NUMBER-NAME``; None: no thread
    :param irqflags: IRQF_*
    :param dev_id: what both get as their second argument, and free_irq() to know the handler by
    :return: 0 or a negative errno
    """
    # Sanity-check: shared interrupts must pass in a real dev-ID, otherwise we'll have trouble later trying to figure
    # out which interrupt is which.
    if irqflags & IRQF_SHARED and dev_id is None:
        return -EINVAL
    desc = irqdesc.irq_to_desc(irq)
    # irq_settings_is_per_cpu_devid()
    if desc is None or desc.handle_irq is None:
        return -EINVAL
    if handler is None:
        if thread_fn is None:
            return -EINVAL
        handler = irq_default_primary_handler
    return __setup_irq(irq, desc, IrqAction(handler, thread_fn, irqflags, devname, dev_id))


def request_irq(irq: int, handler: IrqHandler, flags: int, name: str, dev: Any) -> int:
    """Give a line a handler: 0 or a negative errno."""
    return request_threaded_irq(irq, handler, None, flags, name, dev)


def free_irq(irq: int, dev_id: Any) -> str | None:
    """Take a handler off its line, once it does not run; the line is shut down with the last.  Its name.

    Context: process context; sleeps.
    """
    assert not in_interrupt(), f"Trying to free IRQ {irq} from IRQ context!"
    desc = irqdesc.irq_to_desc(irq)
    if desc is None or desc.handle_irq is None:
        return None
    flags = raw_spin_lock_irqsave(desc.lock)
    before: IrqAction | None = None
    action = desc.action
    while action is not None and action.dev_id is not dev_id:
        before, action = action, action.next
    if action is None:
        raw_spin_unlock_irqrestore(desc.lock, flags)
        printk_.printk(f"<4>Trying to free already-free IRQ {irq}\n")
        return None
    # Found it - now remove it from the list of entries
    if before is None:
        desc.action = action.next
    else:
        before.next = action.next
    # If this was the last handler, shut down the IRQ line
    if desc.action is None:
        chip.irq_shutdown(desc)
    raw_spin_unlock_irqrestore(desc.lock, flags)
    # Make sure it's not being used on another CPU
    synchronize_irq(irq)
    _stop_threads(action)
    return action.name


# ---- disabling ---------------------------------------------------------------------------------------------


def __synchronize_hardirq(desc: IrqDesc) -> None:
    """Wait until no CPU is inside of a handler of the line."""
    while desc.irq_data.state & IRQD_IRQ_INPROGRESS:
        machine.cur.run_for(_RELAX)                         # cpu_relax()


def synchronize_hardirq(irq: int) -> bool:
    """Wait for the handlers of a line, not for threads; tell whether none of those is active."""
    desc = irqdesc.irq_to_desc(irq)
    if desc is None:
        return True
    __synchronize_hardirq(desc)
    return not desc.threads_active


def synchronize_irq(irq: int) -> None:
    """Wait for the handlers of a line and their threads.

    Context: process context; sleeps.
    """
    desc = irqdesc.irq_to_desc(irq)
    if desc is None:
        return
    __synchronize_hardirq(desc)
    # We made sure that no hardirq handler is running.  Now verify that no threaded handlers are active.
    if not desc.threads_active:
        return
    wait = DEFINE_WAIT()                                    # wait_event()
    while True:
        sched_wait.prepare_to_wait(desc.wait_for_threads, wait, TASK_UNINTERRUPTIBLE)
        if not desc.threads_active:
            break
        sched_core.schedule()
    sched_wait.finish_wait(desc.wait_for_threads, wait)


def disable_irq_nosync(irq: int) -> None:
    """Let no handler of the line be called from now on; one may be at work still."""
    desc = irqdesc.irq_to_desc(irq)
    assert desc is not None, f"irq {irq}"
    flags = raw_spin_lock_irqsave(desc.lock)
    if not desc.depth:
        chip.irq_disable(desc)
    desc.depth += 1
    raw_spin_unlock_irqrestore(desc.lock, flags)


def disable_irq(irq: int) -> None:
    """Let no handler of the line be called, and wait for those that are at work.

    Calls nest.  Context: process context; sleeps if the line has threads.
    """
    disable_irq_nosync(irq)
    synchronize_irq(irq)


def __enable_irq(desc: IrqDesc) -> None:
    if not desc.depth:
        printk_.printk(f"<4>Unbalanced enable for IRQ {desc.irq}\n")
        return
    if desc.depth == 1:
        # What has come meanwhile is sent again.
        chip.irq_startup(desc, True)
        return
    desc.depth -= 1


def enable_irq(irq: int) -> None:
    """Undo one disable_irq(); an interrupt that has come meanwhile is handled now."""
    desc = irqdesc.irq_to_desc(irq)
    assert desc is not None, f"irq {irq}"
    flags = raw_spin_lock_irqsave(desc.lock)
    __enable_irq(desc)
    raw_spin_unlock_irqrestore(desc.lock, flags)


def irq_set_affinity(irq: int, mask: int) -> int:
    """Let the line's interrupts go to one of these CPUs (bit mask), its threads too: 0 or a negative errno.

    The Pi's controller cannot: all its lines go to CPU 0.
    """
    m = machine.cur
    desc = irqdesc.irq_to_desc(irq)
    if desc is None or not mask & m.cpu_online_mask:
        return -EINVAL
    controller = desc.irq_data.chip
    if controller is None or controller.irq_set_affinity is None:
        return -EIO
    flags = raw_spin_lock_irqsave(desc.lock)
    ret = controller.irq_set_affinity(desc.irq_data, mask & m.cpu_online_mask)
    if not ret:
        desc.affinity = mask & m.cpu_online_mask
        action = desc.action
        while action is not None:                           # irq_set_thread_affinity()
            action.thread_flags |= IRQTF_AFFINITY
            action = action.next
    raw_spin_unlock_irqrestore(desc.lock, flags)
    return ret
