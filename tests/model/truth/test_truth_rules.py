"""Conformance rules: the model, under several schedules and in every flavour, says what this host's kernel says."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from taskscope.labs.truth import rules
from taskscope.labs.truth.rules import compare, host, model, mutants, recorded

ALL = rules.load()
GOLDEN = Path(__file__).parents[2] / "golden" / "rules"


@pytest.mark.parametrize("group", rules.GROUPS)
def test_the_model_holds_the_rules_of_the_host(group: str) -> None:
    """Every rule of a file has on the model, under four schedules and in each flavour, the host's transcript."""
    todo = rules.group(group)
    real = recorded.read(GOLDEN / f"{group}.txt")
    missing = [rule for rule in todo if rule.name not in real]
    if missing and not host.is_root():
        pytest.skip("rules that are not recorded need root: tools/truth.py --rules --record DIR")
    found = compare.check(todo, real={**real, **host.run(missing)})
    assert not found, "\n\n".join(map(str, found))


@pytest.mark.real
@pytest.mark.skipif(not host.is_root(), reason="rules need a PID namespace and root")
@pytest.mark.skipif(not os.uname().release.startswith("6.18."), reason="what was recorded is of Linux 6.18")
def test_the_host_says_what_was_recorded() -> None:
    """The host gives every rule the transcript that was recorded; so it is the same each time."""
    real = {name: said for group in rules.GROUPS for name, said in recorded.read(GOLDEN / f"{group}.txt").items()}
    todo = [rule for rule in ALL if rule.name in real]
    # Rules that look at sleepers (wait until one is in S, then look) can come too early on a busy machine: once more.
    for _ in range(3):
        said = host.run(todo)
        todo = [rule for rule in todo if said[rule.name] != real[rule.name]]
        if not todo:
            break
    assert [rule.name for rule in todo] == []


def test_each_rule_is_a_sentence_of_its_own() -> None:
    """A rule is told in one sentence, and no two are the same."""
    texts = [rule.text for rule in ALL]
    assert len(set(texts)) == len(texts)
    for rule in ALL:
        assert rule.text.endswith("."), rule.name
        assert len({rule.name for rule in ALL}) == len(ALL)


def test_pids_have_names_by_order_of_birth() -> None:
    """A transcript names processes by order of birth, and lists are written with commas."""
    found = model.run(rules.load(["selftest.speaks"]))
    assert found == {"selftest.speaks": ["@1 -@1 @0 init 0 1,two none"]}


def test_on_the_model_what_goes_wrong_is_told_and_the_next_rule_is_played() -> None:
    """On the model a hang is named with who hangs where, an exception with its last line; other rules go on."""
    found = model.run(rules.load(["selftest"]), leaks=True)
    assert found["selftest.hangs"] == [
        "before", "hangs: not at its end after 20 s", "@0 state 0x1 in system call pause"]
    assert found["selftest.fails"] == ["before", "ended 0x0100", "stderr: OSError: [Errno 22] Invalid argument"]
    assert found["selftest.leaves"] == ["asleep"]
    assert found["selftest.forks"] == ["once", "child", "parent"]


@pytest.mark.real
@pytest.mark.skipif(not host.runs_here(), reason="rules need a PID namespace on the host")
def test_on_the_host_what_goes_wrong_is_told_and_the_next_rule_is_played() -> None:
    """On the host a hang is ended after its time and named, and what a rule leaves is gone before the next."""
    found = host.run(rules.load(["selftest"]), seconds=0.3)
    assert found["selftest.hangs"][:2] == ["before", "hangs: not at its end after 0.3 s"]
    assert found["selftest.hangs"][2].startswith("@0 S in system call ")
    assert found["selftest.fails"] == ["before", "ended 0x0100", "stderr: OSError: [Errno 22] Invalid argument"]
    assert found["selftest.leaves"] == ["asleep"]
    assert found["selftest.forks"] == ["once", "child", "parent"]
    assert found["selftest.speaks"] == ["@1 -@1 @0 init 0 1,two none"]


def test_a_difference_is_found_and_shown() -> None:
    """A transcript that is not the host's is a divergence, and so is an equal one that is said to differ."""
    rule = rules.load(["selftest.forks"])[0]
    said = {rule.name: ["once", "child", "parent"]}
    assert not list(compare.differing([rule], said, said, "here", "4.19-arm"))
    found = list(compare.differing([rule], said, {rule.name: ["once", "parent", "child"]}, "here", "4.19-arm"))
    assert "+parent" in found[0].text
    noted = dataclasses.replace(rule, differs={"4.19-arm": "some commit"})
    assert "should not be: some commit" in next(compare.differing([noted], said, said, "here", "4.19-arm")).text
    assert not list(compare.differing([noted], said, {rule.name: []}, "here", "4.19-arm"))
    open_ = dataclasses.replace(rule, varies={"4.19-arm": "some commit"})
    assert not list(compare.differing([open_], said, {rule.name: []}, "here", "4.19-arm"))
    assert [one.rule for one in compare.broken([rule], {rule.name: []}, "here")] == [rule]


def test_recorded_transcripts_are_read_as_they_were_written(tmp_path: Path) -> None:
    """A file of transcripts gives back what was written, lines without words too."""
    said = {"a.one": ["first", "", "  # Linux"], "a.two": []}
    recorded.write(tmp_path / "new" / "a.txt", said, "6.18.44")
    assert recorded.read(tmp_path / "new" / "a.txt") == said
    assert recorded.read(tmp_path / "none.txt") == {}


def test_changed_kernels_are_noticed() -> None:
    """A kernel with one line changed breaks the rule that is about that line: a third of what tools/truth.py tries."""
    some = mutants.CHANGES[::3]
    assert len(some) >= 15
    assert [change.rule for change in some if not mutants.noticed(change)] == []


def test_every_change_is_one_of_the_kernel_and_has_its_rule() -> None:
    """Each changed line stands in the kernel exactly once, and the rule that is to notice it exists."""
    names = {rule.name for rule in ALL}
    for change in mutants.CHANGES:
        change.mutant.code()
        assert change.rule in names
