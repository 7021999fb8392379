"""Members of kernel structs by the paths that `taskscope.snapshot.decode.Memory` has: `Fields`.

Most paths are looked up as they are; what is written out here is what a real kernel keeps elsewhere than the path says,
or in more than one place.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from taskscope.memory.image import FaultError, Image
from taskscope.memory.structs import Struct, Structs

#: where a member stands in other kernels
_ELSEWHERE: Final = {"signal.tty.pgrp": "signal.tty.ctrl.pgrp", "cpu": "thread_info.cpu"}
#: MM_FILEPAGES, MM_ANONPAGES, MM_SHMEMPAGES
_RSS: Final = (0, 1, 3)
#: no machine has so many CPUs that more would be meant
_CPUS: Final = 1 << 13
#: MAX_PID_NS_LEVEL
_LEVELS: Final = 32


def _nothing(_: Struct) -> None:
    """Read a member that is no number."""


class Fields(Structs):
    """Reads members of structs.

    :param image: the memory of a kernel
    """

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self._word = "<Q" if self.types.word == 8 else "<I"
        self._reads: dict[tuple[str, str], Callable[[Struct], int | None]] = {}
        self._numbers: dict[int, int | None] = {}

    def number(self, obj: Any, path: str) -> int | None:
        """See `Memory.number`."""
        if obj is None:
            return None
        key = obj.name, path
        read = self._reads.get(key)
        if read is None:
            read = self._reads[key] = self._way(*key)
        return read(obj)

    def _way(self, name: str, path: str) -> Callable[[Struct], int | None]:
        """Return how a number is read: most are found once, and then just taken out of the bytes."""
        special = (path in ("mm.rss", "cpus_mask", "cpus_allowed") or (name, path) == ("pid", "nr")
                   or path.startswith("thread_info."))
        steps = None if special else self._path(name, path)
        if steps is None:
            return lambda obj: self._slowly(obj, path)
        member, leads = steps[-1]
        if leads is not None:
            return lambda obj: self._slowly(obj, path)
        if member.kind in ("array", "void") or (member.kind == "struct" and member.size > 1024):
            return _nothing
        if len(steps) == 1 and member.bits is None:
            start, end, signed = member.offset, member.offset + member.size, member.signed
            return lambda obj: int.from_bytes(obj.data[start:end], "little", signed=signed)
        pointers = [(one.offset, one.offset + one.size, of) for one, of in steps[:-1] if of is not None]

        def along(obj: Struct) -> int | None:
            at: Struct | None = obj
            for begin, stop, of in pointers:
                assert at is not None
                at = self.struct(of, int.from_bytes(at.data[begin:stop], "little"))
                if at is None:
                    return None
            assert at is not None
            return self._int(at, member)

        return along

    def _slowly(self, obj: Struct, path: str) -> int | None:
        if obj.name == "pid" and path == "nr":
            return self._nr(obj)
        if path == "mm.rss":
            return self._rss(obj)
        if obj.name == "task_struct" and path.startswith("thread_info."):
            # In task_struct, or at the lowest address of the stack.
            return self.number(self.follow(obj, "thread_info"), path.removeprefix("thread_info."))
        found = self._reach(obj, path)
        if found is None and path in _ELSEWHERE:
            return self.number(obj, _ELSEWHERE[path])
        if found is None:
            return None
        owner, member = found
        if path in ("cpus_mask", "cpus_allowed"):
            # Bits of CPUs that there cannot be are set too.
            return self._int(owner, member) & (1 << self._nr_cpu_ids) - 1
        return self._int(owner, member)

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

    def forget(self) -> None:
        """Look at memory anew from now on."""
        super().forget()
        self._numbers.clear()

    def _nr(self, pid: Struct) -> int | None:
        """Return pid_nr(): the number in the outermost namespace, which stands first."""
        if pid.address not in self._numbers:
            self._numbers[pid.address] = self._read_nr(pid)
        return self._numbers[pid.address]

    def _read_nr(self, pid: Struct) -> int | None:
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

    def child_reaper(self, task: Any) -> Struct | None:
        """See `Memory.child_reaper`: of the innermost namespace that a task has a number in."""
        own = self.follow(task, "thread_pid")
        level = self.number(own, "level")
        numbers, ns = self.types.member("pid", "numbers"), self.types.member("upid", "ns")
        upid = self.types.size("upid")
        if own is None or level is None or numbers is None or not upid or ns is None or level > _LEVELS:
            return None
        try:
            at = self.word(own.address + numbers.offset + level * upid + ns.offset)
        except FaultError:
            return None
        return self.follow(self.struct("pid_namespace", at), "child_reaper")

    def cgroup(self, task: Any) -> str | None:
        """See `Memory.cgroup`: css_set.dfl_cgrp, named by its kernfs_node and those above."""
        node = self.follow(task, "cgroups.dfl_cgrp.kn")
        if node is None:
            return None
        names: list[str] = []
        # Since v6.15 (633488947ef6) `parent` is `__parent`.
        up = "parent" if self.types.member("kernfs_node", "parent") is not None else "__parent"
        for _ in range(_LEVELS * 4):
            above = self.follow(node, up)
            if above is None:
                return "/" + "/".join(reversed(names))
            name = self.string(self.number(node, "name"))
            if name is None:
                return None
            names.append(name)
            node = above
        return None

    def string(self, address: int | None, most: int = 256) -> str | None:
        """Read a text that ends in NUL; None for NULL, or if it is not there."""
        if not address:
            return None
        # It may end before a page that is not there.
        count = min(most, 4096 - address % 4096)
        try:
            data = self.image.read(address, count)
            if b"\0" not in data and count < most:
                data += self.image.read(address + count, most - count)
        except FaultError:
            return None
        return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")

    def every(self, task: Any) -> dict[str, int | str]:
        """See `Memory.every`."""
        found: dict[str, int | str] = {}
        for path, member in self.types.members(task.name):
            if member.kind in ("int", "bool", "enum", "pointer"):
                found[path] = self._int(task, member)
            elif member.kind == "array" and member.of == "char":
                raw = task.data[member.offset : member.offset + member.size]
                found[path] = raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        return found

    def word(self, address: int) -> int:
        """Read a pointer.

        :raises FaultError: it is not there
        """
        (value,) = struct.unpack(self._word, self.image.read(address, self.types.word))
        return int(value)

    @cached_property
    def _nr_cpu_ids(self) -> int:
        at = self.image.symbol("nr_cpu_ids")
        try:
            known = int.from_bytes(self.image.read(at, 4), "little") if at else 0
        except FaultError:
            known = 0
        return min(known, _CPUS) or max(self.cpus(), default=_CPUS - 1) + 1

    def cpus(self) -> list[int]:
        """Return the numbers of the CPUs that are online."""
        known = self.image.cpus()
        if known is not None:
            return known
        mask, size = self.image.symbol("__cpu_online_mask"), self.types.size("cpumask")
        if mask is None or not size:
            return []
        try:
            bits = int.from_bytes(self.image.read(mask, min(size, _CPUS // 8)), "little")
        except FaultError:
            return []
        return [cpu for cpu in range(_CPUS) if bits >> cpu & 1]
