"""``sys``: the C library as programs of the machine see it.

Names are those of the C library, results those of Python's `os` module, and failures raise OSError with the errno.
Times are in seconds where the C library has seconds and in integer ns where its name says so or it has a timespec.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

from taskscope.abi import wait
from taskscope.abi.sched import CloneFlag
from taskscope.abi.signal import Signal
from taskscope.model import machine
from taskscope.model.include.linux.uaccess import Cell, Word
from taskscope.model.user.python import _CLONE_THREAD, _CLONE_VM, DivergedError, UserContext, UserFunction, private

_SIGCHLD: Final = int(Signal.SIGCHLD)
#: what glibc's pthread_create() asks for
PTHREAD_FLAGS: Final = int(
    CloneFlag.CLONE_VM
    | CloneFlag.CLONE_FS
    | CloneFlag.CLONE_FILES
    | CloneFlag.CLONE_SIGHAND
    | CloneFlag.CLONE_THREAD
    | CloneFlag.CLONE_SYSVSEM
    | CloneFlag.CLONE_SETTLS
    | CloneFlag.CLONE_PARENT_SETTID
    | CloneFlag.CLONE_CHILD_CLEARTID
)
#: what glibc's fork() asks for: 0x01200011
FORK_FLAGS: Final = int(CloneFlag.CLONE_CHILD_SETTID | CloneFlag.CLONE_CHILD_CLEARTID) | _SIGCHLD
#: where the C library keeps the thread's own id, in every address space of ours
_TID: Final = Word(0x1000)

SIG_DFL: Final = 0
SIG_IGN: Final = 1
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK = 0, 1, 2
TCGETS, TIOCGPGRP, TIOCSPGRP, TIOCSCTTY, TIOCGSID = 0x5401, 0x540F, 0x5410, 0x540E, 0x5429
_AT_FDCWD: Final = -100


class WaitResult(NamedTuple):
    """What waitid() tells about a child (siginfo_t)."""

    si_pid: int
    si_uid: int
    si_signo: int
    si_status: int
    si_code: int


class Sys(UserContext):
    """The C library of one task."""

    __slots__ = ("_backwards", "_out", "_tty", "environ")

    SIG_DFL = SIG_DFL
    SIG_IGN = SIG_IGN

    def __init__(
        self, entry: Callable[..., Any], args: tuple[Any, ...], *, shared: bool = False, thread: bool = False
    ) -> None:
        super().__init__(entry, args, shared=shared, thread=thread)
        self._backwards = machine.cur.flavour.arch == "arm"
        self.environ: dict[str, str] = {}
        self._out: list[str] = []  # stdout's buffer
        self._tty: bool | None = None  # whether stdout is a terminal, once that was asked

    def forked(self) -> UserContext:
        """See `UserContext.forked`; the buffer of stdout fills up again as the child runs its program again."""
        child = super().forked()
        assert isinstance(child, Sys)
        child.environ = dict(self.environ)
        return child

    # ---- birth -----------------------------------------------------------------------------------------

    def fork(self) -> int:
        """Create a child: 0 in the child, its pid in the parent.  As glibc does it: clone(0x01200011)."""
        return self.clone_flags(FORK_FLAGS, 0, _TID)

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
        tid = Word(self._enter_word())
        return self._clone(PTHREAD_FLAGS, self._context(fn, args, PTHREAD_FLAGS), tid, tid)

    def _enter_word(self) -> int:
        return 0x2000 + 8 * len(self._log)

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
        self._call("exit", status)
        raise AssertionError("exit() returned")

    def abort(self) -> NoReturn:
        """Die by SIGABRT."""
        self.kill(self.getpid(), int(Signal.SIGABRT))
        raise AssertionError("abort() returned")

    def _finish(self, status: int) -> None:
        self.fflush()
        super()._finish(status)

    def _crashed(self, error: Exception) -> None:
        self.fflush()
        super()._crashed(error)

    # ---- waiting ---------------------------------------------------------------------------------------

    def wait(self) -> tuple[int, int]:
        """Wait for any child to die; return (pid, status)."""
        return self.waitpid(-1, 0)

    def waitpid(self, pid: int, options: int = 0) -> tuple[int, int]:
        """Wait for a child; return (pid, status), (0, 0) if WNOHANG was given and none is ready."""
        got, status = self._call("wait4", pid, (stat := Cell(0)), options, 0, out=stat)
        return got, status

    def wait4(self, pid: int, options: int = 0) -> tuple[int, int, Any]:
        """Wait for a child; return (pid, status, rusage)."""
        both = _Both()
        got, (status, usage) = self._call("wait4", pid, both.first, options, both.second, out=both)
        return got, status, usage

    def waitid(self, idtype: int, ident: int, options: int) -> WaitResult | None:
        """Wait for a child to change state; None if WNOHANG was given and none has."""
        _, info = self._call("waitid", idtype, ident, (cell := Cell(None)), options, 0, out=cell)
        if info is None or not info.si_pid:
            return None
        return WaitResult(info.si_pid, info.si_uid, info.si_signo, info.si_status, info.si_code)

    WIFEXITED = staticmethod(os.WIFEXITED)
    WEXITSTATUS = staticmethod(os.WEXITSTATUS)
    WIFSIGNALED = staticmethod(os.WIFSIGNALED)
    WTERMSIG = staticmethod(os.WTERMSIG)
    WCOREDUMP = staticmethod(os.WCOREDUMP)
    WIFSTOPPED = staticmethod(os.WIFSTOPPED)
    WSTOPSIG = staticmethod(os.WSTOPSIG)
    WIFCONTINUED = staticmethod(os.WIFCONTINUED)

    def system_status(self, status: int) -> int:
        """Return what a shell makes of a wait status: the exit code, or 128 + the signal."""
        shown = wait.shell_status(wait.split(status))
        return 0 if shown is None else shown

    # ---- ids -------------------------------------------------------------------------------------------

    def getpid(self) -> int:
        """Return the process id (the thread group's)."""
        return int(self._call("getpid"))

    def getppid(self) -> int:
        """Return the parent's process id."""
        return int(self._call("getppid"))

    def gettid(self) -> int:
        """Return the task's own id."""
        return int(self._call("gettid"))

    def getpgid(self, pid: int = 0) -> int:
        """Return the process group of a process."""
        return int(self._call("getpgid", pid))

    def getpgrp(self) -> int:
        """Return the caller's process group."""
        return self.getpgid(0)

    def setpgid(self, pid: int, pgid: int) -> None:
        """Move a process to a process group."""
        self._call("setpgid", pid, pgid)

    def getsid(self, pid: int = 0) -> int:
        """Return the session of a process."""
        return int(self._call("getsid", pid))

    def setsid(self) -> int:
        """Begin a session; return its id."""
        return int(self._call("setsid"))

    def getuid(self) -> int:
        """Return the real user id."""
        return int(self._call("getuid"))

    def geteuid(self) -> int:
        """Return the effective user id."""
        return int(self._call("geteuid"))

    def getgid(self) -> int:
        """Return the real group id."""
        return int(self._call("getgid"))

    def setuid(self, uid: int) -> None:
        """Set the user ids."""
        self._call("setuid", uid)

    def setgid(self, gid: int) -> None:
        """Set the group ids."""
        self._call("setgid", gid)

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

    # ---- signals ---------------------------------------------------------------------------------------

    def kill(self, pid: int, sig: int) -> None:
        """Send a signal to a process, a process group or all."""
        self._call("kill", pid, sig)

    def killpg(self, pgid: int, sig: int) -> None:
        """Send a signal to a process group."""
        self._call("kill", -pgid, sig)

    def tgkill(self, tgid: int, tid: int, sig: int) -> None:
        """Send a signal to a thread."""
        self._call("tgkill", tgid, tid, sig)

    def tkill(self, tid: int, sig: int) -> None:
        """Send a signal to a thread, whatever process it belongs to."""
        self._call("tkill", tid, sig)

    def raise_(self, sig: int) -> None:
        """Send a signal to the calling thread."""
        self.tgkill(self.getpid(), self.gettid(), sig)

    def sigaction(self, sig: int, handler: Any = None, flags: int = 0, mask: int = 0) -> tuple[Any, int, int]:
        """Set what a signal does, unless `handler` is None; return the (handler, flags, mask) before.

        :param handler: SIG_DFL, SIG_IGN or ``fn(sys, sig, info)``
        """
        before = self.handlers.get(sig)
        act = None
        if handler is not None:
            if callable(handler):
                self.handlers[sig] = handler
                # The program's text has the functions in a row, one a signal.
                handler = UserFunction(0x8000 + 0x40 * sig)
            act = (handler, flags, mask)
        try:
            _, old = self._call("rt_sigaction", sig, act, (cell := Cell()), 8, out=cell)
        except OSError:
            if before is not None:
                self.handlers[sig] = before
            raise
        was = old.sa_handler
        return (before if isinstance(was, UserFunction) else was), old.sa_flags, old.sa_mask

    def signal(self, sig: int, handler: Any) -> Any:
        """Set what a signal does, restarting the calls it interrupts (as glibc); return the handler before."""
        return self.sigaction(sig, handler, 0x10000000)[0]

    def sigprocmask(self, how: int, mask: int | None) -> int:
        """Change the set of blocked signals (bit n-1 is signal n); return the set before."""
        _, old = self._call("rt_sigprocmask", how, mask, (cell := Cell(0)), 8, out=cell)
        return int(old)

    def sigpending(self) -> int:
        """Return the set of signals that are blocked and pending."""
        _, pending = self._call("rt_sigpending", (cell := Cell(0)), 8, out=cell)
        return int(pending)

    def sigsuspend(self, mask: int) -> None:
        """Wait for a signal with another set of blocked ones; always raises OSError(EINTR)."""
        self._call("rt_sigsuspend", mask, 8)

    def pause(self) -> None:
        """Wait for a signal; raises OSError(EINTR) when a handler has run."""
        self._call("pause")

    def alarm(self, seconds: int) -> int:
        """Let SIGALRM come in so many seconds; return how many the last one had left."""
        if "alarm" in self._nr:
            return int(self._call("alarm", seconds))
        # 32-bit ARM (EABI) has no such call: as glibc does it there.
        (_, _), (sec, usec) = self.setitimer(0, seconds)
        return int(sec) + bool(usec)

    def setitimer(self, which: int, seconds: float, interval: float = 0.0) -> tuple[Any, Any]:
        """Let SIGALRM come in so many seconds, then at each interval; return the ((s, us), (s, us)) before."""
        new = tuple(divmod(round(value * 1_000_000), 1_000_000) for value in (interval, seconds))
        _, old = self._call("setitimer", which, new, (cell := Cell(((0, 0), (0, 0)))), out=cell)
        return old  # type: ignore[no-any-return]

    # ---- time ------------------------------------------------------------------------------------------

    def nanosleep(self, ns: int) -> None:
        """Sleep so many ns; raises OSError(EINTR) if a handler ran."""
        self._call("nanosleep", divmod(ns, 1_000_000_000), 0)

    def sleep(self, seconds: float) -> int:
        """Sleep; return the whole seconds that were left when a signal handler ended it."""
        try:
            _, left = self._call(
                "nanosleep", divmod(round(seconds * 1e9), 1_000_000_000), (rem := Cell((0, 0))), out=rem
            )
        except OSError as error:
            if error.errno != 4:
                raise
            return int(self._log[-1][2][0]) if self._log and self._log[-1][2] else 0
        del left
        return 0

    def usleep(self, us: int) -> None:
        """Sleep so many microseconds."""
        self.nanosleep(us * 1000)

    def clock_gettime_ns(self, clock: int = 1) -> int:
        """Return a clock in ns: 0 CLOCK_REALTIME, 1 CLOCK_MONOTONIC."""
        _, (sec, nsec) = self._call("clock_gettime", clock, (cell := Cell((0, 0))), out=cell)
        return int(sec) * 1_000_000_000 + int(nsec)

    def times(self) -> Any:
        """Return (utime, stime, cutime, cstime) in clock ticks of 1/100 s."""
        return self._call("times", (cell := Cell(None)), out=cell)[1]

    def getrusage(self, who: int = 0) -> Any:
        """Return the resource usage of the process (0), its children (-1) or the thread (1)."""
        return self._call("getrusage", who, (cell := Cell(None)), out=cell)[1]

    def getrlimit(self, resource: int) -> tuple[int, int]:
        """Return (soft, hard)."""
        return self._call("getrlimit", resource, (cell := Cell((0, 0))), out=cell)[1]  # type: ignore[no-any-return]

    def setrlimit(self, resource: int, limits: tuple[int, int]) -> None:
        """Set (soft, hard)."""
        self._call("setrlimit", resource, limits)

    def uname(self) -> Any:
        """Return (sysname, nodename, release, version, machine)."""
        return self._call("uname", (cell := Cell(None)), out=cell)[1]

    # ---- scheduling ------------------------------------------------------------------------------------

    def sched_yield(self) -> None:
        """Let others run."""
        self._call("sched_yield")

    def sched_setscheduler(self, pid: int, policy: int, priority: int) -> None:
        """Set policy and realtime priority."""
        self._call("sched_setscheduler", pid, policy, priority)

    def sched_getscheduler(self, pid: int = 0) -> int:
        """Return the policy."""
        return int(self._call("sched_getscheduler", pid))

    def sched_setaffinity(self, pid: int, cpus: Iterable[int]) -> None:
        """Set on which CPUs a task may run."""
        self._call("sched_setaffinity", pid, 8, sum(1 << cpu for cpu in set(cpus)))

    def sched_getaffinity(self, pid: int = 0) -> set[int]:
        """Return the CPUs on which a task may run."""
        _, mask = self._call("sched_getaffinity", pid, 8, (cell := Cell(0)), out=cell)
        return {cpu for cpu in range(int(mask).bit_length()) if mask >> cpu & 1}

    def getcpu(self) -> int:
        """Return the number of the CPU that runs the caller."""
        return int(self._call("getcpu", (cell := Cell(0)), 0, 0, out=cell)[1])

    def nice(self, inc: int) -> int:
        """Change the nice value; return the new one."""
        now = self.getpriority(0, 0)
        self.setpriority(0, 0, max(-20, min(19, now + inc)))
        return self.getpriority(0, 0)

    def getpriority(self, which: int, who: int) -> int:
        """Return a nice value."""
        return 20 - int(self._call("getpriority", which, who))

    def setpriority(self, which: int, who: int, nice: int) -> None:
        """Set a nice value."""
        self._call("setpriority", which, who, nice)

    # ---- files -----------------------------------------------------------------------------------------

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
        """Open a file; return its descriptor."""
        return int(self._call("open", path, flags, mode))

    def close(self, fd: int) -> None:
        """Close a descriptor."""
        self._call("close", fd)

    def read(self, fd: int, n: int) -> bytes:
        """Read up to `n` bytes; b"" at the end."""
        return self._call("read", fd, (cell := Cell(b"")), n, out=cell)[1]  # type: ignore[no-any-return]

    def write(self, fd: int, data: bytes) -> int:
        """Write; return how many bytes were taken."""
        return int(self._call("write", fd, data, len(data)))

    def lseek(self, fd: int, offset: int, whence: int = 0) -> int:
        """Move the file position; return it."""
        return int(self._call("lseek", fd, offset, whence))

    def pipe(self) -> tuple[int, int]:
        """Make a pipe; return (read end, write end)."""
        return self._call("pipe", (cell := Cell((-1, -1))), out=cell)[1]  # type: ignore[no-any-return]

    def pipe2(self, flags: int) -> tuple[int, int]:
        """Make a pipe with O_CLOEXEC or O_NONBLOCK."""
        return self._call("pipe2", (cell := Cell((-1, -1))), flags, out=cell)[1]  # type: ignore[no-any-return]

    def dup(self, fd: int) -> int:
        """Duplicate a descriptor to the lowest free number."""
        return int(self._call("dup", fd))

    def dup2(self, fd: int, fd2: int) -> int:
        """Duplicate a descriptor to a number of one's choice."""
        return int(self._call("dup2", fd, fd2))

    def fcntl(self, fd: int, cmd: int, arg: int = 0) -> int:
        """Do what F_* says with a descriptor."""
        return int(self._call("fcntl", fd, cmd, arg))

    def ioctl(self, fd: int, cmd: int, arg: Any = 0) -> int:
        """Ask the driver behind a descriptor."""
        return int(self._call("ioctl", fd, cmd, arg))

    def ioctl_get(self, fd: int, cmd: int) -> Any:
        """Return what ioctl(2) stores through its third argument."""
        return self._call("ioctl", fd, cmd, (cell := Cell(None)), out=cell)[1]

    def isatty(self, fd: int) -> bool:
        """Tell whether a descriptor is a terminal."""
        try:
            self._call("ioctl", fd, TCGETS, (cell := Cell(None)), out=cell)
        except OSError:
            return False
        return True

    def tcgetpgrp(self, fd: int) -> int:
        """Return the foreground process group of a terminal."""
        return int(self._call("ioctl", fd, TIOCGPGRP, (cell := Cell(0)), out=cell)[1])

    def tcsetpgrp(self, fd: int, pgrp: int) -> None:
        """Set the foreground process group of the controlling terminal."""
        self._call("ioctl", fd, TIOCSPGRP, Cell(pgrp))

    def chdir(self, path: str) -> None:
        """Change the working directory."""
        self._call("chdir", path)

    def getcwd(self) -> str:
        """Return the working directory."""
        return str(self._call("getcwd", (cell := Cell("")), 4096, out=cell)[1])

    def umask(self, mask: int) -> int:
        """Set the mask of permissions for new files; return the one before."""
        return int(self._call("umask", mask))

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make a directory."""
        self._call("mkdir", path, mode)

    def unlink(self, path: str) -> None:
        """Remove a name."""
        self._call("unlink", path)

    def rename(self, old: str, new: str) -> None:
        """Rename a file."""
        self._call("rename", old, new)

    def chmod(self, path: str, mode: int) -> None:
        """Set permissions."""
        self._call("chmod", path, mode)

    def stat(self, path: str) -> Any:
        """Return a file's attributes: st_mode, st_ino, st_size, st_uid, st_rdev."""
        return self._call("stat", path, (cell := Cell(None)), out=cell)[1]

    def fstat(self, fd: int) -> Any:
        """Return an open file's attributes."""
        return self._call("fstat", fd, (cell := Cell(None)), out=cell)[1]

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory, without ``.`` and ``..``."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        names: list[str] = []
        while True:
            _, some = self._call("getdents64", fd, (cell := Cell(())), 32768, out=cell)
            if not some:
                break
            names += some
        self.close(fd)
        return [name for name in names if name not in (".", "..")]

    def slurp(self, path: str) -> bytes:
        """Read a whole file: open, read to the end, close."""
        fd = self.open(path)
        data = self.read_all(fd)
        self.close(fd)
        return data

    def read_all(self, fd: int) -> bytes:
        """Read to the end of a file."""
        parts = []
        while part := self.read(fd, 65536):
            parts.append(part)
        return b"".join(parts)

    def write_all(self, fd: int, data: bytes) -> None:
        """Write all, however many write() calls it takes."""
        while data:
            data = data[self.write(fd, data) :]

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


class _Both:
    """Two cells as one result."""

    def __init__(self) -> None:
        self.first = Cell(0)
        self.second = Cell(None)

    @property
    def value(self) -> tuple[Any, Any]:
        return self.first.value, self.second.value


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
