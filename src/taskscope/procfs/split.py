"""Work in two processes at a time: `split`.

Reading /proc is mostly the kernel's work, and it does that for two readers side by side.
"""

from __future__ import annotations

import marshal
import os
from collections.abc import Callable, Sequence
from typing import Any

Work = Callable[[Sequence[int]], list[Any]]


def split(work: Work, items: Sequence[int]) -> list[Any]:
    """Do work on a list, on its second half in a process of its own; where that fails, here.

    :param work: takes a part of the list, gives a list of what `marshal` can write
    """
    half = len(items) // 2
    read, write = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(read)
        os.close(write)
        return work(items)
    if not pid:
        # Else it would be a reader of its own pipe, and never be told that the other has gone.
        os.close(read)
        _child(work, items[half:], write)
    os.close(write)
    try:
        found = work(items[:half])
        with open(read, "rb", closefd=False) as pipe:
            data = pipe.read()
    finally:
        # A child that still writes ends by that.
        os.close(read)
        _, status = os.waitpid(pid, 0)
    return found + (work(items[half:]) if status else marshal.loads(data))


def _child(work: Work, items: Sequence[int], write: int) -> None:
    """Write what there is and end, whatever happens: nothing of the parent's may run on here."""
    status = 1
    try:
        data = memoryview(marshal.dumps(work(items)))
        while data:
            data = data[os.write(write, data) :]
        status = 0
    finally:
        os._exit(status)
