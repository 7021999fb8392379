"""What a task was doing: states between events, preemption, wakers, equal time stamps, old kernels."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from world import FORK, IDLE0, IDLE1, VFORK, World

Make = Callable[..., World]
BASH = ("bash", 100)
KID = ("kid", 200)
INIT = ("init", 1)


def base(world: Make) -> World:
    """Let the shell run on cpu 0 from 0 on, its child on cpu 1 from 20 on."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID)
    w.switch(20, 1, "R", KID)
    return w


@pytest.mark.parametrize(
    ("letter", "state"),
    [
        ("S", "sleeping"),
        ("D", "blocked"),
        ("T", "stopped"),
        ("t", "traced"),
        ("P", "parked"),
        ("I", "idle"),
        ("R", "runnable"),
        ("R+", "runnable"),
    ],
)
def test_the_letter_of_the_switch_is_the_state(world: Make, letter: str, state: str) -> None:
    """prev_state says what a task does from its switch-out to its wakeup or switch-in."""
    w = base(world)
    w.switch(30, 1, letter, IDLE1)
    if state != "runnable":
        w.waking(80, 0, KID)
        w.wakeup(81, 0, KID)
    w.switch(90, 1, "R", KID)
    w.switch(95, 1, letter, IDLE1)
    life = w.lives()(200)
    expected = dict.fromkeys(life["time"], 0) | {"running": 15_000, "runnable": 10_000}
    expected[state] += 51_000 if state != "runnable" else 60_000
    if state != "runnable":
        expected["runnable"] += 9_000
    assert life["time"] == expected


def test_preemption_is_involuntary(world: Make) -> None:
    """R and R+ count as involuntary switches, any sleep as voluntary, as nivcsw and nvcsw do."""
    w = base(world)
    for k, letter in enumerate(("R+", "S", "R", "D", "R+")):
        w.switch(100 * k + 30, 1, letter, IDLE1)
        if letter in "SD":
            w.wakeup(100 * k + 60, 0, KID)
        w.switch(100 * k + 90, 1, "R", KID)
    life = w.lives()(200)
    assert life["switches"] == {"voluntary": 2, "involuntary": 3}
    assert life["time"]["runnable"] == 10_000 + 3 * 60_000 + 2 * 30_000
    assert life["time"]["sleeping"] == life["time"]["blocked"] == 30_000


def test_a_preempted_task_was_not_woken(world: Make) -> None:
    """The wait after a preemption is marked so and has no waker; the wait after a wakeup has one."""
    w = base(world)
    w.switch(30, 1, "R+", IDLE1)
    w.switch(40, 1, "R", KID)
    w.switch(50, 1, "S", IDLE1)
    w.waking(60, 0, KID)
    w.wakeup(61, 0, KID)
    w.switch(70, 1, "R", KID)
    w.switch(80, 1, "S", IDLE1)
    t = w.open()
    waits = [s for s in t.lives.spans((200, 0)) if s.state.name == "RUNNABLE"]
    assert [s.preempted for s in waits] == [False, True, False]
    assert [s.waker for s in waits][1:] == [None, (100, 0)]
    assert waits[2].woken_at == w.ns(60)
    assert not waits[2].irq_waker


def test_a_wakeup_of_a_running_task_changes_nothing(world: Make) -> None:
    """A task woken while it still runs goes on running; the wakeup is counted."""
    w = base(world)
    w.waking(25, 0, KID)
    w.wakeup(26, 0, KID)
    w.switch(40, 1, "R+", IDLE1)
    w.wakeup(45, 0, KID)
    w.switch(60, 1, "R", KID)
    w.switch(70, 1, "S", IDLE1)
    life = w.lives()(200)
    assert (life["time"]["running"], life["time"]["runnable"]) == (30_000, 30_000)
    assert life["wakeups"] == 3  # two, and sched_wakeup_new


def test_waking_alone_makes_nobody_runnable(world: Make) -> None:
    """sched_waking names the waker; runnable the task is from sched_wakeup on."""
    w = base(world)
    w.switch(30, 1, "S", IDLE1)
    w.waking(50, 0, KID)
    w.wakeup(60, 1, KID)
    w.switch(70, 1, "R", KID)
    w.switch(80, 1, "S", IDLE1)
    life = w.lives()(200)
    assert life["time"]["sleeping"] == 30_000
    assert life["time"]["runnable"] == 20_000
    assert life["wakeups"] == 2


