"""A crash dump without a debug package: what the guest said of itself is what its memory holds."""

from __future__ import annotations

import json
import lzma
import re
import resource
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import DATA
from taskscope.errors import TraceError
from taskscope.snapshot.decode import snapshot
from taskscope.snapshot.detail import detail_of
from taskscope.views.descriptors import ps_json
from taskscope.views.ps import ps_table

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.memory.core import CoreImage, open_core
from taskscope.memory.kallsyms import Kallsyms
from taskscope.memory.kernel import KernelMemory
from taskscope.memory.symbols import SystemMap

DUMPS = DATA / "vmcore"
INSIDE = json.loads((DUMPS / "debian12-amd64.inside.json").read_text())
TICK = 10_000_000
#: on a CPU when the dump was made
RUNNING = {"rcu_preempt", "spinner"}


@pytest.fixture(scope="module")
def image() -> CoreImage:
    return open_core(DUMPS / "debian12-amd64.kdump")


@pytest.fixture(scope="module")
def kernel(image: CoreImage) -> KernelMemory:
    return KernelMemory(image)


@pytest.fixture(scope="module")
def tasks(kernel: KernelMemory) -> dict[int, Any]:
    return {kernel.number(task, "pid") or 0: task for leader in kernel.processes() for task in kernel.threads(leader)}


def test_every_task_is_found(kernel: KernelMemory, tasks: dict[int, Any]) -> None:
    """The walk along init_task.tasks and each group finds who the guest listed, and the sleep that came after."""
    assert {task["pid"] for task in INSIDE["tasks"]} <= set(tasks)
    assert [kernel.text(tasks[pid], "comm") for pid in set(tasks) - {t["pid"] for t in INSIDE["tasks"]}] == ["sleep"]
    assert len(tasks) == 81
    assert kernel.wounds == []


@pytest.mark.parametrize("told", INSIDE["tasks"], ids=lambda told: f"{told['pid']}-{told['comm']}")
def test_a_task_is_as_the_guest_said(kernel: KernelMemory, tasks: dict[int, Any], told: dict[str, Any]) -> None:
    """State, family, ids, priorities, flags, times and sizes are those of /proc/PID/stat and status."""
    detail = detail_of(kernel, tasks[told["pid"]])
    row = detail.row
    # A kworker's name in /proc has its workqueue behind it.
    assert told["comm"].startswith(row.comm)
    assert (row.tgid, row.ppid, row.pgid, row.sid) == (told["tgid"], told["ppid"], told["pgrp"], told["session"])
    assert (row.prio, row.nice) == (told["priority"] + 100, told["nice"])
    assert (row.tty, row.tpgid, row.uid) == (None, told["tpgid"], int(told["status"]["Uid"].split()[1]))
    assert detail.members["policy"] == told["policy"]
    assert detail.members["exit_code"] == told["exit_code"]
    assert row.start_time is not None
    assert row.start_time // TICK == told["starttime"]
    parent = int(told["status"]["TracerPid"]) or told["ppid"]
    assert (detail.members["real_parent.pid"], detail.members["parent.pid"]) == (told["ppid"], parent)
    assert list(detail.children) == told["children"] or told["comm"] in ("init", "kthreadd")
    if row.comm not in RUNNING and told["pid"] > 2:
        assert row.state == told["state"]
        assert row.cpu == told["processor"]
    if told["comm"] not in ("init", "zoo-main", *RUNNING) and not told["comm"].startswith(("kworker", "ksoftirqd")):
        assert row.size_kib == told["vsize"] // 1024
        assert detail.members["flags"] == told["flags"]
        # Some go on waking up now and then.
        assert detail.members["sched_info.pcount"] >= told["schedstat"]["pcount"]


@pytest.mark.parametrize("told", [t for t in INSIDE["tasks"] if t["comm"] not in RUNNING and t.get("kernel_stack")],
                         ids=lambda told: f"{told['pid']}-{told['comm']}")
