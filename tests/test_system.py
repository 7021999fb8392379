"""A machine from outside: `taskscope.boot` and what can be done with it."""

from __future__ import annotations

import gc
import shutil
import subprocess
import weakref

import pytest

import taskscope
from taskscope.errors import NoSuchTaskError, UsageError
from taskscope.snapshot.decode import snapshot
from taskscope.views.ps import ps_table
from taskscope.views.task import stack_lines, task_json, task_lines


@pytest.fixture
def k():
    with taskscope.boot(cpus=2) as machine:
        yield machine


def hello(sys, argv):
    sys.puts("hello " + " ".join(argv[1:]))
    return 3


def test_spawn(k):
    """A function runs as a program of the machine: its output, its exit code, its pid."""
    process = k.spawn(hello, "you")
    assert process.pid is None
    assert process.wait() == 3
    assert process.text == "hello you\n"
    assert process.pid is not None
    assert process.pid > 2


def test_unknown_program(k):
    """A program that is not there is an error that lists those that are."""
    with pytest.raises(UsageError, match="raspbian_proc"):
        k.spawn("rasbian_proc")


@pytest.mark.parametrize("options", [{"cpus": 0}, {"cpus": 65}, {"flavour": "2.4-sparc"}, {"hz": 17}])
def test_bad_machines(options):
    """A machine that cannot be is an error of the caller."""
    with pytest.raises(UsageError):
        taskscope.boot(**options)


def test_run_needs_an_end(k):
    """run() is told when to stop."""
    with pytest.raises(UsageError, match="s=, ns= or until="):
        k.run()
    before = k.now
    k.run(s=0.25)
    assert k.now - before == 250_000_000


def test_step(k):
    """A step lets the next thing happen that is due, and no more."""
    k.spawn("sleep", "1")
    times = []
    for _ in range(5):
        k.step()
        times.append(k.now)
    assert times == sorted(times)
    assert times[-1] - times[0] < 1_000_000_000


def test_stop_in_a_function(k):
    """run(until=NAME) stops inside of the kernel: stacks can be read, and the machine goes on from there."""
    process = k.spawn(hello)
    k.run(until="do_exit")
    assert k.running().comm == "hello"
    assert k.find(process.pid).exit_state == 0
    detail = k.task(process.pid)
    assert detail.row.comm == "hello"
    assert process.wait() == 3


def test_stop_at_an_event(k):
    """run(until=EVENT) stops where the event is traced."""
    k.spawn(hello)
    k.run(until="sched_process_fork")
    assert k.running().comm == "init"


def test_a_place_that_does_not_exist(k):
    """A function or event that the kernel has not is an error, and so is one that is not reached."""
    with pytest.raises(UsageError, match="no function and no event"):
        k.run(until="copy_proces", s=0.1)
    with pytest.raises(UsageError, match="was not reached"):
        k.run(until="copy_process", s=0.1)


def test_probe_with_condition(k):
    """A probe is called with the function's arguments, only when its condition holds, and not after its block."""
    seen = []
    with k.probe("sys_write", lambda fd, buf, count: seen.append((fd, count)), when=lambda fd, *_: fd == 1):
        k.spawn(hello).wait()
    assert seen == [(1, 7)]
    k.spawn(hello).wait()
    assert len(seen) == 1


def test_snapshot_and_detail(k):
    """ps() and task() read the same descriptors that /proc shows."""
    process = k.spawn("sleep", "5")
    k.run(s=0.1)
    rows = {t.pid: t for t in k.ps().tasks if t.pid}
    row = rows[process.pid]
    assert (row.comm, row.state, row.ppid, row.wchan, row.kind) == ("sleep", "S", 1, "hrtimer_nanosleep", "process")
    table = list(ps_table(k.ps()))
    assert any(line.endswith(" sleep") for line in table)
    stat = k.read(f"/proc/{process.pid}/stat").decode().rsplit(") ", 1)[1].split()
    detail = k.task(process.pid)
    assert [int(n) for n in (stat[1], stat[2], stat[3])] == [
        detail.members["real_parent.pid"],
        detail.members["PGID"],
        detail.members["SID"],
    ]
    assert int(stat[6]) == detail.members["flags"]
    assert "TASK_INTERRUPTIBLE" in "\n".join(task_lines(detail))
    assert any("hrtimer_nanosleep" in line for line in stack_lines(detail))
    assert b'"comm":"sleep"' in task_json(detail).replace(b'": ', b'":')
    with pytest.raises(NoSuchTaskError):
        k.task(9999)


