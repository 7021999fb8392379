"""The labs as pieces of pages: `write_labs` runs each and writes what it showed, why, and what else to try."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

from taskscope.labs.catalog import TITLES, get
from taskscope.labs.lab import Lab, Run, run_lab

#: lines of a lab's output that a page shows, and how long one may be
_LINES: Final = 44
_WIDE: Final = 96
#: columns of what was checked, which a page shows without a scroll bar
_CHECK: Final = 84
_MACHINES: Final = {"host": "this host's kernel (`--on host`, as root)", "guest": "Debian's in QEMU (`--on guest`)"}


def write_labs(folder: Path) -> None:
    """Run every lab on the executable kernel and write ``lab-NAME.md`` for each, and ``labs.md``, the list of all.

    :param folder: where to
    """
    rows = ["| lab | question | where |", "|---|---|---|"]
    for name in TITLES:
        lab = get(name)
        run = run_lab(lab, lab.flavours[0])
        if not run.passed:
            raise SystemExit(f"lab {name} does not pass: the manual cannot show it")
        write(folder / f"lab-{name}.md", _page(lab, run))
        rows.append(f"| `{name}` | {lab.question} | {', '.join(lab.machines)} |")
    write(folder / "labs.md", "\n".join(rows) + "\n")


def write(file: Path, text: str) -> None:
    """Write a file, unless that would not change it: what is built of it stays built."""
    if not file.exists() or file.read_text() != text:
        file.write_text(text)


def _page(lab: Lab, run: Run) -> str:
    shown = [line for text in run.output for line in text.split("\n")]
    left = len(shown) - _LINES
    if left > 4:
        shown = [*shown[:_LINES], f"… {left} lines more"]
    lines = [f"**{lab.question}** Look at {lab.look}.", "", "```console", f"$ taskscope lab {lab.name}", "```", ""]
    if shown:
        lines += ["```text", *(line if len(line) <= _WIDE else line[: _WIDE - 1] + "…" for line in shown), "```", ""]
    checks = (textwrap.fill(check.what, _CHECK, initial_indent="ok  ", subsequent_indent=" " * 4)
              for check in run.checks)
    lines += ["What must be seen, and was:", "", "```text", *checks, "```", ""]
    others = [_MACHINES[place] for place in lab.machines if place in _MACHINES]
    lines += [f":::{{admonition}} Why\n{lab.answer}\n:::", "",
              f"Change a line of the kernel and look again: with `taskscope lab {lab.name} --mutant` {lab.mutant.name} "
              f"(`{lab.mutant.function.rpartition(':')[2]}()`). " +
              (f"Real kernels: {' and '.join(others)}." if others else
               "This one is for the executable kernel alone: nobody would do it to a real one."), ""]
    return "\n".join(lines)
