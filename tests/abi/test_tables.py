"""The tables of internal flags against what a script read from the kernels' headers (tests/data/abi/flags.tsv)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from taskscope.abi.era import CHECKED, DEFAULT, KERNELS, Names, Version, checked, kernel_of, row, version_text
from taskscope.abi.sched import CLONE_FLAGS, PROCESS_FLAGS, CloneFlag, Policy, ProcessFlag
from taskscope.abi.state import TASK_STATES, TaskState
from taskscope.abi.threadinfo import SYSCALL_WORK, THREAD_FLAGS, work_masks
from taskscope.abi.traceflags import TRACE_FLAGS, TraceFlag
from taskscope.errors import UsageError

TABLES: dict[str, Names] = {
    "pf": PROCESS_FLAGS,
    "state": TASK_STATES,
    "clone": CLONE_FLAGS,
    "trace": TRACE_FLAGS,
    "syscall_work": SYSCALL_WORK,
    **{f"tif/{family}": names for family, names in THREAD_FLAGS.items()},
}


def headers(data: Path, table: str) -> dict[Version, dict[str, int]]:
    """Return kernel -> name -> value of one table, as the headers have it."""
    found: dict[Version, dict[str, int]] = {kernel: {} for kernel in KERNELS}
    for line in (data / "abi" / "flags.tsv").read_text().splitlines():
        if line.startswith(f"{table}\t"):
            _, name, value, kernels = line.split("\t")
            for kernel in kernels.split():
                found[kernel_of(kernel)][name] = int(value, 0)
    return found


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("kernel", KERNELS, ids=version_text)
def test_every_name_has_the_value_of_that_kernels_header(data: Path, table: str, kernel: Version) -> None:
    """For every checked kernel a table holds the names and values of its headers, no more and no less."""
    assert {r.name: r.value for r in TABLES[table].at(kernel)} == headers(data, table)[kernel]


@pytest.mark.parametrize(("flags", "table"), [
    (ProcessFlag, "pf"), (CloneFlag, "clone"), (TaskState, "state"),
])
def test_the_enums_are_linux_6_1(data: Path, flags: type[CloneFlag], table: str) -> None:
    """The IntFlag classes hold the names and values of Linux 6.1."""
    assert {name: int(flag) for name, flag in flags.__members__.items()} == headers(data, table)[DEFAULT]


def test_the_trace_flags_enum_is_the_newest(data: Path) -> None:
    """TraceFlag holds the names and values of the newest checked kernel."""
    assert {name: int(flag) for name, flag in TraceFlag.__members__.items()} == headers(data, "trace")[KERNELS[-1]]


def test_policies_are_those_of_the_header(data: Path) -> None:
    """The scheduling policies have the numbers of include/uapi/linux/sched.h, and of the os module."""
    assert {p.name: p.value for p in Policy} == headers(data, "policy")[KERNELS[-1]]
    for name in ("SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_IDLE"):
        if hasattr(os, name):
            assert Policy[name] == getattr(os, name)


def test_every_bit_has_one_name_in_a_kernel() -> None:
    """In one kernel no two names share a bit, and every flag is a single bit."""
    for table, names in TABLES.items():
        for kernel in KERNELS:
            values = [r.value for r in names.at(kernel) if r.value]
            assert len(values) == len(set(values)), (table, kernel)
            assert all(value.bit_count() == 1 for value in values), (table, kernel)


def test_the_notes_arm_4_19_masks() -> None:
    """_TIF_SYSCALL_WORK and _TIF_WORK_MASK of ARM 4.19 are the bits 4 to 7 and 0 to 3."""
    assert work_masks("arm", (4, 19)) == {"_TIF_SYSCALL_WORK": 0xF0, "_TIF_WORK_MASK": 0xF}


def test_work_masks_hold_only_flags_of_their_kernel() -> None:
    """Every mask is made of bits that its kernel names, and says to reschedule on the way out."""
    for family, names in THREAD_FLAGS.items():
        for kernel in KERNELS:
            known = {r.name: r.value for r in names.at(kernel)}
            masks = work_masks(family, kernel)
            assert all(mask and mask & ~sum(known.values()) == 0 for mask in masks.values())
            assert any(mask & known["TIF_NEED_RESCHED"] and mask & known["TIF_SIGPENDING"] for mask in masks.values())


def test_pid_2_is_a_kernel_thread() -> None:
    """PF_KTHREAD is set in the flags that /proc shows of kthreadd, and not in our own."""
    stat = Path("/proc/2/stat")
    if not stat.exists() or "(kthreadd)" not in stat.read_text():
        pytest.skip("no kthreadd in this pid namespace")

    def flags(path: str) -> int:
        return int(Path(path).read_text().rpartition(")")[2].split()[6])

    assert flags("/proc/2/stat") & ProcessFlag.PF_KTHREAD
    assert not flags("/proc/self/stat") & ProcessFlag.PF_KTHREAD


def test_a_forked_child_has_not_execed() -> None:
    """PF_FORKNOEXEC is set in a child that has only forked."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, Path("/proc/self/stat").read_bytes())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        stat = pipe.read().decode()
    os.waitpid(pid, 0)
    assert int(stat.rpartition(")")[2].split()[6]) & ProcessFlag.PF_FORKNOEXEC


def test_uapi_headers_have_the_same_clone_flags() -> None:
    """The C headers on this machine give every clone flag the value we give it."""
    header = Path("/usr/include/linux/sched.h")
    if not header.exists():
        pytest.skip("no kernel headers for user space here (linux-libc-dev)")
    found = dict(re.findall(r"^#define\s+(CLONE_[A-Z_]+)\s+(0x[0-9a-fA-F]+)", header.read_text(), re.MULTILINE))
    assert len(found) > 20
    for name, value in found.items():
        if name in CloneFlag.__members__:           # a newer header may have more
            assert CloneFlag[name] == int(value, 0), name


def test_a_release_string_gives_its_version() -> None:
    """A version is read from release strings of distributions; anything else is refused."""
    assert kernel_of("6.1.0-56-cloud-amd64") == (6, 1)
    assert kernel_of("v4.19") == (4, 19)
    assert kernel_of("5.10.17-v7l+") == (5, 10)
    for wrong in ("", "linux", "6", "six.one", "-4.19"):
        with pytest.raises(UsageError):
            kernel_of(wrong)


def test_a_kernel_between_two_checked_ones_is_read_by_the_older() -> None:
    """Unchecked kernels use the newest table that is not newer, those before all the oldest."""
    assert checked((5, 16)) == (5, 15)
    assert checked((7, 3)) == KERNELS[-1]
    assert checked((2, 6)) == KERNELS[0]
    assert all(checked(kernel) == kernel for kernel in KERNELS)
    assert all(release.startswith(version_text(kernel) + ".") for kernel, release in CHECKED.items())


def test_spans_are_said_in_words() -> None:
    """A row says for which checked kernels it holds."""
    assert row("A", 1, "4.9-5.4", "").span == "4.9 to 5.4"
    assert row("A", 1, "5.10-", "").span == "from 5.10"
    assert row("A", 1, "6.1 6.12", "").span == "6.1, 6.12"
    assert row("A", 1, "", "").kernels == KERNELS
