"""execve(): errors, what stays and what goes, scripts, threads, events."""

from __future__ import annotations

from typing import Any

import pytest

from bare import ALL, accounts, error, play, world
from taskscope.model import machine
from taskscope.model.fs import super as super_
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.include.uapi.linux.sched import CLONE_VFORK, CLONE_VM
from taskscope.model.user import programs


def asleep(sys: Any) -> None:
    while True:
        sys.pause()


def told(sys: Any, argv: list[str]) -> int:
    """Say who one is after an execve()."""
    task = machine.cur.cpu.curr
    sys.write(1, repr((argv, task.comm, task.pid == task.tgid, sys.getpid() == task.tgid)).encode() + b"\n")
    return 6


def install(path: str, program: Any) -> None:
    programs.install_program(path, program)


def test_errors() -> None:
    """execve(): ENOENT, EACCES without x or for a folder, ENOEXEC for a file of no format, ENOTDIR, E2BIG.

    The old program goes on.
    """

    def scenario(sys: Any) -> Any:
        super_.kern_file("/tmp/text", b"just text\n", 0o755)
        super_.kern_file("/tmp/closed", b"#!/bin/sh\n", 0o644)
        super_.kern_file("/tmp/loop", b"#!/tmp/loop\n", 0o755)
        super_.kern_file("/tmp/lost", b"#!/no/such\n", 0o755)
        super_.kern_file("/tmp/empty", b"#!\n", 0o755)
        error(sys.execve, "/tmp/text", ["x"])
        sys.nanosleep(1_000_000_000)
        before = accounts()
        got = [error(sys.execve, path, ["x"]) for path in (
            "/no/such", "/tmp/closed", "/tmp", "/tmp/text", "/tmp/text/x", "/tmp/loop", "/tmp/lost", "/tmp/empty", "")]
        got.append(error(sys.execve, "/bin/true", ["x" * 200_000]))
        sys.nanosleep(1_000_000_000)
        after = accounts()
        assert after == before, {k: (before[k], after[k]) for k in before if before[k] != after[k]}
        return got, machine.cur.cpu.curr.comm

    # a script that is its own interpreter fails after four levels with ELOOP
    assert play(scenario) == (
        ["ENOENT", "EACCES", "EACCES", "ENOEXEC", "ENOTDIR", "ELOOP", "ENOENT", "ENOEXEC", "ENOENT", "E2BIG"],
        "init",
    )


@pytest.mark.parametrize("flavour", ALL)
def test_scripts(flavour: str) -> None:
    """A script runs its interpreter with one argument, its own name and the others; comm is the script's name."""

    def scenario(sys: Any) -> Any:
        install("/bin/told", told)
        super_.kern_file("/tmp/script.py", b"#! /bin/told  one two \nrest\n", 0o755)
        pid = sys.clone(lambda sys: sys.execve("/tmp/script.py", ["anything", "a", "b"]))
        status = sys.waitpid(pid)[1]
        return status, machine.cur.console_tty.text.strip()

    status, text = play(scenario, flavour)
    assert status == 0x600
    assert text == repr(
        (["/bin/told", "one two ", "/tmp/script.py", "a", "b"], "script.py", True, True)
    ) or text == repr((["/bin/told", "one two", "/tmp/script.py", "a", "b"], "script.py", True, True))


def test_what_stays_and_what_goes() -> None:
    """Ignored signals, mask, pending signals, pid, group stay.

    Handlers, close-on-exec files, PF_FORKNOEXEC, alternate stacks go.
    """

    def probe(sys: Any, argv: list[str]) -> int:
        task = machine.cur.cpu.curr
        open_ = [fd for fd, f in enumerate(task.files.fd) if f is not None]
        sys.write(
            1,
            repr(
                (
                    task.sighand.action[9].sa_handler,
                    task.sighand.action[11].sa_handler,
                    task.blocked,
                    task.pending.signal | task.signal.shared_pending.signal,
                    open_,
                    task.flags & 0x40,
                    task.self_exec_id,
                    task.pdeath_signal,
                )
            ).encode(),
        )
        return 0

    def child(sys: Any) -> None:
        sys.sigaction(10, lambda sys, sig, info: None)
        sys.sigaction(12, 1)
        sys.sigprocmask(0, 1 << 14 | 1 << 9)
        sys.kill(sys.getpid(), 15)
        sys.prctl(1, 10)
        sys.dup2(1, 7)
        sys.dup2(1, 8)
        sys.fcntl(8, 2, 1)
        sys.execve("/bin/probe", ["probe"])

    def scenario(sys: Any) -> Any:
        install("/bin/probe", probe)
        sys.waitpid(sys.clone(child))
        return machine.cur.console_tty.text

    assert play(scenario) == repr((0, 1, 1 << 14 | 1 << 9, 1 << 14, [0, 1, 2, 7], 0, machine_exec_id() + 1, 10))


