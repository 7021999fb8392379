"""Bodies of known events: the print formats of kernels, read backwards."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.ftrace.text import open_text
from taskscope.ftrace.text_columns import FieldColumn, decimals, pack
from taskscope.ftrace.text_templates import TEMPLATES, Template, template
from taskscope.trace.trace import Trace

#: bodies of kernels 3.10 to 6.18 and the fields that the binary record has, after TP_printk of include/trace/events/
BODIES: dict[str, list[tuple[bytes, dict[str, object]]]] = {
    "sched_switch": [
        (b"prev_comm=kworker/0:1 prev_pid=17 prev_prio=120 prev_state=R+ ==> next_comm=a ==> b next_pid=3 next_prio=0",
         {"prev_comm": b"kworker/0:1", "prev_pid": 17, "prev_state": b"R+", "next_comm": b"a ==> b", "next_prio": 0}),
        (b"prev_comm=a prev_pid=1 prev_prio=-1 prev_state=D|K ==> next_comm= next_pid=3 next_prio=120",
         {"prev_prio": -1, "prev_state": b"D|K", "next_comm": b""}),
        (b"kworker/u16:0:12 [120] W ==> swapper/1:0 [120]",
         {"prev_comm": b"kworker/u16:0", "prev_pid": 12, "prev_state": b"W", "next_comm": b"swapper/1", "next_pid": 0}),
        (b"prev_comm=x prev_state=1 prev_pid=5 prev_prio=6 prev_state=256 next_comm=y next_pid=7 next_prio=8",
         {"prev_comm": b"x prev_state=1", "prev_state": 256}),
        (b"prev_comm=x prev_pid=5 prev_prio=6 prev_state=0x100 next_comm=y next_pid=7 next_prio=8",
         {"prev_state": 256})],
    "sched_wakeup": [
        (b"comm=rcu pid=9 prio=120 target_cpu=030", {"comm": b"rcu", "target_cpu": 30}),
        (b"comm=rcu pid=9 prio=120 success=1 target_cpu=008", {"success": 1, "target_cpu": 8}),
        (b"kworker/0:1:17 [120] CPU:000", {"comm": b"kworker/0:1", "pid": 17, "prio": 120, "target_cpu": 0})],
    "sched_process_fork": [
        (b"comm=sh pid=1 pid=1 child_comm=b child_pid=2",
         {"parent_comm": b"sh pid=1", "parent_pid": 1, "child_comm": b"b", "child_pid": 2})],
    "sched_process_exec": [
        (b"filename=/bin/a pid=9 b pid=3 old_pid=4", {"filename": b"/bin/a pid=9 b", "pid": 3, "old_pid": 4})],
    "sched_prepare_exec": [
        (b"interp=/bin/sh filename=/tmp/a b.sh pid=3 comm=a b",
         {"interp": b"/bin/sh", "filename": b"/tmp/a b.sh", "pid": 3, "comm": b"a b"})],
    "sched_process_exit": [
        (b"comm=a pid=3 prio=120", {"pid": 3}), (b"comm=a pid=3 prio=120 group_dead=true", {"group_dead": 1})],
    "sched_stat_runtime": [
        (b"comm=a pid=3 runtime=5 [ns]", {"runtime": 5}),
        (b"comm=a pid=3 runtime=5 [ns] vruntime=18446744073709551615 [ns]", {"vruntime": 2**64 - 1})],
    "task_newtask": [
        (b"pid=9 comm=a clone_flags=1200011 oom_score_adj=-1000", {"clone_flags": 0x1200011, "oom_score_adj": -1000})],
    "signal_generate": [
        (b"sig=9 errno=0 code=-6 comm=a b pid=3 grp=1 res=2", {"code": -6, "comm": b"a b", "group": 1, "result": 2}),
        (b"sig=9 errno=0 code=0 comm=a pid=3", {"sig": 9, "pid": 3})],
    "signal_deliver": [
        (b"sig=17 errno=0 code=1 sa_handler=7f00deadbeef sa_flags=4000000",
         {"sa_handler": 0x7f00deadbeef, "sa_flags": 0x4000000})],
    "irq_handler_entry": [(b"irq=29 name=virtio1-req.1", {"irq": 29, "name": b"virtio1-req.1"})],
    "irq_handler_exit": [(b"irq=29 ret=handled", {"ret": 1}), (b"irq=29 ret=unhandled", {"ret": 0})],
    "softirq_raise": [(b"vec=1 [action=TIMER]", {"vec": 1})],
    "workqueue_queue_work": [
        (b"work struct=00000000d2b5a1c3 function=vmstat_update workqueue=mm_percpu_wq req_cpu=64 cpu=1",
         {"work": 0xd2b5a1c3, "function": b"vmstat_update", "workqueue": b"mm_percpu_wq", "req_cpu": 64})],
    "workqueue_execute_start": [
        (b"work struct 00000000d2b5a1c3: function vmstat_update", {"work": 0xd2b5a1c3, "function": b"vmstat_update"})],
    "workqueue_activate_work": [(b"work struct (____ptrval____)", {"work": b"(____ptrval____)"}),
                                (b"work struct 00000000d2b5a1c3 function=f [m] ", {"function": b"f [m]"})],
    "mark_victim": [
        (b"pid=117", {"pid": 117}),
        ((b"pid=117 comm=hog total-vm=27176kB anon-rss=24516kB file-rss:0kB shmem-rss:1236kB uid=0 pgtables=84kB "
          b"oom_score_adj=0"), {"comm": b"hog", "total_vm": 27176, "file_rss": 0, "pgtables": 84})],
    "compact_retry": [
        (b"order=3 priority=COMPACT_PRIO_ASYNC compaction_result=failed retries=0 max_retries=16 should_retry=1",
         {"result": b"failed", "ret": 1})],
    "reclaim_retry_zone": [
        (b"node=0 zone=Normal   order=0 reclaimable=1 available=2 min_wmark=3 no_progress_loops=0 wmark_check=1",
         {"zone_idx": b"Normal", "order": 0, "wmark_check": 1})],
    "timer_start": [
        ((b"timer=00000000c3d4 function=process_timeout expires=4294938545 [timeout=-1] bucket_expiry=4294938546 "
          b"cpu=0 idx=50 flags="), {"timer": 0xc3d4, "timeout": -1, "bucket_expiry": 4294938546, "flags": b""}),
        (b"timer=0xff34 function=f expires=1 [timeout=1] cpu=0 idx=50 flags=D|P|I", {"idx": 50, "flags": b"D|P|I"}),
        (b"timer=0xff34 function=f expires=1 [timeout=1]", {"expires": 1})],
    "hrtimer_start": [
        (b"hrtimer=00000000aa function=hrtimer_wakeup expires=1 softexpires=2", {"hrtimer": 0xaa, "softexpires": 2}),
        (b"hrtimer=00000000aa function=f expires=1 softexpires=2 mode=ABS|PINNED|HARD was_armed=0",
         {"mode": b"ABS|PINNED|HARD", "was_armed": 0})],
    "itimer_state": [
        (b"which=0 expires=4 it_value=1.000250 it_interval=0.000000", {"value_sec": 1, "value_usec": 250})],
    "sys_exit": [(b"NR -1 = -38", {"id": -1, "ret": -38})],
    "tasklet_entry": [(b"tasklet=f_tasklet function=f", {"tasklet": b"f_tasklet", "func": b"f"})],
}


def trace_of(event: str, *bodies: bytes) -> Trace:
    """Read records of one event."""
    text = b"".join(b"   a-1 [000] ..... 1.%06d: %s: %s\n" % (k, event.encode(), b) for k, b in enumerate(bodies))
    return Trace(open_text("text", text))


def fields(trace: Trace, event: str) -> dict[str, list[object]]:
    """Return all fields of the records of an event."""
    type_ = trace.type(event)
    assert type_ is not None
    return {f.name: trace.column(event, f.name, trace.rows(event)).tolist() for f in type_.fields}


@pytest.mark.parametrize(("event", "body", "expected"), [(e, b, f) for e, cases in BODIES.items() for b, f in cases])
def test_bodies_of_kernels(event: str, body: bytes, expected: dict[str, object]) -> None:
    """Each body yields the fields of the binary record, by their names there."""
    trace = trace_of(event, body, body)
    assert trace.notes == () or "prev_state" in trace.notes[0]
    found = fields(trace, event)
    assert {k: found[k] for k in expected} == {k: [v, v] for k, v in expected.items()}


def test_shapes_and_shown_values() -> None:
    """Numbers are shown as the kernel's format shows them."""
    trace = trace_of("task_newtask", b"pid=9 comm=a clone_flags=1200011 oom_score_adj=-1")
    type_ = trace.type("task_newtask")
    assert type_ is not None
    assert {f.name: f.shape for f in type_.fields} == {
        "pid": "int", "comm": "string", "clone_flags": "int", "oom_score_adj": "int"}
    rows = np.array([0])
    shown = {f.name: trace.source.field_text(type_, f.name, trace.column("task_newtask", f.name, rows))
             for f in type_.fields}
    assert shown == {"pid": ["9"], "comm": ["a"], "clone_flags": ["1200011"], "oom_score_adj": ["-1"]}
    with pytest.raises(KeyError):
        trace.source.column(type_, "no_such_field", rows)
    wake = trace_of("sched_wakeup", b"comm=rcu pid=9 prio=120 target_cpu=030")
    cpus = wake.column("sched_wakeup", "target_cpu", rows)
    assert wake.source.field_text(wake.types[0], "target_cpu", cpus) == ["030"]


