"""Print formats of real kernels, old and new, and every helper and pointer conversion that they use."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

import numpy as np
import pytest
from recordmaker import Event, Value, bodies, format_text, make

from taskscope.ftrace.lines import LineWriter
from taskscope.ftrace.open import open_source

STATE = '"prev_state=%s{plus} ==> next", {text}'

# Print formats of sched_switch as kernels had them; only what shows prev_state.
SWITCH = {
    "2.6.31": (
        'REC->prev_state ? __print_flags(REC->prev_state, "|", { 1, "S"} , { 2, "D" }, { 4, "T" }, { 8, "t" }, '
        '{ 16, "Z" }, { 32, "X" }, { 64, "x" }, { 128, "W" }) : "R"'
    ),
    "3.14": (
        'REC->prev_state & (1024-1) ? __print_flags(REC->prev_state & (1024-1), "|", { 1, "S"} , { 2, "D" }, '
        '{ 4, "T" }, { 8, "t" }, { 16, "Z" }, { 32, "X" }, { 64, "x" }, { 128, "K" }, { 256, "W" }, { 512, "P" }) : '
        '"R", REC->prev_state & 1024 ? "+" : ""'
    ),
    "4.9": (
        'REC->prev_state & (4096-1) ? __print_flags(REC->prev_state & (4096-1), "|", { 1, "S"} , { 2, "D" }, '
        '{ 4, "T" }, { 8, "t" }, { 16, "Z" }, { 32, "X" }, { 64, "x" }, { 128, "K" }, { 256, "W" }, { 512, "P" }, '
        '{ 1024, "N" }) : "R", REC->prev_state & 4096 ? "+" : ""'
    ),
    "4.19": (
        "(REC->prev_state & ((((0x0000 | 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0020 | 0x0040) + 1) << 1) - 1))"
        " ? __print_flags(REC->prev_state & ((((0x0000 | 0x0001 | 0x0002 | 0x0004 | 0x0008 | 0x0010 | 0x0020 | 0x0040) "
        '+ 1) << 1) - 1), "|", { 0x0001, "S" }, { 0x0002, "D" }, { 0x0004, "T" }, { 0x0008, "t" }, { 0x0010, "X" }, '
        '{ 0x0020, "Z" }, { 0x0040, "P" }, { 0x0080, "I" }) : "R", REC->prev_state & (((0x0000 | 0x0001 | 0x0002 | '
        '0x0004 | 0x0008 | 0x0010 | 0x0020 | 0x0040) + 1) << 1) ? "+" : ""'
    ),
}


@pytest.mark.parametrize(
    ("kernel", "values", "texts"),
    [
        ("2.6.31", [0, 1, 2, 64, 3], ["R", "S", "D", "x", "S|D"]),
        (
            "3.14",
            [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 1025, 130],
            ["R", "S", "D", "T", "t", "Z", "X", "x", "K", "W", "R+", "S+", "D|K"],
        ),
        ("4.9", [0, 16, 32, 1026, 4096, 2048], ["R", "Z", "X", "D|N", "R+", "0x800"]),
        ("4.19", [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 258], ["R", "S", "D", "T", "t", "X", "Z", "P", "I", "R+", "D+"]),
    ],
)
def test_prev_state_letters_of_each_kernel(kernel: str, values: list[int], texts: list[str]) -> None:
    """The letters of prev_state are those of the recording's own print format, not of a table."""
    plus = "%s" if '"+"' in SWITCH[kernel] else ""
    text = format_text("sched_switch", 50, [("long prev_state", 8, 8, 1)], STATE.format(plus=plus, text=SWITCH[kernel]))
    source = make([("sched", text)], [Event(10, "sched_switch", {"prev_state": v}) for v in values])
    assert bodies(source) == [f"sched_switch: prev_state={t} ==> next" for t in texts]
    assert source.field_text(source.types[0], "prev_state", np.array(values)) == texts


def formats_618(data: Path) -> list[tuple[str, bytes]]:
    """Return event formats of a 6.18 kernel: all of the systems that lives are told from, some system calls."""
    text = lzma.decompress((data / "formats-618.txt.xz").read_bytes())
    parts = re.split(rb"^==> (\w+)/\w+ <==\n", text, flags=re.MULTILINE)
    return [(system.decode(), body) for system, body in zip(parts[1::2], parts[2::2], strict=True)]


