"""Disks: who reads one sleeps until its interrupt; what is written stays; what does not answer is given up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taskscope
from bare import ALL, world
from taskscope.model import irqline
from taskscope.model.storage import LABEL

MS = 1_000_000


def disk(k: Any) -> str:
    """Return the machine's block device."""
    return "/dev/mmcblk1" if k.machine.flavour.arch == "arm" else "/dev/vda"


def work(sys: Any, argv: list[str]) -> None:
    """Read and write a disk, compute, sleep, fork."""
    fd = sys.open(argv[1], 2)
    for n in range(6):
        if sys.fork() == 0:
            sys.run_for(3 * MS)
            sys.exit(0)
        sys.lseek(fd, 8192 * n, 0)
        sys.write(fd, b"x" * 5000)
        sys.lseek(fd, 8192 * n, 0)
        assert sys.read(fd, 5000) == b"x" * 5000
        sys.nanosleep(2 * MS)
    for _ in range(6):
        sys.wait()


@pytest.mark.parametrize("flavour", ALL)
def test_a_reader_sleeps_until_the_interrupt(flavour: str) -> None:
    """Whoever reads a disk is in state D in io_schedule() until the softirq wakes it; the idle time is iowait."""
    with taskscope.boot(cpus=1, flavour=flavour) as k:
        k.trace("sched:sched_switch", "sched:sched_waking")
        reader = k.spawn(lambda sys, argv: sys.puts(str(len(sys.read(sys.open(argv[1]), 4096)))), disk(k), name="r")
        seen: list[tuple[str, Any, int]] = []

        def look(*_: Any) -> None:
            task = next(t for t in k.machine_tasks() if t.comm == "r")
            seen.append((k.task(task.pid).row.state or "", k.task(task.pid).row.wchan, k.machine.cpu.rq.nr_iowait))

        with k.probe("blk_mq_complete_request", look):
            reader.wait()
        assert seen == [("D", "wait_on_page_bit_common", 1)]
        assert reader.text == "4096\n"


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_a_disk_holds_what_was_written(data: st.DataObject) -> None:
    """Reads and writes anywhere on the device give what a plain array gives, in either kind of disk."""
    flavour = data.draw(st.sampled_from(ALL))
    size = 8 << 20
    place = st.one_of(st.integers(0, 20_000), st.integers(size - 9000, size))
    steps = data.draw(st.lists(st.tuples(st.booleans(), place, st.integers(0, 9000)), max_size=8))

    def main(sys: Any, argv: list[str]) -> None:
        fd = sys.open(argv[1], 2)
        for n, (write, at, count) in enumerate(steps):
            sys.lseek(fd, at, 0)
            if not write:
                got.append(sys.read(fd, count))
            elif at < size or not count:
                got.append(sys.write(fd, bytes([n + 1]) * count))

    got: list[Any] = []
    expected: list[Any] = []
    model = bytearray(size)
    model[: len(LABEL)] = LABEL
    for n, (write, at, count) in enumerate(steps):
        count = min(count, size - at) if not write or at < size else count
        if not write:
            expected.append(bytes(model[at : at + count]))
        elif at < size or not count:
            model[at : at + count] = bytes([n + 1]) * count
            expected.append(count)
    with taskscope.boot(cpus=1, flavour=flavour) as k:
        assert k.spawn(main, disk(k)).wait() == 0
        assert got == expected


def test_two_readers_of_one_page_make_one_request() -> None:
    """A page that is being read is waited for, not read again; afterwards nobody waits at all."""
    with taskscope.boot(cpus=2) as k:
        requests: list[int] = []
        with k.probe("bcm2835_mmc_request", lambda *_: requests.append(1)):
            readers = [
                k.spawn(lambda sys, argv: sys.read(sys.open(argv[1]), 100), disk(k), name=f"r{n}") for n in range(3)
            ]
            for reader in readers:
                assert reader.wait() == 0
        assert len(requests) == 1


