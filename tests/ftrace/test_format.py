"""Event formats: every kind of field that kernels declare, and texts that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recordmaker import COMMON, format_text

from taskscope.ftrace.format import RawField, parse_format

TASK_NEWTASK = b"""name: task_newtask
ID: 128
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:pid_t pid;\toffset:8;\tsize:4;\tsigned:1;
\tfield:char comm[16];\toffset:12;\tsize:16;\tsigned:0;
\tfield:unsigned long clone_flags;\toffset:32;\tsize:8;\tsigned:0;
\tfield:short oom_score_adj;\toffset:40;\tsize:2;\tsigned:1;

print fmt: "pid=%d comm=%s clone_flags=%lx oom_score_adj=%hd", REC->pid, REC->comm, REC->clone_flags, REC->oom_score_adj
"""


def one(declaration: str, size: int, signed: int = 0, long_size: int | None = None) -> RawField:
    """Parse a format with one field of its own."""
    text = format_text("e", 1, [(declaration, 8, size, signed)], '"x"')
    return parse_format(text, "s", long_size).fields[0]


def test_format_file_is_taken_apart() -> None:
    """Name, number, common and own fields and the print format of a real format file are found."""
    f = parse_format(TASK_NEWTASK, "task")
    assert (f.system, f.name, f.id) == ("task", "task_newtask", 128)
    assert [c.name for c in f.common] == ["common_type", "common_flags", "common_preempt_count", "common_pid"]
    assert [(c.name, c.type, c.offset, c.size, c.signed) for c in f.fields] == [
        ("pid", "pid_t", 8, 4, True),
        ("comm", "char[16]", 12, 16, False),
        ("clone_flags", "unsigned long", 32, 8, False),
        ("oom_score_adj", "short", 40, 2, True),
    ]
    assert f.print_fmt.startswith('"pid=%d comm=%s')
    assert f.print_fmt.endswith("REC->oom_score_adj")
    assert [(p.name, p.shape) for p in f.public_fields()] == [
        ("pid", "int"),
        ("comm", "string"),
        ("clone_flags", "int"),
        ("oom_score_adj", "int"),
    ]


@pytest.mark.parametrize(
    ("declaration", "size", "signed", "name", "expected"),
    [
        # type, location, is_string, element, count, shape
        ("u8 hash[4]", 4, 0, "hash", ("u8[4]", "fixed", False, 1, 4, "array")),
        ("unsigned long args[6]", 48, 0, "args", ("unsigned long[6]", "fixed", False, 8, 6, "array")),
        ("unsigned long args[6]", 24, 0, "args", ("unsigned long[6]", "fixed", False, 4, 6, "array")),
        ("char comm[TASK_COMM_LEN]", 16, 1, "comm", ("char[TASK_COMM_LEN]", "fixed", True, 1, 16, "string")),
        ("const char name[8]", 8, 1, "name", ("const char[8]", "fixed", True, 1, 8, "string")),
        ("unsigned char mac[6]", 6, 0, "mac", ("unsigned char[6]", "fixed", False, 1, 6, "array")),
        ("char table[2][8]", 16, 1, "table", ("char[2][8]", "fixed", True, 1, 16, "string")),
        ("__data_loc char[] name", 4, 0, "name", ("__data_loc char[]", "data_loc", True, 1, 0, "string")),
        ("__rel_loc char[] name", 4, 0, "name", ("__rel_loc char[]", "rel_loc", True, 1, 0, "string")),
        ("__data_loc u64[] dma", 4, 0, "dma", ("__data_loc u64[]", "data_loc", False, 8, 0, "array")),
        ("__data_loc cpumask_t mask", 4, 0, "mask", ("__data_loc cpumask_t", "data_loc", False, 8, 0, "array")),
        ("u32 buf[]", 0, 0, "buf", ("u32[]", "fixed", False, 4, 0, "array")),
        ("unsigned long caller[]", 0, 0, "caller", ("unsigned long[]", "fixed", False, 8, 0, "array")),
        ("char buf[]", 0, 1, "buf", ("char[]", "fixed", True, 1, 0, "string")),
        ("unsigned long caller", 0, 0, "caller", ("unsigned long", "fixed", False, 8, 0, "array")),
        ("char buf", 0, 0, "buf", ("char", "fixed", True, 1, 0, "string")),
        ("struct nothing x", 0, 0, "x", ("struct nothing", "fixed", False, 0, 1, "array")),
        ("bool group_dead", 1, 0, "group_dead", ("bool", "fixed", False, 1, 1, "int")),
        ("const char * filename", 8, 0, "filename", ("const char *", "fixed", False, 8, 1, "int")),
        ("struct rq_flags * rf", 8, 0, "rf", ("struct rq_flags *", "fixed", False, 8, 1, "int")),
        ("void (*func)(void *)", 8, 0, "func", ("void (*)(void *)", "fixed", False, 8, 1, "int")),
        ("struct timespec64 ts", 12, 0, "ts", ("struct timespec64", "fixed", False, 12, 1, "array")),
        ("unsigned  int   nr", 4, 0, "nr", ("unsigned int", "fixed", False, 4, 1, "int")),
    ],
)
def test_field_kinds(declaration: str, size: int, signed: int, name: str, expected: tuple[object, ...]) -> None:
    """Arrays fixed, dynamic and of open length, text, pointers and structures are told apart."""
    f = one(declaration, size, signed)
    text = format_text("e", 1, [(declaration, 8, size, signed)], '"x"')
    shape = parse_format(text, "s").public_fields()[0].shape
    assert f.name == name
    assert (f.type, f.location, f.is_string, f.element, f.count, shape) == expected
    assert f.signed is bool(signed)


def test_long_of_an_open_array_is_the_kernels() -> None:
    """The elements of an array of open length are as wide as the recorded kernel's longs."""
    with_pointer = format_text("e", 1, [("void * p", 8, 4, 0), ("unsigned long c[]", 12, 0, 0)], '""')
    assert parse_format(with_pointer, "s").fields[1].element == 4
    assert one("unsigned long caller[]", 0, long_size=4).element == 4
    assert one("struct page * pages[]", 0, long_size=4).element == 4


