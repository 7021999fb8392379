"""Lines of text: equal to the kernel's own of the same records, and right where no kernel text is at hand."""

from __future__ import annotations

import lzma
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recordmaker import Event, format_text, lines, make

from taskscope.ftrace.open import open_source
from taskscope.ftrace.printfmt.plain import escaped
from taskscope.ftrace.ring import RingSource

RAW = ["d18-raw4k", "d37-raw16k-612", "d53-raw-be64", "d62-raw-32", "d71-host618-orphan"]


def report(source: RingSource) -> bytes:
    """Return the whole report in order of time."""
    return source.report(np.argsort(source.index.ts, kind="stable"))


def kernel_text(path: Path) -> bytes:
    """Return the lines of a tracefs `trace` file without its header."""
    return b"".join(x for x in path.read_bytes().splitlines(keepends=True) if not x.startswith(b"#"))


def ring(path: Path) -> RingSource:
    """Open a recording of pages."""
    source = open_source(str(path))
    assert isinstance(source, RingSource)
    return source


# ---- against the kernel's own text -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RAW)
def test_report_is_the_kernels_text(data: Path, name: str) -> None:
    """The report of raw pages is byte for byte the kernel's text of them: x86-64, s390x, i386, 6.1 to 6.18."""
    source = ring(data / name)
    assert report(source) == kernel_text(data / name / "trace.txt")
    assert len(source.index) >= 40


def test_report_with_stacks_is_the_kernels_text(data: Path) -> None:
    """Stacks stand where the kernel prints them; with its names for their addresses the report is equal."""
    folder = data / "d70-host618-kill9-stack"
    bare, kernel = report(ring(folder)), kernel_text(folder / "trace.txt")
    pairs = list(zip(bare.splitlines(), kernel.splitlines(), strict=True))
    names = {ours[4:]: theirs[4:] for ours, theirs in pairs if ours.startswith(b" => ")}
    assert len(names) > 20
    assert all(re.fullmatch(rb"0x[0-9a-f]{16}", address) for address in names)
    source = ring(folder)
    source.recorded.kallsyms = b"".join(b"%s t %s\n" % (a[2:], n) for a, n in sorted(names.items()))
    assert report(source) == kernel


def test_any_rows_in_any_order(data: Path) -> None:
    """The lines of rows given in any order, and of few of them, are those of the whole report."""
    source = ring(data / "d37-raw16k-612")
    n = len(source.index)
    single = [source.report(np.array([row])) for row in range(n)]
    order = np.random.default_rng(5).permutation(n)
    assert source.report(order) == b"".join(single[i] for i in order)
    assert source.report(np.array([], np.int64)) == b""


