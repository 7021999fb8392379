"""Layouts of text that no recording here has: other kernels, other options, other programs.

The lines are written after the format strings of the kernels and programs named.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.errors import TraceError
from taskscope.ftrace.text import looks_like_text, open_text
from taskscope.ftrace.text_header import Header
from taskscope.trace.source import Gap
from taskscope.trace.trace import Trace

SWITCH = (b"sched_switch: prev_comm=a prev_pid=7 prev_prio=120 prev_state=S ==> next_comm=swapper/0 next_pid=0 "
          b"next_prio=120")
HEAD = b"               a-7       [000] d..2. 1.%06d: "


def read(text: bytes) -> Trace:
    """Open a text from memory."""
    return Trace(open_text("text", text))


def lines(*bodies: bytes) -> bytes:
    """Return records of one task, a microsecond apart."""
    return b"".join(HEAD % k + body + b"\n" for k, body in enumerate(bodies))


def names(trace: Trace) -> list[str]:
    """Return system:name of every record."""
    return [f"{trace.types[t].system}:{trace.types[t].name}" for t in trace.source.index.type.tolist()]


@pytest.mark.parametrize(("line", "flags"), [
    (b"               a-7     [003] 12345.678901: ", 0),                            # before 3.2: no irq-info
    (b"               a-7     [003] d.h2 12345.678901: ", 0x0209),                  # 3.2 to 5.15: four columns
    (b"               a-7     [003] dNh2 12345.678901: ", 0x022d),
    (b"               a-7     [003] D.H.1 12345.678901: ", 0x1099),                 # 5.16 on: five
    (b"               a-7     [003] bB... 12345.678901: ", 0x00a6),                 # 6.13 on: lazy
    (b"               a-7     (    7) [003] d..2 12345.678901: ", 0x0201),          # Android, 4.18 on
    (b"               a-7     (-----) [003] .... 12345.678901: ", 0),
    (b"               a-7     [003] (    7) d..2 12345.678901: ", 0x0201),          # 4.13 to 4.17
    (b"a-7 [003] d..2 12345.678901: ", 0x0201),                                     # copied, padding lost
])
def test_heads_of_many_kernels(line: bytes, flags: int) -> None:
    """A record is read whether or not its line has the thread group and the flags, and wherever the group stands."""
    trace = read(line + SWITCH + b"\n")
    row = np.array([0])
    assert trace.notes == ()
    assert trace.source.cmdlines == {7: b"a"}
    assert (int(trace.source.index.cpu[0]), trace.start) == (3, 12345_678_901_000)
    assert int(trace.source.flags(row)[0]) == flags
    assert trace.source.tgids == ({7: 7} if b"7)" in line else {})
    assert trace.column("sched_switch", "next_comm", row).tolist() == [b"swapper/0"]


def test_columns_of_realtime_kernels() -> None:
    """The legend of the head tells the columns of kernels that have more of them."""
    head = (b"# tracer: nop\n#\n# entries-in-buffer/entries-written: 3/3   #P:16\n#\n"
            b"#                              _-----=> irqs-off\n#                             / _----=> need-resched\n"
            b"#                            |/  _-----=> need-resched_lazy\n"
            b"#                            || / _---=> hardirq/softirq\n"
            b"#                            ||| / _--=> preempt-depth\n"
            b"#                            |||| / _-=> preempt-lazy-depth\n"
            b"#                            ||||| / _-=> migrate-disable\n"
            b"#                            |||||| /    delay\n")
    trace = read(head + b"       automount-5999  [001] dNLh2.1   170.320000: " + SWITCH + b"\n")
    assert int(trace.source.flags(np.array([0]))[0]) == 0x01 | 0x24 | 0x02 | 0x08 | 0x12 << 8
    assert trace.cpus == tuple(range(16))


def test_flag_columns_that_nothing_explains() -> None:
    """Flags whose columns are not known are 0, and a note says so."""
    trace = read(b"  a-7 [000] abcdef 1.000000: " + SWITCH + b"\n")
    assert trace.source.flags(np.array([0])).tolist() == [0]
    assert any("abcdef" in n for n in trace.notes)
    assert Header().flags(b"d..2.") == 0x0201
    assert Header().flags(b"d..z.") is None


def test_latency_tracers() -> None:
    """The irqsoff tracer's text is one of function records."""
    head = (b"# tracer: irqsoff\n#\n# irqsoff latency trace v1.1.5 on 4.4.27-rt37\n# ----\n"
            b"# latency: 253 us, #180/181, CPU#0 | (M:preempt VP:0, KP:0, SP:0 HP:0 #P:8)\n"
            b"#  => started at: apic_timer_interrupt\n#  => ended at:   restore_regs_and_iret\n#\n")
    body = (b"  <idle>-0       0d...    1us : trace_hardirqs_off_thunk <-apic_timer_interrupt\n"
            b"  <idle>-0       0d...    2us+: smp_apic_timer_interrupt <-apic_timer_interrupt\n")
    trace = read(head + body)
    assert trace.counts == {"ftrace:function": 2}
    assert trace.column("function", "ip", np.array([1])).tolist() == [b"smp_apic_timer_interrupt"]
    assert trace.ts(np.arange(2)).tolist() == [1000, 2000]
    assert (trace.kernel.release, trace.lost) == ("4.4.27-rt37", (Gap(None, None, 1000, 1),))


