"""A booted machine is watched: what its tracing says is what happened on it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import taskscope
from taskscope.model.include.linux.tracepoint import Tracepoints, tracepoint_probe_register
from taskscope.model.kernel.trace import tracefs
from taskscope.system import System
from watched import DATA, read_back

FLAVOURS = ("4.19-arm", "6.1-x86_64", "6.18-x86_64")


@pytest.fixture(params=FLAVOURS)
def k(request: pytest.FixtureRequest) -> Iterator[System]:
    """Give a booted machine of each flavour."""
    with taskscope.boot(cpus=2, flavour=request.param) as system:
        yield system


@pytest.fixture
def arm() -> Iterator[System]:
    """Give the Raspberry Pi."""
    with taskscope.boot(cpus=2, flavour="4.19-arm") as system:
        yield system


def family(sys: Any, argv: list[str]) -> int:
    """Fork three children, which sleep, compute, and are killed; wait for them."""
    del argv
    sleeper = sys.fork()
    if sleeper == 0:
        sys.sleep(1)
        sys._exit(7)
    killed = sys.fork()
    if killed == 0:
        sys.pause()
    sys.usleep(300_000)
    sys.kill(killed, 9)
    for _ in range(2):
        sys.wait()
    return 0


def tracefs_write(k: System, path: str, text: str, append: bool = False) -> int:
    """Write to a file of tracefs; return what write(2) does."""
    with k.current() as m:
        return tracefs.tracefs_write(m, path, text.encode(), append)


def tracefs_read(k: System, path: str) -> str:
    """Read a file of tracefs."""
    with k.current() as m:
        data = tracefs.tracefs_read(m, path)
    assert isinstance(data, bytes), data
    return data.decode()


def run_family(k: System) -> int:
    """Run `family` to its end, and a little longer; return its pid."""
    process = k.spawn(family, name="family")
    assert process.wait(s=60) == 0
    k.run(s=0.2)
    assert process.pid is not None
    return process.pid


# ---- the log is what happened ----------------------------------------------------------------------------


def test_pages_hold_what_was_traced(k: System, tmp_path: Path) -> None:
    """Every call of a tracepoint is a record with its time, its CPU and its values, and there is no other record."""
    k.trace(
        "sched:sched_switch",
        "sched:sched_wakeup",
        "sched:sched_process_fork",
        "task:task_newtask",
        "signal:*",
        "sched:sched_process_exec",
        "sched:sched_migrate_task",
    )
    m = k.machine
    seen: list[tuple[Any, ...]] = []

    def note(name: str, *args: Any) -> None:
        seen.append((m.now, m.cpu.id, name, *args))

    def on_switch(_: Any, preempt: bool, prev: Any, next: Any) -> None:
        note("sched_switch", prev.comm, prev.pid, prev.prio, next.comm, next.pid, next.prio)

    def on_wakeup(_: Any, p: Any) -> None:
        note("sched_wakeup", p.comm, p.pid, p.prio, p.thread_info.cpu)

    def on_fork(_: Any, parent: Any, child: Any) -> None:
        note("sched_process_fork", parent.comm, parent.pid, child.comm, child.pid)

    def on_newtask(_: Any, task: Any, flags: int) -> None:
        note("task_newtask", task.pid, task.comm, flags)

    def on_generate(_: Any, sig: int, info: Any, task: Any, group: int, result: int) -> None:
        note("signal_generate", sig, task.comm, task.pid, int(group), result)

    def on_exec(_: Any, p: Any, old_pid: int, bprm: Any) -> None:
        note("sched_process_exec", bprm.filename, p.pid, old_pid)

    def on_migrate(_: Any, p: Any, cpu: int) -> None:
        note("sched_migrate_task", p.comm, p.pid, p.prio, p.thread_info.cpu, cpu)

    for name, probe in (
        ("sched_switch", on_switch),
        ("sched_wakeup", on_wakeup),
        ("sched_process_fork", on_fork),
        ("task_newtask", on_newtask),
        ("signal_generate", on_generate),
        ("sched_process_exec", on_exec),
        ("sched_migrate_task", on_migrate),
    ):
        tracepoint_probe_register(m.tp, name, probe, None)
    run_family(k)
    with k.current():
        trace = read_back(m, tmp_path)
    assert not trace.notes
    assert not trace.lost
    fields = {
        "sched_switch": ("prev_comm", "prev_pid", "prev_prio", "next_comm", "next_pid", "next_prio"),
        "sched_wakeup": ("comm", "pid", "prio", "target_cpu"),
        "sched_process_fork": ("parent_comm", "parent_pid", "child_comm", "child_pid"),
        "task_newtask": ("pid", "comm", "clone_flags"),
        "signal_generate": ("sig", "comm", "pid", "group", "result"),
        "sched_process_exec": ("filename", "pid", "old_pid"),
        "sched_migrate_task": ("comm", "pid", "prio", "orig_cpu", "dest_cpu"),
    }
    read = []
    for name, names in fields.items():
        rows = trace.rows(name)
        columns = [
            [
                v.decode().rstrip("\0") if isinstance(v, bytes) else v
                for v in (c.tolist() if hasattr(c, "tolist") else list(c))
            ]
            for c in (trace.column(name, f, rows) for f in names)
        ]
        read += list(zip(trace.ts(rows).tolist(), trace.cpu(rows).tolist(), [name] * len(rows), *columns, strict=True))
    assert len(seen) > 30
    assert sorted(read, key=repr) == sorted(seen, key=repr)
    assert len(trace) == len(read) + len(trace.rows("signal_deliver"))


def test_text_equals_reader(k: System, tmp_path: Path) -> None:
    """The file trace shows the same lines as our reader makes of the machine's pages."""
    assert tracefs_write(k, "saved_cmdlines_size", "1000") > 0
    for system in ("sched", "task", "signal", "raw_syscalls", "irq", "syscalls", "timer", "printk"):
        assert tracefs_write(k, f"events/{system}/enable", "1") > 0
    names = "do_exit _do_fork" if k.machine.flavour.arch == "arm" else "do_exit kernel_clone"
    assert tracefs_write(k, "set_ftrace_filter", names) > 0
    assert tracefs_write(k, "current_tracer", "function") > 0
    assert tracefs_write(k, "options/func_stack_trace", "1") > 0
    run_family(k)
    text = tracefs_read(k, "trace")
    k.save(str(tmp_path / "trace.dat"))
    theirs = b"".join(taskscope.open(tmp_path / "trace.dat").report()).decode()
    ours = [line for line in text.splitlines() if not line.startswith("#")]
    if k.machine.flavour.version < (5, 12):
        # The reader gives a pid the seven places of newer kernels.
        ours = [re.sub(r"(-\d+) *\[", r"\1 [", line) for line in ours]
        theirs = re.sub(r"(-\d+) *\[", r"\1 [", theirs)
    assert len(ours) > 200
    for mine, other in zip(ours, theirs.splitlines(), strict=True):
        assert mine == other


