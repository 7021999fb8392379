"""The C library of this host with the names and the results of `taskscope.model.user.libc.Sys`, for rules.

Everything is a raw system call, so that nothing of Python comes between: no restarting after EINTR (PEP 475), no
signal handlers that run later.  A call without a method here is made by its name with the numbers and bytes that it is
given (``sys.setpgid(0, 0)``); one that writes through a pointer needs a method.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from taskscope.labs.truth.rules.native_call import Word, number_of, syscall
from taskscope.labs.truth.rules.native_ids import Ids
from taskscope.labs.truth.rules.native_ptrace import Ptrace
from taskscope.labs.truth.rules.native_sigaction import Info, Signals
from taskscope.labs.truth.rules.native_signals import NativeSignals
from taskscope.labs.truth.rules.transcript import Saying

#: where a rule's processes write what they say; kept over exec
LOG: Final = 900
_SIGCHLD: Final = 17
_CLONE_VM, _CLONE_VFORK = 0x100, 0x4000


class WaitResult(NamedTuple):
    """What waitid() tells about a child."""

    si_pid: int
    si_uid: int
    si_signo: int
    si_status: int
    si_code: int


class Log(Saying):
    """`say` on the host."""

    def put(self, line: str) -> None:
        """See `Saying`."""
        os.write(LOG, line.encode() + b"\n")


class Native(NativeSignals, Signals, Ids, Ptrace):
    """The C library of a process on this host."""

    _call = staticmethod(syscall)
    Info = Info
    WIFEXITED, WEXITSTATUS = staticmethod(os.WIFEXITED), staticmethod(os.WEXITSTATUS)
    WIFSIGNALED, WTERMSIG, WCOREDUMP = (
        staticmethod(os.WIFSIGNALED), staticmethod(os.WTERMSIG), staticmethod(os.WCOREDUMP))
    WIFSTOPPED, WSTOPSIG = staticmethod(os.WIFSTOPPED), staticmethod(os.WSTOPSIG)
    WIFCONTINUED = staticmethod(os.WIFCONTINUED)

    #: what stands before the name and the arguments of a function of `kit.execute`
    launch: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.environ: dict[str, str] = {}
        self._words: dict[int, Word] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        """Return a system call by its name."""
        number_of(name)
        return partial(syscall, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Native:
        """It is the process's."""
        return self

    # ---- birth and death -------------------------------------------------------------------------------

    def clone_flags(self, flags: int, parent_tid: Any = None, child_tid: Any = None) -> int:
        """Clone with a copy of the stack: 0 in the child."""
        if flags & _CLONE_VM:
            raise NotImplementedError(f"clone({flags:#x}) on the host: Python cannot share its memory")
        return syscall("clone", flags, None, parent_tid, child_tid, None, held=True)

    def refused(self, flags: int) -> int:
        """Clone with flags that must be refused.

        :raises OSError: they were
        """
        pid = syscall("clone", flags, None, None, None, None, held=True)
        if pid == 0:
            self._exit(99)
        return pid

    def fork(self) -> int:
        """Create a child: 0 in the child."""
        return self.clone_flags(_SIGCHLD)

    def vfork(self) -> int:
        """Create a child and sleep until it execs or exits; it has memory of its own here."""
        return self.clone_flags(_CLONE_VFORK | _SIGCHLD)

    def clone(
        self, fn: Callable[..., Any], *args: Any, flags: int = _SIGCHLD, parent_tid: Any = None, child_tid: Any = None
    ) -> int:
        """Create a child that runs ``fn(sys, *args)``; return its pid."""
        pid = self.clone_flags(flags, parent_tid, child_tid)
        if pid == 0:
            self.run(fn, args)
        return pid

    def run(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> NoReturn:
        """Be a process that ends with what ``fn(sys, *args)`` returns."""
        code = 1
        try:
            result = fn(self, *args)
            code = result if isinstance(result, int) else 0
        except BaseException:       # nothing of the parent may run here
            os.write(2, traceback.format_exc().encode())
        self._exit(code)

    def pthread_create(self, fn: Callable[..., Any], *args: Any) -> int:
        """Start a thread that runs ``fn(sys, *args)``; return its tid."""
        told, tids = _thread.allocate_lock(), list[int]()
        told.acquire()

        def begin() -> None:
            tids.append(self.gettid())
            told.release()
            try:
                fn(self, *args)
            except BaseException:
                os.write(2, traceback.format_exc().encode())

        _thread.start_new_thread(begin, ())
        told.acquire()
        return tids[0]

    def pthread_exit(self, code: int = 0) -> NoReturn:
        """End this thread only."""
        syscall("exit", code)
        raise AssertionError("exit() returned")

    def _exit(self, code: int) -> NoReturn:
        syscall("exit_group", code)
        raise AssertionError("exit_group() returned")

    exit = _exit

    def execve(self, path: str, argv: Iterable[str], envp: Mapping[str, str] | None = None) -> NoReturn:
        """Replace the program."""
        words = [word.encode() for word in argv]
        texts = [f"{key}={value}".encode() for key, value in (self.environ if envp is None else envp).items()]
        syscall("execve", path, (ctypes.c_char_p * (len(words) + 1))(*words, None),
                (ctypes.c_char_p * (len(texts) + 1))(*texts, None))
        raise AssertionError("execve() returned")

    def execv(self, path: str, argv: Iterable[str]) -> NoReturn:
        """Replace the program, with the same environment."""
        self.execve(path, argv)

    # ---- the ends of children --------------------------------------------------------------------------

    def waitpid(self, pid: int, options: int = 0) -> tuple[int, int]:
        """Wait for a child; return (pid, status)."""
        word = ctypes.c_int(0)
        got = syscall("wait4", pid, ctypes.byref(word), options, None)
        return got, word.value

    def wait(self) -> tuple[int, int]:
        """Wait for any child."""
        return self.waitpid(-1)

    def waitid(self, kind: int, ident: int, options: int) -> WaitResult | None:
        """Wait for a child to change state; None if WNOHANG was given and none has."""
        data = ctypes.create_string_buffer(128)
        syscall("waitid", kind, ident, data, options, None)
        info = Info(data.raw)
        if not info.si_pid:
            return None
        return WaitResult(info.si_pid, info.si_uid, info.si_signo, info.si_status, info.si_code)

    # ---- descriptors -----------------------------------------------------------------------------------

    def pipe(self) -> tuple[int, int]:
        """Make a pipe."""
        return self.pipe2(0)

    def pipe2(self, flags: int) -> tuple[int, int]:
        """Make a pipe."""
        ends = (ctypes.c_int * 2)()
        syscall("pipe2", ends, flags)
        return ends[0], ends[1]

    def open(self, path: str, flags: int = 0, mode: int = 0o666) -> int:
        """Open a file."""
        return syscall("openat", -100, path, flags, mode)

    def read(self, fd: int, n: int) -> bytes:
        """Read up to n bytes."""
        buffer = ctypes.create_string_buffer(n or 1)
        got = syscall("read", fd, buffer, n)
        return buffer.raw[:got]

    def write(self, fd: int, data: bytes) -> int:
        """Write; return how many bytes were taken."""
        return syscall("write", fd, data, len(data))

    def slurp(self, path: str) -> bytes:
        """Read a whole file."""
        fd = self.open(path)
        parts = []
        while part := self.read(fd, 65536):
            parts.append(part)
        self.close(fd)
        return b"".join(parts)

    def listdir(self, path: str) -> list[str]:
        """Return the names in a directory."""
        return [entry.name for entry in Path(path).iterdir()]

    def stat(self, path: str) -> Any:
        """Return a file's attributes."""
        return Path(path).stat()

    def fstat(self, fd: int) -> Any:
        """Return an open file's attributes."""
        return os.fstat(fd)

    def getcwd(self) -> str:
        """Return the working directory."""
        return str(Path.cwd())

    # ---- ids, names, time ------------------------------------------------------------------------------

    def getpgrp(self) -> int:
        """Return the caller's process group."""
        return syscall("getpgid", 0)

    def getpriority(self, which: int, who: int) -> int:
        """Return a nice value."""
        return 20 - syscall("getpriority", which, who)

    def prctl(self, option: int, *args: Any) -> int:
        """Ask for one of the PR_* operations."""
        return syscall("prctl", option, *args)

    def prctl_get(self, option: int) -> Any:
        """Return what prctl(2) writes through its second argument: the name for PR_GET_NAME, else a number."""
        if option == 16:
            name = ctypes.create_string_buffer(16)
            syscall("prctl", option, name)
            return name.value.decode()
        number = ctypes.c_int(0)
        syscall("prctl", option, ctypes.byref(number))
        return number.value

    def getrlimit(self, resource: int) -> tuple[int, int]:
        """Return (soft, hard)."""
        both = (ctypes.c_uint64 * 2)()
        syscall("prlimit64", 0, resource, None, both)
        return both[0], both[1]

    def setrlimit(self, resource: int, limits: tuple[int, int]) -> None:
        """Set (soft, hard)."""
        syscall("prlimit64", 0, resource, (ctypes.c_uint64 * 2)(*limits), None)

    def sched_setscheduler(self, pid: int, policy: int, priority: int) -> None:
        """Set policy and realtime priority."""
        syscall("sched_setscheduler", pid, policy, ctypes.byref(ctypes.c_int(priority)))

    def sched_setaffinity(self, pid: int, cpus: Iterable[int]) -> None:
        """Set on which CPUs a task may run."""
        syscall("sched_setaffinity", pid, 8, ctypes.byref(ctypes.c_uint64(sum(1 << cpu for cpu in set(cpus)))))

    def sched_getaffinity(self, pid: int = 0) -> set[int]:
        """Return the CPUs on which a task may run."""
        mask = (ctypes.c_uint64 * 16)()
        syscall("sched_getaffinity", pid, 128, mask)
        return {cpu for cpu in range(1024) if mask[cpu // 64] >> cpu % 64 & 1}

    def getcpu(self) -> int:
        """Return the number of the CPU that runs the caller."""
        cpu = ctypes.c_uint(0)
        syscall("getcpu", ctypes.byref(cpu), None, None)
        return cpu.value

    def word(self, n: int) -> Word:
        """See `kit.word`."""
        return self._words.setdefault(n, Word())

    def nanosleep(self, ns: int) -> None:
        """Sleep so many ns."""
        syscall("nanosleep", ctypes.byref((ctypes.c_long * 2)(*divmod(ns, 1_000_000_000))), None)

    def run_for(self, ns: int) -> None:
        """Compute for so many ns."""
        end = time.monotonic_ns() + ns
        while time.monotonic_ns() < end:
            pass
