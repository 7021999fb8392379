"""The lines of ``taskscope record --follow``: text that people and awk read, and JSON that fits its schema."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replay import at_once
from taskscope.lives.happenings import Execed, Exited, Forked, Happening, Killed, Lost, Who
from taskscope.trace.source import Clock
from taskscope.views.follow import header, json_line, line
from taskscope.views.text import Paint, width
from taskscope.views.times import Times

ROOT = Path(__file__).parent.parent.parent
TIMES = Times()
SH = Who(911, "sh")
TASK: dict[str, Any] = {"at": 5_000_000_000, "cpu": 1, "pid": 2042, "tgid": 2042, "kind": "process", "comm": "sleep",
                        "parent": SH}
FORK = Forked(**TASK, by=SH, how="fork", clone_flags=0x1200000)
EXEC = Execed(**TASK, filename="/bin/sleep", old_pid=2042, old_comm="sh")
KILL = Killed(**TASK, sig=15, code=0, sender=SH, group=True, result=0)
EXIT = Exited(**TASK, code=3, signal=None, core=None, cause="exit", killer=None, si_code=None, lived=1_500_000)
DEAD = replace(EXIT, code=None, signal=9, core=False, cause="signal", killer=SH, si_code=0)
LOST = Lost(at=5_000_000_000, cpu=1, count=1204)


def what(happening: Happening) -> str:
    """Return the last column."""
    return line(happening, TIMES).split(maxsplit=4)[4]


@pytest.mark.parametrize(
    ("happening", "text"),
    [
        (FORK, "fork"),
        (replace(FORK, how="vfork"), "vfork"),
        (replace(FORK, by=Who(7, "make"), how="clone"), "clone by make 7"),
        (replace(FORK, how=None, by=None), "created"),
        (EXEC, "exec /bin/sleep"),
        (replace(EXEC, old_pid=2050), "exec /bin/sleep  (by its thread 2050)"),
        (KILL, "SIGTERM from sh 911"),
        (replace(KILL, result=2), "SIGTERM from sh 911, already pending"),
        (replace(KILL, sig=18, result=1), "SIGCONT from sh 911"),
        (replace(KILL, sender=None), "SIGTERM from an interrupt"),
        (replace(KILL, sender=Who(2042, "sleep")), "SIGTERM from itself"),
        (replace(KILL, sender=Who(911, None)), "SIGTERM from pid 911"),
        (EXIT, "exit 3 after 1.50ms"),
        (replace(EXIT, code=None, lived=None), "exit ?"),
        (replace(EXIT, kind="thread", cause="group_exit"), "group exit 3 after 1.50ms"),
        (replace(EXIT, cause="exec", code=None), "ended by execve of its group after 1.50ms"),
        (replace(EXIT, code=None, cause="signal"), "killed: by which signal is unknown after 1.50ms"),
        (DEAD, "killed: SIGKILL by sh 911 after 1.50ms"),
        (replace(DEAD, cause="oom"), "killed: SIGKILL by the OOM killer after 1.50ms"),
        (replace(DEAD, signal=11, core=True, si_code=1, killer=Who(2042, "sleep")),
         "killed: SIGSEGV, core dumped after 1.50ms"),
        (replace(DEAD, signal=2, si_code=0x80, killer=Who(30, "kworker/u8:2")),
         "killed: SIGINT by the kernel after 1.50ms"),
        (replace(DEAD, killer=None, si_code=None), "killed: SIGKILL after 1.50ms"),
        (LOST, "LOST 1,204 events of cpu 1"),
        (replace(LOST, count=None), "LOST some events of cpu 1"),
        (replace(EXIT, late=True), "exit 3 after 1.50ms  (late: it happened before what stands above)"),
    ],
    ids=str,
)
def test_every_happening_has_its_words(happening: Happening, text: str) -> None:
    """What is known is said, what is unknown is left out or said to be."""
    assert what(happening) == text


def test_columns_stand_below_their_names() -> None:
    """Each column begins and ends where its header does, in lines of 80 columns for common names."""
    head = header()
    for happening in (FORK, EXEC, KILL, EXIT, DEAD, LOST):
        shown = line(happening, TIMES)
        assert len(shown) <= 80
        assert shown.index(shown.split(maxsplit=4)[4]) == head.index("WHAT")
        assert shown[head.index("PID") + 3] == shown[head.index("PPID") + 4] == " "


@given(st.text(max_size=15), st.text(max_size=40))
def test_hostile_names_keep_the_columns(comm: str, filename: str) -> None:
    """Whatever a program calls itself: one line, four words before the last column, nothing a terminal obeys."""
    shown = line(replace(EXEC, comm=comm, filename=filename), TIMES)
    assert shown.isprintable()
    words = shown.split(maxsplit=4)
    assert words[:3] == ["5.000000", "2042", "911"]
    assert words[4].startswith("exec ")


def test_wide_names_line_up() -> None:
    """The last column is aligned in terminal cells."""
    shown = line(replace(EXEC, comm="한글"), TIMES)
    assert width(shown[:shown.index("exec")]) == header().index("WHAT")


def test_colour_is_an_addition() -> None:
    """Without its colours a painted line is the plain one."""
    painted = line(DEAD, TIMES, Paint(True))
    assert painted != line(DEAD, TIMES)
    assert painted.replace("\x1b[31m", "").replace("\x1b[0m", "") == line(DEAD, TIMES)


def test_a_counter_is_shown_as_it_is() -> None:
    """Stamps of a clock that counts cycles are no seconds."""
    assert line(FORK, Times(Clock("x86-tsc", "cycles"))).split()[0] == "5000000000"


@cache
def validator() -> Any:
    """Return the validator of the schema that the manual shows."""
    import jsonschema

    from taskscope.cli.schemas import schema

    return jsonschema.Draft202012Validator(schema("record"))


@pytest.mark.parametrize("happening", [FORK, EXEC, KILL, EXIT, DEAD, LOST, replace(
    FORK, tgid=None, kind=None, comm=None, parent=None, by=None, how=None, clone_flags=None)], ids=str)
def test_json_fits_the_schema_and_misses_nothing(happening: Happening) -> None:
    """Each line has exactly the keys of its schema, in that order; without one it does not fit."""
    row = json.loads(json_line(happening))
    validator().validate(row)
    schema = next(v for v in validator().schema["oneOf"] if v["title"] == row["event"])
    assert list(row) == schema["required"]
    for key in row:
        assert not validator().is_valid({k: v for k, v in row.items() if k != key})


@pytest.mark.parametrize("name", ["d08-signals.dat", "d11-oom.dat", "d12-overrun.dat", "d32-execthread-612.dat",
                                  "d37-raw16k-612"])
def test_real_lines_fit_the_schema(name: str) -> None:
    """Every line of real recordings fits the schema and is one line of ASCII."""
    told = at_once(ROOT / "tests" / "data" / name, threads=True)
    assert told
    for happening in told:
        text = json_line(happening)
        assert text.isascii()
        assert "\n" not in text
        validator().validate(json.loads(text))
