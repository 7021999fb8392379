"""Interrupt lines: requesting, sharing, masking, threads, disabling, what nobody handles, and what /proc shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taskscope
from bare import ALL, world
from taskscope.errors import UsageError
from taskscope.model import irqline, machine
from taskscope.model.include.linux import preempt
from taskscope.model.include.linux.interrupt import (
    IRQ_HANDLED,
    IRQ_NONE,
    IRQ_WAKE_THREAD,
    IRQF_ONESHOT,
    IRQF_SHARED,
)
from taskscope.model.include.linux.irqdesc import IRQD_IRQ_DISABLED, IRQD_IRQ_MASKED, IrqDesc
from taskscope.model.kernel import printk, softirq
from taskscope.model.kernel.irq import irqdesc, manage, spurious

MS = 1_000_000
TEST_CALL = 0x7000


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


# ---- handlers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_a_handler_runs_in_hard_interrupt_context(flavour: str) -> None:
    """While a handler runs preempt_count has HARDIRQ_OFFSET and interrupts are off; afterwards all is as before."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line())
        assert in_kernel(manage.request_irq, 60, handler, 0, "device", dev) == 0
        before = machine.cur.cpu.preempt_count
        dev.interrupt(after=MS)
        sys.run_for(2 * MS)
        return before, dev.seen, machine.cur.cpu.preempt_count, dev.desc.kstat_irqs

    with world(flavour) as w:
        before, seen, after, counts = w.run(scenario)
    [(_, _, count, irqs_off, in_irq, in_interrupt)] = seen
    assert (before, count, after) == (0, 0x10000, 0)
    assert irqs_off
    assert in_irq
    assert in_interrupt
    assert counts == [1]


@pytest.mark.parametrize("flavour", ALL)
def test_what_comes_while_interrupts_are_off_comes_once_when_they_are_on(flavour: str) -> None:
    """Two interrupts of one line that come while the CPU takes none are one interrupt afterwards."""

    def scenario(sys: Any) -> int:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, handler, 0, "device", dev)
        in_kernel(closed, dev)
        sys.run_for(MS)
        return len(dev.seen)

    def closed(dev: Device) -> None:
        preempt.local_irq_disable()
        dev.interrupt()
        dev.interrupt(after=10_000)
        machine.cur.run_for(MS)
        assert not dev.seen
        preempt.local_irq_enable()

    with world(flavour) as w:
        assert w.run(scenario) == 1


def test_a_level_line_interrupts_until_its_device_is_served() -> None:
    """A handler that does not serve the device of a level line is called again as soon as it returns."""

    def scenario(sys: Any) -> int:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, stubborn, 0, "device", dev)
        dev.interrupt()
        sys.run_for(MS)
        return len(dev.seen)

    def stubborn(irq: int, dev: Device) -> int:
        dev.seen.append(0)
        if len(dev.seen) == 5:
            dev.serve()
        return IRQ_HANDLED

    with world("4.19-arm") as w:
        assert w.run(scenario) == 5


@pytest.mark.parametrize("flavour", ALL)
def test_a_shared_line_asks_all_its_handlers(flavour: str) -> None:
    """Each handler of a shared line is called; the one whose device it was not returns IRQ_NONE."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        first, second = Device(desc), Device(desc)
        assert in_kernel(manage.request_irq, 60, handler, IRQF_SHARED, "one", first) == 0
        assert in_kernel(manage.request_irq, 60, handler, IRQF_SHARED, "two", second) == 0
        second.interrupt()
        sys.run_for(MS)
        shown = [line for line in sys_text("/proc/interrupts") if line.lstrip().startswith("60:")]
        return len(first.seen), len(second.seen), shown, desc.irqs_unhandled

    with world(flavour) as w:
        first, second, shown, unhandled = w.run(scenario)
    assert (first, second, unhandled) == (0, 1, 0)
    assert shown[0].endswith("  one, two")


def sys_text(path: str) -> list[str]:
    """Return the lines of a file of /proc, without the machine's doing."""
    from taskscope.model.outside import read_file

    return read_file(machine.cur, path).decode().splitlines()


