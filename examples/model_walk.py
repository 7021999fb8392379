"""Walk through one fork, one death and the switches between them on the executable kernel: see docs/model-walk.md.

Run it: python examples/model_walk.py
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import taskscope

BIRTH = (
    "_do_fork", "copy_process", "dup_task_struct", "sched_fork", "copy_files", "copy_mm", "copy_thread", "alloc_pid",
    "wake_up_new_task",
)
DEATH = ("do_exit", "exit_signals", "exit_mm", "exit_files", "exit_notify", "do_notify_parent", "do_task_dead")
#: their first argument is the task that they are about
ABOUT = ("schedule_tail", "finish_task_switch", "release_task", "delayed_put_task_struct", "free_task")


def parent(sys: Any, argv: list[str]) -> None:
    """Fork a child that exits with 3, and wait for it."""
    del argv
    if sys.fork() == 0:
        sys.exit(3)
    sys.wait()


class Walk:
    """Notes where the kernel comes by, from the fork of the child to the end of its task_struct."""

    def __init__(self, k: Any) -> None:
        self.k = k
        self.child: Any = None
        self.lines: list[str] = []

    def stop(self, name: str) -> Any:
        """Return what is to be done at the entry of a function."""

        def arrived(first: Any = None, *_: Any) -> None:
            task = self.k.running()
            if name == "wake_up_new_task" and task.comm == "parent":
                self.child = first
            if name in BIRTH:
                here = task.comm == "parent"
            elif name in DEATH:
                here = task is self.child
            else:
                here = self.child is not None and self.child in (first, task)
            if here:
                path = " < ".join(entry.partition("+")[0] for entry in self.k.running_stack()[1:4])
                ms = self.k.now / 1e6
                self.lines.append(f"{ms:9.3f} ms  {task.pid:>2} {task.comm:<9}  {name:<24}{path}".rstrip())

        return arrived


def main() -> None:
    """Print each stop: the time, who runs, the function, and the call path."""
    with taskscope.boot(cpus=1) as k:
        walk = Walk(k)
        with ExitStack() as probes:
            for name in BIRTH + DEATH + ABOUT:
                probes.enter_context(k.probe(name, walk.stop(name)))
            k.spawn(parent, name="parent").wait()
            k.run(s=0.1)
    print("\n".join(walk.lines))


if __name__ == "__main__":
    main()
