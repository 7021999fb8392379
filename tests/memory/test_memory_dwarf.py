"""Types and symbols out of a vmlinux with DWARF: what `-s` names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import DATA
from taskscope.errors import TraceError

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.memory.core import open_core
from taskscope.memory.dwarf import Dwarf, load_vmlinux
from taskscope.memory.types import Member

DUMP = DATA / "vmcore/debian12-amd64.kdump"
RELEASE = "6.1.0-56-cloud-amd64"

#: what is in it: structs in structs, anonymous ones, bit fields, arrays, pointers, an enum, a typedef, a type to come
SOURCE = r"""
#include <stddef.h>
#include <stdio.h>
enum pid_type { PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_SID = 7 };
typedef struct { int counter; } atomic_t;
struct list_head { struct list_head *next, *prev; };
struct incomplete;
struct task {
    char comm[16];
    volatile long state;
    unsigned char low : 3, mid : 7;
    unsigned wide : 20;
    int below : 5;
    union { struct { int a; short b; }; long both; };
    struct list_head tasks, more[4];
    atomic_t usage;
    const struct incomplete *of;
    enum pid_type kind;
    _Bool ready;
    double ratio;
    unsigned long grid[3][2];
    void (*call)(int);
    struct list_head flexible[];
};
struct task task;
atomic_t count;
int main(void)
{
#define SHOW(m) printf("%s %zu %zu\n", #m, offsetof(struct task, m), sizeof(task.m))
    SHOW(comm); SHOW(state); SHOW(a); SHOW(b); SHOW(both); SHOW(tasks.prev); SHOW(more[3].prev); SHOW(usage.counter);
    SHOW(of); SHOW(kind); SHOW(ready); SHOW(ratio); SHOW(grid); SHOW(grid[2]); SHOW(call);
    printf("= %zu %zu\n", sizeof(struct task), sizeof(atomic_t));
    task.wide = 0xfffff;
    for (size_t n = 0; n < sizeof task; n++) printf("%02x", ((unsigned char *)&task)[n]);
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a program with debug information; skip where there is no compiler."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc, which makes a program with debug information")
    folder = tmp_path_factory.mktemp("dwarf")
    (folder / "types.c").write_text(SOURCE)
    done = subprocess.run(["gcc", "-g", "-Wl,--build-id", "-o", "types", "types.c"], cwd=folder, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        pytest.skip(f"gcc makes no program here: {done.stderr.strip()[-200:]}")
    return folder / "types"


@pytest.fixture(scope="module")
def types(program: Path) -> Dwarf:
    return Dwarf(load_vmlinux(None, program, None, "nothing"), str(program))


def test_members_are_where_the_compiler_put_them(program: Path, types: Dwarf) -> None:
    """Each member, through anonymous structs and indices, has the offset and size that the program itself prints."""
    told = subprocess.run([program], capture_output=True, text=True, check=True).stdout.splitlines()
    shown = 0
    for line in told[:-2]:
        path, offset, size = line.split()
        member = types.member("task", path)
        assert member is not None, path
        assert (member.offset, member.size) == (int(offset), int(size)), path
        shown += 1
    assert shown == 15
    assert [types.size("task"), types.size("atomic_t")] == list(map(int, told[-2].split()[1:]))


def test_a_bit_field_is_taken_out_of_its_bytes(program: Path, types: Dwarf) -> None:
    """The bits of a bit field are those that the compiler sets."""
    told = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    memory = bytes.fromhex(told.splitlines()[-1])
    member = types.member("task", "wide")
    assert member is not None
    assert member.bits == 20
    assert member.bit is not None
    whole = int.from_bytes(memory[member.offset : member.offset + member.size], "little")
    assert whole == 0xFFFFF << member.bit


def test_what_kinds_there_are(types: Dwarf) -> None:
    """A member says what it is, and of what."""
    expected = {
        "comm": ("array", False, "char", 16), "state": ("int", True, None, None), "below": ("int", True, None, None),
        "tasks": ("struct", False, "list_head", None), "tasks.next": ("pointer", False, "list_head", None),
        "more": ("array", False, "list_head", 4), "usage": ("struct", False, None, None),
        "of": ("pointer", False, "incomplete", None), "kind": ("enum", False, "pid_type", None),
        "ready": ("bool", False, None, None), "ratio": ("float", False, None, None),
        "call": ("pointer", False, None, None),
        "flexible": ("array", False, "list_head", 0),
    }
    for path, what in expected.items():
        member = types.member("task", path)
        assert member is not None, path
        assert (member.kind, member.signed, member.of, member.length) == what, path
    assert types.enumerators("pid_type") == {"PIDTYPE_PID": 0, "PIDTYPE_TGID": 1, "PIDTYPE_SID": 7}
    for path in ("nothing", "comm[16]", "tasks.nothing", "of.inner", "more[4]", "", "a b"):
        assert types.member("task", path) is None, path
    assert (types.size("nothing"), types.member("nothing", "a"), types.enumerators("nothing")) == (None, None, None)
    assert types.word == 8
    assert [name for name, _ in types.members("task")][:3] == ["comm", "state", "low"]


def _run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "taskscope.cli.main", *arguments], capture_output=True, text=True,
                          check=False)
    return done.returncode, done.stderr