def test_blocks_do_not_show(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are written together, the text is the same."""
    source = ring(data / "d62-raw-32")
    whole = report(source)
    for size in (1, 7, 100):
        monkeypatch.setattr("taskscope.ftrace.lines.BLOCK", size)
        assert report(source) == whole


# ---- against trace-cmd -----------------------------------------------------------------------------------------------

# Events that a plugin of trace-cmd, and not their print format, prints; and what trace-cmd's parser gets wrong.
PLUGIN = {
    "kernel_stack",
    "function",
    "sched_wakeup",
    "sched_wakeup_new",
    "sched_switch",
    "hrtimer_start",
    "hrtimer_init",
    "hrtimer_expire_entry",
    "hrtimer_expire_exit",
    "hrtimer_cancel",
    "do_exit",
    "wait4_ret",
    "timer_start",
}
_OURS = re.compile(rb"\s*(.*)-(\d+) +\[(\d+)\] \S+ +[\d.]+: (.*)")
_THEIRS = re.compile(rb"(?:\S+: )?\s*(.*?)-(\d+)\s+\[(\d+)\]\s+(?:\S{4,6}\s+)?[\d.]+:\s+(\w+):\s*(.*)")


@pytest.mark.parametrize(
    "name",
    [
        "d02-exit0-v6.dat",
        "d03-shellexec.dat",
        "d05-zombie.dat",
        "d08-signals.dat",
        "d11-oom.dat",
        "d14-instances.dat",
        "d31-shellexec-612.dat",
        "d33-zombie-612-v6.dat",
        "d50-signals-be64.dat",
        "d51-threads-be64-v6.dat",
        "d60-signals-32.dat",
    ],
)
def test_bodies_are_those_of_trace_cmd(data: Path, name: str) -> None:
    """What no plugin prints is, in every event of a trace.dat, what `trace-cmd report` prints."""
    source = ring(data / name)
    ours: dict[tuple[bytes, bytes], list[bytes]] = defaultdict(list)
    for line in report(source).splitlines():
        if m := _OURS.fullmatch(line):
            ours[m[2], m[3]].append(m[4])
    theirs: dict[tuple[bytes, bytes], list[tuple[str, bytes]]] = defaultdict(list)
    text = lzma.decompress((data / name.replace(".dat", ".report.txt.xz")).read_bytes())
    for line in text.splitlines():
        if m := _THEIRS.fullmatch(line):
            theirs[m[2], m[3]].append((m[4].decode(), m[5]))
    compared: Counter[str] = Counter()
    assert ours.keys() == theirs.keys()
    for key, expected in theirs.items():
        # Both print the records of a pid on a cpu in their order, whatever the order between cpus.
        assert len(ours[key]) == len(expected)
        for got, (event, body) in zip(ours[key], expected, strict=True):
            if event in PLUGIN or event.startswith("sys_"):
                continue
            # It prints a pointer with %p as a number.
            assert got == event.encode() + b": " + body.replace(b"timer=0x", b"timer="), got
            compared[event] += 1
    assert compared.total() > 20


_SWITCH = re.compile(rb"(.*):(\d+) \[(\d+)\] (\S+) ==> (.*):(\d+) \[(\d+)\]")


def test_switches_are_those_of_trace_cmd(data: Path) -> None:
    """sched_switch names the same tasks and priorities as trace-cmd, and its states in the recording's own letters.

    trace-cmd's plugin has the letters of kernels before 4.14 (X and Z the other way round, W for I), and no plus.
    """
    source = ring(data / "d33-zombie-612-v6.dat")
    ours = [line.split(b"sched_switch: ")[1] for line in report(source).splitlines() if b"sched_switch: " in line]
    text = lzma.decompress((data / "d33-zombie-612-v6.report.txt.xz").read_bytes())
    form = b"prev_comm=%s prev_pid=%s prev_prio=%s prev_state=%s ==> next_comm=%s next_pid=%s next_prio=%s"
    found = (_SWITCH.search(line.split(b"sched_switch:")[-1].strip()) for line in text.splitlines())
    theirs = [form % m.groups() for m in found if m]
    assert len(theirs) > 30
    old = bytes.maketrans(b"XZPI", b"ZXxW")
    shown = [re.sub(rb"prev_state=(\S)\+?", lambda m: b"prev_state=" + m[1].translate(old), x) for x in ours]
    assert Counter(shown) == Counter(theirs)


# ---- heads -----------------------------------------------------------------------------------------------------------

ONE = format_text("e", 300, [("int a", 8, 4, 1)], '"a=%d", REC->a')


def one(*events: Event, **more: object) -> list[str]:
    """Return the report of events of one simple type."""
    return lines(make([("s", ONE)], events, **more))  # type: ignore[arg-type]


def test_head_columns() -> None:
    """Comm, pid, cpu, flags and time stand in the kernel's columns; saved_cmdlines names tasks, idle is <idle>."""
    assert one(
        Event(500, "e", {"a": 1}, pid=77, cpu=0, flags=0x01, preempt_count=0x21),
        Event(499_499, "e", {"a": -2}, pid=0, cpu=1, flags=0x2C),
        Event(1, "e", {"a": 3}, pid=5, cpu=0),
        Event(10**15, "e", {"a": 4}, pid=4194303, cpu=1234),
        cmdlines={77: b"fifteen-letters", 4194303: "한글".encode()},
    ) == [
        " fifteen-letters-77      [000] d..12     1.000001: e: a=1",
        "           <...>-5       [000] .....     1.000001: e: a=3",
        "          <idle>-0       [001] .Nh..     1.000499: e: a=-2",
        "          한글-4194303 [1234] ..... 1000001.000000: e: a=4",
    ]


def test_time_is_rounded_as_the_kernel_does() -> None:
    """Microseconds are rounded to the nearest, which may carry into the seconds."""
    stamps = [line.split()[3] for line in one(*(Event(d, "e", {}) for d in (499, 1, 499_999_500, 499_999_500)))]
    assert stamps == ["1.000000:", "1.000001:", "1.500000:", "2.000000:"]


def test_counter_clock() -> None:
    """A clock that counts cycles is shown as the number, in twelve columns or more."""
    source = make(
        [("s", ONE)],
        [Event(0, "e", {"a": 1}), Event(7, "e", {"a": 2}), Event(10**15, "e", {"a": 3})],
        start=99_999_999,
        clock="x86-tsc",
    )
    assert [line[36:] for line in lines(source)] == [
        "     99999999: e: a=1",
        "    100000006: e: a=2",
        " 1000000100000006: e: a=3",
    ]
    small = make([("s", ONE)], [Event(k, "e", {"a": 1}) for k in (0, 9, 90, 999_999_900)], start=0, clock="counter")
    assert [line[36:49] for line in lines(small)] == [
        "            0",
        "            9",
        "           99",
        "    999999999",
    ]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 1 << 58) | st.integers(0, 10**9), min_size=1, max_size=30))
