"""The wire from a device to a CPU: interrupt lines, and what a controller does with them.

Hardware, as machine.py is: the kernel reaches it through the functions of a struct irq_chip, devices through
`set_level` and `pulse`.  A level line is active as long as its device wants something, and interrupts again and again
until then; an edge, or a message, is latched once.  While a line is masked its interrupt waits here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenlet import getcurrent

if TYPE_CHECKING:
    from taskscope.model.include.linux.irqdesc import IrqDesc
    from taskscope.model.machine import Machine


class IrqLine:
    """One line.  ``desc`` is what the CPU is told of; ``cpu`` the number of the one that is told."""

    __slots__ = ("cpu", "desc", "latched", "level", "machine", "masked", "queued")

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.desc: IrqDesc | None = None        # set when the kernel describes the line
        self.cpu = 0
        self.level = False                      # the device holds it active
        self.masked = True                      # at the controller, as after a reset
        self.latched = False                    # an edge came while it was masked
        self.queued = False                     # the CPU has been told and has not taken it


def set_level(line: IrqLine, active: bool) -> None:
    """Hold the line active, or let it go: what a device with a level interrupt does."""
    line.level = active
    if active and not line.masked:
        _send(line)


def pulse(line: IrqLine) -> None:
    """Interrupt once: an edge, or a message.  One that comes before the last one was taken is the same one."""
    if line.masked:
        line.latched = True
    else:
        _send(line)


def mask(line: IrqLine) -> None:
    """Hold the line's interrupts back."""
    line.masked = True


def unmask(line: IrqLine) -> None:
    """Let the line's interrupts through; one that has waited comes now."""
    line.masked = False
    if line.level or line.latched:
        line.latched = False
        _send(line)


def take(line: IrqLine) -> None:
    """Note that the CPU has taken the interrupt: from now on the next one can come."""
    line.queued = False


def _send(line: IrqLine) -> None:
    if not line.queued:
        line.queued = True
        m = line.machine
        if getcurrent() is m.hub:
            _arrive(line)
        else:
            # The kernel has unmasked it: the CPU, ours or another, is interrupted when this step is over.
            m.at(m.now, _arrive, line)


def _arrive(line: IrqLine) -> None:
    m = line.machine
    m.raise_irq(m.cpus[line.cpu], line.desc)