def test_who_may_share_a_line() -> None:
    """All or nobody shares, with equal flags and a dev_id to tell them apart; a line that is not there is EINVAL."""

    def scenario(sys: Any) -> list[Any]:
        desc = new_line()
        a, b = Device(desc), Device(desc)
        ask = manage.request_threaded_irq
        return [
            in_kernel(ask, 60, handler, None, IRQF_SHARED, "no dev_id", None),
            in_kernel(ask, 61, handler, None, 0, "no line", a),
            in_kernel(ask, 162, handler, None, 0, "the CPUs' timer", a),
            in_kernel(ask, 60, None, None, 0, "neither", a),
            in_kernel(ask, 60, None, thread_fn, 0, "thread alone, not oneshot", a),
            in_kernel(ask, 60, handler, None, 0, "a", a),
            in_kernel(ask, 60, handler, None, IRQF_SHARED, "b", b),
            in_kernel(manage.free_irq, 60, a),
            in_kernel(ask, 60, handler, None, IRQF_SHARED, "b", b),
            in_kernel(ask, 60, handler, thread_fn, IRQF_SHARED | IRQF_ONESHOT, "a", a),
            in_kernel(manage.free_irq, 60, a),
            len([t for t in w.tasks() if t.comm.startswith("irq/")]),
        ]

    with world("4.19-arm") as w:
        inval, busy = -22, -16
        assert w.run(scenario) == [inval, inval, inval, inval, inval, 0, busy, "a", 0, busy, None, 0]
        with w.current():
            log = printk.dmesg()
    assert "Flags mismatch irq 60. 00000080 (b) vs. 00000000 (a)" in log
    assert "Threaded irq requested with handler=NULL and !ONESHOT" in log
    assert "Trying to free already-free IRQ 60" in log


def test_a_handler_that_enables_interrupts_is_told_off() -> None:
    """Interrupts are off again after a handler that has enabled them, and the log says who it was."""

    def scenario(sys: Any) -> None:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, careless, 0, "device", dev)
        dev.interrupt()
        sys.run_for(MS)

    def careless(irq: int, dev: Device) -> int:
        preempt.local_irq_enable()
        dev.serve()
        return IRQ_HANDLED

    with world() as w:
        w.run(scenario)
        with w.current():
            assert "irq 60 handler careless enabled interrupts" in printk.dmesg()


def test_hard_interrupts_nest_only_where_a_handler_lets_them() -> None:
    """An interrupt that comes during a handler waits for its end, and nests if the handler enables interrupts."""

    def scenario(sys: Any) -> Any:
        slow, quick = Device(new_line(60)), Device(new_line(61))
        in_kernel(manage.request_irq, 60, long, 0, "slow", slow)
        in_kernel(manage.request_irq, 61, handler, 0, "quick", quick)
        out = []
        for enable in (False, True):
            slow.answer = enable  # type: ignore[assignment]
            slow.interrupt()
            quick.interrupt(after=100_000)
            sys.run_for(2 * MS)
            out.append((quick.seen[-1][2], quick.seen[-1][0] < slow.seen[-1]))
        return out

    def long(irq: int, dev: Device) -> int:
        dev.serve()
        if dev.answer:
            preempt.local_irq_enable()
        machine.cur.run_for(MS)
        preempt.local_irq_disable()
        dev.seen.append(machine.cur.now)
        return IRQ_HANDLED

    with world() as w:
        assert w.run(scenario) == [(0x10000, False), (0x20000, True)]