@pytest.mark.parametrize("flags", ["d.h3.", "d.s4.", "dNh3.", "d.H4."])
def test_a_wakeup_from_an_interrupt_has_no_waker(world: Make, flags: str) -> None:
    """The task that an interrupt interrupted woke nobody."""
    w = base(world)
    w.switch(30, 1, "S", IDLE1)
    w.waking(60, 0, KID, flags=flags)
    w.wakeup(61, 0, KID, flags=flags)
    w.switch(70, 1, "R", KID)
    w.switch(80, 1, "S", IDLE1)
    wait = [s for s in w.open().lives.spans((200, 0)) if s.state.name == "RUNNABLE"][-1]
    assert wait.waker is None
    assert wait.irq_waker


def test_the_waker_is_at_sched_waking(world: Make) -> None:
    """A wakeup queued to another cpu is finished there by its interrupt; who woke is at sched_waking."""
    w = base(world)
    w.switch(30, 1, "S", IDLE1)
    w.waking(60, 0, KID, target=1)
    w.wakeup(65, 1, KID, target=1, flags="dNh2.")  # on the idle cpu
    w.switch(70, 1, "R", KID)
    w.switch(80, 1, "S", IDLE1)
    wait = [s for s in w.open().lives.spans((200, 0)) if s.state.name == "RUNNABLE"][-1]
    assert wait.waker == (100, 0)
    assert (wait.at, wait.woken_at) == (w.ns(65), w.ns(60))


def test_a_waker_that_never_switched_is_known(world: Make) -> None:
    """A recording of chosen pids has the waker's name and pid at sched_waking alone: that is enough."""
    w = base(world)
    w.switch(30, 1, "S", IDLE1)
    w.on[0] = ("pkill", 300)  # who ran on cpu 0 was not recorded
    w.waking(60, 0, KID, target=1)
    w.wakeup(61, 0, KID, target=1)
    w.switch(70, 1, "R", KID)
    w.switch(80, 1, "S", IDLE1)
    lives = w.open().lives
    wait = [s for s in lives.spans((200, 0)) if s.state.name == "RUNNABLE"][-1]
    assert wait.waker == (300, 0)
    assert lives.get(300).comm == "pkill"


def test_vfork_blocks_its_caller(world: Make) -> None:
    """The caller of vfork() is in D from its switch-out to the child's exec."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID, VFORK)
    w.switch(20, 0, "D", KID)
    w.wakeup(60, 0, BASH)
    w.exec(65, 0, "/bin/true", "true")
    w.switch(70, 0, "R+", BASH)
    w.switch(80, 0, "S", KID)
    lives = w.lives()
    assert lives(200)["born"]["how"] == "vfork"
    assert lives(100)["time"]["blocked"] == 40_000


def test_migrations_and_cpus(world: Make) -> None:
    """Each sched_migrate_task is a migration; cpus are those that the task ran on."""
    w = base(world)
    w.switch(30, 1, "S", IDLE1)
    w.line(50, 0, "sched_migrate_task", "comm=kid pid=200 prio=120 orig_cpu=1 dest_cpu=0")
    w.wakeup(51, 0, KID)
    w.switch(60, 0, "S", KID)
    w.switch(70, 0, "S", IDLE0)
    w.line(80, 0, "sched_migrate_task", "comm=kid pid=200 prio=120 orig_cpu=0 dest_cpu=1")
    life = w.lives()(200)
    assert life["migrations"] == 2
    assert life["cpus"] == [0, 1]


def test_equal_stamps_are_taken_in_the_order_of_the_text(world: Make) -> None:
    """Text has microseconds: lines with the same stamp happened in the order in which they stand."""
    w = base(world)
    w.switch(30, 1, "S", IDLE1)
    w.waking(30, 0, KID)
    w.wakeup(30, 0, KID)
    w.switch(50, 1, "R", KID)
    w.switch(60, 1, "S", IDLE1)
    w.waking(60, 0, KID)
    w.wakeup(60, 0, KID)
    w.switch(60, 1, "R", KID)
    w.switch(80, 1, "S", IDLE1)
    life = w.lives()(200)
    assert life["time"]["sleeping"] == 0
    assert life["time"]["runnable"] == 30_000
    assert life["time"]["running"] == 40_000
    assert life["switches"] == {"voluntary": 3, "involuntary": 0}


def test_a_whole_life_in_one_microsecond(world: Make) -> None:
    """Birth, run and death with one and the same stamp are a life of no length, in the right order."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.line(10, 0, "task_newtask", f"pid=200 comm=kid clone_flags={FORK:x} oom_score_adj=0")
    w.line(10, 0, "sched_process_fork", "comm=bash pid=100 child_comm=kid child_pid=200")
    w.wakeup(10, 0, KID, new=True)
    w.switch(10, 1, "R", KID)
    w.exit(10, 1)
    w.switch(10, 1, "X", IDLE1)
    w.free(10, 1, KID)
    w.switch(50, 0, "S", IDLE0)
    lives = w.lives()
    assert len(lives.of(200)) == 1
    life = lives(200)
    assert sum(life["time"].values()) == 0
    assert life["exit"]["at"] == life["born"]["at"] == life["freed"]["at"] == w.ns(10)


