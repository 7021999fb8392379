"""clone3(), pidfds, unshare(), kcmp(), and which kernels have them."""

from __future__ import annotations

from typing import Any

import pytest

from bare import ALL, accounts, error, play
from taskscope.model import machine
from taskscope.model.include.linux.uaccess import Cell
from taskscope.model.include.uapi.linux import sched as c
from taskscope.model.kernel.exit import __WNOTHREAD, WEXITED, WNOHANG
from taskscope.model.kernel.fork import CloneArgs

NEW = tuple(flavour for flavour in ALL if flavour != "4.19-arm")


def at_once(sys: Any) -> int:
    return 4


def asleep(sys: Any) -> None:
    while True:
        sys.pause()


def call(sys: Any, name: str, *args: Any) -> Any:
    """Make a system call; the name of its errno where it fails."""
    return error(sys._call, name, *args)


def test_older_kernels_have_no_clone3_and_no_pidfds() -> None:
    """4.19 knows neither clone3() nor pidfd_open() (ENOSYS), and ignores the flag CLONE_PIDFD."""

    def scenario(sys: Any) -> Any:
        pid = sys.clone(at_once, flags=c.CLONE_PIDFD | 17)
        return error(sys.clone3, at_once), sys.waitpid(pid)[1], [f for f in machine.cur.cpu.curr.files.fd[3:] if f]

    assert play(scenario) == ("ENOSYS", 0x400, [])


@pytest.mark.parametrize("flavour", NEW)
def test_clone3(flavour: str) -> None:
    """clone3() takes flags and exit signal apart; wrong ones are EINVAL, a wrong pointer EFAULT."""

    def scenario(sys: Any) -> Any:
        pid = sys.clone3(at_once, exit_signal=17)
        ended = sys.waitpid(pid)[1]
        wrong = [
            error(lambda: sys.clone3(at_once, flags=17)), error(lambda: sys.clone3(at_once, exit_signal=65)),
            error(lambda: sys.clone3(at_once, flags=1 << 40)),
            error(lambda: sys.clone3(at_once, flags=c.CLONE_DETACHED)),
            error(lambda: sys.clone3(at_once, flags=c.CLONE_THREAD | c.CLONE_SIGHAND | c.CLONE_VM, exit_signal=17)),
            error(lambda: sys.clone3(at_once, flags=c.CLONE_SIGHAND | c.CLONE_VM | c.CLONE_CLEAR_SIGHAND)),
            error(lambda: sys.clone3(at_once, flags=c.CLONE_PIDFD | c.CLONE_DETACHED)),
            error(lambda: sys._call("clone3", CloneArgs(exit_signal=17), 16)),
            error(lambda: sys._call("clone3", 0x1000, 88)),
        ]
        sys.sigaction(10, lambda sys, sig, info: None)
        sys.sigaction(12, 1)
        pid = sys.clone3(asleep, flags=c.CLONE_CLEAR_SIGHAND, exit_signal=17)
        child = machine.cur.init_pid_ns.idr[pid].tasks[0].next.owner
        return ended, wrong, child.sighand.action[9].sa_handler, child.sighand.action[11].sa_handler

    assert play(scenario, flavour) == (0x400, ["EINVAL"] * 8 + ["EFAULT"], 0, 1)


@pytest.mark.parametrize("flavour", NEW)
def test_pidfds(flavour: str) -> None:
    """A pidfd comes from clone() or pidfd_open(), is closed on exec, can be waited for; no pidfd is EBADF."""

    def scenario(sys: Any) -> Any:
        sys.nanosleep(1_000_000_000)             # what the boot has dropped goes after a grace period
        before = accounts()
        fd = Cell(-1)
        pid = sys.clone(asleep, flags=c.CLONE_PIDFD | 17, parent_tid=fd)
        files = machine.cur.cpu.curr.files
        cloexec = bool(files.close_on_exec >> fd.value & 1)
        opened = int(call(sys, "pidfd_open", pid, 0))
        wrong = [call(sys, "pidfd_open", 4242, 0), call(sys, "pidfd_open", 0, 0), call(sys, "pidfd_open", pid, 7),
                 error(sys.waitid, 3, 1, WEXITED), error(sys.waitid, 3, 99, WEXITED),
                 call(sys, "pidfd_send_signal", 1, 9, 0, 0)]
        sent = call(sys, "pidfd_send_signal", opened, 15, 0, 0)
        info = sys.waitid(3, fd.value, WEXITED)
        gone = call(sys, "pidfd_send_signal", opened, 9, 0, 0)
        sys.close(fd.value)
        sys.close(opened)
        sys.nanosleep(1_000_000_000)
        after = accounts()
        left = {k for k in before if before[k] != after[k]} - {"free pages", "slab pages"}
        return cloexec, wrong, sent, (info.si_code, info.si_status), gone, left

    assert play(scenario, flavour) == (
        True, ["ESRCH", "EINVAL", "EINVAL", "EBADF", "EBADF", "EBADF"], "0", (2, 15), "ESRCH", set())


def test_wnothread() -> None:
    """With __WNOTHREAD a thread waits for its own children only, not for those of its siblings."""

    def scenario(sys: Any) -> Any:
        pid = sys.clone(at_once)
        sys.nanosleep(1_000_000)
        out: list[str] = []

        def thread(sys: Any) -> None:
            out.append(error(sys.waitpid, pid, __WNOTHREAD | WNOHANG))
            out.append(error(sys.waitpid, pid, 0))

        sys.pthread_create(thread)
        sys.nanosleep(5_000_000)
        return out, pid

    out, pid = play(scenario)
    assert out == ["ECHILD", repr((pid, 0x400))]


def test_unshare_and_kcmp() -> None:
    """unshare() gives a task files and fs of its own again, as kcmp() shows; it refuses what threads share."""

    def scenario(sys: Any) -> Any:
        def child(sys: Any, parent: int) -> None:
            me = sys.getpid()
            got = [sys.kcmp(me, parent, kind) == 0 for kind in (1, 2, 3, 4)]
            sys._call("unshare", c.CLONE_FILES | c.CLONE_FS)
            got += [sys.kcmp(me, parent, kind) == 0 for kind in (1, 2, 3, 4)]
            got.append(call(sys, "unshare", 0x10))
            sys.write(1, repr(got).encode())

        sys.waitpid(sys.clone(child, 1, flags=c.CLONE_FILES | c.CLONE_FS | 17))
        sys.pthread_create(asleep)
        threads = call(sys, "unshare", c.CLONE_SIGHAND | c.CLONE_VM)
        return machine.cur.console_tty.text, threads, error(sys.kcmp, 1, 4242, 1), error(sys.kcmp, 1, 1, 99)

    text, threads, nobody, wrong = play(scenario)
    assert text == repr([False, True, True, False, False, False, False, False, "EINVAL"])
    assert (threads, nobody, wrong) == ("EINVAL", "ESRCH", "EINVAL")
