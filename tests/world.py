"""Small worlds for tests: tracefs text as a kernel prints it, one call per event, and its lives.

Times are microseconds; the world begins at `BASE`, so ``w.ns(5)`` is the time stamp of an event at 5.
Every call appends one line, in the order of the calls: as in the kernel's file, that order decides between
equal stamps.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lives_json import Row, lives_of

if TYPE_CHECKING:
    from taskscope.recording import Recording

BASE = 100_000_000
HEADER = """\
# tracer: nop
#
# entries-in-buffer/entries-written: {left}/{written}   #P:{cpus}
#
#                                _-----=> irqs-off/BH-disabled
#                               / _----=> need-resched
#                              | / _---=> hardirq/softirq
#                              || / _--=> preempt-depth
#                              ||| / _-=> migrate-disable
#                              |||| /     delay
#           TASK-PID     CPU#  |||||  TIMESTAMP  FUNCTION
#              | |         |   |||||     |         |
"""

Task = tuple[str, int]
IDLE0, IDLE1 = ("swapper/0", 0), ("swapper/1", 0)
FORK = 0x1200000
THREAD = 0x3D0F00
VFORK = 0x4100


class World:
    """A recording in the making; a call's ``task`` is by default what the last switch put on its cpu."""

    def __init__(self, folder: Path, cpus: int = 2) -> None:
        self.path = folder / "trace"
        self.cpus = cpus
        self.lines: list[str] = []
        self.on: dict[int, Task] = {k: (f"swapper/{k}", 0) for k in range(cpus)}
        self.written: int | None = None

    @staticmethod
    def ns(us: int) -> int:
        """Return the time stamp of the moment `us`."""
        return (BASE + us) * 1000

    # ------------------------------------------------------------------ lines

    def line(
        self, us: int, cpu: int, event: str, body: str, *, flags: str = ".....", task: Task | None = None
    ) -> None:
        """Append one event in the context of the task that runs on the cpu."""
        comm, pid = task or self.on[cpu]
        shown = "<idle>" if pid == 0 else comm
        stamp = BASE + us
        self.lines.append(
            f"{shown:>16s}-{pid:<7d} [{cpu:03d}] {flags} {stamp // 10**6:5d}.{stamp % 10**6:06d}: "
            f"{event}: {body}\n"
        )

    def lose(self, cpu: int, count: int) -> None:
        """Append the kernel's note that a cpu lost events here."""
        self.lines.append(f"CPU:{cpu} [LOST {count} EVENTS]\n")

    def switch(self, us: int, cpu: int, state: str, to: Task, *, prev: Task | None = None) -> None:
        """sched_switch: the task that runs on the cpu goes off in `state`, another comes on."""
        off = prev or self.on[cpu]
        self.line(
            us,
            cpu,
            "sched_switch",
            f"prev_comm={off[0]} prev_pid={off[1]} prev_prio=120 prev_state={state} ==> "
            f"next_comm={to[0]} next_pid={to[1]} next_prio=120",
            flags="d..2.",
            task=off,
        )
        self.on[cpu] = to

    def waking(self, us: int, cpu: int, who: Task, *, flags: str = "d..2.", target: int = 0) -> None:
        """sched_waking."""
        self.line(
            us,
            cpu,
            "sched_waking",
            f"comm={who[0]} pid={who[1]} prio=120 target_cpu={target:03d}",
            flags=flags,
        )

    def wakeup(
        self, us: int, cpu: int, who: Task, *, flags: str = "d..3.", target: int = 0, new: bool = False
    ) -> None:
        """sched_wakeup, or sched_wakeup_new."""
        self.line(
            us,
            cpu,
            "sched_wakeup_new" if new else "sched_wakeup",
            f"comm={who[0]} pid={who[1]} prio=120 target_cpu={target:03d}",
            flags=flags,
        )

    def fork(self, us: int, cpu: int, child: Task, clone_flags: int = FORK) -> None:
        """task_newtask, sched_process_fork, sched_wakeup_new, each 1 us after the other."""
        comm, pid = self.on[cpu]
        self.line(
            us,
            cpu,
            "task_newtask",
            f"pid={child[1]} comm={child[0]} clone_flags={clone_flags:x} oom_score_adj=0",
        )
        self.line(
            us + 1,
            cpu,
            "sched_process_fork",
            f"comm={comm} pid={pid} child_comm={child[0]} child_pid={child[1]}",
        )
        self.wakeup(us + 2, cpu, child, new=True)

    def rename(self, us: int, cpu: int, comm: str) -> None:
        """task_rename of the task that runs on the cpu, which bears the new name from here on."""
        old, pid = self.on[cpu]
        self.line(us, cpu, "task_rename", f"pid={pid} oldcomm={old} newcomm={comm} oom_score_adj=0")
        self.on[cpu] = (comm, pid)

    def exec(self, us: int, cpu: int, filename: str, comm: str, old_pid: int | None = None) -> None:
        """task_rename, then sched_process_exec 1 us later."""
        self.rename(us, cpu, comm)
        pid = self.on[cpu][1]
        self.line(
            us + 1, cpu, "sched_process_exec", f"filename={filename} pid={pid} old_pid={old_pid or pid}"
        )

    def generate(
        self,
        us: int,
        cpu: int,
        sig: int,
        to: Task,
        *,
        code: int = 0,
        group: int = 1,
        result: int = 0,
        flags: str = "d..1.",
    ) -> None:
        """signal_generate by whoever runs on the cpu."""
        self.line(
            us,
            cpu,
            "signal_generate",
            f"sig={sig} errno=0 code={code} comm={to[0]} pid={to[1]} grp={group} res={result}",
            flags=flags,
        )

    def deliver(self, us: int, cpu: int, sig: int, *, code: int = 0, handler: int = 0) -> None:
        """signal_deliver to the task that runs on the cpu."""
        self.line(
            us,
            cpu,
            "signal_deliver",
            f"sig={sig} errno=0 code={code} sa_handler={handler:x} sa_flags=0",
            flags="d..1.",
        )

    def exit(self, us: int, cpu: int) -> None:
        """sched_process_exit of the task that runs on the cpu."""
        comm, pid = self.on[cpu]
        self.line(us, cpu, "sched_process_exit", f"comm={comm} pid={pid} prio=120")

    def free(self, us: int, cpu: int, who: Task) -> None:
        """sched_process_free, from the softirq of an RCU callback."""
        self.line(us, cpu, "sched_process_free", f"comm={who[0]} pid={who[1]} prio=120", flags="..s1.")

    def die(
        self,
        us: int,
        cpu: int,
        parent: Task | None,
        code: int = 1,
        *,
        state: str = "Z",
        to: Task | None = None,
        sig: int = 17,
    ) -> None:
        """Exit, 2 us later notify the parent (1 exited, 2 killed, 3 dumped), 2 us later switch off."""
        self.exit(us, cpu)
        if parent is not None:
            self.generate(us + 2, cpu, sig, parent, code=code, result=1)
        self.switch(us + 4, cpu, state, to or (f"swapper/{cpu}", 0))

    # ------------------------------------------------------------------ answers

    def text(self) -> str:
        """Return the whole text."""
        left = len(self.lines)
        return HEADER.format(left=left, written=self.written or left, cpus=self.cpus) + "".join(self.lines)

    def write(self) -> Path:
        """Write the text and return where."""
        self.path.write_text(self.text(), encoding="utf-8", errors="surrogateescape")
        return self.path

    def lives(self) -> Lives:
        """Return what ``taskscope lives --json`` says of this world."""
        return Lives(lives_of(self.write()))

    def open(self) -> Recording:
        """Open this world through the Python interface."""
        import taskscope

        return taskscope.open(self.write())


class Lives:
    """The rows of a world, by pid and generation."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    def __call__(self, pid: int, generation: int = 0) -> Row:
        """Return one life."""
        found = [r for r in self.rows if (r["pid"], r["generation"]) == (pid, generation)]
        assert found, (
            f"no life {pid}.{generation} among {sorted((r['pid'], r['generation']) for r in self.rows)}"
        )
        return found[0]

    def of(self, pid: int) -> list[Row]:
        """Return all lives of a pid."""
        return [r for r in self.rows if r["pid"] == pid]


def ref(pid: int, generation: int = 0) -> dict[str, int]:
    """Return a reference as the data contract writes it."""
    return {"pid": pid, "generation": generation}


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    """Make worlds in a temporary folder."""
    made = 0

    def make(cpus: int = 2) -> World:
        nonlocal made
        made += 1
        folder = tmp_path / f"world{made}"
        folder.mkdir()
        return World(folder, cpus)

    return make