def test_stacks_without_a_debug_package(kernel: KernelMemory, tasks: dict[int, Any], told: dict[str, Any]) -> None:
    """The stack of who sleeps ends as /proc/PID/stack does, begins in the scheduler, and wchan is what it waits in."""
    task = tasks[told["pid"]]
    stack = kernel.stack(task)
    assert stack[0].startswith("__schedule+")
    assert stack[-len(told["kernel_stack"]) :] == told["kernel_stack"]
    assert kernel.waits_in(task) == told["wchan"]


def test_idle_tasks_run_and_have_no_stack_to_show(kernel: KernelMemory) -> None:
    """There is an idle task for each CPU, and what runs has no stack that could be read."""
    idle = list(kernel.idle_tasks())
    assert [kernel.text(task, "comm") for task in idle] == ["swapper/0", "swapper/1"]
    rows = {(row.pid, row.cpu): row for row in snapshot(kernel).tasks}
    assert rows[0, 0].kind == "idle"
    spinner = next(task for task in kernel.processes() if kernel.text(task, "comm") == "spinner")
    assert kernel.number(spinner, "on_cpu") == 1
    assert kernel.stack(spinner) == []


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> KernelMemory:
    path = tmp_path_factory.mktemp("armhf") / "armhf.core"
    path.write_bytes(lzma.decompress((DUMPS / "debian12-armhf.core.xz").read_bytes()))
    return KernelMemory(open_core(path, btf=DUMPS / "debian12-armhf.btf.xz",
                                  symbols=DUMPS / "debian12-armhf.System.map.xz"))


def test_thread_info_of_arm(arm: KernelMemory) -> None:
    """On 32-bit ARM thread_info has preempt_count, cpu and the registers that __switch_to() saved, on its own stack."""
    details = [detail_of(arm, task) for task in arm.processes()]
    assert {"zoo-main", "tracee", "vfork-parent", "dead-leader"} <= {detail.row.comm for detail in details}
    for detail in details:
        info, stack = detail.thread_info, detail.members["stack"]
        assert info["cpu"] in (0, 1)
        if detail.members["exit_state"] == 0 and not detail.members["on_cpu"]:
            assert stack < info["cpu_context.sp"] < stack + 8192, detail.row.comm
            found = arm.image.symbol_at(info["cpu_context.pc"])
            assert found is not None
    assert arm.wounds == []
    tracee = next(detail for detail in details if detail.row.comm == "tracee")
    comm = {detail.row.pid: detail.row.comm for detail in details}
    assert comm[tracee.members["parent.pid"]] == "tracer"
    assert comm[tracee.members["real_parent.pid"]] == "zoo-main"


def test_stacks_of_arm(arm: KernelMemory) -> None:
    """Every task of 32-bit ARM that does not run has a stack, with the names that the kernel itself says (sysrq t)."""
    stacks = {row.comm: [entry.partition("+")[0] for entry in row.kernel_stack or ()]
              for row in snapshot(arm, stacks=True, full=True).tasks if row.state not in "RZ"}
    assert len(stacks) > 60
    outermost = {"ret_from_fork", "ret_fast_syscall", "slow_work_pending", "start_kernel"}
    assert {stack[0] for stack in stacks.values()} == {"__schedule"}
    assert {stack[-1] for stack in stacks.values()} <= outermost
    assert stacks["vfork-parent"][2:] == ["schedule_timeout", "__wait_for_common", "wait_for_completion_state",
                                          "kernel_clone", "sys_vfork", "ret_fast_syscall"]
    assert stacks["sleeper"][2:5] == ["do_nanosleep", "hrtimer_nanosleep", "sys_clock_nanosleep_time32"]
    assert stacks["kthreadd"][2:] == ["kthreadd", "ret_from_fork"]
    assert "ptrace_stop" in stacks["tracee"]
    assert arm.wounds == []


