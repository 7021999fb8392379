"""What rules order their processes with, and how they write down results: the same on the model and on the host."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, Final

#: how often `until` looks, and how long it sleeps in between (ns)
LOOKS: Final = 2000
NAP: Final = 200_000
#: what `execute` executes; a rule may make files beside it, which are gone before the next
PROGRAM: Final = "/mnt/rule"
ROOM: Final = "/mnt"


def attempt(call: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Make a call; return what it returns (0 for nothing), or the name of its error."""
    try:
        result = call(*args, **named)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return 0 if result is None else result


def status(word: int) -> str:
    """Return a wait status as it is written down."""
    return f"0x{word:04x}"


def wait(sys: Any, say: Any, pid: int = -1, options: int = 0) -> str:
    """Return what is found: ``NAME STATUS``, ``nothing``, or the error."""
    try:
        got, word = sys.waitpid(pid, options)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return f"{say.who(got)} {status(word)}" if got else "nothing"


def waitid(sys: Any, say: Any, kind: int, ident: int, options: int) -> str:
    """Return what is found: ``NAME uid signo status code``, ``nothing``, or the error."""
    try:
        info = sys.waitid(kind, ident, options)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    if info is None:
        return "nothing"
    return f"{say.who(info.si_pid)} uid {info.si_uid} signo {info.si_signo} status {info.si_status} code {info.si_code}"


class Gate:
    """A fence: who passes it waits until another process has opened it, once for each time."""

    def __init__(self, sys: Any) -> None:
        self.read, self.write = sys.pipe()

    def open(self, sys: Any) -> None:
        """Let one process through."""
        sys.write(self.write, b"g")

    def wait(self, sys: Any) -> None:
        """Sleep until somebody has opened it.  A handler may run meanwhile."""
        while True:
            try:
                sys.read(self.read, 1)
                return
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise

    def close(self, sys: Any) -> None:
        """Close both ends of this process."""
        sys.close(self.read)
        sys.close(self.write)


def until(sys: Any, holds: Callable[..., bool], *args: Any) -> None:
    """Look until ``holds(sys, *args)``, for some 0.4 s at most.

    :raises TimeoutError: it did not become true
    """
    for _ in range(LOOKS):
        if holds(sys, *args):
            return
        try:
            sys.nanosleep(NAP)
        except OSError:     # a handler has run
            continue
    raise TimeoutError(f"{holds.__name__}{args}")


def stat(sys: Any, pid: int) -> list[str]:
    """Return /proc/PID/stat: pid, comm, state, ppid, pgrp, session, tty_nr, … (proc(5) counts from 1).

    :raises OSError: there is no such process
    """
    text = sys.slurp(f"/proc/{pid}/stat").decode()
    end = text.rindex(")")
    return [text[: text.index(" ")], text[text.index("(") + 1 : end], *text[end + 2 :].split()]


def state(sys: Any, pid: int) -> str:
    """Return the letter of a process's state, ``gone`` if there is none."""
    try:
        return stat(sys, pid)[2]
    except OSError:
        return "gone"


def field(sys: Any, pid: int, name: str) -> str:
    """Return a line's value of /proc/PID/status, such as ``SigPnd``."""
    for line in sys.slurp(f"/proc/{pid}/status").decode().splitlines():
        if line.startswith(name + ":"):
            return str(line.partition(":")[2].strip())
    return "none"


def _is(sys: Any, pid: int, letters: str) -> bool:
    return state(sys, pid) in letters.split()


def asleep(sys: Any, pid: int) -> None:
    """Look until a process sleeps; it must have nothing before it but the call in which it shall sleep."""
    until(sys, _is, pid, "S")


def comes_to(sys: Any, pid: int, letters: str) -> None:
    """Look until a process is in one of the states, such as ``"T t"`` or ``"Z"`` or ``"gone"``."""
    until(sys, _is, pid, letters)


def sleeper(sys: Any) -> None:
    """Be a child that does nothing but sleep until a signal ends it."""
    while True:
        try:
            sys.pause()
        except OSError:
            continue


def ends(sys: Any, code: int) -> None:
    """Be a child that ends with an exit code."""
    sys.exit(code)


def raw(sys: Any, name: str, *args: Any) -> Any:
    """Make a system call with arguments as they are, such as a NULL or bad pointer; the result, or the error's name."""
    return attempt(sys._call, name, *args)


def started(sys: Any, *args: Any, flags: int = 17) -> int:
    """Make a child that runs ``fn(sys, …)``, by default `sleeper`; return its pid when it sleeps."""
    pid = sys.clone(*(args or (sleeper,)), flags=flags)
    asleep(sys, pid)
    return int(pid)


def stop(sys: Any, pid: int, signal: int = 19) -> None:
    """Stop a process that sleeps; return when it has stopped."""
    sys.kill(pid, signal)
    comes_to(sys, pid, "T")


def kill(sys: Any, pid: int, signal: int = 9) -> None:
    """Kill a child; return when it is a zombie."""
    sys.kill(pid, signal)
    comes_to(sys, pid, "Z")


def after(sys: Any, gate: Gate, code: int) -> None:
    """Be a child that ends with an exit code once a gate is open."""
    gate.wait(sys)
    sys.exit(code)


def dead(sys: Any, code: int = 0, flags: int = 17) -> int:
    """Make a child and let it end; return its pid when it is a zombie."""
    pid = sys.clone(ends, code, flags=flags)
    comes_to(sys, pid, "Z")
    return int(pid)


def parent_of(sys: Any, pid: int) -> int:
    """Return a process's parent, as /proc tells it."""
    return int(stat(sys, pid)[3])


def _tells_child(sys: Any, fd: int) -> None:
    sys.write(fd, str(sys.clone(sleeper)).encode())
    sleeper(sys)


def family(sys: Any) -> tuple[int, int]:
    """Make a child with a child; return both when they sleep."""
    told = Gate(sys)
    child = sys.clone(_tells_child, told.write)
    grandchild = int(sys.read(told.read, 16))
    told.close(sys)
    asleep(sys, child)
    asleep(sys, grandchild)
    return int(child), grandchild


def _no_thread(sys: Any, tid: int) -> bool:
    return bool(attempt(sys.tgkill, sys.getpid(), tid, 0) == "ESRCH")


def thread_ends(sys: Any, tid: int) -> None:
    """Look until the caller's process has no such thread."""
    until(sys, _no_thread, tid)


def sig(*numbers: int) -> int:
    """Return the set of some signals, as sigprocmask() has it here: bit n-1 is signal n."""
    return sum(1 << number - 1 for number in numbers)


def word(sys: Any, n: int = 0) -> Any:
    """Return the n-th word in the memory of the process, with ``get()`` and ``put()``: for pointers of clone, futex."""
    make = getattr(sys, "word", None)
    if make is not None:
        return make(n)
    from taskscope.model.include.linux.uaccess import Word

    return Word(0x0002_0000 + 8 * n)


def refused(sys: Any, flags: int) -> Any:
    """Clone with flags that must be refused; return the name of the error."""
    return attempt(getattr(sys, "refused", None) or sys.clone_flags, flags)


def execute(sys: Any, fn: Callable[..., Any], *args: str) -> None:
    """Execute a new program that runs ``fn(sys, say, *args)``, a function at the top of a module of rules.

    The arguments come as text.  On the host it is Python, which ignores SIGPIPE and SIGXFSZ as it begins.
    """
    module = fn.__module__.rpartition(".")[2]
    sys.execve(PROGRAM, [PROGRAM, *getattr(sys, "launch", ()), f"{module}:{fn.__name__}", *args], {})
