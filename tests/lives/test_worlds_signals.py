"""Which signal ended a task and who sent it: the rules of kernel/signal.c, each in a small world.

A fatal signal without core dump becomes a group exit when it is sent (complete_signal), so the kernel
delivers it as SIGKILL; ``signal_generate`` comes after the wakeup of the target.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from world import IDLE0, IDLE1, World, ref

Make = Callable[..., World]
BASH = ("bash", 100)
KID = ("kid", 200)
OTHER = ("other", 300)


def with_child(world: Make) -> World:
    """Let the shell (cpu 0) fork a child, which runs on cpu 1 and falls asleep at 30."""
    w = world()
    w.switch(0, 0, "R", BASH)
    w.fork(10, 0, KID)
    w.switch(20, 1, "R", KID)
    w.switch(30, 1, "S", IDLE1)
    return w


def wake(w: World, us: int, flags: str = "d..2.") -> None:
    """Wake the child from cpu 0 and put it on cpu 1."""
    w.waking(us, 0, KID, target=1, flags=flags)
    w.wakeup(us + 1, 0, KID, target=1)


def run(w: World, us: int) -> None:
    """Put the child on cpu 1."""
    w.switch(us, 1, "R", KID)


@pytest.mark.parametrize("sig", [1, 2, 10, 13, 14, 15])
def test_a_fatal_signal_that_is_delivered_as_9_keeps_its_name(world: Make, sig: int) -> None:
    """kill(SIGTERM) without handler: delivered as 9, wait status 15, killed by its sender."""
    w = with_child(world)
    wake(w, 50)
    w.generate(53, 0, sig, KID)
    run(w, 60)
    w.deliver(65, 1, 9)
    w.die(70, 1, BASH, code=2)
    life = w.lives()(200)
    ended = life["exit"]
    assert (ended["signal"], ended["code"], ended["core"], ended["cause"]) == (sig, None, False, "signal")
    assert ended["killer"] == ref(100)
    assert [(s["sig"], s["from"], s["result"]) for s in life["signals"]] == [(sig, ref(100), 0)]


def test_a_handled_signal_does_not_kill(world: Make) -> None:
    """SIGTERM goes to a handler; SIGKILL from another task ends the life."""
    w = with_child(world)
    wake(w, 50)
    w.generate(53, 0, 15, KID)
    run(w, 60)
    w.deliver(65, 1, 15, handler=0x5585B654E419)
    w.switch(70, 1, "S", IDLE1)
    w.switch(75, 0, "S", OTHER)
    wake(w, 80)
    w.generate(83, 0, 9, KID)
    run(w, 90)
    w.deliver(95, 1, 9)
    w.die(100, 1, BASH, code=2)
    life = w.lives()(200)
    assert (life["exit"]["signal"], life["exit"]["killer"]) == (9, ref(300))
    assert [(s["sig"], s["delivered_at"]) for s in life["signals"]] == [(15, w.ns(65)), (9, w.ns(95))]


def test_a_blocked_signal_does_not_kill(world: Make) -> None:
    """SIGTERM is pending and blocked: it wakes nobody; the SIGKILL that comes later is what kills."""
    w = with_child(world)
    w.generate(53, 0, 15, KID)  # no wakeup before it: the target goes on sleeping
    w.switch(75, 0, "S", OTHER)
    wake(w, 80)
    w.generate(83, 0, 9, KID)
    run(w, 90)
    w.deliver(95, 1, 9)
    w.die(100, 1, BASH, code=2)
    life = w.lives()(200)
    assert (life["exit"]["signal"], life["exit"]["killer"]) == (9, ref(300))
    assert life["time"]["sleeping"] == 51_000


def test_an_ignored_signal_does_not_kill(world: Make) -> None:
    """Result 1: the kernel dropped the signal; the SIGKILL after it kills."""
    w = with_child(world)
    w.generate(53, 0, 15, KID, result=1)
    w.switch(75, 0, "S", OTHER)
    wake(w, 80)
    w.generate(83, 0, 9, KID)
    run(w, 90)
    w.deliver(95, 1, 9)
    w.die(100, 1, BASH, code=2)
    life = w.lives()(200)
    assert (life["exit"]["signal"], life["exit"]["killer"]) == (9, ref(300))
    assert [s["result"] for s in life["signals"]] == [1, 0]


def test_the_first_of_two_fatal_signals_kills(world: Make) -> None:
    """SIGTERM has made the group exit; SIGKILL right behind it finds the task dying already."""
    w = with_child(world)
    wake(w, 50)
    w.generate(53, 0, 15, KID)
    w.generate(55, 0, 9, KID)
    run(w, 60)
    w.deliver(65, 1, 9)
    w.die(70, 1, BASH, code=2)
    ended = w.lives()(200)["exit"]
    assert ended["killer"] == ref(100)
    assert ended["signal"] in (15, None)


def test_a_handler_that_exits_is_an_exit(world: Make) -> None:
    """A SIGTERM handler that calls exit(): SIGCHLD says ``exited``, so no signal killed the task."""
    w = with_child(world)
    wake(w, 50)
    w.generate(53, 0, 15, KID)
    run(w, 60)
    w.deliver(65, 1, 15, handler=0x401000)
    w.die(70, 1, BASH, code=1)
    ended = w.lives()(200)["exit"]
    assert (ended["cause"], ended["signal"], ended["killer"], ended["core"]) == (
        "exit",
        None,
        None,
        False,
    ) or (ended["cause"], ended["signal"], ended["killer"], ended["core"]) == ("exit", None, None, None)


def test_a_code_is_not_made_up(world: Make) -> None:
    """No event carries the status: the code of an exit is null, not 0."""
    w = with_child(world)
    wake(w, 50)
    run(w, 60)
    w.die(70, 1, BASH)
    ended = w.lives()(200)["exit"]
    assert (ended["cause"], ended["code"], ended["signal"]) == ("exit", None, None)


@pytest.mark.parametrize(("told", "core"), [(2, False), (3, True)])
def test_a_fault_is_delivered_as_itself(world: Make, told: int, core: bool) -> None:
    """SIGSEGV (si_code > 0, raised by the victim) dumps core or not, as the code of SIGCHLD says."""
    w = with_child(world)
    wake(w, 50)
    run(w, 60)
    w.generate(63, 1, 11, KID, code=1, group=0)
    w.deliver(65, 1, 11, code=1)
    w.die(70, 1, BASH, code=told)
    ended = w.lives()(200)["exit"]
    assert (ended["signal"], ended["core"], ended["cause"]) == (11, core, "signal")
    assert ended["killer"] in (None, ref(200))


@pytest.mark.parametrize("flags", ["d.h2.", "d.s2.", "dNH3.", "..s1.", "d.z2."])
def test_a_signal_from_an_interrupt_has_no_sender(world: Make, flags: str) -> None:
    """What an interrupt generates is nobody's: not of the task that it interrupted."""
    w = with_child(world)
    wake(w, 50, flags)
    w.generate(53, 0, 14, KID, code=128, flags=flags)
    run(w, 60)
    w.deliver(65, 1, 9)
    w.die(70, 1, BASH, code=2)
    life = w.lives()(200)
    assert (life["exit"]["signal"], life["exit"]["killer"]) == (14, None)
    assert life["signals"][0]["from"] is None


