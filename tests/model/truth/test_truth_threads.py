"""Programs with threads: the model's process of many threads ends, stops, waits and is waited for as the host's."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from thread_scenarios import SCENARIOS

from taskscope.labs.truth.invariants import Watch
from taskscope.model import flavours, machine
from taskscope.model.init import main as init_main

HERE = Path(__file__).parent
SCHEDULES = 8


def on_host(name: str) -> Any:
    """Return what a scenario finds on this host."""
    path = [str(HERE), str(HERE.parents[2] / "src")]
    code = f"import sys; sys.path[:0] = {path!r}; import thread_scenarios; thread_scenarios.on_host({name!r})"
    ran = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ast.literal_eval(ran.stdout)


def on_model(name: str, schedule: int, flavour: str, cpus: int) -> Any:
    """Return what a scenario finds on the model; nothing of it may be left there."""
    m = machine.Machine(flavours.flavour(flavour), cpus, 100, schedule, 128 << 20)
    found: list[Any] = []

    def program(sys: Any, argv: list[str]) -> None:
        sys.nanosleep(60_000_000)
        watch = Watch(m)
        found.append(SCENARIOS[name](sys))
        watch.check()
        watch.close()
        m.stop()
        sys.pause()

    init_main.power_on(m, bare=True, program=program)
    try:
        m.run_until(60 * 10**9)
    finally:
        m.close()
    assert found, "not at its end after 60 s of the machine's time"
    return found[0]


@pytest.mark.real
@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_threads_do_as_on_the_host(name: str) -> None:
    """A scenario with threads finds on the model, under eight schedules, what it finds on the host."""
    real = on_host(name)
    if name == "leader_exits_first":
        # The code of the first thread before synchronize_group_exit(), since then that of the last: the host has one.
        assert real.pop() in (0, 0x500)
    for schedule in range(SCHEDULES):
        flavour = ("4.19-arm", "6.1-x86_64", "6.18-x86_64")[schedule % 3]
        found = on_model(name, schedule, flavour, 1 + schedule % 2)
        if name == "leader_exits_first":
            assert found.pop() == (0x500 if flavour == "4.19-arm" else 0)
        assert found == real, (schedule, flavour)
