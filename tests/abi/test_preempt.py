"""preempt_count's fields and the macros that look at them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.abi import preempt
from taskscope.abi.preempt import split

# A machine under load must not fail a test by being slow.
SETTINGS = settings(deadline=None)


def test_the_masks_of_preempt_h() -> None:
    """Masks and offsets are those in the comment of include/linux/preempt.h."""
    assert (preempt.PREEMPT_MASK, preempt.SOFTIRQ_MASK, preempt.HARDIRQ_MASK, preempt.NMI_MASK) == (
        0x000000FF, 0x0000FF00, 0x000F0000, 0x00F00000)
    assert (preempt.PREEMPT_OFFSET, preempt.SOFTIRQ_OFFSET, preempt.SOFTIRQ_DISABLE_OFFSET, preempt.HARDIRQ_OFFSET,
            preempt.NMI_OFFSET) == (1, 0x100, 0x200, 0x10000, 0x100000)
    assert preempt.nmi_mask((4, 19)) == 0x00100000


@SETTINGS
@given(st.integers(0, (1 << 33) - 1), st.sampled_from([None, "arm", "arm64", "x86", "s390"]),
       st.sampled_from([(4, 19), (6, 1)]))
def test_fields_make_up_the_whole(value: int, arch: str | None, kernel: tuple[int, int]) -> None:
    """Every bit of the word belongs to exactly one field."""
    count = split(value, kernel, arch)
    bit = preempt.NEED_RESCHED_BIT.get(arch or "", 0)
    whole = (count.preempt | count.softirq << 8 | count.hardirq << 16 | count.nmi << 20 | count.rest
             | (bit if count.need_resched is False else 0))
    assert whole == value
    assert (count.need_resched is None) == (bit == 0)


@SETTINGS
@given(st.integers(0, 0xFFFFFF))
def test_macros_follow_preempt_h(value: int) -> None:
    """in_interrupt() and its kin say what the macros of include/linux/preempt.h would."""
    count = split(value)
    assert count.in_nmi() == bool(value & 0xF00000)
    assert count.in_hardirq() == bool(value & 0xF0000)
    assert count.in_serving_softirq() == bool(value & 0x100)
    assert count.in_softirq() == bool(value & 0xFF00)
    assert count.in_interrupt() == bool(value & 0xFFFF00)
    assert count.in_task() == (not value & 0xFF0100)


@pytest.mark.parametrize(("value", "true"), [
    (0x2, {"in_task"}),                                             # a sleeping task: schedule() and rq->lock
    (0x200, {"in_task", "in_softirq", "in_interrupt"}),             # local_bh_disable()
    (0x101, {"in_serving_softirq", "in_softirq", "in_interrupt"}),
    (0x10001, {"in_hardirq", "in_interrupt"}),
    (0x110000, {"in_nmi", "in_hardirq", "in_interrupt"}),           # an NMI over an interrupt
])
def test_contexts(value: int, true: set[str]) -> None:
    """The situations that kernel code meets are told apart."""
    count = split(value)
    names = ("in_task", "in_serving_softirq", "in_softirq", "in_hardirq", "in_nmi", "in_interrupt")
    assert {name for name in names if getattr(count, name)()} == true


def test_the_reschedule_bit_is_inverted() -> None:
    """On x86 a count of 0 without the bit means: preempt now."""
    assert split(0, arch="x86").need_resched is True
    assert split(0x80000000, arch="x86").need_resched is False
    assert split(1 << 32, arch="arm64").need_resched is False
    assert split(0x80000000, arch="arm").need_resched is None
    assert split(0x80000000, arch="arm").rest == 0x80000000
