"""The records of ftrace itself, of system calls and of probes, which the kernel prints through functions of its own."""

from __future__ import annotations

import pytest
from recordmaker import Event, format_text, lines, make

from taskscope.ftrace.lines_graph import duration_text

IP = ("unsigned long ip", 8, 8, 0)
SYMBOLS = b"ffffffff81000000 T do_exit\nffffffff81000100 T __x64_sys_exit\nffffffffc0000000 t probe\t[virtio]\n"


def own(name: str, fields: list[tuple[str, int, int, int]], *values: dict[str, object], **more: object) -> list[str]:
    """Return the bodies of records of the ftrace system."""
    text = format_text(name, 6, fields, '"not used"')
    source = make([("ftrace", text)], [Event(1, name, v) for v in values], kallsyms=SYMBOLS, **more)  # type: ignore[arg-type]
    return [x.split(": ", 1)[1] for x in lines(source)]


def test_function() -> None:
    """A call is its name and its caller's, without the event's; an address without a name is a number."""
    fields = [IP, ("unsigned long parent_ip", 16, 8, 0)]
    assert own(
        "function",
        fields,
        {"ip": 0xFFFFFFFF81000004, "parent_ip": 0xFFFFFFFF81000120},
        {"ip": 0xFFFFFFFFC0000000, "parent_ip": 0},
        {"ip": 0x10, "parent_ip": 0xFFFFFFFF81000000},
    ) == ["do_exit <-__x64_sys_exit", "probe", "0x00000010 <-do_exit"]


def test_print() -> None:
    """Markers and trace_puts() are one line each: the newline at their end is not doubled, one inside is escaped."""
    fields = [IP, ("char buf[]", 16, 0, 0)]
    texts = [b"hello\n\0", b"no newline\0", b"two\nlines\n\0", b"tab\there\0", b"\0", b"x" * 700 + b"\n\0"]
    assert own("print", fields, *({"ip": 0xFFFFFFFF81000000, "buf": t} for t in texts)) == [
        "do_exit: hello",
        "do_exit: no newline",
        r"do_exit: two\x0alines",
        "do_exit: tab\there",
        "do_exit: ",
        "do_exit: " + "x" * 700,
    ]


def test_trace_printk() -> None:
    """trace_printk() with arguments is formatted from the recording's printk_formats and the binary arguments."""
    fields = [IP, ("const char * fmt", 16, 8, 0), ("u32 buf[]", 24, 0, 0)]
    formats = b'0xffffffff82000000 : "pid %d took %llu ns: %s%c at %pS %p\\n"\n0xffffffff82000010 : "%*d|%-5s|"\n'
    args = (
        b"\xff\xff\xff\xff"
        + (1 << 40).to_bytes(8, "little")
        + b"ok\0"
        + b"!"
        + (0xFFFFFFFF81000010).to_bytes(8, "little")
        + (0x1234).to_bytes(8, "little")
    )
    assert own(
        "bprint",
        fields,
        {"ip": 0xFFFFFFFF81000000, "fmt": 0xFFFFFFFF82000000, "buf": args},
        {"ip": 0xFFFFFFFF81000000, "fmt": 0xFFFFFFFF82000010, "buf": b"\4\0\0\0\7\0\0\0ab\0\0"},
        {"ip": 0xFFFFFFFF81000000, "fmt": 0xFFFFFFFF82000010, "buf": b"\4\0\0\0"},
        {"ip": 0xFFFFFFFF81000000, "fmt": 0x99, "buf": b""},
        printk_formats=formats,
    ) == [
        "do_exit: pid -1 took 1099511627776 ns: ok! at do_exit+0x10/0x100 0000000000001234",
        "do_exit:    7|ab   |",
        "do_exit: %*d|%-5s| (an argument is missing)",
        "do_exit: 0x99",
    ]


def test_bputs() -> None:
    """trace_puts() of a constant is the string that printk_formats gives for the address."""
    fields = [IP, ("const char * str", 16, 8, 0)]
    assert own(
        "bputs",
        fields,
        {"ip": 0xFFFFFFFF81000000, "str": 0x5000},
        {"ip": 0, "str": 0x6000},
        printk_formats=b'0x5000 : "a line\\n"\n',
    ) == ["do_exit: a line", "0: 0x6000"]


