"""The manual's tutorial: every lab has its place in it, and what it shows was made by running them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from conftest import ROOT, run_cli
from taskscope.labs.catalog import TITLES, get
from taskscope.labs.lab import Check, Lab, Run

FOLDER = ROOT / "docs/tutorial"
#: the way of the study notes: who is there, births, a log, kernel threads, ends, the descriptor, thread_info, contexts
ORDER = """
ps-ely ps-ejH ps-axjf terminals pid comm
fork fork-both fork-gdb vfork clone-flags copy-process wake-up-new-task
set-ftrace raspbian-proc raspbian-exit exec-whoami
kthread-create kthread-kinds kthreadd-wakeup
signals do-exit task-dead zombie parents
task-struct times decode
thread-info stack-alloc tif-flags cpu
irq-context softirq-context preempt
low-memory-killer kernel-fault
"""


def chapters() -> list[str]:
    """Return the chapters in their order."""
    toctree = (FOLDER / "index.md").read_text().partition("```{toctree}")[2].partition("```")[0]
    return [line for line in toctree.split() if not line.startswith(":") and line != "1"]


def test_each_lab_is_in_the_tutorial_once() -> None:
    """Every lab of `lab list` is shown in one chapter, in the order of the notes, and no other is."""
    texts = [(FOLDER / f"{chapter}.md").read_text() for chapter in chapters()]
    shown = [name for text in texts for name in re.findall(r"generated/lab-([\w-]+)\.md", text)]
    assert sorted(ORDER.split()) == sorted(TITLES)
    assert shown == ORDER.split()
    assert {path.stem for path in FOLDER.glob("*.md")} == {"index", *chapters()}


def test_the_pictures_are_there_and_described() -> None:
    """Each picture that a chapter shows exists, is small, and says in words what is on it."""
    found = 0
    for chapter in chapters():
        for name, alt in re.findall(r"```\{image\} \.\./pictures/([\w.-]+)\n:alt: (.*)\n```",
                                    (FOLDER / f"{chapter}.md").read_text()):
            assert (ROOT / "docs/pictures" / name).stat().st_size < 150_000
            assert len(alt) > 40
            found += 1
    assert found == sum((FOLDER / f"{chapter}.md").read_text().count("```{image}") for chapter in chapters()) > 5


def test_commands_of_the_chapters_are_commands() -> None:
    """Each `taskscope …` that a chapter names is a command with options that it has; labs exist, tables are shown."""
    shown = 0
    from taskscope.cli.main import VERBS, cli

    for chapter in ("index", *chapters()):
        text = (FOLDER / f"{chapter}.md").read_text()
        for line in re.findall(r"(?:\$ (?:sudo )?|`(?:sudo )?)taskscope ([a-z]+[^`\n#]*)", text):
            verb, *words = line.split()
            assert verb in VERBS, line
            command = cli.get_command(None, verb)  # type: ignore[arg-type]
            assert command is not None
            known = {option for param in command.params for option in param.opts}
            for word in words:
                if word.startswith("--"):
                    assert word in known, line
            if verb == "lab":
                assert words[0] in {"list", *TITLES}, line
            elif verb in ("ps", "tree"):
                # Out of /proc, for anybody: the columns and letters are what is looked at.
                done = run_cli(verb, *(word for word in words if word != "--live"))
                assert done.code == 0, line
                shown += 1
    assert shown >= 3


def test_a_lab_that_fails_is_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The manual is not built with a lab that does not pass; of one that does, output, checks and answer are shown."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import labpages

    lab = get("zombie")

    def fails(one: Lab, flavour: str) -> Run:
        run = Run(one, flavour)
        run.checks.append(Check("it is seen", False, "nothing"))
        return run

    with monkeypatch.context() as patch:
        patch.setattr(labpages, "run_lab", fails)
        with pytest.raises(SystemExit, match="does not pass"):
            labpages.write_labs(tmp_path)
    run = labpages.run_lab(lab, "4.19-arm")
    real = next(json.loads(line) for line in labpages.REAL.read_text().splitlines() if '"name":"zombie"' in line)
    text = labpages._page(lab, run, real)
    for told in (run.output, real["output"]):
        assert all(line in text for part in told for line in part.splitlines()), "nothing is cut"
    assert lab.answer in text
    assert lab.real_note in text
    plain = " ".join(text.split())
    assert all(f"ok {' '.join(what.split())}" in plain
               for what in [*(check.what for check in run.checks), *(check["what"] for check in real["checks"])])
    with pytest.raises(SystemExit, match="make it again"):
        labpages._page(lab, run, None)
    sys.modules.pop("labpages")


def test_the_real_runs_are_those_of_the_labs() -> None:
    """Every lab for real kernels has a run on one in the manual, in a guest if it can, which passed; no other has."""
    rows = [json.loads(line) for line in (ROOT / "docs/labs-real.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == [name for name in TITLES if len(get(name).machines) > 1]
    for row in rows:
        assert row["passed"]
        assert row["release"]
        assert row["machine"].partition(":")[0] == get(row["name"]).machines[-1]


def test_chapters_say_what_is_known_before() -> None:
    """Each chapter begins with what is needed from those before it, and names none that comes later."""
    order = chapters()
    for n, chapter in enumerate(order):
        first = (FOLDER / f"{chapter}.md").read_text().split("\n\n")[1]
        assert first.startswith("*From before")
        named = re.findall(r"\[(\d)\]\((\w+)\.md\)", first)
        assert all(order[int(number) - 1] == name and int(number) <= n for number, name in named)
        assert named or n == 0
