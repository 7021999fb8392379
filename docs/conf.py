"""Sphinx configuration: the manual, with the help pages and the outputs that it shows taken from runs."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent))

from jsonpages import write_schemas
from labpages import write, write_labs

import taskscope
from taskscope.cli.main import VERBS

project = "taskscope"
author = "the taskscope authors"
project_copyright = author
version = release = taskscope.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "benchmarks-*.md", "labs-real.md"]   # the latter are parts of a page
default_role = "code"

html_theme = "furo"
html_title = f"taskscope {release}"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_extra_path = ["_build/schemas"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
autodoc_preserve_defaults = True

HERE = Path(__file__).resolve().parent
(HERE / "_build" / "schemas").mkdir(parents=True, exist_ok=True)    # Sphinx looks for it before `generate` fills it
RECORDING = "examples/recordings/raspbian_proc.dat"

DUMP = "tests/data/vmcore/debian12-amd64.kdump"
#: file in _build/generated -> the command whose output it is; pages include them
OUTPUTS = {
    "lives.txt": ["lives", "-i", RECORDING, "--kind", "process"],
    "life.txt": ["life", "-i", RECORDING, "raspbian_proc"],
    "ps.txt": ["ps", "-i", RECORDING, "--at", "+5"],
    "tree.txt": ["tree", "-i", RECORDING, "bash"],
    "sched.txt": ["sched", "-i", RECORDING, "--worst", "3"],
    "kills.txt": ["kills", "-i", RECORDING],
    "forks.txt": ["forks", "-i", RECORDING],
    "decode.txt": ["decode", "clone", "0x01200011"],
    "dump-tree.txt": ["tree", "--core", DUMP, "zoo-main"],
    "dump-task.txt": ["task", "--core", DUMP, "tracee"],
    "dump-blocked.txt": ["blocked", "--core", DUMP],
    "storm-tree.txt": ["tree", "-q", "-i", "tests/data/d19-storm.dat", "305"],
    "dump-stack.txt": ["stack", "--core", DUMP, "vfork-parent"],
    "export-systrace.txt": ["export", "-i", RECORDING, "--to", "systrace", "--from", "+13.6", "-o", "-"],
    "export-dot.txt": ["export", "-i", RECORDING, "--to", "dot", "-p", "156", "-o", "-"],
    "export-story.txt": ["export", "-i", RECORDING, "--to", "story", "-p", "157", "-o", "-"],
    "program.txt": ["sched", "-i", RECORDING, "--worst", "3", "--py"],
    "report.txt": ["report", "-i", RECORDING, "--no-stacks", "-F", "signal"],
}


def generate(_app: Sphinx) -> None:
    """Write the help page of every command, and the outputs that the pages show."""
    folder = HERE / "_build" / "generated"
    folder.mkdir(parents=True, exist_ok=True)
    runs = {"help.txt": ["--help"], **{f"help-{verb}.txt": [verb, "--help"] for verb in VERBS}, **OUTPUTS}
    env = dict(os.environ, COLUMNS="80", NO_COLOR="1")

    def printed(arguments: list[str]) -> str:
        command = [sys.executable, "-m", "taskscope.cli.main", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=HERE.parent, env=env).stdout.decode()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        texts = pool.map(printed, runs.values())
        # Meanwhile, in this process.
        write_schemas(folder, HERE / "_build" / "schemas")
        write_labs(folder)
        for name, text in zip(runs, texts, strict=True):
            write(folder / name, text)


def setup(app: Sphinx) -> None:
    """Connect `generate`."""
    app.connect("builder-inited", generate)
