"""Pids: allocation in a circle, roles, process groups and sessions, names."""

from __future__ import annotations

from typing import Any

import pytest

from bare import ALL, error, play
from taskscope.model import machine
from taskscope.model.include.linux.pid import PIDTYPE_PGID, PIDTYPE_PID, PIDTYPE_SID
from taskscope.model.kernel import pid as pid_


def at_once(sys: Any) -> int:
    return 0


def asleep(sys: Any) -> None:
    while True:
        sys.pause()


@pytest.mark.parametrize("flavour", ALL)
def test_numbers_grow_by_one_and_wrap_to_300(flavour: str) -> None:
    """Each task takes the next number; behind pid_max it goes on at RESERVED_PIDS, leaving out what is in use."""

    def scenario(sys: Any) -> Any:
        ns = machine.cur.init_pid_ns
        default = ns.pid_max
        ns.pid_max = 305
        got = []
        keep = None
        for n in range(305):
            pid = sys.clone(asleep if n == 299 else at_once)
            got.append(pid)
            if n == 299:
                keep = pid
            else:
                sys.waitpid(pid)
        return default, got, keep

    default, got, keep = play(scenario, flavour)
    assert default == 32768
    assert got[:302] == list(range(3, 305))
    assert keep == 302
    assert got[302:] == [300, 301, 303]


def test_no_number_left_is_eagain() -> None:
    """When every number is in use fork() fails with EAGAIN, and works again after one was released."""

    def scenario(sys: Any) -> Any:
        machine.cur.init_pid_ns.pid_max = 303
        machine.cur.init_pid_ns.idr_next = 301
        pids = [sys.clone(asleep) for _ in range(3)]
        full = error(sys.clone, asleep)
        sys.kill(pids[1], 9)
        sys.waitpid(pids[1])
        return pids, full, sys.clone(at_once) == pids[1]

    assert play(scenario) == ([301, 302, 300], "EAGAIN", True)


def test_a_number_stays_while_a_group_or_session_has_it() -> None:
    """A pid is not given out again as long as it names a process group or a session with members."""

    def leader(sys: Any) -> None:
        sys.setsid()
        sys.clone(asleep)

    def scenario(sys: Any) -> Any:
        pid = sys.clone(leader)
        sys.waitpid(pid)
        ns = machine.cur.init_pid_ns
        group = ns.idr.get(pid)
        member = group.tasks[PIDTYPE_PGID].next.owner
        before = (group.nr, pid_.pid_task(group, PIDTYPE_PID), member.signal.pids[PIDTYPE_SID] is group)
        sys.kill(member.pid, 9)
        sys.waitpid(member.pid)
        return before == (pid, None, True), pid in ns.idr

    assert play(scenario) == (True, False)


def test_getpid_and_friends() -> None:
    """getpid() is the tgid, gettid() the pid, getppid() the real parent's tgid, in threads too."""

    def scenario(sys: Any) -> Any:
        out: list[Any] = []

        def thread(sys: Any) -> None:
            out.append((sys.getpid(), sys.gettid(), sys.getppid()))

        def process(sys: Any) -> None:
            out.append((sys.getpid(), sys.gettid(), sys.getppid()))
            sys.pthread_create(thread)
            sys.nanosleep(5_000_000)

        from taskscope.model.include.uapi.linux.sched import CLONE_VM

        pid = sys.clone(process, flags=CLONE_VM | 17)
        sys.waitpid(pid)
        return [(p == pid, t - pid, pp) for p, t, pp in out]

    assert play(scenario) == [(True, 0, 1), (True, 1, 1)]


def test_setpgid_errors() -> None:
    """setpgid(): EINVAL below 0, ESRCH for strangers, EACCES after execve, EPERM across sessions and for leaders."""

    def child(sys: Any) -> None:
        sys.execve("/bin/sleep", ["sleep", "100"])

    def leader(sys: Any) -> None:
        sys.setsid()
        sys.pause()

    def grand(sys: Any) -> None:
        sys.write(1, f"{sys.clone(asleep)} ".encode())
        sys.pause()

    def scenario(sys: Any) -> Any:
        a, b, c = sys.clone(child), sys.clone(leader), sys.clone(asleep)
        g = sys.clone(grand)
        sys.nanosleep(10_000_000)
        stranger = int(machine.cur.console_tty.text.split()[-1])
        del g
        return [
            error(sys.setpgid, *args)
            for args in ((0, -1), (4242, 4242), (stranger, stranger), (a, a), (b, b), (c, 4242), (c, c), (c, 0), (c, b))
        ], sys.getpgid(c) == c

    assert play(scenario) == (["EINVAL", "ESRCH", "ESRCH", "EACCES", "EPERM", "EPERM", "None", "None", "EPERM"], True)