def test_values_of_any_rows() -> None:
    """A column gives the rows asked for, in the order asked for."""
    bodies = [b"pid=%d comm=c%d clone_flags=%x oom_score_adj=0" % (k, k, k) for k in range(50)]
    trace = trace_of("task_newtask", *bodies)
    rows = np.array([40, 3, 3, 17])
    assert trace.column("task_newtask", "pid", rows).tolist() == [40, 3, 3, 17]
    assert trace.column("task_newtask", "comm", rows).tolist() == [b"c40", b"c3", b"c3", b"c17"]


_KINDS: dict[str, st.SearchStrategy[bytes]] = {
    "d": st.integers(-2**31, 2**63 - 1).map(lambda v: b"%d" % v), "c": st.integers(0, 8191).map(lambda v: b"%03d" % v),
    "x": st.integers(0, 2**64 - 1).map(lambda v: b"%x" % v), "p": st.integers(0, 2**64 - 1).map(lambda v: b"%016x" % v),
    "w": st.from_regex(rb"[A-Za-z_|]{1,12}", fullmatch=True), "v": st.from_regex(rb"[A-Z|+]{1,6}", fullmatch=True),
    "f": st.from_regex(rb"[a-z_]{1,20}(\.isra\.0)?", fullmatch=True), "t": st.sampled_from([b"true", b"false"]),
    "h": st.sampled_from([b"handled", b"unhandled"]), "S": st.from_regex(rb"/[a-z/._-]{0,30}", fullmatch=True),
    "s": st.from_regex(rb"[^\x00=:\n\r]{0,15}", fullmatch=True),
    "a": st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6).map(lambda v: b", ".join(b"%x" % x for x in v)),
}
_ALL = [(name, t) for name, texts in TEMPLATES.items() for t in texts if template(t).fields]


