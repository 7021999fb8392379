"""The Pi's MMC controller, as far as its interrupt goes: drivers/mmc/host/bcm2835-mmc.c, rpi-4.19.y.

Its handler reads the status register and leaves the rest to the thread ``irq/86-mmc1``.  Cards and requests are not
modelled.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.kernel.irq.manage as irq_manage
from taskscope.model import machine

MMC1_IRQ: Final = 86


def bcm2835_mmc_irq() -> None:
    """Take the interrupt: acknowledge it, and let the thread do the second half.

    Context: hard interrupt.
    """
    irq_manage.__irq_wake_thread(machine.cur.mmc1_action)


def bcm2835_mmc_thread_irq(irq: int) -> None:
    """Do the second half: a card was put in or taken out.

    Context: the interrupt's thread; may sleep.
    """
    del irq
    # Not modelled: mmc_detect_change().


def bcm2835_mmc_probe() -> int:
    """Set the controller up (module_platform_driver()): 0 or a negative errno."""
    action = irq_manage.request_threaded_irq(
        MMC1_IRQ, bcm2835_mmc_irq, bcm2835_mmc_thread_irq, "mmc1", "ARMCTRL-level  94 Edge")
    if isinstance(action, int):
        return action
    machine.cur.mmc1_action = action
    return 0