def test_function_tracer() -> None:
    """Calls have no name of an event before them; offsets, modules and arguments may be there."""
    trace = read(lines(b"do_exit <-do_group_exit", b"do_exit+0x0/0xb60 <-do_group_exit+0x3/0x90",
                       b"kvm_exit [kvm] <-vcpu_run [kvm]"))
    assert trace.counts == {"ftrace:function": 3}
    rows = np.arange(3)
    assert trace.column("function", "parent_ip", rows).tolist() == [
        b"do_group_exit", b"do_group_exit+0x3/0x90", b"vcpu_run [kvm]"]
    alone = read(b"# tracer: function\n#\n" + lines(b"do_exit", b"release_task"))
    assert alone.counts == {"ftrace:function": 2}
    assert alone.column("function", "ip", np.arange(2)).tolist() == [b"do_exit", b"release_task"]


def test_graph_of_functions_is_refused() -> None:
    """function_graph prints neither tasks nor times: the error says what to give instead."""
    text = (b"# tracer: function_graph\n#\n# CPU  DURATION                  FUNCTION CALLS\n"
            b" 0)               |  sys_open() {\n 0)   0.5 us      |    getname();\n")
    with pytest.raises(TraceError, match=r"function_graph.*trace-cmd"):
        open_text("graph", text)


def test_probes() -> None:
    """A kprobe prints its address before the arguments; tracefs names a return's two in the other order."""
    trace = read(lines(b"do_exit: (do_exit+0x0/0xb60) code=0xb", b"do_exit: (do_exit+0x0/0xb60) code=0x0",
                       b'opened: (do_sys_openat2+0x0/0x90) name="/etc/pass wd" n=-3 x={1,2}',
                       b"wait4_ret: (__do_sys_wait4+0x3/0x90 <- kernel_wait4) pid=135"))
    assert trace.column("do_exit", "code", trace.rows("do_exit")).tolist() == [0xb, 0]
    assert trace.column("do_exit", "__probe_ip", trace.rows("do_exit")).tolist()[0] == b"do_exit+0x0/0xb60"
    opened = trace.rows("opened")
    values = [trace.column("opened", f, opened).tolist() for f in ("name", "n", "x")]
    assert values == [[b"/etc/pass wd"], [-3], [b"{1,2}"]]
    wait = trace.rows("wait4_ret")
    assert trace.column("wait4_ret", "__probe_func", wait).tolist() == [b"kernel_wait4"]
    assert trace.column("wait4_ret", "__probe_ret_ip", wait).tolist() == [b"__do_sys_wait4+0x3/0x90"]
    perf = read(b"  wl 195 [000] 96.100000: probe:do_exit: (ffffffffa8a9a720) code=0x0\n")
    assert perf.column("probe:do_exit", "__probe_ip", np.array([0])).tolist() == [0xffffffffa8a9a720]


