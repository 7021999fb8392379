"""Programs of processes on the executable kernel: pid 1 is their reaper, and the kernel's invariants are checked.

One machine runs many programs one after the other.  A schedule decides what the machine may decide
freely (`Machine.choose`).  Everything is checked at every task switch, every few operations, and after each program,
when nothing of it may be left.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Final, NoReturn

from taskscope.abi.sched import CloneFlag
from taskscope.labs.truth import interp
from taskscope.labs.truth.invariants import Watch
from taskscope.labs.truth.program import Item, Program, Raw, Transcript, transcript
from taskscope.model import flavours, machine
from taskscope.model.include.linux.sched_signal import Siginfo
from taskscope.model.include.linux.uaccess import Cell, Word
from taskscope.model.init import main as init_main
from taskscope.model.schedule import Pct, Schedule
from taskscope.schedules import order

#: virtual time that one program may take, in ns
PATIENCE: Final = 20_000_000_000
#: operations between two full checks
EVERY: Final = 7
SI_QUEUE: Final = -1
#: virtual ns after a program until RCU has freed what it left
SETTLE: Final = 60_000_000


class ModelBoard:
    """Where processes of the machine write down what their operations returned: outside of its memory."""

    def __init__(self, watch: Watch | None) -> None:
        self.watch = watch
        self.pids: dict[int, int] = {}
        self.raws: dict[int, Raw] = {}
        self.done = 0
        self.problem = ""

    def pid_of(self, actor: int) -> int:
        """See `interp.Board`."""
        return self.pids.get(actor, 0)

    def born(self, actor: int, pid: int) -> None:
        """See `interp.Board`."""
        self.pids[actor] = pid

    def has(self, serial: int) -> bool:
        """See `interp.Board`."""
        return serial in self.raws

    def put(self, serial: int, ret: int, more: tuple[int, ...] | bytes = ()) -> None:
        """See `interp.Board`; a child that is run again from its parent's start says the same again."""
        self.raws[serial] = (ret, more)
        self.done += 1
        if self.watch is not None and self.done % EVERY == 0:
            self.watch.check()


