"""What to record, and who follows it: what a recorder is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from taskscope.ftrace.record_child import User


class Follow(Protocol):
    """Who follows the recording while it grows."""

    @property
    def closed(self) -> bool:
        """Tell whether nobody is there to see it any more: a recording of no command ends then."""

    def feed(self, cpu: int, pages: bytes) -> None:
        """Take whole pages of one cpu, in its order, each once."""

    def feed_outside(self, cpu: int, pages: bytes) -> None:
        """Take pages of the second instance (`taskscope.ftrace.record_outside`), after those of the other."""

    def tick(self) -> None:
        """Know that all cpus have been read just now."""

    def end(self) -> None:
        """Know that nothing more comes."""


@dataclass(slots=True)
class FollowSetup:
    """What a follower needs to decode pages."""

    header_page: bytes
    formats: list[tuple[str, bytes]]
    kallsyms: bytes
    cmdlines: bytes
    tgids: bytes
    long_size: int
    page_size: int
    recorder: int                     # pid of this process, which is nobody's business
    command: int | None


@dataclass(slots=True)
class Order:
    """What to record; the fields are the options of ``taskscope record``.

    :param buffer_kb: KiB of ring buffer a cpu; None for 8 MiB, or less where memory is short
    :param seconds: end after so long, None for never
    :param stacks: ``rare`` (triggers), ``all`` or ``none``
    :param owner: uid and gid that get the files
    :param ignores: whether the command ignores the signals that were ignored when this process began, as after nohup(1)
    """

    output: Path = Path("trace.dat")
    command: Sequence[str] = ()
    user: User | None = None
    owner: tuple[int, int] | None = None
    pids: Sequence[int] = ()
    children: bool = False
    everything: bool = False
    seconds: float | None = None
    events: Sequence[str] = ()
    irq: bool = False
    stacks: str = "rare"
    triggers: Sequence[str] = ()
    probes: Sequence[str] = ()
    functions: Sequence[str] = ()
    buffer_kb: int | None = None
    clock: str = "mono"
    file_version: int = 7
    compression: str | None = None
    follow: Callable[[FollowSetup], Follow] | None = None
    arguments: Sequence[str] = ()
    ignores: bool = True
