"""The small text files beside a recording: command lines, tgids, statistics, clock, printk formats."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskscope.ftrace.saved import (
    parse_clock,
    parse_cmdlines,
    parse_cpustat,
    parse_printk_formats,
    parse_stats,
    parse_tgids,
)


def test_a_comm_may_hold_spaces_and_odd_bytes() -> None:
    """Everything behind the first space is the comm."""
    text = b"1 systemd\n17 kworker/0:1\n2042 a b  c\n7 \xff\x1b[31m\n9 \n12 \xed\x95\x9c\xea\xb8\x80\n"
    assert parse_cmdlines(text) == ({1: b"systemd", 17: b"kworker/0:1", 2042: b"a b  c", 7: b"\xff\x1b[31m",
                                     9: b"", 12: b"\xed\x95\x9c\xea\xb8\x80"}, 0)


def test_a_comm_may_hold_a_newline() -> None:
    """A line without a pid continues the comm before it, as long as a comm can be that long."""
    assert parse_cmdlines(b"5 two\nlines\n6 x\n") == ({5: b"two\nlines", 6: b"x"}, 0)
    assert parse_cmdlines(b"5 two\nthis can be no part of a comm\n6 x\n") == ({5: b"two", 6: b"x"}, 1)
    assert parse_cmdlines(b"garbage\n6 x") == ({6: b"x"}, 1)
    assert parse_cmdlines(b"") == ({}, 0)


@given(st.dictionaries(st.integers(0, 1 << 22),
                       st.binary(max_size=15).filter(lambda c: b"\0" not in c and b"\n" not in c)))
def test_command_lines_come_back(comms: dict[int, bytes]) -> None:
    """What the kernel writes for any comm without a newline is read back."""
    assert parse_cmdlines(b"".join(b"%d %s\n" % item for item in comms.items())) == (comms, 0)


def test_tgids() -> None:
    """Each line is a tid and its tgid."""
    assert parse_tgids(b"12 12\n13 12\n") == ({12: 12, 13: 12}, 0)
    assert parse_tgids(b"12 x\n13 12") == ({13: 12}, 1)


def test_printk_formats_undo_their_escapes() -> None:
    """Strings of trace_printk() come with their address and C escapes."""
    text = b'0xffffffff8281972f : "a \\"b\\"\\n"\n0xc1000000 : "back\\\\n"\nnoise\n0x10 : ""\n'
    assert parse_printk_formats(text) == {0xffffffff8281972f: b'a "b"\n', 0xc1000000: b"back\\n", 0x10: b""}


@pytest.mark.parametrize(("text", "clock"), [
    (b"[local] global counter\n", "local"), (b"local global [x86-tsc]\n\0", "x86-tsc"), (b"mono_raw", "mono_raw"),
    (b"local global", None), (b"", None), (b"[]", None),
])
def test_the_clock_in_brackets(text: bytes, clock: str | None) -> None:
    """trace_clock marks the clock in use; a lone word is it too."""
    assert parse_clock(text) == clock


def test_stats_of_a_cpu() -> None:
    """Overwritten and dropped events are told; what is not said is None."""
    text = (b"entries: 111\noverrun: 9\ncommit overrun: 2\nbytes: 5940\noldest event ts:   195.244991\n"
            b"now ts:   196.305214\ndropped events: 4\nread events: 0\n")
    stats = parse_stats(text)
    assert (stats.overrun, stats.dropped) == (9, 4)
    assert parse_stats(b"overrun: many\n").overrun is None


def test_cpustat_of_several_buffers() -> None:
    """The options of all cpus, one after the other, are told apart by buffer and cpu."""
    text = (b"CPU: 0\nentries: 5\noverrun: 1\n\nCPU: 11\noverrun: 2\ndropped events: 7\n\n"
            b"\nBuffer: my irqs\n\n\nCPU: 0\noverrun: 3\n\n")
    found = {(b.name, cpu): (s.overrun, s.dropped) for b in parse_cpustat(text) for cpu, s in b.cpus.items()}
    assert found == {(b"", 0): (1, None), (b"", 11): (2, 7), (b"my irqs", 0): (3, None)}