def test_user_stack() -> None:
    """The frames of user stacks are numbers, up to the first that is 0."""
    fields = [("unsigned int tgid", 8, 4, 0), ("unsigned long caller[8]", 16, 64, 0)]
    text = format_text("user_stack", 12, fields, '""')
    source = make([("ftrace", text)], [Event(1, "user_stack", {"caller": [0x7F0000001000, 0x55, 0, 9, 0, 0, 0, 0]})])
    assert lines(source)[0].endswith(": <user stack trace>")
    assert lines(source)[1:] == [" =>  <00007f0000001000>", " =>  <0000000000000055>"]


def test_kernel_stack_ends() -> None:
    """A kernel stack goes to the end of its record, whatever length its format gives, or to the mark that ends it."""
    fields = [("int size", 8, 4, 1), ("unsigned long caller[]", 16, 0, 0)]
    text = format_text("kernel_stack", 4, fields, '""')
    frames = [0xFFFFFFFF81000004, 0x7FFFFFFF, 0xFFFFFFFFC0000004, 0xFFFFFFFF81000100, 0, 0x1234, 5, 6, 7, 8, 9]
    source = make(
        [("ftrace", text)],
        [
            Event(1, "kernel_stack", {"caller": frames}),
            Event(1, "kernel_stack", {"caller": [*frames[:2], (1 << 64) - 1, 1]}),
        ],
        kallsyms=SYMBOLS,
    )
    got = lines(source)
    assert got[1:12] == [
        " => do_exit",
        " => [FTRACE TRAMPOLINE]",
        " => probe",
        " => __x64_sys_exit",
        " => 0",
        " => 0x00001234",
        *(f" => 0x{i:08x}" for i in range(5, 10)),
    ]
    assert got[12].endswith("<stack trace>")
    assert got[13:] == [" => do_exit", " => [FTRACE TRAMPOLINE]"]


def test_system_calls() -> None:
    """System calls are shown with their arguments by name; since v6.18 with 0x from 10 on, before that without."""
    enter = format_text(
        "sys_enter_openat",
        700,
        [
            ("int __syscall_nr", 8, 4, 1),
            ("int dfd", 16, 8, 0),
            ("const char * filename", 24, 8, 0),
            ("int flags", 32, 8, 0),
        ],
        '"dfd: 0x%08lx, filename: 0x%08lx, flags: 0x%08lx", ((unsigned long)(REC->dfd)), '
        "((unsigned long)(REC->filename)), ((unsigned long)(REC->flags))",
    )
    leave = format_text(
        "sys_exit_openat", 701, [("int __syscall_nr", 8, 4, 1), ("long ret", 16, 8, 1)], '"0x%lx", REC->ret'
    )
    none = format_text("sys_enter_getpid", 702, [("int __syscall_nr", 8, 4, 1)], '""')
    events = [
        Event(1, "sys_enter_openat", {"dfd": 0xFFFFFF9C, "filename": 0x7FFE00001000, "flags": 9}),
        Event(1, "sys_exit_openat", {"ret": -2}),
        Event(1, "sys_enter_getpid", {}),
    ]
    formats = [("syscalls", t) for t in (enter, leave, none)]
    expected = {
        "6.18.44": "sys_openat(dfd: 0xffffff9c, filename: 0x7ffe00001000, flags: 9)",
        "6.12.1-cloud": "sys_openat(dfd: ffffff9c, filename: 7ffe00001000, flags: 9)",
    }
    for release, text in expected.items():
        got = [x.split(": ", 1)[1] for x in lines(make(formats, events, release=release))]
        assert got == [text, "sys_openat -> 0xfffffffffffffffe", "sys_getpid()"]


