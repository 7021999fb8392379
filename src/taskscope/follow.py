"""Tells what happens to tasks while it is being recorded: births, execs, signals, deaths with their cause.

Stands at the front door because it joins rooms that may not know each other: the decoder of the pages (ftrace) and the
meaning of the records (lives).  `taskscope.views.follow` shows what comes out.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from taskscope.ftrace.follow import Record, Stream
from taskscope.ftrace.follow_running import running
from taskscope.ftrace.kallsyms import Symbols
from taskscope.ftrace.saved import parse_cmdlines, parse_tgids
from taskscope.lives.follow import FIELDS, Follow
from taskscope.lives.functions import syscall_number
from taskscope.lives.records import Rec
from taskscope.trace.stacks import fold

if TYPE_CHECKING:
    from taskscope.ftrace.record_order import FollowSetup
    from taskscope.lives.happenings import Happening

#: fields of a probe on do_exit() that hold its argument
_STATUS = ("code", "arg1", "status")

_NAME = re.compile(rb"name:\s*(\S+)")


class Follower:
    """Follows a recording as its pages are read.

    Events that it uses where they are recorded: task_newtask or sched_process_fork, task_rename, sched_process_exec,
    sched_process_exit, sched_process_free, signal_generate, signal_deliver, mark_victim, sys_enter_exit and
    sys_enter_exit_group (or raw sys_enter), and stacks of sched_process_exit.  Others cost next to nothing.

    :param header_page: text of ``events/header_page``
    :param formats: (system, text of a format file)
    :param kallsyms: text of ``/proc/kallsyms``, read when a stack must be understood
    :param cmdlines: text of ``saved_cmdlines``: names of the tasks that run already
    :param tgids: thread groups of tasks that run already, by their pid, where known
    :param parents: parent processes of those, where known
    :param only: pids of the tasks that are recorded from the beginning, where not all are: signals that are neither to
        nor from them or their descendants are not told
    :param threads: tell births and deaths of threads too, not only of processes
    :param long_size: bytes of the kernel's ``long``
    :param page_size: bytes of a sub-buffer
    :param machine: as ``uname -m`` says it, for raw system calls
    :raises TraceError: the header page or the format of an event that is used cannot be understood
    """

    def __init__(self, header_page: bytes, formats: Sequence[tuple[str, bytes]], kallsyms: bytes = b"",
                 cmdlines: bytes = b"", *, tgids: Mapping[int, int] | None = None,
                 parents: Mapping[int, int] | None = None, only: Collection[int] | None = None, threads: bool = False,
                 long_size: int = 8, big_endian: bool = False, page_size: int = 4096,
                 machine: str | None = None) -> None:
        self._kallsyms, self._symbols = kallsyms, None if kallsyms else Symbols()
        self._end = (1 << (8 * long_size)) - 1
        numbers = {n: group for name, group in (("exit_group", True), ("exit", False))
                   for n in [syscall_number(machine, name)] if n is not None}
        wanted = dict(FIELDS)
        self._probes = _probes_of_do_exit(formats)
        wanted |= dict.fromkeys(self._probes, _STATUS)
        self._stream = Stream(header_page, formats, wanted, only={"sys_enter": ("id", frozenset(numbers))},
                              stacks_of=frozenset({"sched_process_exit"}), long_size=long_size, big_endian=big_endian,
                              page_size=page_size)
        comms = {pid: comm.decode("utf-8", "backslashreplace") for pid, comm in parse_cmdlines(cmdlines)[0].items()}
        self._follow = Follow(threads=threads, comms=comms, tgids=tgids, parents=parents, only=only,
                              exit_numbers=numbers,
                              frames=self._frames)
        self._row = 0

    @property
    def events(self) -> frozenset[str]:
        """The events of the formats that are used."""
        return self._stream.events

    def feed(self, cpu: int, pages: bytes | bytearray | memoryview, buffer: int = 0) -> None:
        """Take pages that were read from a cpu, see `taskscope.ftrace.follow.Stream.feed`."""
        self._stream.feed(cpu, pages, buffer)

    def tick(self, now: float | None = None) -> None:
        """Say that every cpu has just been read until it had nothing more.

        What was fed before the last tick can be told then.

        :param now: seconds, by default `time.monotonic`
        """
        self._stream.tick()
        self._see(self._stream.take())
        self._follow.tick(time.monotonic() if now is None else now)

    def take(self) -> list[Happening]:
        """Return what has happened, each once, in order of time but for what is marked as late."""
        return self._follow.take()

    def end(self) -> list[Happening]:
        """Return what is left: nothing more will be fed."""
        self._see(self._stream.end())
        return self._follow.end()

    def _see(self, records: list[Record]) -> None:
        for r in records:
            self._row += 1
            event = "do_exit" if r.event in self._probes else r.event
            self._follow.see(event, Rec(r.ts, self._row, r.cpu, r.pid, r.irq, r.f), late=r.late)

    def _frames(self, addresses: Sequence[int]) -> tuple[str, ...]:
        if self._symbols is None:
            self._symbols, self._kallsyms = Symbols(self._kallsyms), b""
        names: list[str] = []
        for address in addresses:
            address &= self._end
            if address in (0, self._end):
                break
            names.append(self._symbols.function(address) or f"0x{address:x}")
        return fold(tuple(names))


#: what is told -> the events of which one must be recorded for it
_NEEDS: Final = {
    "births": {"task_newtask", "sched_process_fork"},
    "execs": {"sched_process_exec"},
    "deaths": {"sched_process_exit"},
    "exit codes": {"sys_enter_exit_group", "sys_enter"},
    "signals": {"signal_generate"},
}


class Following:
    """Follows what `taskscope.ftrace.record.Recorder` records on this machine; `start` is what `Order.follow` takes.

    :param tell: gets what has become known, a few times a second, in the order in which it happened where that is known
    :param everything: all tasks are recorded
    :param pids: processes that are recorded, where not all are
    :param threads: tell births and deaths of threads too
    """

    def __init__(self, tell: Callable[[list[Happening]], None], *, everything: bool = False, pids: Collection[int] = (),
                 threads: bool = False) -> None:
        self._tell, self._everything, self._pids, self._threads = tell, everything, frozenset(pids), threads
        self._follower: Follower | None = None

    def start(self, setup: FollowSetup) -> Following:
        """Begin, with what the recorder knows of the kernel.

        :raises TraceError: this kernel's formats cannot be understood
        """
        there = running()
        tgids, _ = parse_tgids(setup.tgids)
        tgids |= there.tgids
        chosen = {tid for tid, tgid in tgids.items() if tgid in self._pids} | self._pids
        if setup.command is not None:
            chosen.add(setup.command)
        self._follower = Follower(
            setup.header_page, setup.formats, setup.kallsyms, setup.cmdlines + there.cmdlines, tgids=tgids,
            # Of some tasks alone, nothing would tell that their parents died.
            parents=there.parents if self._everything else None, only=None if self._everything else chosen,
            threads=self._threads, long_size=setup.long_size, big_endian=sys.byteorder == "big",
            page_size=setup.page_size, machine=os.uname().machine)
        return self

    @property
    def missing(self) -> list[str]:
        """What cannot be told, as the events for it are not recorded."""
        events = frozenset() if self._follower is None else self._follower.events
        return [what for what, needed in _NEEDS.items() if not needed & events]

    @property
    def closed(self) -> bool:
        """Tell whether nobody listens any more."""
        return False

    def feed(self, cpu: int, pages: bytes) -> None:
        """Take whole pages of one cpu, in its order, each once."""
        if self._follower is not None and not self.closed:
            self._follower.feed(cpu, pages)

    def feed_outside(self, cpu: int, pages: bytes) -> None:
        """Take pages of the instance that records what others do to the recorded tasks."""
        if self._follower is not None and not self.closed:
            self._follower.feed(cpu, pages, buffer=1)

    def tick(self) -> None:
        """Know that all cpus have been read just now."""
        if self._follower is not None and not self.closed:
            self._follower.tick()
            self._told(self._follower.take())

    def end(self) -> None:
        """Know that nothing more comes."""
        if self._follower is not None and not self.closed:
            self._told(self._follower.end())

    def _told(self, happenings: list[Happening]) -> None:
        if happenings:
            self._tell(happenings)


def _probes_of_do_exit(formats: Sequence[tuple[str, bytes]]) -> frozenset[str]:
    """Find the events that somebody defined as probes on do_exit(): they tell the wait status."""
    names = set()
    for _, text in formats:
        m = _NAME.search(text, 0, 4096)
        if m and b"do_exit" in m[1] and b"__probe_" in text and any(f" {n};".encode() in text for n in _STATUS):
            names.add(m[1].decode("ascii", "replace"))
    return frozenset(names)
