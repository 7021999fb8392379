"""Bad pointers of the kernel itself, panics, and the watchdogs."""

from __future__ import annotations

import re
from typing import Any

import pytest

import taskscope
from bare import ALL, world
from taskscope.model import machine
from taskscope.model.include.linux.compiler import READ_ONCE
from taskscope.model.kernel import panic, printk
from taskscope.system import System

DIRECT = "/sys/kernel/debug/provoke-crash/DIRECT"
#: how an oops ends a task: by SIGSEGV on 32-bit ARM, by SIGKILL after a page fault on x86
ENDS = {"4.19-arm": 11, "6.1-x86_64": 9, "6.18-x86_64": 9}


def crasher(sys: Any, argv: list[str]) -> int:
    """Have the kernel crash in one's own name."""
    fd = sys.open(DIRECT, 1)
    sys.write(fd, argv[1].encode())
    return 77


def with_lkdtm(k: System) -> System:
    """Load the module that crashes."""
    terminal = k.terminal()
    terminal.type(f"insmod /lib/modules/{k.machine.flavour.release}/lkdtm.ko")
    assert "lkdtm 16384" in k.read("/proc/modules").decode()
    return k


def crash(k: System, how: str, s: float = 0.5) -> Any:
    """Start a program that crashes."""
    process = k.spawn(crasher, how, name="crasher")
    k.run(s=s)
    return process


@pytest.mark.parametrize("flavour", ALL)
def test_oops_ends_the_task_and_not_the_machine(flavour: str) -> None:
    """A bad pointer is logged with registers and stack; the task dies, its parent hears of it, others go on."""
    with taskscope.boot(flavour=flavour) as k:
        with_lkdtm(k)
        process = crash(k, "EXCEPTION")
        assert process.status == ENDS[flavour]
        assert k.machine.panicked is None
        log = k.dmesg()
        if flavour == "4.19-arm":
            assert "Unable to handle kernel NULL pointer dereference at virtual address 00000000" in log
            assert "Internal error: Oops: 817 [#1] PREEMPT SMP ARM" in log
            assert re.search(r"PC is at lkdtm_EXCEPTION\+0x", log)
            assert re.search(r"\(lkdtm_EXCEPTION\) from \[<[0-9a-f]{8}>\] \(lkdtm_do_action\+0x", log)
            assert f"Process crasher (pid: {process.pid}, stack limit = 0x(ptrval))" in log
        else:
            assert "BUG: kernel NULL pointer dereference, address: 0000000000000000" in log
            assert "#PF: supervisor write access in kernel mode" in log
            assert "#PF: error_code(0x0002) - not-present page" in log
            assert re.search(r"RIP: 0010:lkdtm_EXCEPTION\+0x", log)
            stack = log.partition("Call Trace:")[2].partition("</TASK>")[0]
            assert "lkdtm_EXCEPTION" not in stack
            assert "lkdtm_do_action+0x" in stack
        assert k.read("/proc/sys/kernel/tainted") == b"128\n"
        assert k.spawn("true").wait() == 0
        # What it had is given back as after any death.
        assert k.find(process.pid) is None


@pytest.mark.parametrize("flavour", ALL)
def test_bug(flavour: str) -> None:
    """BUG() says where it stands, and ends the task by SIGSEGV."""
    with taskscope.boot(flavour=flavour) as k:
        with_lkdtm(k)
        assert crash(k, "BUG").status == 11
        assert re.search(r"kernel BUG at drivers/misc/lkdtm/bugs\.c:\d+!", k.dmesg())
        what = "Oops - BUG: 0 [#1]" if flavour == "4.19-arm" else "invalid opcode: 0000 [#1]"
        assert what in k.dmesg()


@pytest.mark.parametrize("flavour", ALL)
def test_oopses_are_counted_and_taint(flavour: str) -> None:
    """The second oops is #2, of a tainted kernel."""
    with taskscope.boot(flavour=flavour) as k:
        with_lkdtm(k)
        crash(k, "EXCEPTION")
        assert "Not tainted" in k.dmesg()
        crash(k, "EXCEPTION")
        assert "[#2]" in k.dmesg()
        assert "Tainted: G      D " in k.dmesg()


@pytest.mark.parametrize("flavour", ALL)
def test_init_must_not_oops(flavour: str) -> None:
    """An oops of init is a panic."""

    def scenario(sys: Any) -> None:
        machine.cur.cpu.user_mode = False
        READ_ONCE(0)

    with world(flavour, bare=False) as one, pytest.raises(AssertionError, match="Attempted to kill init!"):
        one.run(scenario)


