"""Who is who: pid reuse, exec from a thread, names, idle tasks, kernel threads, older tasks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from world import FORK, IDLE0, IDLE1, THREAD, VFORK, World, ref

Make = Callable[..., World]
BASH = ("bash", 100)
KID = ("kid", 200)


def test_a_pid_that_comes_back_is_another_life(world: Make) -> None:
    """A birth begins a new generation, and a release that comes after the reuse belongs to the old one."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID)
    w.switch(20, 1, "R", KID)
    w.die(30, 1, BASH)
    w.fork(50, 0, KID)
    w.free(60, 1, KID)
    w.switch(70, 1, "R", KID)
    w.switch(90, 1, "S", IDLE1)
    lives = w.lives()
    old, new = lives(200, 0), lives(200, 1)
    assert old["born"]["at"] == w.ns(10)
    assert old["exit"]["at"] == w.ns(30)
    assert old["freed"] == {"at": w.ns(60)}
    assert new["born"]["at"] == w.ns(50)
    assert new["exit"] is None
    assert new["freed"] is None
    assert (old["time"]["running"], new["time"]["running"]) == (14_000, 20_000)


def test_three_generations_are_released_in_order(world: Make) -> None:
    """Late releases go to the oldest life of the pid that is still unreleased, one each."""
    w = world()
    w.switch(0, 0, "R", BASH)
    for k in range(3):
        w.fork(100 * k + 10, 0, KID)
        w.switch(100 * k + 20, 1, "R", KID)
        w.die(100 * k + 30, 1, BASH)
    w.free(400, 1, KID)
    w.free(410, 1, KID)
    lives = w.lives()
    assert [r["freed"] and r["freed"]["at"] for r in lives.of(200)] == [w.ns(400), w.ns(410), None]


def test_a_pid_seen_again_after_its_release_is_another_life(world: Make) -> None:
    """A switch-in of a pid whose task was released shows a life whose birth was not recorded."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID)
    w.switch(20, 1, "R", KID)
    w.die(30, 1, BASH)
    w.free(60, 1, KID)
    w.lose(1, 40)
    w.switch(500, 1, "R", ("other", 200))
    w.switch(520, 1, "S", IDLE1)
    lives = w.lives()
    assert lives(200, 0)["time"]["running"] == 14_000
    assert lives(200, 1)["born"] is None
    assert lives(200, 1)["comm"] == "other"
    assert lives(200, 1)["time"]["running"] == 20_000


def test_one_birth_shown_by_two_events_is_one_life(world: Make) -> None:
    """task_newtask and sched_process_fork tell of the same birth; either alone is enough."""
    for events in (("task_newtask", "sched_process_fork"), ("task_newtask",), ("sched_process_fork",)):
        w = world()
        w.switch(0, 0, "R", BASH)
        w.fork(10, 0, KID)
        w.lines = [
            x for x in w.lines if ("newtask" not in x and "process_fork" not in x) or any(e in x for e in events)
        ]
        w.switch(20, 1, "R", KID)
        w.switch(30, 1, "S", IDLE1)
        lives = w.lives()
        assert len(lives.of(200)) == 1, events
        life = lives(200)
        assert life["born"]["by"] == ref(100), events
        assert life["parent"] == ref(100), events
        assert life["born"]["clone_flags"] == (FORK if "task_newtask" in events else None), events


def test_fork_and_vfork_and_clone_and_thread_are_told_apart(world: Make) -> None:
    """The clone flags say how a task was made, and whether it is a process or a thread."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, ("a", 201), FORK)
    w.fork(20, 0, ("b", 202), VFORK)
    w.fork(30, 0, ("c", 203), 0x20000000)
    w.fork(40, 0, ("d", 204), THREAD)
    w.fork(50, 0, ("e", 205), 0x100)
    lives = w.lives()
    assert [lives(p)["born"]["how"] for p in range(201, 206)] == ["fork", "vfork", "clone", "thread", "clone"]
    assert [lives(p)["kind"] for p in range(201, 206)] == [
        "process",
        "process",
        "process",
        "thread",
        "process",
    ]
    assert [lives(p)["tgid"] for p in range(201, 206)] == [201, 202, 203, 100, 205]


def test_clone_parent_gives_the_creators_parent(world: Make) -> None:
    """With CLONE_PARENT the creator is born.by and the creator's own parent is the parent."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID)
    w.switch(20, 1, "R", KID)
    w.fork(30, 1, ("sibling", 201), 0x8000)
    lives = w.lives()
    assert lives(201)["born"]["by"] == ref(200)
    assert lives(201)["parent"] == ref(100)


def test_clone_parent_of_a_stranger_leaves_the_parent_unknown(world: Make) -> None:
    """Where nobody recorded who the creator's parent is, nobody guesses it."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID, 0x8000)
    life = w.lives()(200)
    assert life["born"]["by"] == ref(100)
    assert life["parent"] is None


