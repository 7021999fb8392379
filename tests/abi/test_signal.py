"""Signals and si_code against Python's signal module, the C headers and the running kernel."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.abi import siginfo
from taskscope.abi.arch import arch_of
from taskscope.abi.signal import (
    ALIASES,
    MEANINGS,
    NSIG,
    RESULT_MEANINGS,
    SIGRTMAX,
    SIGRTMIN,
    Action,
    Result,
    Signal,
    default_action,
    fatal_by_default,
    sig_kernel_coredump,
    sig_kernel_ignore,
    sig_kernel_only,
    sig_kernel_stop,
    sig_specific_sicodes,
    signal_name,
    signal_number,
    sigset,
)
from taskscope.abi.syscalls import call_of_name

# A machine under load must not fail a test by being slow.
SETTINGS = settings(deadline=None)

ASM_SIGNAL = [Path("/usr/include/asm-generic/signal.h")]
ASM_SIGINFO = Path("/usr/include/asm-generic/siginfo.h")


def test_numbers_are_those_of_the_signal_module() -> None:
    """Every signal that Python knows here has the number we give it, and we miss none."""
    theirs = {s.name: s.value for s in signal.Signals if not s.name.startswith("SIGRT")}
    ours = {s.name: s.value for s in Signal} | ALIASES
    assert {name: ours.get(name) for name in theirs} == theirs
    assert (SIGRTMIN, SIGRTMAX) == (signal.SIGRTMIN, signal.SIGRTMAX)


def test_numbers_are_those_of_the_generic_header() -> None:
    """asm-generic/signal.h has the same numbers."""
    header = next((path for path in ASM_SIGNAL if path.exists()), None)
    if header is None:
        pytest.skip("no kernel headers for user space here (linux-libc-dev)")
    found = re.findall(r"^#define\s+(SIG[A-Z0-9]+)\s+(\d+)", header.read_text(), re.MULTILINE)
    numbers = {name: int(value) for name, value in found if name not in ("SIGSTKSZ", "SIGRTMIN", "SIGLOST")}
    assert len(numbers) > 30
    assert {name: signal_number(name) for name in numbers} == numbers


def test_names_of_bash() -> None:
    """Names are those that ``kill -l`` of bash prints, real-time signals included."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash here")
    listed = subprocess.run([bash, "-c", "kill -l"], capture_output=True, text=True, timeout=20).stdout
    found = {int(number): name for number, name in re.findall(r"(\d+)\) (\S+)", listed)}
    assert len(found) == 62
    assert {number: signal_name(number) for number in found} == found


@SETTINGS
@given(st.integers(1, NSIG))
def test_names_are_read_back(number: int) -> None:
    """A signal's name gives its number, in any case and without SIG."""
    name = signal_name(number)
    if number in (32, 33):
        assert name == str(number)
        return
    assert signal_number(name) == signal_number(name.lower()) == signal_number(name[3:]) == number


@pytest.mark.parametrize("name", ["SIGFOO", "", "SIGRTMIN+31", "SIGRTMAX-31", "SIGRTMIN-1", "SIGRTMIN+x", "9", "SIGRT",
                                  "SIGRTMIN+²"])
def test_what_is_no_signal_has_no_number(name: str) -> None:
    """A name that no signal bears gives None."""
    assert signal_number(name) is None