def test_any_counter(stamps: list[int]) -> None:
    """Whatever a counter counts, the head and the body are whole."""
    stamps = sorted(stamps)
    gaps = np.diff([0, *stamps])
    got = one(*(Event(int(g), "e", {"a": 5}) for g in gaps), start=0, clock="counter")
    assert got == [f"           <...>-1       [000] ..... {ts:12d}: e: a=5" for ts in stamps]


def test_thread_groups() -> None:
    """The column of thread groups is there when most tasks have theirs saved; a task without one gets dashes."""
    events = [Event(1, "e", {}, pid=p) for p in (10, 11, 12, 0)]
    assert [x.split("[")[0] for x in one(*events, tgids={10: 10, 11: 10})] == [
        "           <...>-10      (     10) ",
        "           <...>-11      (     10) ",
        "           <...>-12      (-------) ",
        "          <idle>-0       (-------) ",
    ]
    assert "(" not in one(*events, tgids={99: 99, 10: 10})[0]


def test_given_comms() -> None:
    """Comms that the caller gives stand in place of the saved ones."""
    source = make([("s", ONE)], [Event(1, "e", {"a": i}, pid=9) for i in range(3)], cmdlines={9: b"saved"})
    text = source.report(np.arange(3), comms=[b"sh", b"", b"whoami"]).decode()
    assert [x[:20] for x in text.splitlines()] == [
        "              sh-9  ",
        "                -9  ",
        "          whoami-9  ",
    ]


def test_lost_events() -> None:
    """Before the first record after a loss stands the kernel's line, with the number if the page says it."""
    source = make(
        [("s", ONE)],
        [Event(1, "e", {"a": 1}), Event(5, "e", {"a": 2}, cpu=1), Event(9, "e", {"a": 3})],
        lost={0: None, 1: 42},
    )
    assert [x if x.startswith("CPU") else x[-3:] for x in lines(source)] == [
        "CPU:0 [LOST EVENTS]",
        "a=1",
        "CPU:1 [LOST 42 EVENTS]",
        "a=2",
        "a=3",
    ]
    assert source.report(np.array([1])).count(b"LOST") == 0


def test_unknown_type() -> None:
    """A record of a type that the recording does not declare is shown as the kernel shows it."""
    source = make([("s", ONE)], [Event(1, "e", {"a": 1})])
    data = source.recorded.data.copy()
    data[16 + 4 : 16 + 6] = (77, 0)
    source.recorded.data = data
    assert lines(RingSource(source.recorded))[0].endswith(": Unknown type 77")