def value(kind: str, text: bytes) -> object:
    """Return what a field of a kind is for what was printed."""
    if kind in "dc":
        return int(text)
    if kind in "xp":
        return int(text, 16)
    if kind in "th":
        return int(text in (b"true", b"handled"))
    if kind == "a":
        return [int(x, 16) for x in text.split(b", ")]
    return text


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_printed_is_read(data: st.DataObject) -> None:
    """Whatever a template prints, it reads again."""
    _, text = data.draw(st.sampled_from(_ALL))
    slots = re.findall(r"\{(\w*):(\w)\}", text)
    printed = [data.draw(_KINDS[kind if name else "w" if kind == "S" else kind]) for name, kind in slots]
    parts = re.split(r"\{\w*:\w\}", text)
    body = parts[0].encode() + b"".join(p + q.encode() for p, q in zip(printed, parts[1:], strict=True))
    compiled: Template = template(text)
    whole = compiled.whole.match(body)
    assert whole is not None
    line = compiled.lines.findall(b"x\n" + body + b"\ny")
    assert len(line) == 3
    assert line[1] == whole.groups()
    for (name, kind), group in zip(compiled.fields, compiled.groups, strict=True):
        column = FieldColumn(name, kind)
        column.add([line[1][group]])
        shown = dict(zip([s[0] for s in slots], printed, strict=True))[name]
        found = column.take(np.array([0]))[0]
        assert (found.tolist() if hasattr(found, "tolist") else found) == value(kind, shown), name


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-2**63, 2**64 - 1).filter(lambda v: v >= 0), min_size=1) |
       st.lists(st.integers(-2**63, 2**63 - 1), min_size=1))
def test_decimals_are_exact(values: list[int]) -> None:
    """Every number of 64 bits comes out as it was printed."""
    assert decimals([b"%d" % v for v in values]).tolist() == values


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=200)))
def test_texts_are_cut_at_the_first_nul(values: list[bytes]) -> None:
    """A column of texts holds each up to its first NUL."""
    assert pack(values).tolist() == [v.split(b"\0", 1)[0] for v in values]


def test_one_long_value_makes_no_wide_column() -> None:
    """A column with one long value takes about the memory of its texts."""
    column = pack([b"x" * 1_000_000, *[b"y"] * 10_000])
    assert column.dtype == object
    assert len(column[0]) == 1_000_000
