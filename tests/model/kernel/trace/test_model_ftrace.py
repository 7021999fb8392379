"""The function tracer patches functions, and only while it must; stacks, probes and breakpoints on a booted machine."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import taskscope
from taskscope.model import machine
from taskscope.model.flavours import FLAVOURS
from taskscope.model.kernel import kallsyms, kprobes
from taskscope.model.kernel.trace import ftrace, tracefs
from taskscope.model.lib.dump_stack import dump_stack
from taskscope.system import System
from watched import running

# ---- patching --------------------------------------------------------------------------------------------


def plain(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


def every_kind(a: int, /, b: int, *rest: int, key: int = 5, **more: int) -> tuple[Any, ...]:
    """Return what it was called with."""
    return a, b, rest, key, more


def deep(n: int) -> int:
    """Call itself."""
    return 0 if n == 0 else 1 + deep(n - 1)


TABLE = {1: plain}


class Log:
    """A tracer that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def ops(self, cur: machine.Machine, record: ftrace.DynFtrace, args: tuple[Any, ...]) -> None:
        """Note a call."""
        assert cur is machine.cur
        self.calls.append((record.function.__name__, args))


def test_calls_through_tables_are_caught() -> None:
    """A patched function is caught however it is called: by name, through a table, by somebody who had it before."""
    had = plain
    log = Log()
    code = plain.__code__
    with running() as m:
        ftrace.register_ftrace_function(m, plain, log.ops)
        assert (plain(1), TABLE[1](1, 5), had(a=3)) == (3, 6, 5)
        ftrace.unregister_ftrace_function(m, plain, log.ops)
        assert plain(1) == 3
    assert log.calls == [("plain", (1, 2)), ("plain", (1, 5)), ("plain", (3, 2))]
    assert plain.__code__ is code
    assert "__ftrace__" not in plain.__dict__


def test_every_kind_of_parameter() -> None:
    """Every kind of parameter reaches the function, errors leave it, and recursion is seen call by call."""
    log = Log()
    with running() as m:
        for f in (every_kind, deep):
            ftrace.register_ftrace_function(m, f, log.ops)
        try:
            assert every_kind(1, 2, 3, 4, key=6, z=7) == (1, 2, (3, 4), 6, {"z": 7})
            assert every_kind(1, b=2) == (1, 2, (), 5, {})
            with pytest.raises(TypeError):
                every_kind()  # type: ignore[call-arg]
            assert deep(5) == 5
        finally:
            for f in (every_kind, deep):
                ftrace.unregister_ftrace_function(m, f, log.ops)
    assert [args for name, args in log.calls if name == "deep"] == [(5,), (4,), (3,), (2,), (1,), (0,)]


def test_machines_count_patches() -> None:
    """Each machine hears of its own calls; the patch stays as long as one of them wants it."""
    code = plain.__code__
    one, two = Log(), Log()
    with running() as a:
        ftrace.register_ftrace_function(a, plain, one.ops)
        with running() as b:
            ftrace.register_ftrace_function(b, plain, two.ops)
            plain(1)
        plain(2)
        ftrace.unregister_ftrace_function(a, plain, one.ops)
        assert plain.__code__ is not code
        plain(3)
        machine.cur = b
        plain(4)
        ftrace.unregister_ftrace_function(b, plain, two.ops)
        machine.cur = a
    assert plain.__code__ is code
    assert [args[0] for _, args in one.calls] == [2]
    assert [args[0] for _, args in two.calls] == [1, 4]


# ---- on a booted machine ---------------------------------------------------------------------------------


@pytest.fixture(params=["4.19-arm", "6.1-x86_64"])
def k(request: pytest.FixtureRequest) -> Iterator[System]:
    """Give a booted machine."""
    with taskscope.boot(cpus=2, flavour=request.param) as system:
        yield system


def forker(sys: Any, argv: list[str]) -> int:
    """Fork a child that exits, and wait for it."""
    del argv
    pid = sys.fork()
    if pid == 0:
        sys._exit(3)
    sys.waitpid(pid, 0)
    return 0


def write(k: System, path: str, text: str, append: bool = False) -> int:
    """Write to a file of tracefs."""
    with k.current() as m:
        return tracefs.tracefs_write(m, path, text.encode(), append)


def log_of(k: System) -> str:
    """Return the log."""
    with k.current() as m:
        text = tracefs.tracefs_read(m, "trace")
    assert isinstance(text, bytes)
    return text.decode()


def names(k: System) -> tuple[str, str, str]:
    """Return what this kernel calls sys_clone, _do_fork and copy_process."""
    return tuple(kallsyms.symbol_name(n, k.machine) for n in ("sys_clone", "_do_fork", "copy_process"))  # type: ignore[return-value]