def test_a_thread_has_its_leaders_parent(world: Make) -> None:
    """CLONE_THREAD: a thread has its creator's parent and tgid, also where a thread created it."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID)
    w.switch(20, 1, "R", KID)
    w.fork(30, 1, ("t1", 201), THREAD)
    w.switch(40, 1, "S", ("t1", 201))
    w.fork(50, 1, ("t2", 202), THREAD)
    lives = w.lives()
    for tid, maker in ((201, 200), (202, 201)):
        assert lives(tid)["kind"] == "thread"
        assert lives(tid)["tgid"] == 200
        assert lives(tid)["parent"] == ref(100)
        assert lives(tid)["born"]["by"] == ref(maker)


def test_a_child_of_a_thread_has_the_group_as_parent(world: Make) -> None:
    """A fork by a thread: the thread is the creator, its process or itself the parent."""
    w = world()
    w.switch(0, 0, "R", KID)
    w.fork(10, 0, ("t1", 201), THREAD)
    w.switch(20, 1, "R", ("t1", 201))
    w.fork(30, 1, ("grandkid", 300))
    life = w.lives()(300)
    assert life["born"]["by"] == ref(201)
    assert life["parent"]["pid"] in (200, 201)
    assert (life["kind"], life["tgid"]) == ("process", 300)


def test_kthreadd_makes_kernel_threads(world: Make) -> None:
    """What kthreadd (pid 2) creates is a kernel thread."""
    w = world()
    w.switch(0, 0, "R", ("kthreadd", 2))
    w.fork(10, 0, ("kthreadd", 900), 0x800700)
    w.switch(20, 1, "R", ("kthreadd", 900))
    w.line(25, 1, "task_rename", "pid=900 oldcomm=kthreadd newcomm=kworker/1:3 oom_score_adj=0")
    w.on[1] = ("kworker/1:3", 900)
    w.switch(30, 1, "I", IDLE1)
    life = w.lives()(900)
    assert life["kind"] == "kthread"
    assert life["born"]["how"] == "kthread"
    assert life["comm"] == "kworker/1:3"
    assert life["time"]["idle"] == 0  # the recording ends with that switch


def exec_from_thread(world: Make) -> World:
    """Leader 200 with thread 201; 201 calls execve: the leader dies, 201 goes on as 200."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID)
    w.switch(20, 1, "R", KID)
    w.fork(30, 1, ("kid", 201), THREAD)
    w.switch(40, 0, "S", ("kid", 201))  # the shell sleeps, the thread runs on cpu 0
    w.switch(50, 1, "S", IDLE1)  # the leader sleeps
    w.waking(60, 0, KID, target=1)
    w.switch(65, 0, "D", IDLE0)  # de_thread() waits for the leader's death
    w.wakeup(66, 1, KID, target=1)
    w.switch(70, 1, "R", KID)
    w.deliver(75, 1, 9)
    w.exit(80, 1)
    w.wakeup(82, 1, ("kid", 201))
    w.switch(84, 1, "Z", IDLE1)
    w.switch(90, 0, "R", ("kid", 201))  # in as 201 …
    w.on[0] = KID
    w.exec(100, 0, "/bin/cat", "cat", old_pid=201)  # … on as 200
    w.switch(130, 0, "S", IDLE0)
    w.free(140, 1, ("kid", 201))  # the old leader's task_struct, ids swapped
    w.wakeup(150, 1, ("cat", 200))
    w.switch(160, 0, "R", ("cat", 200))
    w.die(170, 0, BASH)
    return w


def test_exec_from_a_thread_goes_on_under_the_leaders_pid(world: Make) -> None:
    """The life of the process continues through an execve by another thread, and its exit is the last one."""
    w = exec_from_thread(world)
    lives = w.lives()
    assert len(lives.of(200)) == 1
    life = lives(200)
    assert life["execs"] == [{"at": w.ns(101), "filename": "/bin/cat", "old_pid": 201}]
    assert life["exit"]["at"] == w.ns(170)
    assert life["exit"]["cause"] == "exit"
    assert life["exit"]["signal"] is None
    assert life["freed"] is None
    assert life["comm"] == "cat"


def test_exec_ends_the_life_of_the_thread_that_called_it(world: Make) -> None:
    """The calling thread's own pid ceases to be: cause ``exec``, no code and no signal."""
    w = exec_from_thread(world)
    lives = w.lives()
    assert len(lives.of(201)) == 1
    ended = lives(201)["exit"]
    assert ended["cause"] == "exec"
    assert (ended["code"], ended["signal"], ended["killer"]) == (None, None, None)
    assert w.ns(90) <= ended["at"] <= w.ns(101)


def test_no_time_is_lost_or_doubled_in_an_exec_from_a_thread(world: Make) -> None:
    """The run that began as the thread and ended as the leader counts once: 90 to 130."""
    w = exec_from_thread(world)
    lives = w.lives()
    both = lives(200)["time"]["running"] + lives(201)["time"]["running"]
    assert both == (50 - 20 + 84 - 70 + 130 - 90 + 174 - 160 + 65 - 40) * 1000
    assert lives(201)["time"]["blocked"] == 17_000


