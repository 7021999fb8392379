"""A recording as people use it: a `Trace` that knows its lives.

Stands at the front door because it joins rooms that may not know each other: the readers (ftrace), the meaning
(lives) and what a person sees (views).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, cast

from taskscope.errors import TaskscopeError, UsageError
from taskscope.trace.trace import Trace

if TYPE_CHECKING:
    from taskscope.lives.life import Life
    from taskscope.lives.lives import Lives
    from taskscope.snapshot.snapshot import Snapshot


class Recording(Trace):
    """A `Trace` with the lives of its tasks.

    >>> import taskscope
    >>> t = taskscope.open("tests/data/d05-zombie.dat")
    >>> t.life(158).exit.cause
    'exit'
    """

    @classmethod
    def open(cls, path: str | PathLike[str], *, buffer: str | None = None) -> Recording:
        """See `taskscope.open`."""
        from taskscope.ftrace.open import open_source

        return cls(open_source(fspath(path), buffer=buffer))

    @classmethod
    def record(cls, command: Sequence[str], output: str | PathLike[str], *, everything: bool, seconds: float | None,
               pids: Sequence[int], stacks: str, **more: Any) -> Recording:
        """See `taskscope.record`."""
        from taskscope.ftrace.record import Recorder
        from taskscope.ftrace.record_order import Order

        if isinstance(command, str):
            raise UsageError(f"a command is a list of words: {command.split()!r}")
        if stacks not in ("rare", "all", "none"):
            raise UsageError(f"stacks are 'rare', 'all' or 'none', not {stacks!r}")
        if not command and not pids:
            everything = True
        if everything and not command and seconds is None:
            raise UsageError("without a command or pids recording ends by time alone: give seconds")
        order = Order(output=Path(output), command=tuple(command), pids=tuple(pids), everything=everything,
                      seconds=seconds, stacks=stacks, **more)
        result = Recorder(order).run()
        if result.signal is not None:
            # It came for this process, and was held back while it recorded.
            os.kill(os.getpid(), result.signal)
        if result.failed:
            kept = f"; what was recorded is kept in {result.spool}" if result.spool is not None else ""
            raise TaskscopeError(f"{result.failed}{kept}")
        return cls.open(output)

    def time(self, text: str, edge: Literal["exact", "first", "last"] = "exact") -> int:
        """Return a time in ns of the recording's clock, given as ``--from`` takes it: ``163.25``, ``+1.5``, ``+20ms``.

        :param edge: of the ns that are shown as the stamp `text`, the first or the last
        :raises UsageError: it is no time
        """
        from taskscope.views.times import Times

        return Times(self.clock, self.start).parse(text, "time", edge)

    def cut(self, path: str | PathLike[str], *, pids: Sequence[int] = (), after: int | None = None,
            before: int | None = None) -> int:
        """Write a part of the recording as a trace.dat, and return how many records it has.

        :param path: the file; it comes into being whole, and replaces one that is there
        :param pids: only what these tasks wrote and what names them, with the stacks of both
        :param after: ns; only from that time on; `before`: only up to that time
        :raises UsageError: the recording is text
        """
        from taskscope.ftrace.cut import cut
        from taskscope.ftrace.datwrite import write_dat
        from taskscope.ftrace.ring import RingSource
        from taskscope.snapshot.saved import append_tasks, read_tasks
        from taskscope.views.filters import select
        from taskscope.views.report import with_stacks

        source = self.source
        if not isinstance(source, RingSource):
            raise UsageError(f"{self.path} is text: a trace.dat is cut from ring-buffer pages (trace.dat, raw pages)")
        rows = select(self, pids=pids, after=after, before=before)
        if pids:
            rows = with_stacks(self, rows)
        version = 6 if self.source.container.startswith("trace.dat v6") else 7
        saved = None
        if self.source.container.startswith("trace.dat") and (before is None or before >= self.end):
            saved = read_tasks(self.path)
        write_dat(path, cut(source, rows, after, before), version)
        if saved is not None:
            append_tasks(path, saved)
        return len(rows)

    def export(self, form: str, output: str | PathLike[str] | IO[bytes], *, table: str | None = None,
               pids: Sequence[int] = (), after: int | None = None, before: int | None = None, verbose: bool = False,
               force: bool = False) -> list[tuple[str, Path]]:
        """Write the recording in another format, and return what was written where.

        :param form: ``parquet``, ``jsonl``, ``csv`` (tables); ``perfetto``, ``systrace``, ``trace.dat``, ``dot``,
            ``story``
        :param output: a file, for tables also a folder, or an open binary file (but for ``trace.dat``)
        :param table: ``lives``, ``spans``, or an event; of tables only
        :param pids: not of tables: only these tasks, of which a ``story`` needs some
        :param after: not of tables: ns; only from that time on; `before`: only up to that time
        :param verbose: a story with the records that it rests on
        :param force: replace files that are there
        :raises UsageError: the format does not go with the rest, or a file is there
        """
        from taskscope.views import export

        part: dict[str, Any] = {"pids": pids, "after": after, "before": before}
        path = None if hasattr(output, "write") else Path(cast("str", output))
        if form in export.FORMATS:
            if pids or after is not None or before is not None:
                raise UsageError(f"--to {form} writes whole tables: it takes no task (-p) and no time (--from, --to)")
            if path is not None:
                return list(export.export(self.lives, export.targets(path, table, form), form, force=force))
            export.write_table(self.lives, table or "lives", form, cast("IO[bytes]", output))
            return []
        if form not in (*export.FORMS, "trace.dat"):
            known = ", ".join((*export.FORMATS, *export.FORMS, "trace.dat"))
            raise UsageError(f"--to {form}: there is no such format; it is one of {known}")
        if table is not None:
            raise UsageError(f"--table is for {', '.join(export.FORMATS)}, not for {form}")
        if path is None:
            if form == "trace.dat":
                raise UsageError("a trace.dat needs a file: -o FILE")
            export.write_form(self.lives, cast("export.Form", form), cast("IO[bytes]", output), verbose=verbose, **part)
            return []
        if path.is_dir():
            raise UsageError(f"-o {path} is a folder, and {form} is one file; name it: -o FILE")
        export.refuse_replacing([path], force=force)
        if form == "trace.dat":
            self.lives.choose(pids)
            return [(f"{self.cut(path, **part):,} events", path)]
        with export.whole(path) as out:
            export.write_form(self.lives, cast("export.Form", form), out, verbose=verbose, **part)
        return [(form, path)]

    @cached_property
    def lives(self) -> Lives:
        """The life of every task in the recording."""
        from taskscope.lives.lives import Lives

        def story(life: Life) -> str:
            from taskscope.views.story import story_text

            return story_text(life, self)

        return Lives(self, story=story)

    def tasks(self, at: int | None = None) -> Snapshot:
        """Return the tasks of one moment.

        :param at: ns of the recording's clock; the end by default, where a machine's recording keeps the descriptors
        """
        from taskscope.snapshot.saved import read_tasks

        saved = read_tasks(self.path) if at is None and Path(self.path).is_file() else None
        return saved.snapshot() if saved is not None else self.lives.at(self.end if at is None else at)

    def life(self, task: str | int | tuple[int, int]) -> Life:
        """Return one life.

        :param task: pid, comm, ``pid:comm``, ``pid.generation`` or (pid, generation)
        :raises NoSuchTaskError: none fits
        :raises AmbiguousTaskError: more than one fits; the message lists them
        """
        return self.lives.get(task)
