"""User mode for programs written in Python: what a task's registers, stack and program text are here.

A program is ``main(sys, argv)``.  It runs on its task's own stack, below the kernel's frames; ``sys``
(`taskscope.model.user.libc.Sys`) holds what a process has in user space and enters the kernel through the
architecture's system call entry.

fork() returns twice.  A Python stack cannot be copied, so the child runs its program from the start against the log of
results that the parent's calls had: nothing enters the kernel and no time passes until the log ends with fork()
returning 0.  The rule for programs: what they do depends on their arguments and on results of `sys` alone (no files,
clocks or random numbers of the host, no objects shared with others).  A task keeps at most `LOG_MAX` results and cannot
fork() after more; ``sys.become(fn, …)`` starts a new log, and ``sys.clone(fn, …)`` makes a child that begins in a
function, with no log at all: how the shell forks.
"""

from __future__ import annotations

import contextlib
import copy
import traceback
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NoReturn

from greenlet import GreenletExit

from taskscope.abi.errno import errno_message
from taskscope.abi.sched import CloneFlag
from taskscope.abi.syscalls import call_of_name
from taskscope.model import machine, schedule

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

#: how many results of system calls a task remembers for a fork()
LOG_MAX: Final = 1 << 16
_HANDLER: Final = "<signal handler>"
#: by call: what is remembered of one that returned 0
_NOTHING: Final[dict[str, tuple[str, int, Any]]] = {}
_ATOMS: Final = frozenset({int, str, bytes, float, bool, type(None), FunctionType})
_CLONE_VM: Final = int(CloneFlag.CLONE_VM)
_CLONE_THREAD: Final = int(CloneFlag.CLONE_THREAD)


class _Unwind(BaseException):
    """Leaves the frames of a program whose text has been replaced (exec, become)."""


class DivergedError(Exception):
    """A program that forked did something else when its child ran it again."""


@cache
def numbers(arch: str) -> dict[str, int]:
    """Return the system call numbers by the names that the C library asks for.

    32-bit ARM has two of some calls; the C library takes the one with 32-bit ids and 64-bit sizes.
    """
    found: dict[str, int] = {}
    for name in _NAMES.split():
        for candidate in (
            (name + "32", name + "64", "ugetrlimit" if name == "getrlimit" else name) if arch == "arm" else (name,)
        ):
            call = call_of_name(arch, candidate)
            # Numbers from 403 on are the 64-bit time calls of 2038, which come from v5.1.
            late = candidate != name and call is not None and call.number >= 403
            if call is not None and not late and call.function is not None and call.abi is None:
                found[name] = call.number
                break
    return found


_NAMES: Final = """
read write open close dup dup2 dup3 pipe pipe2 lseek fcntl ioctl getcwd chdir mkdir rmdir unlink rename mknod chmod
chown stat lstat fstat getdents64 access umask truncate ftruncate fork vfork clone clone3 execve exit exit_group
pidfd_open pidfd_send_signal wait4 waitid kill tkill tgkill getpid getppid gettid getpgid getpgrp setpgid getsid
setsid getuid geteuid getgid getegid setuid setgid setresuid setresgid prctl times getrusage getrlimit setrlimit
prlimit64 uname set_tid_address kcmp unshare sysinfo personality nanosleep clock_nanosleep clock_gettime gettimeofday
alarm setitimer getitimer pause restart_syscall sched_yield sched_setscheduler sched_getscheduler sched_setparam
sched_getparam sched_setaffinity sched_getaffinity sched_setattr sched_getattr sched_get_priority_max
sched_get_priority_min sched_rr_get_interval nice getpriority setpriority getcpu rt_sigaction rt_sigprocmask
rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigqueueinfo rt_sigreturn sigaltstack syslog futex setns set_robust_list
get_robust_list setreuid setregid getresuid getresgid setfsuid setfsgid getgroups setgroups capget capset
rt_tgsigqueueinfo timer_create timer_settime timer_gettime timer_getoverrun timer_delete
mmap mmap2 munmap brk finit_module
ptrace
"""


class UserFunction:
    """The address of a function in a program's text, as the kernel keeps it for a signal handler.

    Which function it is, the task's own `UserContext.handlers` says: that of a forked child has closed over the
    child's variables.
    """

    __slots__ = ("address",)

    def __init__(self, address: int) -> None:
        self.address = address

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UserFunction) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)