@pytest.mark.parametrize("flavour", ALL)
def test_oops_in_interrupt_is_a_panic(flavour: str) -> None:
    """Nobody can be killed for what an interrupt handler does."""
    with taskscope.boot(flavour=flavour) as k:
        k.spawn("yes", "x", name="yes")
        k.run(s=0.1)
        fell: list[int] = []

        def fault(*_: Any) -> None:
            if not fell:
                fell.append(1)
                READ_ONCE(0x10)

        with k.probe("scheduler_tick", fault):
            k.run(s=0.2)
        assert fell
        assert k.machine.panicked == "Fatal exception in interrupt"


@pytest.mark.parametrize("flavour", ALL)
def test_panic_on_oops(flavour: str) -> None:
    """With kernel.panic_on_oops the machine stops."""
    with taskscope.boot(flavour=flavour) as k:
        with_lkdtm(k)
        k.write("/proc/sys/kernel/panic_on_oops", "1")
        crash(k, "EXCEPTION")
        assert k.machine.panicked == "Fatal exception"
        assert "Kernel panic - not syncing: Fatal exception" in k.dmesg()


@pytest.mark.parametrize("flavour", ALL)
def test_sysrq_c(flavour: str) -> None:
    """`echo c > /proc/sysrq-trigger` ends the machine: by a bad pointer in 4.19, by panic() since 5.1."""
    with taskscope.boot(flavour=flavour) as k:
        terminal = k.terminal()
        terminal.type("echo c > /proc/sysrq-trigger", s=0.2)
        assert k.machine.panicked == ("Fatal exception" if flavour == "4.19-arm" else "sysrq triggered crash")
        assert ("Internal error: Oops: 817" in k.dmesg()) == (flavour == "4.19-arm")


@pytest.mark.parametrize("flavour", ALL)
def test_oops_in_do_exit(flavour: str) -> None:
    """A task that faults while it exits is left alone: asleep for ever in 4.19, dead and unreaped since 5.17."""
    with taskscope.boot(flavour=flavour) as k:
        fell: list[int] = []

        def fault(*_: Any) -> None:
            if k.running().comm == "true" and not fell:
                fell.append(k.running().pid)
                READ_ONCE(0)

        with k.probe("exit_files", fault):
            k.spawn("true")
            k.run(s=1)
        assert "Fixing recursive fault but reboot is needed!" in k.dmesg()
        assert k.machine.panicked is None
        task = k.find(fell[0])
        assert task is not None
        assert (task.state == 2) == (flavour == "4.19-arm")
        assert (task.exit_state == 0x10) == (flavour != "4.19-arm")
        assert k.spawn("true").wait() == 0


@pytest.mark.parametrize("flavour", ALL)
def test_idle_must_not_oops(flavour: str) -> None:
    """An oops of an idle task is a panic."""
    with taskscope.boot(flavour=flavour) as k:
        fell: list[int] = []

        def fault(*_: Any) -> None:
            if not fell:
                fell.append(1)
                READ_ONCE(0)

        with k.probe("do_idle", fault, lambda *_: k.running().pid == 0):
            k.spawn("sleep", "0.1")
            k.run(s=1)
        assert k.machine.panicked == "Attempted to kill the idle task!"


def test_too_many_oopses() -> None:
    """Since 6.2 (and 6.1's stable releases) kernel.oops_limit oopses are a panic: each may have leaked something."""
    with taskscope.boot(flavour="6.1-x86_64") as k:
        with_lkdtm(k)
        k.write("/proc/sys/kernel/oops_limit", "2")
        crash(k, "EXCEPTION")
        assert k.machine.panicked is None
        crash(k, "EXCEPTION")
        assert k.machine.panicked == "Oopsed too often (kernel.oops_limit is 2)"


def test_a_mistake_of_the_model_is_no_oops() -> None:
    """A Python exception in kernel code comes out of run(); it is not logged, and nobody is killed for it."""
    with taskscope.boot() as k:
        def broken(*_: Any) -> None:
            raise ZeroDivisionError("a mistake of the model")

        with k.probe("sys_getpid", broken), pytest.raises(ZeroDivisionError):
            k.spawn(lambda sys, argv: sys.getpid(), name="one")
            k.run(s=0.2)
        assert "Oops" not in k.dmesg()
        assert panic.panic_state is not None


def test_a_good_pointer_is_read() -> None:
    """READ_ONCE() of an address where the model has something returns it."""
    with world() as one:
        one.run(lambda sys: 0)
        with one.current() as m:
            assert READ_ONCE(m.init_task.address) is m.init_task


