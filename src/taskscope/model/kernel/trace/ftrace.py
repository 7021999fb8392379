"""The function tracer's core: patching functions, and the filters that say which (kernel/trace/ftrace.c, v4.19).

As dynamic ftrace patches the entry of a function, the code object of a Python function is swapped for a stub that calls
the tracers first, and put back when the last one goes: every call is caught, through tables and pointers too, and a
function that nobody traces costs nothing.  The function object is one for all machines of the process, so a record on
it counts who asked; the stub calls a tracer only if the machine that runs is the one that it belongs to.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from taskscope.model import machine
from taskscope.model.kernel import kallsyms
from taskscope.model.kernel.trace.trace_events_filter import glob_match

if TYPE_CHECKING:
    from taskscope.model.kernel.kallsyms import Symbol
    from taskscope.model.machine import Machine

#: what a tracer is called with: the machine, the patched function's record, the arguments of the call
Ops = Callable[["Machine", "DynFtrace", tuple[Any, ...]], None]

# Numbers that stand in a stub's source for the objects that take their place in its constants.
_CALL: Final = 0x5AFE01
_RECORD: Final = 0x5AFE02
_ORIGINAL: Final = 0x5AFE03
_VARARGS: Final = 0x04
_VARKEYWORDS: Final = 0x08


class DynFtrace:
    """struct dyn_ftrace: a patched function, and the tracers that want to know of its calls."""

    __slots__ = ("code", "function", "names", "users")

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.code = function.__code__  # its own
        count = self.code.co_argcount + self.code.co_kwonlyargcount
        self.names = self.code.co_varnames[:count]
        self.users: tuple[tuple[Machine, Ops], ...] = ()


def ftrace_ops_list_func(record: DynFtrace, args: tuple[Any, ...]) -> None:
    """Call the tracers of the machine that runs; the first thing that a patched function does."""
    cur = machine.cur
    for owner, ops in record.users:
        if owner is cur:
            ops(cur, record, args)


def register_ftrace_function(cur: Machine, function: FunctionType, ops: Ops) -> None:
    """Have `ops` called at each call of a function on this machine."""
    record: DynFtrace | None = function.__dict__.get("__ftrace__")
    if record is None:
        record = DynFtrace(function)
        function.__dict__["__ftrace__"] = record
        function.__code__ = _stub(function, record)
    record.users = (*record.users, (cur, ops))


def unregister_ftrace_function(cur: Machine, function: FunctionType, ops: Ops) -> None:
    """Take `ops` off a function, and the patch with the last of them."""
    record: DynFtrace | None = function.__dict__.get("__ftrace__")
    if record is None:
        return
    record.users = tuple(user for user in record.users if user != (cur, ops))
    if not record.users:
        function.__code__ = record.code
        del function.__dict__["__ftrace__"]


def ftrace_release(cur: Machine) -> None:
    """Take off all that the machine has patched; called when it is closed."""
    if cur.kallsyms is None:
        return
    for symbol in cur.kallsyms.symbols:
        function = symbol.function
        record = function.__dict__.get("__ftrace__") if function is not None else None
        for owner, ops in record.users if record is not None else ():
            if owner is cur and function is not None:
                unregister_ftrace_function(cur, function, ops)


def _stub(function: FunctionType, record: DynFtrace) -> CodeType:
    """Make the code that stands in for a function's own: it tells the tracers, and calls what the function was."""
    code = function.__code__
    assert not code.co_freevars, f"{function.__qualname__} is a closure, which cannot be traced"
    original = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    original.__kwdefaults__ = function.__kwdefaults__
    names = list(code.co_varnames)
    positional, at = names[: code.co_argcount], code.co_argcount
    keyword = names[at : at + code.co_kwonlyargcount]
    at += code.co_kwonlyargcount
    declared = list(positional)
    if code.co_posonlyargcount:
        declared.insert(code.co_posonlyargcount, "/")
    passed = list(positional)
    if code.co_flags & _VARARGS:
        declared.append(f"*{names[at]}")
        passed.append(f"*{names[at]}")
        at += 1
    elif keyword:
        declared.append("*")
    declared += keyword
    passed += [f"{name}={name}" for name in keyword]
    if code.co_flags & _VARKEYWORDS:
        declared.append(f"**{names[at]}")
        passed.append(f"**{names[at]}")
    seen = "".join(f"{name}, " for name in (*positional, *keyword))
    source = (
        f"def stub({', '.join(declared)}):\n __call = {_CALL}\n __original = {_ORIGINAL}\n"
        f" __call({_RECORD}, ({seen}))\n return __original({', '.join(passed)})\n"
    )
    module = compile(source, "<ftrace>", "exec")
    stub: CodeType = next(c for c in module.co_consts if isinstance(c, CodeType))
    objects = {_CALL: ftrace_ops_list_func, _RECORD: record, _ORIGINAL: original}
    return stub.replace(
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_consts=tuple(objects.get(c, c) if isinstance(c, int) else c for c in stub.co_consts),
    )


def ftrace_call_address(symbol: Symbol, arm: bool) -> int:
    """Return where a function calls the tracer: ARM behind the prologue, x86 behind endbr64."""
    return symbol.address + (0x14 if arm else 4)


# ---- which functions -------------------------------------------------------------------------------------


def available_filter_functions(cur: Machine) -> list[Symbol]:
    """Return the functions that can be traced, by address."""
    return [s for s in kallsyms.kallsyms(cur).symbols if not s.notrace and s.function is not None]


class FtraceHash:
    """struct ftrace_hash: a set of functions, as set_ftrace_filter holds it.  Empty, it means all of them."""

    __slots__ = ("symbols",)

    def __init__(self) -> None:
        self.symbols: dict[int, Symbol] = {}  # by address


def ftrace_process_regex(cur: Machine, hash_: FtraceHash, word: str) -> int:
    """Add the functions that a glob matches, or with ``!`` take them off (ftrace_match_records()).

    :return: 0, or -EINVAL where it matches nothing
    """
    negative = word.startswith("!")
    pattern = word[1:] if negative else word
    matched = [s for s in available_filter_functions(cur) if glob_match(pattern, s.name)]
    if not matched:
        return -errno.EINVAL
    for symbol in matched:
        if negative:
            hash_.symbols.pop(symbol.address, None)
        else:
            hash_.symbols[symbol.address] = symbol
    return 0


def ftrace_filtered(cur: Machine, filter_: FtraceHash, notrace: FtraceHash) -> Iterable[Symbol]:
    """Return the functions that a filter and its opposite leave."""
    symbols = list(filter_.symbols.values()) or available_filter_functions(cur)
    return [s for s in symbols if s.address not in notrace.symbols]
