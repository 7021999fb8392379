"""What the probes say of this machine, held against the shell; and of machines in states that this one cannot be in."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from taskscope.host import guests, memory, recording, tools
from taskscope.host.answer import Answer, Host
from taskscope.host.probes import PROBES, look

RIGHTS_MASK = 1 << 21 | 1 << 34 | 1 << 38 | 1 << 39


@pytest.fixture(scope="module")
def here() -> dict[str, Answer]:
    """Return what is said of this machine."""
    return {a.name: a for a in look()}


def shell(command: str) -> bool:
    """Tell whether a shell command ends well."""
    return subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, check=False,
                          timeout=10).returncode == 0


# ---- this machine ----------------------------------------------------------------------------------------

def test_every_probe_answers_under_its_name(here: dict[str, Answer]) -> None:
    """Each probe gives one answer of its own name and group, in the order of the table, and none fails."""
    assert list(here) == list(PROBES)
    for name, answer in here.items():
        assert answer.group == PROBES[name][0]
        assert "probe failed" not in answer.detail
        assert "no answer within" not in answer.detail
        assert answer.detail
        assert (answer.works is True) == (answer.state == "yes")
        assert answer.works is not True or answer.remedy is None


@pytest.mark.parametrize(("name", "command"), [
    ("root", "test $(id -u) = 0 && test $(awk '{print $2; exit}' /proc/self/uid_map) = 0"),
    ("kcore", "test \"$(head -c 4 /proc/kcore)\" = \"$(printf '\\177ELF')\""),
    ("btf", "head -c 1 /sys/kernel/btf/vmlinux"),
    ("gdb", "command -v gdb"), ("qemu", "command -v qemu-system-x86_64"), ("qemu-arm", "command -v qemu-system-arm"),
    ("gcc", "command -v gcc || command -v cc"), ("trace-cmd", "command -v trace-cmd"), ("procps", "command -v ps"),
    ("crash", "command -v crash"), ("kernel-image", "head -c 1 /boot/vmlinu*"),
    ("tracefs", "T=$(awk '$3 == \"tracefs\" {print $2; exit}' /proc/mounts); test -n \"$T\" && test -w $T/instances"),
])
def test_answers_agree_with_the_shell(here: dict[str, Answer], name: str, command: str) -> None:
    """What works, works in a shell too, and what does not, does not."""
    assert here[name].works is shell(command), here[name]


@pytest.mark.parametrize(("name", "module"), [
    ("greenlet", "greenlet"), ("pyelftools", "elftools"), ("unicorn", "unicorn"), ("textual", "textual"),
    ("drgn", "drgn"), ("qemu.qmp", "qemu.qmp")])
def test_packages_agree_with_importing_them(here: dict[str, Answer], name: str, module: str) -> None:
    """A package that is said to be there can be imported, and one that is not cannot."""
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False, timeout=30)
    assert here[name].works is (done.returncode == 0)


def test_capabilities_agree_with_capget(here: dict[str, Answer]) -> None:
    """The capabilities are those that capget(2) returns."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)          # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    mask = sets[0] | sets[3] << 32
    assert here["capabilities"].works is (mask & RIGHTS_MASK == RIGHTS_MASK)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to ask as another user")
def test_another_user_is_told_less(here: dict[str, Answer]) -> None:
    """An ordinary user's answers are no or unknown where root is needed, and name sudo."""
    code = ("import json; from taskscope.host.probes import look\n"
            "print(json.dumps([a.as_json() for a in look()]))")
    done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", sys.executable, "-c",
                           code], capture_output=True, check=False, timeout=30)
    if done.returncode:
        pytest.skip("another user may not run this Python")
    import json

    answers = {a["name"]: a for a in json.loads(done.stdout)}
    assert answers["root"]["works"] is False
    assert "65534" in answers["root"]["detail"]
    assert answers["bpf"]["works"] is False
    assert answers["kallsyms"]["works"] is False
    if here["events"].works:
        assert answers["events"]["works"] in (None, True)
        assert answers["tracefs"]["state"] == "partly"
        assert answers["tracefs"]["remedy"].startswith("sudo ")


def test_looking_is_quick_and_leaves_no_trace() -> None:
    """All probes answer within a second, and mounts, tracing settings and open files are what they were."""
    def state() -> list[object]:
        tracing = Path("/sys/kernel/tracing")
        settings = [(tracing / name).read_bytes() for name in ("current_tracer", "set_event", "tracing_on")
                    if os.access(tracing / name, os.R_OK)]
        open_files = sorted(p.name for p in Path("/proc/self/fd").iterdir())
        return [Path("/proc/self/mounts").read_bytes(), open_files, settings]

    look()
    before = state()
    started = time.monotonic()
    look()
    assert time.monotonic() - started < 1
    assert state() == before