def test_systems_of_known_events() -> None:
    """An event of the kernel has the kernel's system, though the text does not name it."""
    trace = read(lines(SWITCH, b"signal_deliver: sig=1 errno=0 code=0 sa_handler=0 sa_flags=0",
                       b"sys_enter: NR 1 (1, 2, 3, 4, 5, 6)", b"sys_kill(pid: 7, sig: 9)", b"sys_kill -> 0x0",
                       b"softirq_entry: vec=1 [action=TIMER]", b"hrtimer_cancel: hrtimer=0x1",
                       b"mark_victim: pid=3", b"workqueue_execute_end: work struct 00000000deadbeef",
                       b"task_rename: pid=1 oldcomm=a newcomm=b oom_score_adj=-1", b"cpu_idle: state=1 cpu_id=0"))
    assert names(trace) == [
        "sched:sched_switch", "signal:signal_deliver", "raw_syscalls:sys_enter", "syscalls:sys_enter_kill",
        "syscalls:sys_exit_kill", "irq:softirq_entry", "timer:hrtimer_cancel", "oom:mark_victim",
        "workqueue:workqueue_execute_end", "task:task_rename", "unknown:cpu_idle"]
    assert trace.notes == ()
    assert trace.column("sys_enter_kill", "sig", np.array([3])).tolist() == [9]
    assert trace.column("task_rename", "oom_score_adj", np.array([9])).tolist() == [-1]


def test_records_that_name_no_event() -> None:
    """A record whose text names no event is kept with its time and task."""
    trace = read(b"# tracer: blk\n#\n" + lines(b"  8,0    Q  WS 123 + 8 [bash]", SWITCH))
    assert names(trace) == ["unknown:blk", "sched:sched_switch"]
    assert any("name no event" in n for n in trace.notes)
    assert b": " + b"  8,0    Q  WS 123 + 8 [bash]\n" in trace.source.report(np.array([0]))


def test_body_that_does_not_fit_its_event() -> None:
    """A record of a known event whose body is damaged has no fields, and is told of."""
    trace = read(lines(SWITCH, SWITCH[:60], SWITCH))
    assert trace.counts == {"sched:sched_switch": 2, ":sched_switch": 1}
    assert trace.column("sched_switch", "prev_pid", trace.rows("sched_switch")).tolist() == [7, 7]
    assert trace.notes == ("the fields of 1 record of sched_switch were not understood, the first is at line 2",)
    assert b"".join(trace.report()).count(b"sched_switch: prev_comm=a") == 3


def test_event_that_the_templates_do_not_know_yet() -> None:
    """A known event with a field that a future kernel adds still has all its key=value fields."""
    trace = read(lines(b"sched_process_exit: comm=a b pid=7 prio=120 group_dead=true flavour=3"))
    type_ = trace.type("sched_process_exit")
    assert type_ is not None
    assert [f.name for f in type_.fields] == ["comm", "pid", "prio", "group_dead", "flavour"]
    assert trace.column("sched_process_exit", "comm", np.array([0])).tolist() == [b"a b"]
    assert trace.column("sched_process_exit", "flavour", np.array([0])).tolist() == [3]


def test_fields_of_unknown_events() -> None:
    """key=value pairs become fields; one that some records lack is text, empty there."""
    trace = read(lines(b"foo: a=1 b=0x10 name=12 size=24kB [c=x y]", b"foo: a=-2 b=0x20 name=13 size=8kB [c=z] d=5"))
    rows = np.arange(2)
    values = {f: trace.column("foo", f, rows).tolist() for f in ("a", "b", "name", "size", "c", "d")}
    assert values == {"a": [1, -2], "b": [16, 32], "name": [b"12", b"13"], "size": [24, 8], "c": [b"x y", b"z"],
                      "d": [b"", b"5"]}


def test_addresses_need_the_64th_bit() -> None:
    """Addresses of the kernel are unsigned, return values of system calls signed."""
    trace = read(lines(b"hrtimer_cancel: hrtimer=0xff166dc92ed23440", b"sys_read -> 0xfffffffffffffff2"))
    assert trace.column("hrtimer_cancel", "hrtimer", np.array([0])).tolist() == [0xff166dc92ed23440]
    assert trace.column("sys_exit_read", "ret", np.array([1])).tolist() == [-14]


