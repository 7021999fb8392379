"""Calling a function of the kernel from a test's program, as a system call that no real kernel has; a device for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskscope.model import irqline, machine
from taskscope.model.include.linux import preempt
from taskscope.model.include.linux.interrupt import IRQ_HANDLED, IRQ_NONE, IRQ_WAKE_THREAD
from taskscope.model.include.linux.irqdesc import IRQD_IRQ_MASKED, IrqDesc
from taskscope.model.kernel.irq import manage

TEST_CALL = 0x7000
MS = 1_000_000


def in_kernel(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function as a system call of the running program, and return its result."""
    m = machine.cur
    out: list[Any] = []
    m.sys_call_table[TEST_CALL] = _test_call
    m.cpu.curr.journal._gate(TEST_CALL, (function, args, out))
    return out[0]


def _test_call(function: Callable[..., Any], args: tuple[Any, ...], out: list[Any]) -> int:
    out.append(function(*args))
    return 0


def new_line(irq: int = 60) -> IrqDesc:
    """Describe one more line of the machine's controller: level on ARM, edge on x86-64."""
    from taskscope.model.arch.x86.kernel.apic import io_apic
    from taskscope.model.drivers.irqchip import irq_bcm2835

    if machine.cur.flavour.arch == "arm":
        return irq_bcm2835.irq_create_mapping(irq + 8)
    return io_apic.mp_map_pin_to_irq(irq)


def sys_text(path: str) -> list[str]:
    """Return the lines of a file of /proc, without the machine's doing."""
    from taskscope.model.outside import read_file

    return read_file(machine.cur, path).decode().splitlines()


class Device:
    """A device on a line: ``wants`` is its status register; it holds a level line active while that is not 0."""

    def __init__(self, desc: IrqDesc, answer: int = IRQ_HANDLED) -> None:
        self.desc = desc
        self.line = desc.irq_data.line
        self.answer = answer
        self.wants = 0
        self.seen: list[Any] = []
        self.thread_seen: list[Any] = []
        self.level = desc.handle_irq is not None and desc.handle_irq.__name__ == "handle_level_irq"

    def interrupt(self, after: int = 0) -> None:
        """Want something, `after` ns from now."""
        m = machine.cur
        m.at(m.now + after, self._raise)

    def _raise(self, arg: Any = None) -> None:
        del arg
        self.wants += 1
        assert self.line is not None
        if self.level:
            irqline.set_level(self.line, True)
        else:
            irqline.pulse(self.line)

    def serve(self) -> None:
        """Give the device what it wants."""
        self.wants = 0
        assert self.line is not None
        if self.level:
            irqline.set_level(self.line, False)


def in_an_interrupt(function: Any, irq: int = 60) -> None:
    """Let a function be called by a handler, and all that comes of it happen."""

    def call(irq: int, dev: Device) -> int:
        dev.serve()
        function()
        return IRQ_HANDLED

    m = machine.cur
    if irq not in m.irq_desc_tree:
        new_line(irq)
    dev = Device(m.irq_desc_tree[irq])
    in_kernel(manage.request_irq, irq, call, 0, "device", dev)
    dev.interrupt()


def handler(irq: int, dev: Device) -> int:
    """Be a handler that notes where it is called; what it leaves to the thread stays wanted."""
    m = machine.cur
    if not dev.wants:
        return IRQ_NONE
    dev.seen.append((m.now, m.cpu.id, m.cpu.preempt_count, m.cpu.irqs_off, preempt.in_irq(), preempt.in_interrupt()))
    if dev.answer != IRQ_WAKE_THREAD:
        dev.serve()
    return dev.answer


def thread_fn(irq: int, dev: Device) -> int:
    """Be a thread's function: it takes its time."""
    m = machine.cur
    m.run_for(MS)
    masked = bool(dev.desc.irq_data.state & IRQD_IRQ_MASKED), dev.desc.threads_oneshot
    dev.thread_seen.append((m.now, m.cpu.curr.comm, preempt.in_task(), preempt.in_interrupt(), len(dev.seen), masked))
    dev.serve()
    return IRQ_HANDLED