def test_setsid() -> None:
    """setsid() makes session and group of one's own; EPERM for a group leader, and a second time."""

    def scenario(sys: Any) -> Any:
        out: list[Any] = []

        def child(sys: Any) -> None:
            out.append(
                (
                    sys.setsid() == sys.getpid(),
                    sys.getpgid(0) == sys.getpid(),
                    sys.getsid(0) == sys.getpid(),
                    error(sys.setsid),
                )
            )

        def group(sys: Any) -> None:
            sys.setpgid(0, 0)
            out.append(error(sys.setsid))

        from taskscope.model.include.uapi.linux.sched import CLONE_VM

        for fn in (child, group):
            sys.waitpid(sys.clone(fn, flags=CLONE_VM | 17))
        return out, error(sys.getsid, 4242), error(sys.getpgid, 4242)

    assert play(scenario) == ([(True, True, True, "EPERM"), "EPERM"], "ESRCH", "ESRCH")


def test_prctl() -> None:
    """PR_SET_NAME cuts at 15 bytes, also inside of a character; wrong options and arguments are EINVAL."""

    def scenario(sys: Any) -> Any:
        task = machine.cur.cpu.curr
        sys.prctl(15, "abcdefghijklmnopqr")
        plain = task.comm
        sys.prctl(15, "가나다라마바")
        return (plain, task.comm, task.comm16, error(sys.prctl, 1, 65), error(sys.prctl, 1, -1), error(sys.prctl, 9999),
                error(sys.prctl, 38, 2), error(sys.prctl, 4, 7))

    assert play(scenario) == (
        "abcdefghijklmno",
        "가나다라마",
        "가나다라마".encode() + b"\0",
        "EINVAL",
        "EINVAL",
        "EINVAL",
        "EINVAL",
        "EINVAL",
    )


def test_limits() -> None:
    """setrlimit(): EINVAL for soft above hard and unknown resources, EPERM for a raised hard limit of a user."""

    def user(sys: Any) -> None:
        sys.setrlimit(3, (100, 200))
        sys.setuid(1000)
        sys.write(
            1,
            repr([error(sys.setrlimit, 3, (100, 300)), error(sys.setrlimit, 3, (150, 150)), sys.getrlimit(3)]).encode(),
        )

    def scenario(sys: Any) -> Any:
        wrong = [error(sys.setrlimit, 3, (5, 4)), error(sys.setrlimit, 99, (1, 1)), error(sys.getrlimit, 99)]
        sys.waitpid(sys.clone(user))
        return wrong, machine.cur.console_tty.text

    assert play(scenario) == (["EINVAL"] * 3, "['EPERM', 'None', (150, 150)]")


def test_kill_errors() -> None:
    """kill(): EINVAL for no signal, ESRCH for nobody, EPERM for another user's process; signal 0 only asks."""

    def user(sys: Any, victim: int) -> None:
        sys.setuid(1000)
        sys.write(1, f"{error(sys.kill, victim, 0)} {error(sys.kill, victim, 18)} {error(sys.kill, 1, 9)}".encode())

    def scenario(sys: Any) -> Any:
        victim = sys.clone(asleep)
        got = [
            error(sys.kill, victim, 65),
            error(sys.kill, victim, -1),
            error(sys.kill, 4242, 9),
            error(sys.kill, -4242, 9),
            error(sys.kill, victim, 0),
            error(sys.tgkill, victim, -1, 9),
            error(sys.tgkill, 1, victim, 0),
            error(sys.tkill, 0, 9),
        ]
        sys.waitpid(sys.clone(user, victim))
        return got, machine.cur.console_tty.text

    # SIGCONT is allowed within a session, whoever sends it
    assert play(scenario) == (
        ["EINVAL", "EINVAL", "ESRCH", "ESRCH", "None", "EINVAL", "ESRCH", "EINVAL"],
        "EPERM None EPERM",
    )
