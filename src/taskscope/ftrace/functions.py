"""Which functions a kernel lets itself be traced at, under which names, and whether it does so at all.

The files of a tracer can exist and still refuse: a kernel that is locked down, or one that was told not to be patched,
answers EPERM to whoever opens them.  So each probe opens what a recorder would open, for reading or for appending
nothing, and leaves every setting as it is.  Follows kernel/trace/ftrace.c, trace_kprobe.c and
trace_events_trigger.c (4.19 to 6.18).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from taskscope.abi.renames import RENAMES, Rename, counterparts, fold_syscall
from taskscope.errors import UsageError

#: with root refused, no setting of the running system helps
_LOCKED = "locked on this machine, nothing mends it here; record in a guest"
_GLOB = re.compile(r"[*?\[]")
_TEXT_SYMBOL = re.compile(r"^[0-9a-fA-F]+ [tTwW] (?!__pfx_|__cfi_)([^\s\[]+)", re.MULTILINE)
#: what wraps the function of a system call, the outermost of a kernel's own programs first
_WRAPPERS = ("__x64_", "__arm64_", "__s390x_", "__riscv_", "", "SyS_", "__ia32_", "__s390_", "__x32_", "__se_",
             "___se_", "__do_")
_NEAR = 4


@dataclass(frozen=True, slots=True)
class Support:
    """Whether something works, and why in one sentence; ``error`` is the errno of a refusal, if it was one."""

    works: bool
    why: str
    error: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The functions that a name stands for; ``said`` is what to tell whoever asked for another name."""

    names: tuple[str, ...]
    said: str | None


# ---- what the kernel lets be traced ----------------------------------------------------------------------