def test_looking_takes_no_time(k):
    """Looking at the machine changes neither its clock nor what it does next."""

    def run(look):
        with taskscope.boot(seed=3) as m:
            process = m.spawn("bash", "-c", "sleep 1 & sleep 2; kill $!")
            for _ in range(20):
                m.run(s=0.1)
                if look:
                    m.ps()
                    m.task(1)
                    m.read("/proc/1/status")
            return m.now, process.status, m.read("/proc/stat")

    assert run(True) == run(False)


def test_two_machines(k):
    """Machines do not know of each other."""
    with taskscope.boot(cpus=1, flavour="6.1-x86_64") as other:
        first, second = k.spawn("uname", "-r"), other.spawn("uname", "-r")
        k.run(s=0.1)
        other.run(s=0.2)
        k.run(s=0.1)
        assert first.text.startswith("4.19")
        assert second.text.startswith("6.1")


def test_close_leaves_nothing():
    """A closed machine is garbage: no stack, no task, no patch keeps it."""
    k = taskscope.boot(cpus=2)
    k.trace()
    k.spawn("sleep", "100")
    k.run(s=0.5)
    machine = weakref.ref(k.machine)
    k.close()
    k.close()
    del k
    gc.collect()
    assert machine() is None


def test_files_from_outside(k):
    """read() and write() reach the machine's files, with the errors that they give inside."""
    k.write("/tmp/x", "one\n")
    k.write("/tmp/x", "two\n", append=True)
    assert k.read("/tmp/x") == b"one\ntwo\n"
    with pytest.raises(FileNotFoundError):
        k.read("/nosuch")
    with pytest.raises(OSError, match="Invalid argument"):
        k.write("/proc/sys/kernel/pid_max", "3")


def test_recording(k, tmp_path):
    """What was traced is a recording like any other; saved, trace-cmd's format holds it."""
    k.trace()
    process = k.spawn("bash", "-c", "raspbian_proc & sleep 5; kill -9 $!")
    process.wait()
    k.run(s=0.1)
    recording = k.recording()
    life = next(x for x in recording.lives if x.comm == "raspbian_proc")
    assert life.exit.signal == 9
    assert life.born.by.pid == process.pid
    k.save(tmp_path / "trace.dat")
    again = taskscope.open(tmp_path / "trace.dat")
    assert [(x.born, x.exit, x.time) for x in again.lives if x.comm == "raspbian_proc"] == [
        (life.born, life.exit, life.time)
    ]


@pytest.mark.tracecmd
def test_trace_cmd_reads_it(k, tmp_path):
    """`trace-cmd report` prints as many lines as the recording has events."""
    if shutil.which("trace-cmd") is None:
        pytest.skip("trace-cmd is not installed")
    k.trace()
    k.spawn("bash", "-c", "whoami; ls /bin").wait()
    path = tmp_path / "trace.dat"
    k.save(path)
    done = subprocess.run(["trace-cmd", "report", path], capture_output=True, text=True, check=True, timeout=60)
    events = [line for line in done.stdout.splitlines() if "]" in line]
    assert len(events) == len(taskscope.open(path))


def test_decoder_asks_the_memory_alone(k):
    """The decoder reads every task through `Memory`, so that a kernel's memory can stand in."""
    from taskscope.model.memory import ModelMemory

    class Counting(ModelMemory):
        asked = 0

        def number(self, obj, path):
            Counting.asked += 1
            return super().number(obj, path)

    with k.current():
        rows = snapshot(Counting(k.machine)).tasks
    assert Counting.asked > 10 * len(rows)
