"""Machines for the tests of the executable kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import taskscope
from taskscope.system import System


@pytest.fixture
def k() -> Iterator[System]:
    """A machine of two CPUs with nothing but what CPUs need."""
    with taskscope.boot(cpus=2, bare=True) as machine:
        yield machine


@pytest.fixture
def ran(k: System) -> Callable[..., tuple[int, str]]:
    """Run a program to its end; gives (exit code, what it printed)."""

    def run(program: Any, *args: str, s: float = 100, **options: Any) -> tuple[int, str]:
        process = k.spawn(program, *args, **options)
        code = process.wait(s)
        return code, process.text

    return run
