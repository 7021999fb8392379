"""Task states: the raw bits, and the letters by which ps(1), /proc and sched_switch show them.

``task_struct.__state`` (``state`` before v5.14) and ``exit_state`` share one set of bits (include/linux/sched.h), which
v4.14 renumbered.  sched_switch's ``prev_state`` is a third thing: the raw state up to v4.13, afterwards one *reported*
bit.  A recording carries its own print format; a reader of recordings uses that and not this module.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

from taskscope.abi.era import DEFAULT, Names, Version, checked, row

# Made from a mapping: in a class body Python would mangle the names that begin with two underscores.
#: bits of ``__state`` and ``exit_state`` as in Linux 6.1; other kernels: `TASK_STATES`
TaskState = IntFlag("TaskState", {
    "TASK_RUNNING": 0,
    "TASK_INTERRUPTIBLE": 0x1,
    "TASK_UNINTERRUPTIBLE": 0x2,
    "__TASK_STOPPED": 0x4,
    "__TASK_TRACED": 0x8,
    "EXIT_DEAD": 0x10,
    "EXIT_ZOMBIE": 0x20,
    "TASK_PARKED": 0x40,
    "TASK_DEAD": 0x80,
    "TASK_WAKEKILL": 0x100,
    "TASK_WAKING": 0x200,
    "TASK_NOLOAD": 0x400,
    "TASK_NEW": 0x800,
    "TASK_RTLOCK_WAIT": 0x1000,
    "TASK_FREEZABLE": 0x2000,
    "__TASK_FREEZABLE_UNSAFE": 0x4000,
    "TASK_FROZEN": 0x8000,
})

TASK_STATES: Final = Names("TASK_", [
    row("TASK_RUNNING", 0, "", "on a CPU or waiting for one"),
    row("TASK_INTERRUPTIBLE", 0x1, "", "sleeps; an event or a signal wakes it"),
    row("TASK_UNINTERRUPTIBLE", 0x2, "", "sleeps; no signal wakes it"),
    row("__TASK_STOPPED", 0x4, "", "stopped by a signal"),
    row("__TASK_TRACED", 0x8, "", "stopped by its tracer"),
    row("EXIT_DEAD", 0x10, "", "exit_state: being released"),
    row("EXIT_ZOMBIE", 0x20, "", "exit_state: dead, not yet reaped"),
    row("TASK_DEAD", 0x40, "4.9", "has left do_exit(), will not run again"),
    row("TASK_PARKED", 0x40, "4.14-", "kernel thread parked by kthread_park()"),
    row("TASK_WAKEKILL", 0x80, "4.9", "a fatal signal wakes it"),
    row("TASK_DEAD", 0x80, "4.14-", "has left do_exit(), will not run again"),
    row("TASK_WAKING", 0x100, "4.9", "a wakeup is under way"),
    row("TASK_WAKEKILL", 0x100, "4.14-", "a fatal signal wakes it"),
    row("TASK_PARKED", 0x200, "4.9", "kernel thread parked by kthread_park()"),
    row("TASK_WAKING", 0x200, "4.14-", "a wakeup is under way"),
    row("TASK_NOLOAD", 0x400, "", "does not count in the load average"),
    row("TASK_NEW", 0x800, "", "being created, not yet woken"),
    row("TASK_RTLOCK_WAIT", 0x1000, "5.15-", "waits for a sleeping spinlock (PREEMPT_RT)"),
    row("TASK_FREEZABLE", 0x2000, "6.1-", "may be frozen while it sleeps"),
    row("__TASK_FREEZABLE_UNSAFE", 0x4000, "6.1-", "may be frozen while it holds locks (lockdep kernels)"),
    row("TASK_FROZEN", 0x8000, "6.1-", "frozen for suspend or by its cgroup"),
])

#: names for several bits at once, written with the single bits' names; TASK_TRACED had TASK_WAKEKILL too up to 5.15
COMBINED: Final = {
    "EXIT_TRACE": ("EXIT_ZOMBIE", "EXIT_DEAD"),
    "TASK_KILLABLE": ("TASK_WAKEKILL", "TASK_UNINTERRUPTIBLE"),
    "TASK_STOPPED": ("TASK_WAKEKILL", "__TASK_STOPPED"),
    "TASK_IDLE": ("TASK_UNINTERRUPTIBLE", "TASK_NOLOAD"),
    "TASK_NORMAL": ("TASK_INTERRUPTIBLE", "TASK_UNINTERRUPTIBLE"),
}

#: the letters that TASK_REPORT's bits get, by fls(): 0 is running
LETTERS: Final = "RSDTtXZPI"
#: TASK_STATE_TO_CHAR_STR up to v4.13, for all bits of ``state``
LETTERS_BEFORE_4_14: Final = "RSDTtXZxKWPNn"

LETTER_MEANINGS: Final = {
    "R": "running or runnable",
    "S": "sleeping, interruptible",
    "D": "sleeping, uninterruptible",
    "T": "stopped by a signal",
    "t": "stopped by its tracer",
    "X": "dead, being released",
    "Z": "zombie, dead and not yet reaped",
    "P": "parked kernel thread",
    "I": "idle kernel thread",
}

_IDLE = 0x402


def combined(kernel: Version = DEFAULT) -> dict[str, int]:
    """Return the names of `COMBINED` with their values in `kernel`, and TASK_TRACED, which changed."""
    bits = {r.name: r.value for r in TASK_STATES.at(kernel)}
    values = {name: bits[one] | bits[two] for name, (one, two) in COMBINED.items()}
    traced = bits["__TASK_TRACED"]
    values["TASK_TRACED"] = traced if checked(kernel) >= (6, 1) else traced | bits["TASK_WAKEKILL"]
    return values


def state_letter(state: int, exit_state: int = 0, kernel: Version = DEFAULT) -> str:
    """Return the letter that /proc/PID/stat and ps(1) show.

    Follows __task_state_index() of include/linux/sched.h, and get_task_state() of fs/proc/array.c before v4.14.

    :param state: ``task_struct.__state``
    :param exit_state: ``task_struct.exit_state``
    """
    series = checked(kernel)
    if series < (4, 14):
        # Parked kernel threads are shown as sleeping.
        reported = 0x1 if state == 0x200 else (state | exit_state) & 0x3F
        return LETTERS[reported.bit_length()]
    reported = (state | exit_state) & 0x7F
    if state == _IDLE or (series >= (6, 1) and state & _IDLE == _IDLE):
        reported = 0x80
    if (series == (5, 15) and state == 0x1000) or (series >= (6, 1) and state & 0x9000):
        reported = 0x2                          # TASK_RTLOCK_WAIT, TASK_FROZEN
    return LETTERS[reported.bit_length()]


def preempted_bit(kernel: Version = DEFAULT) -> int:
    """Return the bit of ``prev_state`` that sched_switch shows as ``+``: preempted while runnable."""
    return 0x1000 if checked(kernel) <= (4, 14) else 0x100


def prev_state_text(prev_state: int, kernel: Version = DEFAULT) -> str:
    """Show sched_switch's ``prev_state`` as the event's print format does: ``S``, ``D``, ``R+``.

    Follows include/trace/events/sched.h.  Up to v4.13 the format calls 0x10 ``Z`` and 0x20 ``X``, although EXIT_DEAD is
    0x10 and EXIT_ZOMBIE 0x20; the text is what that kernel prints.  Linux 4.14 recorded the *index* of the state, and
    its format shows the index's bits; `prev_state_letter` undoes that.
    """
    preempted = preempted_bit(kernel)
    letters = "SDTtZXxKWPN" if checked(kernel) < (4, 14) else "SDTtXZPI"
    mask = 0xFFF if checked(kernel) < (4, 14) else 0xFF
    value = prev_state & mask
    words = [letter for bit, letter in enumerate(letters) if value >> bit & 1]
    rest = value >> len(letters) << len(letters)
    if rest:
        words.append(f"{rest:#x}")
    return ("|".join(words) or "R") + ("+" if prev_state & preempted else "")


def prev_state_letter(prev_state: int, kernel: Version = DEFAULT) -> str | None:
    """Return the one letter of `LETTERS` that a ``prev_state`` stands for; None where no letter fits.

    Preempted tasks are ``R``.  Up to v4.13 the word is the raw state, read as `state_letter` reads it; TASK_DEAD is
    ``X`` there, for whether somebody has yet to reap the task is not in that word.
    """
    series = checked(kernel)
    value = prev_state & ~preempted_bit(kernel)
    if series < (4, 14):
        if value >= 0x1000:
            return None
        return "X" if value & 0x40 else state_letter(value, 0, kernel)
    if series == (4, 14):
        return LETTERS[value] if value < len(LETTERS) else None
    if value.bit_count() > 1 or value > 0x80:
        return None
    return LETTERS[value.bit_length()]
