"""The end of the machine: kernel/panic.c, v4.19."""

from __future__ import annotations

from typing import NoReturn

import taskscope.model.kernel.printk as printk_
from taskscope.model import machine


def panic(fmt: str) -> NoReturn:
    """Say why and halt for ever: no CPU runs any more, and `Machine.panicked` holds the message.

    Context: any.
    """
    m = machine.cur
    text = fmt.rstrip("\n")
    m.panicked = text
    printk_.printk(f"<0>Kernel panic - not syncing: {text}\n")
    # Not modelled: panic notifiers, kexec, reboot after a timeout.  The other CPUs are stopped by never being resumed.
    printk_.printk(f"<0>---[ end Kernel panic - not syncing: {text} ]---\n")
    for cpu in m.cpus:
        cpu.irqs_off = True
    m.stop()
    while True:
        m.hub.switch()
        m.stop()
