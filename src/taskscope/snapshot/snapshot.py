"""The tasks of a system at one moment: what `ps` and `tree` show.

Every source (a recording at a time, /proc, kernel memory) fills the same rows; a value that a source cannot give
is None and its reason stands in `Snapshot.unavailable` under the field's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task at one moment; field names follow task_struct and proc(5)."""

    pid: int
    generation: int | None          # in a recording; None elsewhere
    tgid: int | None
    ppid: int | None                # the real parent at that moment
    kind: str | None                # process, thread, kthread, idle
    comm: str
    state: str                      # one letter as in ps(1), "?" if unknown
    cpu: int | None
    prio: int | None                # kernel prio 0…139 (120 is nice 0)
    nice: int | None
    pgid: int | None
    sid: int | None
    tty: str | None
    tpgid: int | None
    uid: int | None
    rss_kib: int | None
    size_kib: int | None
    wchan: str | None
    start: int | None               # birth, ns of the source's clock; None if before the recording
    runtime: int | None             # ns on a cpu, since the start of the recording
    forked: bool | None = None      # has not exec'ed since its birth


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All tasks that exist at ``at`` (ns of the source's clock), by pid."""

    tasks: tuple[TaskRow, ...]
    at: int | None
    source: str                     # for people: "d05-zombie.dat at 163.1"
    unavailable: Mapping[str, str]  # field -> why this source cannot give it