def test_systrace_page() -> None:
    """Of a systrace page only the trace-data script is read."""
    page = (b"<!DOCTYPE html>\n<html>\n<head><title>Android System Trace</title></head><body>\n"
            b'<script>var x = "a-1 [000] ...1 5.0: no: thing";</script>\n'
            b'<script class="trace-data" type="application/text">\nUSER PID PPID\nroot 1 0\n</script>\n'
            b'<script class="trace-data" type="application/text">\n# tracer: nop\n#\n'
            b"          <idle>-0     (-----) [002] d..2 12345.678901: " + SWITCH + b"\n"
            b"  Binder:12_3-99    (   12) [001] ...1 12345.678902: tracing_mark_write: B|12|frame\n  </script>\n"
            b"</body></html>\n")
    assert looks_like_text(page[:256])
    trace = read(page)
    assert names(trace) == ["sched:sched_switch", "ftrace:print"]
    assert trace.notes == ()
    assert trace.source.tgids == {99: 12}
    assert trace.source.cmdlines[99] == b"Binder:12_3"
    assert trace.column("print", "buf", np.array([1])).tolist() == [b"B|12|frame"]


def test_longer_names_of_perfetto() -> None:
    """Perfetto prints names of threads longer than a comm."""
    trace = read(b"Chrome_ChildIOThread-123 (  120) [001] d..2. 1.000000: " + SWITCH + b"\n")
    assert trace.source.cmdlines == {123: b"Chrome_ChildIOThread"}


def test_lines_not_understood() -> None:
    """What is no record, frame or comment is counted, with the number of its first line."""
    trace = read(b"# tracer: nop\n\n" + lines(SWITCH) + b"what is this\n => stray\n" + lines(SWITCH) + b"and this\n")
    assert trace.notes == ("3 lines were not understood, the first is line 4",)
    assert len(trace) == 2


def test_mark_of_several_lines() -> None:
    """A text written to trace_marker may have several lines; they are one record."""
    trace = read(lines(SWITCH, b"tracing_mark_write: one\ntwo\n\nfour", SWITCH))
    assert trace.notes == ()
    assert trace.column("print", "buf", trace.rows("print")).tolist() == [b"one\ntwo\n\nfour"]
    assert b": tracing_mark_write: one\\ntwo\\n\\nfour\n" in b"".join(trace.report())


def test_text_with_carriage_returns() -> None:
    """A text that went through a system with other line ends is the same recording."""
    text = b"# tracer: nop\n" + lines(SWITCH, b"<stack trace>\n => schedule\n => do_exit", SWITCH, b"foo: a=1 b=x")
    plain, other = read(text), read(text.replace(b"\n", b"\r\n"))
    assert b"".join(other.report()) == b"".join(plain.report())
    assert other.stacks.raw(0) == ("schedule", "do_exit")
    assert other.notes == ()
    assert other.column("foo", "b", other.rows("foo")).tolist() == [b"x"]


def test_stack_behind_records_of_other_cpus_and_interrupts() -> None:
    """A stack finds its record though an interrupt's records, and those of other cpus, stand between."""
    trace = read(b"  a-7 [000] d..2. 1.000001: " + SWITCH + b"\n"
                 b"  b-8 [001] ..... 1.000002: foo: a=1\n"
                 b"  a-7 [000] d.h2. 1.000003: irq_handler_entry: irq=1 name=x\n"
                 b"  a-7 [000] d.h2. 1.000004: <stack trace>\n => handle_irq\n"
                 b"  b-8 [001] ..... 1.000005: <stack trace>\n => sys_foo\n"
                 b"  a-7 [000] d..2. 1.000006: <stack trace>\n => schedule\n"
                 b"  a-7 [000] d..2. 1.000006: <user stack trace>\n =>  <00007fcdf7536353>\n")
    assert names(trace) == ["sched:sched_switch", "ftrace:kernel_stack", "ftrace:user_stack", "unknown:foo",
                            "ftrace:kernel_stack", "irq:irq_handler_entry", "ftrace:kernel_stack"]
    found = {trace.types[int(trace.source.index.type[r])].name: trace.stacks.raw(r) for r in (0, 3, 5)}
    assert found == {"sched_switch": ("schedule",), "foo": ("sys_foo",), "irq_handler_entry": ("handle_irq",)}
    assert trace.source.frames(2) == ("0x7fcdf7536353",)