def ended_by(number: int) -> Action:
    """Send a signal to a real child that has default handlers, and see what it does."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            for one in range(1, 65):
                if one not in (9, 19, 32, 33):
                    signal.signal(one, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            os.close(reading)
            # No core file is wanted, only the bit that says so would be lost with RLIMIT_CORE 0: the action is known
            # from the kernel's own mask in the tests below.
            os.kill(os.getpid(), number)
            os.write(writing, b"alive")
        finally:
            os._exit(0)
    os.close(writing)
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reading)
        return Action.STOP
    with os.fdopen(reading, "rb") as pipe:
        alive = pipe.read() == b"alive"
    assert alive == os.WIFEXITED(status)
    return Action.IGN if alive else Action.TERM


def test_default_actions_are_those_of_the_running_kernel() -> None:
    """Each signal does to a real child what its default action says."""
    wrong = {}
    for number in range(1, 65):
        if number in (32, 33):
            continue  # glibc's own: once it has taken them, nobody can give them back their default
        action = default_action(number)
        expected = {Action.CORE: Action.TERM, Action.CONT: Action.IGN}.get(action, action)
        # The terminal's stop signals do nothing in an orphaned process group, which the child's is.
        if number in (20, 21, 22):
            expected = Action.IGN
        if (seen := ended_by(number)) != expected:
            wrong[number] = seen
        assert fatal_by_default(number) == (action in (Action.TERM, Action.CORE))
    assert wrong == {}


def test_predicates_are_the_masks_of_the_kernel() -> None:
    """The predicates hold for the signals in the masks of include/linux/signal.h."""
    def which(predicate: object) -> set[str]:
        assert callable(predicate)
        return {Signal(n).name for n in range(1, 32) if predicate(n)}

    assert which(sig_kernel_only) == {"SIGKILL", "SIGSTOP"}
    assert which(sig_kernel_stop) == {"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"}
    assert which(sig_kernel_coredump) == {"SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGFPE", "SIGSEGV", "SIGBUS",
                                          "SIGSYS", "SIGXCPU", "SIGXFSZ"}
    assert which(sig_kernel_ignore) == {"SIGCONT", "SIGCHLD", "SIGWINCH", "SIGURG"}
    assert which(sig_specific_sicodes) == {Signal(n).name for n in siginfo.SPECIFIC}


def test_there_is_no_action_for_what_is_no_signal() -> None:
    """default_action() refuses numbers that are no signal, fatal_by_default() says no."""
    for number in (0, 65, -9):
        assert not fatal_by_default(number)
        with pytest.raises(ValueError, match="no signal"):
            default_action(number)


def test_every_signal_and_result_has_a_meaning() -> None:
    """No name stands without a phrase that explains it."""
    assert set(MEANINGS) == set(Signal)
    assert set(RESULT_MEANINGS) == set(Result)
    assert set(siginfo.SI_MEANINGS) == set(siginfo.SiCode)


def test_results_are_those_of_the_recorded_formats(data: Path) -> None:
    """signal_generate records result 0 to 4; the enum counts from 0 without a hole."""
    assert [r.value for r in Result] == list(range(5))
    formats = (data / "d18-raw4k" / "formats").read_text(errors="replace")
    assert "res=%d" in formats[formats.index("name: signal_generate"):]


def test_si_codes_are_those_of_the_header() -> None:
    """Every si_code has the number of asm-generic/siginfo.h."""
    if not ASM_SIGINFO.exists():
        pytest.skip("no kernel headers for user space here (linux-libc-dev)")
    text = re.sub(r"# define __SEGV.*", "", ASM_SIGINFO.read_text())
    found = {name: int(value, 0) for name, value in re.findall(
        r"^#\s*define\s+((?:SI|ILL|FPE|SEGV|BUS|TRAP|CLD|POLL|SYS)_[A-Z_]+)\s+(-?\w+)", text, re.MULTILINE)
        if re.fullmatch(r"-?(0x)?[0-9a-fA-F]+", value)}
    names = [n for n in found if n not in ("SI_MAX_SIZE", "TRAP_PERF_FLAG_ASYNC")]
    assert len(names) > 50
    for name in names:
        code = siginfo.si_code_number(name)
        assert code is not None, name
        assert code[1] == found[name], name


def test_si_code_names_are_read_back() -> None:
    """The name of every code gives its signal and number again."""
    for sig, codes in siginfo.SPECIFIC.items():
        for code, (name, _) in codes.items():
            assert siginfo.si_code_name(sig, code) == name
            assert siginfo.si_code_number(name.lower()) == (sig, code)
    for common in siginfo.SiCode:
        assert siginfo.si_code_name(None, common) == common.name
        assert siginfo.si_code_number(common.name) == (None, common.value)
    assert siginfo.si_code_name(None, 1) is None
    assert siginfo.si_code_name(9, 1) is None
    assert siginfo.si_code_meaning(11, 1) == "nothing is mapped at the address"


def next_code(wanted: int) -> int:
    """Take one pending, blocked signal and return its si_code, by the bare system call: glibc hides SI_TKILL."""
    call = call_of_name(platform.machine(), "rt_sigtimedwait") if arch_of(platform.machine()) else None
    libc = ctypes.CDLL(None)
    if call is None or not hasattr(libc, "syscall"):
        pytest.skip(f"no system call table for {platform.machine()}")
    mask, info = (ctypes.c_uint64 * 2)(1 << wanted - 1), (ctypes.c_int * 32)()
    assert libc.syscall(ctypes.c_long(call.number), mask, info, None, ctypes.c_size_t(8)) == wanted
    return info[2]


def codes_of_a_process_alone() -> list[int]:
    """Return the si_codes of a kill(), a tkill(), a child that exited, one that was killed; in a process of one thread.

    A signal to a process goes to any thread that does not block it, and a test runner may have several.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGCHLD})
            os.kill(os.getpid(), signal.SIGUSR1)
            codes = [next_code(signal.SIGUSR1)]
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            codes.append(next_code(signal.SIGUSR1))
            for end in (0, signal.SIGKILL):
                child = os.fork()
                if child == 0:
                    if end:
                        os.kill(os.getpid(), end)
                    os._exit(0)
                codes.append(next_code(signal.SIGCHLD))
                os.waitpid(child, 0)
            os.write(writing, " ".join(map(str, codes)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return [int(word) for word in said.split()]


def test_real_si_codes() -> None:
    """kill() makes SI_USER, a signal to one thread SI_TKILL, a dead child CLD_EXITED or CLD_KILLED."""
    user, thread, exited, killed = codes_of_a_process_alone()
    assert user == siginfo.SiCode.SI_USER
    assert siginfo.si_code_name(Signal.SIGUSR1, thread) == "SI_TKILL"
    assert siginfo.from_user(thread)
    for code, name in ((exited, "CLD_EXITED"), (killed, "CLD_KILLED")):
        assert siginfo.si_code_name(Signal.SIGCHLD, code) == name
        assert not siginfo.from_user(code)


@SETTINGS
@given(st.sets(st.integers(1, NSIG)))
def test_signal_masks(signals: set[int]) -> None:
    """Bit n - 1 of a mask is signal n."""
    assert sigset(sum(1 << n - 1 for n in signals)) == sorted(signals)


def test_the_mask_in_proc() -> None:
    """SigBlk of /proc/self/status lists the signals that are blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGRTMIN + 3})
    try:
        status = dict(line.split(":", 1) for line in Path("/proc/thread-self/status").read_text().splitlines())
        blocked = sigset(int(status["SigBlk"], 16))
        assert {12, SIGRTMIN + 3} <= set(blocked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
