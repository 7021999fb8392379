"""Kernel code that a lab brings along: a module, loaded from outside and run by whoever writes to its file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskscope.system import System


def insmod(k: System, name: str, function: Callable[[], Any]) -> str:
    """Load a module whose function runs, in the writer's context, at each write to a file.

    :return: the file
    """
    from taskscope.model.fs import super as super_
    from taskscope.model.fs.proc import inode as proc_inode

    path = f"/sys/kernel/{name}/trigger"
    with k.current():
        entry = proc_inode.ProcEntry(None, _store, function)
        super_.kern_add(path, proc_inode.proc_get_inode(0o200, entry))
    return path


def _store(private: Any, data: bytes) -> int:
    private()
    return len(data)
