"""The package around the code: what an import costs, what a newcomer's files promise, what must not be in them."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT
from lives_json import run_inside
from taskscope.cli.main import VERBS

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXAMPLE = ROOT / "examples" / "recordings" / "raspbian_proc.dat"
DUMP = ROOT / "tests/data/vmcore/debian12-amd64.kdump"
SKIP = {".git", ".venv", "__pycache__", "_build", "dist", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache",
        ".hypothesis", ".import_linter_cache"}
HEAVY = ("numpy", "polars", "click", "rich", "zstandard")
ROOMS = ["taskscope", *sorted(f"taskscope.{p.name}" for p in (ROOT / "src" / "taskscope").iterdir()
                              if (p / "__init__.py").exists())]


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules and the modules of taskscope that a fresh interpreter has after `code`."""
    show = "import sys; print(*sorted(sys.modules))"
    # Without site, so that nothing but the code imports: .pth files of other packages may.
    packages = [p for p in sys.path if p.endswith("-packages")]
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT / "src"), *packages]))
    done = subprocess.run([sys.executable, "-S", "-c", f"{code}\n{show}"], env=env, check=True, capture_output=True,
                          text=True)
    return set(done.stdout.split())


def texts() -> list[tuple[Path, str]]:
    """Return every text file of the project with its path; recordings and their texts (tests/data) are not ours."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
                                 "--exclude-standard"], check=True, capture_output=True).stdout
        paths = [Path(os.fsdecode(name)) for name in listed.split(b"\0") if name]
    else:
        paths = [p.relative_to(ROOT) for p in ROOT.rglob("*") if not SKIP & set(p.relative_to(ROOT).parts)]
    found = []
    for path in paths:
        file = ROOT / path
        if not file.is_file() or path.parts[:2] == ("tests", "data"):
            continue
        try:
            found.append((path, file.read_text("utf-8")))
        except UnicodeDecodeError:
            continue
    return found


def test_import_taskscope_imports_nothing_heavy() -> None:
    """`import taskscope` costs next to nothing: none of the packages that it depends on."""
    modules = loaded_by("import taskscope; taskscope.__version__")
    assert "taskscope" in modules
    assert modules.isdisjoint(HEAVY)
    # An empty package, whose name the function `snapshot` takes.
    assert {m for m in modules if m.startswith("taskscope.")} == {"taskscope.snapshot"}


def test_help_imports_only_click() -> None:
    """What `taskscope --help` needs is Click and nothing that reads recordings."""
    modules = loaded_by("from taskscope.cli.main import run; run(['--help'])")
    assert "click" in modules
    assert modules.isdisjoint(set(HEAVY) - {"click"})


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_can_be_imported_first(room: str) -> None:
    """Every room can be the first one that an interpreter imports: there is no circle that only luck hides."""
    assert room in loaded_by(f"import {room}")


def test_polars_and_rich_are_imported_in_functions() -> None:
    """No module imports Polars or Rich when it is itself imported."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = ([a.name for a in node.names] if isinstance(node, ast.Import) else
                     [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not [n for n in names if n.split(".")[0] in ("polars", "rich")], path


def test_only_the_commands_print() -> None:
    """`print` is called in taskscope.cli and nowhere below it."""
    for path in (ROOT / "src" / "taskscope").rglob("*.py"):
        if "cli" in path.parts:
            continue
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)
                 and isinstance(n.func, ast.Name) and n.func.id == "print"]
        assert not calls, path


def test_the_versions_are_equal() -> None:
    """pyproject.toml, the package and `taskscope --version` name the same version, and the changelog has it."""
    import taskscope

    version = PYPROJECT["project"]["version"]
    assert taskscope.__version__ == version
    code, out, _ = run_inside("--version")
    assert (code, out.decode()) == (0, f"taskscope {version}\n")
    assert f"\n## {version} " in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_every_dependency_by_name_and_version() -> None:
    """constraints.txt has `name==version` lines only, and one for each dependency and tool that is named."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9A-Za-z.]+", line) for line in lines)
    pinned = {re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in lines}
    project = PYPROJECT["project"]
    named = [*project["dependencies"], *PYPROJECT["build-system"]["requires"],
             *(need for extra in project["optional-dependencies"].values() for need in extra)]
    assert {re.split(r"[<>=\[ ]", need)[0].lower() for need in named} <= pinned


def test_no_file_names_a_registry() -> None:
    """Where packages come from is the business of whoever installs: no file names a host of a registry."""
    # The brackets keep this line from naming one.
    hosts = re.compile(r"\b(py[p]i\.org|python[h]osted\.org|registry\.[n]pmjs|ana[c]onda\.org|index-[u]rl|"
                       r"find-[l]inks)\b", re.IGNORECASE)
    assert [str(path) for path, text in texts() if hosts.search(text)] == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    """No absolute path of a developer's machine is in the project."""
    place = re.compile(r"(?<![\w.])/(wor[k]|home/\w+|roo[t]|Users)/\w")
    assert [f"{path}: {m.group()}" for path, text in texts() if (m := place.search(text))] == []


