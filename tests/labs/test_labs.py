"""Every lab passes on every flavour that has the thing, and notices its mutant."""

from __future__ import annotations

import inspect
import json

import pytest
from click.testing import CliRunner

from taskscope.cli.main import cli
from taskscope.errors import UsageError
from taskscope.labs.catalog import TITLES, get
from taskscope.labs.lab import run_lab
from taskscope.labs.mutant import Mutant
from taskscope.model.flavours import DEFAULT, FLAVOURS

#: the rows of the notes that the executable kernel answers alone
ROWS = [
    "ps-ely",
    "ps-ejH",
    "ps-axjf",
    "terminals",
    "pid",
    "comm",
    "fork",
    "fork-both",
    "vfork",
    "clone-flags",
    "copy-process",
    "wake-up-new-task",
    "raspbian-proc",
    "raspbian-exit",
    "exec-whoami",
    "kthread-create",
    "kthread-kinds",
    "kthreadd-wakeup",
    "do-exit",
    "task-dead",
    "task-struct",
    "parents",
    "signals",
    "zombie",
    "times",
    "thread-info",
    "tif-flags",
    "irq-context",
    "softirq-context",
    "preempt",
    "cpu",
    "stack-alloc",
    "fork-gdb",
    "set-ftrace",
    "low-memory-killer",
    "kernel-fault",
    "decode",
]


def test_every_row_has_its_lab():
    """No row of the notes is missing, and each lab bears the name under which it is listed."""
    assert list(TITLES) == ROWS
    assert all(get(name).name == name and get(name).title == title for name, title in TITLES.items())


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", ROWS)
def test_lab_passes(name: str, flavour: str):
    """What the notes say must be seen is seen."""
    lab = get(name)
    if flavour not in lab.flavours:
        pytest.skip(f"{flavour} has no such thing")
    run = run_lab(lab, flavour)
    assert run.checks
    assert run.passed, "\n".join(f"{check.what}: {check.seen}" for check in run.checks if not check.passed)
    assert run.output, "a lab shows what to look at"


@pytest.mark.parametrize("flavour", [DEFAULT, "6.18-x86_64"])
@pytest.mark.parametrize("name", ROWS)
def test_mutant_fails(name: str, flavour: str):
    """With one line of the kernel changed the lab sees that something is wrong, on the first flavour and the last."""
    run = run_lab(get(name), flavour, mutant=True)
    assert not run.passed
    assert run.crash is None or run.crash.startswith(("the kernel fell over: ", "the lab cannot go on: "))


@pytest.mark.parametrize("name", ROWS)
def test_a_lab_says_what_it_needs(name: str):
    """What a lab looks with on real kernels is what its functions use; and it says what is different there."""
    lab = get(name)
    source = inspect.getsource(lab.real) if lab.real is not None else ""
    needs = {word for word, used in (
        ("events", ".record(" in source), ("functions", "traceable(" in source or "set_ftrace.sh" in source),
        ("memory", lab.memory is not None)) if used}
    assert needs == set(lab.needs) - {"/proc"}
    assert "/proc" not in lab.needs or "/proc" in source or "program(" in source
    assert bool(lab.real_note) == (len(lab.machines) > 1)


@pytest.mark.parametrize(("name", "said"), [
    ("irq-context", "the kernel fell over: irq_exit() without irq_enter()"),
    ("vfork", "the lab cannot go on: wait_for_vfork_done() was not reached"),
    ("zombie", None),
])
def test_whose_fault_it_is(name: str, said: str | None):
    """A kernel that stumbles over itself is told apart from a lab that does not find what it looks at."""
    run = run_lab(get(name), DEFAULT, mutant=True)
    if said is None:
        assert run.crash is None
        assert [check.what for check in run.checks if not check.passed] == ["there is a task in state Z"]
    else:
        assert (run.crash or "").startswith(said)


@pytest.mark.parametrize(
    ("name", "seed"),
    [(name, 1) for name in ROWS] + [(name, seed) for name in ("zombie", "raspbian-proc", "parents") for seed in (2, 3)],
)
def test_lab_passes_under_other_schedules(name: str, seed: int):
    """What must be seen does not depend on which of the allowed schedules the machine takes."""
    run = run_lab(get(name), DEFAULT, seed=seed)
    assert run.passed, "\n".join(f"{check.what}: {check.seen}" for check in run.checks if not check.passed)


def test_same_seed_same_output():
    """A lab shows the same, to the byte, each time it is run with the same seed."""
    first, second = (run_lab(get("zombie"), DEFAULT, seed=5) for _ in range(2))
    assert first.output == second.output


def test_mutant_leaves_nothing():
    """After a run with a mutant the kernel's function is what it was."""
    lab = get("zombie")
    before = lab.mutant.target().__code__
    run_lab(lab, DEFAULT, mutant=True)
    assert lab.mutant.target().__code__ is before


def test_mutant_of_a_line_that_is_gone():
    """A mutant whose line is not in the kernel any more is an error, not a mutant without effect."""
    with pytest.raises(UsageError, match="stands 0 times"):
        Mutant("gone", "kernel.exit:exit_notify", "no such line", "").code()


def test_unknown_lab():
    """A mistyped name is answered with the near ones."""
    with pytest.raises(UsageError, match="zombie"):
        get("zombi")


def test_list_json():
    """`lab list --json` gives one object a lab."""
    result = CliRunner().invoke(cli, ["lab", "list", "--json"])
    assert result.exit_code == 0
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert [row["name"] for row in rows] == ROWS
    assert all(row["machines"] == list(get(row["name"]).machines) and row["question"] and row["mutant"] for row in rows)


def test_lab_command():
    """`lab NAME` asks, shows, checks; `--answer` tells; the exit code says whether all was seen."""
    result = CliRunner().invoke(cli, ["lab", "zombie", "--answer"])
    assert result.exit_code == 0, result.output
    assert "Question:" in result.output
    assert "Answer:" in result.output
    assert "<defunct>" in result.output
    result = CliRunner().invoke(cli, ["lab", "zombie", "--mutant", "-q"])
    assert result.exit_code == 1
    assert "FAIL" in result.output