def test_system_call_is_caught(k: System) -> None:
    """A system call's function is called through sys_call_table, and traced with its caller."""
    sys_clone = names(k)[0]
    assert write(k, "set_ftrace_filter", sys_clone) > 0
    assert write(k, "current_tracer", "function") > 0
    assert k.spawn(forker).wait(s=10) == 0
    caller = "ret_fast_syscall" if k.machine.flavour.arch == "arm" else "do_syscall_64"
    assert re.search(rf"forker-\d+ .*: {sys_clone} <-{caller}$", log_of(k), re.MULTILINE)


def test_stub_is_in_no_stack(k: System) -> None:
    """A stack is the same whether the functions on it are patched or not."""
    stacks = []
    for patched in (False, True):
        write(k, "tracing_on", "1")
        write(k, "trace", "")
        write(k, "events/task/task_newtask/trigger", 'stacktrace if COMM == "forker"', append=True)
        if patched:
            assert write(k, "set_ftrace_filter", " ".join(names(k))) > 0
            assert write(k, "current_tracer", "function") > 0
        assert k.spawn(forker).wait(s=10) == 0
        found = log_of(k).split("<stack trace>\n")[-1]
        stacks.append([line for line in found.splitlines() if line.startswith(" => ")])
    assert len(stacks[0]) >= 3
    assert stacks[0] == stacks[1]


def test_filter_files(k: System) -> None:
    """The filter files show what they hold; a new write replaces, ``>>`` adds, ``!`` takes off."""
    sys_clone, do_fork, copy_process = names(k)
    with k.current() as m:
        assert tracefs.tracefs_read(m, "set_ftrace_filter") == b"#### all functions enabled ####\n"
    assert write(k, "set_ftrace_filter", "do_exit") == 7
    assert write(k, "set_ftrace_filter", f"{do_fork} copy_process*\n", append=True) > 0
    assert write(k, "set_ftrace_filter", "!do_exit", append=True) > 0
    with k.current() as m:
        text = tracefs.tracefs_read(m, "set_ftrace_filter")
        assert isinstance(text, bytes)
        assert set(text.decode().split()) == {do_fork, copy_process}
        every = tracefs.tracefs_read(m, "available_filter_functions")
        assert isinstance(every, bytes)
        assert {sys_clone, do_fork, copy_process, "do_exit", "schedule", "finish_task_switch"} <= set(
            every.decode().split()
        )
    assert write(k, "current_tracer", "function") > 0
    assert write(k, "set_ftrace_notrace", do_fork) > 0
    with k.current() as m:
        assert tracefs.tracefs_read(m, "enabled_functions") == f"{copy_process} (1)\n".encode()
    assert write(k, "set_ftrace_filter", "no_such_function") == -22
    assert write(k, "current_tracer", "nop") > 0
    with k.current() as m:
        assert tracefs.tracefs_read(m, "enabled_functions") == b""


def test_all_functions() -> None:
    """Without a filter every function of the kernel is traced, and the machine does what it does without."""
    ends = []
    for traced in (False, True):
        with taskscope.boot(cpus=1) as k:
            if traced:
                write(k, "current_tracer", "function")
            assert k.spawn(forker).wait(s=10) == 0
            if traced:
                text = log_of(k)
                assert all(
                    f" {name} <-" in text for name in ("schedule", "do_exit", "pick_next_task_fair", "try_to_wake_up")
                )
            ends.append(k.now)
    assert ends[0] == ends[1]


def test_closing_takes_patches_off() -> None:
    """A machine that is closed leaves no patch, and is not kept alive."""
    k = taskscope.boot(cpus=1)
    write(k, "current_tracer", "function")
    with k.current() as m:
        functions = [s.function for s in kallsyms.kallsyms(m).symbols if s.function is not None]
    assert any("__ftrace__" in f.__dict__ for f in functions)
    gone = weakref.ref(k.machine)
    k.close()
    assert not any("__ftrace__" in f.__dict__ for f in functions)
    del k, m
    gc.collect()
    assert gone() is None


# ---- names and addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", list(FLAVOURS))
def test_kallsyms(flavour: str) -> None:
    """Symbols are ordered, do not overlap, lie in the text segment, and are found by any address in them."""
    with running(flavour) as m:
        table = kallsyms.kallsyms(m)
        end = m.flavour.text_base
        for symbol in table.symbols:
            assert symbol.address >= end
            end = symbol.address + symbol.size
            assert table.lookup(symbol.address) is symbol
            assert table.lookup(end - 1) is symbol
        assert table.lookup(m.flavour.text_base - 1) is None
        assert table.lookup(end) is None
        assert len(table.symbols) > 500
        listed = {s.name for s in table.symbols}
    arm = flavour == "4.19-arm"
    assert ("_do_fork" in listed) is arm
    assert ("kernel_clone" in listed) is not arm
    assert ("sys_kill" in listed) is arm
    assert ("__x64_sys_kill" in listed) is not arm
    assert ("copy_process.part.5" in listed) is arm
    assert not any(name.startswith("_") and not name.startswith(("__", "_do_fork", "_copy")) for name in listed)


