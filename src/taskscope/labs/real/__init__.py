"""Real kernels that labs run on: this host's, and a guest's.

A lab gets a `Real`: it types scripts there, records them, and looks at the recording as at any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from taskscope.memory.kernel import KernelMemory
    from taskscope.recording import Recording
    from taskscope.snapshot.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Typed:
    """What came of a script: its exit status and what it printed."""

    status: int
    output: str


@dataclass(frozen=True, slots=True)
class Shot:
    """What came of a script that was recorded."""

    recording: Recording
    typed: Typed


class Real(Protocol):
    """A real kernel."""

    @property
    def place(self) -> str:
        """How ``--on`` names it: ``host``, ``guest:6.1``."""

    @property
    def release(self) -> str:
        """What ``uname -r`` says there."""

    @property
    def machine(self) -> str:
        """What ``uname -m`` says there."""

    @property
    def shell(self) -> str:
        """What the shell that runs scripts there is called."""

    def type(self, script: str, seconds: float = 60.0) -> Typed:
        """Run a shell script, unrecorded.

        :param seconds: how long it may take
        """

    def record(self, script: str, *, events: Sequence[str] = (), irq: bool = False, triggers: Sequence[str] = (),
               functions: Sequence[str] = (), everything: bool = False, seconds: float = 60.0) -> Shot:
        """Run a shell script and record it and what it starts.

        :param events: as ``taskscope record -e`` has them; none stands for those of which lives are made
        :param irq: interrupts and softirqs too
        :param triggers: as ``taskscope record --trigger``
        :param functions: record the calls of these, with stacks, by the function tracer
        :param everything: record all tasks
        """

    def program(self, name: str) -> str:
        """Return the path there of one of the labs' programs in C."""

    def traces_functions(self) -> str:
        """Return why the function tracer does not work there, "" if it does."""

    def traceable(self, names: Sequence[str]) -> list[str]:
        """Return those of some functions that the function tracer there can trace: others are inlined, or not there."""

    def hold(self, script: str, seconds: float = 30.0) -> AbstractContextManager[str]:
        """Run a script in the background until the block ends; give what it has printed up to a line ``ready``.

        :param seconds: how long it may take until then
        :raises GuestError: it does not say ready
        """

    def proc(self) -> Snapshot:
        """Return the tasks as /proc there tells them."""

    def memory(self) -> AbstractContextManager[KernelMemory]:
        """Open the kernel's memory.

        :raises UsageError: it cannot be read there, and why
        """

    def booted_with(self, words: str) -> AbstractContextManager[Real]:
        """Return the same kernel booted with more words on its command line; a host is what it is."""

    def close(self) -> None:
        """Leave it as it was."""