def function_tracer(tracefs: Path, instance: Path | None = None) -> Support:
    """Tell whether functions can be traced.

    :param tracefs: a mounted tracefs
    :param instance: an instance of the caller's own, in which the tracer is then really tried, with a filter of one
        function, and taken back; None: only what can be told by opening files
    """
    try:
        tracers = (tracefs / "available_tracers").read_text().split()
    except OSError as e:
        return _refused(e, "available_tracers")
    if "function" not in tracers:
        return Support(False, "this kernel has no function tracer (built without CONFIG_FUNCTION_TRACER)")
    for name in ("available_filter_functions", "set_ftrace_filter"):
        try:
            os.close(os.open(tracefs / name, os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            return Support(False, f"this kernel cannot trace single functions (no {name}: built without "
                                  "CONFIG_DYNAMIC_FTRACE)")
        except OSError as e:
            return _refused(e, name)
    if not _sysctl_on("kernel/ftrace_enabled"):
        return Support(False, "function tracing is switched off: sysctl kernel.ftrace_enabled=1 switches it on")
    return Support(True, "functions can be traced") if instance is None else _try_tracer(tracefs, instance)


def _try_tracer(tracefs: Path, instance: Path) -> Support:
    choice = instance / "set_ftrace_filter"
    if not choice.exists():
        return Support(False, "this kernel traces functions in its top-level buffer only, not in an instance")
    with (tracefs / "available_filter_functions").open() as file:
        some = file.readline().split(" ")[0].strip()
    try:
        choice.write_text(some + "\n")
        try:
            (instance / "current_tracer").write_text("function\n")
            (instance / "current_tracer").write_text("nop\n")
        finally:
            choice.write_text("\n")
    except OSError as e:
        return _refused(e, "current_tracer=function" if e.filename is None else Path(str(e.filename)).name)
    return Support(True, "functions can be traced")


def kprobes(tracefs: Path) -> Support:
    """Tell whether probes can be set at functions.

    :param tracefs: a mounted tracefs
    """
    try:
        # Without O_TRUNC, which would remove everybody's probes.
        os.close(os.open(tracefs / "kprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
    except FileNotFoundError:
        return Support(False, "this kernel has no kprobes (no kprobe_events: built without CONFIG_KPROBE_EVENTS)")
    except OSError as e:
        return _refused(e, "kprobe_events")
    return Support(True, "probes can be set at functions")


def syscall_events(tracefs: Path) -> Support:
    """Tell whether each system call has events of its own.

    :param tracefs: a mounted tracefs
    """
    events = tracefs / "events"
    try:
        (events / "sched").stat()
    except OSError as e:
        return _refused(e, "events")
    if (events / "syscalls" / "sys_enter_kill").exists():
        return Support(True, "system calls have events")
    why = "this kernel has no events of single system calls (built without CONFIG_FTRACE_SYSCALLS)"
    if (events / "raw_syscalls" / "sys_enter").exists():
        why += "; raw_syscalls:sys_enter and sys_exit are there"
    return Support(False, why)


def stack_triggers(tracefs: Path) -> Support:
    """Tell whether an event can be told to record the kernel stack (the trigger ``stacktrace``).

    :param tracefs: a mounted tracefs
    """
    try:
        text = (tracefs / "events/sched/sched_process_exit/trigger").read_text()
    except FileNotFoundError:
        return Support(False, "this kernel has no triggers at events")
    except OSError as e:
        return _refused(e, "a trigger")
    # The list of what can be set stands there while nothing is set.
    if "stacktrace" in text or not text.startswith("# Available triggers:"):
        return Support(True, "an event can record the kernel stack")
    return Support(False, "this kernel knows no trigger stacktrace (built without CONFIG_STACKTRACE)")


def _refused(error: OSError, what: str) -> Support:
    name = errno.errorcode.get(error.errno or 0, str(error.errno))
    if os.geteuid() != 0 and error.errno in (errno.EACCES, errno.EPERM):
        return Support(False, f"{what} may not be opened by this user; it needs root", error.errno)
    if error.errno == errno.EPERM:
        return Support(False, f"the kernel answers EPERM to {what}: {_LOCKED}", error.errno)
    return Support(False, f"the kernel answers {name} to {what} ({os.strerror(error.errno or 0)})", error.errno)


def _sysctl_on(name: str) -> bool:
    try:
        return Path("/proc/sys", name).read_text().strip() != "0"
    except OSError:
        return True


# ---- names -----------------------------------------------------------------------------------------------

def read_functions(tracefs: Path) -> frozenset[str]:
    """Return the functions that can be traced: ``available_filter_functions``, without the names of modules.

    :param tracefs: a mounted tracefs
    :raises OSError: the kernel refuses it
    """
    text = (tracefs / "available_filter_functions").read_text(errors="backslashreplace")
    return frozenset(line.split(" ", 1)[0].split("\t", 1)[0] for line in text.splitlines() if line)


def functions_of(kallsyms: bytes) -> frozenset[str]:
    """Return the names of functions in the text of ``/proc/kallsyms`` (types t, T, w and W).

    What the compiler puts before a function (``__pfx_``, ``__cfi_``) and its seldom part (``.cold``) are left out:
    nobody calls them.
    """
    found = _TEXT_SYMBOL.findall(kallsyms.decode(errors="backslashreplace"))
    return frozenset(name for name in found if not name.endswith(".cold"))


def find_function(asked: str, available: Collection[str]) -> Found:
    """Find a function by its name in this or another version of the kernel.

    A name that is there is taken.  Else the copies that the compiler made of it (``.isra.0``, ``.constprop.0``,
    ``.part.0``), else the name it has had in another version (`taskscope.abi.renames`), else the function of the same
    system call (``sys_clone``, ``__x64_sys_clone``, ``__arm64_sys_clone``, ``__do_sys_clone``).  A name with ``*``,
    ``?`` or ``[`` is a glob, as ``set_ftrace_filter`` takes it.

    :param available: what the kernel has
    :raises UsageError: nothing fits; it names what comes near

    >>> find_function("_do_fork", {"kernel_clone", "do_exit"})
    Found(names=('kernel_clone',), said='_do_fork is called kernel_clone in this kernel (since v5.10)')
    """
    names = available if isinstance(available, (set, frozenset, dict)) else frozenset(available)
    if asked in names:
        return Found((asked,), None)
    if _GLOB.search(asked):
        from fnmatch import fnmatchcase

        matching = tuple(sorted(n for n in names if fnmatchcase(n, asked)))
        if not matching:
            raise UsageError(f"no function of this kernel matches {asked!r}")
        return Found(matching, None)
    if asked:
        copies: dict[str, list[str]] = {}
        for name in names:
            if "." in name:
                copies.setdefault(name.partition(".")[0], []).append(name)
        found = _same(asked, names, copies) or _renamed(asked, names, copies) or _same_syscall(asked, names)
        if found is not None:
            return found
    near = _near(asked, names)
    hint = f"; near it are {', '.join(near)}" if near else ""
    raise UsageError(f"this kernel has no function {asked!r} that can be traced{hint}")


def _same(asked: str, names: Collection[str], copies: dict[str, list[str]]) -> Found | None:
    """Find the function itself behind the suffixes of a compiler."""
    plain = asked.partition(".")[0]
    if plain != asked and plain in names:
        return Found((plain,), f"{asked} is called {plain} in this kernel")
    if plain in copies:
        found = tuple(sorted(copies[plain]))
        return Found(found, f"{asked} is called {' and '.join(found)} in this kernel (copies that the compiler made)")
    return None


def _renamed(asked: str, names: Collection[str], copies: dict[str, list[str]]) -> Found | None:
    plain = asked.partition(".")[0]
    renames = [r for r in RENAMES if r.kind == "function"]
    if not any(plain in (r.old, r.new) for r in renames):
        return None
    others = counterparts(plain)
    chain = sorted([plain, *others], key=lambda n: _age(n, renames))
    # The newest first: where an old name stayed, it is a wrapper that less goes through.
    for other in reversed(others):
        present = (other,) if other in names else tuple(sorted(copies.get(other, ())))
        if present:
            newer = chain.index(other) > chain.index(plain)
            step = next(r for r in renames if (r.new if newer else r.old) == other)
            return Found(present, f"{asked} is called {' and '.join(present)} in this kernel "
                                  f"({'since' if newer else 'before'} {step.since})")
    return None


def _age(name: str, renames: list[Rename]) -> int:
    """Return how many names came before this one."""
    steps = 0
    seen = {name}
    while (older := next((r.old for r in renames if r.new == name), None)) is not None and older not in seen:
        seen.add(older)
        name, steps = older, steps + 1
    return steps


def _same_syscall(asked: str, names: Collection[str]) -> Found | None:
    call = fold_syscall(asked)
    if call is None:
        return None
    # Only names that end alike can be it; folding all sixty thousand would take a while.
    short = call.rpartition("sys_")[2]
    same = [n for n in names if n.partition(".")[0].endswith(short) and fold_syscall(n) == call]
    if not same:
        return None

    def rank(name: str) -> tuple[int, str]:
        prefix = name.partition("compat_sys_" if "compat_" in name else "sys_")[0]
        if name.startswith(("SyS_", "compat_SyS_")):
            prefix = "SyS_"
        return _WRAPPERS.index(prefix) if prefix in _WRAPPERS else len(_WRAPPERS), name

    best = min(same, key=rank)
    return Found((best,), f"{asked} is called {best} in this kernel")


def _near(asked: str, names: Collection[str]) -> list[str]:
    import difflib

    if not asked:
        return []
    inside = sorted((n for n in names if asked in n or (len(n) > 4 and n in asked)), key=lambda n: (len(n), n))
    if len(inside) >= _NEAR:
        return inside[:_NEAR]
    # A slip in a name of another version, too.
    once = {n for r in RENAMES if r.kind == "function" for n in (r.old, r.new)} - set(names)
    for old in difflib.get_close_matches(asked, sorted(once), n=_NEAR, cutoff=0.8):
        inside += [n for n in reversed(counterparts(old)) if n in names][:1]
    # Comparing with every function would take seconds: those of about this length with these letters suffice.
    letters = set(asked)
    likely = [n for n in names if abs(len(n) - len(asked)) <= 3 and len(letters.symmetric_difference(n)) <= 4]
    near = difflib.get_close_matches(asked, sorted(likely), n=_NEAR, cutoff=0.6)
    return list(dict.fromkeys([*inside, *near]))[:_NEAR]
