"""System call tables against the C headers, Debian's cross headers and the running kernel."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
from pathlib import Path

import pytest

from taskscope.abi.arch import ARCHES, FAMILIES, Arch, arch_of, family_of
from taskscope.abi.syscalls import call_of_name, call_of_number, table
from taskscope.errors import UsageError

#: a header that has a table on this machine -> its architecture
HEADERS = {"unistd_64.h": "x86_64", "unistd_32.h": "i386"}


def header(name: str) -> Path:
    """Return a header of linux-libc-dev."""
    for folder in ("/usr/include/x86_64-linux-gnu/asm", "/usr/include/asm"):
        if (Path(folder) / name).exists():
            return Path(folder) / name
    pytest.skip(f"no {name} here (linux-libc-dev for x86)")


@pytest.mark.parametrize("name", HEADERS)
def test_x86_tables_are_those_of_the_c_headers(name: str) -> None:
    """Every call of the C headers on this machine has the number we give it."""
    found = re.findall(r"^#define __NR_(\w+) (\d+)$", header(name).read_text(), re.MULTILINE)
    assert len(found) > 300
    calls = table(HEADERS[name]).by_name
    assert {n: calls[n].number if n in calls else None for n, _ in found} == {n: int(v) for n, v in found}


def test_x32_numbers_are_those_of_the_c_header() -> None:
    """The calls of x32 carry bit 30, and some of them numbers of their own."""
    text = header("unistd_x32.h").read_text()
    found = re.findall(r"^#define __NR_(\w+) \(__X32_SYSCALL_BIT \+ (\d+)\)$", text, re.MULTILINE)
    assert len(found) > 300
    for name, number in found:
        call = call_of_number("x86_64", 0x4000_0000 + int(number))
        assert call is not None, name
        assert (call.name, call.abi) == (name, "x32")


@pytest.mark.parametrize("arch", ["arm", "arm64", "s390x"])
def test_other_tables_are_those_of_debians_headers(data: Path, arch: str) -> None:
    """Every call that Debian's cross headers (Linux 6.1) have, we have under the same number."""
    found = [line.split() for line in (data / "abi" / "syscalls-6.1.txt").read_text().splitlines()
             if line.startswith(f"{arch} ")]
    assert len(found) > 300
    calls = table(arch).by_number
    for _, number, name in found:
        assert calls[int(number)].name == name


@pytest.mark.parametrize("arch", ARCHES)
def test_names_are_read_back(arch: Arch) -> None:
    """Each number gives a name, and the name the number; the two directions agree."""
    both = table(arch)
    assert len(both.by_number) > 300
    for number, call in both.by_number.items():
        assert (call.arch, call.number) == (arch, number)
        if call.abi is None:
            assert call_of_name(arch, call.name) == call
    assert all(both.by_number[call.number] == call for call in both.by_name.values())


@pytest.mark.parametrize("arch", ARCHES)
def test_process_calls_are_there(arch: Arch) -> None:
    """Every architecture has the calls of a process's life, with a function behind them."""
    for name in ("clone", "clone3", "execve", "exit", "exit_group", "wait4", "waitid", "kill", "tgkill"):
        call = call_of_name(arch, name)
        assert call is not None, name
        assert call.function == f"sys_{name}"


def test_numbers_that_people_know() -> None:
    """Numbers from books and study notes: ARM 120 is clone, x86-64 56, i386 and s390x 120, arm64 220."""
    assert {arch: call.number for arch in ARCHES if (call := call_of_name(arch, "clone"))} == {
        "arm": 120, "arm64": 220, "x86_64": 56, "i386": 120, "s390x": 120}
    socketcall = call_of_name("i386", "socketcall")
    ipc = call_of_name("s390x", "ipc")
    assert socketcall is not None
    assert ipc is not None
    assert (socketcall.number, ipc.number) == (102, 117)


def test_functions_behind_the_names() -> None:
    """A call's function is the kernel's own; reserved numbers have none."""
    uname, cmd = call_of_name("x86_64", "uname"), call_of_name("x86_64", "tuxcall")
    assert uname is not None
    assert cmd is not None
    assert (uname.function, cmd.function) == ("sys_newuname", None)
    assert (call_of_number("arm", 0xF0005) or uname).name == "set_tls"
    assert (call_of_number("arm", 13) or uname).abi == "OABI"


def test_the_running_kernel_answers_under_these_numbers() -> None:
    """Calls through the table's numbers, getpid and others, give what the C library gives."""
    arch = arch_of(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    if arch is None or not hasattr(libc, "syscall"):
        pytest.skip(f"no table for {platform.machine()}")
    if ctypes.sizeof(ctypes.c_void_p) == 4 and arch in ("x86_64", "arm64", "s390x"):
        pytest.skip("a 32-bit program on a 64-bit kernel")
    for name, expected in (("getpid", os.getpid()), ("getppid", os.getppid()), ("getpgid", os.getpgrp())):
        call = call_of_name(arch, name)
        assert call is not None
        assert libc.syscall(ctypes.c_long(call.number), 0) == expected
    bad = call_of_name(arch, "close")
    assert bad is not None
    assert libc.syscall(ctypes.c_long(bad.number), -1) == -1
    assert ctypes.get_errno() == errno.EBADF


@pytest.mark.root
def test_the_running_kernels_events_have_these_names() -> None:
    """Every sys_enter event of this kernel belongs to a function that the table of its architecture names."""
    arch, folder = arch_of(platform.machine()), Path("/sys/kernel/tracing/events/syscalls")
    if arch is None or not os.access(folder, os.R_OK | os.X_OK):
        pytest.skip("needs root, a tracefs with system call events and a table for this machine")
    names = {path.name.removeprefix("sys_enter_") for path in folder.glob("sys_enter_*")}
    if not names:
        pytest.skip("this kernel has no system call events (CONFIG_FTRACE_SYSCALLS)")
    calls = table(arch).by_name
    known = {(call.function or "").removeprefix("sys_") for call in calls.values()} | set(calls)
    # A kernel newer than the table may have more; most must be known for the table to be that of this architecture.
    assert len(names - known) < 10, sorted(names - known)
    assert {"newuname", "clone", "wait4", "exit_group"} <= names & known


@pytest.mark.parametrize(("machine", "arch", "family"), [
    ("armv7l", "arm", "arm"), ("armv6l", "arm", "arm"), ("aarch64", "arm64", "arm64"), ("arm64", "arm64", "arm64"),
    ("x86_64", "x86_64", "x86"), ("amd64", "x86_64", "x86"), ("i686", "i386", "x86"), ("I386", "i386", "x86"),
    ("s390x", "s390x", "s390"), ("armv8l", "arm", "arm"), ("x86", None, "x86"), ("s390", None, "s390"),
    ("mips", None, None), ("", None, None),
])
def test_spellings_of_architectures(machine: str, arch: str | None, family: str | None) -> None:
    """Whatever uname -m or a distribution calls an architecture is understood; what is unknown is None."""
    assert (arch_of(machine), family_of(machine)) == (arch, family)
    assert {family_of(known) for known in ARCHES} == set(FAMILIES)


def test_there_is_no_table_for_other_architectures() -> None:
    """An architecture without a table is an error that names those that have one."""
    with pytest.raises(UsageError, match="arm, arm64, x86_64, i386 and s390x"):
        table("mips")
    assert call_of_number("x86_64", 400) is None
    assert call_of_name("arm64", "fork") is None
