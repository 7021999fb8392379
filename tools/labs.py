"""Run labs on real kernels, each booted once, and compare them with the model: a table of what came of it.

    tools/labs.py --on host --on guest:6.1 --on guest:6.12
    tools/labs.py --on guest:6.1 raspbian-proc fork
    tools/labs.py --on host --on guest:6.1 --write docs/labs-real.md
    tools/labs.py --on host --on guest:6.1 --outputs docs/labs-real.jsonl    # what the manual shows of real kernels

The exit code is 1 if a check failed or what a machine showed is neither equal to the model nor allowed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from taskscope.errors import TaskscopeError
from taskscope.labs.catalog import TITLES, get
from taskscope.labs.lab import Run, run_lab, run_real
from taskscope.labs.on import compare_runs, open_real
from taskscope.labs.real import Real
from taskscope.labs.text import run_lines


def say(text: str) -> None:
    """Tell people something."""
    print(text, file=sys.stderr, flush=True)


def result(name: str, machine: Real, outputs: dict[str, str]) -> tuple[str, list[str]]:
    """Run one lab on a machine; return its cell of the table, and what was wrong.

    :param outputs: gets what it showed, as `taskscope lab --json` prints it
    """
    lab = get(name)
    try:
        run: Run = run_real(lab, machine)
    except (TaskscopeError, AssertionError, LookupError, ValueError, StopIteration) as error:
        return "FAILS", [f"{type(error).__name__}: {error}"]
    outputs[name] = "\n".join(run_lines(run, as_json=True))
    wrong = [f"{check.what}: {check.seen}" for check in run.checks if not check.passed]
    wrong += [run.crash] if run.crash is not None else []
    compared = ""
    if run.kept and (model := run_lab(lab, run.flavour)).kept:
        found = compare_runs(model, run)
        compared = f", {found.verdict}"
        if found.verdict == "differs":
            wrong.append(str(found))
    return ("passes" if not wrong else "FAILS") + compared, wrong


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--on", action="append", required=True, metavar="MACHINE", help="host, guest:KERNEL")
    parser.add_argument("--write", type=Path, help="also write the table there, as Markdown")
    parser.add_argument("--outputs", type=Path,
                        help="write what each lab showed on the last of its machines, as JSON Lines")
    parser.add_argument("labs", nargs="*", metavar="LAB", help="which (all)")
    options = parser.parse_args()
    names = [name for name in options.labs or TITLES if len(get(name).machines) > 1]
    cells: dict[str, dict[str, str]] = {name: {} for name in names}
    heads, bad = [], False
    outputs: dict[str, str] = {}
    for place in options.on:
        machine = open_real(place, say)
        heads.append(f"{place} ({machine.release})")
        try:
            for name in names:
                if place.partition(":")[0] not in get(name).machines:
                    cells[name][place] = "–"
                    continue
                began = time.monotonic()
                cells[name][place], wrong = result(name, machine, outputs)
                bad = bad or bool(wrong)
                say(f"{place:<12} {name:<18} {cells[name][place]:<16} {time.monotonic() - began:5.1f} s")
                for line in wrong:
                    say(f"    {line}"[:2000])
        finally:
            machine.close()
    lines = [f"| lab | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| `{name}` | {' | '.join(cells[name][place] for place in options.on)} |" for name in names]
    print("\n".join(lines))
    if options.write:
        options.write.write_text("\n".join([*lines, ""]))
    if options.outputs:
        options.outputs.write_text("\n".join([*(outputs[name] for name in names if name in outputs), ""]))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