def test_old_format_without_signed() -> None:
    """A format file of a kernel before 2.6.31, which does not say what is signed, is read."""
    text = b'name: e\nID: 7\nformat:\n\tfield:int pid;\toffset:8;\tsize:4;\n\nprint fmt: "%d", REC->pid\n'
    f = parse_format(text, "s")
    assert f.fields[0].signed is False
    assert f.print_fmt == '"%d", REC->pid'


def test_print_format_may_hold_newlines() -> None:
    """A print format whose string holds a newline goes on in the next lines."""
    f = parse_format(format_text("e", 1, [("int a", 8, 4, 1)], '"a:\n\t%d\n", REC->a'), "s")
    assert f.print_fmt == '"a:\n\t%d\n", REC->a'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "line 1 does not name"),
        (b"name: e\n", "not number the event"),
        (b"ID: 5\nformat:\n", "line 1 does not name"),
        (b"name: e\nID: 5\nformat:\n\tfield:int a;\toffset:x;\tsize:4;\tsigned:1;\n", "line 4 is no field"),
        (b"name: e\nID: 5\nformat:\n\tfield:int;\toffset:8;\tsize:4;\tsigned:1;\n", "line 4 does not name its field"),
        (
            b"name: e\nID: 5\nformat:\n\tfield:int a;\toffset:99999999;\tsize:4;\tsigned:1;\n",
            "line 4 .* beyond any record",
        ),
        (
            b"name: e\nID: 5\nformat:\n\tfield:__data_loc char[] a;\toffset:8;\tsize:8;\tsigned:1;\n",
            "line 4 .* must have 4",
        ),
        (b"name: e\nID: 5\nformat:\nrubbish\n", "line 4 is not part"),
        (b"\x17\x08\x44tracing", "line 1 is not part"),
    ],
)
def test_text_that_is_no_format(text: bytes, message: str) -> None:
    """What is no event format raises a ValueError that names the line."""
    with pytest.raises(ValueError, match=message):
        parse_format(text, "s")


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_value_error(text: bytes) -> None:
    """Arbitrary bytes behind the head of a format file are parsed or raise ValueError, nothing else."""
    message = ""
    try:
        parse_format(b"name: e\nID: 1\nformat:\n" + text, "s")
    except ValueError as e:
        message = str(e)
    assert not message or "line " in message


_WORDS = st.sampled_from(["int", "unsigned long", "struct task_struct *", "u8", "__u16", "pid_t", "const char *"])


@given(st.lists(st.tuples(_WORDS, st.sampled_from([1, 2, 4, 8]), st.booleans(), st.integers(0, 8)), max_size=8))
def test_declarations_come_back(fields: list[tuple[str, int, bool, int]]) -> None:
    """Types, offsets, sizes, signs and counts of any declarations are those that were written."""
    rows = []
    at = 8
    for i, (type_, size, signed, count) in enumerate(fields):
        declaration = f"{type_} f{i}" + (f"[{count}]" if count else "")
        rows.append((declaration, at, size * (count or 1), int(signed)))
        at += size * (count or 1)
    f = parse_format(format_text("e", 9, rows, '""'), "s")
    assert len(f.common) == COMMON.count("field:")
    for got, (type_, size, signed, count), row in zip(f.fields, fields, rows, strict=True):
        assert (got.offset, got.size, got.signed) == (row[1], row[2], signed)
        assert (got.element, got.count) == (size, count or 1)
        assert got.type == type_ + (f"[{count}]" if count else "")
