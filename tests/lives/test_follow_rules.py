"""Single rules of following, on records made for the case: what real recordings show seldom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from taskscope.lives.follow import FIELDS, GRACE, GRACE_S, Follow
from taskscope.lives.happenings import Execed, Exited, Forked, Happening, Killed, Lost, Who
from taskscope.lives.records import Rec

FORK, THREAD, KTHREAD = 0x1200000, 0x3D0F00, 0x800700
CLD_EXITED, CLD_KILLED, CLD_DUMPED = 1, 2, 3


class Told:
    """A machine that is followed: one call an event, times in ns."""

    def __init__(self, **options: Any) -> None:
        self.follow = Follow(**options)
        self.row = 0

    def see(self, ts: int, event: str, current: int, /, *, irq: bool = False, **fields: Any) -> None:
        """Show any record; fields that are not given are None."""
        self.row += 1
        f = dict.fromkeys(FIELDS.get(event, ())) | fields
        self.follow.see(event, Rec(ts, self.row, 0, current, irq, f))

    def fork(self, ts: int, parent: int, child: int, flags: int = FORK, comm: str = "sh") -> None:
        """Show the three records of a creation, 1 ns apart."""
        self.see(ts, "task_newtask", parent, pid=child, comm=comm, clone_flags=flags)
        self.see(ts + 1, "sched_process_fork", parent, parent_comm=comm, child_comm=comm, child_pid=child)
        self.see(ts + 2, "sched_wakeup_new", parent, pid=child, comm=comm)

    def send(self, ts: int, by: int, sig: int, to: int, *, code: int = 0, result: int = 0, group: int = 1,
             comm: str = "sh", irq: bool = False) -> None:
        """Show signal_generate."""
        self.see(ts, "signal_generate", by, irq=irq, sig=sig, code=code, comm=comm, pid=to, group=group, result=result)

    def deliver(self, ts: int, pid: int, sig: int, handler: int = 0) -> None:
        """Show signal_deliver."""
        self.see(ts, "signal_deliver", pid, sig=sig, code=0, sa_handler=handler)

    def exit_group(self, ts: int, pid: int, code: int) -> None:
        """Show the call of exit_group."""
        self.see(ts, "sys_enter_exit_group", pid, error_code=code)

    def exit(self, ts: int, pid: int, *, group_dead: int | None = None, comm: str = "sh") -> None:
        """Show sched_process_exit."""
        self.see(ts, "sched_process_exit", pid, pid=pid, comm=comm, group_dead=group_dead)

    def take(self) -> list[Happening]:
        """Return what is told by now."""
        return self.follow.take()

    def end(self) -> list[Happening]:
        """Return what is told at the end."""
        return self.follow.end()


def deaths(happenings: list[Happening]) -> list[Exited]:
    return [h for h in happenings if isinstance(h, Exited)]


def one_death(told: Told) -> Exited:
    (death,) = deaths(told.end())
    return death


def test_a_certain_death_does_not_wait() -> None:
    """A process that called exit_group is told at once, with its code and the length of its life."""
    t = Told()
    t.fork(10, 1, 50)
    t.exit_group(90, 50, 0x1FF & 0xFF)
    t.exit(100, 50)
    born, dead = t.take()
    assert isinstance(born, Forked)
    assert (born.by, born.parent, born.how, born.kind) == (Who(1, "sh"), Who(1, "sh"), "fork", "process")
    assert isinstance(dead, Exited)
    assert (dead.code, dead.cause, dead.lived, dead.inferred) == (255, "exit", 90, ())


def test_a_killed_process_waits_for_the_signal_to_its_parent() -> None:
    """Whether a core was dumped is told by SIGCHLD; what happens until then is told behind the death."""
    t = Told()
    t.fork(10, 1, 50)
    t.send(20, 1, 11, 50)
    t.deliver(30, 50, 11)
    t.exit(100, 50)
    t.fork(110, 1, 51)
    assert [type(h) for h in t.take()] == [Forked, Killed]
    t.send(120, 50, 17, 1, code=CLD_DUMPED)
    dead, born = t.take()
    assert isinstance(dead, Exited)
    assert (dead.signal, dead.core, dead.killer, dead.si_code) == (11, True, Who(1, "sh"), 0)
    assert isinstance(born, Forked)


def test_a_zombie_that_the_dying_process_leaves_says_nothing_about_it() -> None:
    """exit_notify() first tells a new parent of the dying task's own dead children: that is not its own end."""
    t = Told()
    t.fork(10, 1, 50)
    t.fork(20, 50, 60)
    t.exit_group(30, 60, 0)
    t.exit(31, 60)
    t.deliver(40, 50, 9)
    t.send(35, 1, 9, 50)
    t.exit(50, 50)
    t.send(51, 50, 17, 900, code=CLD_EXITED)       # of 60, to the reaper
    t.send(52, 50, 17, 1, code=CLD_KILLED)
    last = deaths(t.take())[-1]
    assert (last.pid, last.core, last.cause) == (50, False, "signal")


