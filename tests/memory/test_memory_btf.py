"""Types out of BTF: what is found in a kernel's, and that nothing in damaged data leads outside of it."""

from __future__ import annotations

import contextlib
import lzma
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA
from taskscope.errors import TraceError
from taskscope.memory.btf import Btf

ARM = lzma.decompress((DATA / "vmcore/debian12-armhf.btf.xz").read_bytes())


@pytest.fixture(scope="module")
def arm() -> Btf:
    return Btf(ARM)


def made(types: list[bytes], strings: bytes, order: str = "<") -> bytes:
    """Put BTF together."""
    body = b"".join(types)
    return struct.pack(order + "HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


def kind(number: int, vlen: int = 0, flag: int = 0) -> int:
    return flag << 31 | number << 24 | vlen


@pytest.mark.parametrize("order", ["<", ">"])
def test_members(order: str) -> None:
    """Members are found by name, in anonymous unions too, with their bits; elements of arrays by number."""
    strings = b"\0int\0s\0a\0b\0c\0u\0long\0e\0ONE\0TWO\0"
    at = {name: strings.index(b"\0" + name + b"\0") + 1 for name in (b"int", b"s", b"a", b"b", b"c", b"long", b"e")}
    pack = struct.pack
    types = [
        pack(order + "IIII", at[b"int"], kind(1), 4, 1 << 24 | 32),
        pack(order + "III", 0, kind(3), 0) + pack(order + "III", 1, 1, 3),              # int[3]
        pack(order + "III", 0, kind(5, 1), 4) + pack(order + "III", at[b"b"], 1, 0),    # union { int b; }
        pack(order + "III", at[b"s"], kind(4, 3, 1), 20)                                # struct s
        + pack(order + "III", at[b"a"], 2, 0) + pack(order + "III", 0, 3, 96)
        + pack(order + "III", at[b"c"], 1, 5 << 24 | 128 + 3),
        pack(order + "IIII", at[b"long"], kind(1), 8, 1 << 24 | 64),
        pack(order + "III", at[b"e"], kind(6, 2, 1), 4)
        + pack(order + "Ii", strings.index(b"ONE"), -1) + pack(order + "Ii", strings.index(b"TWO"), 2),
    ]
    btf = Btf(made(types, strings, order))
    assert btf.word == 8
    assert btf.size("s") == 20
    a, element, b, c = (btf.member("s", path) for path in ("a", "a[2]", "b", "c"))
    assert a is not None
    assert element is not None
    assert b is not None
    assert c is not None
    assert (a.offset, a.size, a.kind, a.length, a.of) == (0, 12, "array", 3, "int")
    assert (element.offset, element.size, element.kind, element.signed) == (8, 4, "int", True)
    assert (b.offset, b.size) == (12, 4)
    assert (c.offset, c.bit, c.bits) == (16, 3, 5)
    assert btf.member("s", "a[3]") is None
    assert btf.member("s", "nothing") is None
    assert btf.member("nothing", "a") is None
    assert btf.enumerators("e") == {"ONE": -1, "TWO": 2}
    assert btf.enumerators("nothing") is None


def test_a_kernel(arm: Btf) -> None:
    """The types of a real kernel: struct list_head is two pointers, comm has 16 bytes, pids are ints."""
    assert arm.word == 4
    assert arm.size("list_head") == 8
    comm, pid, parent = (arm.member("task_struct", name) for name in ("comm", "pid", "real_parent"))
    assert comm is not None
    assert pid is not None
    assert parent is not None
    assert (comm.kind, comm.size) == ("array", 16)
    assert (pid.kind, pid.size, pid.signed) == ("int", 4, True)
    assert (parent.kind, parent.of) == ("pointer", "task_struct")
    assert arm.member("task_struct", "thread_info.cpu_context.pc") is not None
    assert arm.enumerators("pid_type") == {"PIDTYPE_PID": 0, "PIDTYPE_TGID": 1, "PIDTYPE_PGID": 2, "PIDTYPE_SID": 3,
                                           "PIDTYPE_MAX": 4}


def ask(data: bytes) -> None:
    """Ask all that a reader of tasks asks; only a `TraceError` may come of it."""
    with contextlib.suppress(TraceError):
        btf = Btf(data)
        for path in ("comm", "se.sum_exec_runtime", "thread_info.cpu_context.r4", "pids[2].pid", "real_parent"):
            btf.member("task_struct", path)
        btf.size("task_struct")
        btf.enumerators("pid_type")


@pytest.mark.parametrize("size", [0, 1, 23, 24, 30, 1000, 50_001, len(ARM) // 2, len(ARM) - 1])
def test_what_is_cut_short(size: int) -> None:
    """BTF cut anywhere is an error, and nothing is read beyond its end."""
    with pytest.raises(TraceError):
        Btf(ARM[:size])


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_damaged_types(data: st.DataObject) -> None:
    """Whatever bytes are changed, it ends in an answer or in one error."""
    raw = bytearray(ARM)
    for _ in range(data.draw(st.integers(1, 40))):
        raw[data.draw(st.integers(0, 24 + 200_000))] = data.draw(st.integers(0, 255))
    ask(bytes(raw))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 31), st.integers(0, 4), st.booleans(), st.integers(0, 9)),
                max_size=9))
def test_types_that_name_each_other(words: list[tuple[int, int, int, bool, int]]) -> None:
    """Types in circles, of unknown kinds and without ends are errors or have no such member."""
    strings = b"\0task_struct\0comm\0se\0"
    types = []
    for name, number, vlen, flag, size in words:
        more = b"".join(struct.pack("<III", (0, 13)[vlen % 2], size, 0) for _ in range(vlen + 1))
        types.append(struct.pack("<III", 1 if name > 6 else 0, kind(number, vlen, flag), size) + more)
    ask(made(types, strings))


def test_a_struct_that_contains_itself() -> None:
    """A struct with itself as an anonymous member, and a typedef of itself, are told and not followed for ever."""
    strings = b"\0task_struct\0"
    inside = struct.pack("<III", 1, kind(4, 1), 8) + struct.pack("<III", 0, 1, 0)
    with pytest.raises(TraceError, match="contains itself"):
        Btf(made([inside], strings)).member("task_struct", "comm")
    with pytest.raises(TraceError, match="typedef of itself"):
        Btf(made([struct.pack("<III", 1, kind(8), 1)], strings)).size("task_struct")
