"""Manual pages and completions: one of each for every command, of the same text as --help, and read by their tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import run_cli
from taskscope.cli.main import VERBS
from taskscope.cli.man import SHELLS, manual


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_a_page_for_each(verb: str | None) -> None:
    """A page has the sections that pages have, every option of the command, and nothing that groff would obey."""
    text = manual(verb)
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS"):
        assert f".SH {section}\n" in text
    for line in text.splitlines():
        assert not line.startswith("'")
        assert not line.startswith(".") or line.split()[0] in (".TH", ".SH", ".TP", ".PP", ".B")


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_reads_them() -> None:
    """Groff formats every page without a warning, and what --help says is in it."""
    for verb in VERBS:
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-K", "utf8"], input=manual(verb), capture_output=True,
                              text=True, timeout=60, check=True)
        assert done.stderr == "", verb
        assert "OPTIONS" in done.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_completions(shell: str) -> None:
    """The script of a shell asks the program itself; bash takes it without an error."""
    text = run_cli("man", "--completion", shell).out.decode()
    assert "_TASKSCOPE_COMPLETE" in text
    if shutil.which(shell) and shell != "fish":
        subprocess.run([shell, "-n"], input=text, text=True, check=True, timeout=30)


def test_a_folder_of_pages(tmp_path: Path) -> None:
    """--folder writes all pages; a verb that is not there is a usage error."""
    assert run_cli("man", "--folder", tmp_path / "man1").code == 0
    assert len(list((tmp_path / "man1").iterdir())) == len(VERBS) + 1
    assert run_cli("man", "nothing").code == 2