class UserContext:
    """The user half of one task; `Task.journal` holds it.

    The kernel touches three things of it: `copy_user` makes a child's, `start_thread` puts a new program in, and
    ``frames`` gets one entry for each signal handler that is to run on the return to user mode.
    """

    __slots__ = (
        "_args",
        "_at",
        "_calling",
        "_chooses",
        "_end",
        "_entry",
        "_gate",
        "_log",
        "_nr",
        "_overflown",
        "_shared",
        "_thread",
        "frames",
        "handlers",
        "task",
    )

    def __init__(
        self, entry: Callable[..., Any], args: tuple[Any, ...], *, shared: bool = False, thread: bool = False
    ) -> None:
        cur = machine.cur
        self._entry = entry
        self._args = args
        self._shared = shared  # args live in memory shared with others: hand them over as they are
        self._thread = thread  # the end of the function is the end of one thread
        self._log: list[tuple[str, int, Any]] = []
        self._at = 0  # while _at < _end, calls are answered from the log
        self._end = 0
        self._overflown = False
        self._calling = ""
        self._chooses = cur.chooses
        self._nr = numbers(cur.flavour.arch)
        self._gate = gate(cur)
        #: signal handlers to run before user code goes on, innermost last: (handler, sig, siginfo)
        self.frames: list[tuple[Any, int, Any]] = []
        #: by signal: what the program calls; shared by threads, as the memory in which it stands
        self.handlers: dict[int, Callable[..., Any]] = {}
        self.task: Task | None = None

    # ---- what the kernel's architecture code does with it ----------------------------------------------

    def forked(self) -> UserContext:
        """Return what the child of a fork has: the same program, at the place where fork() returns 0."""
        child = type(self)(self._entry, self._args, shared=self._shared, thread=self._thread)
        child.handlers = dict(self.handlers)
        child._log = [*self._log, (self._calling, 0, None)]
        child._end = len(child._log)
        return child

    # ---- calls -----------------------------------------------------------------------------------------

    def _call(self, name: str, *args: Any, out: Any = None) -> Any:
        """Make a system call, or recall what it returned.

        :param out: the `Cell` that the kernel writes; then (result, its value) is returned
        :raises OSError: the kernel returned an error
        """
        if self._at < self._end:
            ret, value = self._recall(name)
        else:
            if self._chooses:
                self._hold_up()
            nr = self._nr.get(name)
            while True:
                self._calling = name
                try:
                    # ENOSYS: this architecture has no such call
                    ret = self._gate(nr, args) if nr is not None else -38
                except GreenletExit:
                    # The task is dead and its stack is dropped: what a program does in `finally:` must not enter the
                    # kernel.
                    self._leave(_gone)
                    raise
                if machine.cur.cpu.curr.journal is not self:
                    self._leave(_replaced)  # nor may what a replaced program does in `finally:`
                    raise _Unwind
                if not -516 <= ret <= -512:
                    break
                # The program counter stands on the call again; a handler runs before, and makes calls of its own.
                if self.frames:
                    self._handle()
            log = self._log
            if out is not None:
                value = out.value
                log.append((name, ret, value))
            elif ret:
                log.append((name, ret, None))
            else:
                # One tuple for all: what a task writes when it makes its usual calls stays in the cache.
                log.append(_NOTHING.get(name) or _NOTHING.setdefault(name, (name, 0, None)))
            if len(log) > LOG_MAX:
                log.clear()
                self._overflown = True
            if self.frames:
                self._handle()
        if ret < 0:
            raise OSError(-ret, errno_message(-ret) or "unknown error")
        return ret if out is None else (ret, value)

    def _hold_up(self) -> None:
        """Let others come in between two steps of user mode, perhaps: a program's instructions take their time."""
        m = machine.cur
        self._compute(schedule.INSTRUCTIONS[m.choose(len(schedule.INSTRUCTIONS), schedule.INSTRUCTION, (m.cpu.curr,))])

    def _compute(self, left: int) -> None:
        """Compute for so many ns of virtual time; signal handlers run in between."""
        try:
            while left > 0:
                left = machine.cur.run_for(left, self.frames)
                if self.frames:
                    self._handle()
        except GreenletExit:
            self._leave(_gone)
            raise

    def _leave(self, gate: Callable[..., Any]) -> None:
        self._gate = gate
        self._chooses = False

    def _recall(self, name: str) -> tuple[int, Any]:
        self._replay_handlers()
        if self._at >= self._end:  # a handler went on where the log ended
            raise DivergedError(f"{name}() interrupted by a handler that forked")
        was, ret, value = self._log[self._at]
        if was != name:
            self._at = self._end  # so that it can say so
            raise DivergedError(
                f"the child of a fork() called {name}() where its parent had called {was}(): a program may depend "
                "on its arguments "
                "and on what sys returned, and on nothing else"
            )
        self._at += 1
        self._replay_handlers()
        if self.frames and self._at >= self._end:
            self._handle()  # of signals that came before the child's first instruction
        return ret, value

    def _replay_handlers(self) -> None:
        while self._at < self._end and self._log[self._at][0] == _HANDLER:
            handler, sig, info = self._log[self._at][2]
            self._at += 1
            self._run_handler(handler, sig, info)

    def _handle(self) -> None:
        while self.frames:
            # The kernel may have put several on the stack: the last runs first, and the one below it when that
            # returns, not when it makes its first call.
            due = self.frames[::-1]
            self.frames.clear()
            for frame in due:
                self._log.append((_HANDLER, 0, frame))
                self._run_handler(*frame)

    def _run_handler(self, handler: Any, sig: int, info: Any) -> None:
        if isinstance(handler, UserFunction):
            handler = self.handlers[sig]
        handler(self, sig, info)
        self._call("rt_sigreturn")

    def run_for(self, ns: int) -> None:
        """Compute for `ns` of virtual time in user mode; signal handlers run in between."""
        if self._at < self._end:
            self._recall("run_for")
            return
        self._compute(ns)
        self._log.append(("run_for", 0, None))

    def become(self, fn: Callable[..., Any], *args: Any) -> NoReturn:
        """Go on in ``fn(sys, *args)`` with an empty log, as a tail call: for loops that fork for ever."""
        self._entry, self._args, self._shared = fn, args, False
        self._log = []
        self._at = self._end = 0
        self._overflown = False
        raise _Unwind

    def _can_fork(self) -> None:
        if self._overflown:
            raise DivergedError(
                f"fork() after more than {LOG_MAX:,} system calls: use sys.clone(fn, …), or sys.become(fn, …) on "
                "the way"
            )

    # ---- running ---------------------------------------------------------------------------------------

    def _start(self) -> int:
        args = self._args if self._shared else private(self._args)
        # A call with *args puts a frame on the C stack, which each switch of the task would have to move.
        if not args:
            result = self._entry(self)
        elif len(args) == 1:
            result = self._entry(self, args[0])
        elif len(args) == 2:
            result = self._entry(self, args[0], args[1])
        else:
            result = self._entry(self, *args)
        return result if isinstance(result, int) else 0

    def _finish(self, status: int) -> None:
        self._call("exit" if self._thread else "exit_group", status)

    def _crashed(self, error: Exception) -> None:
        # From the program's own frames on, as its interpreter would show them.
        tb = error.__traceback__
        while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
            tb = tb.tb_next
        lines = traceback.format_exception(type(error), error, tb)
        text = "".join(lines).encode()
        with contextlib.suppress(OSError):          # closed, or a terminal that hung up
            self._call("write", 2, text, len(text))


