"""Schedules: all that is open is asked in one place, and a run can be repeated from the log of the answers."""

from __future__ import annotations

import ast
import contextlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taskscope
from bare import World, world
from taskscope.errors import ScheduleError, UsageError
from taskscope.model import schedule
from taskscope.model.flavours import FLAVOURS
from taskscope.model.machine import Machine
from taskscope.model.schedule import ChoiceLog, Pct, Random, Replay, Schedule
from taskscope.schedules import order

SOURCE = Path(taskscope.__file__).parent
MS = 1_000_000
DOCS = SOURCE.parents[1] / "docs" / "machine.md"
NAMES = st.one_of(
    st.integers(0, 10**6).map("seed:{}".format),
    st.tuples(st.integers(1, 9), st.integers(0, 10**6)).map(lambda pct: f"pct:{pct[0]}:{pct[1]}"),
)


#: who is asked about is the task that would be held up
HELD_UP = (schedule.DELAY, schedule.INSTRUCTION, schedule.KERNEL_IRQ, schedule.EXIT)


class Counting(Random):
    """A seed that counts what it was asked, and what it answered otherwise than usual."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.asked: Counter[str] = Counter()
        self.others: Counter[str] = Counter()

    def choose(self, n: int, what: str, who: Any = ()) -> int:
        """See `Schedule.choose`."""
        option = super().choose(n, what, who)
        assert not who or what in HELD_UP or len(who) == n
        self.asked[what] += 1
        self.others[what] += option != 0
        return option


def crowd(sys: Any) -> list[tuple[int, int]]:
    """Let eight processes on few CPUs compute, sleep, talk and die; return who was reaped with what, in order."""
    read, write = sys.pipe()

    def child(sys: Any, n: int) -> None:
        for _ in range(6):
            sys.run_for(300_000 * (1 + n % 3))
            sys.write(write, b"x")
            sys.nanosleep(MS)
        sys.exit(n)

    for n in range(8):
        sys.clone(child, n)
    got = 0
    while got < 48:
        got += len(sys.read(read, 16))
    return [tuple(sys.waitpid(-1)) for _ in range(8)]


def run(one: Schedule | None, flavour: str = "4.19-arm", cpus: int = 3, scenario: Any = crowd) -> tuple[Any, int]:
    """Run a scenario on a machine with a schedule; return its result and when it came."""
    w = World(flavour, cpus=cpus)
    w.m.schedule = one
    try:
        return w.run(scenario), w.m.now
    finally:
        w.close()


def test_every_choice_is_in_the_table() -> None:
    """The model asks for no kind of choice that the table has not, and each of the table's is asked where it says."""
    asked = set()
    for path in (SOURCE / "model").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr == "interrupt_here":
                asked.add(ast.unparse(node.args[0]).removeprefix("schedule.") if node.args else "KERNEL_IRQ")
            if node.func.attr == "choose":
                what = node.args[1]
                if path.name == "machine.py" and isinstance(what, ast.Name):
                    continue                        # the door itself
                asked.add(what.attr if isinstance(what, ast.Attribute) else ast.unparse(what))
    names = {name: value for name, value in vars(schedule).items()
             if name.isupper() and isinstance(value, str) and value in schedule.KINDS}
    assert set(names.values()) == set(schedule.KINDS)
    assert asked == set(names)


def test_the_manual_has_the_table() -> None:
    """The manual's table of choices is the table of the code."""
    rows = re.findall(r"^\| ([a-zA-Z ]+) \| `(.+)` \| (.+) \| (.+) \|$", DOCS.read_text(), re.MULTILINE)
    assert {what: rest for what, *rest in rows} == {what: [*kind[:3]] for what, kind in schedule.KINDS.items()}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_kind_is_asked_and_answered(flavour: str) -> None:
    """Among 12 seeds each kind of choice comes up and is answered otherwise than usual, in all kernels that have it."""
    asked: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for seed in range(1, 13):
        one = Counting(seed)
        run(one, flavour, 4 if seed % 2 else 2)
        asked += one.asked
        others += one.others
    # Only 4.19-arm is built to preempt.
    kinds = set(schedule.KINDS) - (set() if flavour == "4.19-arm" else {schedule.KERNEL_IRQ})
    assert set(asked) == kinds
    assert {what for what, times in others.items() if times} == kinds