# ---- threads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_the_thread_does_the_second_half(flavour: str) -> None:
    """IRQ_WAKE_THREAD runs the thread's function in irq/60-device: SCHED_FIFO 50, in a task's context."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line(), IRQ_WAKE_THREAD)
        assert in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev) == 0
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(5 * MS)
        [task] = [t for t in w.tasks() if t.comm == "irq/60-device"]
        return dev, (task.policy, task.rt_priority), dev.desc.threads_handled

    with world(flavour) as w:
        dev, priority, handled = w.run(scenario)
    assert priority == (1, 50)
    assert [x[1:4] for x in dev.thread_seen] == [("irq/60-device", True, False)]
    assert handled == 1


def test_a_oneshot_line_stays_masked_until_its_thread_is_done() -> None:
    """A level line with IRQF_ONESHOT does not interrupt again before the thread has served the device."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        dev = Device(desc, IRQ_WAKE_THREAD)
        in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev)
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(5 * MS)
        [(*_, masked)] = dev.thread_seen
        return len(dev.seen), masked, bool(desc.irq_data.state & IRQD_IRQ_MASKED), desc.threads_oneshot

    with world("4.19-arm") as w:
        assert w.run(scenario) == (1, (True, 1), False, 0)


def test_without_oneshot_a_level_line_storms() -> None:
    """The same without IRQF_ONESHOT: the handler is called again and again, and the thread cannot begin."""

    def scenario(sys: Any) -> tuple[int, int]:
        dev = Device(new_line())
        in_kernel(manage.request_threaded_irq, 60, calmed, thread_fn, 0, "device", dev)
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(5 * MS)
        return len(dev.seen), dev.thread_seen[0][4]

    def calmed(irq: int, dev: Device) -> int:
        dev.seen.append((0, 0, 0, True, True, True))
        if len(dev.seen) == 1000:
            dev.serve()
        return IRQ_WAKE_THREAD

    with world("4.19-arm") as w:
        assert w.run(scenario) == (1000, 1000)


def test_the_primary_handler_can_be_left_to_the_kernel() -> None:
    """With handler None and IRQF_ONESHOT the interrupt wakes the thread and nothing else."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line())
        assert in_kernel(manage.request_threaded_irq, 60, None, thread_fn, IRQF_ONESHOT, "device", dev) == 0
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(5 * MS)
        return dev

    with world() as w:
        assert len(w.run(scenario).thread_seen) == 1


def test_wake_thread_without_a_thread_is_told_once() -> None:
    """IRQ_WAKE_THREAD of a handler that has no thread is a line in the log, once."""

    def scenario(sys: Any) -> None:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, confused, 0, "device", dev)
        for _ in range(3):
            dev.interrupt()
            sys.run_for(MS)

    def confused(irq: int, dev: Device) -> int:
        dev.serve()
        return IRQ_WAKE_THREAD

    with world() as w:
        w.run(scenario)
        with w.current():
            assert printk.dmesg().count("IRQ 60 device device returned IRQ_WAKE_THREAD but no thread function") == 1


@pytest.mark.parametrize("flavour", ALL)
def test_threadirqs_makes_threads_of_handlers(flavour: str) -> None:
    """With threadirqs a handler runs in a thread, softirqs off and since v5.12 interrupts too; two halves in two."""

    def quieting(irq: int, dev: Device) -> int:
        dev.serve()                             # masks the interrupt at the device: the line will not stay masked
        return IRQ_WAKE_THREAD

    with taskscope.boot(cpus=1, flavour=flavour, threadirqs=True) as k:
        with k.current():
            dev, both = Device(new_line(60)), Device(new_line(61), IRQ_WAKE_THREAD)
        out: list[int] = []

        def module(sys: Any, argv: list[str]) -> None:
            out.append(in_kernel(manage.request_irq, 60, handler, 0, "plain", dev))
            out.append(in_kernel(manage.request_threaded_irq, 61, quieting, thread_fn, 0, "both", both))

        k.spawn(module).wait()
        assert out == [0, 0]
        with k.current():
            dev.interrupt()
            both.interrupt(after=2 * MS)
        k.run(s=0.02)
        names = {t.comm: t.rt_priority for t in k.machine_tasks() if t.comm.startswith("irq/6")}
        assert names == {"irq/60-plain": 50, "irq/61-both": 50, "irq/61-s-both": 49}
        [(_, _, count, irqs_off, in_irq, _)] = dev.seen
        assert (count, in_irq) == (0x200, False)
        assert irqs_off == (flavour != "4.19-arm")
        assert [x[1] for x in both.thread_seen] == ["irq/61-s-both"]
        assert k.read("/proc/cmdline") == b"threadirqs\n"
        # The serial port's own handler too: what is typed still arrives.
        terminal = k.terminal()
        terminal.type("echo hello")
        assert "hello\n" in terminal.text


# ---- disabling and freeing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_disable_irq_nests_and_loses_nothing(flavour: str) -> None:
    """An interrupt that comes while the line is disabled is handled when the last enable_irq() is called, once."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        dev = Device(desc)
        in_kernel(manage.request_irq, 60, handler, 0, "device", dev)
        in_kernel(manage.disable_irq, 60)
        in_kernel(manage.disable_irq, 60)
        # Lazy: only what comes masks the line.
        lazy = bool(desc.irq_data.state & IRQD_IRQ_DISABLED), bool(desc.irq_data.state & IRQD_IRQ_MASKED)
        dev.interrupt()
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(MS)
        masked, seen = bool(desc.irq_data.state & IRQD_IRQ_MASKED), [len(dev.seen)]
        in_kernel(manage.enable_irq, 60)
        sys.run_for(MS)
        seen.append(len(dev.seen))
        in_kernel(manage.enable_irq, 60)
        sys.run_for(MS)
        seen.append(len(dev.seen))
        in_kernel(manage.enable_irq, 60)
        return lazy, masked, seen, sum(desc.kstat_irqs)

    # The Pi's lines are not marked as level: the kernel sends again what the line itself repeats; one finds nothing.
    counted = 2 if flavour == "4.19-arm" else 1
    with world(flavour) as w:
        assert w.run(scenario) == ((True, False), True, [0, 0, 1], counted)
        with w.current():
            assert "Unbalanced enable for IRQ 60" in printk.dmesg()


