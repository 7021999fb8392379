"""The lists and tables of tasks in kernel memory: `Walks`.

Every walk is bounded and knows where it has been; what does not fit together is told in `Structs.wounds`, and what can
be reached is still shown.  Lists are those of include/linux/sched.h and kernel/fork.c: init_task.tasks,
signal_struct.thread_head, children by sibling; the table of pids is that of kernel/pid.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from taskscope.memory.fields import Fields
from taskscope.memory.image import FaultError
from taskscope.memory.structs import Struct

#: no machine has so many tasks, or threads of one group, that more would be meant
_MOST: Final = 1 << 22
#: of struct xa_node (since v4.20) and struct radix_tree_node: the bits of a pointer that say that it leads to a node
_XA_NODE, _RADIX_NODE = 2, 1


class Walks(Fields):
    """Finds tasks."""

    def init_task(self) -> Struct | None:
        """See `Memory.init_task`."""
        return self.struct("task_struct", self.image.symbol("init_task") or 0)

    def _list(self, head: int, of: str, link: str, what: str) -> Iterator[Struct]:
        """Walk a list_head: yield the structs that are linked by a member of theirs."""
        member = self.types.member(of, link)
        if member is None:
            return
        at, seen, size = head, {head}, self.types.word
        try:
            following = self.word(at)
        except FaultError:
            self._wound(f"{what}: the link at {at:#x} cannot be read; what follows it is missing")
            return
        for _ in range(_MOST):
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
            # Of the moment at which the struct was read.
            at = following
            following = int.from_bytes(found.data[member.offset : member.offset + size], "little")

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
        for queue in self.runqueues():
            found = self.struct("task_struct", self.number(queue, "idle") or 0)
            if found is not None:
                yield found

    def runqueues(self) -> list[Struct]:
        """Return struct rq of each CPU that is online, as far as they are found.

        By the symbols of per-cpu data; else along the tasks' own cfs_rq, which leads to the CPU that each runs on: the
        threads that every CPU has lead to all of them.
        """
        queues, offsets = self.image.symbol("runqueues"), self.image.symbol("__per_cpu_offset")
        found: dict[int, Struct] = {}
        if queues is not None and offsets is not None:
            for cpu in self.cpus():
                try:
                    at = queues + self.word(offsets + cpu * self.types.word) & (1 << 8 * self.types.word) - 1
                except FaultError:
                    self._wound(f"the runqueue of CPU {cpu} cannot be read: its idle task is missing")
                    continue
                if (queue := self.struct("rq", at)) is not None:
                    found[cpu] = queue
        elif self.types.member("cfs_rq", "rq") is not None:
            count = len(self.cpus())
            for task in self.processes():
                if len(found) == count:
                    break
                queue = self.follow(task, "se.cfs_rq.rq")
                number = None if queue is None else self.number(queue, "cpu")
                if queue is not None and number is not None:
                    found.setdefault(number, queue)
        return [found[cpu] for cpu in sorted(found)]

    def children(self, task: Any) -> Iterator[Struct]:
        """See `Memory.children`."""
        member = self.types.member("task_struct", "children")
        if task is None or member is None:
            return
        yield from self._list(task.address + member.offset, "task_struct", "sibling",
                              f"the children of {self.number(task, 'pid')}")

    # ---- the table of pids -----------------------------------------------------------------------------------

    def numbered(self) -> Iterator[Struct]:
        """Yield every task that has a number in the outermost namespace, by number; none if there is no such table.

        A second road to the tasks: it does not go along the lists that `processes` and `threads` follow.
        """
        links = self.types.member("task_struct", "pid_links[0]") or self.types.member("task_struct", "pids[0].node")
        head = self.types.member("pid", "tasks[0].first") or self.types.member("pid", "tasks[0]")
        root = self._pid_table()
        if links is None or head is None or root is None:
            return
        for pid in self._entries(root):
            try:
                first = self.word(pid + head.offset)
            except FaultError:
                self._wound(f"the table of pids: struct pid at {pid:#x} cannot be read")
                continue
            # A number whose task is gone may stay for its group or session.
            if first and (task := self.struct("task_struct", first - links.offset)) is not None:
                yield task

    def _pid_table(self) -> int | None:
        """Return the word that the root of the pids' radix tree is in."""
        for path in ("idr.idr_rt.xa_head", "idr.idr_rt.rnode"):
            member = self.types.member("pid_namespace", path)
            if member is None:
                continue
            namespace = self.image.symbol("init_pid_ns") or self._outermost()
            try:
                return self.word(namespace + member.offset) if namespace else None
            except FaultError:
                self._wound("the table of pids cannot be read")
        return None

    def _outermost(self) -> int | None:
        """Return the pid namespace that init_task is in."""
        own = self.follow(self.init_task(), "thread_pid")
        numbers, ns = self.types.member("pid", "numbers"), self.types.member("upid", "ns")
        if own is None or numbers is None or ns is None:
            return None
        try:
            return self.word(own.address + numbers.offset + ns.offset)
        except FaultError:
            return None

    def _entries(self, root: int) -> Iterator[int]:
        """Yield the pointers that a radix tree holds, in order (lib/xarray.c, lib/radix-tree.c)."""
        node, tag = ("xa_node", _XA_NODE) if self.types.size("xa_node") else ("radix_tree_node", _RADIX_NODE)
        slots = self.types.member(node, "slots")
        if slots is None:
            return
        count = slots.length or 64
        stack, seen = [root], 0
        while stack and seen < _MOST:
            entry = stack.pop()
            seen += 1
            if entry & 3 != tag:
                if entry and not entry & 3:
                    yield entry
                continue
            if entry < 4096:
                continue        # a retry or zero entry
            try:
                data = self.image.read(entry - tag + slots.offset, count * self.types.word)
            except FaultError:
                self._wound(f"the table of pids: the node at {entry - tag:#x} cannot be read; its tasks are missing")
                continue
            size = self.types.word
            stack += [int.from_bytes(data[at : at + size], "little") for at in range((count - 1) * size, -1, -size)]
