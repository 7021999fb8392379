"""A `Snapshot` out of what ``taskscope ps -L --json`` printed: one JSON object a task."""

from __future__ import annotations

import json
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Final

from taskscope.errors import TraceError
from taskscope.snapshot.snapshot import Snapshot, TaskRow

_FIELDS: Final = frozenset(TaskRow.__dataclass_fields__)
_LISTS: Final = ("children", "kernel_stack")
_HEX: Final = ("address", "stack")


def read_lines(path: str | PathLike[str]) -> Snapshot:
    """Read the file.

    :raises TraceError: it cannot be read, or a line is no task
    """
    name = fspath(path)
    try:
        text = Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(str(error), name) from None
    rows, at = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row, at = _row(json.loads(line))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise TraceError("is no task; make the file with 'taskscope ps -L --json'", name, number, "line") from None
        rows.append(row)
    return Snapshot(tuple(rows), at, name, {})


def _row(told: dict[str, Any]) -> tuple[TaskRow, int | None]:
    known: dict[str, Any] = dict.fromkeys(_FIELDS) | {name: told[name] for name in told.keys() & _FIELDS}
    if not isinstance(known["pid"], int) or not isinstance(known["comm"], str):
        raise TypeError
    known["state"] = known["state"] or "?"
    known["unavailable"] = known["unavailable"] or {}
    for name in _LISTS:
        if known[name] is not None:
            known[name] = tuple(known[name])
    for name in _HEX:
        if known[name] is not None:
            known[name] = int(known[name], 16)
    return TaskRow(**known), told["at"]
