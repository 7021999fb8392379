"""Run the checks of this repository, one after the other, each within its time budget.

Called by ``./check``, which sets the environment up first.  Prints one line per check (what, result, seconds
used and allowed), the whole output of a check that fails, the reasons of skipped tests, and as its last line
the sum over the test suites: ``N passed, N failed, N skipped``.  The exit code is 0 only if every check
passed within its budget.

Tests that are marked ``real`` or ``root`` watch a real kernel, which other tests and other people load at the same
time.  If nothing else of a suite fails they are played once more, alone; those that pass then are counted as passed,
and are named with what they said at first.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
BIN = Path(PYTHON).parent


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a check may take, in seconds, and how many processes a test suite is spread over."""

    seconds: int
    workers: int = 0
    dist: str = "worksteal"


LINT = {
    "lint": ([str(BIN / "ruff"), "check", "."], Budget(30)),
    "types": ([str(BIN / "mypy")], Budget(150)),
    "imports": ([str(BIN / "lint-imports")], Budget(30)),
}
DOCS = {
    "docs": ([PYTHON, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html"],
             Budget(120)),
}
#: a suite is a folder of tests/; "package" is the tests that lie in tests/ itself
SUITES = {
    "package": Budget(150, workers=2),
    "abi": Budget(60),
    "trace": Budget(60),
    # A file's tests share a guest.
    "memory": Budget(180, workers=2, dist="loadfile"),
    "procfs": Budget(90),
    "ftrace": Budget(200, workers=2),
    "lives": Budget(200, workers=2),
    "views": Budget(90, workers=2),
    # What waits for recordings and machines leaves the processors to others.
    "cli": Budget(320, workers=3),
    "host": Budget(60),
    "model": Budget(400, workers=2),
    "labs": Budget(300, workers=3),
}
NEW_SUITE = Budget(60)
SAYS = {"lint": "ruff check", "types": "mypy --strict", "imports": "import contract", "docs": "sphinx -W"}
EXAMPLES = """examples:
  ./check             everything
  ./check fast        the same without the slow tests and the manual
  ./check lives cli   only these suites
  ./check docs        build the manual into docs/_build/html"""


@dataclass(slots=True)
class Tally:
    """What the test suites counted, and which tests were skipped for which reason."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    again: list[str] = field(default_factory=list)  # passed only when played again, alone


def suites() -> dict[str, list[str]]:
    """Return the test suites: name -> what pytest is given."""
    tests = ROOT / "tests"
    found = {"package": sorted(str(p.relative_to(ROOT)) for p in tests.glob("test_*.py"))}
    for folder in sorted(p for p in tests.iterdir() if p.is_dir()):
        if any(folder.rglob("test_*.py")):
            found[folder.name] = [str(folder.relative_to(ROOT))]
    order = list(SUITES)
    return dict(sorted(found.items(), key=lambda kv: order.index(kv[0]) if kv[0] in order else len(order)))


def run(command: list[str], seconds: float, env: dict[str, str]) -> tuple[int | None, str]:
    """Run a command; return its exit code (None: it was stopped because its time was over) and its output."""
    with tempfile.TemporaryFile() as out:
        # A session of its own, so that the workers of a suite that runs too long end with it.
        child = subprocess.Popen(command, cwd=ROOT, env=env, start_new_session=True,
                                 stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        code: int | None
        try:
            code = child.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        out.seek(0)
        return code, out.read().decode(errors="replace")


def count(report: Path, tally: Tally) -> tuple[int, int, int]:
    """Add a suite's JUnit report to the tally; return its own (passed, failed, skipped)."""
    passed = failed = skipped = 0
    for case in ET.parse(report).getroot().iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif skip is not None:
            skipped += 1
            reason = skip.get("message") or "no reason given"
            tally.reasons[reason][(case.get("name") or "?").partition("[")[0]] += 1
        else:
            passed += 1
    tally.passed += passed
    tally.failed += failed
    tally.skipped += skipped
    return passed, failed, skipped


def line(name: str, result: str, used: float, budget: Budget) -> None:
    """Print the line of one check."""
    print(f"{name:<10}{result:<44}{used:>6.1f} s of {budget.seconds:>3} s", flush=True)


def run_tool(name: str, command: list[str], budget: Budget, env: dict[str, str]) -> bool:
    """Run one check that is no test suite; return whether it passed."""
    start = time.monotonic()
    code, output = run(command, budget.seconds, env)
    passed = code == 0
    result = "passed" if passed else "STOPPED, took too long" if code is None else "FAILED"
    line(name, f"{SAYS[name]}: {result}", time.monotonic() - start, budget)
    if not passed:
        print(output, flush=True)
    return passed


def run_suite(name: str, paths: list[str], tally: Tally, env: dict[str, str], *, fast: bool) -> bool:
    """Run one test suite; return whether it passed."""
    budget = SUITES.get(name, NEW_SUITE)
    with tempfile.TemporaryDirectory(prefix="taskscope-check-") as folder:
        report, noted = Path(folder) / "junit.xml", Path(folder) / "again"
        pytest = [PYTHON, "-m", "pytest", "-q"]
        command = [*pytest, f"--junit-xml={report}", *paths]
        if budget.workers:
            command += ["-n", str(budget.workers), "--dist", budget.dist]
        if fast:
            command += ["-m", "not slow"]
        start = time.monotonic()
        code, output = run(command, budget.seconds, {**env, "TASKSCOPE_CHECK_AGAIN": str(noted)})
        used = time.monotonic() - start
        counted = count(report, tally) if report.exists() else (0, 0, 0)
        again = sorted(set(noted.read_text().splitlines())) if noted.exists() else []
        # A kernel that others load can do what a test of it did not reckon with: alone, it must not.
        if code == 1 and again and len(again) == counted[1]:
            code, alone = run([*pytest, *again], budget.seconds, env)
            if code == 0:
                lines = output.splitlines()
                tally.again += [text.removeprefix("FAILED ") for text in lines if text.startswith("FAILED ")]
                tally.failed -= len(again)
                tally.passed += len(again)
                counted = (counted[0] + len(again), 0, counted[2])
            output += alone
            used = time.monotonic() - start
    result = "{} passed, {} failed, {} skipped".format(*counted)
    # 5: fast mode deselected every test of the suite.
    passed = code == 0 or (fast and code == 5)
    if not passed and not counted[1]:
        # Something went wrong that no single test stands for: it still counts as a failure.
        tally.failed += 1
        result = "STOPPED, took too long" if code is None else f"FAILED outside its tests (pytest: {code})"
    line(name, result, used, budget)
    if not passed:
        print(output, flush=True)
    return passed


def tell_skipped(tally: Tally) -> None:
    """Print why tests were skipped, with the names of the tests."""
    if tally.reasons:
        print("\nskipped:")
    for reason, names in sorted(tally.reasons.items()):
        shown = ", ".join(f"{n} ({k} cases)" if k > 1 else n for n, k in sorted(names.items()))
        print(f"  {reason}: {shown}")


def main(words: list[str]) -> int:
    """Run the checks that the words name; return the exit code."""
    tests = suites()
    parser = argparse.ArgumentParser(
        prog="./check", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES,
        description="Run lint, types, import contract, the manual and all tests, each within its time budget.")
    parser.add_argument("part", nargs="*", help=f"fast, {', '.join([*LINT, *DOCS, *tests])}")
    parts: list[str] = parser.parse_args(words).part
    known = {"fast", *LINT, *DOCS, *tests}
    if unknown := [p for p in parts if p not in known]:
        parser.error(f"there is no part {unknown[0]!r}; choose from: {', '.join(sorted(known))}")
    fast = "fast" in parts
    named = [p for p in parts if p != "fast"]
    env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", NO_COLOR="1")
    env.pop("PYTHONPATH", None)
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', '')}"

    tally, failed = Tally(), list[str]()
    tools = {**LINT, **({} if fast else DOCS)}
    for name, (command, budget) in tools.items():
        if (not named or name in named) and not run_tool(name, command, budget, env):
            failed.append(name)
    for name, paths in tests.items():
        if (not named or name in named) and paths and not run_suite(name, paths, tally, env, fast=fast):
            failed.append(name)
    tell_skipped(tally)
    if tally.again:
        print("\npassed only alone, on a kernel that others load too:")
    for test in tally.again:
        print(f"  {test}")
    if failed:
        print(f"\nnot passed: {', '.join(failed)}")
    print(f"\n{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
