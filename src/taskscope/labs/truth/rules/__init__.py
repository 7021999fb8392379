"""Conformance rules: one short program each, run by the model and by this host's kernel, with equal transcripts.

A rule is a public function ``name(sys, say)`` in one of the `GROUPS`; its docstring is the rule, in one sentence.  It
runs as a process of its own, a child of process 1 of a fresh PID namespace, leader of its session, root, with
descriptors 0 to 2 and default signals.  `sys` has the C library's names as `taskscope.model.user.libc.Sys` has them
(on the host `native.Native`); ``say(…)`` adds a line to the transcript, ``say.who(pid)`` names a process by order of
birth.  `kit` has what orders processes without clocks.

What a rule says may not depend on the schedule: a process that must come second waits for the first through a pipe
(`kit.Gate`) or a wait, and a signal for a process that sleeps is sent when it does (`kit.asleep`).  What it does
depends on what `sys` returned and on nothing else, as for every program of the machine.  A rule that another kernel
follows otherwise says so with `differs`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final

from taskscope.errors import UsageError

#: the files of rules; one that is not there yet is empty
GROUPS: Final = (
    "wait", "waitid", "fork", "exec", "exit", "signals_queue", "signals_action", "signals_send",
    "signals_wait", "restart", "stopping", "jobcontrol", "groups",
    "prctl", "pipes", "files", "sched", "ids", "namespaces", "futex", "threads", "ptrace", "timers",
)
#: rules that go wrong on purpose, to see that this is told; not one of the groups
SELFTEST: Final = "selftest"
#: the flavour that is held against the host
HOST_FLAVOUR: Final = "6.18-x86_64"
#: why a rule is otherwise on a flavour, by flavour: what `differs` leaves on a function
_DIFFERS: Final = "__differs__"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    name: str                       # group.function
    run: Callable[[Any, Any], Any]
    text: str
    #: flavours whose transcript is another, and why
    differs: dict[str, str]


def differs(why: str, *flavours: str) -> Callable[[FunctionType], FunctionType]:
    """Say that these flavours follow the rule otherwise than the host.

    :param why: the kernel change that made the difference: commit, subject, version
    """

    def mark(function: FunctionType) -> FunctionType:
        noted: dict[str, str] = function.__dict__.setdefault(_DIFFERS, {})
        noted.update(dict.fromkeys(flavours, why))
        return function

    return mark


def group(name: str) -> list[Rule]:
    """Return the rules of one file, in its order."""
    module = f"{__name__}.{name}"
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return []
    rules = []
    for function in vars(found).values():
        if not isinstance(function, FunctionType) or function.__module__ != module or function.__name__[0] == "_":
            continue
        if function.__code__.co_varnames[: function.__code__.co_argcount] != ("sys", "say"):
            raise UsageError(f"{module}.{function.__name__}: a rule takes (sys, say); helpers begin with an underscore")
        text = " ".join((function.__doc__ or "").split())
        rules.append(Rule(f"{name}.{function.__name__}", function, text, function.__dict__.get(_DIFFERS, {})))
    return rules


def load(names: Iterable[str] = ()) -> list[Rule]:
    """Return rules: all, those of the groups that are named, or single ones (``wait.any_child``).

    :raises UsageError: there is no rule of a name
    """
    wanted = list(names)
    if not wanted:
        return [rule for name in GROUPS for rule in group(name)]
    found = []
    for name in wanted:
        family, _, _one = name.partition(".")
        rules = group(family) if family in (*GROUPS, SELFTEST) else []
        some = [rule for rule in rules if name in (family, rule.name)]
        if not some and name not in GROUPS:
            raise UsageError(f"there is no rule {name!r}; groups are {', '.join(GROUPS)}")
        found += some
    return found