def test_header_of_real_files() -> None:
    """The lines above the log are those that real kernels print."""
    real = (DATA / "d70-host618-kill9-stack" / "trace.txt").read_text().splitlines()[3:12]
    with taskscope.boot(cpus=2, flavour="6.18-x86_64") as k:
        assert tracefs_read(k, "trace").splitlines()[3:] == real
        tracefs_write(k, "options/record-tgid", "1")
        assert (
            "#           TASK-PID       TGID    CPU#  |||||  TIMESTAMP  FUNCTION"
            in tracefs_read(k, "trace").splitlines()
        )
    with taskscope.boot(cpus=1, flavour="4.19-arm") as k:
        assert tracefs_read(k, "trace").splitlines()[:2] == ["# tracer: nop", "#"]
        assert tracefs_read(k, "trace").splitlines()[3:] == [
            "#",
            "#                              _-----=> irqs-off",
            "#                             / _----=> need-resched",
            "#                            | / _---=> hardirq/softirq",
            "#                            || / _--=> preempt-depth",
            "#                            ||| /     delay",
            "#           TASK-PID   CPU#  ||||    TIMESTAMP  FUNCTION",
            "#              | |       |   ||||       |         |",
        ]


@pytest.mark.tracecmd
@pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed")
def test_opened_by_trace_cmd(k: System, tmp_path: Path) -> None:
    """What trace-cmd report reads of a saved machine are as many events of each kind as our reader finds."""
    k.trace()
    tracefs_write(k, "set_ftrace_filter", "do_exit")
    tracefs_write(k, "current_tracer", "function")
    tracefs_write(k, "options/func_stack_trace", "1")
    pid = run_family(k)
    k.save(str(tmp_path / "trace.dat"))
    out = subprocess.run(
        ["trace-cmd", "report", str(tmp_path / "trace.dat")], capture_output=True, text=True, timeout=60, check=True
    )
    counts: dict[str, int] = {}
    for name in re.findall(r"^ *.{1,16}-\d+ +\[\d{3}\] +[\d.]+: (\w+):", out.stdout, re.MULTILINE):
        counts[name] = counts.get(name, 0) + 1
    recording = taskscope.open(tmp_path / "trace.dat")
    assert counts == {name.rpartition(":")[2]: n for name, n in recording.counts.items() if n}
    assert re.search(r"function: +do_exit$", out.stdout, re.MULTILINE)
    for row in recording.rows("kernel_stack").tolist():
        frames = recording.source.frames(row)
        assert frames[0] == "do_exit"
        assert len(frames) >= 3
    assert "do_group_exit → do_exit" in str(recording.life(pid))
    assert not recording.notes
    assert not out.stderr.replace("\n", "") or "warning" not in out.stderr.lower()


