"""Event filters, beside Python's own reading of them and beside the host's kernel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.model import machine
from taskscope.model.include.linux.trace_events import TraceEventCall
from taskscope.model.include.trace.events.sched import EVENTS
from taskscope.model.kernel.trace.trace_events import trace_abi
from taskscope.model.kernel.trace.trace_events_filter import (
    FilterError,
    create_filter,
    error_text,
    filter_match_preds,
    glob_match,
)
from watched import running, task

INSTANCES = Path("/sys/kernel/tracing/instances")
FIELDS = ("prev_comm", "prev_pid", "prev_prio", "prev_state", "next_comm", "next_pid", "next_prio")


def record(**values: Any) -> tuple[Any, ...]:
    """Make a record of sched_switch."""
    fields = {
        "prev_comm": b"bash\0junk",
        "prev_pid": 911,
        "prev_prio": 120,
        "prev_state": 1,
        "next_comm": b"raspbian_proc\0",
        "next_pid": 1272,
        "next_prio": 120,
        **values,
    }
    return (314, 1, 2, 911, *(fields[name] for name in FIELDS))


def switch_call(m: machine.Machine) -> TraceEventCall:
    """Make the event sched_switch alone."""
    declared = next(d for d in EVENTS if d.name == "sched_switch" and d.since <= m.flavour.version < d.before)
    return TraceEventCall(declared, 314, trace_abi(m))


def passes(text: str, **values: Any) -> bool:
    """Tell whether a record of sched_switch passes a filter."""
    call = switch_call(machine.cur)
    return filter_match_preds(create_filter(call, text), record(**values))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("prev_pid == 911", True),
        ("prev_pid != 911", False),
        ("prev_pid > 910 && prev_pid < 912", True),
        ("prev_pid >= 912", False),
        ("prev_pid <= 911", True),
        ("prev_pid == 0x38f", True),
        ("prev_pid == 01617", True),
        ("prev_state & 3", True),
        ("prev_state & 2", False),
        ("prev_prio == -5", False),
        ('prev_comm == "bash"', True),
        ("prev_comm == 'bash'", True),
        ('prev_comm != "bash"', False),
        ('prev_comm == "ba*"', False),
        ('prev_comm ~ "ba*"', True),
        ('prev_comm ~ "*as*"', True),
        ('prev_comm ~ "b?sh"', True),
        ('prev_comm ~ "[a-c]ash"', True),
        ('prev_comm ~ "[!a-c]ash"', False),
        ('next_comm ~ "raspbian"', False),
        ("prev_pid == 1 || next_pid == 1272 && prev_prio == 120", True),
        ("(prev_pid == 1 || next_pid == 1272) && prev_prio == 1", False),
        ("!(prev_pid == 1)", True),
        ("!prev_pid == 911", False),
        ("!(prev_pid == 911) || !(next_pid == 1)", True),
        ("common_pid == 911", True),
        ("common_type == 314", True),
        ("CPU == 0", True),
        ("cpu > 0", False),
        ('COMM == "swapper/0"', True),
        ("  ( (prev_pid==911)&&(next_pid==1272) )  ", True),
    ],
)
def test_grammar(text: str, result: bool) -> None:
    """A filter says of a record what the kernel's documentation says that it does."""
    with running():
        assert passes(text) is result


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("nothing == 1", 8, "Field not found"),
        ("prev_pid = 1", 10, "Invalid operator"),
        ("prev_pid == x", 13, "Invalid value"),
        ("prev_comm == bash", 14, "Invalid value"),
        ("prev_comm == 5", 14, "Expecting string field"),
        ('prev_pid == "5"', 13, "Expecting numeric field"),
        ("prev_pid ~ 5", 12, "Illegal operation"),
        ('prev_comm > "a"', 13, "Illegal operation"),
        ('prev_comm == "bash', 13, "Missing matching quote"),
        ("(prev_pid == 1", 0, "Too many '('"),
        ("prev_pid == 1)", 13, "Too few '('"),
        ("prev_pid == 1 prev_prio == 2", 14, "Too many terms"),
        ("!", 1, "No filter"),
        ("prev_pid == 12ab", 13, "Illegal integer"),
    ],
)
def test_mistakes(text: str, place: int, words: str) -> None:
    """A wrong filter is refused with the place of the mistake and the kernel's words for it."""
    with running() as m:
        call = switch_call(m)
        with pytest.raises(FilterError) as caught:
            create_filter(call, text)
        assert caught.value.at == place
        assert words in caught.value.text


predicates = st.one_of(
    st.tuples(
        st.sampled_from(["prev_pid", "next_pid", "prev_prio", "prev_state"]),
        st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "&"]),
        st.integers(-3, 3),
    ),
)
trees = st.recursive(
    predicates,
    lambda node: st.one_of(st.tuples(st.just("not"), node), st.tuples(st.sampled_from(["&&", "||"]), node, node)),
    max_leaves=12,
)


def text_of(tree: Any) -> str:
    """Write a tree as a filter."""
    if tree[0] == "not":
        return f"!({text_of(tree[1])})"
    if tree[0] in ("&&", "||"):
        return f"({text_of(tree[1])}) {tree[0]} ({text_of(tree[2])})"
    return f"{tree[0]} {tree[1]} {tree[2]}"


