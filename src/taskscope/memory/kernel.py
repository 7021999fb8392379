"""task_structs in the memory of a real kernel, as `taskscope.snapshot.decode` reads them: `KernelMemory`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from taskscope.abi.era import DEFAULT, Version, kernel_of
from taskscope.errors import UsageError
from taskscope.memory.clock import clock_of
from taskscope.memory.exidx import Exidx
from taskscope.memory.frames import frames
from taskscope.memory.image import Clock, FaultError, Image
from taskscope.memory.kthreads import kthread_of
from taskscope.memory.orc import Orc
from taskscope.memory.owners import Owners
from taskscope.memory.structs import Struct
from taskscope.memory.walks import Walks
from taskscope.snapshot.decode import StackUse, listed, snapshot
from taskscope.snapshot.snapshot import Snapshot
from taskscope.snapshot.waits import Kthread

#: STACK_END_MAGIC, include/uapi/linux/magic.h
_STACK_END: Final = 0x57AC6E9D
#: members of struct cpu_context_save, arch/arm/include/asm/thread_info.h -> number of the register
_SAVED: Final = {"r4": 4, "r5": 5, "r6": 6, "r7": 7, "r8": 8, "r9": 9, "sl": 10, "fp": 11, "sp": 13, "pc": 15}
#: how often a kernel that runs is looked at, at most, until what is seen fits together
_TRIES: Final = 5


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python's collector away: of many structs it would look at each again and again, a sixth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class KernelMemory(Walks):
    """See `taskscope.snapshot.decode.Memory`.

    :param image: the memory of a kernel
    """

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        if image.wrong:
            self.wounds.append(image.wrong)
        self.source = image.source
        try:
            self.version: Version = kernel_of(image.release)
        except UsageError:
            self.version = DEFAULT
        self.thread_size = 8192 if image.arch == "armv7l" else 16384
        self._stacks: dict[int, list[int]] = {}

    @property
    def now(self) -> int | None:
        """The ns of the kernel's monotonic clock: now where it runs here, else at its last tick."""
        clock = self._clock()
        return None if clock is None else clock.monotonic

    def _clock(self) -> Clock | None:
        return self.image.clock() or clock_of(self)

    # ---- stacks ----------------------------------------------------------------------------------------------

    @cached_property
    def _orc(self) -> Orc:
        return Orc(self.image)

    @cached_property
    def _exidx(self) -> Exidx:
        return Exidx(self.image)

    def _frames(self, task: Struct) -> list[int]:
        """Return the addresses on a task's stack; none of one that runs, or has no stack any more."""
        key = task.address
        if key not in self._stacks:
            found = [] if self.number(task, "on_cpu") else self._unwind(task, self.number(task, "stack"))
            self._stacks[key] = [] if found and self.image.moving and self._ran(task) else found
        return self._stacks[key]

    def _unwind(self, task: Struct, stack: int | None) -> list[int]:
        sp, pc = self.number(task, "thread.sp"), self.number(task, "thread.cpu_context.pc")
        if stack and sp and self.image.arch == "x86_64":
            return self._orc.stack(sp, stack, stack + self.thread_size)
        if stack and pc and self.image.arch == "aarch64":
            record = self.number(task, "thread.cpu_context.fp") or 0
            return frames(self.image.read, pc, record, stack, stack + self.thread_size)
        if stack and self.image.arch == "armv7l":
            saved = {n: self.number(task, f"thread_info.cpu_context.{name}") for name, n in _SAVED.items()}
            return self._exidx.stack({n: value for n, value in saved.items() if value is not None}, stack,
                                     stack + self.thread_size)
        return []

    def _ran(self, task: Struct) -> bool:
        """Tell whether a task has run since it was read: then its stack is not the one that its registers tell of."""
        now = self._read("task_struct", task.address)
        return now is None or any(self.number(now, path) != self.number(task, path)
                                  for path in ("on_cpu", "thread.sp", "sched_info.pcount", "nvcsw"))

    def stack(self, task: Any) -> list[str]:
        """See `Memory.stack`."""
        return [self._symbol(address) for address in self._frames(task)]

    def _symbol(self, address: int) -> str:
        # A call that does not return may be the last of its function.  On ARM system calls return to where they did not
        # come from: to the begin of ret_fast_syscall.
        before = 1
        found = self.image.symbol_at(address) if self.image.arch == "armv7l" else None
        if found is not None and not found.offset:
            before = 0
        else:
            found = self.image.symbol_at(address - 1)
        if found is None:
            return f"{address:#x}"
        return f"{found.name}+{found.offset + before:#x}" + (f"/{found.size:#x}" if found.size else "")

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

    # ---- what it runs, and waits for -------------------------------------------------------------------------

    def kthread(self, task: Any) -> Kthread | None:
        """See `Memory.kthread`."""
        return kthread_of(self, task)

    @cached_property
    def _owners(self) -> Owners:
        return Owners(self, self.thread_size)

    def holder(self, task: Any, kind: str) -> int | None:
        """See `Memory.holder`."""
        return self._owners.of(task, kind)

    def preempt_count(self, cpu: int) -> int | None:
        """See `Memory.preempt_count`: the per-cpu variable, which v6.2 to v6.14 have in struct pcpu_hot."""
        offsets, at = self.image.symbol("__per_cpu_offset"), self.image.symbol("__preempt_count")
        if at is None and (hot := self.image.symbol("pcpu_hot")) is not None:
            member = self.types.member("pcpu_hot", "preempt_count")
            at = None if member is None else hot + member.offset
        if offsets is None or at is None:
            return None
        try:
            base = self.word(offsets + cpu * self.types.word)
            raw = int.from_bytes(self.image.read(at + base & (1 << 8 * self.types.word) - 1, 4), "little")
        except FaultError:
            return None
        # PREEMPT_NEED_RESCHED is folded into it, inverted.
        return raw & 0x7FFF_FFFF

    def stack_use(self, task: Any) -> StackUse | None:
        """See `Memory.stack_use`: what was never written is still 0, or what the last user left (then more is told)."""
        low = self.number(task, "stack")
        if not low:
            return None
        try:
            data = self.image.read(low, self.thread_size)
        except FaultError:
            return None
        word = self.types.word
        own = 0 if self.types.member("task_struct", "thread_info") is not None else self.types.size("thread_info") or 0
        whole = int.from_bytes(data[own : own + 4], "little") == _STACK_END
        first = next((at for at in range(own + word, len(data), word) if any(data[at : at + word])), len(data))
        return StackUse(low, self.thread_size, len(data) - first, whole)

    # ---- for people ------------------------------------------------------------------------------------------

    def snapshot(self, *, stacks: bool = False, full: bool = True, wchan: bool = True) -> Snapshot:
        """Return every task, with what was damaged on the way.

        Tasks are looked for twice, along the lists and in the table of pids; who is found on one road only is shown,
        and said.  A kernel that runs is looked at again, a few times, until both agree: only what stays is said of it.

        :param stacks: fill `TaskRow.kernel_stack`
        :param full: fill all fields, not only those that ps(1) shows
        :param wchan: fill `TaskRow.wchan`, which needs a part of each stack
        """
        before = list(self.wounds)
        lasting: set[str] | None = None
        for _ in range(_TRIES if self.image.moving else 1):
            if lasting is not None:
                self.forget()
                self.wounds = list(before)
            with _uncollected():
                found = snapshot(self, full=full, stacks=stacks, wchan=wchan, tasks=self._found())
            wounds = [wound for wound in self.wounds if wound not in before]
            lasting = set(wounds) if lasting is None else lasting & set(wounds)
            if not lasting:
                break
        self.wounds = before + [wound for wound in wounds if wound in (lasting or ())]
        clock = self._clock()
        return replace(found, wounds=tuple(self.wounds), arch=self.image.arch, boot=clock.boot if clock else None,
                       unavailable={**found.unavailable, **({} if clock else {"at": self._no_clock()})})

    def _no_clock(self) -> str:
        if self.image.symbol("tk_core") is None:
            return ("the symbols know no tk_core (a kernel without CONFIG_KALLSYMS_ALL): name the vmlinux of its debug "
                    "package with -s")
        return "the types do not say where the timekeeper has it"

    def _found(self) -> list[Struct]:
        """Return every task, of both roads; wound what one of them does not know."""
        found = {task.address: task for task in listed(self)}
        numbered = {task.address: task for task in self.numbered()}
        if not numbered:
            return list(found.values())
        for address, task in found.items():
            # EXIT_DEAD: release_task() takes it from both.  Idle tasks have no number.
            if address not in numbered and self.number(task, "pid") and \
                    not (self.number(task, "exit_state") or 0) & 0x10:
                self._wound(f"{self._who(task)} is on the lists from init_task, and not in the table of pids")
        for address, task in numbered.items():
            if address not in found:
                self._wound(f"{self._who(task)} is in the table of pids, and not on the lists from init_task")
        return list((found | numbered).values())

    def _who(self, task: Struct) -> str:
        return f"task {self.number(task, 'pid')} at {task.address:#x}"

    def forget(self) -> None:
        """Look at everything anew from now on."""
        super().forget()
        self._stacks.clear()
        self.__dict__.pop("_owners", None)
        self.image.forget()

    def tasks(self) -> Iterator[Struct]:
        """Yield every task: idle ones, each group leader with its threads, and those that only have a pid."""
        seen = set()
        for task in listed(self):
            seen.add(task.address)
            yield task
        yield from (task for task in self.numbered() if task.address not in seen)