def test_the_time_of_a_dump(kernel: KernelMemory, arm: KernelMemory) -> None:
    """The time is that of the last tick: the guest said its own 0 to 3 s before; who ran all the time has its share."""
    found = kernel.snapshot()
    assert found.at is not None
    assert 0 <= found.at / 1e9 - float(INSIDE["uptime"].split()[0]) < 4
    assert found.boot is not None
    assert time.gmtime(found.boot)[:3] == (2026, 11, 23)
    assert all(row.start_time is not None and row.start_time <= found.at for row in found.tasks)
    lines = list(ps_table(found))
    assert [line.split()[4] for line in lines if line.endswith(" spinner")] == ["97"]
    assert [line.split()[4] for line in lines if line.endswith(" sleeper")] == ["0"]
    now = arm.now
    assert now is not None
    assert max(arm.number(task, "start_time") or 0 for task in arm.processes()) < now < 60 * 10**9


def test_a_dump_without_a_clock_says_why(tmp_path: Path) -> None:
    """Where no symbol says where the timekeeper is, the time is unknown, with the reason and what would help."""
    (tmp_path / "armhf.core").write_bytes(lzma.decompress((DUMPS / "debian12-armhf.core.xz").read_bytes()))
    lines = lzma.decompress((DUMPS / "debian12-armhf.System.map.xz").read_bytes()).splitlines(keepends=True)
    (tmp_path / "map").write_bytes(b"".join(line for line in lines if not line.endswith(b" tk_core\n")))
    image = open_core(tmp_path / "armhf.core", btf=DUMPS / "debian12-armhf.btf.xz", symbols=tmp_path / "map")
    found = KernelMemory(image).snapshot()
    told = json.loads(next(ps_json(found)))
    assert (found.at, told["at"]) == (None, None)
    assert "tk_core" in told["unavailable"]["at"]
    assert "-s" in told["unavailable"]["at"]
    assert all(line.split()[4] == "-" for line in list(ps_table(found))[1:])


def test_without_types_or_symbols_it_says_what_to_name(tmp_path: Path) -> None:
    """A kernel that carries no types and no symbols of its data needs them named, and the error says how."""
    path = tmp_path / "armhf.core"
    path.write_bytes(lzma.decompress((DUMPS / "debian12-armhf.core.xz").read_bytes()))
    with pytest.raises(TraceError, match="--btf FILE"):
        open_core(path, symbols=DUMPS / "debian12-armhf.System.map.xz")


@pytest.mark.parametrize("size", [
    0, 3, 64, 425, 4096, 5000, 8191, 8192, 12_000, 20_000, 65_536, 100_000, 300_000, 1 << 20, 2_000_001, 4 << 20,
    6_543_211, 8 << 20, 8_892_200])
def test_a_dump_that_is_cut_short(tmp_path: Path, size: int) -> None:
    """A dump cut anywhere is one clear error, or what is left of it with a line for each wound."""
    path = tmp_path / "cut.kdump"
    path.write_bytes((DUMPS / "debian12-amd64.kdump").read_bytes()[:size])
    said = ""
    try:
        kernel = KernelMemory(open_core(path))
    except TraceError as error:
        said = str(error)
    if said:
        assert str(path) in said
        assert "\n" not in said
    else:
        assert len(snapshot(kernel).tasks) == 83 or kernel.wounds


@pytest.mark.parametrize(("content", "said"), [
    (b"", "is empty"), (b"\xfd7zXZ\0" + bytes(64), "unxz -k"), (b"makedumpfile" + bytes(64), "cut short"),
    (b"#!/bin/sh\n", "no crash dump"), (b"\x7fELF" + bytes(200), "cannot be"),
])
def test_what_is_no_dump(tmp_path: Path, content: bytes, said: str) -> None:
    """What is no crash dump is told from one, with what to do."""
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=said):
        open_core(path)


