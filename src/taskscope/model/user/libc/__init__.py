"""``sys``: the C library as programs of the machine see it.

Names are those of the C library, results those of Python's `os` module, and failures raise OSError with the errno.
Calls stand under their headers in the files here; processes and stdio, which hold state of their own, in this one.
Times are in seconds where the C library has seconds and in integer ns where its name says so or it has a timespec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

from taskscope.abi.sched import CloneFlag
from taskscope.abi.signal import Signal
from taskscope.model import machine
from taskscope.model.include.linux.uaccess import Cell, Word
from taskscope.model.user.libc.mman import Memory
from taskscope.model.user.libc.module import Modules
from taskscope.model.user.libc.pthread import PTHREAD_FLAGS, Threads
from taskscope.model.user.libc.ptrace import Ptrace
from taskscope.model.user.libc.sched import Sched
from taskscope.model.user.libc.signal import SIG_BLOCK, SIG_DFL, SIG_IGN, SIG_SETMASK, SIG_UNBLOCK, Signals
from taskscope.model.user.libc.time import Time
from taskscope.model.user.libc.unistd import Files
from taskscope.model.user.libc.unistd_ids import Ids
from taskscope.model.user.libc.wait import Wait, WaitResult
from taskscope.model.user.python import _CLONE_THREAD, _CLONE_VM, DivergedError, UserContext, private

_SIGCHLD: Final = int(Signal.SIGCHLD)
#: what glibc's fork() asks for: 0x01200011
FORK_FLAGS: Final = int(CloneFlag.CLONE_CHILD_SETTID | CloneFlag.CLONE_CHILD_CLEARTID) | _SIGCHLD
#: where the C library keeps the thread's own id, in every address space of ours
_TID: Final = Word(0x1000)


class Sys(Wait, Signals, Time, Sched, Ptrace, Memory, Modules, Files, Ids, Threads):
    """The C library of one task."""

    __slots__ = ("_backwards", "_out", "_tty", "environ")

    def __init__(
        self, entry: Callable[..., Any], args: tuple[Any, ...], *, shared: bool = False, thread: bool = False
    ) -> None:
        super().__init__(entry, args, shared=shared, thread=thread)
        self._backwards = machine.cur.flavour.arch == "arm"
        self._descriptor = None
        self.environ: dict[str, str] = {}
        self._out: list[str] = []  # stdout's buffer
        self._tty: bool | None = None  # whether stdout is a terminal, once that was asked

    def forked(self) -> UserContext:
        """See `UserContext.forked`; the buffer of stdout fills up again as the child runs its program again."""
        child = super().forked()
        assert isinstance(child, Sys)
        child.environ = dict(self.environ)
        # The first thread's descriptor comes from malloc(), which the child does again.
        child._descriptor = self._descriptor if self._thread else None
        return child

    # ---- birth -----------------------------------------------------------------------------------------

    def fork(self) -> int:
        """Create a child: 0 in the child, its pid in the parent.  As glibc does it: clone(0x01200011)."""
        pid = self.clone_flags(FORK_FLAGS, 0, _TID)
        if not pid:
            self._robust_after_fork()
        return pid

    def sys_fork(self) -> int:
        """The system call fork(2) itself, where the architecture has it."""
        self._can_fork()
        return int(self._call("fork"))

    def vfork(self) -> int:
        """Create a child and sleep until it execs or exits.  The child has its own Python variables all the same."""
        self._can_fork()
        return int(self._call("vfork"))

    def clone(
        self, fn: Callable[..., Any], *args: Any, flags: int = _SIGCHLD, parent_tid: Any = 0, child_tid: Any = 0
    ) -> int:
        """Create a child that runs ``fn(sys, *args)`` and ends with its result; return its pid.

        :param flags: CLONE_* and the exit signal.  Without CLONE_VM the child has copies of the arguments
        """
        return self._clone(flags, self._context(fn, args, flags), parent_tid, child_tid)

    def clone_flags(self, flags: int, parent_tid: Any = 0, child_tid: Any = 0) -> int:
        """Clone as fork() does, with flags of one's own: 0 in the child."""
        self._can_fork()
        return self._clone(flags, 0, parent_tid, child_tid)

    def _clone(self, flags: int, stack: Any, parent_tid: Any, child_tid: Any) -> int:
        # 32-bit ARM has the last two arguments the other way round (CONFIG_CLONE_BACKWARDS).
        last = (0, child_tid) if self._backwards else (child_tid, 0)
        return int(self._call("clone", flags, stack, parent_tid, *last))

    def clone3(
        self,
        fn: Callable[..., Any] | None = None,
        *args: Any,
        flags: int = 0,
        exit_signal: int = _SIGCHLD,
        **fields: Any,
    ) -> int:
        """Clone by the newer call; `fields` are the other members of struct clone_args (pidfd, set_tid, …)."""
        if fn is None:
            self._can_fork()
        stack = 0 if fn is None else self._context(fn, args, flags)
        from taskscope.model.kernel.fork import CloneArgs

        return int(self._call("clone3", CloneArgs(flags, exit_signal=exit_signal, stack=stack, **fields), 88))

    def pthread_create(self, fn: Callable[..., Any], *args: Any) -> int:
        """Start a thread that runs ``fn(sys, *args)``; return its tid."""
        return self._new_thread(lambda descriptor: self._clone_thread(fn, args, descriptor))

    def _clone_thread(
        self, fn: Callable[..., Any], args: tuple[Any, ...], descriptor: Word
    ) -> int:
        context = self._context(fn, args, PTHREAD_FLAGS)
        context._descriptor = descriptor
        return self._clone(PTHREAD_FLAGS, context, descriptor, descriptor)

    def _context(self, fn: Callable[..., Any], args: tuple[Any, ...], flags: int) -> Sys:
        shared = bool(flags & _CLONE_VM)
        child = Sys(fn, args if shared else private(args), shared=shared, thread=bool(flags & _CLONE_THREAD))
        child.environ = self.environ if flags & _CLONE_VM else dict(self.environ)
        child.handlers = self.handlers if flags & _CLONE_VM else dict(self.handlers)
        return child

    # ---- programs --------------------------------------------------------------------------------------

    def execve(self, path: str, argv: Iterable[str], envp: Mapping[str, str] | None = None) -> NoReturn:
        """Replace the program."""
        self._call("execve", path, list(argv), dict(self.environ if envp is None else envp))
        raise AssertionError("execve() returned without an error")

    def execv(self, path: str, argv: Iterable[str]) -> NoReturn:
        """Replace the program, with the environment of this one."""
        self.execve(path, argv)

    def execvp(self, file: str, argv: Iterable[str]) -> NoReturn:
        """Replace the program by one that is looked for in PATH."""
        argv = list(argv)
        if "/" in file:
            self.execve(file, argv)
        error: OSError | None = None
        for folder in self.environ.get("PATH", "/bin:/usr/bin").split(":"):
            try:
                self.execve(f"{folder}/{file}", argv)
            except OSError as failed:
                if failed.errno not in (2, 13, 20):
                    raise
                error = failed if error is None or failed.errno == 13 else error
        assert error is not None
        raise error

    def _exit(self, status: int) -> NoReturn:
        """End the process at once; what stdout still buffers is lost."""
        self._call("exit_group", status)
        raise AssertionError("exit_group() returned")

    def exit(self, status: int = 0) -> NoReturn:
        """Flush stdout and end the process."""
        self.fflush()
        self._exit(status)

    def pthread_exit(self, status: int = 0) -> NoReturn:
        """End this thread only: the system call exit(2)."""
        if self._descriptor is not None:
            self._ended(status)
        self._call("exit", status)
        raise AssertionError("exit() returned")

    def abort(self) -> NoReturn:
        """Die by SIGABRT."""
        self.kill(self.getpid(), int(Signal.SIGABRT))
        raise AssertionError("abort() returned")

    def _finish(self, status: int) -> None:
        self.fflush()
        if self._thread and self._descriptor is not None:
            self._ended(status)
        super()._finish(status)

    def _crashed(self, error: Exception) -> None:
        self.fflush()
        super()._crashed(error)

    # ---- asking the kernel -----------------------------------------------------------------------------

    def prctl(self, option: int, arg2: Any = 0, arg3: Any = 0, arg4: Any = 0, arg5: Any = 0) -> int:
        """Ask for one of the PR_* operations; where it writes through a pointer, see `prctl_get`."""
        return int(self._call("prctl", option, arg2, arg3, arg4, arg5))

    def prctl_get(self, option: int) -> Any:
        """Return what prctl(2) writes through its second argument (PR_GET_NAME, PR_GET_PDEATHSIG …)."""
        return self._call("prctl", option, (cell := Cell(0)), 0, 0, 0, out=cell)[1]

    def set_tid_address(self, ptr: Any) -> int:
        """Name the word that is cleared at the thread's end; return the caller's tid."""
        return int(self._call("set_tid_address", ptr))

    def kcmp(self, pid1: int, pid2: int, kind: int, idx1: int = 0, idx2: int = 0) -> int:
        """Tell whether two processes share a resource: 0 if so (kcmp(2))."""
        return int(self._call("kcmp", pid1, pid2, kind, idx1, idx2))

    # ---- stdio -----------------------------------------------------------------------------------------

    def printf(self, fmt: str, *args: Any) -> None:
        """Print to stdout: line by line on a terminal, block by block elsewhere, as C's stdio does."""
        self._out.append(fmt % args if args else fmt)
        if self._tty is None:
            self._tty = self.isatty(1)
        if self._tty:
            if "\n" in self._out[-1]:
                self.fflush()
        elif sum(map(len, self._out)) >= 4096:
            self.fflush()

    def puts(self, line: str = "") -> None:
        """Print a line to stdout."""
        self.printf("%s\n", line)

    def fflush(self) -> None:
        """Write what stdout buffers."""
        if self._out:
            data = "".join(self._out).encode()
            self._out.clear()
            self.write_all(1, data)

    def perror(self, text: str) -> None:
        """Print a line to stderr."""
        self.write_all(2, f"{text}\n".encode())


__all__ = [
    "FORK_FLAGS",
    "PTHREAD_FLAGS",
    "SIG_BLOCK",
    "SIG_DFL",
    "SIG_IGN",
    "SIG_SETMASK",
    "SIG_UNBLOCK",
    "DivergedError",
    "Sys",
    "WaitResult",
]
