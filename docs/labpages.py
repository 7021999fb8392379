"""The labs as pieces of pages: what each shows, here and on a real kernel, why, and what else to try."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any, Final

from taskscope.labs.catalog import TITLES, get
from taskscope.labs.lab import Lab, Run, run_lab

#: columns of what was checked, which a page shows without a scroll bar
_CHECK: Final = 84
#: what each lab showed on a real kernel, written by tools/labs.py --outputs
REAL: Final = Path(__file__).resolve().parent / "labs-real.jsonl"
_MACHINES: Final = {"model": "M", "host": "H", "guest": "G"}


def write_labs(folder: Path) -> None:
    """Run every lab on the executable kernel and write ``lab-NAME.md`` for each, and ``labs.md``, the list of all.

    :param folder: where to
    """
    real = {row["name"]: row for row in map(json.loads, REAL.read_text().splitlines())}
    rows = ["```{list-table}", ":header-rows: 1", ":widths: 16 34 8 14 28", "", "* - lab", "  - question", "  - on",
            "  - real kernels need", "  - mutant"]
    for name in TITLES:
        lab = get(name)
        run = run_lab(lab, lab.flavours[0])
        if not run.passed:
            raise SystemExit(f"lab {name} does not pass: the manual cannot show it")
        write(folder / f"lab-{name}.md", _page(lab, run, real.get(name)))
        rows += [f"* - `{name}`", f"  - {lab.question}", f"  - {' '.join(_MACHINES[one] for one in lab.machines)}",
                 f"  - {', '.join(lab.needs) or '–'}", f"  - {_mutants(lab)}"]
    write(folder / "labs.md", "\n".join([*rows, "```", ""]))


def write(file: Path, text: str) -> None:
    """Write a file, unless that would not change it: what is built of it stays built."""
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def _mutants(lab: Lab) -> str:
    first = f"{lab.mutant.name} (`{_function(lab.mutant.function)}`)"
    if lab.later is None:
        return first
    if lab.later.name == lab.mutant.name:
        return f"{first[:-1]}; after 4.19 `{_function(lab.later.function)}`)"
    return f"{first}; after 4.19: {lab.later.name} (`{_function(lab.later.function)}`)"


def _function(place: str) -> str:
    return place.rpartition(":")[2] + "()"


def _page(lab: Lab, run: Run, real: dict[str, Any] | None) -> str:
    lines = [f"**{lab.question}** Look at {lab.look}.", "", "```console", f"$ taskscope lab {lab.name}", "```", ""]
    lines += _shown([line for text in run.output for line in text.split("\n")])
    lines += ["What must be seen, and was:", "", *_checks([check.what for check in run.checks])]
    changed = (f"Change a line of the kernel and look again: with `taskscope lab {lab.name} --mutant` "
               f"{lab.mutant.name} (`{_function(lab.mutant.function)}`).")
    lines += [f":::{{admonition}} Why\n{lab.answer}\n:::", "", changed, ""]
    return "\n".join([*lines, *_real(lab, real)])


def _real(lab: Lab, row: dict[str, Any] | None) -> list[str]:
    """Return what a real kernel shows."""
    if lab.machines == ("model",):
        return ["This one is for the executable kernel alone: nobody would do it to a real one." if lab.name != "decode"
                else "Numbers are the same everywhere: this one needs no kernel.", ""]
    if row is None or not row["passed"]:
        raise SystemExit(f"{REAL.name} has no run of lab {lab.name} that passed: make it again with tools/labs.py")
    why = lab.refused.partition("; use")[0]
    guest = f"`taskscope lab {lab.name} --on guest`"
    host = "`--on host`" if "guest" in lab.machines else f"`taskscope lab {lab.name} --on host`"
    ways = [guest] * ("guest" in lab.machines) + [f"as root {host}"] * ("host" in lab.machines)
    not_here = "" if "host" in lab.machines else f" Not on the host: {why}."
    text = [f"On a real kernel: {', or '.join(ways)}.{not_here}"]
    where = " in QEMU" if row["machine"] != "host" else ""
    if lab.real_note:
        text[0] += f" {lab.real_note}"
    return [*text, "", '<details class="real">', f"<summary>What it showed on Linux {row['release']}{where}</summary>",
            "", *_shown([line for part in row["output"] for line in part.split("\n")]),
            *_checks([check["what"] for check in row["checks"]]), "</details>", ""]


def _shown(lines: list[str]) -> list[str]:
    while lines and not lines[-1].strip():
        del lines[-1]
    return ["```{code-block} text", ":class: output", "", *lines, "```", ""] if lines else []


def _checks(checks: list[str]) -> list[str]:
    text = [textwrap.fill(what, _CHECK, initial_indent="ok  ", subsequent_indent=" " * 4) for what in checks]
    return ["```{code-block} text", ":class: output", "", *text, "```", ""]