def test_an_orphan_tells_whoever_adopted_it() -> None:
    """A process that never had a child can only tell of itself, whoever its parent is by now."""
    t = Told()
    t.fork(10, 1, 50)
    t.fork(20, 50, 60)
    t.exit_group(30, 50, 0)
    t.exit(31, 50)
    t.send(40, 1, 9, 60)
    t.deliver(41, 60, 9)
    t.exit(50, 60)
    t.take()
    t.send(51, 60, 17, 900, code=CLD_KILLED)
    (dead,) = deaths(t.take())
    assert (dead.pid, dead.core) == (60, False)


def test_what_is_released_waits_no_more() -> None:
    """A child whose parent ignores SIGCHLD tells nobody: its release ends the waiting."""
    t = Told()
    t.fork(10, 1, 50)
    t.deliver(20, 50, 9)
    t.exit(30, 50)
    t.see(40, "sched_process_free", 0, pid=50)
    (dead,) = deaths(t.take())
    assert (dead.cause, dead.core) == ("signal", None)


@pytest.mark.parametrize("later", [GRACE, GRACE + 1])
def test_a_death_waits_by_the_clock(later: int) -> None:
    """Without any signal to the parent a death is told once records are more than the grace later."""
    t = Told()
    t.deliver(90, 50, 9)
    t.exit(100, 50)
    t.see(100 + later, "sched_process_free", 0, pid=7)
    assert len(deaths(t.take())) == int(later > GRACE)


def test_a_death_waits_by_the_watch() -> None:
    """Where no more records come, a death is told when time has passed between ticks."""
    t = Told()
    t.follow.tick(50.0)
    t.exit(100, 50)
    t.follow.tick(50.0 + GRACE_S)
    assert t.take() == []
    t.follow.tick(50.1 + GRACE_S)
    assert len(deaths(t.take())) == 1


def test_the_last_queued_signal_kills() -> None:
    """A fatal signal that was blocked did not kill: the kernel would have dropped the one that came after it."""
    t = Told()
    t.fork(10, 1, 50)
    t.send(20, 1, 15, 50)                # blocked
    t.send(30, 2, 9, 50)
    t.deliver(40, 50, 9)
    t.exit(50, 50)
    dead = one_death(t)
    assert (dead.signal, dead.killer) == (9, Who(2, None))
    assert any("2 signals" in i for i in dead.inferred)


def test_a_signal_sent_to_the_dying_did_not_kill() -> None:
    """What the kernel drops (result ignored) neither kills nor is told."""
    t = Told()
    t.fork(10, 1, 50)
    t.send(20, 1, 15, 50)
    t.send(30, 2, 9, 50, result=1)
    t.deliver(40, 50, 9)
    t.exit(50, 50)
    told = t.end()
    assert [h.sig for h in told if isinstance(h, Killed)] == [15]
    assert [(d.signal, d.killer) for d in deaths(told)] == [(15, Who(1, "sh"))]


def test_a_signal_that_had_a_handler_did_not_kill() -> None:
    """A signal delivered to a handler is over; the one that came later killed."""
    t = Told()
    t.fork(10, 1, 50)
    t.send(20, 1, 15, 50)
    t.deliver(25, 50, 15, handler=0x4000)
    t.send(30, 2, 1, 50)
    t.deliver(40, 50, 9)
    t.exit(50, 50)
    dead = one_death(t)
    assert (dead.signal, dead.killer) == (1, Who(2, None))
    assert len(dead.inferred) == 1


