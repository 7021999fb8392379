"""/dev/hostctl: what is outside of the machine asks init to start programs, and hears what became of them.

No kernel has this device: it stands for the person at the keyboard, the desktop and the network.  The outside puts a
request into `HostControl.requests` and raises the interrupt; init waits in an ioctl for the next.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import taskscope.model.arch.x86.kernel.apic.io_apic as io_apic
import taskscope.model.drivers.irqchip.irq_bcm2835 as irq_bcm2835
import taskscope.model.fs.super as super_
import taskscope.model.kernel.irq.manage as irq_manage
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as sched_wait
from taskscope.model import machine
from taskscope.model.include.linux.errno import ENOIOCTLCMD, ERESTARTSYS
from taskscope.model.include.linux.fs import File, FileOperations
from taskscope.model.include.linux.interrupt import IRQ_HANDLED, IRQ_NONE
from taskscope.model.include.linux.irqdesc import IrqDesc
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead, wake_up_interruptible

HOSTCTL_STARTED, HOSTCTL_ENDED, HOSTCTL_NEXT = 0, 1, 2


class HostControl:
    """The device's registers."""

    __slots__ = ("ended", "irq", "requests", "started", "wait")

    def __init__(self, irq: IrqDesc) -> None:
        self.irq = irq
        self.wait = WaitQueueHead("hostctl.wait")
        self.requests: deque[Any] = deque()
        self.started: dict[int, int] = {}  # request number -> pid
        self.ended: dict[int, int] = {}  # pid -> wait status, of what init has reaped


def hostctl_interrupt(irq: int, dev_id: Any) -> int:
    """Wake init: there is a request.

    Context: hard interrupt.
    """
    del irq
    control: HostControl = dev_id
    if not control.requests:
        return IRQ_NONE
    wake_up_interruptible(control.wait)
    return IRQ_HANDLED


def hostctl_ioctl(f: File, cmd: int, arg: Any) -> int:
    """Take the next request, or report a start or an end."""
    del f
    control: HostControl = machine.cur.hostctl
    if cmd == HOSTCTL_STARTED:
        number, pid = arg
        control.started[number] = pid
        return 0
    if cmd == HOSTCTL_ENDED:
        pid, status = arg
        control.ended[pid] = status
        return 0
    if cmd != HOSTCTL_NEXT:
        return -ENOIOCTLCMD
    wait = DEFINE_WAIT()
    error = 0
    while True:
        sched_wait.prepare_to_wait(control.wait, wait, TASK_INTERRUPTIBLE)
        if control.requests:
            break
        if signal_pending(machine.cur.cpu.curr):
            error = -ERESTARTSYS
            break
        sched_core.schedule()
    sched_wait.finish_wait(control.wait, wait)
    return error or put_user(control.requests.popleft(), arg)


def hostctl_init() -> None:
    """Put the device into /dev."""
    m = machine.cur
    desc = irq_bcm2835.irq_create_mapping(107) if m.flavour.arch == "arm" else io_apic.mp_map_pin_to_irq(99)
    m.hostctl = HostControl(desc)
    super_.kern_device("/dev/hostctl", 10 << 8 | 250, hostctl_fops, None, 0o600)


def hostctl_startup() -> int:
    """Ask for the interrupt of the device."""
    control: HostControl = machine.cur.hostctl
    return irq_manage.request_irq(control.irq.irq, hostctl_interrupt, 0, "hostctl", control)


hostctl_fops: Final = FileOperations(unlocked_ioctl=hostctl_ioctl)