def test_system_call_with_user_memory() -> None:
    """A kernel that copies what arguments point to (v6.19) has it shown behind the argument."""
    enter = format_text(
        "sys_enter_write",
        700,
        [
            ("int __syscall_nr", 8, 4, 1),
            ("unsigned int fd", 16, 8, 0),
            ("const char * buf", 24, 8, 0),
            ("size_t count", 32, 8, 0),
            ("__data_loc char[] __buf_val", 40, 4, 0),
        ],
        '"fd: 0x%08lx, buf: 0x%08lx (%s), count: 0x%08lx", ((unsigned long)(REC->fd)), ((unsigned long)'
        "(REC->buf)), __print_dynamic_array(__buf_val, 1), ((unsigned long)(REC->count))",
    )
    unlink = format_text(
        "sys_enter_unlink",
        701,
        [
            ("int __syscall_nr", 8, 4, 1),
            ("const char * pathname", 16, 8, 0),
            ("__data_loc char[] __pathname_val", 24, 4, 0),
        ],
        '"pathname: 0x%08lx \\"%s\\"", ((unsigned long)(REC->pathname)), __get_str(__pathname_val)',
    )
    source = make(
        [("syscalls", enter), ("syscalls", unlink)],
        [
            Event(1, "sys_enter_write", {"fd": 1, "buf": 4096, "count": 3, "__buf_val": b"\1\xab\xff"}),
            Event(1, "sys_enter_unlink", {"pathname": 4096, "__pathname_val": b"/tmp/x\0"}),
        ],
        release="6.19.0",
    )
    assert [x.split(": ", 1)[1] for x in lines(source)] == [
        "sys_write(fd: 1, buf: 0x1000 (01:ab:ff), count: 3)",
        'sys_unlink(pathname: 0x1000 "/tmp/x")',
    ]


def test_probes() -> None:
    """Probes are shown with the place by name: function and offset for kprobes, both ends for kretprobes."""
    entry = format_text(
        "do_exit",
        800,
        [("unsigned long __probe_ip", 8, 8, 0), ("u32 code", 16, 4, 0)],
        '"(%lx) code=0x%x", REC->__probe_ip, REC->code',
    )
    back = format_text(
        "ret",
        801,
        [("unsigned long __probe_func", 8, 8, 0), ("unsigned long __probe_ret_ip", 16, 8, 0), ("s32 pid", 24, 4, 1)],
        '"(%lx <- %lx) pid=%d", REC->__probe_func, REC->__probe_ret_ip, REC->pid',
    )
    source = make(
        [("tl", entry), ("tl", back)],
        [
            Event(1, "do_exit", {"__probe_ip": 0xFFFFFFFF81000000, "code": 256}),
            Event(1, "do_exit", {"__probe_ip": 0x555500001000, "code": 0}),
            Event(1, "ret", {"__probe_func": 0xFFFFFFFF81000000, "__probe_ret_ip": 0xFFFFFFFFC0000008, "pid": -10}),
        ],
        kallsyms=SYMBOLS,
    )
    assert [x.split(": ", 1)[1] for x in lines(source)] == [
        "do_exit: (do_exit+0x0/0x100) code=0x100",
        "do_exit: (0x555500001000) code=0x0",
        "ret: (probe+0x8/0x0 [virtio] <- do_exit) pid=-10",
    ]


