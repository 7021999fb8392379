"""The page's TypeScript: its types and its own tests, where npm has been at work."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from conftest import ROOT


@pytest.mark.skipif(shutil.which("npm") is None or not (ROOT / "web/node_modules").is_dir(),
                    reason="npm install was not run in web/")
def test_npm_test() -> None:
    """`npm test` passes: the types fit, and the page's arithmetic is right."""
    done = subprocess.run(["npm", "test"], cwd=ROOT / "web", capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-500:]