@pytest.mark.parametrize(("named", "cut"), [(True, 0), (False, 0), (True, 1000), (True, 4_000_000)])
def test_a_flattened_dump(tmp_path: Path, named: bool, cut: int) -> None:
    """A flattened dump is read, also one that names no kernel, as QEMU writes it; one that is cut short is told."""
    data = bytearray((DUMPS / "debian12-amd64.kdump").read_bytes())
    if not named:
        data[12 : 12 + 6 * 65] = bytes(6 * 65)
        data[12 + 4 * 65 : 12 + 4 * 65 + 6] = b"x86_64"
    pieces = [(at, bytes(data[at : at + 300_000])) for at in range(0, len(data), 300_000)]
    # They come in any order, and later ones replace earlier ones.
    flat = [(0, bytes(100)), *reversed(pieces[1:]), pieces[0]]
    raw = b"makedumpfile".ljust(16, b"\0") + struct.pack(">qq", 1, 1).ljust(4080, b"\0")
    raw += b"".join(struct.pack(">qq", at, len(piece)) + piece for at, piece in flat) + struct.pack(">qq", -1, -1)
    path = tmp_path / "flat"
    path.write_bytes(raw[: len(raw) - cut])
    if cut:
        with pytest.raises(TraceError, match="cut short"):
            open_core(path)
        return
    kernel = KernelMemory(open_core(path))
    assert len(snapshot(kernel).tasks) == 83
    assert kernel.wounds == []
    assert path.read_bytes() == raw


def test_a_flattened_dump_whose_list_is_damaged(tmp_path: Path) -> None:
    """A piece whose place makes no sense is an error with the byte; nothing is written there."""
    path = tmp_path / "flat"
    path.write_bytes(b"makedumpfile".ljust(4096, b"\0") + struct.pack(">qq", -5, 3) + b"abc")
    with pytest.raises(TraceError, match="at byte 4,096: has a damaged list of its pieces"):
        open_core(path)


def test_no_room_for_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room for the copy of a flattened dump, the error names the folder and what helps."""
    path = tmp_path / "flat"
    path.write_bytes(b"makedumpfile".ljust(4096, b"\0") + struct.pack(">qq", 1 << 40, 3) + b"abc")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(TraceError, match=r"has no room .*TMPDIR"):
            open_core(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_system_map() -> None:
    """A symbol covers what comes up to the next; mapping symbols of ARM name nothing; of aliases the first counts."""
    symbols = SystemMap(b"c0100000 T one\nc0100000 T alias\nc0100010 t $a\nc0100020 D two\n", "System.map")
    assert symbols.symbol("two") == 0xC0100020
    assert symbols.symbol("three") is None
    found = symbols.symbol_at(0xC0100013)
    assert found is not None
    assert (found.name, found.offset, found.size) == ("one", 0x13, 0x20)
    assert symbols.symbol_at(0x1000) is None
    with pytest.raises(TraceError, match="at line 2"):
        SystemMap(b"c0100000 T one\nhello\n", "System.map")


@pytest.mark.parametrize("vmcoreinfo", ["OSRELEASE=6.1.0\n", None], ids=["nowhere", "elsewhere"])
def test_symbols_where_vmcoreinfo_does_not_say_where(monkeypatch: pytest.MonkeyPatch, vmcoreinfo: str | None) -> None:
    """Without the place of the kernel's table, or if it is not that, functions have the names that drgn knows."""
    if vmcoreinfo is None:
        text = open_core(DUMPS / "debian12-amd64.kdump")._program["VMCOREINFO"].string_().decode()
        vmcoreinfo = re.sub(r"(?<=^SYMBOL\(_stext\)=).*$", "ffffffff81000040", text, flags=re.MULTILINE)
    monkeypatch.setattr("taskscope.memory.program._vmcoreinfo", lambda program: vmcoreinfo)
    image = open_core(DUMPS / "debian12-amd64.kdump")
    address = image.symbol("kernel_clone")
    assert address is not None
    found = image.symbol_at(address + 5)
    assert found is not None
    assert (found.name, found.offset) == ("kernel_clone", 5)


def test_symbols_are_those_that_drgn_finds(image: CoreImage) -> None:
    """The table of kallsyms gives the names and addresses that drgn reads out of it, and no others."""
    from drgn.helpers.linux.kallsyms import load_vmlinux_kallsyms

    program = image._program
    assert isinstance(image._symbols, Kallsyms)
    program.register_symbol_finder("theirs", load_vmlinux_kallsyms(program), enable_index=0)
    theirs: dict[str, set[int]] = {}
    for symbol in program.symbols():
        theirs.setdefault(symbol.name, set()).add(symbol.address)
    assert len(theirs) > 80_000
    assert all(image.symbol(name) in addresses for name, addresses in theirs.items())
    assert image.symbol("no such name") is None
