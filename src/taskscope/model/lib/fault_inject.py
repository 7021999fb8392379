"""Fault injection: lib/fault-inject.c, v4.19, in its form "fail the nth" (/proc/PID/fail-nth).

Every place of the model that can fail for lack of something asks `should_fail` with its name.  ``task.fail_nth = n`` lets
the n-th such place that the task passes fail, once; `fault_log` then holds the names of the places passed.
"""

from __future__ import annotations

from taskscope.model import machine


def should_fail(what: str) -> bool:
    """Tell whether this place has to fail now; `what` names it in the log."""
    task = machine.cur.cpu.curr
    nth = task.fail_nth
    if nth == 0:
        return False
    machine.cur.fault_log.append(what)
    task.fail_nth = nth - 1
    return nth == 1