def test_same_seed_same_bytes() -> None:
    """Two machines with the same seed write the same pages."""
    pages = []
    for _ in range(2):
        with taskscope.boot(cpus=2, seed=5) as k:
            k.trace()
            run_family(k)
            with k.current() as m:
                from taskscope.model.kernel.trace.extract import tracing_extract

                pages.append(tracing_extract(m).buffers[0].pages)
    assert pages[0] == pages[1]


# ---- tracefs ---------------------------------------------------------------------------------------------

SET_FTRACE = """\
echo 0 > /sys/kernel/debug/tracing/tracing_on
echo 0 > /sys/kernel/debug/tracing/events/enable
echo secondary_start_kernel > /sys/kernel/debug/tracing/set_ftrace_filter
echo function > /sys/kernel/debug/tracing/current_tracer
echo sys_clone do_exit > /sys/kernel/debug/tracing/set_ftrace_filter
echo _do_fork copy_process* >> /sys/kernel/debug/tracing/set_ftrace_filter
echo 1 > /sys/kernel/debug/tracing/events/sched/sched_switch/enable
echo 1 > /sys/kernel/debug/tracing/events/sched/sched_process_fork/enable
echo 1 > /sys/kernel/debug/tracing/events/sched/sched_process_exit/enable
echo 1 > /sys/kernel/debug/tracing/events/signal/enable
echo 1 > /sys/kernel/debug/tracing/options/func_stack_trace
echo 1 > /sys/kernel/debug/tracing/options/sym-offset
echo 1 > /sys/kernel/debug/tracing/tracing_on
"""


def test_set_ftrace_sh_line_by_line(arm: System) -> None:
    """The lines of the notes' set_ftrace.sh, typed on the machine's shell, set what they set on a Raspberry Pi."""
    terminal = arm.terminal()
    for line in SET_FTRACE.splitlines():
        assert terminal.type(line).splitlines()[1:] == ["$ "], line
    assert tracefs_read(arm, "set_ftrace_filter").split() == ["do_exit", "_do_fork", "sys_clone", "copy_process.part.5"]
    assert tracefs_read(arm, "current_tracer") == "function\n"
    terminal.type("whoami")
    terminal.type("echo 0 > /sys/kernel/debug/tracing/tracing_on")
    terminal.type("cp /sys/kernel/debug/tracing/trace ftrace_log.c")
    log = arm.read("/root" + "/ftrace_log.c").decode()
    stack = re.search(
        r"copy_process\.part\.5\+0x14/0x\w+ <-_do_fork\+0x\w+/0x\w+\n.*<stack trace>\n"
        r" => copy_process\.part\.5\+0x18/0x\w+\n => _do_fork\+0x\w+/0x\w+\n => sys_clone\+0x\w+/0x\w+\n"
        r" => ret_fast_syscall\+0x0/0x28\n",
        log,
    )
    assert stack is not None
    assert "child_comm=bash" in log
    assert re.search(r"whoami-\d+ +\[00\d\] \.\.\.\. +[\d.]+: do_exit\+0x14/", log)
    assert "sig=17" in log


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("echo 1 > /sys/kernel/debug/tracing/events/sched/sched_fork/enable", "No such file or directory"),
        ("echo copy_proess* > /sys/kernel/debug/tracing/set_ftrace_filter", "Invalid argument"),
        ("echo 2 > /sys/kernel/debug/tracing/events/sched/enable", "Invalid argument"),
        ("echo wakeup > /sys/kernel/debug/tracing/current_tracer", "Invalid argument"),
        ("echo 1 > /sys/kernel/debug/tracing/no_such_file", "Permission denied"),
    ],
)
def test_mistakes_of_the_shell(arm: System, line: str, words: str) -> None:
    """What a kernel refuses, the machine refuses with the same error: the event sched_fork of the notes too."""
    assert words in arm.terminal().type(line)


