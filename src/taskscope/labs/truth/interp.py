"""Run a program of processes on whatever offers the C library's names as the `os` module has them.

The same lines run on the host's kernel and on the model: what a process does depends on its script and on what system
calls return, and on nothing else, so that on the model a child may be run again from its parent's start.  Imports
next to nothing: the host's runner is a process that forks thousands of times, and stays small.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

PR_SET_NAME, PR_GET_NAME = 15, 16
CLONE_PARENT_SETTID = 0x00100000
#: operations with symbolic pids among their arguments
PID_ARGUMENTS = frozenset(("getpgid", "getsid", "setpgid", "kill", "tgkill", "sigqueue", "wait4", "waitid", "stat"))
EINTR, SA_SIGINFO = 4, 4
SIGKILL, ECHILD, WNOHANG, WALL = 9, 10, 1, 0x40000000
#: above every pid_max: the pid of nobody, and of who is not born yet
NOBODY = 0x3FFFFFFF
#: the first of the two descriptors of actor n's pipe of tokens is ``fds[n][0]``
Pipes = list[tuple[int, int]]


class Board(Protocol):
    """Where processes write down what their operations returned, and who has which pid."""

    def pid_of(self, actor: int) -> int:
        """Return the pid of an actor."""

    def born(self, actor: int, pid: int) -> None:
        """Note the pid of an actor."""

    def has(self, serial: int) -> bool:
        """Tell whether an operation has returned."""

    def put(self, serial: int, ret: int, more: tuple[int, ...] | bytes = ()) -> None:
        """Note what an operation returned."""


class Life(Protocol):
    """How a process of a program begins on this kind of kernel."""

    def fork(self, sys: Any, run: Run, child: int, flags: int, how: str) -> tuple[int, int]:
        """Create the actor `child` with clone(flags); it plays its script and then parks.

        :return: its pid, and what the kernel wrote to ``parent_tid``, 0 if nothing
        :raises OSError: it failed
        """

    def badclone(self, sys: Any, flags: int) -> int:
        """Call clone() with flags that must be refused."""

    #: how often a reaper looks whether all have come to rest
    patience: int

    def pause(self, sys: Any) -> None:
        """Wait a little before looking again."""

    def handler(self, sys: Any) -> Any:
        """Return what sigaction() takes as a handler: one that notes what it is given."""

    def caught(self, sys: Any) -> tuple[int, ...]:
        """Return what the caller's handlers have noted, and forget it: signal, code, sender, value of each."""

    def sigwait(self, sys: Any, mask: int, timeout: int | None) -> tuple[int, int, int, int]:
        """Take a signal of a set, waiting for `timeout` ns or (None) for ever: signal, code, sender, value."""

    def sigqueue(self, sys: Any, pid: int, sig: int, value: int) -> None:
        """Send a signal with a value to a process."""


class Run:
    """One run of a program: scripts, pipes, where results go."""

    __slots__ = ("board", "life", "pipes", "scripts")

    def __init__(self, scripts: list[list[list[Any]]], pipes: Pipes, board: Board, life: Life) -> None:
        self.scripts = scripts
        self.pipes = pipes
        self.board = board
        self.life = life

    def __deepcopy__(self, memo: dict[int, Any]) -> Run:
        """A run is not part of a process: a child's copy of the memory has the same one."""
        return self


def play(sys: Any, run: Run, actor: int) -> None:
    """Do what the script of an actor says."""
    board = run.board
    pipes = run.pipes
    mine = pipes[actor][0]
    come: set[int] = set()
    for item in run.scripts[actor]:
        name = item[1]
        if name == "tok":
            sys.write(pipes[item[2]][1], bytes((item[3],)))
        elif name == "await":
            while item[2] not in come:
                come.update(_read(sys, mine))
        elif name == "gone":
            gone(sys, run, item[2])
        elif name == "settle":
            settle(sys, run)
        elif name == "end":
            if pid := board.pid_of(item[2]):
                _kill(sys, pid)
        elif name == "sweep":
            sweep(sys, run)
        else:
            try:
                ret, more = perform(sys, run, actor, name, item)
            except OSError as error:
                ret, more = -(error.errno or 0), ()
            board.put(item[0], ret, more)


def live(sys: Any, run: Run, actor: int) -> None:
    """Be an actor from its birth on: play its script, then sleep until killed."""
    run.board.born(actor, sys.getpid())
    play(sys, run, actor)
    while True:
        _read(sys, run.pipes[actor][0])


def gone(sys: Any, run: Run, actor: int) -> None:
    """Wait until an actor that releases itself has done so."""
    for _ in range(run.life.patience):
        pid = run.board.pid_of(actor)
        if pid and _state(sys, pid) == b"X":
            return
        run.life.pause(sys)


def settle(sys: Any, run: Run) -> None:
    """Wait until all others have come to rest: at their scripts' end, dead, stopped, or never to be born."""
    makers = {item[2]: actor for actor, script in enumerate(run.scripts) for item in script if item[1] == "fork"}
    last = [max((item[0] for item in script), default=-1) for script in run.scripts]
    calm = 0
    for _ in range(run.life.patience):
        rest = {0}
        for actor in range(1, len(run.scripts)):
            pid = run.board.pid_of(actor)
            # Who has come to its end sleeps there; before, it may have a signal to die of.
            still = b"ZXTS" if run.board.has(last[actor]) else b"ZXT"
            if _state(sys, pid) in still if pid else makers[actor] in rest:
                rest.add(actor)
        # Once more, as who is stopped may be about to go on.
        calm = calm + 1 if len(rest) == len(run.scripts) else 0
        if calm > 2:
            return
        run.life.pause(sys)