def test_disable_irq_waits_for_the_thread() -> None:
    """disable_irq() returns when the thread is done; disable_irq_nosync() at once."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line(), IRQ_WAKE_THREAD)
        in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev)
        sys.run_for(MS)
        out = []
        for call in (manage.disable_irq_nosync, manage.disable_irq):
            dev.thread_seen.clear()
            dev.interrupt()
            sys.run_for(1_000)
            in_kernel(call, 60)
            out.append(len(dev.thread_seen))
            sys.run_for(5 * MS)
            in_kernel(manage.enable_irq, 60)
        return out

    with world(cpus=2) as w:
        assert w.run(scenario) == [0, 1]


def test_free_irq_stops_the_thread_and_shuts_the_line_down() -> None:
    """After free_irq() there is neither thread nor handler, and an interrupt of the device reaches nobody."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        dev = Device(desc, IRQ_WAKE_THREAD)
        in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev)
        sys.run_for(MS)
        dev.interrupt()
        sys.run_for(1_000)
        name = in_kernel(manage.free_irq, 60, dev)
        dev.interrupt()
        sys.run_for(MS)
        return name, len(dev.seen), [t.comm for t in w.tasks() if t.comm.startswith("irq/")], desc.action

    with world(cpus=2) as w:
        assert w.run(scenario) == ("device", 1, [], None)


# ---- what nobody handles -----------------------------------------------------------------------------------


def test_a_line_that_nobody_handles_is_switched_off() -> None:
    """After 100,000 interrupts of which more than 99,900 were handled by nobody: "nobody cared", and polling."""

    def scenario(sys: Any) -> Any:
        desc = new_line()
        dev = Device(desc)
        in_kernel(manage.request_irq, 60, handler, IRQF_SHARED, "device", dev)
        for _ in range(99_999):
            spurious.note_interrupt(desc, IRQ_NONE)
        before = bool(desc.irq_data.state & IRQD_IRQ_DISABLED)
        assert dev.line is not None
        irqline.pulse(dev.line)
        sys.run_for(MS)
        after = bool(desc.irq_data.state & IRQD_IRQ_DISABLED)
        # The device is looked after by a timer from now on.
        dev.interrupt()
        sys.run_for(300 * MS)
        return before, after, [(count, in_irq) for _, _, count, _, in_irq, _ in dev.seen]

    with world() as w:
        before, after, seen = w.run(scenario)
        with w.current():
            log = printk.dmesg()
    assert (before, after) == (False, True)
    assert 'irq 60: nobody cared (try booting with the "irqpoll" option)' in log
    assert "handlers:" in log
    assert "Disabling IRQ #60" in log
    assert seen == [(0x100, False)]


