"""How lives end, and what lost or filtered events leave: zombies, reaping, orphans, gaps."""

from __future__ import annotations

from collections.abc import Callable

from world import IDLE0, IDLE1, World, ref

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


def test_a_zombie_that_nobody_reaps_stays_one(world: Make) -> None:
    """Without a reaping or a release, a zombie is a zombie to the end of the recording."""
    w = base(world)
    w.die(50, 1, BASH)
    w.switch(500, 0, "S", IDLE0)
    life = w.lives()(200)
    assert life["time"]["zombie"] == 446_000
    assert life["reaped"] is None
    assert life["freed"] is None


def test_a_zombie_ends_with_its_release_at_the_latest(world: Make) -> None:
    """sched_process_free ends the zombie where nothing shows the reaper earlier."""
    w = base(world)
    w.die(50, 1, BASH)
    w.free(154, 1, KID)
    w.switch(500, 0, "S", IDLE0)
    life = w.lives()(200)
    assert life["time"]["zombie"] <= 100_000
    assert life["freed"] == {"at": w.ns(154)}
    assert life["reaped"] is None or life["reaped"]["at"] is None or life["reaped"]["at"] <= w.ns(154)


def test_the_parent_may_reap_before_the_last_switch(world: Make) -> None:
    """A parent on another cpu reaps a child that is still on its way out: X at once, never a zombie."""
    w = base(world)
    w.exit(50, 1)
    w.generate(52, 1, 17, BASH, code=1, result=1)
    w.switch(58, 1, "X", IDLE1)
    w.free(150, 1, KID)
    w.switch(500, 0, "S", IDLE0)
    life = w.lives()(200)
    assert life["time"]["zombie"] == 0
    assert sum(life["time"].values()) == 48_000
    assert (life["exit"]["cause"], life["exit"]["signal"]) == ("exit", None)


def test_a_child_of_a_parent_that_ignores_sigchld_reaps_itself(world: Make) -> None:
    """No SIGCHLD, last switch in X: nobody reaped it but itself, and it never was a zombie."""
    w = base(world)
    w.exit(50, 1)
    w.switch(54, 1, "X", IDLE1)
    w.free(90, 1, KID)
    life = w.lives()(200)
    assert life["time"]["zombie"] == 0
    assert life["reaped"] is None or life["reaped"]["by"] in (None, ref(200))
    assert life["freed"] == {"at": w.ns(90)}


def test_an_orphan_is_adopted_by_whom_its_exit_is_told(world: Make) -> None:
    """SIGCHLD goes to the new parent: that shows the adoption, which happened when the old parent died."""
    w = base(world)
    w.fork(30, 1, ("orphan", 201))
    w.switch(40, 0, "S", ("orphan", 201))
    w.switch(45, 0, "S", IDLE0)
    w.die(50, 1, BASH)
    w.wakeup(90, 0, ("orphan", 201))
    w.switch(95, 0, "R", ("orphan", 201))
    w.die(100, 0, INIT)
    life = w.lives()(201)
    assert life["parent"] == ref(200)
    assert [a["by"] for a in life["adopted"]] == [ref(1)]
    assert life["adopted"][0]["at"] in (None, w.ns(50), w.ns(52), w.ns(100), w.ns(102))
    assert w.lives()(200)["adopted"] == []


def test_a_child_whose_parent_lives_is_not_adopted(world: Make) -> None:
    """SIGCHLD to the parent it always had is no adoption."""
    w = base(world)
    w.die(50, 1, BASH)
    assert w.lives()(200)["adopted"] == []


def test_lost_events_leave_an_unknown_not_a_guess(world: Make) -> None:
    """From the first lost event to the task's next record nothing is known of it."""
    w = base(world)
    w.switch(30, 1, "S", IDLE1)
    w.line(40, 0, "sched_migrate_task", "comm=x pid=999 prio=120 orig_cpu=1 dest_cpu=0")
    w.lose(0, 7)
    w.line(90, 0, "sched_migrate_task", "comm=x pid=999 prio=120 orig_cpu=0 dest_cpu=1")
    w.wakeup(100, 0, KID)
    w.switch(110, 1, "R", KID)
    w.switch(130, 1, "S", IDLE1)
    life = w.lives()(200)
    assert life["time"]["sleeping"] == 10_000  # 30 to 40
    assert life["time"]["unknown"] == 60_000  # 40 to 100
    assert life["time"]["running"] == 30_000
    assert life["time"]["runnable"] == 20_000
    assert life["gaps"] >= 1


