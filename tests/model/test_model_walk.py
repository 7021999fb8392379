"""docs/model-walk.md says what the executable kernel does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from taskscope.model import kernel

ROOT = Path(__file__).resolve().parents[2]


def stops(text: str) -> list[tuple[str, ...]]:
    """Return (pid, comm, function, call path) of each line: the times are those of a cost table."""
    return [tuple(line.split(" ms ", 1)[1].split()) for line in text.splitlines() if " ms " in line]


def test_the_walk_of_the_page_is_the_walk_of_the_kernel() -> None:
    """The example prints the stops that the page shows, in that order and through those calls."""
    page = (ROOT / "docs" / "model-walk.md").read_text()
    shown = page.partition("<!-- examples/model_walk.py -->")[2].split("```")[1]
    command = [sys.executable, str(ROOT / "examples" / "model_walk.py")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert stops(run.stdout) == stops(shown)
    assert len(stops(shown)) > 20


def test_every_file_and_function_of_the_page_exists() -> None:
    """Files that the page names are there, and so are its kernel functions."""
    page = (ROOT / "docs" / "model-walk.md").read_text()
    model = Path(kernel.__file__).parents[1]
    source = "\n".join(path.read_text() for path in model.rglob("*.py"))
    names = set(re.findall(r"`(\w+)\(\)`", page))
    elsewhere = {"container_of", "kernel_clone", "ERR_PTR", "switch_to", "schedule", "wait4", "waitid"}
    missing = sorted(name for name in names - elsewhere if f"def {name}(" not in source)
    assert not missing
    for name in re.findall(r"`((?:kernel|arch|include|lib)/[\w/]+\.py)`", page):
        assert (model / name).is_file(), name