def test_a_program_that_does_nothing_is_loaded_or_refused() -> None:
    """bpf(2) is really asked: a number that is no system call is answered by ENOSYS."""
    assert memory.load_nothing(10_000) == errno.ENOSYS


# ---- states that this machine cannot be in ---------------------------------------------------------------

def machine(folder: Path, uid: int = 0, **files: str) -> Host:
    """Return a machine of files; in their names ``__`` stands for a slash."""
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(folder, uid, str(folder / "bin"))


@pytest.mark.parametrize(("text", "state", "said"), [
    ("[none] integrity confidentiality\n", "yes", "no lockdown"),
    ("none [integrity] confidentiality\n", "partly", "lockdown=integrity"),
    ("none integrity [confidentiality]\n", "no", "lockdown=confidentiality")])
def test_lockdown(tmp_path: Path, text: str, state: str, said: str) -> None:
    """Each level of kernel_lockdown(7) is told."""
    answer = recording.unlocked(machine(tmp_path, sys__kernel__security__lockdown=text))
    assert (answer.state, said in answer.detail) == (state, True)
    assert (answer.remedy is None) == (state == "yes")


def test_no_lockdown_in_the_kernel(tmp_path: Path) -> None:
    """Without securityfs nothing is known; with it and without the file the kernel has no lockdown."""
    host = machine(tmp_path, sys__kernel__security__x="", proc__self__mounts="")
    assert recording.unlocked(host).state == "unknown"
    assert recording.unlocked(host).remedy == "mount -t securityfs nodev /sys/kernel/security"
    host = machine(tmp_path, proc__self__mounts="securityfs /sys/kernel/security securityfs rw 0 0\n")
    assert recording.unlocked(host).state == "yes"


def test_root_of_a_container(tmp_path: Path) -> None:
    """Root of a user namespace is not root."""
    assert recording.root(machine(tmp_path, proc__self__uid_map="0 100000 65536\n")).state == "partly"
    assert recording.root(machine(tmp_path, proc__self__uid_map="         0          0 4294967295\n")).state == "yes"
    assert recording.root(machine(tmp_path, uid=1000)).remedy == "sudo taskscope check"


@pytest.mark.parametrize(("mask", "last", "state", "said"), [
    (0, 40, "no", "CAP_SYS_ADMIN"), (1 << 21, 40, "partly", "CAP_PERFMON"), (1 << 21 | 1 << 34, 37, "yes", "SYS_ADMIN"),
    (RIGHTS_MASK, 40, "yes", "BPF")])
def test_capabilities(tmp_path: Path, mask: int, last: int, state: str, said: str) -> None:
    """Missing capabilities are named; those that the kernel does not have are not missed."""
    host = machine(tmp_path, proc__self__status=f"Name:\tx\nCapEff:\t{mask:016x}\n",
                   proc__sys__kernel__cap_last_cap=f"{last}\n")
    answer = recording.capabilities(host)
    assert answer.state == state
    assert said in answer.detail


def test_tracefs_that_is_not_mounted(tmp_path: Path) -> None:
    """A tracefs that is not mounted is mended by a mount, one that the kernel lacks is not."""
    host = machine(tmp_path, uid=1000, proc__self__mounts="proc /proc proc rw 0 0\n")
    assert "built without" in recording.tracefs(host).detail
    (tmp_path / "sys/kernel/tracing").mkdir(parents=True)
    assert recording.tracefs(host).remedy == "sudo mount -t tracefs nodev /sys/kernel/tracing"
    for probe in (recording.events, recording.syscall_events, recording.stack_triggers, recording.function_tracer,
                  recording.kprobes):
        assert (probe(host).state, probe(host).remedy) == ("unknown", recording.tracefs(host).remedy)


def test_tracefs_elsewhere_and_without_events(tmp_path: Path) -> None:
    """A tracefs mounted in a folder with a blank in its name is found; events that are missing are named."""
    host = machine(tmp_path, proc__self__mounts="nodev /mnt/a\\040b tracefs rw 0 0\n")
    where = tmp_path / "mnt/a b"
    (where / "instances").mkdir(parents=True)
    assert recording.tracefs(host) == Answer("tracefs", "recording", "yes", "/mnt/a b, writable")
    assert recording.events(host).state == "no"
    for name in ("sched_switch", "sched_process_fork", "sched_process_exec", "sched_process_exit"):
        (where / "events/sched" / name).mkdir(parents=True)
    answer = recording.events(host)
    assert answer.state == "partly"
    assert "task:task_newtask" in answer.detail
    assert "sched:sched_switch" not in answer.detail


def test_tracers_that_work(tmp_path: Path) -> None:
    """Where the function tracer and kprobes are there and open, both work."""
    host = machine(tmp_path, proc__self__mounts="nodev /t tracefs rw 0 0\n", t__available_tracers="function nop\n",
                   t__available_filter_functions="do_exit\n", t__set_ftrace_filter="", t__kprobe_events="")
    assert recording.function_tracer(host).state == "yes"
    assert recording.kprobes(host).state == "yes"
    (tmp_path / "t/available_tracers").write_text("nop\n")
    assert recording.function_tracer(host).state == "no"