def test_without_a_schedule_nobody_is_asked() -> None:
    """A machine that takes the usual way runs as one whose schedule answers with the usual one everywhere."""

    class Usual(Schedule):
        def pick(self, n: int, what: str, who: Any) -> int:
            del n, what, who
            return 0

    one = Usual("usual")
    assert run(None) == run(one)
    assert len(one.log) > 100
    assert one.log.others == []


@settings(max_examples=25, deadline=None)
@given(NAMES, st.integers(1, 4), st.sampled_from(list(FLAVOURS)))
def test_a_log_repeats_the_run(name: str, cpus: int, flavour: str) -> None:
    """What a log answers makes the same run again, whatever schedule the log is of."""
    first = order(name).schedule
    seen = run(first, flavour, cpus)
    if first is None:
        return
    again = Replay(first.name, first.log)
    assert run(again, flavour, cpus) == seen
    again.finish()
    assert again.log.others == first.log.others
    assert again.log.asked == first.log.asked


def test_seeds_and_priorities_reach_other_orders() -> None:
    """Children that die at the same time are reaped in several orders, by seeds and by priorities."""
    for make in (Random, lambda n: Pct(3, n)):
        found = {tuple(pid for pid, _ in run(make(n))[0]) for n in range(1, 15)}
        assert len(found) > 5


def test_a_log_that_does_not_fit_is_told_at_its_first_choice() -> None:
    """A run that asks for something else than its log ends there, whatever the program catches, and says where."""
    first = Random(4)
    run(first)

    def other(sys: Any) -> None:
        read, write = sys.pipe()

        def child(sys: Any) -> None:
            while True:
                with contextlib.suppress(Exception):
                    sys.write(write, b"x")
                    sys.read(read, 1)

        sys.clone(child)
        sys.waitpid(-1)

    again = Replay(first.name, first.log)
    with pytest.raises(ScheduleError, match=r"choice \d+ of the log is '.*' among \d+, the run asks for '.*' among"):
        run(again, scenario=other)
    at = len(again.log)
    assert 0 < at < len(first.log)
    assert again.log.asked == first.log.asked[:at]


def test_a_log_that_is_too_short_or_too_long_is_told() -> None:
    """A run that goes on after its log's end is refused there; one that ends before it, when it is asked."""
    first = Random(4)
    run(first)
    short = ChoiceLog(first.log.kinds, first.log.asked[:100], [x for x in first.log.others if x[0] < 100])
    with pytest.raises(ScheduleError, match="ends after 100 choices"):
        run(Replay("seed:4", short))
    long = ChoiceLog(first.log.kinds, first.log.asked + first.log.asked[:1], first.log.others)
    again = Replay("seed:4", long)
    run(again)
    with pytest.raises(ScheduleError, match="the run made"):
        again.finish()


def test_nothing_due_waits_for_ever() -> None:
    """An adversary who always takes the latest of what is due can not keep a CPU from going on."""

    class Latest(Schedule):
        def pick(self, n: int, what: str, who: Any) -> int:
            del who
            return n - 1 if what == schedule.NEXT_EVENT else 0

    def scenario(sys: Any) -> int:
        def child(sys: Any) -> None:
            sys.nanosleep(5 * MS)
            sys.kill(1, 0)
            sys.exit(0)

        def noise(sys: Any) -> None:
            while True:
                sys.getpid()

        for _ in range(2):
            sys.clone(noise)
        pid = sys.clone(child)
        sys.waitpid(pid)
        return int(sys.clock_gettime_ns())

    assert run(Latest("latest"), cpus=4, scenario=scenario)[0] < 200 * MS