def test_a_task_runs_on_while_another_cpu_loses_events(world: Make) -> None:
    """Losses of cpu 0 say nothing against a run on cpu 1, and all against one on cpu 0."""
    w = base(world)
    w.line(40, 0, "sched_migrate_task", "comm=x pid=999 prio=120 orig_cpu=1 dest_cpu=0")
    w.lose(0, 7)
    w.line(90, 0, "sched_migrate_task", "comm=x pid=999 prio=120 orig_cpu=0 dest_cpu=1")
    w.switch(100, 1, "S", IDLE1)
    w.switch(110, 0, "S", IDLE0)
    lives = w.lives()
    assert lives(200)["time"]["running"] == 80_000
    assert lives(200)["time"]["unknown"] == 0
    assert lives(100)["time"]["unknown"] >= 50_000
    assert lives(100)["time"]["running"] <= 60_000


def test_a_zombie_stays_one_through_a_loss(world: Make) -> None:
    """No lost event can make a zombie run."""
    w = base(world)
    w.die(50, 1, BASH)
    w.line(60, 0, "sched_migrate_task", "comm=x pid=999 prio=120 orig_cpu=1 dest_cpu=0")
    w.lose(0, 7)
    w.line(90, 0, "sched_migrate_task", "comm=x pid=999 prio=120 orig_cpu=0 dest_cpu=1")
    w.free(154, 1, KID)
    life = w.lives()(200)
    assert life["time"]["unknown"] == 0
    assert life["freed"] == {"at": w.ns(154)}


def test_a_filtered_recording_shows_no_two_tasks_on_one_cpu(world: Make) -> None:
    """Where another task leaves a cpu, whoever was there before had left it; when, nobody knows."""
    w = base(world)
    w.switch(30, 1, "S", ("stranger", 70))
    # … the stranger's switch-out was not recorded …
    w.switch(90, 1, "R", KID, prev=IDLE1)
    w.switch(95, 1, "S", IDLE1)
    life = w.lives()(70)
    assert life["time"]["running"] == 0 or life["time"]["running"] < 60_000
    assert life["time"]["unknown"] > 0


def test_an_overwritten_ring_hides_what_came_before_its_first_record(world: Make) -> None:
    """Text that says entries were overwritten, but not on which cpu: until every cpu has a record, sleep is a guess."""
    w = base(world)
    w.lines = [x for x in w.lines if "[001]" not in x]
    w.on[1] = IDLE1
    w.written = 500
    w.switch(30, 0, "R+", KID)
    w.switch(50, 0, "S", BASH)
    w.waking(300, 1, ("x", 999))  # the first record of cpu 1
    w.wakeup(400, 0, KID)
    w.switch(410, 0, "S", KID)
    w.switch(430, 0, "S", IDLE0)
    life = w.lives()(200)
    assert life["time"]["sleeping"] == 0
    assert life["time"]["unknown"] >= 350_000
    assert life["gaps"] >= 1


def test_a_ring_that_lost_nothing_hides_nothing(world: Make) -> None:
    """The same world with as many entries written as are left is known from its start."""
    w = base(world)
    w.lines = [x for x in w.lines if "[001]" not in x]
    w.on[1] = IDLE1
    w.switch(30, 0, "R+", KID)
    w.switch(50, 0, "S", BASH)
    w.waking(300, 1, ("x", 999))
    w.wakeup(400, 0, KID)
    w.switch(410, 0, "S", KID)
    w.switch(430, 0, "S", IDLE0)
    life = w.lives()(200)
    assert life["time"]["sleeping"] == 350_000
    assert life["time"]["unknown"] == 0
    assert life["gaps"] == 0


def test_a_zombie_whose_parent_died_is_not_reaped_by_it(world: Make) -> None:
    """A zombie is handed on when its parent dies without having waited: the dead parent did not reap it."""
    w = base(world)
    w.fork(30, 1, ("orphan", 201))
    w.switch(35, 0, "S", ("orphan", 201))
    w.die(40, 0, KID)
    w.die(60, 1, BASH)
    w.free(300, 0, ("orphan", 201))
    w.free(310, 0, KID)
    reaped = w.lives()(201)["reaped"]
    assert reaped is None or reaped["by"] is None or reaped["by"] != ref(200)


def test_a_child_that_left_as_dead_was_not_always_its_own_reaper(world: Make) -> None:
    """X with a SIGCHLD before it: a quick parent reaped it, or SA_NOCLDWAIT did; nothing shows which."""
    w = base(world)
    w.exit(50, 1)
    w.generate(52, 1, 17, BASH, code=1, result=0)
    w.switch(58, 1, "X", IDLE1)
    w.free(150, 1, KID)
    reaped = w.lives()(200)["reaped"]
    assert reaped is None or reaped["by"] != ref(200)
