"""Task descriptors saved behind a recording: what a machine's tasks were when its recording was written.

The block stands behind all that a trace.dat's own readers look at: JSON Lines (zlib), its length, a magic number.
trace-cmd and KernelShark find their sections by offset and do not see it.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any, Final, NamedTuple

from taskscope.errors import TraceError
from taskscope.snapshot.decode import UNREAD, StackUse
from taskscope.snapshot.detail import Reaper, TaskDetail
from taskscope.snapshot.snapshot import Snapshot, TaskRow, why_missing

_MAGIC: Final = b"TSTASKS1"
_TAIL: Final = struct.Struct("<Q8s")
#: no machine has so many tasks that more would be meant
_MOST: Final = 1 << 30


class Saved(NamedTuple):
    """The tasks of a machine at one moment."""

    at: int  # ns of the machine's clock
    source: str
    arch: str
    tasks: tuple[TaskDetail, ...]

    def snapshot(self) -> Snapshot:
        """Return their rows as a table of tasks."""
        rows = tuple(detail.row for detail in self.tasks)
        return Snapshot(rows, self.at, self.source, why_missing(rows, UNREAD, "the machine does not keep it"),
                        arch=self.arch)


def append_tasks(path: str | PathLike[str], saved: Saved) -> None:
    """Put the block behind a recording that has just been written."""
    lines = [json.dumps({"at": saved.at, "source": saved.source, "arch": saved.arch})]
    lines += [json.dumps(asdict(task)) for task in saved.tasks]
    block = zlib.compress("\n".join(lines).encode())
    with Path(path).open("ab") as file:
        file.write(block + _TAIL.pack(len(block), _MAGIC))


def read_tasks(path: str | PathLike[str]) -> Saved | None:
    """Return the tasks that stand behind a recording; None if it has none.

    :raises TraceError: the block is damaged
    """
    with Path(path).open("rb") as file:
        size = file.seek(0, 2)
        if size < _TAIL.size:
            return None
        file.seek(size - _TAIL.size)
        length, magic = _TAIL.unpack(file.read(_TAIL.size))
        if magic != _MAGIC:
            return None
        start = size - _TAIL.size - length
        if start < 0:
            raise TraceError("the saved tasks are cut off; write the recording again", str(path), size)
        file.seek(start)
        block = file.read(length)
    try:
        unpack = zlib.decompressobj()
        text = unpack.decompress(block, _MOST)
        if unpack.unconsumed_tail:
            raise ValueError("too long")
        head, *rest = [json.loads(line) for line in text.splitlines()]
        return Saved(head["at"], head["source"], head["arch"], tuple(_detail(task) for task in rest))
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        message = f"the saved tasks cannot be read ({error}); write the recording again"
        raise TraceError(message, str(path), start) from None


#: what members of a row were called before v0.2
_RENAMED: Final = {"start": "start_time", "runtime": "sum_exec_runtime"}


def _detail(fields: dict[str, Any]) -> TaskDetail:
    names = ("version", "children", "threads", "stack")
    tuples: dict[str, Iterable[Any]] = {name: tuple(fields[name]) for name in names}
    lists = {name: tuple(fields["row"][name]) for name in ("children", "kernel_stack")
             if fields["row"].get(name) is not None}
    row = TaskRow(**{_RENAMED.get(name, name): value for name, value in (fields["row"] | lists).items()})
    known = dict(fields)
    for name, made in (("stack_use", StackUse), ("reaper", Reaper)):
        if known.get(name) is not None:
            known[name] = made(*known[name])
    return TaskDetail(**{**known, **tuples, "row": row})