def test_the_shell_scripts_parse() -> None:
    """Every shell script of the project may be executed, and bash reads it without a complaint."""
    scripts = [path for path, text in texts() if text.startswith("#!/usr/bin/env bash")]
    assert {Path("demo"), Path("check"), Path(".ci/run")} <= set(scripts)
    for path in scripts:
        subprocess.run(["bash", "-n", str(ROOT / path)], check=True)
        assert os.access(ROOT / path, os.X_OK), path


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_ends_in_three_examples(verb: str) -> None:
    """Every command's --help fits 80 columns and ends in three examples of that very command."""
    code, out, _ = run_inside(*([verb] if verb else []), "--help")
    assert code == 0
    text = out.decode()
    assert max(map(len, text.splitlines())) <= 80
    examples = re.findall(r"^ +(taskscope .*)$", text[text.rindex("Examples:"):], re.MULTILINE)
    assert len(examples) == 3
    for line in examples:
        words = shlex.split(line, comments=True)
        assert words[1] == verb if verb else words[1] in VERBS


# What record does is seen in tests/cli/test_record.py: here it would run commands and wait for them.
@pytest.mark.parametrize("verb", [v for v in VERBS if v != "record"])
def test_the_examples_of_the_help_run(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command lines in the help are accepted as they stand: none ends in a usage error about its options."""
    monkeypatch.chdir(tmp_path)
    for name in ("trace.dat", "other.dat"):
        (tmp_path / name).write_bytes(EXAMPLE.read_bytes())
    (tmp_path / "vmcore").symlink_to(DUMP)
    _, out, _ = run_inside(verb, "--help")
    text = out.decode()
    for line in re.findall(r"^ +taskscope (.*)$", text[text.rindex("Examples:"):], re.MULTILINE):
        # Labs on real kernels are seen in tests/labs: here they would take their time. What serves does not end.
        if "--serve" in line or ("--lab" in line and ("host" in line or "guest" in line)):
            continue
        code, _, err = run_inside(*shlex.split(line.partition(" | ")[0]))
        # diff says by 1 that something has changed.
        if verb == "diff" and code == 1:
            continue
        # 2 without a hint at --help: what it asks for is not in this recording (no such task, a time outside).
        assert code == 0 or (code == 2 and "--help" not in err), f"{line}: {code}: {err}"


def readme_runs() -> list[tuple[str, str]]:
    """Return the commands of README.md's console blocks with the output that it shows."""
    runs = []
    for block in re.findall(r"^```console\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE):
        command, _, shown = block.partition("\n")
        if command.startswith("$ taskscope ") and shown:
            runs.append((command[2:], shown))
    return runs


def test_the_readme_shows_what_runs_print(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each output in README.md is what its command prints now, byte for byte."""
    runs = readme_runs()
    assert len(runs) >= 2
    monkeypatch.chdir(ROOT)
    for command, shown in runs:
        code, out, _ = run_inside(*shlex.split(command)[1:])
        assert (code, out.decode()) == (0, shown), command


def test_the_front_door_stays_itself() -> None:
    """What is behind it does not take its names: `taskscope.snapshot` is a function also after rooms were imported."""
    code = ("import taskscope; t = taskscope.open('tests/data/d05-zombie.dat'); t.lives.at(t.end); "
            "print([callable(getattr(taskscope, n)) for n in taskscope.__all__ if n != '__version__'])")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert done.stdout == b"[True, True, True, True]\n"


def test_the_manual_and_the_readme_link_to_what_is_there() -> None:
    """Links to files inside the project lead somewhere."""
    for path, text in texts():
        if path.suffix == ".md":
            for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
                assert (ROOT / path.parent / target).exists(), f"{path}: {target}"


def test_the_python_of_the_manual_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The example of docs/python.md runs as it stands and prints the story of the life that it asks for."""
    monkeypatch.chdir(ROOT)
    code = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL | re.MULTILINE)
    assert code
    for block in code:
        exec(compile(block, "docs/python.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "killed by bash" in shown
    assert re.search(r"^raspbian_proc \d+ \d+$", shown, re.MULTILINE)
