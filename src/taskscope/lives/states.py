"""What a task does after a switch: the prev_state of sched_switch, read as the recording itself spells it.

The raw bits moved between kernels (EXIT_DEAD and EXIT_ZOMBIE changed places in 4.14), so the letters come from the
print format that the recording carries, never from a table of ours; text recordings hold the letters themselves.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from taskscope.lives.life import State
from taskscope.trace.trace import Trace

#: what wins when prev_state has several bits, as in ``D|K`` (TASK_KILLABLE) and ``D|N`` (TASK_IDLE before 4.14)
_BY_LETTER = (
    ("Z", State.ZOMBIE), ("X", State.DEAD), ("x", State.DEAD), ("I", State.IDLE), ("N", State.IDLE),
    ("T", State.STOPPED), ("t", State.TRACED), ("P", State.PARKED), ("S", State.SLEEPING), ("D", State.BLOCKED),
    ("R", State.RUNNABLE),
)


class Outs(NamedTuple):
    """For each switch: the state of prev afterwards, and whether the kernel counts it as involuntary."""

    state: npt.NDArray[np.uint8]
    involuntary: npt.NDArray[np.bool_]


def parse_letters(text: str) -> tuple[State, bool]:
    """Read the letters of prev_state; the second value tells an involuntary switch.

    The kernel counts nivcsw where the task was still runnable or was preempted (``+``), see __schedule().

    >>> parse_letters("S"), parse_letters("R+"), parse_letters("D|K")
    ((<State.SLEEPING: 2>, False), (<State.RUNNABLE: 1>, True), (<State.BLOCKED: 3>, False))
    """
    letters = text.strip()
    preempted = letters.endswith("+")
    letters = letters.rstrip("+")
    if preempted:
        return State.RUNNABLE, True
    for letter, state in _BY_LETTER:
        if letter in letters.split("|"):
            return state, state is State.RUNNABLE
    return State.UNKNOWN, False


def decode_outs(trace: Trace, rows: npt.NDArray[np.int64]) -> Outs:
    """Decode prev_state of sched_switch records."""
    type_ = trace.type("sched_switch")
    assert type_ is not None, "sched_switch is declared where it has rows"
    if type_.field("prev_state") is None:
        return Outs(np.full(len(rows), np.uint8(State.UNKNOWN)), np.zeros(len(rows), bool))
    raw = trace.column("sched_switch", "prev_state", rows)
    if raw.dtype.kind == "O":
        raw = np.array([x if isinstance(x, bytes) else b"" for x in raw.tolist()])
    if raw.dtype.kind in "iu":
        raw = raw.astype(np.int64, copy=False)
        present: npt.NDArray[Any]
        if len(raw) and int(raw.min()) >= 0 and int(raw.max()) < 1 << 16:
            small = raw.astype(np.uint16)
            present = np.flatnonzero(np.bincount(small, minlength=1))
            number = np.zeros(int(present[-1]) + 1, np.uint16)
            number[present] = np.arange(len(present))
            inverse: npt.NDArray[Any] = number.take(small)
        else:
            present, inverse = np.unique(raw, return_inverse=True)
        texts = trace.source.field_text(type_, "prev_state", present)
    else:
        present, inverse = np.unique(raw, return_inverse=True)
        texts = [bytes(x).decode("ascii", "replace") for x in present.tolist()]
    parsed = [parse_letters(t) for t in texts]
    if trace.source.container.startswith("trace-cmd"):
        parsed = [_of_plugin(t, p, "W" in texts) for t, p in zip(texts, parsed, strict=True)]
    states = np.array([s for s, _ in parsed], np.uint8)
    involuntary = np.array([i for _, i in parsed], bool)
    return Outs(states.take(inverse.reshape(-1)), involuntary.take(inverse.reshape(-1)))


def _of_plugin(text: str, parsed: tuple[State, bool], since_414: bool) -> tuple[State, bool]:
    """Read a letter of trace-cmd's sched_switch plugin, which still means the bits of before 4.14.

    ``W`` stands for bit 128, which can only be TASK_IDLE: where it occurs the kernel is newer, and ``X`` and ``Z`` are
    each other's.  Where it does not, which of the two they are is unknown.
    """
    if text == "W":
        return State.IDLE, False
    if text in ("X", "Z"):
        return (State.ZOMBIE if text == "X" else State.DEAD) if since_414 else State.UNKNOWN, False
    return parsed
