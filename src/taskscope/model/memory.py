"""The machine's task descriptors as `taskscope.snapshot.decode` reads them: `ModelMemory`.

It stands outside of the machine, as crash or drgn stand outside of a kernel: it reads and changes nothing, and takes no
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import taskscope.model.fs.proc.array as array
import taskscope.model.kernel.kallsyms as kallsyms
import taskscope.model.kernel.stacktrace as stacktrace
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.sched import PF_KTHREAD, Task
from taskscope.model.kernel.pid import ns_of_pid
from taskscope.model.machine import Machine
from taskscope.snapshot.waits import Kthread

_KTHREADD: Final = 2
_PIDTYPES: Final = {"PID": 0, "TGID": 1, "PGID": 2, "SID": 3}


class ModelMemory:
    """See `taskscope.snapshot.decode.Memory`."""

    def __init__(self, m: Machine) -> None:
        self.m = m
        self.version = m.flavour.version
        self.source = f"{m.flavour.name} at {m.now / 1e9:.6f}"
        self.now: int | None = m.now
        self.thread_size = m.flavour.thread_size

    def init_task(self) -> Task:
        """Return init_task."""
        return self.m.init_task

    def processes(self) -> Iterator[Task]:
        """Walk init_task.tasks."""
        yield from list_for_each_entry(self.m.init_task.tasks)

    def threads(self, leader: Task) -> Iterator[Task]:
        """Walk a thread group, the leader first."""
        yield leader
        yield from list_for_each_entry(leader.thread_group)

    def idle_tasks(self) -> Iterator[Task]:
        """Return swapper/0 …."""
        for cpu in self.m.cpus:
            yield cpu.idle

    def children(self, task: Task) -> Iterator[Task]:
        """Walk task.children."""
        yield from list_for_each_entry(task.children)

    def follow(self, obj: Any, path: str) -> Any:
        """Follow members by name."""
        for name in path.split("."):
            if obj is None:
                return None
            if name == "__state" and isinstance(obj, Task):
                name = "state"
            if isinstance(obj, dict):
                obj = obj.get(name)
                continue
            if not hasattr(obj, name):
                return None
            obj = self._read(obj, name)
        return obj

    def _read(self, obj: Any, name: str) -> Any:
        if name not in ("preempt_count", "cpu_context"):
            return getattr(obj, name)
        # Counted on the CPU while the task runs, read off its stack while it does not: needs to know which machine is
        # meant.
        before, machine.cur = machine.cur, self.m
        try:
            return getattr(obj, name)
        finally:
            machine.cur = before

    def number(self, obj: Any, path: str) -> int | None:
        """Read a number; of a pointer, the address."""
        first = path.split(".")[0]
        # The name of the state is the flavour's.
        if (
            first in ("state", "__state")
            and isinstance(obj, Task)
            and (first == "__state") != self.m.flavour.switches.state_is_dunder
        ):
            return None
        if first == "cpus_allowed" and self.version >= (5, 3):
            return None
        value = self.follow(obj, "cpus_allowed" if first == "cpus_mask" else path)
        if value is None or isinstance(value, (bool, int)):
            return None if value is None else int(value)
        address = getattr(value, "address", None)
        if isinstance(address, int):
            return address
        return None if isinstance(value, (str, bytes, tuple, dict, list)) else self.object_address(value)

    def text(self, obj: Any, path: str) -> str | None:
        """Read a string."""
        value = self.follow(obj, path)
        return value if isinstance(value, str) else None

    def address(self, obj: Any) -> int:
        """Return an object's address in the machine's memory."""
        if obj is None:
            return 0
        owner = getattr(obj, "task", None)
        if type(obj).__name__ == "ThreadInfo" and owner is not None:
            # At the lowest address of the stack, or the first member of task_struct (CONFIG_THREAD_INFO_IN_TASK).
            return int(owner.address if self.m.flavour.switches.thread_info_in_task else owner.stack)
        return int(getattr(obj, "address", 0) or self.object_address(obj))

    def object_address(self, obj: Any) -> int:
        """Return an address for a structure that the model keeps none for: its own, and the same while it lives."""
        known: dict[int, tuple[Any, int]] = self.m.__dict__.setdefault("object_addresses", {})
        found = known.get(id(obj))
        if found is None or found[0] is not obj:
            base = self.m.flavour.page_offset + (self.m.mem & ~0xFFFFF) - 0x10_0000
            found = known[id(obj)] = (obj, base + 0x100 * len(known))
        return found[1]

    def id_of(self, task: Task, kind: str) -> int | None:
        """Return the number of one of the task's pids."""
        if task.thread_pid is None:
            return None
        pid = task.thread_pid if kind == "PID" else task.signal.pids[_PIDTYPES[kind]]
        return None if pid is None else pid.nr

    def stack(self, task: Task) -> list[str]:
        """Return a sleeping task's call stack."""
        return [kallsyms.sprint_symbol(self.m, address) for address in stacktrace.save_stack_trace_tsk(self.m, task)]

    def kthread(self, task: Task) -> Kthread | None:
        """Return what a kernel thread runs."""
        if not task.flags & PF_KTHREAD:
            return None
        own = getattr(task, "kthread", None)
        if own is None:
            return Kthread("kthreadd") if task.pid == _KTHREADD else None
        function, data = own.threadfn.__name__, own.data
        inner = about = None
        if function == "smpboot_thread_fn":
            inner = data.ht.fn.__name__
        elif function == "rescuer_thread":
            about = data.rescue_wq.name
        elif function == "worker_thread" and data.current_func is not None:
            about = f"{data.current_func.__name__} of {data.current_pwq.wq.name}"
        elif function == "irq_thread":
            about = f"irq {data.irq} of {data.name}"
        return Kthread(function, inner, about)

    def holder(self, task: Task, kind: str) -> int | None:
        """Return the child that a task waits for in vfork(); the model keeps no owners of other things."""
        if kind == "vfork child":
            for child in self.children(task):
                if child.vfork_done is not None:
                    return child.pid
        return None

    def preempt_count(self, cpu: int) -> int | None:
        """Return None: each thread_info has its own here."""
        del cpu
        return None

    def child_reaper(self, task: Task) -> Task | None:
        """Return the init of the task's PID namespace."""
        before, machine.cur = machine.cur, self.m
        try:
            return None if task.thread_pid is None else ns_of_pid(task.thread_pid).child_reaper
        finally:
            machine.cur = before

    def cgroup(self, task: Task) -> None:
        """Return None: there are no control groups."""
        del task

    def stack_use(self, task: Task) -> None:
        """Return None: stacks hold no bytes here."""
        del task

    def every(self, task: Task) -> dict[str, int | str]:
        """Return the members of the task that are numbers or texts."""
        slots = [name for cls in type(task).__mro__ for name in getattr(cls, "__slots__", ())]
        found = ((name, getattr(task, name, None)) for name in sorted({*slots, *getattr(task, "__dict__", ())}))
        return {name: int(value) if isinstance(value, int) else value for name, value in found
                if isinstance(value, (int, str))}

    def waits_in(self, task: Task) -> str | None:
        """Return the function that a sleeping task waits in."""
        before, machine.cur = machine.cur, self.m
        try:
            address = array.get_wchan(task)
        finally:
            machine.cur = before
        return kallsyms.sprint_symbol(self.m, address, False) if address else None
