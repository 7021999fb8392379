"""wait4(2): which child, which options, which errors, what status.  kernel/exit.c, wait(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, comes_to, ends, wait


def _ends_after(sys: Any, gate: Gate, code: int) -> None:
    gate.wait(sys)
    sys.exit(code)


def exit_code(sys: Any, say: Any) -> None:
    """A child that exits leaves the low eight bits of its code in the second byte of the status."""
    for code in (0, 1, 42, 255, 256, 257, -1):
        pid = sys.clone(ends, code)
        say(code, wait(sys, say, pid))


def no_children(sys: Any, say: Any) -> None:
    """Waiting without a child fails with ECHILD, whatever is asked."""
    for pid in (-1, 0, 1, sys.getpid(), -sys.getpid(), 0x3FFFFFFF):
        say(wait(sys, say, pid), wait(sys, say, pid, 1))


def zombies_oldest_first(sys: Any, say: Any) -> None:
    """Of several zombies, waiting for any reaps the one that was born first, whichever died first."""
    gates = [Gate(sys) for _ in range(3)]
    pids = [sys.clone(_ends_after, gate, code) for code, gate in enumerate(gates)]
    for n in (1, 2, 0):
        gates[n].open(sys)
        comes_to(sys, pids[n], "Z")
    for _ in range(4):
        say(wait(sys, say))
