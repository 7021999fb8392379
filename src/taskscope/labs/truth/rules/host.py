"""Rules on this host's kernel: a process of its own plays them (`worker`), this side reads and bounds it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from taskscope.errors import TaskscopeError
from taskscope.labs.truth.host import best_mode
from taskscope.labs.truth.rules import Rule
from taskscope.labs.truth.rules.transcript import Transcript, named

#: how long a rule may take, in seconds
SECONDS: Final = 5.0
_SOURCE: Final = Path(__file__).resolve().parents[4]


class RulesError(TaskscopeError):
    """The process that plays rules on the host failed."""


def runs_here() -> bool:
    """Tell whether this user may have a PID namespace."""
    return best_mode() != "sub"


def is_root() -> bool:
    """Tell whether rules run as root of the host."""
    return best_mode() == "pid"


def run(rules: Sequence[Rule], seconds: float = SECONDS) -> dict[str, Transcript]:
    """Return the transcripts of rules on this host, by their names.

    :param seconds: how long one may take; its transcript then says so
    :raises RulesError: they cannot be run
    """
    mode = best_mode()
    if mode == "sub":
        raise RulesError("rules need a PID namespace: run as root, or allow user namespaces")
    found: dict[str, Transcript] = {}
    if not rules:
        return found
    env = {"PYTHONPATH": str(_SOURCE), "PATH": os.environ.get("PATH", "")}
    command = [sys.executable, "-S", "-s", "-m", "taskscope.labs.truth.rules.worker", mode, str(seconds)]
    with subprocess.Popen([*command, *(rule.name for rule in rules)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          env=env, start_new_session=True) as worker:
        assert worker.stdout is not None
        data = b""
        while True:
            ready, _, _ = select.select([worker.stdout], [], [], seconds + 10)
            more = os.read(worker.stdout.fileno(), 65536) if ready else b""
            if not more:
                worker.kill()
                break
            data += more
    for line in data.splitlines():
        name, main, lines = json.loads(line)
        found[name] = named(lines, main)
    missing = [rule.name for rule in rules if rule.name not in found]
    if missing:
        raise RulesError(f"the process that plays rules on the host stopped at {missing[0]}; see its message above")
    return found