SYSTEMS = {"sched", "task", "signal", "irq", "workqueue", "oom", "timer", "raw_syscalls", "syscalls", "ftrace"}


def test_all_events_of_the_systems_are_parsed(data: Path) -> None:
    """No event of the systems that a 6.18 kernel's lives are told from is shown field by field."""
    formats = formats_618(data)
    assert {system for system, _ in formats} == SYSTEMS
    writer = LineWriter(make(formats, []))
    for type_ in writer.source.types:
        writer.body(type_)
    assert len(writer.source.types) == len(formats) == 100
    assert writer.unparsed == {}


@pytest.mark.parametrize(
    "name",
    [
        "d09-sched.dat",
        "d14-instances.dat",
        "d31-shellexec-612.dat",
        "d11-oom.dat",
        "d18-raw4k",
        "d37-raw16k-612",
        "d50-signals-be64.dat",
        "d60-signals-32.dat",
        "d70-host618-kill9-stack",
    ],
)
def test_all_events_of_recordings_are_parsed(data: Path, name: str) -> None:
    """No event that the recordings declare is shown by field."""
    source = open_source(str(data / name))
    writer = LineWriter(source)
    for type_ in source.types:
        writer.body(type_)
    assert writer.unparsed == {}
    assert len(source.types) > 20


def shown(
    fields: list[tuple[str, int, int, int]],
    print_fmt: str,
    values: dict[str, Value],
    *,
    big_endian: bool = False,
    long_size: int = 8,
) -> str:
    """Show one record of an event with these fields."""
    text = format_text("e", 300, fields, print_fmt)
    source = make([("s", text)], [Event(5, "e", values, flags=0x18)], big_endian=big_endian, long_size=long_size)
    (line,) = bodies(source)
    assert source._lines.unparsed == {}
    return line.removeprefix("e: ")


U32, U64, S32 = ("u32 a", 8, 4, 0), ("u64 a", 8, 8, 0), ("int a", 8, 4, 1)


def array(declaration: str, size: int) -> list[tuple[str, int, int, int]]:
    """Return one field that is an array of bytes."""
    return [(declaration, 8, size, 0)]


def dynamic(type_: str, location: str = "data_loc") -> list[tuple[str, int, int, int]]:
    """Return one dynamic field."""
    return [(f"__{location} {type_}[] d", 8, 4, 0)]


