"""Programs of processes on this host's kernel: a small process of its own runs them, this side asks and bounds it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from taskscope.errors import TaskscopeError
from taskscope.labs.truth import worker
from taskscope.labs.truth.program import Program, Raw, Transcript, transcript

Mode = Literal["pid", "user", "sub"]
#: programs that share a PID namespace
BATCH: Final = 40
#: how long one program may take, in seconds
SECONDS: Final = 10.0

_SOURCE: Final = Path(__file__).resolve().parents[3]


class HostRunError(TaskscopeError):
    """The process that runs programs on the host does not answer."""


class HostRunner:
    """Runs programs on this host's kernel, many a second; a context manager.

    :param mode: what keeps a program's processes together, see `best_mode`
    :param seconds: how long one program may take
    :param uid: the user that programs run as, if that is not the caller (who is root then)
    """

    def __init__(self, mode: Mode | None = None, seconds: float = SECONDS, uid: int | None = None) -> None:
        self.uid = os.getuid() if uid is None else uid
        self.mode: Mode = mode or best_mode()
        self.seconds = seconds
        env = {"PYTHONPATH": str(_SOURCE), "PATH": os.environ.get("PATH", "")}
        self._worker = subprocess.Popen(
            [sys.executable, "-S", "-s", "-m", "taskscope.labs.truth.worker", self.mode, str(seconds), str(self.uid)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process that runs programs, and with it everything that they left."""
        worker = self._worker
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.close()
        try:
            worker.wait(2)
        except subprocess.TimeoutExpired:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
        worker.stdout.close()

    def run(self, program: Program) -> Transcript:
        """Return the transcript of one program; see `run_all`."""
        return next(iter(self.run_all([program])))

    def run_all(self, programs: Sequence[Program]) -> Iterator[Transcript]:
        """Yield the transcripts of programs, in their order.

        That of a program which did not come to its end, or left processes, has one line more, which says so.

        :raises HostRunError: the process that runs them does not answer
        """
        at = 0
        while at < len(programs):
            answers = self._ask(programs[at : at + BATCH])
            for ended, pids, results in answers:
                program = programs[at]
                at += 1
                lines = transcript(program, [_raw(result) for result in results], pids, self.uid)
                if not ended:
                    lines.append(f"not at its end after {self.seconds:g} s, or processes are left")
                yield lines

    def _ask(self, batch: Sequence[Program]) -> list[tuple[bool, list[int], list[Any]]]:
        worker = self._worker
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(json.dumps([program.scripts for program in batch], separators=(",", ":")).encode() + b"\n")
        worker.stdin.flush()
        ready, _, _ = select.select([worker.stdout], [], [], self.seconds * len(batch) + 30)
        line = worker.stdout.readline() if ready else b""
        if not line:
            raise HostRunError("the process that runs programs on the host gave no answer; see its message above")
        answers: list[tuple[bool, list[int], list[Any]]] = json.loads(line)
        return answers


def _raw(result: list[Any] | None) -> Raw:
    """Take back what `worker.SharedBoard.results` wrote."""
    if result is None:
        return None
    ret, more = result
    return ret, more.encode("latin-1") if isinstance(more, str) else tuple(more)


def works(mode: Mode) -> bool:
    """Tell whether this user may have what keeps a program's processes together in a mode."""
    if mode == "sub":
        return True
    child = os.fork()
    if child == 0:
        try:
            worker.contain(mode)
            inner = os.fork()
            if inner == 0:
                worker.mount_proc()
                os._exit(0)
            os._exit(os.waitpid(inner, 0)[1] != 0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def best_mode() -> Mode:
    """Return what this user may have: a PID namespace, one inside a user namespace, or only a subreaper."""
    modes: tuple[Mode, ...] = ("pid", "user", "sub")
    return next(mode for mode in modes if works(mode))
