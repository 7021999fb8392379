"""Work on /proc in two processes: `taskscope.procfs.split`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import pytest

from taskscope.procfs import snapshot as procfs_snapshot
from taskscope.procfs.snapshot import EVERYTHING, snapshot
from taskscope.procfs.split import split


def test_two_processes_do_the_work_of_one() -> None:
    """Both halves come back in order, and each was done in another process."""
    def work(items: Sequence[int]) -> list[tuple[int, int]]:
        return [(item, os.getpid()) for item in items]

    found = split(work, range(101))
    assert [item for item, _ in found] == list(range(101))
    assert len({pid for _, pid in found}) == 2
    assert found[0][1] == os.getpid()


@pytest.mark.parametrize("end", ["raise", "kill", "wrong"])
def test_a_second_process_that_fails_is_done_without(end: str) -> None:
    """If the other process ends early, by an exception or a signal, its half is done here: nothing is lost."""
    me = os.getpid()

    def work(items: Sequence[int]) -> list[object]:
        if os.getpid() != me:
            if end == "raise":
                raise OSError
            if end == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            return [object()]                   # nothing that can be sent
        return list(items)

    assert split(work, range(10)) == list(range(10))


def test_an_error_here_leaves_no_process_behind() -> None:
    """An exception of the work here is the caller's, after the other process has ended."""
    me = os.getpid()

    def work(items: Sequence[int]) -> list[bytes]:
        if os.getpid() == me:
            raise ZeroDivisionError
        return [bytes(1 << 20) for _ in items]  # more than a pipe holds

    began = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        split(work, range(10))
    assert time.monotonic() - began < 30
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_snapshot_by_two_is_the_snapshot_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that hold still are told alike by one reader and by two, every field of them."""
    monkeypatch.setattr(procfs_snapshot, "_MANY", 0)
    children = []
    try:
        for _ in range(20):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(0)
            children.append(pid)
        time.sleep(0.1)
        fields = EVERYTHING | {"namespaces"}
        one, two = snapshot(fields=fields), snapshot(fields=fields, cpus=2)
        told = [{row.pid: row for row in found.tasks if row.pid in children} for found in (one, two)]
        assert len(told[0]) == 20
        assert told[0] == told[1]
        assert [row.pid for row in two.tasks] == sorted(row.pid for row in two.tasks)
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
