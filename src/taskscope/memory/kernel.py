"""task_structs in the memory of a real kernel, as `taskscope.snapshot.decode` reads them: `KernelMemory`.

Every walk is bounded and knows where it has been; what does not fit together is told in `KernelMemory.wounds`, and what
can be reached is still shown.  Lists are those of include/linux/sched.h and kernel/fork.c: init_task.tasks,
signal_struct.thread_head, children by sibling.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from taskscope.abi.era import DEFAULT, Version, kernel_of
from taskscope.errors import UsageError
from taskscope.memory.image import FaultError, Image
from taskscope.memory.orc import Orc
from taskscope.memory.structs import Struct, Structs
from taskscope.snapshot.decode import snapshot
from taskscope.snapshot.snapshot import Snapshot

#: where a member stands in other kernels
_ELSEWHERE: Final = {"signal.tty.pgrp": "signal.tty.ctrl.pgrp", "cpu": "thread_info.cpu"}
#: MM_FILEPAGES, MM_ANONPAGES, MM_SHMEMPAGES
_RSS: Final = (0, 1, 3)
#: no machine has so many tasks, threads of one group, or CPUs that more would be meant
_MOST, _CPUS = 1 << 22, 1 << 13


class KernelMemory(Structs):
    """See `taskscope.snapshot.decode.Memory`.

    :param image: the memory of a kernel
    """

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        if image.wrong:
            self.wounds.append(image.wrong)
        self.source = image.source
        self.now: int | None = None
        try:
            self.version: Version = kernel_of(image.release)
        except UsageError:
            self.version = DEFAULT
        self.thread_size = 8192 if image.arch == "armv7l" else 16384
        self._stacks: dict[int, list[int]] = {}
        self._word = "<Q" if self.types.word == 8 else "<I"

    # ---- what the decoder asks -------------------------------------------------------------------------------

    def number(self, obj: Any, path: str) -> int | None:
        """See `Memory.number`."""
        if obj is None:
            return None
        if obj.name == "pid" and path == "nr":
            return self._nr(obj)
        if path == "mm.rss":
            return self._rss(obj)
        obj = self._in_thread_info(obj, path)
        if isinstance(obj, tuple):
            obj, path = obj
        found = self._reach(obj, path)
        if found is None and path in _ELSEWHERE:
            return self.number(obj, _ELSEWHERE[path])
        if found is None:
            return None
        owner, member = found
        if path in ("cpus_mask", "cpus_allowed"):
            # Bits of CPUs that there cannot be are set too.
            return self._int(owner, member) & (1 << self._nr_cpu_ids) - 1
        if member.kind in ("array", "void") or (member.kind == "struct" and member.size > 1024):
            return None
        return self._int(owner, member)

    def _in_thread_info(self, obj: Struct, path: str) -> Struct | tuple[Struct | None, str]:
        """Find thread_info: in task_struct, or at the lowest address of the stack."""
        if obj.name == "task_struct" and path.startswith("thread_info."):
            return self.follow(obj, "thread_info"), path.removeprefix("thread_info.")
        return obj

    def text(self, obj: Any, path: str) -> str | None:
        """See `Memory.text`."""
        if obj is None:
            return None
        if path == "sched_class.name":
            address = self.number(obj, "sched_class")
            symbol = self.image.symbol_at(address) if address else None
            return symbol.name.removesuffix("_sched_class") if symbol and not symbol.offset else None
        found = self._reach(obj, path)
        if found is None or found[1].kind != "array":
            return None
        owner, member = found
        raw = owner.data[member.offset : member.offset + member.size].split(b"\0")[0]
        text = raw.decode("utf-8", "backslashreplace")
        return re.sub(r"^pts(\d+)$", r"pts/\1", text) if path == "signal.tty.name" else text

    def follow(self, obj: Any, path: str) -> Struct | None:
        """See `Memory.follow`."""
        if obj is None:
            return None
        if obj.name == "task_struct" and path == "thread_info":
            member = self.types.member("task_struct", "thread_info")
            address = self.number(obj, "stack") if member is None else obj.address + member.offset
            return self.struct("thread_info", address or 0)
        found = self._reach(obj, path)
        if found is None:
            return self.follow(obj, _ELSEWHERE[path]) if path in _ELSEWHERE else None
        owner, member = found
        if member.kind == "struct" and member.of:
            return self.struct(member.of, owner.address + member.offset)
        if member.kind != "pointer" or member.of is None:
            return None
        return self.struct(member.of, self._int(owner, member))

    def address(self, obj: Any) -> int:
        """See `Memory.address`."""
        return 0 if obj is None else obj.address

    def id_of(self, task: Any, kind: str) -> int | None:
        """See `Memory.id_of`."""
        if self.types.member("task_struct", "thread_pid") is not None:
            own = self.follow(task, "thread_pid")
            if own is None or kind == "PID":
                return None if own is None else self._nr(own)
        # Kernels before v4.19 have no TGID among them.
        number = (self.types.enumerators("pid_type") or {}).get(f"PIDTYPE_{kind}")
        for path in (f"signal.pids[{number}]", f"pids[{number}].pid"):
            pid = self.follow(task, path)
            if pid is not None:
                return self._nr(pid)
        return None

    def _nr(self, pid: Struct) -> int | None:
        """Return pid_nr(): the number in the outermost namespace, which stands first."""
        numbers, nr = self.types.member("pid", "numbers"), self.types.member("upid", "nr")
        if numbers is None or nr is None:
            return None
        try:
            raw = self.image.read(pid.address + numbers.offset + nr.offset, nr.size)
        except FaultError:
            return None
        return int.from_bytes(raw, "little", signed=True)

    def _rss(self, task: Struct) -> int | None:
        """Return get_mm_rss() in pages: counters in one struct, or (since v6.2, f1a7941243c1) percpu_counters."""
        total, known = 0, False
        for n in _RSS:
            for path in (f"mm.rss_stat.count[{n}].counter", f"mm.rss_stat[{n}].count"):
                found = self._reach(task, path)
                if found is None:
                    continue
                value = int.from_bytes(found[0].data[found[1].offset : found[1].offset + found[1].size], "little",
                                       signed=True)
                total, known = total + value, True
                break
        return max(total, 0) if known else None

    # ---- walks -----------------------------------------------------------------------------------------------

    def init_task(self) -> Struct | None:
        """See `Memory.init_task`."""
        return self.struct("task_struct", self.image.symbol("init_task") or 0)

    def _list(self, head: int, of: str, link: str, what: str) -> Iterator[Struct]:
        """Walk a list_head: yield the structs that are linked by a member of theirs."""
        member = self.types.member(of, link)
        if member is None:
            return
        at, seen = head, {head}
        for _ in range(_MOST):
            try:
                (following,) = struct.unpack(self._word, self.image.read(at, self.types.word))
            except FaultError:
                self._wound(f"{what}: the link at {at:#x} cannot be read; what follows it is missing")
                return
            if following == head:
                return
            if following in seen:
                self._wound(f"{what}: the list runs in a circle at {following:#x}; what follows is missing")
                return
            if not following:
                self._wound(f"{what}: the link at {at:#x} is NULL; what follows it is missing")
                return
            seen.add(following)
            found = self.struct(of, following - member.offset)
            if found is None:
                self._wound(f"{what}: the link at {at:#x} leads nowhere ({following:#x}); what follows it is missing")
                return
            yield found
            at = following

    def processes(self) -> Iterator[Struct]:
        """See `Memory.processes`."""
        head = self.init_task()
        member = self.types.member("task_struct", "tasks")
        if head is None or member is None:
            self._wound("init_task cannot be read: no task can be found")
            return
        yield from self._list(head.address + member.offset, "task_struct", "tasks", "init_task.tasks")

    def threads(self, leader: Any) -> Iterator[Struct]:
        """See `Memory.threads`."""
        yield leader
        signal = self.number(leader, "signal")
        head = self.types.member("signal_struct", "thread_head")
        what = f"the threads of {self.number(leader, 'pid')}"
        if signal and head is not None:
            found = self._list(signal + head.offset, "task_struct", "thread_node", what)
        else:
            group = self.types.member("task_struct", "thread_group")
            if group is None:
                return
            found = self._list(leader.address + group.offset, "task_struct", "thread_group", what)
        yield from (task for task in found if task.address != leader.address)

    def idle_tasks(self) -> Iterator[Struct]:
        """See `Memory.idle_tasks`."""
        queues, offsets = self.image.symbol("runqueues"), self.image.symbol("__per_cpu_offset")
        idle = self.types.member("rq", "idle")
        if queues is None or offsets is None or idle is None:
            return
        for cpu in self.cpus():
            try:
                (offset,) = struct.unpack(self._word, self.image.read(offsets + cpu * self.types.word, self.types.word))
                at = queues + offset + idle.offset & (1 << 8 * self.types.word) - 1
                (task,) = struct.unpack(self._word, self.image.read(at, self.types.word))
            except FaultError:
                self._wound(f"the runqueue of CPU {cpu} cannot be read: its idle task is missing")
                continue
            if (found := self.struct("task_struct", task)) is not None:
                yield found

    @cached_property
    def _nr_cpu_ids(self) -> int:
        at = self.image.symbol("nr_cpu_ids")
        try:
            return min(int.from_bytes(self.image.read(at or 0, 4), "little"), _CPUS) or _CPUS
        except FaultError:
            return max(self.cpus(), default=_CPUS - 1) + 1

    def cpus(self) -> list[int]:
        """Return the numbers of the CPUs that are online."""
        mask, size = self.image.symbol("__cpu_online_mask"), self.types.size("cpumask")
        if mask is None or not size:
            return []
        try:
            bits = int.from_bytes(self.image.read(mask, min(size, _CPUS // 8)), "little")
        except FaultError:
            return []
        return [cpu for cpu in range(_CPUS) if bits >> cpu & 1]

    def children(self, task: Any) -> Iterator[Struct]:
        """See `Memory.children`."""
        member = self.types.member("task_struct", "children")
        if task is None or member is None:
            return
        yield from self._list(task.address + member.offset, "task_struct", "sibling",
                              f"the children of {self.number(task, 'pid')}")

    # ---- stacks ----------------------------------------------------------------------------------------------

    @cached_property
    def _orc(self) -> Orc:
        return Orc(self.image)

    def _frames(self, task: Struct) -> list[int]:
        """Return the addresses on a task's stack; none of one that runs, or has no stack any more."""
        key = task.address
        if key not in self._stacks:
            stack, sp = self.number(task, "stack"), self.number(task, "thread.sp")
            runs = self.number(task, "on_cpu") or not stack or not sp or self.image.arch != "x86_64"
            self._stacks[key] = [] if runs else self._orc.stack(sp or 0, stack or 0, (stack or 0) + self.thread_size)
        return self._stacks[key]

    def stack(self, task: Any) -> list[str]:
        """See `Memory.stack`."""
        return [self._symbol(address) for address in self._frames(task)]

    def _symbol(self, address: int) -> str:
        # A call that does not return may be the last of its function.
        found = self.image.symbol_at(address - 1)
        if found is None:
            return f"{address:#x}"
        return f"{found.name}+{found.offset + 1:#x}" + (f"/{found.size:#x}" if found.size else "")

    def waits_in(self, task: Any) -> str | None:
        """See `Memory.waits_in`: get_wchan(), the innermost function that is not the scheduler's."""
        if self.number(task, "on_cpu") or not (self.number(task, "__state") or self.number(task, "state")):
            return None
        low, high = (self.image.symbol(name) for name in ("__sched_text_start", "__sched_text_end"))
        for address in self._frames(task):
            if low is not None and high is not None and low <= address < high:
                continue
            found = self.image.symbol_at(address - 1)
            return found.name if found is not None else None
        return None

    # ---- for people ------------------------------------------------------------------------------------------

    def snapshot(self, *, stacks: bool = False) -> Snapshot:
        """Return every task, with what was damaged on the way.

        :param stacks: fill `TaskRow.kernel_stack`
        """
        found = snapshot(self, full=True, stacks=stacks)
        return replace(found, wounds=tuple(self.wounds), arch=self.image.arch)

    def tasks(self) -> Iterator[Struct]:
        """Yield every task: idle ones, and each group leader with its threads."""
        yield from self.idle_tasks()
        for leader in self.processes():
            yield from self.threads(leader)