def truth_of(tree: Any, values: dict[str, int]) -> bool:
    """Say what a tree is for a record, by Python's own operators."""
    if tree[0] == "not":
        return not truth_of(tree[1], values)
    if tree[0] == "&&":
        return truth_of(tree[1], values) and truth_of(tree[2], values)
    if tree[0] == "||":
        return truth_of(tree[1], values) or truth_of(tree[2], values)
    a, b = values[tree[0]], tree[2]
    return bool({"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "&": a & b}[tree[1]])


@given(trees, st.lists(st.integers(-3, 3), min_size=4, max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_tree(tree: Any, numbers: list[int]) -> None:
    """Any tree of predicates, written as a filter, decides as the tree itself."""
    values = dict(zip(("prev_pid", "next_pid", "prev_prio", "prev_state"), numbers, strict=True))
    with running():
        assert passes(text_of(tree), **values) is truth_of(tree, values)


def test_precedence() -> None:
    """&& binds closer than ||, without parentheses."""
    with running():
        for a in (0, 1):
            for b in (0, 1):
                for c in (0, 1):
                    expected = bool(a) or (bool(b) and bool(c))
                    assert (
                        passes("prev_pid == 1 || next_pid == 1 && prev_prio == 1", prev_pid=a, next_pid=b, prev_prio=c)
                        is expected
                    )


def test_running_task_and_cpu() -> None:
    """CPU and COMM are those of the task that runs when the record is written."""
    with running(cpus=2) as m:
        m.cpu = m.cpus[1]
        m.cpu.curr = task(m, 7, "sh", 1)
        assert passes('CPU == 1 && COMM == "sh"')


@pytest.mark.parametrize(
    ("pattern", "text", "result"),
    [
        ("copy_process*", "copy_process.part.5", True),
        ("do_exit", "do_exit_x", False),
        ("*exit*", "sys_exit_group", True),
        ("sys_?lone", "sys_clone", True),
        ("", "", True),
        ("*", "", True),
        ("[", "[", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("a.c", "abc", False),
    ],
)
def test_glob(pattern: str, text: str, result: bool) -> None:
    """Globs know *, ?, classes and the backslash, and nothing of regular expressions."""
    assert glob_match(pattern, text) is result


@pytest.fixture(scope="module")
def host_filter() -> Any:
    """Give the filter file of sched_switch in an instance of our own."""
    folder = INSTANCES / f"taskscope-test-{os.getpid()}-filter"
    folder.mkdir()
    try:
        yield folder / "events/sched/sched_switch/filter"
    finally:
        folder.rmdir()


HOST = [
    "prev_pid == 911",
    "prev_pid=911",
    "prev_pid == 1 && ( next_pid == 2 || !(prev_prio > 3))",
    'prev_comm ~ "ba*"',
    'prev_comm == "a b"',
    "prev_comm == bash",
    "prev_comm == 5",
    'prev_pid == "5"',
    "prev_pid ~ 5",
    'prev_comm > "a"',
    'prev_comm == "bash',
    "(prev_pid == 1",
    "prev_pid == 1)",
    "nothing == 1",
    "prev_pid == 0x1F",
    "prev_pid == 0x",
    "prev_pid == 12ab",
    "prev_pid == -1",
    "prev_pid & 1",
    "!prev_pid == 1",
    "!!(prev_pid == 1)",
    "! prev_pid == 1",
    "prev_pid == 1 && ",
    "&& prev_pid == 1",
    "prev_pid == 1 & & next_pid == 2",
    "()",
    "!",
    "common_pid == 1",
    "CPU == 0",
    'COMM == "sh"',
    "CPU < 2 && prev_state != 0",
    "prev_pid == 1 || next_pid == 2 && prev_prio == 3",
    "((prev_pid == 1))",
    "prev_pid==1&&next_pid==2",
    "prev_state & 0xff || prev_state == 0",
    "prev_pid <= 08",
    'prev_comm ~ ""',
    "prev_pid == 1 next_pid == 2",
    'prev_comm > "a"',
    "prev_pid ~ 5",
    "prev_pid",
    "prev_pid ==",
    "&& prev_pid == 1",
    "prev_pid == 1 &&",
    "|| prev_pid == 1",
    "(prev_pid == 1) x",
    "prev_pid == 1 ! prev_pid == 2",
    "((((prev_pid == 1",
    "prev_pid == 1))",
    "prev_pid == 1 && (",
    "!!",
    ")",
    'prev_comm == "0123456789012345678901234567890123456789"',
    "common_flags & 4",
    "prev_pid > 5 && prev_pid < 1000 && !(prev_pid == 7)",
]


@pytest.mark.root
@pytest.mark.skipif(not INSTANCES.is_dir(), reason="no tracefs is mounted at /sys/kernel/tracing")
@pytest.mark.parametrize("text", HOST)
def test_host_takes_and_refuses_the_same(host_filter: Path, text: str) -> None:
    """The host's kernel takes and refuses the same filters, and finds the same mistake in those that it refuses."""
    try:
        host_filter.write_text(text)
        refused = 0
    except OSError as error:
        refused = error.errno or -1
    shown = host_filter.read_text()
    host_filter.write_text("0")
    with running("6.18-x86_64") as m:
        call = switch_call(m)
        mistake: FilterError | None = None
        try:
            create_filter(call, text)
        except FilterError as error:
            mistake = error
    if mistake is None:
        assert not refused, shown
    else:
        assert refused == mistake.errno
        assert error_text(text.strip(), mistake) == shown.rstrip("\n")