@given(st.lists(st.sampled_from([IRQ_NONE, IRQ_HANDLED, IRQ_WAKE_THREAD]), max_size=60))
@settings(max_examples=60, deadline=None)
def test_threads_are_judged_by_the_next_interrupt(answers: list[int]) -> None:
    """An interrupt that only woke a thread counts as unhandled if no thread has handled any by the next such one."""
    with world() as w:
        w.m.irq_desc_tree = {}
        w.m.irq_descs = []
        w.m.jiffies = 0
        w.m.hz = 1_000_000
        with w.current():
            desc = new_line()
            deferred, expected, last = False, 0, 0
            for n, answer in enumerate(answers):
                desc.threads_handled += n % 3 == 0
                if answer == IRQ_NONE:
                    expected += 1
                elif answer == IRQ_WAKE_THREAD:
                    if deferred:
                        expected += desc.threads_handled == last
                        last = desc.threads_handled if desc.threads_handled != last else last
                    deferred = True
                spurious.note_interrupt(desc, answer)
            assert desc.irqs_unhandled == expected


# ---- routing and /proc -------------------------------------------------------------------------------------


def test_affinity_routes_the_line_and_its_thread() -> None:
    """x86's lines go to the CPU that smp_affinity names, and their threads follow; the Pi's controller refuses."""

    def scenario(sys: Any) -> Any:
        dev = Device(new_line(), IRQ_WAKE_THREAD)
        in_kernel(manage.request_threaded_irq, 60, handler, thread_fn, IRQF_ONESHOT, "device", dev)
        out = []
        for mask in (1, 2):
            ret = in_kernel(manage.irq_set_affinity, 60, mask)
            dev.interrupt()
            sys.nanosleep(5 * MS)
            [task] = [t for t in w.tasks() if t.comm == "irq/60-device"]
            out.append((ret, dev.seen[-1][1], task.cpus_allowed))
        out.append(in_kernel(manage.irq_set_affinity, 60, 4))
        return out, sys_text("/proc/irq/60/smp_affinity") + sys_text("/proc/irq/60/smp_affinity_list")

    with world("6.1-x86_64", cpus=2) as w:
        assert w.run(scenario) == ([(0, 0, 1), (0, 1, 2), -22], ["2", "1"])
    with world("4.19-arm", cpus=2) as w:
        assert w.run(scenario)[0][1] == (-5, 0, 3)


@pytest.mark.parametrize("flavour", ALL)
def test_proc_interrupts_has_the_true_counts(flavour: str) -> None:
    """Each column of /proc/interrupts counts what its CPU took; the table has the kernel's form."""
    with taskscope.boot(cpus=2, flavour=flavour) as k:
        terminal = k.terminal()
        before = interrupts(k)
        for _ in range(3):
            terminal.type("true")
        after = interrupts(k)
        uart = "81" if flavour == "4.19-arm" else "4"
        assert [b - a for a, b in zip(before[uart], after[uart], strict=True)] == [3, 0]
        lines = k.read("/proc/interrupts").decode().splitlines()
        assert lines[0] == "           CPU0       CPU1       "
        text = {
            "4.19-arm": " 86:          0          0  ARMCTRL-level  94 Edge      mmc1",
            "6.1-x86_64": " 25:          0          0  PCI-MSIX-0000:00:02.0   1-edge      virtio0-req.0",
            "6.18-x86_64": " 25:          0          0  PCI-MSIX-0000:00:02.0   1-edge      virtio0-req.0",
        }[flavour]
        assert text in lines


