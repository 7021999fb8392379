"""``taskscope check``: its lines, its objects, and what it tells a script."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from conftest import run_cli
from lives_json import run_inside
from taskscope.host import probes
from taskscope.host.answer import Answer, Host


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have answers of all kinds."""
    found = [Answer("root", "recording", "yes", "uid 0"),
             Answer("tracefs", "recording", "no", "not mounted", "sudo mount -t tracefs nodev /sys/kernel/tracing"),
             Answer("events", "recording", "unknown", "no tracefs is mounted",
                    "sudo mount -t tracefs nodev /sys/kernel/tracing"),
             Answer("kvm", "guests", "partly", "a long sentence " * 8 + "with \x1b[31m in it")]

    def look(host: Host | None = None, names: Sequence[str] | None = None) -> list[Answer]:
        return [a for a in found if names is None or a.name in names]

    monkeypatch.setattr(probes, "look", look)


@pytest.mark.usefixtures("answers")
def test_lines() -> None:
    """Lines fit 80 columns; a remedy stands below what it mends, once in a group; control characters are escaped."""
    code, out, err = run_inside("check")
    assert (code, err) == (0, "")
    lines = out.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1:10] == [
        "", "RECORDING",
        "root             yes      uid 0",
        "tracefs          no       not mounted",
        "                 mend: sudo mount -t tracefs nodev /sys/kernel/tracing",
        "events           unknown  no tracefs is mounted",
        "", "GUESTS",
        "kvm              partly   a long sentence a long sentence a long sentence a",
    ]
    assert b"\x1b" not in out


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize(("needs", "expected"), [
    (["root"], 0), (["tracefs"], 1), (["kvm"], 1), (["events"], 1), (["root", "tracefs"], 1)])
def test_what_a_script_needs(needs: list[str], expected: int) -> None:
    """--need shows what was asked for only, and ends with 1 unless all of it works, with and without --json."""
    args = [word for name in needs for word in ("--need", name)]
    code, out, _ = run_inside("check", *args)
    assert code == expected
    named = [line.split()[0] for line in out.decode().splitlines() if not line.startswith(" ")]
    assert named == needs
    assert run_inside("check", "--json", *args)[0] == expected


def test_an_unknown_need() -> None:
    """A name that there is not is a usage error with what comes near."""
    code, _, err = run_inside("check", "--need", "tracfs")
    assert code == 2
    assert "did you mean tracefs" in err


def test_on_this_host() -> None:
    """On the machine of the tests every answer is an object with the same keys, quickly, and exit code 0."""
    ran = run_cli("check", "--json")
    assert (ran.code, ran.err) == (0, b"")
    objects = [json.loads(line) for line in ran.out.splitlines()]
    assert [o["name"] for o in objects] == list(probes.PROBES)
    for o in objects:
        assert list(o) == ["name", "group", "works", "state", "detail", "remedy"]
        assert o["works"] in (True, False, None)
        assert o["state"] in ("yes", "no", "partly", "unknown")
    text = run_cli("check")
    assert (text.code, text.err) == (0, b"")
    assert max(map(len, text.out.decode().splitlines())) <= 80
    for o in objects:
        assert f"\n{o['name']} " in text.out.decode()