def test_an_interrupt_sends_in_nobodys_name() -> None:
    """The task that was current when an interrupt sent a signal is not its sender."""
    t = Told()
    t.send(20, 1, 14, 50, code=-2, irq=True)
    (sent,) = t.end()
    assert isinstance(sent, Killed)
    assert sent.sender is None


def test_a_process_ends_with_its_last_thread() -> None:
    """A leader that is gone while threads live is not told; the last exit is the end, with the lifetime until then."""
    t = Told()
    t.fork(10, 1, 50)
    t.fork(20, 50, 51, THREAD)
    t.see(30, "sys_enter_exit", 50, error_code=0)
    t.exit(40, 50)
    assert deaths(t.take()) == []
    t.exit_group(90, 51, 4)
    t.exit(100, 51)
    dead = one_death(t)
    assert (dead.pid, dead.at, dead.lived, dead.code) == (50, 100, 90, 4)


def test_group_dead_tells_of_threads_that_were_not_seen() -> None:
    """Where the event says that the group lives on, an exit is not the end of the process."""
    t = Told()
    t.exit(40, 50, group_dead=0)
    assert t.end() == []
    t = Told(tgids={50: 50, 51: 50})
    t.exit(40, 50, group_dead=0)
    t.exit(60, 51, group_dead=1)
    dead = one_death(t)
    assert (dead.pid, dead.tgid, dead.at) == (50, 50, 60)


def test_a_released_leader_ends_a_process_whose_last_exit_was_lost() -> None:
    """release_task() frees a leader after its threads: its process is told then, as late."""
    t = Told()
    t.fork(10, 1, 50)
    t.fork(20, 50, 51, THREAD)
    t.exit_group(30, 50, 3)
    t.exit(40, 50)
    t.see(50, "lost", 0, count=7)
    t.see(60, "sched_process_free", 0, pid=50)
    told = t.end()
    assert [h.count for h in told if isinstance(h, Lost)] == [7]
    (dead,) = deaths(told)
    assert (dead.at, dead.late, dead.code) == (40, True, 3)


def test_a_pid_is_used_again() -> None:
    """The next task that bears a pid is another one: nothing of the first is said of it."""
    t = Told()
    t.fork(10, 1, 50)
    t.see(15, "sys_enter_exit_group", 50, error_code=9)
    t.exit(20, 50)
    t.fork(1000, 2, 50, comm="other")
    t.exit(1100, 50, comm="other")
    first, second = deaths(t.end())
    assert (first.code, first.lived) == (9, 10)
    assert (second.code, second.lived, second.comm, second.parent) == (None, 100, "other", Who(2, "other"))


def test_a_parent_that_is_gone_is_nobodys_parent() -> None:
    """After the death of its parent a process has one that is not known."""
    t = Told()
    t.fork(10, 1, 50)
    t.fork(20, 50, 60)
    t.exit_group(30, 50, 0)
    t.exit(40, 50)
    t.exit_group(50, 60, 0)
    t.exit(60, 60)
    assert [d.parent for d in deaths(t.end())] == [Who(1, "sh"), None]


def test_a_parent_that_may_have_died_unseen_is_not_known() -> None:
    """Behind lost events a parent is named again only once a record shows that it still lives."""
    t = Told()
    for child in (50, 51):
        t.fork(child, 1, child)
    t.see(100, "lost", 0, count=None)
    for ts, child in ((110, 50), (130, 51)):
        t.exit_group(ts, child, 0)
        t.exit(ts + 1, child)
        t.fork(ts + 2, 1, 60 + child)
    assert [d.parent for d in deaths(t.end())] == [None, Who(1, "sh")]


def test_names_follow_renames() -> None:
    """A task bears the new name from the rename on; an exec tells the one before."""
    t = Told()
    t.fork(10, 1, 50)
    t.see(20, "task_rename", 50, pid=50, oldcomm="sh", newcomm="ls")
    t.see(21, "sched_process_exec", 50, filename="/bin/ls", pid=50, old_pid=50)
    _, exec_ = t.take()
    assert isinstance(exec_, Execed)
    assert (exec_.comm, exec_.old_comm) == ("ls", "sh")