@pytest.mark.parametrize(
    ("fields", "print_fmt", "values", "expected"),
    [
        # names of bits and values
        ([U32], '"%s", __print_flags(REC->a, "|", { 1, "A" }, { 6, "BC" }, { 8, "D" })', {"a": 0x17}, "A|BC|0x10"),
        ([U32], '"%s", __print_flags(REC->a, "", { 1, "A" }, { 2, "B" })', {"a": 3}, "AB"),
        ([U32], '"<%s>", __print_flags(REC->a, "|", { 1, "A" })', {"a": 0}, "<>"),
        ([U32], '"%s", __print_flags(REC->a, "|", { FOO, "A" }, { 2, "B" })', {"a": 3}, "B|0x1"),
        ([U32], '"%s", __print_flags(REC->a, "|", { 2, "B" }, { -1, ((void *)0) })', {"a": 3}, "B|0x1"),
        (
            [U64],
            '"%s", __print_flags_u64(REC->a, "|", { 1ULL << 40, "X" })',
            {"a": 1 << 40 | 1 << 41},
            "X|0x20000000000",
        ),
        ([S32], '"%s", __print_symbolic(REC->a, { 0, "no" }, { -1, "all" }, { 1, "yes" })', {"a": -1}, "all"),
        ([S32], '"%s", __print_symbolic(REC->a, { 0, "no" })', {"a": -2}, "0xfffffffffffffffe"),
        ([S32], '"%s", __print_symbolic(REC->a, { HI_SOFTIRQ, "HI" }, { RCU_SOFTIRQ, "RCU" })', {"a": 9}, "RCU"),
        ([U32], '"%s", __print_symbolic(REC->a, { })', {"a": 9}, "0x9"),
        ([U32], '"%s%s", REC->a > 1 ? "many" : "one", REC->a ? "" : "!"', {"a": 0}, "one!"),
        ([U32], "\"%c%c\", REC->a & 1 ? 'F' : ' ', 48 + REC->a", {"a": 1}, "F1"),
        ([U32], '"%.*s", REC->a, "abcdef"', {"a": 3}, "abc"),
        ([U32], '"[%*d|%-*d]", REC->a, 7, REC->a, 7', {"a": 3}, "[  7|7  ]"),
        (
            [S32],
            '"%5d|%-5d|%05d|%+d|%x|%#x|%o|%hhu|%hd"' + ", REC->a" * 9,
            {"a": -9},
            "   -9|-9   |-0009|-9|fffffff7|0xfffffff7|37777777767|247|-9",
        ),
        # text
        (dynamic("char"), '"[%s]", __get_str(d)', {"d": b"/bin/true\0"}, "[/bin/true]"),
        (dynamic("char", "rel_loc"), '"[%s]", __get_rel_str(d)', {"d": b"/bin/true\0"}, "[/bin/true]"),
        (dynamic("char"), '"[%s]", __get_str(d)', {"d": b""}, "[]"),
        (
            dynamic("char"),
            '"[%12s|%-4s|%.2s]", __get_str(d), __get_str(d), __get_str(d)',
            {"d": b"abc\0"},
            "[         abc|abc |ab]",
        ),
        (dynamic("char"), '"%s", __get_str(d)[0] ? "some" : "none"', {"d": b"\0"}, "none"),
        (array("char c[8]", 8), '"[%s]", REC->c', {"c": b"ab\0gone"}, "[ab]"),
        (array("char c[8]", 8), '"[%s]", REC->c', {"c": b"12345678"}, "[12345678]"),
        (array("char c[40]", 40), '"[%s]", REC->c', {"c": b"x" * 39}, f"[{'x' * 39}]"),
        ([U64], '"%s", REC->a', {"a": 0xFFFF888000001000}, "0xffff888000001000"),
        ([U64], '"%s", REC->a', {"a": 0}, "(null)"),
        # arrays and bytes
        (
            array("unsigned long args[3]", 24),
            '"%lx %ld %lu", REC->args[0], REC->args[1], REC->args[2]',
            {"args": [255, -1, (1 << 64) - 1]},
            "ff -1 18446744073709551615",
        ),
        (
            array("u8 h[4]", 4),
            '"%02x%02x%02x%02x", REC->h[0], REC->h[1], REC->h[2], REC->h[3]',
            {"h": b"\1\2\xa0\xff"},
            "0102a0ff",
        ),
        (
            dynamic("u64"),
            (
                '"%s %d", __print_array(__get_dynamic_array(d), __get_dynamic_array_len(d) / sizeof(u64), 8), '
                "__get_dynamic_array_len(d)"
            ),
            {"d": [1, 1 << 40]},
            "{0x1,0x10000000000} 16",
        ),
        (dynamic("u8"), '"%s", __print_dynamic_array(d, 2)', {"d": b"\1\0\2\0"}, "{0x1,0x2}"),
        (
            dynamic("u8"),
            '"%s|%s", __print_hex(__get_dynamic_array(d), 3), __print_hex_str(__get_dynamic_array(d), 3)',
            {"d": b"\x00\xab\x10\xff"},
            "00 ab 10|00ab10",
        ),
        (dynamic("u32"), '"%u", ((u32 *)__get_dynamic_array(d))[1]', {"d": [7, 8]}, "8"),
        (dynamic("u32"), '"%u", ((u16 *)__get_dynamic_array(d))[2]', {"d": [7, 8]}, "8"),
        (dynamic("u32"), '"%u", ((u32 *)__get_dynamic_array(d))[5]', {"d": [7, 8]}, "0"),
        (dynamic("unsigned long"), '"%s", __get_bitmask(d)', {"d": [0x8000000000000003]}, "80000000,00000003"),
        (
            dynamic("unsigned long"),
            '"%*pbl|%*pb", 70, __get_dynamic_array(d), 68, __get_dynamic_array(d)',
            {"d": [0xF1, 0x3]},
            "0,4-7,64-65|3,00000000,000000f1",
        ),
        # addresses
        (array("__u8 s[4]", 4), '"%pI4 %pi4", REC->s, REC->s', {"s": b"\x7f\0\0\1"}, "127.0.0.1 127.000.000.001"),
        (
            array("__u8 s[16]", 16),
            '"%pI6c|%pI6|%pi6", REC->s, REC->s, REC->s',
            {"s": bytes(15) + b"\1"},
            "::1|0000:0000:0000:0000:0000:0000:0000:0001|00000000000000000000000000000001",
        ),
        (
            array("__u8 s[16]", 16),
            '"%pI6c", REC->s',
            {"s": bytes.fromhex("20010db8000000000001000000000001")},
            "2001:db8::1:0:0:1",
        ),
        (array("__u8 s[16]", 16), '"%pI6c", REC->s', {"s": bytes(10) + b"\xff\xff\x0a\0\0\1"}, "::ffff:10.0.0.1"),
        (
            array("__u8 s[28]", 28),
            '"%pISpc %pIS", REC->s, REC->s',
            {"s": b"\2\0\0\x50\x0a\0\0\1" + bytes(20)},
            "10.0.0.1:80 10.0.0.1",
        ),
        (
            array("__u8 s[28]", 28),
            '"%pISpc", REC->s',
            {"s": b"\x0a\0\x1f\x90" + bytes(19) + b"\1" + bytes(4)},
            "[::1]:8080",
        ),
        (
            array("unsigned char m[6]", 6),
            '"%pM %pm", REC->m, REC->m',
            {"m": b"\x02\0\0\xab\xcd\xef"},
            "02:00:00:ab:cd:ef 020000abcdef",
        ),
        (
            array("u8 u[16]", 16),
            '"%pU %pUL", REC->u, REC->u',
            {"u": bytes(range(16))},
            "00010203-0405-0607-0809-0a0b0c0d0e0f 03020100-0504-0706-0809-0A0B0C0D0E0F",
        ),
        ([U32], '"%pI4", &REC->a', {"a": 0x0100007F}, "127.0.0.1"),
        (
            [U64],
            '"%p %px %pK %pS %ps", REC->a, REC->a, REC->a, REC->a, (void *)REC->a',
            {"a": 0x1234},
            "0000000000001234 0000000000001234 0000000000001234 0x1234 0x1234",
        ),
        ([U64], '"%pe", REC->a', {"a": (1 << 64) - 2}, "-ENOENT"),
        ([U32], '"%d %d", __event_in_hardirq(), __event_in_softirq()', {}, "1 1"),
        (
            [U64],
            '"%llu.%09u", __print_ns_to_secs(REC->a), __print_ns_without_secs(REC->a)',
            {"a": 1_500_000_001},
            "1.500000001",
        ),
    ],
)
def test_helpers_and_conversions(
    fields: list[tuple[str, int, int, int]], print_fmt: str, values: dict[str, Value], expected: str
) -> None:
    """Each helper and conversion gives the kernel's text."""
    assert shown(fields, print_fmt, values) == expected