# ---- watchdogs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", ALL)
def test_hung_task(flavour: str) -> None:
    """A task in D for longer than the timeout is reported with its stack, and again at each look, ten times."""
    with taskscope.boot(flavour=flavour) as k:
        with_lkdtm(k)
        k.trace("sched:sched_process_hang")
        process = crash(k, "HUNG_TASK")
        k.run(s=230)
        assert f"INFO: task crasher:{process.pid} blocked for more than" not in k.dmesg()
        k.run(s=140)
        log = k.dmesg()
        assert f"INFO: task crasher:{process.pid} blocked for more than 12" in log
        assert "      Not tainted" in log
        assert "lkdtm_HUNG_TASK+0x" in log.partition("INFO: task")[2]
        who = r"task:crasher +state:D stack:0     pid:\d+ +"
        line = {"4.19-arm": r"crasher +D    0 +\d+      1 0x0000000\d",
                "6.1-x86_64": who + r"ppid:1      flags:0x0000000\d",
                "6.18-x86_64": who + r"tgid:\d+ +ppid:1      task_flags:0x\d+ flags:"}
        assert re.search(line[flavour], log)
        k.run(s=2000)
        assert k.dmesg().count("blocked for more than") == 10
        hangs = k.recording().events("sched:sched_process_hang").to_dicts()
        assert len(hangs) > 10, "the event is not limited"
        assert hangs[0]["fields.pid"] == process.pid


def test_hung_task_settings() -> None:
    """The timeout and the number of reports can be set; 0 switches off; hung_task_panic ends the machine."""
    with taskscope.boot() as k:
        with_lkdtm(k)
        k.write("/proc/sys/kernel/hung_task_timeout_secs", "10")
        k.write("/proc/sys/kernel/hung_task_warnings", "1")
        crash(k, "HUNG_TASK")
        k.run(s=25)
        assert k.dmesg().count("blocked for more than 10 seconds.") == 1
        k.write("/proc/sys/kernel/hung_task_timeout_secs", "0")
        k.write("/proc/sys/kernel/hung_task_warnings", "-1")
        k.run(s=100)
        assert k.dmesg().count("blocked for more than") == 1
        k.write("/proc/sys/kernel/hung_task_panic", "1")
        k.write("/proc/sys/kernel/hung_task_timeout_secs", "20")
        k.run(s=60)
        assert k.machine.panicked == "hung_task: blocked tasks"


def test_killable_sleep_is_not_hung() -> None:
    """A task that SIGKILL would wake is not reported, however long it sleeps."""
    from taskscope.model.kernel.time import timer

    def killable(sys: Any) -> None:
        machine.cur.cpu.user_mode = False
        timer.schedule_timeout_killable(timer.MAX_SCHEDULE_TIMEOUT)

    def scenario(sys: Any) -> None:
        sys.clone(killable)
        sys.nanosleep(400_000_000_000)

    with world(bare=False) as one:
        one.run(scenario)
        with one.current():
            assert "blocked for more than" not in printk.dmesg()


@pytest.mark.parametrize("flavour", ALL)
def test_soft_lockup(flavour: str) -> None:
    """Kernel code that keeps its CPU for 20 s is reported by the CPU's timer: once until 5.13, repeatedly since."""
    with taskscope.boot(flavour=flavour) as k:
        with_lkdtm(k)
        k.write("/proc/sys/kernel/soft_watchdog", "1")
        k.run(s=30)
        assert "soft lockup" not in k.dmesg()
        process = crash(k, "SOFTLOCKUP", s=100)
        reports = re.findall(r"watchdog: BUG: soft lockup - CPU#(\d) stuck for (\d+)s! \[crasher:(\d+)\]", k.dmesg())
        assert 21 <= int(reports[0][1]) <= 25
        assert {int(pid) for _, _, pid in reports} == {process.pid}
        assert (len(reports) == 1) == (flavour == "4.19-arm")
        assert "lkdtm_SOFTLOCKUP+0x" in k.dmesg().partition("soft lockup")[2]
        assert int(k.read("/proc/sys/kernel/tainted")) & 1 << 14


def test_softlockup_panic_and_preemption() -> None:
    """kernel.softlockup_panic ends the machine; a loop that can be preempted is no lockup."""
    with taskscope.boot() as k:
        with_lkdtm(k)
        k.write("/proc/sys/kernel/soft_watchdog", "1")
        crash(k, "LOOP", s=40)
        assert "soft lockup" not in k.dmesg(), "4.19-arm is built with CONFIG_PREEMPT"
        k.write("/proc/sys/kernel/softlockup_panic", "1")
        crash(k, "SOFTLOCKUP", s=40)
        assert k.machine.panicked == "softlockup: hung tasks"