def gate(cur: machine.Machine) -> Callable[[int, tuple[Any, ...]], int]:
    """Return the architecture's system call entry."""
    found: Callable[[int, tuple[Any, ...]], int] | None = cur.__dict__.get("user_gate")
    if found is None:
        if cur.flavour.arch == "arm":
            import taskscope.model.arch.arm.kernel.entry_common as entry_common

            found = entry_common.vector_swi
        else:
            import taskscope.model.arch.x86.entry.common as common

            found = common.do_syscall_64
        cur.user_gate = found
    return found


def _gone(nr: int, args: tuple[Any, ...]) -> int:
    del nr, args
    raise GreenletExit


def _replaced(nr: int, args: tuple[Any, ...]) -> int:
    del nr, args
    raise _Unwind


def private(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a copy of arguments for another address space."""
    return tuple([_private(arg) for arg in args])


def _private(arg: Any) -> Any:
    kind = type(arg)
    if kind in _ATOMS:
        return arg
    if kind is list and all(type(one) in _ATOMS for one in arg):    # argv: what is copied most
        return arg.copy()
    return copy.deepcopy(arg)


def copy_user(p: Task, usp: Any) -> None:
    """Give a new task its user half: called by copy_thread() for tasks that will return to user mode.

    :param usp: the new stack pointer of clone(): 0 for a copy of the caller's stack, else the `UserContext` that was
        built on it
    """
    current = machine.cur.cpu.curr
    context: UserContext = usp if usp else current.journal.forked()
    context.task = p
    p.journal = context


def start_thread(main: Callable[..., Any], argv: list[str], envp: dict[str, str]) -> None:
    """Give the current task a new program: called by the loader at the end of exec."""
    from taskscope.model.user.libc import Sys

    context = Sys(main, (argv,))
    context.environ = dict(envp)
    context.task = machine.cur.cpu.curr
    context.task.journal = context


def user_mode() -> NoReturn:
    """Run in user mode: where ret_from_fork() ends for a task that has a program.  Left by death only."""
    while True:
        context: UserContext = machine.cur.cpu.curr.journal
        try:
            try:
                # The child of a fork has first to come to where it returns.
                if context.frames and context._at >= context._end:
                    context._handle()
                status = context._start()
            except Exception as error:
                if not machine.cur.cpu.user_mode:
                    raise  # the kernel's own mistake, not the program's
                context._crashed(error)
                status = 1
            context._finish(status)
        except _Unwind:
            continue