# ---- text that is not plain ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"kworker/0:1-eve", "kworker/0:1-eve"),
        (b"a\x1b[2Jb", r"a\x1b[2Jb"),
        (b"a\nb", r"a\x0ab"),
        (b"\x7f", r"\x7f"),
        (b"tab\there", r"tab\x09here"),
        ("문서".encode(), "문서"),
        ("문서".encode()[:5], r"문\xec\x84"),
        (b"dev\\x2d", r"dev\x2d"),
        (b"dev\\x2d\x01", r"dev\\x2d\x01"),
        ("\x9b1m".encode(), r"\xc2\x9b1m"),
        (b"\xff", r"\xff"),
    ],
)
def test_comms_and_names_are_escaped(raw: bytes, shown: str) -> None:
    """Control characters and bytes that are no UTF-8 are escaped, wherever a comm or a name stands; the rest stays."""
    text = format_text(
        "x",
        301,
        [("char comm[16]", 8, 16, 0), ("__data_loc char[] name", 24, 4, 0)],
        '"c=%s n=%s|%20s|%.30s", REC->comm, __get_str(name), __get_str(name), REC->comm',
    )
    source = make([("s", text)], [Event(1, "x", {"comm": raw, "name": raw + b"\0"}, pid=3)], cmdlines={3: raw})
    (line,) = source.report(np.array([0])).decode().splitlines()
    head, _, body = line.partition("-3 ")
    assert head.strip() == shown
    assert body.split("x: ", 1)[1].split("|")[0] == f"c={shown} n={shown}"
    assert body.endswith("|" + shown)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8))
def test_any_bytes_in_texts(texts: list[bytes]) -> None:
    """Whatever a text holds, its line is one line, and holds the text up to its NUL, escaped; neighbours are whole."""
    fmt = format_text(
        "x",
        301,
        [("__data_loc char[] name", 8, 4, 0), ("char c[24]", 12, 24, 0)],
        '"n=%s c=%s end", __get_str(name), REC->c',
    )
    source = make([("s", fmt)], [Event(1, "x", {"name": t, "c": t[:24]}) for t in texts])
    cut = [t.split(b"\0")[0] for t in texts]
    short = [t[:24].split(b"\0")[0] for t in texts]
    got = source.report(np.arange(len(texts))).split(b"\n")
    assert [x.split(b"x: ", 1)[1] for x in got[:-1]] == [
        b"n=" + escaped(a) + b" c=" + escaped(b) + b" end" for a, b in zip(cut, short, strict=True)
    ]


def test_line_too_big() -> None:
    """A line that is longer than any of the kernel is left out, as the kernel does; its neighbours stay."""
    many = ", ".join(["__get_str(name)"] * 90)
    text = format_text("x", 301, [("__data_loc char[] name", 8, 4, 0)], '"' + "%s" * 90 + '", ' + many)
    source = make([("s", text)], [Event(1, "x", {"name": b"y" * n + b"\0"}) for n in (1, 3000, 2)])
    assert [x.split(": ", 1)[1] for x in lines(source)] == ["x: " + "y" * 90, "[LINE TOO BIG]", "x: " + "yy" * 90]


@pytest.mark.parametrize("fmt", ["%d" * 200, "%250d" * 20, "%9999d", "x" * 5000])
def test_absurd_formats(fmt: str) -> None:
    """A format that no kernel has, made to blow up a small recording, is not used."""
    text = format_text("x", 301, [("int a", 8, 4, 1)], f'"{fmt}"' + ", REC->a" * fmt.count("%"))
    source = make([("s", text)], [Event(1, "x", {"a": 5})])
    assert lines(source)[0].endswith("x: a=5")
    assert list(source._lines.unparsed) == ["s:x"]


def test_array_beyond_its_record() -> None:
    """A dynamic array that points outside its record is empty; nothing of the next record is shown."""
    text = format_text("x", 301, [("__data_loc char[] name", 8, 4, 0)], '"n=%s", __get_str(name)')
    source = make([("s", text)], [Event(1, "x", {"name": b"secret\0"}), Event(1, "x", {"name": b"secret\0"})])
    data = source.recorded.data.copy()
    data[16 + 4 + 8 : 16 + 4 + 12] = (12, 0, 200, 0)
    source.recorded.data = data
    assert [x.split("x: ")[1] for x in lines(source)] == ["n=", "n=secret"]


def test_record_at_the_very_end() -> None:
    """The last bytes of the pages are read, and nothing behind them."""
    text = format_text("x", 301, [("__data_loc char[] name", 8, 4, 0)], '"n=%s", __get_str(name)')
    source = make([("s", text)], [Event(1, "x", {"name": b"the end" + b"!" * 30})])
    data = source.recorded.data
    used = 16 + 4 + 12 + 40
    source.recorded.data = data[:used].copy()
    source.recorded.buffers[0].cpus[0].size = used
    again = RingSource(source.recorded)
    assert lines(again)[0].endswith("n=the end" + "!" * 30)