class ModelLife:
    """Births on the model: both ways in which a Python program can have a child; signals."""

    def __init__(self) -> None:
        self.patience = 100
        #: by process: signal, code, sender, value of each
        self.noted: dict[int, list[tuple[int, ...]]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> ModelLife:
        """It is not part of a process, as `interp.Run`."""
        return self

    def fork(self, sys: Any, run: interp.Run, child: int, flags: int, how: str) -> tuple[int, int]:
        """See `interp.Life`; "fn" starts the child in a function, "again" returns twice."""
        before = len(self.noted.get(machine.cur.cpu.curr.pid, ()))
        # A word of its own: the child of a later fork reads in its copy what this one was told.
        tid = Word(0x0001_0000 + 8 * child)
        if how == "fn":
            pid = int(sys.clone(_live, run, child, flags=flags, parent_tid=tid))
        elif flags == 17:
            pid = int(sys.fork())
        elif flags == 17 | int(CloneFlag.CLONE_VFORK):
            pid = int(sys.vfork())
        else:
            pid = int(sys.clone_flags(flags, tid))
        if pid == 0:
            # A child that is run again from its parent's start comes by what its parent's handlers did, too.
            del self.noted.get(machine.cur.cpu.curr.pid, [])[:before]
            _live(sys, run, child)
        return pid, int(tid.get())

    def badclone(self, sys: Any, flags: int) -> int:
        """See `interp.Life`."""
        return int(sys.clone_flags(flags))

    def pause(self, sys: Any) -> None:
        """See `interp.Life`."""
        sys.nanosleep(10_000_000)

    def handler(self, sys: Any) -> Callable[..., None]:
        """See `interp.Life`."""
        del sys
        return self.note

    def note(self, sys: Any, sig: int, info: Any) -> None:
        """Be a handler: note what it is given, by process, outside of the machine's memory."""
        del sys
        self.noted.setdefault(machine.cur.cpu.curr.pid, []).append((sig, *_told(info)))

    def caught(self, sys: Any) -> tuple[int, ...]:
        """See `interp.Life`; a moment of its own, as reading memory is on the host: signals may come before it."""
        sys.getpid()
        return tuple(number for note in self.noted.pop(machine.cur.cpu.curr.pid, ()) for number in note)

    def sigwait(self, sys: Any, mask: int, timeout: int | None) -> tuple[int, int, int, int]:
        """See `interp.Life`."""
        cell = Cell()
        sig, info = sys._call("rt_sigtimedwait", mask, cell, None if timeout is None else divmod(timeout, 10**9), 8,
                              out=cell)
        return (sig, *_told(info))

    def sigqueue(self, sys: Any, pid: int, sig: int, value: int) -> None:
        """See `interp.Life`; the C library says who sends."""
        info = Siginfo(sig, SI_QUEUE, sys.getpid(), sys.getuid())
        info.si_value = value
        sys._call("rt_sigqueueinfo", pid, sig, info)


def _told(info: Any) -> tuple[int, int, int]:
    """Return a siginfo's code, sender, and value: a dead child's status stands in the same place."""
    return info.si_code, info.si_pid, info.si_status if info.si_code > 0 else info.si_value


def _live(sys: Any, run: interp.Run, actor: int) -> None:
    """Be an actor; a mistake of ours in it is told, and not only written to the machine's console."""
    try:
        interp.live(sys, run, actor)
    except Exception as error:
        board = run.board
        assert isinstance(board, ModelBoard)
        board.problem = f"actor {actor}: " + "".join(traceback.format_exception(error)[-3:])
        raise


class ModelRunner:
    """Runs programs on the model; every call of `run_all` is one machine.

    :param schedule: what the machine may decide freely: a seed, as `taskscope.boot` takes it, or a schedule (for one
        machine)
    :param check: whether invariants are checked
    :param board: makes what the processes of a program write on, from what watches the invariants
    """

    def __init__(
        self, schedule: int | str | Schedule = 0, *, flavour: str = "4.19-arm", cpus: int = 2, check: bool = True,
        board: Callable[[Watch | None], ModelBoard] = ModelBoard,
    ) -> None:
        self.schedule = schedule
        self.flavour = flavour
        self.cpus = cpus
        self.check = check
        self.board = board

    def run(self, program: Program) -> Transcript:
        """Return the transcript of one program; see `run_all`."""
        return next(iter(self.run_all([program])))

    def run_all(self, programs: Sequence[Program]) -> Iterator[Transcript]:
        """Yield the transcripts of programs, in their order.

        That of a program which did not come to its end, or during which an invariant did not hold, has one line more,
        which says so; the programs after it run on a new machine.
        """
        at = 0
        while at < len(programs):
            at += yield from self._machine(programs[at:])

    def watch(self, m: machine.Machine) -> Watch:
        """Begin to watch a machine that has booted."""
        return Watch(m)

    def _machine(self, programs: Sequence[Program]) -> Generator[Transcript, None, int]:
        """Run programs on one machine until one goes wrong; return how many that were."""
        asked = self.schedule
        name = f"seed:{asked}" if isinstance(asked, int) else asked
        schedule = order(name).schedule if isinstance(name, str) else name
        m = machine.Machine(flavours.flavour(self.flavour), self.cpus, 100, 0, 256 << 20, schedule=schedule)
        queue = _Queue(m, programs, self.watch if self.check else None, self.board)
        init_main.power_on(m, bare=True, program=queue.reaper)
        try:
            for n, program in enumerate(programs):
                problem = ""
                try:
                    m.run_until(m.now + PATIENCE)
                except Exception as error:
                    first: BaseException = error
                    while first.__context__ is not None:
                        first = first.__context__
                    problem = "".join(traceback.format_exception(first)[-8:])
                board = queue.boards[n] if n < len(queue.boards) else ModelBoard(None)
                raws = [board.raws.get(serial) for serial in range(program.operations)]
                lines = transcript(program, raws, [board.pids.get(a, 0) for a in range(len(program.scripts))])
                problem = problem or board.problem or queue.problem
                if not problem and queue.finished <= n:
                    problem = f"not at its end after {PATIENCE // 10**9} s of the machine's time"
                if problem:
                    lines.append(problem)
                    yield lines
                    return n + 1
                yield lines
        finally:
            m.close()
        return len(programs)


class _Queue:
    """The programs of one machine, and its pid 1."""

    def __init__(
        self, m: machine.Machine, programs: Sequence[Program], watch: Callable[[machine.Machine], Watch] | None,
        board: Callable[[Watch | None], ModelBoard],
    ) -> None:
        self.m = m
        self.programs = programs
        self.watch = watch
        self.board = board
        self.boards: list[ModelBoard] = []
        self.finished = 0
        self.problem = ""

    def reaper(self, sys: Any, argv: list[str]) -> None:
        """Be pid 1; a mistake of ours in it is told."""
        del argv
        try:
            self.play(sys)
        except Exception as error:
            self.problem = "reaper: " + "".join(traceback.format_exception(error)[-3:])
            raise

    def play(self, sys: Any) -> NoReturn:
        """Play the reaper's part of one program after the other."""
        m = self.m
        sys.setsid()
        sys.prctl(interp.PR_SET_NAME, "reaper")
        sys.umask(0o22)
        life = ModelLife()
        sys.nanosleep(SETTLE)
        watch = self.watch(m) if self.watch is not None else None
        before = watch.counts() if watch is not None else {}
        for program in self.programs:
            board = self.board(watch)
            self.boards.append(board)
            scripts: list[list[Item]] = program.scripts
            pipes = [sys.pipe() for _ in scripts]
            board.born(0, 1)
            if isinstance(m.schedule, Pct):
                m.schedule.begin()
            interp.play(sys, interp.Run(scripts, pipes, board, life), 0)
            for read, write in pipes:
                sys.close(read)
                sys.close(write)
            if watch is not None:
                sys.nanosleep(SETTLE)
                watch.check()
                after = watch.counts()
                left = {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}
                assert not left, f"left behind: {left}"
            self.finished += 1
            m.stop()
            sys.nanosleep(1000)
        if watch is not None:
            watch.close()
        while True:
            sys.pause()