@pytest.mark.parametrize("flags", ["d..1.", "b..1.", "DN.2.", "dN.3.", "...1."])
def test_a_signal_from_a_task_has_its_sender(world: Make, flags: str) -> None:
    """Disabled interrupts or bottom halves are no interrupt: the current task sent the signal."""
    w = with_child(world)
    wake(w, 50)
    w.generate(53, 0, 15, KID, flags=flags)
    run(w, 60)
    w.deliver(65, 1, 9)
    w.die(70, 1, BASH, code=2)
    assert w.lives()(200)["exit"]["killer"] == ref(100)


def test_the_idle_task_sends_no_signal(world: Make) -> None:
    """A signal generated while a cpu idles comes from an interrupt, whatever the flags show."""
    w = with_child(world)
    w.switch(40, 0, "S", IDLE0)
    wake(w, 50)
    w.generate(53, 0, 14, KID, code=128)
    run(w, 60)
    w.deliver(65, 1, 9)
    w.die(70, 1, BASH, code=2)
    life = w.lives()(200)
    assert (life["exit"]["signal"], life["exit"]["killer"]) == (14, None)


def test_stop_and_continue(world: Make) -> None:
    """Stopped is from the switch-out in T to the wakeup by SIGCONT; notices to the parent are no exits."""
    w = with_child(world)
    wake(w, 50)
    w.generate(53, 0, 19, KID)
    run(w, 60)
    w.deliver(65, 1, 19)
    w.generate(66, 1, 17, BASH, code=5, result=1)
    w.switch(70, 1, "T", IDLE1)
    wake(w, 200)
    w.generate(203, 0, 18, KID, result=1)
    run(w, 210)
    w.generate(212, 1, 17, BASH, code=6, result=1)
    w.switch(220, 1, "S", IDLE1)
    w.switch(400, 0, "S", IDLE0)
    life = w.lives()(200)
    assert life["exit"] is None
    assert life["time"]["stopped"] == 131_000
    assert life["time"]["sleeping"] == 21_000 + 180_000
    assert life["time"]["runnable"] == (20 - 10) * 1000 + 9_000 + 9_000
    assert [s["sig"] for s in life["signals"]] == [19, 18]