def test_trace_of_instances(k: System, tmp_path: Path) -> None:
    """An instance has events and pages of its own, which leave with the recording."""
    k.terminal().type("mkdir /sys/kernel/tracing/instances/tasks")
    assert tracefs_write(k, "instances/tasks/events/task/enable", "1") == 1
    assert tracefs_write(k, "events/sched/sched_process_exit/enable", "1") == 1
    run_family(k)
    with k.current() as m:
        trace = read_back(m, tmp_path)
    names = {b.name: i for i, b in enumerate(trace.source.recorded.buffers)}  # type: ignore[attr-defined]
    assert set(names) == {"", "tasks"}
    of_tasks = trace.rows("task_newtask")
    assert set(trace.source.index.buffer[of_tasks].tolist()) == {names["tasks"]}  # type: ignore[attr-defined]
    assert len(trace.rows("sched_process_exit"))


def test_empty_and_refill(k: System) -> None:
    """``echo > trace`` empties the log; stats and tracing_on say what is in it and whether more comes."""
    k.trace()
    run_family(k)
    assert tracefs_read(k, "trace").count("\n") > 50
    k.terminal().type("echo > /sys/kernel/tracing/trace")
    tracefs_write(k, "tracing_on", "0")
    tracefs_write(k, "trace", "")
    assert "entries: 0\n" in tracefs_read(k, "per_cpu/cpu0/stats")
    run_family(k)
    assert all(line.startswith("#") for line in tracefs_read(k, "trace").splitlines())


def test_trace_pipe_takes_and_tells_losses(k: System) -> None:
    """trace_pipe gives each record once and tells how many were overwritten before."""
    tracefs_write(k, "buffer_size_kb", "8")
    k.trace()
    for _ in range(4):
        run_family(k)
    lost = sum(b.overrun for b in k.machine.ftrace_trace_arrays[0].buffers)
    text = tracefs_read(k, "trace_pipe")
    told = [int(n) for n in re.findall(r"^CPU:\d+ \[LOST (\d+) EVENTS\]$", text, re.MULTILINE)]
    assert lost > 0
    assert sum(told) == lost
    assert tracefs_read(k, "trace_pipe") == ""


def test_small_ring_is_a_gap(k: System, tmp_path: Path) -> None:
    """What a small ring has overwritten is a gap of the recording, with the right number of events."""
    tracefs_write(k, "buffer_size_kb", "8")
    k.trace()
    for _ in range(4):
        run_family(k)
    with k.current() as m:
        overrun = {b.cpu: b.overrun for b in m.ftrace_trace_arrays[0].buffers if b.overrun}
        trace = read_back(m, tmp_path)
    assert {g.cpu: g.count for g in trace.lost} == overrun


def test_marker_and_pid_filter(k: System) -> None:
    """trace_marker writes into the log; set_event_pid with event-fork records a task and its children alone."""
    terminal = k.terminal()
    shell = terminal.process.pid
    terminal.type(f"echo {shell} > /sys/kernel/tracing/set_event_pid")
    terminal.type("echo 1 > /sys/kernel/tracing/options/event-fork")
    terminal.type("echo 1 > /sys/kernel/tracing/events/enable")
    terminal.type("echo here I am > /sys/kernel/tracing/trace_marker")
    terminal.type("whoami")
    run_family(k)
    text = tracefs_read(k, "trace")
    assert re.search(r": tracing_mark_write: here I am\n", text)
    assert "comm=family" not in text
    assert "whoami" in text
    children = {shell} | {int(n) for n in re.findall(r"sched_process_fork: .*child_pid=(\d+)", text)}
    for line in text.splitlines():
        found = re.match(r" *(.{1,16})-(\d+) ", line)
        if found and "sched_switch" not in line and "sched_wak" not in line:
            assert int(found[2]) in children, line


# ---- filters and triggers at work ------------------------------------------------------------------------


