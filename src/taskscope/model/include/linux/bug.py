"""BUG(): include/linux/bug.h, lib/bug.c, v4.19: an instruction that traps, and a table that says where it stands."""

from __future__ import annotations

import sys
from typing import NoReturn

from taskscope.model import machine


def BUG() -> NoReturn:
    """Trap: the kernel has found itself in a state that cannot be."""
    m = machine.cur
    caller = sys._getframe(1)
    module = caller.f_globals["__name__"].removeprefix("taskscope.model.").replace(".", "/")
    m.bug(f"{module}.c", caller.f_lineno)
    raise AssertionError("the task lives on after BUG()")
