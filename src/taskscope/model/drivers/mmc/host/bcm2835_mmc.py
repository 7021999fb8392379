"""The Pi's controller mmc1: drivers/mmc/host/bcm2835-mmc.c, rpi-4.19.y, without DMA (FORCE_PIO).

Its interrupt shows the ways that an interrupt's work can be split.  The handler reads the status register.  The end of
a transfer goes to a tasklet, which may not sleep.  The interrupt of an SDIO card goes to the thread ``irq/86-mmc1``,
which may: it talks to the card.

Here mmc1 has a memory card, /dev/mmcblk1, as well as an SDIO function; on a Pi 3 it is the Wi-Fi chip that is behind
it.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.drivers.irqchip.irq_bcm2835 as irq_bcm2835
import taskscope.model.drivers.mmc.core.block as block
import taskscope.model.kernel.irq.manage as irq_manage
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.softirq as softirq
import taskscope.model.kernel.time.timer as timer
from taskscope.model import machine
from taskscope.model.costs import COPY_KIB
from taskscope.model.drivers.mmc.core.block import ETIMEDOUT, MmcHost, MmcRequest
from taskscope.model.include.linux.interrupt import IRQ_HANDLED, IRQ_NONE, IRQ_WAKE_THREAD, IRQF_SHARED, TaskletStruct
from taskscope.model.include.linux.irqdesc import IrqDesc
from taskscope.model.include.linux.spinlock import (
    Spinlock,
    spin_lock,
    spin_lock_irqsave,
    spin_unlock,
    spin_unlock_irqrestore,
)
from taskscope.model.include.linux.timer import TimerList
from taskscope.model.storage import (
    DISK_SIZE,
    SDHCI_INT_CARD_INT,
    SDHCI_INT_DATA_AVAIL,
    SDHCI_INT_DATA_END,
    SDHCI_INT_RESPONSE,
    SDHCI_INT_SPACE_AVAIL,
    Disk,
    SdController,
)

MMC1_HWIRQ: Final = 94
SDHCI_INT_CMD_MASK: Final = SDHCI_INT_RESPONSE
SDHCI_INT_DATA_MASK: Final = SDHCI_INT_DATA_END | SDHCI_INT_DATA_AVAIL | SDHCI_INT_SPACE_AVAIL
#: reading a register of the controller (ns)
_READL: Final = 200
#: PIO is slower than copying memory
_PIO: Final = 40


class Bcm2835Host:
    """struct bcm2835_host."""

    __slots__ = (
        "cmd", "finish_tasklet", "hw", "irq", "lock", "mmc", "mrq", "sdio_irqs", "thread_isr", "timer",
    )

    def __init__(self, hw: SdController, irq: int) -> None:
        self.hw = hw
        self.irq = irq
        self.mmc = MmcHost(bcm2835_mmc_request, self)
        self.lock = Spinlock("mmc1.lock")
        # lock:
        self.mrq: MmcRequest | None = None          # request being processed
        self.cmd = False                            # its command has not been answered yet
        self.thread_isr = 0                         # what the thread is to look after
        # the tasklet's own
        self.finish_tasklet = TaskletStruct(bcm2835_mmc_tasklet_finish, self)
        self.timer = TimerList(bcm2835_mmc_timeout_timer, self)
        # the thread's own
        self.sdio_irqs = 0                          # how often the card's function was called


# ---- requests ----------------------------------------------------------------------------------------------


def bcm2835_mmc_request(host: Bcm2835Host, mrq: MmcRequest) -> None:
    """Begin a request."""
    flags = spin_lock_irqsave(host.lock)
    assert host.mrq is None, "the controller does one thing at a time"
    host.mrq = mrq
    bcm2835_mmc_send_command(host, mrq)
    spin_unlock_irqrestore(host.lock, flags)


def bcm2835_mmc_send_command(host: Bcm2835Host, mrq: MmcRequest) -> None:
    """Write the command; if there is no answer in 10 s something is broken.  Context: host.lock held."""
    m = machine.cur
    timer.mod_timer(host.timer, m.jiffies + 10 * m.hz)
    host.cmd = True
    host.hw.command(mrq.sector, mrq.count, mrq.write)


def bcm2835_mmc_transfer_pio(host: Bcm2835Host) -> None:
    """Move the bytes, word by word.  Context: host.lock held."""
    mrq = host.mrq
    assert mrq is not None, "a transfer is under way"
    if mrq.write:
        host.hw.write_fifo(mrq.data)
    else:
        mrq.data = host.hw.read_fifo()
    mrq.bytes_xfered = mrq.count
    machine.cur.cost((mrq.count * COPY_KIB >> 10) * _PIO)


def bcm2835_mmc_timeout_timer(t: TimerList) -> None:
    """Give a request up that the controller does not answer.

    Context: softirq (a timer).
    """
    host: Bcm2835Host = t.owner
    flags = spin_lock_irqsave(host.lock)
    if host.mrq is not None:
        printk_.printk("<3>mmc1: Timeout waiting for hardware interrupt.\n")
        host.mrq.error = -ETIMEDOUT
        softirq.tasklet_schedule(host.finish_tasklet)
    spin_unlock_irqrestore(host.lock, flags)


def bcm2835_mmc_tasklet_finish(host: Bcm2835Host) -> None:
    """Be done with a request.

    Context: softirq.
    """
    flags = spin_lock_irqsave(host.lock)
    # If this tasklet gets rescheduled while running, it will be run again afterwards but without any active request.
    mrq = host.mrq
    if mrq is None:
        spin_unlock_irqrestore(host.lock, flags)
        return
    timer.del_timer(host.timer)
    # Not modelled: the controller's reset after an error.
    host.mrq = None
    host.cmd = False
    spin_unlock_irqrestore(host.lock, flags)
    block.mmc_request_done(host.mmc, mrq)


# ---- interrupts --------------------------------------------------------------------------------------------


def bcm2835_mmc_cmd_irq(host: Bcm2835Host, intmask: int) -> None:
    """Take the answer to a command.  Context: host.lock held, hard interrupt."""
    if not host.cmd:
        printk_.printk(
            f"<3>mmc1: Got command interrupt 0x{intmask:08x} even though no command operation was in progress.\n")
        return
    host.cmd = False                                        # bcm2835_mmc_finish_command()


def bcm2835_mmc_data_irq(host: Bcm2835Host, intmask: int) -> None:
    """Move data, and let the tasklet do the rest at the end.  Context: host.lock held, hard interrupt."""
    if host.mrq is None:
        return
    if intmask & (SDHCI_INT_DATA_AVAIL | SDHCI_INT_SPACE_AVAIL):
        bcm2835_mmc_transfer_pio(host)
    if intmask & SDHCI_INT_DATA_END:
        # bcm2835_mmc_finish_data()
        softirq.tasklet_schedule(host.finish_tasklet)


def bcm2835_mmc_enable_sdio_irq_nolock(host: Bcm2835Host, enable: bool) -> None:
    """Let the card interrupt, or not."""
    card = SDHCI_INT_CARD_INT if enable else 0
    host.hw.enable(SDHCI_INT_CMD_MASK | SDHCI_INT_DATA_MASK | card)


def bcm2835_mmc_irq(irq: int, dev_id: Bcm2835Host) -> int:
    """Take the controller's interrupt.

    Context: hard interrupt.
    """
    del irq
    host = dev_id
    m = machine.cur
    result = IRQ_NONE
    max_loops = 16
    spin_lock(host.lock)
    m.cost(_READL)
    intmask = host.hw.int_status & host.hw.signal_enable
    while intmask and max_loops:
        # Clear selected interrupts.
        host.hw.clear(intmask & (SDHCI_INT_CMD_MASK | SDHCI_INT_DATA_MASK))
        if intmask & SDHCI_INT_CMD_MASK:
            bcm2835_mmc_cmd_irq(host, intmask & SDHCI_INT_CMD_MASK)
        if intmask & SDHCI_INT_DATA_MASK:
            bcm2835_mmc_data_irq(host, intmask & SDHCI_INT_DATA_MASK)
        if intmask & SDHCI_INT_CARD_INT:
            bcm2835_mmc_enable_sdio_irq_nolock(host, False)
            host.thread_isr |= SDHCI_INT_CARD_INT
            result = IRQ_WAKE_THREAD
        if result == IRQ_NONE:
            result = IRQ_HANDLED
        m.cost(_READL)
        intmask = host.hw.int_status & host.hw.signal_enable
        max_loops -= 1
    spin_unlock(host.lock)
    return result


def bcm2835_mmc_thread_irq(irq: int, dev_id: Bcm2835Host) -> int:
    """Do the second half of a card's interrupt.

    Context: the interrupt's thread; may sleep.
    """
    del irq
    host = dev_id
    flags = spin_lock_irqsave(host.lock)
    isr = host.thread_isr
    host.thread_isr = 0
    spin_unlock_irqrestore(host.lock, flags)
    if isr & SDHCI_INT_CARD_INT:
        sdio_run_irqs(host)
        flags = spin_lock_irqsave(host.lock)
        bcm2835_mmc_enable_sdio_irq_nolock(host, True)
        spin_unlock_irqrestore(host.lock, flags)
    return IRQ_HANDLED if isr else IRQ_NONE


def sdio_run_irqs(host: Bcm2835Host) -> None:
    """Call the driver of the card's function (drivers/mmc/core/sdio_irq.c): it asks the card, which then lets go.

    Context: process context; may sleep.
    """
    machine.cur.run_for(30_000)                             # two commands, CMD52
    host.sdio_irqs += 1
    host.hw.card_served()


# ---- setting up --------------------------------------------------------------------------------------------


def bcm2835_mmc_probe() -> int:
    """Set the controller up (module_platform_driver()): 0 or a negative errno."""
    m = machine.cur
    desc: IrqDesc = irq_bcm2835.irq_create_mapping(MMC1_HWIRQ)
    line = desc.irq_data.line
    assert line is not None, "a device's interrupt has a line"
    hw = SdController(m, Disk(DISK_SIZE), line)
    host = m.mmc1 = Bcm2835Host(hw, desc.irq)
    ret = irq_manage.request_threaded_irq(
        desc.irq, bcm2835_mmc_irq, bcm2835_mmc_thread_irq, IRQF_SHARED, "mmc1", host)
    if ret:
        printk_.printk(f"<3>mmc-bcm2835: Failed to request IRQ {desc.irq}: {ret}\n")
        return ret
    bcm2835_mmc_enable_sdio_irq_nolock(host, True)
    # mmc_add_host(): the card is found, and is a block device.
    block.mmc_blk_probe(host.mmc, 1, hw.disk.size)
    return 0