def test_rare_tracers() -> None:
    """The samples of the latency tracers and the records of the old scheduler tracer have the kernel's layout."""
    assert own(
        "timerlat",
        [("unsigned int seqnum", 8, 4, 0), ("int context", 12, 4, 1), ("u64 timer_latency", 16, 8, 0)],
        {"seqnum": 7, "context": 1, "timer_latency": 12345},
    ) == ["#7     context thread timer_latency     12345 ns"]
    counts = [
        (f"unsigned int {n}_count", 32 + 4 * i, 4, 0) for i, n in enumerate(("hw", "nmi", "irq", "softirq", "thread"))
    ]
    assert own(
        "osnoise",
        [("u64 noise", 8, 8, 0), ("u64 runtime", 16, 8, 0), ("u64 max_sample", 24, 8, 0), *counts],
        {"noise": 250, "runtime": 1_000_000, "max_sample": 90, "irq_count": 3},
    ) == ["1000000        250  99.97500      90      0      0      3      0      0"]
    hwlat = [
        ("u64 duration", 8, 8, 0),
        ("u64 outer_duration", 16, 8, 0),
        ("u64 nmi_total_ts", 24, 8, 0),
        ("s64 tv_sec", 32, 8, 1),
        ("long tv_nsec", 40, 8, 1),
        ("unsigned int nmi_count", 48, 4, 0),
        ("unsigned int seqnum", 52, 4, 0),
        ("unsigned int count", 56, 4, 0),
    ]
    assert own(
        "hwlat",
        hwlat,
        {"duration": 12, "outer_duration": 13, "tv_sec": 5, "tv_nsec": 7, "seqnum": 1, "count": 2},
        {"nmi_count": 3, "nmi_total_ts": 9},
    ) == [
        "#1     inner/outer(us):   12/13    ts:5.000000007 count:2",
        "#0     inner/outer(us):    0/0     ts:0.000000000 count:0 nmi-total:9 nmi-count:3",
    ]
    switch = [
        ("unsigned int prev_pid", 8, 4, 0),
        ("unsigned int next_pid", 12, 4, 0),
        ("unsigned int next_cpu", 16, 4, 0),
        ("unsigned char prev_prio", 20, 1, 0),
        ("unsigned char prev_state", 21, 1, 0),
        ("unsigned char next_prio", 22, 1, 0),
        ("unsigned char next_state", 23, 1, 0),
    ]
    values = {"prev_pid": 5, "prev_prio": 120, "prev_state": 1, "next_cpu": 1, "next_pid": 9, "next_prio": 98}
    assert own("context_switch", switch, values, cmdlines={9: b"sh"}) == ["       5:120:S ==> [001]       9: 98:R sh"]
    assert own("wakeup", switch, values) == ["       5:120:S   + [001]       9: 98:R <...>"]
    assert own(
        "raw_data", [("unsigned int id", 8, 4, 0), ("char buf[]", 12, 0, 0)], {"id": 31, "buf": b"\0\xab12"}
    ) == ["# 1f buf: 00 ab 31 32"]
    assert own(
        "branch",
        [
            ("unsigned int line", 8, 4, 0),
            ("char func[31]", 12, 31, 0),
            ("char file[21]", 43, 21, 0),
            ("char correct", 64, 1, 0),
            ("char constant", 65, 1, 0),
        ],
        {"line": 12, "func": b"f", "file": b"a.c", "correct": 1},
    ) == ["[  ok  ] f:a.c:12"]
    assert own(
        "func_repeats",
        [
            IP,
            ("unsigned long parent_ip", 16, 8, 0),
            ("u16 count", 24, 2, 0),
            ("u16 top_delta_ts", 26, 2, 0),
            ("u32 bottom_delta_ts", 28, 4, 0),
        ],
        {"ip": 0xFFFFFFFF81000000, "parent_ip": 0xFFFFFFFF81000100, "count": 3, "bottom_delta_ts": 500_000_000},
    ) == ["do_exit <-__x64_sys_exit (repeats: 3, last_ts:     0.500000)"]


def test_function_graph() -> None:
    """A call whose return is the next record is one line with its duration; others open and close a brace."""
    func = ("unsigned long func", 8, 8, 0)
    call = format_text("funcgraph_entry", 11, [func, ("int depth", 16, 4, 1)], '""')
    back = format_text(
        "funcgraph_exit",
        10,
        [
            func,
            ("int depth", 16, 4, 1),
            ("unsigned int overrun", 20, 4, 0),
            ("unsigned long long calltime", 24, 8, 0),
            ("unsigned long long rettime", 32, 8, 0),
        ],
        '""',
    )
    outer, inner = 0xFFFFFFFF81000000, 0xFFFFFFFFC0000000
    source = make(
        [("ftrace", call), ("ftrace", back)],
        [
            Event(1, "funcgraph_entry", {"func": outer, "depth": 0}),
            Event(1, "funcgraph_entry", {"func": inner, "depth": 1}),
            Event(1, "funcgraph_exit", {"func": inner, "depth": 1, "calltime": 100, "rettime": 641}),
            Event(1, "funcgraph_exit", {"func": outer, "depth": 0, "calltime": 50, "rettime": 12_345_050}),
            Event(1, "funcgraph_entry", {"func": outer, "depth": 0}, pid=2),
            Event(1, "funcgraph_exit", {"func": outer, "depth": 0, "rettime": 5}, pid=3),
        ],
        kallsyms=SYMBOLS,
    )
    assert [x.split(": ", 1)[1] for x in lines(source)] == [
        " 0)               |  do_exit() {",
        " 0)   0.541 us    |    probe [virtio]();",
        " 0) * 12345.00 us |  }",
        " 0)               |  do_exit() {",
        " 0)   0.005 us    |  }",
    ]


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (541, "  0.541 us    |  "),
        (10_001, "+ 10.001 us   |  "),
        (100_001, "! 100.001 us  |  "),
        (1_234_567, "# 1234.567 us |  "),
        (12_345_678, "* 12345.67 us |  "),
        (123_456_789, "@ 123456.7 us |  "),
        (1_234_567_890, "$ 1234567 us  |  "),
    ],
)
def test_durations_of_calls(ns: int, text: str) -> None:
    """Durations fill their column, with the kernel's mark for long ones."""
    assert duration_text(ns).decode() == text