def _state(sys: Any, pid: int) -> bytes:
    try:
        fd = sys.open(f"/proc/{pid}/stat", 0)
    except OSError:
        return b"X"
    try:
        text: bytes = sys.read(fd, 4096)
    except OSError:
        return b"X"
    finally:
        sys.close(fd)
    at = text.rindex(b")") + 2
    return text[at : at + 1]


def _kill(sys: Any, pid: int) -> None:
    with suppress(OSError):
        sys.kill(pid, SIGKILL)


def sweep(sys: Any, run: Run) -> None:
    """End and reap all that is left."""
    while True:
        try:
            pid, _ = sys.waitpid(-1, WNOHANG | WALL)
        except OSError:
            return
        if not pid:
            for actor in range(1, len(run.scripts)):
                if known := run.board.pid_of(actor):
                    _kill(sys, known)
            run.life.pause(sys)


def _read(sys: Any, fd: int) -> bytes:
    """Read tokens, whatever signals come meanwhile."""
    while True:
        try:
            data: bytes = sys.read(fd, 64)
            return data
        except OSError as error:
            if error.errno != EINTR:
                raise


def perform(sys: Any, run: Run, actor: int, name: str, item: list[Any]) -> tuple[int, tuple[int, ...] | bytes]:
    """Perform one operation; return its result and what it wrote elsewhere.

    :raises OSError: it failed
    """
    if name == "fork":
        pid, told = run.life.fork(sys, run, item[2], item[3], item[4])
        run.board.born(item[2], pid)
        return pid, (told,) if item[3] & CLONE_PARENT_SETTID else ()
    if name == "badclone":
        return run.life.badclone(sys, item[2]), ()
    args = item[2:]
    if name in PID_ARGUMENTS:
        args = [_value(run, arg) if isinstance(arg, str) else arg for arg in args]
    if name in ("wait4", "waitpid"):
        pid, status = sys.waitpid(args[0], _signed(args[1]))
        return pid, (status,)
    if name == "waitid":
        info = sys.waitid(args[0], args[1], _signed(args[2]))
        if info is None:
            return 0, ()
        return 0, (info.si_pid, info.si_uid, info.si_signo, info.si_status, info.si_code)
    if name == "prctl_get":
        return 0, (sys.prctl_get(args[0]),)
    if name == "setname":
        return sys.prctl(PR_SET_NAME, args[0]) or 0, ()
    if name == "getname":
        got = sys.prctl_get(PR_GET_NAME)
        return 0, got if isinstance(got, bytes) else str(got).encode()
    if name == "dup2":
        return sys.dup2(run.pipes[actor][0], args[0]), ()
    if name == "getfd":
        return sys.fcntl(args[0], 1), ()
    if name == "signal":
        sys.signal(args[0], 1 if args[1] == "ign" else 0)
        return 0, ()
    if name == "act":
        handler = run.life.handler(sys) if args[1] == "catch" else int(args[1] == "ign")
        sys.sigaction(args[0], handler, args[2] | (SA_SIGINFO if args[1] == "catch" else 0), args[3])
        return 0, ()
    if name == "mask":
        return 0, (sys.sigprocmask(args[0], args[1]),)
    if name == "pend":
        return 0, (sys.sigpending(),)
    if name == "suspend":
        sys.sigsuspend(args[0])
    if name == "sigwait":
        return 0, run.life.sigwait(sys, args[0], args[1])
    if name == "sigqueue":
        run.life.sigqueue(sys, args[0], args[1], args[2])
        return 0, ()
    if name == "tgkill":
        return sys.tgkill(args[0], args[0], args[1]) or 0, ()
    if name == "caught":
        return 0, run.life.caught(sys)
    if name == "stat":
        return 0, _stat(sys, args[0] or sys.getpid())
    if name == "exec":
        # cat hands the token on when it runs, and then waits for more.
        sys.write(run.pipes[actor][1], bytes((item[4],)))
        sys.dup2(run.pipes[actor][0], 0)
        sys.dup2(run.pipes[item[3]][1], 1)
        sys.execve(item[2], [item[2]], {})
    if name == "badexec":
        sys.execve(item[2], ["x"], {})
    if name == "exit":
        sys.exit(args[0])
    return getattr(sys, name)(*args) or 0, ()


def _stat(sys: Any, pid: int) -> bytes:
    """Return what /proc/PID/stat says of a process: name, state, parent, group, session, exit signal."""
    fd = sys.open(f"/proc/{pid}/stat", 0)
    try:
        text = sys.read(fd, 4096)
    finally:
        sys.close(fd)
    end = text.rindex(b")")
    fields = text[end + 2 :].split()
    # Whether a process that can run does so or sleeps is the scheduler's; only the end of its life is its own.
    state = fields[0] if fields[0] in (b"Z", b"T", b"X") else b"live"
    return b" ".join((text[text.index(b"(") : end + 1], state, fields[1], fields[2], fields[3], fields[35]))


def _value(run: Run, text: str) -> int:
    """Return the number that a symbolic pid stands for here."""
    if text[0] == "-":
        return -(run.board.pid_of(int(text[2:])) or NOBODY)
    return run.board.pid_of(int(text[1:])) or NOBODY


def _signed(flags: int) -> int:
    """Return 32 bits as the C int that they are."""
    return flags - (1 << 32) if flags >> 31 else flags