def test_equal_stamps_keep_the_order_of_the_text() -> None:
    """Records of different cpus within a microsecond stay in the order that the kernel merged them in."""
    trace = read(b"".join(b"  a-7 [00%d] ..... 1.000001: ev%d: x=1\n" % (c, k) for k, c in enumerate((1, 0, 1, 2, 0))))
    assert [names(trace)[r] for r in trace.order.tolist()] == [f"unknown:ev{k}" for k in range(5)]


def test_losses() -> None:
    """A loss line is a gap of its cpu, with what stands around it; losses with nothing between them are one."""
    record = b"  a-7 [00%d] ..... %d.000000: foo: a=1\n"
    trace = read(record % (0, 1) + record % (1, 2) + b"CPU:0 [LOST 3 EVENTS]\nCPU:0 [LOST 4 EVENTS]\n" + record % (1, 3)
                 + record % (0, 4) + b"CPU:1 [LOST EVENTS]\n")
    s = 1_000_000_000
    assert trace.lost == (Gap(0, 1 * s, 4 * s, 7), Gap(1, 3 * s, None, None))
    assert trace.lost_count is None
    perf = read(b"  a 7 [000] 1.000000: x:foo: a=1\n  a 7 [000] 2.000000: PERF_RECORD_LOST lost 17\n"
                b"  a 7 [000] 3.000000: x:foo: a=1\n")
    assert perf.lost == (Gap(0, 1 * s, 3 * s, 17),)
    assert perf.notes == ()


def test_perf_without_cpus() -> None:
    """Where perf was told to print no cpu, the records stand on cpu 0 and a note says so."""
    trace = read(b"  a b 7  1.000001:  sched:" + SWITCH + b"\n"
                 b"     :9     9  1.000002: cycles:u: 401234 main (/bin/x)\n")
    assert trace.source.cmdlines == {7: b"a b"}
    assert trace.source.pids(np.arange(2)).tolist() == [7, 9]
    assert names(trace) == ["sched:sched_switch", "unknown:cycles:u"]
    assert any("no cpu" in n for n in trace.notes)


def test_empty_recordings() -> None:
    """A head without records is a recording without records."""
    trace = read(b"# tracer: nop\n#\n# entries-in-buffer/entries-written: 0/0   #P:4\n#\n")
    assert (len(trace), trace.cpus, trace.lost, trace.notes) == (0, (0, 1, 2, 3), (), ())
    assert b"".join(trace.report()) == b""
    assert read(b"cpus=2\n").cpus == (0, 1)


@pytest.mark.parametrize(("text", "message"), [
    (b"", "no recording"), (b"\n\n\n", "no recording"), (b"hello\nworld\n", "'hello'"),
    (b"\x1b[31mred\n" * 9, r"\\x1b"),
    (b"# tracer: nop\n#\n" + SWITCH + b"\n", "line 3.*context-info"),
])
def test_text_that_is_no_recording(text: bytes, message: str) -> None:
    """A text without a record is refused with the line, what is wrong and what to give instead."""
    with pytest.raises(TraceError, match=message) as caught:
        open_text("some.txt", text)
    assert caught.value.unit == "line"
    assert caught.value.path == "some.txt"
    assert caught.value.exit_code == 3
    assert "\x1b" not in str(caught.value)