def test_filter_lets_through(k: System, tmp_path: Path) -> None:
    """A filter lets only records through that it is true for."""
    tracefs_write(k, "events/sched/sched_switch/filter", 'prev_comm == "family" || next_comm ~ "fam*"')
    k.trace("sched:sched_switch")
    run_family(k)
    with k.current() as m:
        trace = read_back(m, tmp_path)
    rows = trace.rows("sched_switch")
    assert len(rows) > 5
    prev = [str(v) for v in trace.column("sched_switch", "prev_comm", rows)]
    next_ = [str(v) for v in trace.column("sched_switch", "next_comm", rows)]
    assert all("family" in p or "family" in n for p, n in zip(prev, next_, strict=True))


def test_stacktrace_trigger_with_condition(k: System) -> None:
    """A stacktrace trigger writes the stack at the events that its condition holds for, though the event is off."""
    assert tracefs_write(k, "events/signal/signal_generate/trigger", "stacktrace if sig == 9") > 0
    assert tracefs_read(k, "events/signal/signal_generate/trigger") == "stacktrace:unlimited if sig == 9\n"
    assert tracefs_read(k, "events/signal/signal_generate/enable") == "0*\n"
    run_family(k)
    text = tracefs_read(k, "trace")
    stacks = text.split("<stack trace>\n")[1:]
    assert len(stacks) == 1
    frames = [line[4:] for line in stacks[0].splitlines() if line.startswith(" => ")]
    assert any(f.endswith("sys_kill") for f in frames)
    assert "signal_generate" not in text.replace("trace_event_raw_event_signal_generate", "")
    assert tracefs_write(k, "events/signal/signal_generate/trigger", "!stacktrace", append=True) > 0
    assert tracefs_read(k, "events/signal/signal_generate/enable") == "0\n"


def test_triggers_that_switch(k: System) -> None:
    """Traceoff stops the log at an event, and enable_event lets another event through from then on; counts count."""
    assert (
        tracefs_write(k, "events/signal/signal_generate/trigger", "enable_event:sched:sched_process_exit:1 if sig == 9")
        > 0
    )
    assert tracefs_write(k, "events/sched/sched_process_fork/trigger", "stacktrace:2") > 0
    k.trace("sched:sched_process_fork")
    run_family(k)
    text = tracefs_read(k, "trace")
    assert text.count("<stack trace>") == 2
    assert text.count("sched_process_exit:") >= 2
    tracefs_write(k, "events/sched/sched_process_fork/trigger", "traceoff", append=True)
    run_family(k)
    assert tracefs_read(k, "tracing_on") == "0\n"


@pytest.mark.parametrize(
    "text", ["nonsense", "stacktrace if prev_pid == 1", "stacktrace:x", "enable_event:sched:nothing", "stacktrace junk"]
)
def test_wrong_triggers(arm: System, text: str) -> None:
    """A trigger that the kernel would refuse is refused."""
    assert tracefs_write(arm, "events/signal/signal_generate/trigger", text) == -22


# ---- off is off ------------------------------------------------------------------------------------------


def test_off_leaves_nothing(arm: System) -> None:
    """All switched on and off again, every tracepoint is empty and every function has its own code."""
    from taskscope.model.kernel import kallsyms

    with arm.current() as m:
        table = kallsyms.kallsyms(m)
        before = [(s.function, s.function.__code__) for s in table.symbols if s.function is not None]
    for path, on in (("events/enable", "1"), ("current_tracer", "function"), ("options/record-tgid", "1")):
        assert tracefs_write(arm, path, on) > 0
    assert sum(f.__code__ is not code for f, code in before) > 500
    run_family(arm)
    for path, off in (("events/enable", "0"), ("current_tracer", "nop"), ("options/record-tgid", "0")):
        assert tracefs_write(arm, path, off) > 0
    assert all(f.__code__ is code and "__ftrace__" not in f.__dict__ for f, code in before)
    assert all(getattr(arm.machine.tp, name) == () for name in Tracepoints.__slots__)


def test_cat_trace_pipe_waits(arm: System) -> None:
    """``cat trace_pipe`` waits for records, prints them as they come, and ends with ^C."""
    terminal = arm.terminal()
    line = "cat /sys/kernel/tracing/trace_pipe"
    assert terminal.type(line, 0.5).splitlines() == [line]
    arm.trace("sched:sched_process_exit")
    run_family(arm)
    arm.run(s=0.5)
    assert "comm=family" in terminal.text
    terminal.keys("\x03")
    assert terminal.type("echo over").splitlines()[1] == "over"


