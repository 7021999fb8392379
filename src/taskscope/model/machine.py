"""The machine: virtual CPUs, one clock, one event queue, interrupts - and the kernel's globals.

What is a global or per-cpu variable in C is a slot here, grouped by the lock that guards it.  `cur` is the machine
that runs; kernel code reads it at call time (``machine.cur.init_task``) and never keeps it.

The rules of time.  ``now`` is one clock for all CPUs and never goes back.  Kernel code between two places where
its CPU *parks* is one step: no other CPU runs inside it, and the time it costs (`cost`) moves the clock.  A CPU parks in
`run_for` (a program computes, the kernel waits for hardware) and when it idles; then the hub fires the next event of
the queue.  An interrupt is delivered to a parked CPU on the stack of the task it interrupts.

The rules of stacks.  Each task's kernel stack is a greenlet whose parent is the hub.  The hub alone starts one, so that no
stack inherits the depth of another; afterwards stacks switch to each other directly (`switch_to`).
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from taskscope.model.flavours import Flavour

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task

#: the machine that runs now; there is none before a boot and outside of a run
cur: Machine


class Event:
    """An entry of the event queue: ``fire(arg)`` is called by the hub when ``time`` has come."""

    __slots__ = ("arg", "fire", "seq", "time")

    def __init__(self, time: int, seq: int, fire: Callable[[Any], None] | None, arg: Any) -> None:
        self.time = time
        self.seq = seq
        self.fire = fire
        self.arg = arg

    def __lt__(self, other: Event) -> bool:
        return self.time < other.time or (self.time == other.time and self.seq < other.seq)


class Cpu:
    """One virtual CPU.

    ``preempt_count`` is that of the context that runs: x86 keeps it per cpu; elsewhere it is the running task's
    thread_info.preempt_count, kept here while it runs and stored there by `switch_to`.
    """

    __slots__ = (
        "curr", "idle", "id", "irqs_off", "machine", "pending", "pcpu", "preempt_count", "prev", "rq", "softirq_pending",
        "sp", "user_mode",
    )

    def __init__(self, machine: Machine, id: int) -> None:  # noqa: A002
        self.machine = machine
        self.id = id
        self.curr: Task = None  # type: ignore[assignment]  # set by sched_init()
        self.idle: Task = None  # type: ignore[assignment]
        self.prev: Task | None = None           # whom the last switch left, for finish_task_switch()
        self.rq: Any = None                     # struct rq
        self.preempt_count = 0
        self.irqs_off = True                    # as after reset; start_kernel() turns them on
        self.user_mode = False                  # what an interrupt would find in the saved registers
        self.softirq_pending = 0
        self.sp = 0                             # kernel stack pointer, where it was last sampled
        self.pending: deque[Any] = deque()      # interrupts raised and not yet taken
        self.pcpu: dict[str, Any] = {}          # rarely used per-cpu variables by name


class Machine:
    """One machine and its kernel; `taskscope.boot` makes one that has booted."""

    # ---- hardware ----
    now: int                                    # ns since power-on
    cpus: list[Cpu]
    cpu: Cpu                                    # the one that executes

    def __init__(self, flavour: Flavour, cpus: int, hz: int, seed: int, mem: int) -> None:
        self.flavour = flavour
        self.hz = hz
        self.seed = seed
        self.mem = mem                          # bytes of RAM
        self.now = 0
        self.cpus = [Cpu(self, n) for n in range(cpus)]
        self.cpu = self.cpus[0]
        self.tif = flavour.tif
        self.closed = False
        self.random = random.Random(seed)
        self._events: list[Event] = []
        self._seq = 0
        self._limit: int | None = None
        self._stop = False
        self._start: greenlet | None = None
        self._error: BaseException | None = None
        self._caller: greenlet | None = None
        self.hub = greenlet(self._hub)
        #: how an interrupt enters the kernel; set by the architecture's set-up
        self.do_irq: Callable[[Any], None] = _no_irq

    # ---- the event queue -----------------------------------------------------------------------------

    def at(self, time: int, fire: Callable[[Any], None], arg: Any = None) -> Event:
        """Let the hub call ``fire(arg)`` at `time` (ns; not before now)."""
        self._seq += 1
        event = Event(time, self._seq, fire, arg)
        heapq.heappush(self._events, event)
        return event

    @staticmethod
    def cancel(event: Event) -> None:
        """Take an event back; one that has fired is left alone."""
        event.fire = None

    def next_due(self) -> int | None:
        """Return when the next event fires, None if there is none."""
        events = self._events
        while events and events[0].fire is None:
            heapq.heappop(events)
        return events[0].time if events else None

    def cost(self, ns: int) -> None:
        """Let kernel code take time."""
        self.now += ns

    # ---- CPUs ----------------------------------------------------------------------------------------

    def raise_irq(self, cpu: Cpu, irq: Any) -> None:
        """Raise an interrupt on a CPU now; called by events (devices, timers) and, with a delay, for IPIs."""
        cpu.pending.append(irq)
        if self._caller is not None and greenlet.getcurrent() is self.hub and not cpu.irqs_off:
            self._resume(cpu)

    def send_ipi(self, cpu: Cpu, irq: Any, latency: int = 1000) -> None:
        """Send an interrupt to another CPU; it arrives `latency` ns later."""
        self.at(self.now + latency, _deliver, (cpu, irq))

    def run_for(self, ns: int) -> None:
        """Keep the executing CPU busy for `ns` with what its current task does; interrupts come in between.

        On return the task may be on another CPU, as a preemption on the way out of an interrupt lets others run.
        """
        left = ns
        while True:
            start = self.now
            due = self.next_due()
            if due is None or due > start + left:
                self.now = start + left
                return
            cpu = self.cpu
            event = self.at(start + left, self._resume, cpu)
            self.hub.switch()
            left -= self.now - start
            event.fire = None
            if cpu.pending and not cpu.irqs_off:
                self.take_irqs()
            if left <= 0:
                return

    def idle_wait(self) -> None:
        """Let the executing CPU wait for an interrupt, and take it."""
        cpu = self.cpu
        while not cpu.pending:
            self.hub.switch()
        self.take_irqs()

    def take_irqs(self) -> None:
        """Take the interrupts that are pending on the executing CPU.

        Context: interrupts on.  May schedule: the caller can be on another CPU afterwards.
        """
        cpu = self.cpu
        while cpu.pending and not cpu.irqs_off:
            self.do_irq(cpu.pending.popleft())
            cpu = self.cpu

    def catch_up(self) -> None:
        """Let everything happen that is due by now: kernel code that took long has held it up.

        Context: interrupts on, no spinlock held.
        """
        due = self.next_due()
        if due is not None and due <= self.now:
            self.run_for(0)

    def _resume(self, cpu: Cpu) -> None:
        """Let a parked CPU go on; returns when it parks again."""
        self.cpu = cpu
        stack: greenlet | None = cpu.curr.stack_greenlet
        while stack is not None:
            stack.switch()
            stack, self._start = self._start, None

    def switch_stack(self, stack: greenlet) -> None:
        """Go on with another kernel stack on this CPU; returns when somebody switches back."""
        if stack:                               # it has run before and has not ended
            stack.switch()
        else:
            self._start = stack
            self.hub.switch()

    # ---- the hub -------------------------------------------------------------------------------------

    def _hub(self) -> None:
        while True:
            try:
                self._fire()
            except BaseException as error:  # noqa: BLE001  handed to whoever runs the machine
                self._error = error
            assert self._caller is not None
            self._caller.switch()

    def _fire(self) -> None:
        events = self._events
        while events and not self._stop:
            event = events[0]
            if event.fire is None:
                heapq.heappop(events)
                continue
            if self._limit is not None and event.time > self._limit:
                break
            heapq.heappop(events)
            if event.time > self.now:
                self.now = event.time
            event.fire(event.arg)
        if not self._stop and self._limit is not None and self._limit > self.now:
            self.now = self._limit

    def run_until(self, time: int | None) -> None:
        """Run until the clock shows `time`, `stop` is called, or (None) nothing is left to happen.

        :raises BaseException: what kernel code raised: a bug of the model, never of the program it runs
        """
        global cur
        assert not self.closed, "the machine is closed"
        before = globals().get("cur")
        cur = self
        self._limit = time
        self._stop = False
        # A step that runs past the limit parks on this event instead.
        fence = None if time is None else self.at(time, _nothing)
        self._caller = greenlet.getcurrent()
        try:
            self.hub.switch()
        finally:
            self._caller = None
            if fence is not None:
                fence.fire = None
            if before is None:
                del globals()["cur"]
            else:
                cur = before
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def stop(self) -> None:
        """Return from `run_until` after this event."""
        self._stop = True


def _no_irq(irq: Any) -> None:
    raise AssertionError(f"{irq}: interrupts are not set up")


def _nothing(arg: Any) -> None:
    del arg


def _deliver(arg: tuple[Cpu, Any]) -> None:
    cpu, irq = arg
    cpu.machine.raise_irq(cpu, irq)
