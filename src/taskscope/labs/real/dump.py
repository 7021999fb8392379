"""A crash dump as a machine for labs: its memory can be looked at, and nothing runs on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from taskscope.errors import UsageError
from taskscope.labs.real import Shot, Typed

if TYPE_CHECKING:
    from taskscope.memory.kernel import KernelMemory
    from taskscope.snapshot.snapshot import Snapshot


class Dumped:
    """A crash dump.

    :param path: of the dump
    :param btf: its types, if its memory has none
    :param symbols: its symbols, if its memory has none
    :param vmlinux: types and symbols out of its DWARF instead
    :raises TraceError: it cannot be read
    """

    place = "dump"
    shell = ""

    def __init__(
        self, path: str | Path, btf: str | Path | None = None, symbols: str | Path | None = None,
        vmlinux: str | Path | None = None,
    ) -> None:
        from taskscope.memory.core import open_core

        self._image = open_core(path, btf=btf, symbols=symbols, vmlinux=vmlinux)
        self.release, self.machine = self._image.release, self._image.arch

    @contextlib.contextmanager
    def memory(self) -> Iterator[KernelMemory]:
        """See `Real.memory`."""
        from taskscope.memory.kernel import KernelMemory

        yield KernelMemory(self._image)

    def _dead(self) -> NoReturn:
        raise UsageError("a dump runs nothing")

    def type(self, script: str, seconds: float = 60.0) -> Typed:
        """See `Real.type`."""
        del script, seconds
        self._dead()

    def record(self, script: str, *, events: Sequence[str] = (), irq: bool = False, triggers: Sequence[str] = (),
               functions: Sequence[str] = (), everything: bool = False, seconds: float = 60.0) -> Shot:
        """See `Real.record`."""
        del script, events, irq, triggers, functions, everything, seconds
        self._dead()

    def program(self, name: str) -> str:
        """See `Real.program`."""
        del name
        self._dead()

    def hold(self, script: str, seconds: float = 30.0) -> AbstractContextManager[str]:
        """See `Real.hold`."""
        del script, seconds
        self._dead()

    def proc(self) -> Snapshot:
        """See `Real.proc`."""
        self._dead()

    def traces_functions(self) -> str:
        """See `Real.traces_functions`."""
        return "a dump runs nothing"

    def traceable(self, names: Sequence[str]) -> list[str]:
        """See `Real.traceable`."""
        del names
        return []

    def booted_with(self, words: str) -> AbstractContextManager[Dumped]:
        """See `Real.booted_with`."""
        del words
        self._dead()

    def close(self) -> None:
        """See `Real.close`."""