def test_requests_queue_for_the_controller() -> None:
    """The controller does one thing at a time: requests that come meanwhile follow in their order."""
    with taskscope.boot(cpus=2) as k:
        sectors: list[int] = []

        def main(sys: Any, argv: list[str]) -> None:
            fd = sys.open(argv[1])
            sys.lseek(fd, 4096 * int(argv[2]), 0)
            sys.read(fd, 10)

        with k.probe("bcm2835_mmc_request", lambda host, mrq: sectors.append(mrq.sector)):
            readers = [k.spawn(main, disk(k), str(n), name=f"r{n}") for n in range(5)]
            for reader in readers:
                assert reader.wait() == 0
        assert sorted(sectors) == [0, 8, 16, 24, 32]


def test_a_dead_controller_times_out() -> None:
    """A request that is not answered in 10 s fails with EIO, and the log says so; the next can succeed."""
    with taskscope.boot(cpus=1) as k:
        k.machine.mmc1.hw.dead = True

        def main(sys: Any, argv: list[str]) -> int:
            fd = sys.open(argv[1])
            try:
                sys.read(fd, 10)
            except OSError as error:
                return error.errno or 0
            return 0

        before = k.now
        assert k.spawn(main, disk(k)).wait() == 5
        # A timer so far away fires up to 0.64 s late, and begins with a jiffy (the wheel's granularity).
        assert 10e9 <= k.now - before < 10.7e9
        assert "mmc1: Timeout waiting for hardware interrupt" in k.dmesg()
        k.machine.mmc1.hw.dead = False
        assert k.spawn(main, disk(k)).wait() == 0


def test_a_fatal_signal_ends_the_wait() -> None:
    """SIGKILL ends a read that waits (TASK_KILLABLE); a signal with a handler does not."""

    def handler(sys: Any, sig: int, info: Any) -> None:
        """Do nothing."""

    def main(sys: Any, argv: list[str]) -> None:
        sys.signal(15, handler)
        sys.read(sys.open(argv[1]), 10)

    with taskscope.boot(cpus=1) as k:
        k.machine.mmc1.hw.dead = True
        reader = k.spawn(main, disk(k), name="r")
        k.run(s=0.1)
        pid = reader.pid
        terminal = k.terminal()
        terminal.type(f"kill -15 {pid}")
        k.run(s=0.1)
        assert reader.status is None
        assert k.task(pid).row.wchan == "wait_on_page_bit_common"
        terminal.type(f"kill -9 {pid}")
        k.run(s=0.1)
        assert reader.exitcode == -9


def test_a_spurious_interrupt_of_a_disk_is_nobodys() -> None:
    """An interrupt without anything that is done is IRQ_NONE, counted, and harmless."""
    for flavour in ALL:
        with taskscope.boot(cpus=1, flavour=flavour) as k:
            k.trace("irq:irq_handler_exit")
            irq = 86 if flavour == "4.19-arm" else 25
            desc = k.machine.irq_desc_tree[irq]
            k.interrupt(desc)
            k.run(s=0.01)
            assert f"irq={irq} ret=unhandled" in k.read("/sys/kernel/tracing/trace").decode()
            assert desc.irqs_unhandled == 1
            assert k.spawn(work, disk(k)).wait() == 0
            assert desc.irqs_unhandled == 1


def test_a_disk_is_not_read_from_outside() -> None:
    """A disk answers tasks of the machine: reading it without one is an error, not a hang."""
    with taskscope.boot(cpus=1) as k, pytest.raises(OSError, match="not supported"):
        k.read("/dev/mmcblk1")


def test_a_message_that_comes_while_masked_waits() -> None:
    """A masked line keeps one edge, however many there were, and lets it go when it is unmasked."""
    with world("6.1-x86_64") as w:
        line = irqline.IrqLine(w.m)
        got: list[Any] = []
        w.m.raise_irq = lambda cpu, irq: got.append(irq)  # type: ignore[method-assign]
        for _ in range(3):
            irqline.pulse(line)
        assert (line.latched, got) == (True, [])
        irqline.unmask(line)
        assert not line.latched
        assert line.queued
