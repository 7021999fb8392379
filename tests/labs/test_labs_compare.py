"""Comparing: equal acts are equal, races are allowed, and the first difference is told with both sides."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from taskscope.cli.main import cli
from taskscope.labs.catalog import get
from taskscope.labs.compare import Act, acts_of, broken, compare_acts, compare_recordings, first_difference, roles_of
from taskscope.labs.lab import flavour_of, run_lab
from taskscope.labs.mutant import Mutant
from taskscope.labs.on import acts_of_kept, compare_runs
from taskscope.recording import Recording

DATA = Path(__file__).parent.parent / "data"


def recording(name: str) -> Recording:
    """Open a recording of the test data."""
    return Recording.open(DATA / f"{name}.dat")


@pytest.mark.parametrize("name", ["d03-shellexec", "d05-zombie", "d06-threads", "d08-signals", "d10-subreaper"])
def test_a_recording_equals_itself_and_keeps_the_kernels_order(name: str) -> None:
    """A recording of a real kernel equals itself, and the kernel's promises hold in it."""
    r = recording(name)
    roles, others = roles_of(r)
    assert roles
    assert broken(roles) == []
    assert sum(map(len, acts_of(roles, others).values())) >= len(roles)
    assert str(compare_recordings(r, r)) == "equal"


def test_the_first_difference_is_told_with_both_sides() -> None:
    """Of two recordings of different programs the first act that differs is told, and its two sides."""
    found = compare_recordings(recording("d05-zombie"), recording("d08-signals"))
    assert found.verdict == "differs"
    assert found.difference is not None
    assert "\n  A  " in str(found)
    assert "\n  B  " in str(found)


ACTS = st.lists(st.sampled_from(["creates x", "takes SIGTERM", "ends by itself", "reaps x"]), max_size=6)


SIDE = st.dictionaries(st.sampled_from("pqr"), ACTS, max_size=3)


@given(SIDE, SIDE, st.randoms(use_true_random=False))
def test_times_do_not_count(a: dict[str, list[str]], b: dict[str, list[str]], r: random.Random) -> None:
    """Acts are equal if each task's are equal in its own order, whenever they happened; and only then."""
    def at_some_time(texts: dict[str, list[str]]) -> dict[str, list[Act]]:
        return {role: [Act(at, what) for at, what in zip(sorted(r.sample(range(1000), len(whats))), whats, strict=True)]
                for role, whats in texts.items()}

    filled = [{role: side.get(role, []) for role in "pqr"} for side in (a, b)]
    equal = first_difference(at_some_time(a), at_some_time(b)) is None
    assert equal == (filled[0] == filled[1])
    assert first_difference(at_some_time(a), at_some_time(a)) is None


def test_what_is_unknown_is_no_difference() -> None:
    """A detail that one recording does not tell is not held against the other; one that both tell is."""
    known, other, unknown = (Act(1, "ends by itself", detail) for detail in ("code 0", "code 1", None))
    assert compare_acts({"p": [known]}, {"p": [unknown]}).verdict == "equal"
    assert compare_acts({"p": [known]}, {"p": [other]}).verdict == "differs"


def test_a_race_is_allowed_if_a_schedule_shows_it() -> None:
    """What another schedule of the model shows is allowed, and it says which; schedules after that are not made."""
    a, b, c = ({"p": [Act(1, what)]} for what in ("reaps x", "reaps y", "reaps z"))
    made = []

    def schedules():
        for n, acts in enumerate((a, b, c), 1):
            made.append(n)
            yield acts

    found = compare_acts(a, b, schedules())
    assert (found.verdict, found.schedules, made) == ("allowed", 2, [1, 2])
    assert compare_acts(a, {"p": []}, [b, c]).verdict == "differs"


def test_a_lab_is_the_same_under_every_schedule() -> None:
    """A lab whose tasks do not race shows the same acts under any schedule of the model, and on every flavour."""
    first = acts_of_kept(run_lab(get("raspbian-exit"), "6.1-x86_64").kept[0])
    for flavour, seed in (("6.1-x86_64", 3), ("6.18-x86_64", 0), ("4.19-arm", 7)):
        other = acts_of_kept(run_lab(get("raspbian-exit"), flavour, seed).kept[0])
        assert first_difference(first, other) is None


def test_a_mutant_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model whose dying tasks do not tell their parents does something else than one that is right."""
    monkeypatch.setattr("taskscope.labs.on.SCHEDULES", 3)
    lab = get("raspbian-proc")
    mute = Mutant("the parent is not told", "kernel.signal.notify:do_notify_parent", "    if 0 < sig <= _NSIG:\n",
                  "    if False:\n")
    found = compare_runs(run_lab(lab), run_lab(replace(lab, mutant=mute), mutant=True))
    assert found.verdict == "differs"
    assert found.schedules == 3
    assert found.difference is not None
    assert found.difference.a is not None
    assert found.difference.a.what == "tells shell by SIGCHLD"


@pytest.mark.parametrize(
    ("release", "machine", "flavour"),
    [("4.19.97-v7l+", "armv7l", "4.19-arm"), ("6.1.0-50-cloud-amd64", "x86_64", "6.1-x86_64"),
     ("6.18.44", "x86_64", "6.18-x86_64"), ("6.12.95+deb12-cloud-amd64", "x86_64", "6.18-x86_64"),
     ("?", "", "6.1-x86_64")],
)
def test_flavour_next_to_a_kernel(release: str, machine: str, flavour: str) -> None:
    """A real kernel is compared with the flavour whose names it has."""
    assert flavour_of(release, machine) == flavour


def test_command() -> None:
    """The command says equal with exit code 0, and what differs with 1; --json has both sides."""
    runner = CliRunner()
    same = runner.invoke(cli, ["compare", *[str(DATA / "d05-zombie.dat")] * 2])
    assert (same.exit_code, same.output) == (0, "equal\n")
    other = runner.invoke(cli, ["compare", str(DATA / "d05-zombie.dat"), str(DATA / "d03-shellexec.dat"), "--json"])
    assert other.exit_code == 1
    told = json.loads(other.output)
    assert told["verdict"] == "differs"
    assert told["difference"]["a"] != told["difference"]["b"]


def test_names_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with an escape sequence does not reach the terminal."""
    from taskscope.labs import compare
    from taskscope.labs.compare import Comparison, Difference

    monkeypatch.setattr(compare, "compare_recordings", lambda a, b: Comparison(
        "differs", Difference("evil\x1b[2J", 0, Act(1, "execs \x07"), None)))
    shown = CliRunner().invoke(cli, ["compare", *[str(DATA / "d05-zombie.dat")] * 2]).output
    assert "\x1b" not in shown
    assert "\\x1b" in shown
    assert "\x07" not in shown
