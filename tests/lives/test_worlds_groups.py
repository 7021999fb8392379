"""How thread groups end: a fatal signal, exit_group(), a thread alone, the leader first."""

from __future__ import annotations

from collections.abc import Callable

from world import IDLE1, THREAD, Task, World, ref

Make = Callable[..., World]
BASH = ("bash", 100)
KID = ("kid", 200)
OTHER = ("other", 300)


def group(world: Make, sig: int = 15) -> tuple[World, list[Task]]:
    """Leader 200 with threads 201 and 202; the leader sleeps, 202 sleeps, 201 runs on cpu 1 from 60 on."""
    w = world()
    threads = [("t1", 201), ("t2", 202)]
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID)
    w.switch(20, 1, "R", KID)
    for k, t in enumerate(threads):
        w.fork(30 + 5 * k, 1, t, THREAD)
    w.switch(45, 1, "S", threads[1])
    w.switch(50, 1, "S", threads[0])
    return w, threads


def test_a_fatal_signal_ends_the_whole_group(world: Make) -> None:
    """The process is killed by the signal and its sender; its threads die with their group."""
    w, (_, t2) = group(world)
    w.waking(60, 0, KID, target=1)
    w.wakeup(61, 0, KID, target=1)
    w.wakeup(62, 0, t2, target=1)
    w.generate(63, 0, 15, KID)
    w.deliver(65, 1, 9)
    w.exit(66, 1)
    w.switch(70, 1, "X", t2)
    w.deliver(75, 1, 9)
    w.exit(76, 1)
    w.switch(80, 1, "X", KID)
    w.deliver(85, 1, 9)
    w.die(90, 1, BASH, code=2)
    lives = w.lives()
    leader = lives(200)["exit"]
    assert (leader["signal"], leader["killer"], leader["core"]) == (15, ref(100), False)
    for tid in (201, 202):
        ended = lives(tid)["exit"]
        assert ended["cause"] == "group_exit", tid
        assert lives(tid)["time"]["zombie"] == 0, tid


def test_exit_group_by_a_thread_ends_the_others(world: Make) -> None:
    """exit_group() in a thread: the others get SIGKILLs that nobody generated; no signal ended them."""
    w, (_, t2) = group(world)
    w.waking(60, 1, KID)
    w.wakeup(61, 1, KID)
    w.wakeup(62, 1, t2, target=1)
    w.exit(66, 1)
    w.switch(70, 1, "X", t2)
    w.deliver(75, 1, 9)
    w.exit(76, 1)
    w.switch(80, 1, "X", IDLE1)
    w.switch(81, 0, "S", KID)
    w.deliver(85, 0, 9)
    w.die(90, 0, BASH, code=1)
    lives = w.lives()
    assert [lives(p)["exit"]["cause"] for p in (200, 201, 202)] == ["group_exit", "exit", "group_exit"]
    for p in (200, 201, 202):
        assert lives(p)["exit"]["signal"] is None, p
        assert lives(p)["exit"]["killer"] is None, p


def test_a_thread_that_ends_alone_ends_by_itself(world: Make) -> None:
    """pthread_exit() in one thread says nothing of the others, which live on."""
    w, (_, t2) = group(world)
    w.deliver(55, 1, 10, handler=0x401000)  # so signals are recorded, and no SIGKILL was delivered
    w.exit(66, 1)
    w.switch(70, 1, "X", t2)
    w.switch(90, 1, "S", IDLE1)
    lives = w.lives()
    assert lives(201)["exit"]["cause"] == "exit"
    assert lives(202)["exit"] is None
    assert lives(200)["exit"] is None


def test_a_leader_that_exits_first_is_a_zombie_until_the_group_ends(world: Make) -> None:
    """The leader's exit is its own; its parent is told by the last thread, and can reap only then."""
    w, (t1, t2) = group(world)
    w.waking(60, 0, KID)
    w.wakeup(61, 0, KID)
    w.switch(65, 0, "S", KID)
    w.exit(70, 0)
    w.switch(75, 0, "Z", BASH)
    w.switch(80, 1, "S", t2)
    w.exit(85, 1)
    w.switch(90, 1, "X", t1)
    w.exit(95, 1)
    w.generate(97, 1, 17, BASH, code=1, result=1)  # by the last thread, for the leader
    w.switch(100, 1, "X", IDLE1)
    w.free(180, 0, KID)
    w.switch(200, 0, "R", BASH)
    lives = w.lives()
    leader = lives(200)
    assert (leader["exit"]["at"], leader["exit"]["cause"], leader["exit"]["signal"]) == (
        w.ns(70),
        "exit",
        None,
    )
    assert 20_000 <= leader["time"]["zombie"] <= 105_000
    assert leader["freed"] == {"at": w.ns(180)}
    assert lives(201)["time"]["zombie"] == lives(202)["time"]["zombie"] == 0


def test_a_signal_to_one_thread_ends_the_process(world: Make) -> None:
    """tgkill() with a fatal signal for a thread: the whole process is killed by it, and by its sender."""
    w, (t1, t2) = group(world)
    w.wakeup(62, 0, t2, target=1)
    w.waking(62, 0, KID)
    w.wakeup(62, 0, KID)
    w.generate(63, 0, 15, t1, code=-6, group=0)
    w.deliver(65, 1, 9)
    w.exit(66, 1)
    w.switch(70, 1, "X", t2)
    w.deliver(75, 1, 9)
    w.exit(76, 1)
    w.switch(80, 1, "X", KID)
    w.deliver(85, 1, 9)
    w.die(90, 1, BASH, code=2)
    lives = w.lives()
    leader = lives(200)["exit"]
    assert (leader["signal"], leader["killer"], leader["core"]) == (15, ref(100), False)
    assert lives(201)["exit"]["cause"] in ("signal", "group_exit")
    assert lives(202)["exit"]["cause"] == "group_exit"


def test_execve_ends_the_other_threads(world: Make) -> None:
    """execve() by the leader: its threads are swept away, cause ``exec``; the leader lives on."""
    w, (_, t2) = group(world)
    w.wakeup(62, 0, t2, target=1)
    w.wakeup(62, 0, KID)
    w.switch(65, 0, "S", KID)
    w.switch(66, 0, "D", BASH)  # de_thread() waits for the others
    w.deliver(70, 1, 9)
    w.exit(71, 1)
    w.switch(75, 1, "X", t2)
    w.deliver(80, 1, 9)
    w.exit(81, 1)
    w.waking(82, 1, KID)
    w.wakeup(82, 1, KID)
    w.switch(85, 1, "X", IDLE1)
    w.switch(90, 0, "S", KID)
    w.exec(95, 0, "/bin/cat", "cat")
    w.switch(110, 0, "S", BASH)
    lives = w.lives()
    assert lives(200)["exit"] is None
    assert lives(200)["execs"] == [{"at": w.ns(96), "filename": "/bin/cat", "old_pid": 200}]
    assert [lives(t)["exit"]["cause"] for t in (201, 202)] == ["exec", "exec"]
    assert [lives(t)["exit"]["signal"] for t in (201, 202)] == [None, None]