def test_the_state_before_the_first_event_is_unknown(world: Make) -> None:
    """A task that was there before: unknown from the start to its first event, then what the event says."""
    w = base(world)
    w.wakeup(50, 0, ("daemon", 70))
    w.switch(60, 1, "R+", ("daemon", 70))
    w.switch(90, 1, "S", IDLE1)
    w.switch(100, 0, "S", IDLE0)
    life = w.lives()(70)
    assert life["time"] == dict.fromkeys(life["time"], 0) | {
        "unknown": 50_000,
        "runnable": 10_000,
        "running": 30_000,
        "sleeping": 10_000,
    }


def test_who_is_current_in_the_first_record_of_a_cpu_runs(world: Make) -> None:
    """The first record of a cpu shows its current task running from there on."""
    w = world()
    w.on[1] = ("daemon", 70)
    w.switch(0, 0, "R", BASH)
    w.waking(40, 1, BASH)
    w.switch(100, 1, "S", IDLE1)
    life = w.lives()(70)
    assert life["time"]["running"] == 60_000
    assert life["time"]["unknown"] == 40_000


def test_time_at_the_end_of_the_recording_counts(world: Make) -> None:
    """The last state of a task that lives on lasts to the last record."""
    w = base(world)
    w.switch(30, 1, "S", IDLE1)
    w.switch(1030, 0, "S", IDLE0)
    lives = w.lives()
    assert lives(200)["time"]["sleeping"] == 1_000_000
    assert lives(100)["time"]["running"] == 1_030_000


# Before Linux 4.14 prev_state was printed by __print_flags over task->state (S D T t Z X x K W, later P, N),
# joined by "|"; every exiting task leaves in x (TASK_DEAD), its exit_state is not in it.
@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("S", "sleeping"),
        ("D", "blocked"),
        ("D|K", "blocked"),
        ("T", "stopped"),
        ("t", "traced"),
        ("R+", "runnable"),
        ("R", "runnable"),
        ("D|N", "idle"),
    ],
)
def test_letters_of_kernels_before_4_14(world: Make, letters: str, state: str) -> None:
    """Old kernels join state letters with bars: TASK_KILLABLE is D|K and blocks, TASK_IDLE is D|N."""
    w = base(world)
    w.switch(30, 1, letters, IDLE1)
    w.switch(90, 1, "R", KID)
    w.switch(95, 1, "S", IDLE1)
    life = w.lives()(200)
    if letters == "D|N":  # 4.2 to 4.13 counted TASK_IDLE in D; both are honest
        assert life["time"]["idle"] + life["time"]["blocked"] == 60_000
    else:
        wait = life["time"][state] - (10_000 if state == "runnable" else 0)
        assert wait == 60_000
    assert life["switches"]["involuntary"] == (1 if state == "runnable" else 0)


def test_the_last_switch_of_an_old_kernel(world: Make) -> None:
    """X is the end of a task: no time in any living state follows it."""
    w = base(world)
    w.exit(50, 1)
    w.generate(52, 1, 17, BASH, code=1, result=1)
    w.switch(54, 1, "x", IDLE1)
    w.free(100, 1, KID)
    w.switch(500, 0, "S", IDLE0)
    life = w.lives()(200)
    assert life["time"]["running"] == 34_000
    assert sum(ns for s, ns in life["time"].items() if s not in ("zombie", "running", "runnable")) == 0
    assert life["switches"] == {"voluntary": 1, "involuntary": 0}
