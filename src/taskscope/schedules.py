"""Schedules by name, and choice logs behind recordings.

``seed:N`` draws, ``pct:DEPTH[:SEED]`` sets priorities, ``file:PATH`` repeats a run from its recording.  The log stands
behind the recording proper and before the saved tasks: its machine (a line of JSON) and its choices (zlib), its
length, a magic number.  A run in the usual schedule has no choices.
"""

from __future__ import annotations

import json
import struct
import sys
import zlib
from array import array
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskscope.errors import ScheduleError, UsageError

if TYPE_CHECKING:
    from taskscope.model.machine import Machine
    from taskscope.model.schedule import Schedule

_MAGIC: Final = b"TSCHOICE"
_TASKS: Final = b"TSTASKS1"
_TAIL: Final = struct.Struct("<Q8s")
#: no log has so many bytes that more would be meant
_MOST: Final = 1 << 30
FORMS: Final = "seed:N, pct:DEPTH[:SEED], file:PATH"


class Order(NamedTuple):
    """What was asked for: the schedule, and the machine that it is for."""

    schedule: Schedule | None  # None: the usual one
    seed: int
    #: cpus, flavour, hz, mem, bare, preempt, threadirqs of the machine that the log is of; empty if any will do
    machine: Mapping[str, Any]


def order(text: str) -> Order:
    """Make a schedule from its name.

    :raises UsageError: it is none of `FORMS`, or a number is out of range
    :raises ScheduleError: the file has no choice log, or a damaged one
    """
    kind, colon, rest = text.partition(":")
    if kind == "seed" and colon:
        seed = _number(text, rest, 0)
        return Order(_random(seed), seed, {})
    if kind == "pct" and colon:
        from taskscope.model.schedule import Pct

        depth, _, seed_text = rest.partition(":")
        return Order(Pct(_number(text, depth, 1), _number(text, seed_text or "0", 0)), 0, {})
    path = rest if kind == "file" and colon else text
    if kind != "file" and not Path(path).is_file():
        raise UsageError(f"there is no schedule {text!r}, and no file of that name; it is one of {FORMS}")
    return read_choices(path)


def _number(text: str, digits: str, least: int) -> int:
    if not digits.isdecimal() or int(digits) < least or len(digits) > 18:
        raise UsageError(f"schedule {text!r}: {digits!r} is no number from {least} on; it is one of {FORMS}")
    return int(digits)


def _random(seed: int) -> Schedule | None:
    from taskscope.model.schedule import Random

    return Random(seed) if seed else None


def append_choices(path: str | PathLike[str], m: Machine) -> None:
    """Put a machine's choice log behind a recording that has just been written."""
    from taskscope.model.schedule import ChoiceLog

    schedule = m.schedule
    log = ChoiceLog() if schedule is None else schedule.log
    head = {
        "schedule": "" if schedule is None else schedule.name, "seed": m.seed, "flavour": m.flavour.name,
        "cpus": m.nr_cpus, "hz": m.hz, "mem": m.mem, "bare": m.bare,
        "preempt": _word(m.boot_command_line, "preempt"), "threadirqs": "threadirqs" in m.boot_command_line.split(),
        "kinds": log.kinds, "others": log.others,
    }
    asked = array("H", log.asked)
    if sys.byteorder == "big":
        asked.byteswap()
    block = zlib.compress(json.dumps(head, separators=(",", ":")).encode() + b"\n" + asked.tobytes())
    with Path(path).open("ab") as file:
        file.write(block + _TAIL.pack(len(block), _MAGIC))


def _word(command_line: str, name: str) -> str | None:
    """Return what a kernel's command line says of a name; None if nothing."""
    return next((word.partition("=")[2] for word in command_line.split() if word.startswith(f"{name}=")), None)


def read_choices(path: str) -> Order:
    """Return what repeats the run that a recording is of.

    :raises ScheduleError: it has no choice log, or a damaged one
    """
    from taskscope.model.schedule import ChoiceLog, Replay

    block = _block(path)
    try:
        unpack = zlib.decompressobj()
        data = unpack.decompress(block, _MOST)
        if unpack.unconsumed_tail:
            raise ValueError("too long")
        line, _, rest = data.partition(b"\n")
        head = json.loads(line)
        asked = array("H", rest)
        if sys.byteorder == "big":
            asked.byteswap()
        kinds = [(str(what), int(n)) for what, n in head["kinds"]]
        if asked and max(asked) >= len(kinds):
            raise ValueError("a choice of no kind")
        log = ChoiceLog(kinds, asked, [(int(at), int(option)) for at, option in head["others"]])
        for at, option in log.others:
            if not 0 < option < kinds[asked[at]][1]:
                raise ValueError(f"choice {at:,} has no option {option}")
        machine = {name: head[name] for name in ("cpus", "flavour", "hz", "mem", "bare", "preempt", "threadirqs")}
        schedule = Replay(str(head["schedule"]), log) if head["schedule"] else None
        return Order(schedule, int(head["seed"]), machine)
    except (zlib.error, ValueError, KeyError, TypeError, IndexError) as error:
        raise ScheduleError(f"{path}: its choice log cannot be read ({error}); record the run again") from None


def _block(path: str) -> bytes:
    """Return the bytes of a file's choice log."""
    try:
        with Path(path).open("rb") as file:
            end = file.seek(0, 2)
            while end >= _TAIL.size:
                file.seek(end - _TAIL.size)
                length, magic = _TAIL.unpack(file.read(_TAIL.size))
                start = end - _TAIL.size - length
                if magic not in (_MAGIC, _TASKS) or start < 0:
                    break
                if magic == _MAGIC:
                    file.seek(start)
                    return file.read(length)
                end = start
    except OSError as error:
        raise ScheduleError(f"{path}: {error.strerror or error}") from None
    raise ScheduleError(f"{path} has no choice log: it is no recording of a run of the executable kernel")