def interrupts(k: taskscope.System) -> dict[str, list[int]]:
    """Return the counts of /proc/interrupts by the first column."""
    rows = [line.split() for line in k.read("/proc/interrupts").decode().splitlines()[1:]]
    return {row[0].rstrip(":"): [int(n) for n in row[1:3] if n.isdigit()] for row in rows}


def test_proc_softirqs_has_the_true_counts() -> None:
    """/proc/softirqs counts how often each CPU ran each softirq; /proc/stat sums them up."""
    with taskscope.boot(cpus=2) as k:
        ran: list[int] = []
        with k.probe("run_rebalance_domains", lambda *_: ran.append(k.machine.cpu.id)):
            before = softirqs(k)["SCHED"]
            k.spawn(lambda sys, argv: sys.run_for(200 * MS), name="busy").wait()
            after = softirqs(k)["SCHED"]
        assert ran
        assert [b - a for a, b in zip(before, after, strict=True)] == [ran.count(0), ran.count(1)]
        stat = next(line for line in k.read("/proc/stat").decode().splitlines() if line.startswith("softirq "))
        totals = [sum(counts) for counts in softirqs(k).values()]
        assert stat == "softirq " + " ".join(map(str, [sum(totals), *totals]))


def softirqs(k: taskscope.System) -> dict[str, list[int]]:
    """Return the counts of /proc/softirqs by name."""
    rows = [line.split() for line in k.read("/proc/softirqs").decode().splitlines()[1:]]
    return {row[0].rstrip(":"): [int(n) for n in row[1:]] for row in rows}


def test_proc_irq_spurious() -> None:
    """/proc/irq/N/spurious shows what the detection of broken lines has counted."""

    def scenario(sys: Any) -> list[str]:
        dev = Device(new_line())
        in_kernel(manage.request_irq, 60, handler, 0, "device", dev)
        assert dev.line is not None
        irqline.pulse(dev.line)
        dev.interrupt(after=MS)
        sys.run_for(2 * MS)
        return sys_text("/proc/irq/60/spurious")

    with world() as w:
        lines = w.run(scenario)
    assert lines[:2] == ["count 2", "unhandled 1"]


def test_irq_descs_can_go() -> None:
    """A line that nobody uses can be forgotten."""

    def scenario(sys: Any) -> Any:
        new_line()
        irqdesc.irq_free_desc(60)
        return irqdesc.irq_to_desc(60), in_kernel(manage.request_irq, 60, handler, 0, "device", None)

    with world() as w:
        assert w.run(scenario) == (None, -22)


# ---- preemption models at boot -----------------------------------------------------------------------------


def test_which_kernel_can_choose_its_preemption_model() -> None:
    """preempt= is for kernels since v5.12; 4.19-arm has full and says so when asked for another."""
    with taskscope.boot(flavour="6.1-x86_64", preempt="full", cpus=1) as k:
        assert "Dynamic Preempt: full" in k.dmesg()
        assert k.read("/proc/cmdline") == b"preempt=full\n"
        assert "SMP PREEMPT_DYNAMIC" in k.dmesg()
    taskscope.boot(flavour="4.19-arm", preempt="full", cpus=1).close()
    with pytest.raises(UsageError, match="built with preempt=full"):
        taskscope.boot(flavour="4.19-arm", preempt="none")
    with pytest.raises(UsageError, match="none, voluntary or full"):
        taskscope.boot(flavour="6.1-x86_64", preempt="lazy")


def test_softirqs_go_to_ksoftirqd_with_threadirqs() -> None:
    """With threadirqs the kernel leaves what is raised in an interrupt to ksoftirqd/N."""
    with taskscope.boot(cpus=1, flavour="6.1-x86_64", threadirqs=True) as k:
        who: list[str] = []
        with k.current():
            softirq.open_softirq(5, lambda: who.append(k.running().comm))
            dev = Device(new_line())
        with k.probe("hrtimer_interrupt", lambda *_: softirq.raise_softirq_irqoff(5)):
            k.run(s=0.02)
        assert who
        assert set(who) == {"ksoftirqd/0"}
        assert dev.desc.action is None