def test_the_threads_pid_may_come_back_after_an_exec(world: Make) -> None:
    """After the exec the thread's old pid is free: a later birth of it is another life."""
    w = exec_from_thread(world)
    w.switch(200, 1, "R", BASH)
    w.fork(210, 1, ("fresh", 201))
    lives = w.lives()
    assert lives(201, 0)["exit"]["cause"] == "exec"
    assert lives(201, 1)["born"]["at"] == w.ns(210)
    assert lives(201, 1)["comm"] == "fresh"


@pytest.mark.parametrize(
    "comm",
    [
        "Web Content",
        "kworker/u4:0-ev",
        "(sd-pam)",
        "a pid=7 b",
        "tmux: server",
        "x ==> y",
        "exactly15bytes!",
        "한글이름",
        "x-12",
        "a [001] b",
    ],
)
def test_names_with_anything_in_them(world: Make, comm: str) -> None:
    """A comm may hold blanks, dashes, equal signs, arrows, brackets and UTF-8, and stays one name."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, ("bash", 200))
    w.switch(20, 1, "R", ("bash", 200))
    w.exec(30, 1, "/usr/bin/x", comm)
    w.switch(40, 1, "S", IDLE1)
    w.waking(50, 0, (comm, 200))
    w.wakeup(51, 0, (comm, 200))
    w.switch(60, 1, "R", (comm, 200))
    w.die(70, 1, BASH)
    life = w.lives()(200)
    assert [c["comm"] for c in life["comms"]] == ["bash", comm]
    assert life["comm"] == comm
    assert life["time"]["sleeping"] == 11_000
    assert life["time"]["running"] == 34_000


def test_names_have_a_history(world: Make) -> None:
    """A name holds from its rename on; the name at birth is the creator's."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, ("bash", 200))
    w.switch(20, 1, "R", ("bash", 200))
    w.exec(30, 1, "/usr/bin/a-very-long-program-name", "a-very-long-pro")
    w.rename(40, 1, "main")
    w.switch(50, 1, "S", IDLE1)
    life = w.lives()(200)
    assert [(c["at"], c["comm"]) for c in life["comms"]] == [
        (w.ns(10), "bash"),
        (w.ns(30), "a-very-long-pro"),
        (w.ns(40), "main"),
    ]
    assert life["execs"][0]["filename"] == "/usr/bin/a-very-long-program-name"


def test_a_stranger_bears_the_name_it_has_when_it_is_seen(world: Make) -> None:
    """A task that was there before is not born in the recording, and is named by the events that show it."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.switch(50, 0, "S", IDLE0)
    life = w.lives()(100)
    assert life["born"] is None
    assert life["parent"] is None
    assert life["comm"] == "bash"
    assert life["exit"] is None


def test_each_cpu_has_its_own_idle_task(world: Make) -> None:
    """Idle tasks all have pid 0; their times are those of their cpus."""
    w = world()
    w.switch(10, 0, "R", BASH)
    w.switch(40, 0, "S", IDLE0)
    w.switch(50, 1, "R", KID)
    w.switch(100, 1, "S", IDLE1)
    w.switch(200, 0, "R", BASH)
    idle = w.lives().of(0)
    assert {r["kind"] for r in idle} == {"idle"}
    assert sorted(r["comm"] for r in idle) == ["swapper/0", "swapper/1"]
    by_comm = {r["comm"]: r for r in idle}
    assert by_comm["swapper/0"]["time"]["running"] == 160_000
    assert by_comm["swapper/1"]["time"]["running"] == 100_000
    assert by_comm["swapper/0"]["cpus"] == [0]


def test_the_last_switch_may_come_after_the_pid_is_given_again(world: Make) -> None:
    """A task is released before its last switch-out: what leaves in X then is the old life, not the new one."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID)
    w.switch(20, 1, "R", KID)
    w.exit(30, 1)
    w.fork(40, 0, KID)  # cpu 0 gets the same pid while the old task switches off
    w.switch(45, 1, "X", IDLE1)
    w.switch(60, 1, "R", KID)
    w.switch(80, 1, "S", IDLE1)
    w.free(90, 0, KID)
    w.switch(100, 0, "S", IDLE0)
    lives = w.lives()
    old, new = lives(200, 0), lives(200, 1)
    assert old["time"]["running"] == 25_000
    assert old["freed"] == {"at": w.ns(90)}
    assert old["switches"] == {"voluntary": 1, "involuntary": 0}
    assert new["exit"] is None
    assert new["freed"] is None
    assert new["time"] == dict.fromkeys(new["time"], 0) | {"runnable": 20_000, "running": 20_000, "sleeping": 20_000}
    assert new["switches"] == {"voluntary": 1, "involuntary": 0}


def test_the_exit_signal_in_an_older_kernels_flags_is_recorded(world: Make) -> None:
    """Where task_newtask's flags still have the exit signal in their low byte, it is known and no flag."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID, FORK | 17)
    w.fork(20, 0, ("new", 201), 0x80)  # CLONE_NEWTIME of clone3()
    lives = w.lives()
    born = lives(200)["born"]
    assert (born["clone_flags"], born["exit_signal"], born["how"], born["inferred"]) == (FORK, 17, "fork", [])
    assert (lives(201)["born"]["clone_flags"], lives(201)["born"]["exit_signal"]) == (0x80, None)