def test_a_stopped_task_that_is_killed(world: Make) -> None:
    """SIGKILL wakes a stopped task; time stopped ends with the wakeup."""
    w = with_child(world)
    wake(w, 50)
    w.generate(53, 0, 19, KID)
    run(w, 60)
    w.deliver(65, 1, 19)
    w.switch(70, 1, "T", IDLE1)
    wake(w, 100)
    w.generate(103, 0, 9, KID)
    run(w, 110)
    w.deliver(115, 1, 9)
    w.die(120, 1, BASH, code=2)
    life = w.lives()(200)
    assert (life["exit"]["signal"], life["exit"]["killer"]) == (9, ref(100))
    assert life["time"]["stopped"] == 31_000


def test_a_traced_task_is_traced(world: Make) -> None:
    """A switch-out in t is a stop by the tracer."""
    w = with_child(world)
    wake(w, 50)
    run(w, 60)
    w.switch(70, 1, "t", IDLE1)
    wake(w, 99)
    life = w.lives()(200)
    assert life["time"]["traced"] == 30_000


def test_the_oom_killer_marks_its_victim(world: Make) -> None:
    """oom:mark_victim beside the SIGKILL makes the cause ``oom``, also where the victim allocated."""
    for allocator in (BASH, KID):
        w = with_child(world)
        wake(w, 50)
        run(w, 60)
        cpu = 1 if allocator == KID else 0
        w.generate(70, cpu, 9, KID, code=128)
        w.line(
            71,
            cpu,
            "mark_victim",
            "pid=200 comm=kid total-vm=108kB anon-rss=98kB file-rss:0kB shmem-rss:4kB "
            "uid=0 pgtables=84kB oom_score_adj=0",
        )
        w.deliver(75, 1, 9)
        w.die(80, 1, BASH, code=2)
        ended = w.lives()(200)["exit"]
        assert (ended["cause"], ended["signal"], ended["code"]) == ("oom", 9, None)


def test_a_signal_belongs_to_the_life_that_has_the_pid_then(world: Make) -> None:
    """A signal sent after a pid was reused goes to the new life, and to it alone."""
    w = with_child(world)
    wake(w, 50)
    run(w, 60)
    w.die(70, 1, BASH)
    w.fork(100, 0, KID)
    run(w, 110)
    w.switch(120, 1, "S", IDLE1)
    wake(w, 130)
    w.generate(133, 0, 9, KID)
    run(w, 140)
    w.deliver(145, 1, 9)
    w.die(150, 1, BASH, code=2)
    lives = w.lives()
    assert lives(200, 0)["signals"] == []
    assert lives(200, 0)["exit"]["cause"] == "exit"
    assert lives(200, 1)["exit"]["signal"] == 9


def test_the_killer_is_the_life_that_had_the_pid_then(world: Make) -> None:
    """A killer whose pid is reused later is named with its own generation."""
    w = with_child(world)
    wake(w, 50)
    w.generate(53, 0, 9, KID)
    run(w, 60)
    w.deliver(65, 1, 9)
    w.die(70, 1, BASH, code=2)
    w.die(80, 0, ("init", 1), to=("init", 1))
    w.free(90, 0, BASH)
    w.fork(100, 0, BASH)
    lives = w.lives()
    assert lives(200)["exit"]["killer"] == ref(100, 0)
    assert lives(100, 1)["born"]["by"] == ref(1)


def test_a_signal_that_nobody_saw_sent_is_not_9(world: Make) -> None:
    """Delivered as 9 without a signal_generate: a fatal signal sent before the recording; which, nobody knows."""
    w = with_child(world)
    wake(w, 50)
    w.generate(53, 0, 10, BASH)  # so the recording has signal_generate
    run(w, 60)
    w.deliver(65, 1, 9)
    w.die(70, 1, BASH, code=2)
    ended = w.lives()(200)["exit"]
    assert (ended["signal"], ended["killer"], ended["code"]) == (None, None, None)
    assert ended["cause"] in ("signal", None)
    assert ended["core"] is False


def test_sigchld_is_not_always_17(world: Make) -> None:
    """A child cloned with another exit signal reports with that one, and its si_code means the same."""
    w = with_child(world)
    wake(w, 50)
    run(w, 60)
    w.die(70, 1, BASH, code=1, sig=10)
    lives = w.lives()
    assert lives(200)["exit"]["cause"] == "exit"
    assert lives(200)["born"]["exit_signal"] in (10, None)


def test_a_sibling_by_clone_parent_is_not_adopted(world: Make) -> None:
    """SIGCHLD of a CLONE_PARENT child goes to its creator's parent, which is its own: no adoption."""
    w = with_child(world)
    wake(w, 50)
    run(w, 60)
    w.fork(65, 1, ("sibling", 201), 0x8000)
    w.switch(70, 1, "S", ("sibling", 201))
    w.die(80, 1, BASH)
    life = w.lives()(201)
    assert life["parent"] == ref(100)
    assert life["adopted"] == []
