"""The part of vhost that makes a kernel thread on request: drivers/vhost/vhost.c, v4.19.

Who opens /dev/vhost-net and becomes its owner gets a worker thread ``vhost-PID``, which runs the device's work and is
stopped when the device is closed.  Virtqueues and everything about networks are not modelled.
"""

from __future__ import annotations

from errno import EBUSY
from typing import Any, Final

import taskscope.model.fs.super as super_
import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.sched.core as sched_core
from taskscope.model import machine
from taskscope.model.include.linux.errno import ENOIOCTLCMD
from taskscope.model.include.linux.fs import File, FileOperations, Inode
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, Task, set_current_state

VHOST_SET_OWNER: Final = 0xAF01


class VhostDev:
    """struct vhost_dev: one open device."""

    __slots__ = ("done", "mm", "work_list", "worker")

    def __init__(self) -> None:
        self.mm: Any = None
        self.worker: Task | None = None
        self.work_list: list[Any] = []  # functions to call, with the device
        self.done = 0  # how many were


def vhost_init() -> None:
    """Put the device into /dev (module_init())."""
    super_.kern_device("/dev/vhost-net", 10 << 8 | 238, vhost_net_fops, None, 0o600)


def vhost_work_queue(dev: VhostDev, work: Any) -> None:
    """Give the worker something to do."""
    if dev.worker is not None:
        dev.work_list.append(work)
        sched_core.wake_up_process(dev.worker)


def vhost_worker(data: VhostDev) -> int:
    """Be the worker: run what is queued, sleep, end when asked to."""
    dev = data
    while True:
        # mb paired w/ kthread_stop
        set_current_state(TASK_INTERRUPTIBLE)
        if kthread.kthread_should_stop():
            set_current_state(TASK_RUNNING)
            break
        if not dev.work_list:
            sched_core.schedule()
            continue
        set_current_state(TASK_RUNNING)
        work = dev.work_list.pop(0)
        work(dev)
        dev.done += 1
    return 0


def get_task_mm(task: Task) -> Any:
    """Return a task's address space with one user more (kernel/fork.c); None for a kernel thread."""
    mm = task.mm
    if mm is not None:
        mm.mm_users += 1
    return mm


def vhost_dev_set_owner(dev: VhostDev) -> int:
    """Make the current process the owner, with a worker of its own: 0 or a negative errno.

    Context: process context; the caller holds the device's mutex.
    """
    current = machine.cur.cpu.curr
    # Is there an owner already?
    if dev.mm is not None:
        return -EBUSY
    # No owner, become one
    dev.mm = get_task_mm(current)
    worker = kthread.kthread_create(vhost_worker, dev, f"vhost-{current.pid}")
    if isinstance(worker, int):
        fork.mmput(dev.mm)
        dev.mm = None
        return worker
    dev.worker = worker
    sched_core.wake_up_process(worker)  # avoid contributing to loadavg
    # Not modelled: vhost_attach_cgroups(), vhost_dev_alloc_iovecs().
    return 0


def vhost_dev_cleanup(dev: VhostDev) -> None:
    """Stop the worker and let go of the owner."""
    if dev.worker is not None:
        kthread.kthread_stop(dev.worker)
        dev.worker = None
    if dev.mm is not None:
        fork.mmput(dev.mm)
        dev.mm = None


def vhost_net_open(inode: Inode, f: File) -> int:
    """Open the device."""
    del inode
    f.private_data = VhostDev()
    return 0


def vhost_net_release(inode: Inode, f: File) -> int:
    """Close the device."""
    del inode
    vhost_dev_cleanup(f.private_data)
    return 0


def vhost_net_ioctl(f: File, cmd: int, arg: Any) -> int:
    """VHOST_SET_OWNER."""
    del arg
    return vhost_dev_set_owner(f.private_data) if cmd == VHOST_SET_OWNER else -ENOIOCTLCMD


vhost_net_fops: Final = FileOperations(open=vhost_net_open, release=vhost_net_release, unlocked_ioctl=vhost_net_ioctl)
