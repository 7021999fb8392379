"""Text that nobody would write: any bytes give a recording or one clear error, soon and in little memory."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskscope.errors import PermissionRefusedError, TraceError
from taskscope.ftrace.text import looks_like_text, open_text
from taskscope.trace.trace import Trace

DATA = Path(__file__).resolve().parent.parent / "data"
SEEDS = [(DATA / name).read_bytes()[:6000] for name in (
    "d15-text-stack.trace.txt", "d16-text-tgid.trace.txt", "d17-text-latency.trace.txt",
    "d80-perf-script-signals.txt", "t01-comms.trace.txt", "t01-comms-verbose.trace.txt", "t02-pipe.txt",
    "t04-counter-latency.trace.txt", "t05-perf-callchains.txt", "t07-marks.trace.txt", "t08-report-latency.txt")]
TOKENS = [b"\n", b" => ", b"=> x (ffff)", b"-1", b"[000]", b" d..2. ", b"1.000001: ", b"sched_switch: ",
          b"<stack trace>", b"CPU:0 [LOST 3 EVENTS]\n", b"# tracer: function\n", b"cpus=2\n", b"comm=", b" pid=1",
          b"\r\n", b"\0", b"\xff", b"\t ffffffff81 f+0x1 ([kernel.kallsyms])\n", b"99999999999999999999", b"==>",
          b"(", b")", b"tracing_mark_write: ", b"##### CPU 1 buffer started ####\n",
          b"# entries-in-buffer/entries-written: 1/99999999999   #P:2\n"]


def use(trace: Trace) -> None:
    """Do everything with a recording that a view does."""
    assert isinstance(trace.source.notes, tuple)
    rows = np.arange(len(trace))
    report = trace.source.report(rows)
    assert report.count(b"\n") >= len(trace)
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", report)
    report.decode("utf-8")
    trace.source.flags(rows)
    assert len(trace.order) == len(trace)
    for name in trace.counts:
        type_ = trace.type(name)
        assert type_ is not None
        of_type = trace.rows(name)
        for field in type_.fields:
            column = trace.column(name, field.name, of_type)
            assert len(column) == len(of_type)
            assert (column.dtype.kind in "iu") == (field.shape == "int")
            if field.shape != "array":
                assert len(trace.source.field_text(type_, field.name, column)) == len(of_type)
    for row in trace.rows("kernel_stack").tolist():
        trace.source.frames(row)
    for gap in trace.lost:
        assert gap.start is None or gap.end is None or gap.count is None or gap.count > 0
    assert len(trace.stacks) <= len(trace)


def attempt(text: bytes) -> None:
    """Open a text; a refusal must be a TraceError that names the line and a remedy."""
    looks_like_text(text)
    try:
        source = open_text("some.txt", text)
    except TraceError as e:
        refused = e
    else:
        use(Trace(source))
        return
    assert refused.path == "some.txt"
    assert ";" in str(refused) or "must be on" in str(refused)
    assert str(refused).isprintable()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes(text: bytes) -> None:
    """Any bytes are a recording or a TraceError."""
    attempt(text)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_recordings(data: st.DataObject) -> None:
    """A real text that was cut, mixed or written over is a recording or a TraceError."""
    text = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, max(len(text) - 1, 0)))
        match data.draw(st.integers(0, 4)):
            case 0:
                del text[at:at + data.draw(st.integers(1, 400))]
            case 1:
                text[at:at] = data.draw(st.sampled_from(TOKENS))
            case 2:
                text[at:at + 4] = data.draw(st.binary(max_size=8))
            case 3:
                other = data.draw(st.sampled_from(SEEDS))
                text[at:at] = other[at:at + 300]
            case _:
                del text[at:]
    attempt(bytes(text))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([*TOKENS, b"  a-7 [000] ..... 1.000001: "]), max_size=60))
def test_lines_made_of_pieces(pieces: list[bytes]) -> None:
    """Pieces of text in any order are a recording or a TraceError."""
    attempt(b"  a-7 [000] ..... 1.000001: foo: a=1\n" + b"".join(pieces))


#: a comm has 15 bytes, any but NUL; the column's padding swallows blanks at its left
_COMM = st.binary(max_size=15).map(lambda c: c.replace(b"\0", b" "))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(_COMM, _COMM), min_size=1, max_size=6), st.booleans(), st.booleans())
def test_comms_of_any_content(comms: list[tuple[bytes, bytes]], tgid: bool, flags: bool) -> None:
    """A comm of any bytes is recovered from the column and from the body of a rendered line."""
    text = b"# tracer: nop\n#\n"
    for k, (a, b) in enumerate(comms):
        text += b"%16s-%-7d %s[%03d]%s %5d.%06d: " % (a, k + 1, b"(%7d) " % 5 if tgid else b"", 1,
                                                    b" d..2." if flags else b" ", 12, k)
        text += (b"sched_switch: prev_comm=%s prev_pid=%d prev_prio=120 prev_state=S ==> next_comm=%s next_pid=%d "
                 b"next_prio=120\n" % (a, k + 1, b, k + 2))
    trace = Trace(open_text("text", text))
    rows = trace.rows("sched_switch")
    assert trace.column("sched_switch", "prev_comm", rows).tolist() == [a for a, _ in comms]
    assert trace.column("sched_switch", "next_comm", rows).tolist() == [b for _, b in comms]
    assert trace.column("sched_switch", "prev_pid", rows).tolist() == [k + 1 for k in range(len(comms))]
    for k, (a, _) in enumerate(comms):
        if a != b"<...>":
            assert trace.source.cmdlines[k + 1] == a.lstrip(b" ")
    assert trace.notes == ()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_COMM, _COMM.filter(lambda c: b" ==> " not in c)), min_size=1, max_size=6))
def test_comms_of_any_content_in_a_report(comms: list[tuple[bytes, bytes]]) -> None:
    """The same for trace-cmd report, whose plugin prints ``comm:pid [prio]``."""
    text = b"cpus=2\n"
    for k, (a, b) in enumerate(comms):
        text += b"%16s-%-5d   [%03d] %5d.%06d: %-22s" % (a, k + 1, 1, 12, k, b"sched_switch:")
        text += b"%s:%d [120] S ==> %s:%d [120]\n" % (b, k + 1, a, k + 2)
    trace = Trace(open_text("text", text))
    rows = trace.rows("sched_switch")
    assert len(rows) == len(comms)
    # Blanks before the body are the column's.
    assert trace.column("sched_switch", "prev_comm", rows).tolist() == [b.lstrip(b" ") for _, b in comms]
    assert trace.column("sched_switch", "next_pid", rows).tolist() == [k + 2 for k in range(len(comms))]
    assert {p: c.lstrip(b" ") for p, c in trace.source.cmdlines.items()} == {
        k + 1: a.lstrip(b" ") for k, (a, _) in enumerate(comms) if a != b"<...>"}


RECORD = (b"  a-7 [000] d..2. 1.000001: sched_switch: prev_comm=a prev_pid=1 prev_prio=2 prev_state=S ==> next_comm=b "
          b"next_pid=3 next_prio=4\n")
HEAD = b"  a-7 [000] d..2. 1.000001: "


@pytest.mark.limit(60)
@pytest.mark.parametrize("piece", [b"a", b" ", b"-", b"a-1 ", b"1 ", b"=> ", b": ", b"\t", b"\n", b"x\n", b"\0",
                                   b"a-1 [000] 1.0: ", b" prev_pid=1", b"comm=a pid=1 ", b"a=b ", b"(",
                                   b"CPU:0 [LOST 1 EVENTS]\n"])
def test_long_hostile_text(piece: bytes) -> None:
    """20 MB of one piece over and over, alone and behind a record, end soon."""
    much = piece * ((20 << 20) // len(piece))
    began = time.process_time()
    attempt(much)
    attempt(RECORD + much)
    attempt(RECORD + HEAD + b"sched_switch: " + much)
    assert time.process_time() - began < 40


@pytest.mark.parametrize("event", ["sched_switch", "sched_prepare_exec", "task_rename", "foo", "sys_enter_foo",
                                   "print"])
@pytest.mark.parametrize("piece", [b" pid=1", b" filename=", b" a=1", b"a: 0x1, ",
                                   b" prev_pid=1 prev_prio=2 prev_state=S ==> next_comm=",
                                   b"[", b" ", b"=", b" newcomm="])
def test_no_body_is_searched_back_and_forth(event: str, piece: bytes) -> None:
    """A body of a megabyte made to mislead its pattern takes no longer than another."""
    good = {"sched_switch": RECORD[len(HEAD) + 14:].rstrip(),
            "sched_prepare_exec": b"interp=a filename=b pid=1 comm=c",
            "task_rename": b"pid=1 oldcomm=a newcomm=b oom_score_adj=0",
            "sys_enter_foo": b"a: 0x1"}.get(event, b"a=1 b=2")
    body = piece * ((1 << 20) // len(piece))
    line = HEAD + event.encode() + b": %s\n"
    began = time.process_time()
    attempt(b"".join(line % b for b in (good, body, good[:8] + body, body + b"!")))
    assert time.process_time() - began < 5


def test_line_longer_than_memory_should_be_spent_on(tmp_path: Path) -> None:
    """A sparse file of 5 GB behind a record is read in a moment: the hole is one line that is no record's."""
    path = tmp_path / "sparse.txt"
    with path.open("wb") as f:
        f.write(RECORD)
        f.truncate(5 << 30)
    began = time.process_time()
    source = open_text(str(path))
    assert len(source.index) == 1
    assert source.notes[0] == "1 line was not understood: line 2"
    assert "nor was anything after it" in source.notes[1]
    assert time.process_time() - began < 20


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder, a missing file and an empty one are one clear error each."""
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(TraceError) as caught:
            open_text(str(path))
        assert str(path) in str(caught.value)
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(TraceError, match="no recording"):
        open_text(str(tmp_path / "empty"))
    assert issubclass(PermissionRefusedError, TraceError)


def test_file_and_memory_give_the_same(tmp_path: Path) -> None:
    """A mapped file is read as its bytes are."""
    text = SEEDS[0]
    path = tmp_path / "trace.txt"
    path.write_bytes(text)
    a, b = Trace(open_text(str(path))), Trace(open_text("x", text))
    assert b"".join(a.report()) == b"".join(b.report())
    assert a.notes == b.notes
    assert a.path == str(path)