def test_hex_dump_takes_lines_of_its_own() -> None:
    """A hex dump is printed in rows behind the line, as trace_print_hex_dump_seq() does."""
    fmt = '"%s", __print_hex_dump("p ", 2, 16, 1, __get_dynamic_array(d), __get_dynamic_array_len(d), 1)'
    source = make([("s", format_text("e", 300, dynamic("u8"), fmt))], [Event(5, "e", {"d": b"AB\0" * 6})])
    text = source.report(np.array([0])).decode().split("e: ")[1]
    assert text == (
        "\np 00000000: 41 42 00 41 42 00 41 42 00 41 42 00 41 42 00 41  AB.AB.AB.AB.AB.A\n"
        "p 00000010: 42 00                                            B.\n\n"
    )


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("long_size", [4, 8])
def test_byte_order_and_long_of_the_recording(big_endian: bool, long_size: int) -> None:
    """Numbers, arrays, pointers and bit maps are read in the recording's byte order and width of a long."""
    bits = 8 * long_size
    fields = [
        ("u16 a", 8, 2, 0),
        ("long b", 16, long_size, 1),
        ("__data_loc u32[] d", 24, 4, 0),
        ("__data_loc unsigned long[] m", 28, 4, 0),
    ]
    line = shown(
        fields,
        '"%x %ld %lx %p %s %s %x", REC->a, REC->b, REC->b, REC->b, '
        "__print_array(__get_dynamic_array(d), 2, 4), __get_bitmask(m), be16_to_cpu(REC->a)",
        {"a": 0x1234, "b": -2, "d": [1, 0xABCDEF], "m": [5]},
        big_endian=big_endian,
        long_size=long_size,
    )
    top = "f" * (bits // 4 - 1)
    mask = "00000000,00000005" if long_size == 8 else "00000005"
    assert line == f"1234 -2 {top}e {top}e {{0x1,0xabcdef}} {mask} {'1234' if big_endian else '3412'}"


def test_strings_of_the_kernel_are_looked_up() -> None:
    """A pointer to a string of the kernel is shown as the string that printk_formats gives for it."""
    text = format_text("rcu", 300, [("const char * a", 8, 8, 0)], '"%s end", REC->a')
    source = make(
        [("rcu", text)],
        [Event(1, "rcu", {"a": 0xFFFFFFFF82001000}), Event(1, "rcu", {"a": 0x10})],
        printk_formats=b'0xffffffff82001000 : "rcu_preempt"\n',
    )
    assert bodies(source) == ["rcu: rcu_preempt end", "rcu: 0x10 end"]


@pytest.mark.parametrize(
    ("print_fmt", "why"),
    [
        ('"%d", jiffies_to_msecs(REC->a)', "jiffies_to_msecs"),
        ('"%d", jiffies - REC->a', "jiffies"),
        ('"%d"', "arguments"),
        ("REC->a", "format string"),
        ('"%pd", REC->a', "%pd is not known"),
        ('"%pI4", REC->a', "does not hold"),
        ('"%d", "text"', "wants a number"),
        ('"%y", REC->a', "no conversion"),
        ("", "format string"),
        ('"%d", ({ static const char *s[] = { "a" }; s[0]; })', "expected"),
        ('"%s", __print_symbolic(REC->a, 5)', "list"),
        ('"%s", __get_str(nothing)', "a field"),
        ('"%d", REC->a ? __get_str(n) : REC->b', ""),
    ],
)
def test_what_cannot_be_parsed_is_shown_field_by_field(print_fmt: str, why: str) -> None:
    """An event whose print format cannot be used is shown as field=value of all fields, and listed with the reason."""
    fields = [
        ("int a", 8, 4, 1),
        ("char c[8]", 12, 8, 0),
        ("u16 v[2]", 20, 4, 0),
        ("void * p", 24, 8, 0),
        ("__data_loc char[] n", 32, 4, 0),
        ("u64 b", 40, 8, 0),
    ]
    source = make(
        [("s", format_text("e", 300, fields, print_fmt))],
        [Event(5, "e", {"a": -3, "c": b"hi", "v": [1, 2], "p": 4096, "n": b"name\0", "b": 7})],
    )
    assert bodies(source) == ["e: a=-3 c=hi v={0x1,0x2} p=0x1000 n=name b=7"]
    assert list(source._lines.unparsed) == ["s:e"]
    assert why in source._lines.unparsed["s:e"]


def test_fields_of_a_forged_format() -> None:
    """Names that stand twice, more fields than a line can hold, and no fields at all do not stop the report."""
    twice = format_text("e", 300, [("int a", 8, 4, 1), ("u16 a[2]", 12, 4, 0)], "?")
    assert bodies(make([("s", twice)], [Event(5, "e", {"a": [1, 2]})])) == ["e: a={0x1,0x2}"]
    many = format_text("e", 300, [(f"u8 f{i}", 8, 1, 0) for i in range(500)], "?")
    assert bodies(make([("s", many)], [Event(5, "e", {})])) == ["e: "]
    assert bodies(make([("s", format_text("e", 300, [], "?"))], [Event(5, "e", {})])) == ["e: "]


def test_quotes_inside_a_format_string() -> None:
    """Escaped quotes, adjacent strings and newlines inside a format string are understood."""
    assert (
        shown(
            [U32],
            r'"a=\"%u\"" " b" "=%u", REC->a, REC->a',
            {"a": 5},
        )
        == 'a="5" b=5'
    )
    assert shown([U32], '"x\\ty=%u", REC->a', {"a": 5}) == "x\ty=5"
