"""Renew the outputs in README.md: each console block gets what its command prints now.

    .venv/bin/python tools/readme.py

Run after a change of what commands print, and read the difference; tests/test_package.py holds README.md to it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"(^```console\n\$ taskscope (.*)\n)(?:.*\n)*?(^```$)", re.MULTILINE)


def renewed(match: re.Match[str]) -> str:
    """Return a console block with its command's output of now."""
    command = [sys.executable, "-m", "taskscope.cli.main", *shlex.split(match[2])]
    env = dict(os.environ, NO_COLOR="1", COLUMNS="80")
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=env)
    return match[1] + done.stdout.decode() + match[3]


def main() -> None:
    """Rewrite README.md."""
    readme = ROOT / "README.md"
    readme.write_text(BLOCK.sub(renewed, readme.read_text()))


if __name__ == "__main__":
    main()
