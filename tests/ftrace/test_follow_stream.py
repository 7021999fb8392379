"""Pages decoded as they come: which records come out, when, in which order, and what lost events leave."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pagewriter import Page

from replay import pages_of, source_of
from taskscope.errors import TraceError
from taskscope.ftrace.follow import LOST, Record, Stream

DATA = Path(__file__).parent.parent / "data"


def header_page(long_size: int) -> bytes:
    """Return the text of events/header_page as rb_print_page_header() writes it."""
    return (f"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
            f"\tfield: local_t commit;\toffset:8;\tsize:{long_size};\tsigned:1;\n"
            f"\tfield: char data;\toffset:{8 + long_size};\tsize:{4096 - 8 - long_size};\tsigned:0;\n").encode()


def format_of(name: str, number: int) -> bytes:
    """Return the format of an event with one number of its own."""
    return f"""name: {name}
ID: {number}
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:pid_t pid;\toffset:8;\tsize:4;\tsigned:1;

print fmt: "pid=%d", REC->pid
""".encode()


FORMATS = [("sched", format_of("wanted", 300)), ("sched", format_of("common", 301)),
           ("sched", b"name: broken\nnonsense")]


def stream(*, big_endian: bool = False, long_size: int = 8) -> Stream:
    """Make a stream that wants one of two events."""
    return Stream(header_page(long_size), FORMATS, {"wanted": ("pid", "absent")}, big_endian=big_endian,
                  long_size=long_size)


def data(number: int, pid: int, own: int, *, flags: int = 0, big_endian: bool = False) -> bytes:
    """Return the data of one record."""
    return struct.pack(f"{'>' if big_endian else '<'}HBBii", number, flags, 0, pid, own)


def page(ts: int, records: list[tuple[int, bytes]], *, big_endian: bool = False, long_size: int = 8,
         missed: int | None = -1) -> bytes:
    """Return a page of (delta, data); `missed`: how many events were lost before it, None unknown, -1 none."""
    made = Page(ts, big_endian=big_endian, long_size=long_size)
    for delta, body in records:
        made.event(delta, body)
    return made.bytes(missed=missed != -1, count=missed if missed not in (-1, None) else None)


def told(records: list[Record]) -> list[tuple[int, int, str, object]]:
    """Return time, cpu, event and own number of records."""
    return [(r.ts, r.cpu, r.event, r.f.get("pid", r.f.get("count"))) for r in records]


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("long_size", [4, 8])
def test_only_wanted_events_come_out(big_endian: bool, long_size: int) -> None:
    """Of a page in any layout the wanted records come out with their fields; a field that it lacks is None."""
    s = stream(big_endian=big_endian, long_size=long_size)
    s.feed(3, page(1000, [(5, data(300, 7, -8, flags=0x08, big_endian=big_endian)),
                          (5, data(301, 7, 9, big_endian=big_endian)), (5, data(999, 7, 9, big_endian=big_endian)),
                          (1 << 28, data(300, 7, 10, big_endian=big_endian))],
                   big_endian=big_endian, long_size=long_size))
    first, second = s.end()
    assert first[:2] == (1005, 3)
    assert (first.pid, first.irq, first.late, first.event) == (7, True, False, "wanted")
    assert first.f == {"pid": -8, "absent": None}
    assert (second.ts, second.irq, second.f["pid"]) == (1015 + (1 << 28), False, 10)
    assert s.events == {"wanted"}


def test_records_wait_for_the_next_round() -> None:
    """What a round brings comes out after the next, as far as it is not later than what that round began with."""
    s = stream()
    s.feed(0, page(100, [(0, data(300, 1, 1)), (100, data(300, 1, 2))]))
    s.tick()
    assert s.take() == []
    # Read after the first round, written while it went on: between those of the other cpu.
    s.feed(1, page(150, [(0, data(300, 1, 3)), (100, data(300, 1, 4))]))
    s.tick()
    assert told(s.take()) == [(100, 0, "wanted", 1), (150, 1, "wanted", 3), (200, 0, "wanted", 2)]
    s.tick()
    assert told(s.take()) == [(250, 1, "wanted", 4)]
    assert s.end() == []


def test_an_idle_round_proves_what_came_before() -> None:
    """Where nothing more happens, two rounds without pages bring out the rest."""
    s = stream()
    s.feed(0, page(100, [(0, data(300, 1, 1))]))
    s.tick()
    s.tick()
    assert told(s.take()) == [(100, 0, "wanted", 1)]


def test_what_comes_too_late_says_so() -> None:
    """A record older than what was given out is given out all the same, marked."""
    s = stream()
    s.feed(0, page(100, [(0, data(300, 1, 1))]))
    s.tick()
    s.tick()
    s.take()
    s.feed(1, page(50, [(0, data(300, 1, 2)), (60, data(300, 1, 3))]))
    assert [(r.ts, r.late) for r in s.end()] == [(50, True), (110, False)]


def test_equal_times_keep_the_order_of_their_cpu() -> None:
    """Records of one time come by cpu, and those of one cpu in the order in which they were written."""
    s = stream()
    for cpu in (1, 0):
        s.feed(cpu, page(100, [(0, data(300, 1, 10 * cpu + k)) for k in range(3)]))
        s.feed(cpu, page(100, [(0, data(300, 1, 10 * cpu + k)) for k in range(3, 5)]))
    assert [r.f["pid"] for r in s.end()] == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def test_buffers_of_several_instances_are_told_apart() -> None:
    """Two buffers of one cpu are two streams in one order of time: what stands last in one is not before the other."""
    stack = f"""name: kernel_stack
