"""Task states: letters of ps, letters of sched_switch, and how kernels differ."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from taskscope.abi.era import KERNELS
from taskscope.abi.state import (
    LETTER_MEANINGS,
    LETTERS,
    LETTERS_BEFORE_4_14,
    TASK_STATES,
    combined,
    preempted_bit,
    prev_state_letter,
    prev_state_text,
    state_letter,
)

# The print formats of sched_switch, as the kernels' own format files have them (the part that shows prev_state).
BEFORE_4_14 = (
    'REC->prev_state & (4096-1) ? __print_flags(REC->prev_state & (4096-1), "|", { 1, "S"} , { 2, "D" }, '
    '{ 4, "T" }, { 8, "t" }, { 16, "Z" }, { 32, "X" }, { 64, "x" }, { 128, "K" }, { 256, "W" }, { 512, "P" }, '
    '{ 1024, "N" }) : "R", REC->prev_state & 4096 ? "+" : ""'
)


def by_format(fmt: str, value: int, mask: int, plus: int) -> str:
    """Evaluate such a print format: __print_flags() and the plus sign."""
    flags = [(int(bit, 0), letter) for bit, letter in re.findall(r'\{ (\w+), "(\w)" ?\}', fmt)]
    words, rest = [], value & mask
    for bit, letter in flags:
        if rest & bit == bit:
            words.append(letter)
            rest &= ~bit
    if rest:
        words.append(f"{rest:#x}")
    return ("|".join(words) if value & mask else "R") + ("+" if value & plus else "")


@pytest.mark.parametrize("recording", ["d18-raw4k", "d37-raw16k-612", "d53-raw-be64", "d62-raw-32",
                                       "d70-host618-kill9-stack"])
def test_prev_state_is_shown_as_the_recorded_formats_show_it(data: Path, recording: str) -> None:
    """For kernels since 4.15 the text equals what the format of each recording prints, for every value."""
    formats = (data / recording / "formats").read_text(errors="replace")
    fmt = formats[formats.index("name: sched_switch"):]
    fmt = fmt[:fmt.index("prev_state & 0x100") if "prev_state & 0x100" in fmt else fmt.index("next_comm,")]
    fmt = fmt[fmt.index("print fmt:"):]
    fmt = re.sub(r"(0x0+)(\d+)", r"0x\2", fmt)
    assert fmt.count('"S"') == 1
    for value in range(0x200):
        assert prev_state_text(value, (6, 1)) == by_format(fmt, value, 0xFF, 0x100), value


def test_prev_state_before_4_14() -> None:
    """Up to 4.13 the text is that of the old print format, which swaps Z and X."""
    for value in [*range(0x1000), 0x1000, 0x1001]:
        assert prev_state_text(value, (4, 9)) == by_format(BEFORE_4_14, value, 0xFFF, 0x1000)
    assert prev_state_text(0x20, (4, 9)) == "X"
    assert prev_state_letter(0x20, (4, 9)) == "Z"


def test_prev_state_of_4_14_is_an_index() -> None:
    """Linux 4.14 recorded the index of the state, so that 6 is a zombie and prints as D|T."""
    assert prev_state_letter(6, (4, 14)) == "Z"
    assert prev_state_text(6, (4, 14)) == "D|T"
    assert [prev_state_letter(i, (4, 14)) for i in range(9)] == list(LETTERS)


def test_prev_state_values_seen_in_recordings() -> None:
    """The values that 6.1, 6.12 and 6.18 record have these letters."""
    seen = {0: "R", 1: "S", 2: "D", 4: "T", 0x10: "X", 0x20: "Z", 0x80: "I", 0x100: "R+"}
    for kernel in ((4, 19), (6, 1), (6, 12), (6, 18)):
        assert {value: prev_state_text(value, kernel) for value in seen} == seen
        assert prev_state_letter(preempted_bit(kernel), kernel) == "R"
    assert prev_state_letter(0x3, (6, 1)) is None


def test_ps_letters() -> None:
    """The letter of a state is the one that /proc shows, kernel by kernel."""
    assert state_letter(0x402, 0, (4, 9)) == "D"            # idle threads counted as blocked in the eyes of ps
    assert state_letter(0x402, 0, (4, 14)) == "I"
    assert state_letter(0x2402, 0, (6, 1)) == "I"           # freezable too
    assert state_letter(0x200, 0, (4, 9)) == "S"            # parked
    assert state_letter(0x40, 0, (4, 19)) == "P"
    assert state_letter(0x102, 0, (4, 19)) == "D"           # killable
    assert state_letter(0x1000, 0, (5, 15)) == "D"          # waits for an rtlock
    assert state_letter(0x1001, 0, (5, 15)) == "S"          # 5.15 compares the whole word, 6.1 the bit
    assert state_letter(0x1001, 0, (6, 1)) == "D"
    assert state_letter(0x8000, 0, (6, 1)) == "D"           # frozen
    assert state_letter(0x80, 0x20, (6, 1)) == "Z"
    assert state_letter(0x80, 0x10, (6, 1)) == "X"
    assert {state_letter(value, 0, kernel) for value in range(0x1000) for kernel in KERNELS} <= set(LETTER_MEANINGS)


def test_old_letters_name_the_old_bits() -> None:
    """TASK_STATE_TO_CHAR_STR has one letter for running and one for each bit of that time."""
    assert len(LETTERS_BEFORE_4_14) == 1 + len([r for r in TASK_STATES.at((4, 9)) if r.value])


def test_combined_names() -> None:
    """The names for several bits have the values of include/linux/sched.h."""
    assert combined((6, 1)) == {
        "EXIT_TRACE": 0x30, "TASK_KILLABLE": 0x102, "TASK_STOPPED": 0x104, "TASK_IDLE": 0x402, "TASK_NORMAL": 0x3,
        "TASK_TRACED": 0x8,
    }
    assert combined((4, 19))["TASK_TRACED"] == 0x108
    assert combined((4, 9))["TASK_KILLABLE"] == 0x82


def test_the_running_kernel_shows_these_letters() -> None:
    """A stopped child is T in /proc, a dead one that nobody has reaped Z."""
    def letter(pid: int) -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.waitpid(pid, os.WUNTRACED)
    assert letter(pid) == state_letter(0x104)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert letter(pid) == state_letter(0x80, 0x20)
    os.waitpid(pid, 0)
