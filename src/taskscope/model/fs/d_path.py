"""From inodes back to names: fs/d_path.c, v4.19."""

from __future__ import annotations

from errno import ERANGE
from typing import Any

from taskscope.model import machine
from taskscope.model.include.linux.fs import Path
from taskscope.model.include.linux.uaccess import put_user


def d_path(path: Path) -> str:
    """Return the absolute name of a Path."""
    if path.parent is None:
        return path.name or "/"
    parts = []
    step: Path | None = path
    while step is not None and step.parent is not None:
        parts.append(step.name)
        step = step.parent
    return "/" + "/".join(reversed(parts))


def sys_getcwd(buf: Any, size: int) -> int:
    """getcwd(2): store the name; return its length with the NUL."""
    name = d_path(machine.cur.cpu.curr.fs.pwd)
    length = len(name.encode()) + 1
    if length > size:
        return -ERANGE
    return put_user(name, buf) or length