def test_head_and_frames_longer_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the blocks of reading end changes nothing."""
    import taskscope.ftrace.text_scan as text_scan

    parts = [SWITCH, b"<stack trace>\n => schedule\n => do_exit", b"tracing_mark_write: one\ntwo\nthree",
             b"foo: a=1 b=x", b"task_rename: pid=7 oldcomm=x\ny newcomm=z oom_score_adj=0"]
    text = b"# tracer: nop\n" + lines(*parts * 30)
    whole = read(text)
    assert whole.notes == ()
    for size in (100, 333, 1000, 4096):
        monkeypatch.setattr(text_scan, "_BLOCK", size)
        cut = read(text)
        assert b"".join(cut.report()) == b"".join(whole.report())
        assert cut.notes == ()
        assert cut.counts == whole.counts
        assert len(cut.stacks) == 30


def everything(trace: Trace) -> list[object]:
    """Return all that a recording says."""
    source, rows = trace.source, np.arange(len(trace))
    found: list[object] = [source.report(rows), source.notes, source.gaps, source.cmdlines, source.tgids, source.cpus,
                           source.buffers, source.index.ts.tolist(), source.index.buffer.tolist(),
                           source.flags(rows).tolist(), trace.counts]
    for name in sorted(trace.counts):
        type_ = trace.type(name)
        assert type_ is not None
        found += [(f.name, f.shape, [str(v) for v in trace.column(name, f.name, trace.rows(name))])
                  for f in type_.fields]
    return found


@pytest.mark.parametrize("name", [
    "d15-text-stack.trace.txt", "d16-text-tgid.trace.txt", "d37-raw16k-612/trace.txt", "d14-instances.report.txt.xz",
    "d34-tsc-612.report.txt.xz", "d08-signals.report-R.txt.xz", "t01-comms.trace.txt", "t01-comms-noirq.trace.txt",
    "t04-counter.trace.txt"])
def test_heads_in_columns_are_read_as_by_the_grammar(data: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Reading the columns of all lines at once gives what the grammar gives line by line."""
    import taskscope.ftrace.text_scan as text_scan

    monkeypatch.setattr(text_scan, "_BLOCK", 700)
    raw = (data / name).read_bytes()
    text = lzma.decompress(raw) if name.endswith(".xz") else raw
    text *= 1 + 12_000 // len(text)
    used: list[int] = []
    find = text_scan.Scan._find_fixed

    def counted(self: text_scan.Scan, *args: object) -> object:
        found = find(self, *args)  # type: ignore[arg-type]
        used.append(0 if found is None else len(found.lines))
        return found

    monkeypatch.setattr(text_scan.Scan, "_find_fixed", counted)
    fast = everything(read(text))
    assert sum(used) > 10
    monkeypatch.setattr(text_scan.Scan, "_find_fixed", lambda *_: None)
    assert everything(read(text)) == fast


_HEADS = st.tuples(
    st.binary(max_size=15).map(lambda c: c.replace(b"\0", b"").replace(b"\n", b"")),
    st.one_of(st.integers(0, 99), st.integers(0, 10**9)), st.integers(0, 1500), st.integers(0, 10**6),
    st.sampled_from([b"d..2.", b".....", b"dNh2.", b"d..2", b""]),
    st.sampled_from([b"(%7d) " % 5, b"(-------) ", b""]),
    st.sampled_from([b"foo: a=1", b"foo:", b"foo:x", b"foo: ", SWITCH, b"new: b=2", b"sys_read -> 0x3", b""]))


@settings(max_examples=150, deadline=None)
@given(st.lists(_HEADS, min_size=1, max_size=30), st.booleans())
def test_heads_of_any_content_are_read_alike(heads: list[tuple[bytes, int, int, int, bytes, bytes, bytes]],
                                             alike: bool) -> None:
    """The same for lines made of anything, with their parts in one layout or in many."""
    import taskscope.ftrace.text_scan as text_scan

    if alike:
        heads = [(*h[:4], heads[0][4], heads[0][5], h[6]) for h in heads]
    first = HEAD % 1 + b"foo: a=1\n" + HEAD % 2 + SWITCH + b"\n"
    text = first + b"".join(b"%16s-%-7d %s[%03d] %s %5d.%06d: %s\n" % (comm, pid, tgid, cpu, flags, sec, k, body)
                            for k, (comm, pid, cpu, sec, flags, tgid, body) in enumerate(heads))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_scan, "_BLOCK", 200)
        fast = everything(read(text))
        patch.setattr(text_scan.Scan, "_find_fixed", lambda *_: None)
        assert everything(read(text)) == fast