def test_interrupts_and_timers(arm: System, tmp_path: Path) -> None:
    """The timer's interrupt is recorded around its handler, and the hrtimer that it finds expired inside of it."""
    for path in ("irq/irq_handler_entry", "irq/irq_handler_exit", "timer/hrtimer_expire_entry"):
        assert tracefs_write(arm, f"events/{path}/enable", "1") == 1
    run_family(arm)
    text = [line for line in tracefs_read(arm, "trace").splitlines() if "[000]" in line]
    inside = False
    expired = 0
    for line in text:
        if "irq_handler_entry" in line:
            assert re.search(r" d.h\d .*irq=\d+ name=\w+", line)
            inside = True
        elif "irq_handler_exit" in line:
            assert "ret=handled" in line
            inside = False
        else:
            assert inside
            expired += "function=hrtimer_wakeup" in line
    assert expired


def test_clocks(arm: System) -> None:
    """Another clock empties the log; ``counter`` counts records, ``uptime`` moves with the tick."""
    arm.trace("sched:sched_switch")
    run_family(arm)
    assert tracefs_write(arm, "trace_clock", "counter") > 0
    assert "[counter]" in tracefs_read(arm, "trace_clock")
    assert all(line.startswith("#") for line in tracefs_read(arm, "trace").splitlines())
    run_family(arm)
    stamps = [int(n) for n in re.findall(r" (\d+): sched_switch:", tracefs_read(arm, "trace"))]
    assert stamps == list(range(stamps[0], stamps[0] + len(stamps)))
    assert tracefs_write(arm, "trace_clock", "uptime") > 0
    run_family(arm)
    assert {t[-4:] for t in re.findall(r" \d+\.(\d{6}): sched_switch:", tracefs_read(arm, "trace"))} == {"0000"}
    assert tracefs_write(arm, "trace_clock", "sundial") == -22


def test_options(arm: System) -> None:
    """Options have their effect by either of their files, and what is not modelled is refused."""
    tracefs_write(arm, "events/sched/sched_process_exit/enable", "1")
    run_family(arm)
    assert tracefs_write(arm, "trace_options", "nocontext-info") > 0
    assert tracefs_read(arm, "options/context-info") == "0\n"
    assert tracefs_read(arm, "trace").splitlines()[-1].startswith("sched_process_exit: comm=")
    assert tracefs_write(arm, "options/context-info", "1") > 0
    assert tracefs_write(arm, "options/irq-info", "0") > 0
    assert re.search(r"family-\d+ +\[00\d\]  +\d+\.\d{6}: sched_process_exit", tracefs_read(arm, "trace"))
    assert "noirq-info" in tracefs_read(arm, "trace_options").split()
    for text in ("hex", "no_such_option", "latency-format"):
        assert tracefs_write(arm, "trace_options", text) == -22


def test_functions_of_one_task(arm: System) -> None:
    """set_ftrace_pid traces the functions of a task, and with function-fork those of its children."""
    terminal = arm.terminal()
    shell = terminal.process.pid
    assert shell is not None
    tracefs_write(arm, "set_ftrace_filter", "do_exit")
    tracefs_write(arm, "set_ftrace_pid", str(shell))
    tracefs_write(arm, "current_tracer", "function")
    terminal.type("whoami")
    run_family(arm)
    assert "do_exit" not in tracefs_read(arm, "trace")
    tracefs_write(arm, "options/function-fork", "1")
    terminal.type("whoami")
    run_family(arm)
    assert re.findall(r"^ *(\S+)-\d+ .*: do_exit <-", tracefs_read(arm, "trace"), re.MULTILINE) == ["whoami"]


@pytest.mark.tracecmd
@pytest.mark.skipif(shutil.which("trace-cmd") is None, reason="trace-cmd is not installed")
def test_losses_in_trace_cmd(arm: System, tmp_path: Path) -> None:
    """trace-cmd report tells the same losses of a small ring as the ring's own counts."""
    tracefs_write(arm, "buffer_size_kb", "8")
    arm.trace()
    for _ in range(4):
        run_family(arm)
    arm.save(str(tmp_path / "trace.dat"))
    command = ["trace-cmd", "report", str(tmp_path / "trace.dat")]
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    told = {int(cpu): int(n) for cpu, n in re.findall(r"CPU:(\d+) \[(\d+) EVENTS DROPPED\]", out.stdout)}
    buffers = arm.machine.ftrace_trace_arrays[0].buffers
    assert told == {b.cpu: b.overrun for b in buffers if b.overrun}