def test_address_is_place_in_source(k: System) -> None:
    """The address of a frame says in which line of the function it stands."""
    seen: list[tuple[int, int]] = []

    def look() -> None:
        import sys

        frame = sys._getframe(1)
        while frame.f_code.co_name != "do_exit":
            assert frame.f_back is not None
            frame = frame.f_back
        address = kallsyms.frame_address(machine.cur, frame)
        assert address is not None
        seen.append((address, frame.f_lineno))

    with k.probe("exit_notify", look):
        assert k.spawn(forker).wait(s=10) == 0
        table = kallsyms.kallsyms(k.machine)
    symbol = table.by_name["do_exit"]
    for address, line in seen:
        assert (address - symbol.address) // 8 == line - symbol.first_line


# ---- probes and breakpoints ------------------------------------------------------------------------------


def test_probe_of_the_notes(k: System) -> None:
    """The notes' patch as a probe: who wakes kthreadd, with the stack that is there, in the kernel's log."""
    with k.probe("ttwu_do_wakeup", dump_stack, when=lambda rq, p, *rest: p.comm == "kthreadd"):
        k.spawn("kill", "-0", "2").wait(s=10)
        with k.current():
            before = k.dmesg()
        assert "ttwu_do_wakeup" not in before
        k.machine.at(k.now, wake_kthreadd, k.machine)
        k.run(s=0.1)
    text = k.dmesg()
    assert re.search(r"CPU: \d PID: \d+ Comm: \S+ Not tainted " + re.escape(k.machine.flavour.release), text)
    if k.machine.flavour.arch == "arm":
        assert re.search(r"\[<8[0-9a-f]{7}>\] \(ttwu_do_wakeup\) from \[<8[0-9a-f]{7}>\] \(\w+\+0x", text)
    else:
        assert "Call Trace:" in text
        assert re.search(r"\]  ttwu_do_wakeup\+0x", text)


def wake_kthreadd(m: machine.Machine) -> None:
    """Wake kthreadd as an interrupt would."""
    from taskscope.model.kernel.sched import core

    before, machine.cur = machine.cur, m
    core.wake_up_process(m.kthreadd_task)
    machine.cur = before


def test_probe_on_event(k: System) -> None:
    """A probe on an event gets what the tracepoint gets, by either of the event's names."""
    for name in ("sched_process_fork", "sched:sched_process_fork"):
        pairs: list[tuple[str, int]] = []
        with k.probe(name, lambda parent, child, into=pairs: into.append((parent.comm, child.pid))):
            k.spawn(forker).wait(s=10)
        assert [comm for comm, _ in pairs].count("forker") == 1


def test_no_such_place(k: System) -> None:
    """A probe on nothing is an error that says where to look."""
    with pytest.raises(taskscope.errors.UsageError, match="no_such_function"), k.probe("no_such_function", print):
        pass


def test_breakpoint_stops_inside(k: System) -> None:
    """A breakpoint stops the machine inside the function: its stack is there to look at, and it goes on from there."""
    process = k.spawn(forker)
    with k.current() as m:
        probe = kprobes.kprobe_break(m, "do_exit", lambda *a: machine.cur.cpu.curr.comm == "forker")
        assert isinstance(probe, kprobes.Kprobe)
    stops = []
    for _ in range(10):
        k.run(s=1)
        if process.status is not None:
            break
        stack = k.stack(k.machine.cpu.curr.pid)
        stops.append(k.now)
        assert stack[0].startswith("do_exit"), stack
    with k.current() as m:
        kprobes.unregister_kprobe(m, probe)
    assert process.exitcode == 0
    assert len(stops) == probe.hits == 2  # the child, and forker itself


# ---- printk ----------------------------------------------------------------------------------------------


def test_log_of_the_kernel(k: System) -> None:
    """The log has each line with its time, the event console too; the console shows it if its level is high enough."""
    from taskscope.model.kernel import printk

    shown: list[bytes] = []
    write(k, "events/printk/console/enable", "1")
    with k.current() as m:
        printk.register_console(m, shown.append)
        printk.printk("<6>first\n<7>second\n")
        printk.printk("third without a level\n")
    lines = k.dmesg().splitlines()[-3:]
    us = k.now // 1000
    stamp = f"[{us // 1_000_000:5d}.{us % 1_000_000:06d}] "
    assert lines == [stamp + text for text in ("first", "second", "third without a level")]
    assert [line.decode().removeprefix(stamp) for line in shown] == ["first\n", "third without a level\n"]
    assert re.search(r"console: (\[.*\] )?second$", log_of(k), re.MULTILINE)


def test_log_is_a_ring(k: System) -> None:
    """The oldest lines go when the log is full."""
    from taskscope.model.kernel import printk

    with k.current() as m:
        for n in range(5000):
            printk.printk(f"<6>line {n} of many\n")
        assert m.log_buf is not None
        assert m.log_buf.size <= printk.LOG_BUF_LEN
    lines = k.dmesg().splitlines()
    assert lines[-1].endswith("line 4999 of many")
    assert "line 0 of many" not in k.dmesg()
    assert m.log_buf.first_seq > 0
