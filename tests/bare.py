"""A bare machine for tests of the executable kernel: pid 1 is a function of the test."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taskscope.model import machine
from taskscope.model.flavours import FLAVOURS
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.init import main
from taskscope.model.mm import page_alloc

ALL = tuple(FLAVOURS)
SECOND = 1_000_000_000


class World:
    """One machine whose pid 1 runs ``scenario(sys)`` and sleeps afterwards."""

    def __init__(
        self, flavour: str = "4.19-arm", cpus: int = 1, seed: int = 0, mem: int = 128 << 20, bare: bool = True
    ) -> None:
        chosen = FLAVOURS[flavour]
        self.m = machine.Machine(chosen, cpus, chosen.hz, seed, mem)
        self.bare = bare
        self.done = False
        self.result: Any = None

    def run(self, scenario: Callable[..., Any], seconds: float = 600) -> Any:
        """Boot, run the scenario to its end, and return its result."""

        def init(sys: Any, argv: list[str]) -> None:
            self.result = scenario(sys)
            self.done = True
            self.m.stop()
            while True:
                sys.pause()

        main.power_on(self.m, bare=self.bare, program=init)
        self.m.run_until(int(seconds * SECOND))
        assert self.m.panicked is None, f"{self.m.panicked}\n{self.console}"
        assert self.done, f"the scenario has not ended in {seconds} s\n{self.console}"
        return self.result

    def settle(self, seconds: float = 1) -> None:
        """Let grace periods end and callbacks run."""
        self.m.run_until(self.m.now + int(seconds * SECOND))

    @property
    def console(self) -> str:
        """What was written to the console."""
        return str(self.m.console_tty.text)

    @contextmanager
    def current(self) -> Iterator[machine.Machine]:
        """Let kernel functions be called from the test."""
        before, machine.cur = machine.cur, self.m
        try:
            yield self.m
        finally:
            machine.cur = before

    def tasks(self) -> list[Any]:
        """Return the processes."""
        return list(list_for_each_entry(self.m.init_task.tasks))

    def close(self) -> None:
        """Close the machine."""
        self.m.close()


@contextmanager
def world(*args: Any, **options: Any) -> Iterator[World]:
    """Make a `World` and close it."""
    one = World(*args, **options)
    try:
        yield one
    finally:
        one.close()


def play(scenario: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Run a scenario on a machine of its own, and return its result."""
    with world(*args, **options) as one:
        return one.run(scenario)


def accounts() -> dict[str, Any]:
    """Return everything that a leak would change on the machine at hand.

    Called in a scenario or with `World.current`.
    """
    m = machine.cur
    # An idle CPU keeps the address space of who ran there last, also when nobody lives in it any more (lazy TLB).
    lazy = {id(mm) for cpu in m.cpus if (mm := cpu.curr.active_mm) is not None and mm.mm_users == 0}
    return {
        **{cache.name: cache.active - len(lazy) * (cache is m.mm_cachep) for cache in m.slab_caches},
        "free pages": page_alloc.nr_free_pages(),
        "slab pages": {cache.name: len(cache.slabs) + len(cache.whole) for cache in m.slab_caches},
        # stacks that a CPU keeps for its next fork are no leak
        "vmap": len(m.vmap_areas) - sum(area is not None for cached in m.cached_stacks for area in cached),
        "threads": m.nr_threads,
        "processes": sum(m.process_counts),
        "pids": len(m.init_pid_ns.idr),
        "users": {uid: (user.count, user.processes, user.sigpending) for uid, user in m.uidhash.items()},
        "nsproxy": m.init_task.nsproxy.count,
        "init_fs": m.init_fs.users,
        "init_files": m.init_files.count,
        "memory": len(m.memory),
    }


def error(call: Callable[..., Any], *args: Any) -> str:
    """Call, and return the name of the errno it failed with; what it returned if it did not."""
    try:
        return repr(call(*args))
    except OSError as failed:
        return errno.errorcode[failed.errno or 0]
