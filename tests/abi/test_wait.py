"""Wait statuses against the C library's macros and against real children."""

from __future__ import annotations

import lzma
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.abi import wait
from taskscope.abi.wait import CONTINUED, WaitStatus

# A machine under load must not fail a test by being slow.
SETTINGS = settings(deadline=None)


def by_libc(status: int) -> tuple[str, int | None, bool | None] | None:
    """Return (how, code or signal, core) as the C library's macros see a status."""
    if os.WIFEXITED(status):
        return "exited", os.WEXITSTATUS(status), None
    if os.WIFSIGNALED(status):
        return "killed", os.WTERMSIG(status), os.WCOREDUMP(status)
    if os.WIFSTOPPED(status):
        return "stopped", os.WSTOPSIG(status), None
    if os.WIFCONTINUED(status):
        return "continued", None, None
    return None


@SETTINGS
@given(st.integers(0, 0xFFFF))
def test_every_status_is_read_as_the_c_library_reads_it(status: int) -> None:
    """Whatever is a wait status at all means what the macros of <sys/wait.h> say."""
    try:
        found = wait.split(status)
    except ValueError:
        # No kernel makes it; the macros would still say something about a status with two meanings.
        low, high = status & 0x7F, status >> 8
        assert (status & 0xFF in (0x80, 0xFF)) or (0 < low < 0x7F and (high or low > 64)) or status == 0x7F
        return
    value = found.code if found.how == "exited" else found.signal
    assert by_libc(status) == (found.how, value, found.core)


@SETTINGS
@given(st.one_of(
    st.integers(0, 255).map(lambda code: wait.exited(code)),
    st.builds(wait.killed, st.integers(1, 64), st.booleans()),
    st.builds(wait.stopped, st.integers(1, 64), st.integers(0, 128)),
    st.just(CONTINUED),
))
def test_what_is_built_is_read_back(status: int) -> None:
    """exited(), killed() and stopped() build what split() takes apart again."""
    found = wait.split(status)
    assert found.status == status
    if found.how == "exited":
        assert found.code is not None
        assert wait.exited(found.code) == status
    elif found.how == "killed":
        assert found.signal is not None
        assert wait.killed(found.signal, bool(found.core)) == status
    elif found.how == "stopped":
        assert found.signal is not None
        assert wait.stopped(found.signal, found.event or 0) == status


@pytest.mark.parametrize(("end", "said"), [
    (lambda: os._exit(3), "exited with 3"),
    (lambda: os._exit(300), "exited with 44"),
    (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed by SIGKILL"),
    (lambda: os.kill(os.getpid(), signal.SIGTERM), "killed by SIGTERM"),
    (lambda: os.kill(os.getpid(), signal.SIGRTMIN + 2), "killed by SIGRTMIN+2"),
])
def test_real_children(end: Callable[[], None], said: str) -> None:
    """The status of a real child says how it ended."""
    pid = os.fork()
    if pid == 0:
        try:
            end()
        finally:
            os._exit(99)
    _, status = os.waitpid(pid, 0)
    assert str(wait.split(status)) == said


def test_a_real_child_stops_and_continues() -> None:
    """Stop, continue and death of one child are told apart."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    seen = []
    for sig, options in ((signal.SIGSTOP, os.WUNTRACED), (signal.SIGCONT, os.WCONTINUED), (signal.SIGKILL, 0)):
        os.kill(pid, sig)
        seen.append(str(wait.split(os.waitpid(pid, options)[1])))
    assert seen == ["stopped by SIGSTOP", "continued by SIGCONT", "killed by SIGKILL"]


def test_ptrace_stops_carry_their_event() -> None:
    """A ptrace event stop has the event above the signal; a system call stop marks the signal with 0x80."""
    assert str(wait.split(0x6057F)) == "stopped by SIGTRAP, PTRACE_EVENT_EXIT"
    assert str(wait.split(0x857F)) == "stopped by SIGTRAP at a system call (PTRACE_O_TRACESYSGOOD)"
    header = Path("/usr/include/linux/ptrace.h")
    if header.exists():
        text = header.read_text()
        for number, name in wait.PTRACE_EVENTS.items():
            assert any(line.split()[:3] == ["#define", name, str(number)] for line in text.splitlines()), name


@pytest.mark.parametrize("status", [0x80, 0xFF, 0x7F, 0x0109, 0x41, 0x10000, 1 << 40, -1, -256, 0x0100057F])
def test_what_no_kernel_makes_is_refused(status: int) -> None:
    """A word that is no wait status is an error, not a guess."""
    with pytest.raises(ValueError, match=r"status|meaning|signal|event"):
        wait.split(status)


def test_there_is_no_status_for_a_signal_that_does_not_exist() -> None:
    """killed() takes the signals 1 to 64."""
    for number in (0, 65, -1):
        with pytest.raises(ValueError, match="no signal"):
            wait.killed(number)


def test_a_shell_shows_the_same_status() -> None:
    """shell_status() is what a shell puts into $?."""
    shell = "/bin/sh"
    if not Path(shell).exists():
        pytest.skip("no /bin/sh here")
    for command, status in (("exit 7", wait.exited(7)), ("kill -KILL $$", wait.killed(9))):
        out = subprocess.run([shell, "-c", f"{shell} -c '{command}'; echo $?"],
                             capture_output=True, text=True, timeout=20)
        assert int(out.stdout.split()[-1]) == wait.shell_status(wait.split(status))
    assert wait.shell_status(WaitStatus(CONTINUED, "continued")) is None


def test_recorded_do_exit_arguments_say_what_the_parent_saw(data: Path) -> None:
    """do_exit()'s recorded argument, read as a wait status, is what waitpid() told the recorded program."""
    told = {}
    for line in (data / "d08-signals.facts.txt").read_text().splitlines():
        verb, *words = line.split()
        facts = dict(word.split("=", 1) for word in words)
        if verb == "reaped":
            told[int(facts["pid"])] = facts
    with lzma.open(data / "d08-signals.report.txt.xz", "rt", errors="replace") as report:
        codes = {int(pid): int(code, 16) for pid, code in re.findall(
            r"-(\d+) +\[\d+\] +[\d.]+: do_exit: .* code=(0x[0-9a-f]+)", report.read())}
    both = told.keys() & codes.keys()
    assert len(both) >= 8
    for pid in both:
        status, facts = wait.split(codes[pid]), told[pid]
        if status.how == "exited":
            seen = {"exit": status.code}
        else:
            seen = {"signal": status.signal, "core": int(bool(status.core))}
        assert {key: int(facts[key]) for key in ("exit", "signal", "core") if key in facts} == seen