def test_the_vmlinux_of_another_kernel_is_refused(program: Path) -> None:
    """A file whose build ID is not that of the dumped kernel is refused: both are named, and what to do."""
    status, said = _run("ps", "--core", str(DUMP), "-s", str(program))
    assert status == 3
    assert "is of another kernel" in said
    assert "3b43fad5034874490492495d552c0af6a5fab235" in said


@pytest.mark.parametrize(("content", "expected"), [
    (b"", "is no ELF file"),
    (b"\x1f\x8b\x08 a vmlinuz", "is no ELF file"),
    (b"\x7fELF", "no debug information"),
    (None, "No such file"),
    ("stripped", "no debug information"),
    ("short", "no debug information"),
])
def test_what_is_no_vmlinux(program: Path, tmp_path: Path, content: bytes | str | None, expected: str) -> None:
    """What is no vmlinux, is stripped or cut short ends in one line that names it, and exit code 3."""
    path = tmp_path / "vmlinux"
    if content == "stripped":
        subprocess.run(["strip", "-o", path, program], check=True)
    elif content == "short":
        path.write_bytes(program.read_bytes()[:3000])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    status, said = _run("task", "--core", str(DUMP), "--vmlinux", str(path), "1")
    assert status == 3
    assert len(said.splitlines()) == 1
    assert str(path) in said
    assert expected in said


def test_damaged_debug_information_is_no_crash(program: Path, tmp_path: Path) -> None:
    """Debug information with other bytes in it gives other types, none, or an error that names the file."""
    whole = program.read_bytes()
    sections = subprocess.run(["objdump", "-h", program], capture_output=True, text=True, check=True).stdout
    words = next(line.split() for line in sections.splitlines() if ".debug_info" in line)
    wrong: list[str] = []
    size, at = int(words[2], 16), int(words[5], 16)
    for n in range(0, size, 17):
        path = tmp_path / "damaged"
        path.write_bytes(whole[: at + n] + b"\xff" * 4 + whole[at + n + 4 :])
        try:
            found = Dwarf(load_vmlinux(None, path, None, "nothing"), str(path))
            found.member("task", "more[3].prev")
            found.members("task")
            found.enumerators("pid_type")
        except TraceError as error:
            wrong.append(str(error))
    assert all(text.startswith(str(tmp_path)) for text in wrong)
    assert wrong


# ---- the real one --------------------------------------------------------------------------------------------


def vmlinux() -> Path:
    """Return the dumped kernel's vmlinux out of its debug package; skip where that is not installed."""
    path = Path(os.environ.get("TASKSCOPE_VMLINUX", f"/usr/lib/debug/boot/vmlinux-{RELEASE}"))
    if not path.exists():
        pytest.skip(f"no {path}: install linux-image-{RELEASE}-dbg, or name the file in TASKSCOPE_VMLINUX")
    return path


def _plain(member: Member) -> Member:
    """Write a number's type as both do: pahole says 'long unsigned int' for 'unsigned long'."""
    words = (member.of or "").split()
    return replace(member, of=" ".join(sorted(word for word in words if word != "int") or words) or None)


def test_dwarf_and_btf_of_a_kernel_say_the_same() -> None:
    """Members, offsets, bits and sizes of the structs that are read are the same in DWARF and in BTF."""
    path = vmlinux()
    btf = open_core(DUMP).types
    dwarf = Dwarf(load_vmlinux(None, path, None, "nothing"), str(path))
    count = 0
    for name in ("task_struct", "rq", "signal_struct", "mm_struct", "thread_info", "pid", "cred", "cfs_rq", "css_set",
                 "module", "sighand_struct", "pid_namespace", "upid", "xa_node", "inactive_task_frame", "orc_entry",
                 "kernfs_node", "tty_struct", "worker", "workqueue_struct", "kthread", "mutex", "rw_semaphore"):
        assert btf.size(name) == dwarf.size(name), name
        ours = [(path, _plain(member)) for path, member in btf.members(name)]
        assert ours == [(path, _plain(member)) for path, member in dwarf.members(name)], name
        count += len(ours)
    assert count > 1500
    assert btf.enumerators("pid_type") == dwarf.enumerators("pid_type")


def test_a_dump_is_the_same_with_its_vmlinux() -> None:
    """Every task, with stacks, is told alike by the types in the dump and by those of its vmlinux."""
    told = []
    for more in ([], ["-s", str(vmlinux())]):
        done = subprocess.run([sys.executable, "-m", "taskscope.cli.main", "ps", "--core", str(DUMP), "-L", "--stacks",
                               "--json", *more], capture_output=True, check=True)
        told.append([json.loads(line) for line in done.stdout.splitlines()])
    assert len(told[0]) == 83
    assert told[0] == told[1]
