"""What the commands print on real recordings, kept as files; ``pytest --update-golden`` rewrites them.

A difference is to be read like any change of what people see: is it truer, or clearer, than before?
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lives_json import run_inside

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

#: name of the file -> command line, run in tests/data
COMMANDS = {
    "help": "--help",
    "help-report": "report --help",
    "help-lives": "lives --help",
    "help-life": "life --help",
    "help-ps": "ps --help",
    "help-tree": "tree --help",
    "help-sched": "sched --help",
    "help-kills": "kills --help",
    "help-forks": "forks --help",
    "help-export": "export --help",
    "help-check": "check --help",
    "lives-zombie": "lives d05-zombie.dat",
    "lives-execthread": "lives d32-execthread-612.dat",
    "lives-cycles": "lives d34-tsc-612.dat",
    "lives-wide": "lives d06-threads.dat -v",
    "life-killed": "life -i d05-zombie.dat 159",
    "life-exit-function-stacks": "life -i d02-exit0-v6.dat 126",
    "life-thread-group": "life -i d06-threads.dat 168",
    "life-stopped": "life -i d08-signals.dat 201",
    "life-orphan": "life -i d04-orphan-v6.dat 149",
    "life-exec-thread": "life -i d32-execthread-612.dat 208",
    "life-lost-events": "life -q -i d12-overrun.dat 250",
    "life-oom": "life -i d11-oom.dat hog",
    "life-text": "life -q -i d15-text-stack.trace.txt 297",
    "life-verbose": "life -i d05-zombie.dat -v 159",
    "ps-ely": "ps -i d10-subreaper.dat -ely",
    "ps-ejH": "ps -i d10-subreaper.dat --at +0.1 -ejH",
    "ps-axjf": "ps -i d10-subreaper.dat --at +0.1 axjf",
    "tree": "tree -i d10-subreaper.dat",
    "tree-threads": "tree -i d06-threads.dat",
    "tree-at": "tree -i d10-subreaper.dat --at +0.1",
    "sched": "sched d09-sched.dat",
    "kills": "kills d08-signals.dat",
    "kills-all": "kills d11-oom.dat --all",
    "forks": "forks d13-clones.dat",
    "forks-verbose": "forks d13-clones.dat -v",
    "report-signals": "report d05-zombie.dat -F signal",
    "report-json": "report d05-zombie.dat -F signal_generate -F sched_process_exec --json",
    "report-stacks": "report -q d15-text-stack.trace.txt -F sched_process_exit",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_golden(name: str, data: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A command prints what it printed when its output was last looked at."""
    monkeypatch.chdir(data)
    monkeypatch.setenv("NO_COLOR", "1")
    code, out, err = run_inside(*COMMANDS[name].split())
    assert (code, err) == (0, "")
    path = GOLDEN / f"{name}.txt"
    shown = f"$ taskscope {COMMANDS[name]}\n{out.decode()}"
    if request.config.getoption("--update-golden"):
        path.write_text(shown)
    assert shown == path.read_text(), "if the new output is right: pytest --update-golden"


def test_no_golden_file_is_left_over() -> None:
    """Each file belongs to a command."""
    assert {p.stem for p in GOLDEN.iterdir() if p.is_file()} == set(COMMANDS)
