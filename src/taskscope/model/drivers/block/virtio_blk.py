"""The disk of a virtual machine: drivers/block/virtio_blk.c, drivers/virtio/virtio_ring.c, v6.1.

The device takes requests from a queue and sends a message (MSI-X) when one is done; the handler ends all that are.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.arch.x86.kernel.apic.io_apic as io_apic
import taskscope.model.block.blk_mq as blk_mq
import taskscope.model.fs.block_dev as block_dev
import taskscope.model.kernel.irq.manage as irq_manage
from taskscope.model import machine
from taskscope.model.include.linux.blkdev import (
    BLK_STS_OK,
    REQ_OP_READ,
    REQ_OP_WRITE,
    BlkMqOps,
    BlockDevice,
    Request,
)
from taskscope.model.include.linux.interrupt import IRQ_HANDLED, IRQ_NONE
from taskscope.model.include.linux.spinlock import Spinlock, spin_lock_irqsave, spin_unlock_irqrestore
from taskscope.model.storage import DISK_SIZE, Disk, VirtioDisk

VIRTIO_BLK_MAJOR: Final = 254
#: of its first queue; the one before is the message of a changed configuration
REQ_IRQ: Final = 25
REQ_ENTRY: Final = 1


class VirtioBlk:
    """struct virtio_blk, with its one virtqueue."""

    __slots__ = ("hw", "irq", "lock")

    def __init__(self, hw: VirtioDisk, irq: int) -> None:
        self.hw = hw
        self.irq = irq
        self.lock = Spinlock("virtio_blk_vq.lock")


def virtio_queue_rq(req: Request) -> int:
    """Put a request into the queue, and notify the device."""
    vblk: VirtioBlk = req.q.queuedata
    bio = req.bio
    flags = spin_lock_irqsave(vblk.lock)
    # virtblk_add_req(), virtqueue_notify().  Not modelled: a queue that is full.
    vblk.hw.notify(req, bio.bi_sector, bio.bi_size, bio.data if bio.bi_op == REQ_OP_WRITE else None)
    spin_unlock_irqrestore(vblk.lock, flags)
    return BLK_STS_OK


def vring_interrupt(irq: int, dev_id: VirtioBlk) -> int:
    """Take the device's message.

    Context: hard interrupt.
    """
    del irq
    if not dev_id.hw.used:                                  # more_used()
        return IRQ_NONE
    virtblk_done(dev_id)
    return IRQ_HANDLED


def virtblk_done(vblk: VirtioBlk) -> None:
    """Hand all requests that are done back to the block layer.

    Context: hard interrupt.
    """
    flags = spin_lock_irqsave(vblk.lock)
    while vblk.hw.used:
        req, data = vblk.hw.used.pop(0)                     # virtqueue_get_buf()
        if req.bio.bi_op == REQ_OP_READ:
            req.bio.data = data
        blk_mq.blk_mq_complete_request(req)
    spin_unlock_irqrestore(vblk.lock, flags)


def virtblk_request_done(req: Request) -> None:
    """End a request.

    Context: softirq, mostly.
    """
    blk_mq.blk_mq_end_request(req, req.status)


def virtio_blk_probe() -> int:
    """Set the disk up, /dev/vda: 0 or a negative errno."""
    m = machine.cur
    desc = io_apic.msi_domain_alloc_irq(REQ_IRQ, REQ_ENTRY)
    line = desc.irq_data.line
    assert line is not None, "a device's interrupt has a line"
    vblk = m.vda = VirtioBlk(VirtioDisk(m, Disk(DISK_SIZE), line), desc.irq)
    ret = irq_manage.request_irq(desc.irq, vring_interrupt, 0, "virtio0-req.0", vblk)
    if ret:
        return ret
    queue = blk_mq.blk_mq_init_queue(virtio_mq_ops, vblk)
    block_dev.bd_add("/dev/vda", BlockDevice(VIRTIO_BLK_MAJOR << 8, queue, vblk.hw.disk.size))
    return 0


virtio_mq_ops: Final = BlkMqOps(virtio_queue_rq, virtblk_request_done)