def test_priorities_decide_and_fall() -> None:
    """The task of the highest priority goes on, interrupts before all; at a step of the list it falls below all."""

    class Fake:
        def __init__(self, pid: int) -> None:
            self.pid = pid
            self.mm = object()

    pct = Pct(3, 1)
    pct.changes = [5, 2]
    a, b, idle = Fake(10), Fake(11), Fake(0)
    pct.priorities = {10: 9.0, 11: 8.0}
    who: Any = (b, a)
    assert pct.choose(2, "x", who) == 1
    assert pct.choose(2, "x", (idle, b)) == 1
    assert pct.choose(3, "x", (b, None, a)) == 1     # hardware: no step
    assert pct.choose(2, "x", who) == 0              # the third step: a falls
    assert pct.choose(2, "x", who) == 0
    assert pct.choose(2, "x", who) == 0
    assert pct.priorities[10] == 1
    assert pct.choose(2, "x", who) == 1              # b falls below a
    assert pct.priorities[11] == 0
    assert Pct(1, 5).changes == []
    assert Pct(4, 5).changes == Pct(4, 5).changes != Pct(4, 6).changes


@pytest.mark.parametrize("name", ["seed:", "seed:-1", "seed:x", "pct", "pct:0", "pct:2:x", "nothing", "seed"])
def test_what_is_no_schedule_is_refused(name: str) -> None:
    """A schedule that is none is told with the forms that there are."""
    with pytest.raises(UsageError, match="seed:N, pct:DEPTH"):
        order(name)


def test_a_file_without_a_log_is_refused(tmp_path: Path) -> None:
    """A file that is no recording of the machine is told."""
    path = tmp_path / "x.dat"
    path.write_bytes(b"no log" * 10)
    for name in (str(path), f"file:{path}"):
        with pytest.raises(ScheduleError, match="has no choice log"):
            order(name)
    with pytest.raises(ScheduleError, match="No such file"):
        order(f"file:{path}.not")


def saved(path: Path, name: str, **options: Any) -> bytes:
    """Record a small run; return the file."""
    with taskscope.boot(schedule=name, **options) as k:
        k.trace()
        k.run(until=k.spawn("bash", "-c", "whoami | cat; sleep 1"))
        k.check_schedule()
        k.save(path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["seed:0", "seed:9", "pct:3:2"])
def test_a_recording_repeats_its_run_to_the_byte(tmp_path: Path, name: str) -> None:
    """A run from a recording's log makes the same file, log and saved tasks too; another machine is refused."""
    first = saved(tmp_path / "a.dat", name, cpus=3)
    assert saved(tmp_path / "b.dat", f"file:{tmp_path}/a.dat", cpus=3) == first
    assert saved(tmp_path / "c.dat", str(tmp_path / "b.dat"), cpus=3) == first
    with pytest.raises(UsageError, match="of a machine with cpus 3, this one has 2"):
        taskscope.boot(schedule=str(tmp_path / "a.dat"), cpus=2)
    with pytest.raises(UsageError, match="not both"):
        taskscope.boot(schedule=name, seed=4)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_damaged_log_is_told_or_whole(data: st.DataObject) -> None:
    """Bytes of a log that are changed are noticed: no exception but our own comes of them."""
    import tempfile

    from taskscope.schedules import append_choices, read_choices

    flavour = FLAVOURS["4.19-arm"]
    m = Machine(flavour, 1, 100, 5, 1 << 20)
    m.bare = True
    for n in range(40):
        m.choose(2 + n % 3, schedule.NEXT_TASK)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/x.dat"
        append_choices(path, m)
        good = Path(path).read_bytes()
        assert m.schedule is not None
        whole = read_choices(path).schedule
        assert isinstance(whole, Replay)
        assert whole.source.others == m.schedule.log.others
        bad = bytearray(good)
        for _ in range(data.draw(st.integers(1, 3))):
            bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(bad)))
        Path(path).write_bytes(bad if data.draw(st.booleans()) else bad[:cut])
        with contextlib.suppress(ScheduleError):
            read_choices(path)
    m.close()


def test_world_is_used_with_a_seed() -> None:
    """A machine made with a seed has that seed's schedule."""
    with world(cpus=2, seed=5) as one:
        one.run(crowd)
        assert one.m.schedule is not None
        assert one.m.schedule.name == "seed:5"
        assert len(one.m.schedule.log) > 100
