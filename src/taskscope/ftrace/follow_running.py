"""The tasks that run already when a recording begins: names, thread groups, parents, as /proc tells them (proc(5)).

Read before the first event is recorded: what changes afterwards, the events tell.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from taskscope.errors import PermissionRefusedError
from taskscope.ftrace.record_setup import refuse_foreign_pids


@dataclass(slots=True)
class Running:
    """Tasks by pid."""

    comms: dict[int, bytes] = field(default_factory=dict)
    tgids: dict[int, int] = field(default_factory=dict)
    parents: dict[int, int] = field(default_factory=dict)       # of processes; 0: none

    @property
    def cmdlines(self) -> bytes:
        """The names in the form of ``saved_cmdlines``."""
        return b"".join(b"%d %s\n" % item for item in self.comms.items())


def running() -> Running:
    """Return the tasks that run now; none where /proc counts pids otherwise than the kernel does in its events."""
    found = Running()
    try:
        refuse_foreign_pids()
        if os.readlink("/proc/self") != str(os.getpid()):  # noqa: PTH115  a text, not a path
            return found
        processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  names, not paths
    except (OSError, PermissionRefusedError):
        return found
    for pid in processes:
        try:
            threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208  names, not paths
            for tid in threads:
                comm, parent = _stat(f"/proc/{pid}/task/{tid}/stat")
                found.comms[tid], found.tgids[tid] = comm, pid
                if tid == pid:
                    found.parents[pid] = parent
        except (OSError, ValueError):
            continue                     # it ended meanwhile
    return found


def _stat(path: str) -> tuple[bytes, int]:
    """Return name and parent: the second and the fourth field; a name may hold parentheses and blanks."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    begin, end = text.index(b"("), text.rindex(b")")
    return text[begin + 1:end], int(text[end + 1:].split()[1])