@pytest.mark.parametrize(("uid", "restrict", "state", "remedy"), [
    (0, "2", "partly", "sysctl kernel.kptr_restrict=1"), (1000, "1", "partly", "sudo taskscope check")])
def test_kallsyms_without_addresses(tmp_path: Path, uid: int, restrict: str, state: str, remedy: str) -> None:
    """Addresses that are hidden are told with the setting that hides them."""
    lines = "".join(f"0000000000000000 T f{k}\n" for k in range(100))
    host = machine(tmp_path, uid, proc__kallsyms=lines, proc__sys__kernel__kptr_restrict=restrict + "\n")
    answer = recording.kallsyms(host)
    assert (answer.state, answer.remedy) == (state, remedy)
    assert f"kptr_restrict is {restrict}" in answer.detail
    (tmp_path / "proc/kallsyms").write_text("0000000000000000 A percpu\nffffffff81000000 T _text\n0 T x\n")
    assert recording.kallsyms(host).state == "yes"
    (tmp_path / "proc/kallsyms").unlink()
    assert "CONFIG_KALLSYMS" in recording.kallsyms(host).detail


def test_kernel_memory(tmp_path: Path) -> None:
    """A core that is an ELF file and types with their magic are there; other content is not taken for them."""
    host = machine(tmp_path, proc__kcore="\x7fELF\x02", sys__kernel__btf__vmlinux="xx")
    assert memory.kcore(host).state == "yes"
    assert memory.btf(host).state == "no"
    (tmp_path / "sys/kernel/btf/vmlinux").write_bytes(b"\x9f\xeb\x01\x00")
    assert memory.btf(host).state == "yes"
    (tmp_path / "proc/kcore").write_bytes(b"no core")
    assert memory.kcore(host).state == "no"


def test_guests(tmp_path: Path) -> None:
    """Kernels in /boot are named; where apt is, its command mends what is missing, elsewhere words do."""
    host = machine(tmp_path, uid=1000)
    assert guests.kernel_image(host).remedy is None
    assert guests.qemu(host).remedy == "install qemu-system-x86_64 (there is no apt here)"
    assert guests.kernel_package(host).state == "no"
    host = machine(tmp_path, 1000, boot__vmlinuz_1="", boot__vmlinuz_2="", bin__x="")
    for program in ("apt-get", "qemu-system-x86_64"):
        (tmp_path / "bin" / program).write_text("#!/bin/sh\n")
        (tmp_path / "bin" / program).chmod(0o755)
    assert guests.kernel_image(host).detail == "/boot/vmlinuz_2 and 1 more"
    assert guests.qemu(host).state == "yes"
    assert guests.qemu_arm(host).remedy == "sudo apt-get install qemu-system-arm"
    assert guests.kernel_package(host).remedy == "sudo apt-get update"
    (tmp_path / "var/lib/apt/lists").mkdir(parents=True)
    (tmp_path / "var/lib/apt/lists/x_main_binary-amd64_Packages.lz4").write_text("")
    assert guests.kernel_package(host).state == "yes"
    assert "emulated" in guests.kvm(host).detail


def test_a_device_that_is_no_kvm(tmp_path: Path) -> None:
    """Something else under the name /dev/kvm is refused by its first ioctl."""
    assert "ENOTTY" in guests.kvm(machine(tmp_path, dev__kvm="")).detail


def test_an_extra_is_named_only_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What brings a missing package is the extra that has it, else its name on PyPI."""
    from importlib import metadata

    answer = tools.package(Host(), "drgn", "no-such-package-of-taskscope", "x")
    assert answer.remedy == "pip install no-such-package-of-taskscope"
    monkeypatch.setattr(metadata, "requires", lambda _name: ["click>=8", 'absent-package>=0.1; extra == "memory"'])
    assert tools.package(Host(), "x", "absent-package", "x").remedy == "pip install 'taskscope[memory]'"


def test_a_probe_that_hangs_or_fails_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """One probe that does not answer, and one that fails, are unknown; the others answer."""
    def hang(host: Host) -> Answer:
        time.sleep(5)
        raise AssertionError

    def fail(host: Host) -> Answer:
        raise ValueError("odd")

    monkeypatch.setitem(PROBES, "kcore", ("kernel memory", hang))
    monkeypatch.setitem(PROBES, "btf", ("kernel memory", fail))
    started = time.monotonic()
    answers = {a.name: a for a in look(names=["btf", "kcore", "root"], patience=0.3)}
    assert time.monotonic() - started < 2
    assert answers["kcore"].state == answers["btf"].state == "unknown"
    assert "no answer" in answers["kcore"].detail
    assert "odd" in answers["btf"].detail
    assert answers["root"].works is not None