def machine_exec_id() -> int:
    """What init's own execve() left: self_exec_id of its children begins there."""
    return play(lambda sys: machine.cur.cpu.curr.self_exec_id)  # type: ignore[no-any-return]


@pytest.mark.parametrize("flavour", ALL)
@pytest.mark.parametrize("who", ["leader", "thread", "thread of a dead leader"])
def test_exec_in_a_process_with_threads(flavour: str, who: str) -> None:
    """Whichever thread executes, the others die, it has the leader's pid and tgid, and the parent reaps it."""

    def execs(sys: Any) -> None:
        sys.nanosleep(3_000_000)
        sys.execve("/bin/told", ["told"])

    def process(sys: Any) -> None:
        for _ in range(3):
            sys.pthread_create(asleep)
        if who == "leader":
            execs(sys)
        sys.pthread_create(execs)
        if who != "thread":
            sys._call("exit", 0)
        asleep(sys)

    def scenario(sys: Any) -> Any:
        install("/bin/told", told)
        sys.waitpid(sys.clone(lambda sys: 0))
        sys.nanosleep(500_000_000)
        before = accounts()
        pid = sys.clone(process)
        status = sys.waitpid(pid)[1]
        sys.nanosleep(1_000_000_000)
        after = accounts()
        # the console's screen is no leak, and slabs may keep empty slabs
        differ = {k for k in before if before[k] != after[k]} - {"free pages", "slab pages"}
        return status, machine.cur.console_tty.text.strip(), differ

    assert play(scenario, flavour, cpus=2) == (0x600, repr((["told"], "told", True, True)), set())


@pytest.mark.parametrize("flavour", ALL)
def test_order_of_events_with_vfork(flavour: str) -> None:
    """The vfork parent is let go by the exec before sched_process_exec; task_rename stands before it.

    Sched_prepare_exec first, where it exists.
    """
    with world(flavour) as one:
        seen: list[str] = []

        def child(sys: Any) -> None:
            sys.execve("/bin/true", ["true"])

        def scenario(sys: Any) -> Any:
            for name in ("sched_prepare_exec", "task_rename", "sched_process_exec"):
                tracepoint_probe_register(one.m.tp, name, lambda data, *args: seen.append(data), name)
            tracepoint_probe_register(
                one.m.tp, "sched_waking", lambda data, p: seen.append("parent") if p.pid == 1 else None, None
            )
            pid = sys.clone(child, flags=CLONE_VFORK | CLONE_VM | 17)
            order = list(seen)
            sys.waitpid(pid)
            return order, seen

        _, seen = one.run(scenario)
        names = list(dict.fromkeys(seen))
        first = ["sched_prepare_exec"] if flavour == "6.18-x86_64" else []
        assert names == [*first, "parent", "task_rename", "sched_process_exec"]


def test_set_user_id_programs() -> None:
    """A set-user-id file runs with its owner's effective id, is not dumpable, and loses the parent-death signal."""

    def probe(sys: Any, argv: list[str]) -> int:
        task = machine.cur.cpu.curr
        sys.write(1, repr((sys.getuid(), sys.geteuid(), task.cred.suid, task.mm.dumpable, task.pdeath_signal)).encode())
        return 0

    def child(sys: Any) -> None:
        sys.setuid(1000)
        sys.prctl(1, 9)
        sys.execve("/bin/suid", ["suid"])

    def scenario(sys: Any) -> Any:
        install("/bin/suid", probe)
        machine.cur.init_fs.root.inode.i_children["bin"].i_children["suid"].i_mode |= 0o4000
        sys.waitpid(sys.clone(child))
        return machine.cur.console_tty.text

    assert play(scenario) == "(1000, 0, 0, 0, 0)"