def test_without_renames_the_name_after_an_exec_is_unknown() -> None:
    """The kernel names a task after its program, but nothing recorded says so: until another record shows it."""
    t = Told()
    t.fork(10, 1, 50)
    t.see(21, "sched_process_exec", 50, filename="/bin/ls", pid=50, old_pid=50)
    t.exit(30, 50, comm="ls")
    _, exec_, dead = t.end()
    assert isinstance(exec_, Execed)
    assert (exec_.comm, exec_.old_comm) == (None, "sh")
    assert isinstance(dead, Exited)
    assert dead.comm == "ls"


@pytest.mark.parametrize("options", [{"comms": {70: "kworker/1:2"}}, {"parents": {70: 2}}, {}], ids=str)
def test_kernel_threads(options: Mapping[str, Any]) -> None:
    """Kernel threads are told from kthreadd, from their parent, or from the names that only the kernel gives."""
    t = Told(**options)
    t.fork(10, 2, 80, KTHREAD, "kthreadd")
    t.exit(50, 80)
    t.exit(60, 70)
    told = t.end()
    assert isinstance(told[0], Forked)
    assert (told[0].how, told[0].kind) == ("kthread", "kthread")
    assert [d.kind for d in deaths(told)] == ["kthread", "kthread" if options else None]


def test_the_oom_killer_is_named() -> None:
    """A SIGKILL to a task that was marked as the victim is of the OOM killer."""
    t = Told()
    t.fork(10, 1, 50)
    t.see(20, "mark_victim", 1, pid=50)
    t.send(21, 1, 9, 50, code=0x80)
    t.deliver(30, 50, 9)
    t.exit(40, 50)
    assert one_death(t).cause == "oom"


def test_a_stack_tells_where_no_call_is_recorded() -> None:
    """Without system calls the stack of the exit shows whether it exited or was killed."""
    t = Told(frames=lambda callers: ("do_exit", "get_signal") if 1 in callers else ("do_exit", "__x64_sys_exit_group"))
    for pid, callers in ((50, [1, 5]), (51, [2, 5])):
        t.exit(10 * pid, pid)
        t.see(10 * pid + 1, "kernel_stack", pid, caller=callers, size=2)
    assert [d.cause for d in deaths(t.end())] == ["signal", "exit"]


def test_raw_system_calls_tell_the_code() -> None:
    """Where only sys_enter is recorded, the numbers of exit and exit_group tell."""
    t = Told(exit_numbers={231: True, 60: False})
    t.see(10, "sys_enter", 50, id=231, args=[5, 0, 0, 0, 0, 0])
    t.exit(20, 50)
    assert one_death(t).code == 5


def test_what_others_do_to_each_other_is_not_told() -> None:
    """Where only some tasks are recorded, a signal is told that one of them or their descendants sent or got."""
    t = Told(only=[10])
    t.fork(100, 10, 11)
    for ts, by, to in ((200, 70, 80), (210, 70, 11), (220, 10, 80), (230, 80, 10)):
        t.send(ts, by, 15, to)
    t.send(240, 11, 15, 80, irq=True)
    t.see(250, "sched_process_free", 0, pid=70)
    told = [h for h in t.end() if isinstance(h, Killed)]
    assert [(h.pid, h.sender and h.sender.pid) for h in told] == [(11, 70), (80, 10), (10, 80)]


def test_memory_is_bounded_by_what_lives() -> None:
    """A chain of processes, each the child of the last, leaves nothing behind; nor do threads that come and go."""
    t = Told()
    pid = 1000
    for k in range(3000):
        at = 1_000_000 * k
        t.fork(at, pid, pid + 1)
        t.exit_group(at + 10, pid, 0)
        t.exit(at + 20, pid)
        t.see(at + 30, "sched_process_free", 0, pid=pid)
        pid = pid + 1 if pid < 2200 else 1000
        t.take()
    for k in range(1000):
        at = 10**12 + 1000 * k
        t.fork(at, pid, 40_000 + k, THREAD)
        t.see(at + 10, "sys_enter_exit", 40_000 + k, error_code=0)
        t.exit(at + 20, 40_000 + k)
        t.take()
    tasks = t.follow._tasks
    group = tasks.get(pid)
    assert group is not None
    assert len(group.group.deaths) <= 65
    depth, above = 0, group.group.parent
    while above is not None:
        depth, above = depth + 1, above.parent
    assert depth <= 1
    assert len(tasks._by_pid) <= 2 + 1000
    assert not t.follow._queue
