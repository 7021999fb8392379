"""The machine's strace: what it prints of a command, of a family, and of a process that it attaches to."""

from __future__ import annotations

import re

import pytest

import taskscope
from taskscope.model.flavours import FLAVOURS


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_command(flavour: str) -> None:
    """From its execve() on each call has a line with its result, the last one none, and the end is told."""
    with taskscope.boot(cpus=2, flavour=flavour) as k:
        p = k.spawn("strace", "/bin/whoami")
        assert p.wait() == 0
        lines = p.text.splitlines()
    name = "geteuid32" if flavour == "4.19-arm" else "geteuid"
    assert lines[0] == "execve(?, ?, ?) = 0"
    assert lines[1] == f"{name}() = 0"
    assert lines[2].startswith("open(?, 0, 0x1b6) = ")
    assert re.fullmatch(r"close\(\d\) = 0", lines[5])
    assert lines[-2:] == ["exit_group(0) = ?", "+++ exited with 0 +++"]
    assert "root" in p.text


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_family(flavour: str) -> None:
    """With -f the children are shown, too, their signals and their ends; each half of a call finds the other."""
    with taskscope.boot(cpus=2, flavour=flavour) as k:
        p = k.spawn("strace", "-f", "/bin/sh", "-c", "sleep 5 & kill -9 $!; wait")
        assert p.wait() == 0
        text = p.text
    killed = re.search(r"^\[pid +(\d+)\] \+\+\+ killed by SIGKILL \+\+\+$", text, re.MULTILINE)
    assert killed is not None, text
    assert f"SIGCHLD {{si_signo=SIGCHLD, si_code=2, si_pid={killed[1]}}}" in text
    assert re.search(rf"\) = {killed[1]}$", text, re.MULTILINE), "clone() and wait4() return the child"
    assert text.rstrip().endswith("+++ exited with 0 +++")
    for who, name in re.findall(r"^\[pid +(\d+)\] <\.\.\. (\w+) resumed>", text, re.MULTILINE):
        assert re.search(rf"^\[pid +{who}\] {name}\(.*<unfinished \.\.\.>$", text, re.MULTILINE), (who, name)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_process(flavour: str) -> None:
    """A process that is attached to goes on; a stop of its group and SIGCONT do to it what they do without strace."""
    with taskscope.boot(cpus=2, flavour=flavour) as k:
        sleeper = k.spawn("sleep", "2")
        k.run(s=0.1)
        p = k.spawn("strace", "-p", str(sleeper.pid))
        k.run(s=0.1)
        task = k.find(sleeper.pid)
        assert task is not None
        assert task.parent.comm == "strace"
        k.spawn("kill", "-STOP", str(sleeper.pid)).wait()
        k.run(s=0.1)
        assert "--- stopped by SIGSTOP ---" in p.text
        k.spawn("kill", "-CONT", str(sleeper.pid)).wait()
        k.run(s=3)
        assert "--- SIGCONT {si_signo=SIGCONT, si_code=0" in p.text
        assert sleeper.exitcode == 0
        assert p.text.rstrip().endswith("+++ exited with 0 +++")


def test_nobody_to_trace() -> None:
    """A kernel thread, a number without a process and no command at all are refused with a message."""
    with taskscope.boot(cpus=1) as k:
        refused = [k.spawn("strace", *words) for words in (("-p", "2"), ("-p", "99999"), ())]
        assert [p.wait() for p in refused] == [1, 1, 1]
        assert "Operation not permitted" in refused[0].text
        assert "No such process" in refused[1].text
        assert "usage" in refused[2].text