ID: 4
format:
{format_of("x", 1).decode().split("format:")[1].split("pid_t")[0].rsplit("field:", 1)[0].rstrip()}
\tfield:int size;\toffset:8;\tsize:4;\tsigned:1;
\tfield:unsigned long caller[];\toffset:16;\tsize:0;\tsigned:0;

print fmt: ""
""".encode()
    frames = struct.pack("<HBBiiiQQ", 4, 0, 0, 1, 2, 0, 0xAB, 0xCD)
    s = Stream(header_page(8), [*FORMATS, ("ftrace", stack)], {"wanted": ("pid",), "kernel_stack": ("caller", "size")},
               stacks_of=frozenset({"wanted"}))
    s.feed(0, page(100, [(0, data(300, 1, 1))]))
    s.feed(0, page(110, [(0, frames), (5, data(300, 1, 3)), (5, frames)]), buffer=1)
    s.tick()
    s.feed(0, page(105, [(0, frames)]))
    found = s.end()
    assert [(r.ts, r.event) for r in found] == [(100, "wanted"), (105, "kernel_stack"), (115, "wanted"),
                                               (120, "kernel_stack")]
    assert found[1].f == {"caller": [0xAB, 0xCD], "size": 2}


@pytest.mark.parametrize("count", [17, None])
def test_lost_events_come_before_what_follows_them(count: int | None) -> None:
    """A page that says that events were lost gives a record of its own in front of its first one."""
    s = stream()
    s.feed(2, page(100, [(0, data(300, 1, 1))]))
    s.feed(2, page(200, [(3, data(300, 1, 2))], missed=count))
    assert told(s.end()) == [(100, 2, "wanted", 1), (203, 2, LOST, count), (203, 2, "wanted", 2)]


def test_an_empty_page_can_tell_of_losses() -> None:
    """Losses before a page without records stand at its time."""
    s = stream()
    s.feed(0, page(200, [], missed=5))
    assert told(s.end()) == [(200, 0, LOST, 5)]


def test_a_damaged_record_loses_the_rest_of_its_page() -> None:
    """A record that does not fit its page ends it: what stood behind is lost, how much is unknown."""
    s = stream()
    made = Page(100).event(1, data(300, 1, 1))
    made.body += struct.pack("<I", 28) + bytes(8)         # says 112 bytes, has 8
    s.feed(0, made.bytes())
    s.feed(0, page(300, [(0, data(300, 1, 2))], missed=3))
    assert told(s.end()) == [(101, 0, "wanted", 1), (101, 0, LOST, None), (300, 0, LOST, 3), (300, 0, "wanted", 2)]


def test_records_shorter_than_their_format_are_left_out() -> None:
    """A record without room for its fields is no record of that event."""
    s = stream()
    s.feed(0, page(100, [(0, data(300, 1, 1)[:8]), (1, data(300, 1, 2))]))
    assert told(s.end()) == [(101, 0, "wanted", 2)]


def test_a_chunk_that_is_no_whole_page_is_read_as_far_as_it_goes() -> None:
    """A page cut short gives the records that it still has; what it lacks is lost."""
    s = stream()
    s.feed(0, page(100, [(0, data(300, 1, k)) for k in range(4)])[:16 + 3 * 16])
    assert told(s.end()) == [(100, 0, "wanted", 0), (100, 0, "wanted", 1), (100, 0, "wanted", 2), (100, 0, LOST, None)]


def test_what_cannot_be_understood_is_refused_with_its_place() -> None:
    """A header page or a wanted format that makes no sense is an error that names it."""
    with pytest.raises(TraceError, match="events/header_page"):
        Stream(b"field: nonsense", FORMATS, {})
    with pytest.raises(TraceError, match="events/sched"):
        Stream(header_page(8), FORMATS, {"broken": ()})


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_rounds_never_turn_the_order_of_time(given_: st.DataObject) -> None:
    """Whatever several cpus write while they are read in turn: all comes out once, in order, nothing late.

    Each cpu is read at its own moment of a round; what it wrote until then is what the round brings.
    """
    cpus = given_.draw(st.integers(1, 4))
    written = {cpu: sorted(given_.draw(st.lists(st.integers(0, 1000), max_size=30))) for cpu in range(cpus)}
    moments = sorted(given_.draw(st.lists(st.integers(0, 1100), max_size=12)))
    s = stream()
    out: list[Record] = []
    done = dict.fromkeys(written, -1)
    for k, at in enumerate(moments):
        cpu = k % cpus
        ts = [t for t in written[cpu] if done[cpu] < t <= at]
        done[cpu] = at
        if ts:
            deltas = [0, *(b - a for a, b in pairwise(ts))]
            s.feed(cpu, page(ts[0], [(d, data(300, 1, t)) for d, t in zip(deltas, ts, strict=True)]))
        if cpu == cpus - 1:
            s.tick()
            out += s.take()
    out += s.end()
    seen = [t for cpu, all_ in written.items() for t in all_ if t <= done[cpu]]
    assert sorted(r.ts for r in out) == sorted(seen)
    assert [r.ts for r in out] == sorted(r.ts for r in out)
    assert not any(r.late for r in out)


@pytest.mark.parametrize("name", ["d08-signals.dat", "d12-overrun.dat", "d51-threads-be64-v6.dat", "d62-raw-32"])
def test_it_gathers_what_the_reader_of_recordings_gathers(name: str) -> None:
    """Of real recordings of any byte order and word size: the same records, times, cpus, pids and fields."""
    path = DATA / name
    source = source_of(path)
    rec = source.recorded
    wanted = {"sched_wakeup": ("comm", "pid", "target_cpu"), "sched_process_exec": ("filename", "old_pid")}
    s = Stream(rec.header_page, rec.formats, wanted, long_size=rec.long_size, big_endian=rec.big_endian,
               page_size=rec.buffers[0].page_size)
    for cpu, pages in pages_of(path).items():
        for one in pages:
            s.feed(cpu, one)
    records = [r for r in s.end() if r.event != LOST]
    types = [t for t in source.types if t.name in wanted]
    rows = np.flatnonzero(np.isin(source.index.type, [t.index for t in types]))
    rows = rows[np.lexsort((rows, source.index.ts[rows]))]
    assert [(r.ts, r.cpu, r.pid) for r in records] == list(
        zip(source.index.ts[rows].tolist(), source.index.cpu[rows].tolist(), source.pids(rows).tolist(), strict=True))
    for type_ in types:
        mine = rows[source.index.type[rows] == type_.index]
        for field in wanted[type_.name]:
            values = source.column(type_, field, mine).tolist()
            shown = [v.decode() if isinstance(v, bytes) else v for v in values]
            assert [r.f[field] for r in records if r.event == type_.name] == shown
    assert records


@given(st.binary(min_size=0, max_size=6000), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_survived(noise: bytes, big_endian: bool) -> None:
    """Pages of noise give records or losses, never an exception."""
    s = stream(big_endian=big_endian)
    s.feed(0, noise)
    s.feed(1, page(1, [(1, data(300, 1, 1))])[:64] + noise)
    s.tick()
    s.end()
