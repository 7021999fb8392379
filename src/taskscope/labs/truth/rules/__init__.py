"""Conformance rules: one short program each, run by the model and by this host's kernel, with equal transcripts.

A rule is a public function ``name(sys, say)`` in a file here (`GROUPS`); its docstring is the rule, in one sentence.
Functions with other arguments are helpers.  It runs as a process of its own, a child of process 1 of a fresh PID
namespace, leader of its session, root, with descriptors 0 to 2 and default signals.  `sys` has the C library's names
as `taskscope.model.user.libc.Sys` has them (on the host `native.Native`); ``say(…)`` adds a line to the transcript,
``say.who(pid)`` names a process by order of birth.  `kit` has what orders processes without clocks.

What a rule says may not depend on the schedule: a process that must come second waits for the first through a pipe
(`kit.Gate`) or a wait, and a signal for a process that sleeps is sent when it does (`kit.asleep`).  What it does
depends on what `sys` returned and on nothing else, as for every program of the machine.  A rule that another kernel
follows otherwise says so with `differs`, one where it depends on the schedule with `varies`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any, Final, TypeVar

from taskscope.errors import UsageError

#: files here that are no rules
_MACHINERY: Final = frozenset(
    {"__init__", "compare", "host", "kit", "model", "mutants", "recorded", "selftest", "terminals",
     "transcript", "worker"})
#: the files of rules
GROUPS: Final = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py")
                             if path.stem not in _MACHINERY and not path.stem.startswith("native")))
#: rules that go wrong on purpose, to see that this is told; not one of the groups
SELFTEST: Final = "selftest"
#: the flavour that is held against the host
HOST_FLAVOUR: Final = "6.18-x86_64"
#: why a rule is otherwise on a flavour, by flavour: what `differs` leaves on a function
_DIFFERS: Final = "__differs__"
_VARIES: Final = "__varies__"
_ROOT: Final = "__root__"
_F = TypeVar("_F", bound=Callable[[Any, Any], Any])


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    name: str                       # group.function
    run: Callable[[Any, Any], Any]
    text: str
    #: flavours whose transcript is another, and why
    differs: dict[str, str]
    #: flavours where it depends on the schedule, and why
    varies: dict[str, str]
    #: it needs root of the host, not only of a user namespace
    root: bool = False


def root(function: _F) -> _F:
    """Say that a rule needs root of the host: it becomes another user, say."""
    function.__dict__[_ROOT] = True
    return function


def differs(why: str, *flavours: str) -> Callable[[_F], _F]:
    """Say that these flavours follow the rule otherwise than the host.

    :param why: the kernel change that made the difference: commit, subject, version
    """
    return _noting(_DIFFERS, why, flavours)


def varies(why: str, *flavours: str) -> Callable[[_F], _F]:
    """Say that on these flavours what the rule says depends on the schedule: it is not compared there.

    :param why: the kernel change since which it does not: commit, subject, version
    """
    return _noting(_VARIES, why, flavours)


def _noting(attribute: str, why: str, flavours: tuple[str, ...]) -> Callable[[_F], _F]:
    def mark(function: _F) -> _F:
        noted: dict[str, str] = function.__dict__.setdefault(attribute, {})
        noted.update(dict.fromkeys(flavours, why))
        return function

    return mark


def group(name: str) -> list[Rule]:
    """Return the rules of one file, in its order."""
    module = f"{__name__}.{name}"
    found = importlib.import_module(module)
    rules = []
    for function in vars(found).values():
        if not isinstance(function, FunctionType) or function.__module__ != module or function.__name__[0] == "_":
            continue
        if function.__code__.co_varnames[: function.__code__.co_argcount] != ("sys", "say"):
            continue
        text = " ".join((function.__doc__ or "").split())
        more = function.__dict__
        rules.append(Rule(f"{name}.{function.__name__}", function, text, more.get(_DIFFERS, {}), more.get(_VARIES, {}),
                          _ROOT in more))
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
