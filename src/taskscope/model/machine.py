"""The machine: virtual CPUs, one clock, one event queue, interrupts.

What is a global variable in C is a slot of the machine, too (`taskscope.model.globals`); a per-cpu variable is one of
its `Cpu`.  `cur` is the machine that runs; kernel code reads it at call time (``machine.cur.init_task``) and never
keeps it.

The rules of time.  ``now`` is one clock for all CPUs and never goes back.  Kernel code between two places where
its CPU *parks* is one step: no other CPU runs inside it, and the time it costs (`cost`) moves the clock.  A CPU parks
in `run_for` (a program computes, the kernel waits for hardware) and when it idles; then the hub fires the next event of
the queue.  An interrupt is delivered to a parked CPU on the stack of the task it interrupts.

The rules of stacks.  Each task's kernel stack is a greenlet whose parent is the hub.  The hub alone starts one, so that
no stack inherits the depth of another; afterwards stacks switch to each other directly (`switch_stack`).
"""

from __future__ import annotations

import gc
import heapq
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from greenlet import getcurrent, greenlet

from taskscope.errors import ScheduleError
from taskscope.model import schedule as schedule_
from taskscope.model.flavours import Flavour, Preempt
from taskscope.model.globals import Globals
from taskscope.model.include.linux.tracepoint import Tracepoints

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task
    from taskscope.model.kernel.sched.sched import Rq

#: objects made between two looks of the garbage collector while a machine runs; Python's own number is 700
_GC_THRESHOLD: Final = 20_000
#: the machine that runs now; None before a boot and outside of a run.  Assigned, never deleted: the interpreter's
#: inline caches for ``machine.cur`` hold as long as this module's names do not change.
cur: Machine = None  # type: ignore[assignment]


class Event:
    """Something that the hub does when its time has come: ``fire(arg)``, or let the parked ``cpu`` go on.

    The queue's entries are (time, number, event); the event holds the number of the entry that is good, 0 if none is.
    So one event can be queued again without being made anew, and entries of before are passed over.
    """

    __slots__ = ("arg", "cpu", "fire", "seq")

    def __init__(self, fire: Callable[[Any], None] | None, arg: Any, cpu: Cpu | None = None) -> None:
        self.seq = 0
        self.fire = fire
        self.arg = arg
        self.cpu = cpu


class Cpu:
    """One virtual CPU.

    ``preempt_count`` is that of the context that runs: x86 keeps it per cpu; elsewhere it is the running task's
    thread_info.preempt_count, kept here while it runs.  A task that is switched away from always has the same count
    (schedule() disabled preemption and holds rq.lock), so that nothing needs to be stored.
    """

    __slots__ = (
        "cpu_stopper", "curr", "hrtimer_bases", "id", "idle", "irq_regs_user", "irqs_off", "ksoftirqd", "llc_id",
        "machine", "pcpu", "pending", "preempt_count", "prev", "rcu_data", "resched_by_ipi", "rq", "softirq_pending",
        "sp", "tick_cpu_sched", "timer_base",
        "user_mode", "wake",
    )

    def __init__(self, machine: Machine, id: int) -> None:
        self.machine = machine
        self.id = id
        # hardware and what the kernel reads as if it were
        self.curr: Task = None  # type: ignore[assignment]  # set by sched_init()
        self.idle: Task = None  # type: ignore[assignment]
        self.prev: Task | None = None           # whom the last switch left, for finish_task_switch()
        self.preempt_count = 0
        self.irqs_off = True                    # as after reset; start_kernel() turns them on
        self.user_mode = False                  # what an interrupt would find in the saved registers
        self.sp = 0                             # kernel stack pointer, where it was last sampled
        self.pending: deque[Any] = deque()      # interrupts raised and not yet taken
        self.wake = Event(None, None, self)     # lets it go on when it has parked for a time
        self.llc_id = 0                         # CPUs with equal numbers share a last level cache
        # per-cpu variables; each set by its owner's init function
        self.rq: Rq = None  # type: ignore[assignment]  # runqueues
        self.softirq_pending = 0                # irq_stat.__softirq_pending
        self.irq_regs_user = False              # user_mode(get_irq_regs()): where the last interrupt came
        self.resched_by_ipi: Task | None = None # whom another CPU has marked; x86's preempt_count does not say so yet
        self.ksoftirqd: Task | None = None
        self.hrtimer_bases: Any = None          # struct hrtimer_cpu_base
        self.timer_base: Any = None             # struct timer_base
        self.tick_cpu_sched: Any = None         # struct tick_sched
        self.rcu_data: Any = None               # struct rcu_data
        self.cpu_stopper: Any = None            # struct cpu_stopper
        self.pcpu: dict[str, Any] = {}          # rarely used per-cpu variables by name


class Machine(Globals):
    """One machine and its kernel; `taskscope.boot` makes one that has booted."""

    #: what every switch and system call reads has slots, as they are read faster; all else is in the dict
    __slots__ = (
        "__dict__", "__weakref__", "_events", "_limit", "_seq", "_stop", "chooses", "cpu", "kernel_preempt", "now",
        "switch_to", "sys_call_table", "tif_need_resched", "tif_sigpending", "tif_syscall_work", "tp", "work_mask",
    )

    # ---- hardware ----
    now: int                                    # ns since power-on
    cpus: list[Cpu]
    cpu: Cpu                                    # the one that executes

    def __init__(
        self, flavour: Flavour, cpus: int, hz: int, seed: int, mem: int, command_line: str = "",
        schedule: schedule_.Schedule | None = None,
    ) -> None:
        self.flavour = flavour
        self.boot_command_line = command_line
        self.hz = hz
        self.seed = seed
        self.mem = mem                          # bytes of RAM
        self.now = 0
        self.cpus = [Cpu(self, n) for n in range(cpus)]
        self.cpu = self.cpus[0]
        self.nr_cpus = cpus
        self.tif = flavour.tif
        # Hot: the bits that every switch and every way out of the kernel looks at.
        self.tif_need_resched = self.tif.NEED_RESCHED
        self.tif_sigpending = self.tif.SIGPENDING
        self.syscall_work_bits = flavour.syscall_work_bits
        self.tif_syscall_work = self.syscall_work_bits.mask
        self.tp = Tracepoints(self)
        self.log_buf = None
        self.kallsyms = None
        #: the preemption model, and whether it is that of CONFIG_PREEMPT; see sched_dynamic_update()
        self.preempt: Preempt = flavour.preempt
        self.kernel_preempt = flavour.preempt == "full"
        self.force_irqthreads = False                           # threadirqs
        #: tasks that have called migrate_disable(), with kernel/sched/core/affinity.py's Pinned
        self.migration_disabled: dict[Task, Any] = {}
        self.tick_nsec = 1_000_000_000 // hz
        self.jiffies = 0
        self.closed = False
        #: decides what is open; None: the usual way everywhere
        self.schedule = schedule_.Random(seed) if schedule is None and seed else schedule
        #: whether anybody is to be asked: since sched_init_smp(), as before there is one way only
        self.chooses = False
        self._events: list[tuple[int, int, Event]] = []
        self._seq = 0
        self._cancelled = 0
        self._limit: int | None = None
        self._stop = False
        self._start: greenlet | None = None
        self._error: BaseException | None = None
        self._caller: greenlet | None = None
        self._paused: greenlet | None = None
        self._stacks: set[greenlet] = set()
        self.hub = greenlet(self._hub)
        #: how an interrupt enters the kernel; set by the architecture's set-up
        self.do_irq: Callable[[Any], None] = _no_irq
        #: kernel/sched/core.py's, for include/linux: set by sched_init()
        self.preempt_schedule: Callable[[], None] = _no_preemption
        #: switch_to(prev, next) of the architecture; returns on prev's stack when prev runs again
        self.switch_to: Callable[[Task, Task], None] = _switch_to

    # ---- chance --------------------------------------------------------------------------------------

    def choose(self, n: int, what: str, who: schedule_.Who = ()) -> int:
        """Choose one of `n` things that are equally right; 0 is the usual one.

        All chance of a machine goes through here.  Without a schedule it is always the usual one.

        :param what: names the decision: one of `schedule.KINDS`
        :param who: the tasks that the options let go on, where they do; None for hardware
        """
        schedule = self.schedule
        if schedule is None:
            return 0
        try:
            return schedule.choose(n, what, who)
        except ScheduleError as error:
            if self._caller is None:
                raise
            # Neither the kernel nor a program may take it for an exception of theirs: the run ends here.
            self._error = error
            self.pause()
            raise

    def interrupt_here(self, what: str = "") -> None:
        """Let an interrupt come in the middle of kernel code, perhaps: where preemption becomes possible.

        :param what: the kind of choice, `schedule.KERNEL_IRQ` by default
        """
        cpu = self.cpu
        if not self.chooses or cpu.preempt_count or cpu.irqs_off or self._caller is None or getcurrent() is self.hub:
            return
        what = what or schedule_.KERNEL_IRQ
        delays = schedule_.EXITS if what == schedule_.EXIT else schedule_.KERNEL_IRQS
        option = self.choose(len(delays), what, (self.cpu.curr,))
        if option:
            self.run_for(delays[option])

    # ---- the event queue -----------------------------------------------------------------------------

    def at(self, time: int, fire: Callable[[Any], None], arg: Any = None) -> Event:
        """Let the hub call ``fire(arg)`` at `time` (ns; one that is past fires at the next parking)."""
        event = Event(fire, arg)
        event.seq = self._seq = seq = self._seq + 1
        heapq.heappush(self._events, (time, seq, event))
        return event

    def cancel(self, event: Event) -> None:
        """Take an event back; one that has fired is left alone."""
        if event.seq:
            event.seq = 0
            self._cancelled = cancelled = self._cancelled + 1
            events = self._events
            if cancelled > 64 and cancelled * 2 > len(events):
                events[:] = [entry for entry in events if entry[2].seq == entry[1]]
                heapq.heapify(events)
                self._cancelled = 0

    def next_due(self) -> int | None:
        """Return when the next event fires, None if there is none."""
        events = self._events
        while events:
            time, seq, event = events[0]
            if event.seq == seq:
                return time
            heapq.heappop(events)
            self._cancelled -= 1
        return None

    def cost(self, ns: int) -> None:
        """Let kernel code take time."""
        self.now += ns

    # ---- CPUs ----------------------------------------------------------------------------------------

    def raise_irq(self, cpu: Cpu, irq: Any) -> None:
        """Raise an interrupt on a CPU now; called by events (devices, timers) and, with a delay, for IPIs."""
        cpu.pending.append(irq)
        if not cpu.irqs_off and self._caller is not None and getcurrent() is self.hub:
            self._resume(cpu)

    def send_ipi(self, cpu: Cpu, irq: Any, latency: int = 1000) -> None:
        """Send an interrupt to another CPU; it arrives `latency` ns later."""
        if self.chooses:
            latency += schedule_.IPIS[self.choose(len(schedule_.IPIS), schedule_.IPI)]
        self.at(self.now + latency, _deliver, (cpu, irq))

    def run_for(self, ns: int, frames: list[Any] | None = None) -> int:
        """Keep the executing CPU busy for `ns` with what its current task does; interrupts come in between.

        On return the task may be on another CPU, as a preemption on the way out of an interrupt lets others run.

        :param frames: of a program: return as soon as it has a signal handler to run
        :return: how many ns are left, 0 unless a handler is to run
        """
        left = ns
        events = self._events
        while True:
            start = self.now
            # An entry that is stale only costs a look at the queue.
            if not events or events[0][0] > start + left:
                self.now = start + left
                return 0
            cpu = self.cpu
            wake = cpu.wake
            wake.seq = self._seq = seq = self._seq + 1
            heapq.heappush(events, (start + left, seq, wake))
            self._park()
            left -= self.now - start
            if wake.seq:
                self.cancel(wake)
            if cpu.pending and not cpu.irqs_off:
                self.take_irqs()
            if left <= 0:
                return 0
            if frames:
                return left

    def _park(self) -> None:
        """Leave the executing CPU to itself until its ``wake`` event or an interrupt lets it go on.

        If the next thing to happen is that another CPU goes on, that is done here: the hub would do the same.
        """
        events = self._events
        limit = self._limit
        while not self._stop and not self.chooses:
            time, seq, event = events[0]
            if event.seq != seq:
                heapq.heappop(events)
                self._cancelled -= 1
                continue
            cpu = event.cpu
            if cpu is None or (limit is not None and time > limit):
                break
            heapq.heappop(events)
            event.seq = 0
            if time > self.now:
                self.now = time
            if cpu is not self.cpu:
                self.cpu = cpu
                cpu.curr.stack_greenlet.switch()  # type: ignore[union-attr]
            return
        self.hub.switch()

    def idle_wait(self) -> None:
        """Let the executing CPU wait for an interrupt with interrupts enabled, and take it (wfi; sti; hlt)."""
        cpu = self.cpu
        cpu.irqs_off = False
        while not cpu.pending:
            self.hub.switch()
        self.take_irqs()

    def take_irqs(self) -> None:
        """Take the interrupts that are pending on the executing CPU.

        Context: interrupts on.  May schedule: the caller can be on another CPU afterwards.
        """
        cpu = self.cpu
        while cpu.pending and not cpu.irqs_off:
            # What the hardware does: save where it was, and mask interrupts; undone on the CPU that it returns on.
            user = cpu.user_mode
            cpu.irq_regs_user = user
            cpu.user_mode = False
            cpu.irqs_off = True
            self.do_irq(cpu.pending.popleft())
            cpu = self.cpu
            cpu.user_mode = user
            cpu.irqs_off = False

    def catch_up(self) -> None:
        """Let everything happen that is due by now: kernel code that took long has held it up.

        Called on the way to user space, where every schedule that differs in timing only is possible: a schedule can
        keep the CPU from the program for a while here, as a host that runs something else or an interrupt would.
        Context: interrupts on, no spinlock held.
        """
        events = self._events
        cpu = self.cpu
        if events and events[0][0] <= self.now:
            time, seq, event = events[0]
            other = event.cpu
            limit = self._limit
            plain = other is not None and other is not cpu and event.seq == seq and not self.chooses
            if not plain or self._stop or (limit is not None and time > limit):
                self.run_for(0)
            else:
                # What is due is that another CPU goes on: it does, and this one after it (run_for() in short).
                wake = cpu.wake
                wake.seq = self._seq = seq = self._seq + 1
                heapq.heapreplace(events, (self.now, seq, wake))
                event.seq = 0
                assert other is not None
                self.cpu = other
                other.curr.stack_greenlet.switch()  # type: ignore[union-attr]
                if wake.seq:
                    self.cancel(wake)
            cpu = self.cpu
        if cpu.pending and not cpu.irqs_off:
            self.take_irqs()
        if self.chooses:
            option = self.choose(len(schedule_.DELAYS), schedule_.DELAY, (self.cpu.curr,))
            if option:
                self.run_for(schedule_.DELAYS[option])

    def _resume(self, cpu: Cpu) -> None:
        """Let a parked CPU go on; returns when it parks again."""
        self.cpu = cpu
        stack: greenlet | None = cpu.curr.stack_greenlet
        while stack is not None:
            stack.switch()
            stack, self._start = self._start, None

    def start_cpu(self, cpu: Cpu) -> None:
        """Let a CPU begin to execute the stack of its current task, as after a reset; some 10 us later."""
        self.at(self.now + 10_000, self._resume, cpu)

    # ---- stacks --------------------------------------------------------------------------------------

    def new_stack(self, run: Callable[[], Any]) -> greenlet:
        """Make a kernel stack on which `run` is called when it is first switched to; it must never return."""
        stack = greenlet(run, self.hub)
        self._stacks.add(stack)
        return stack

    def switch_stack(self, stack: greenlet) -> None:
        """Go on with another kernel stack on this CPU; returns when somebody switches back."""
        if stack:                               # it has run before and has not ended
            stack.switch()
        else:
            self._start = stack
            self.hub.switch()

    def drop_stack(self, stack: greenlet) -> None:
        """Drop the kernel stack of a task that never runs again: what is on it is unwound here and now."""
        self._stacks.discard(stack)
        if stack:
            stack.parent = getcurrent()
            stack.throw()

    def close(self) -> None:
        """Unwind all kernel stacks and forget everything; the machine can not run afterwards."""
        global cur
        from taskscope.model.kernel.trace import ftrace

        if self.closed:
            return
        assert self._caller is None, "a machine is closed from outside, not by what runs on it"
        self.closed = True
        ftrace.ftrace_release(self)
        before, cur = cur, self
        try:
            while self._stacks:
                self.drop_stack(self._stacks.pop())
        finally:
            cur = before
        self._events.clear()
        keep = {"closed", "flavour", "hz", "now", "seed"}
        if self.hub:
            self.hub.parent = getcurrent()
            self.hub.throw()
        for name in [*vars(self), *self.__slots__[2:]]:
            if name not in keep and hasattr(self, name):
                delattr(self, name)

    # ---- the hub -------------------------------------------------------------------------------------

    def _hub(self) -> None:
        while True:
            try:
                self._fire()
            except Exception as error:          # handed to whoever runs the machine
                self._error = error
            assert self._caller is not None
            self._caller.switch()

    def _fire(self) -> None:
        events = self._events
        pop = heapq.heappop
        while events and not self._stop:
            time, seq, event = events[0]
            if event.seq != seq:
                pop(events)
                self._cancelled -= 1
                continue
            if self._limit is not None and time > self._limit:
                break
            if self.chooses:
                time, event = self._choose_due(time)
            else:
                pop(events)
            event.seq = 0
            if time > self.now:
                self.now = time
            if event.fire is not None:
                event.fire(event.arg)
            elif event.cpu is not None:
                self._resume(event.cpu)
        if not self._stop and self._limit is not None and self._limit > self.now:
            self.now = self._limit

    def _choose_due(self, first: int) -> tuple[int, Event]:
        """Take one of the events that are due off the queue: what kernel code of one CPU held up is open to order.

        :param first: when the first is due (ns)
        """
        events = self._events
        pop = heapq.heappop
        limit = max(first, self.now)
        if self._limit is not None:
            limit = min(limit, max(first, self._limit))
        # What has waited for long enough is not passed over any more.
        patient = first + schedule_.PATIENCE > self.now
        due = [pop(events)]
        while patient and events and events[0][0] <= limit:
            entry = pop(events)
            if entry[2].seq == entry[1]:
                due.append(entry)
            else:
                self._cancelled -= 1
        chosen = 0
        if len(due) > 1:
            chosen = self.choose(len(due), schedule_.NEXT_EVENT, [e.cpu.curr if e.cpu else None for _, _, e in due])
        time, _, event = due.pop(chosen)
        for entry in due:
            heapq.heappush(events, entry)
        return time, event

    def run_until(self, time: int | None) -> None:
        """Run until the clock shows `time`, `stop` is called, or (None) nothing is left to happen.

        :raises Exception: what kernel code raised: a bug of the model, never of the program it runs
        """
        global cur
        assert not self.closed, "the machine is closed"
        before, cur = cur, self
        self._limit = time
        self._stop = False
        # A step that runs past the limit parks on this event instead.
        fence = None if time is None else self.at(time, _nothing)
        self._caller = getcurrent()
        paused, self._paused = self._paused, None
        # Tasks are many small objects that live long: the collector looks at the youngest less often meanwhile.
        thresholds = gc.get_threshold()
        if 0 < thresholds[0] < _GC_THRESHOLD:
            gc.set_threshold(_GC_THRESHOLD, *thresholds[1:])
        try:
            (paused or self.hub).switch()
        finally:
            gc.set_threshold(*thresholds)
            self._caller = None
            if fence is not None:
                self.cancel(fence)
            cur = before
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    @property
    def running(self) -> bool:
        """Whether it runs now, rather than being looked at from outside."""
        return self._caller is not None

    def pause(self) -> None:
        """Return from `run_until` here and now, in the middle of what the CPU does; the next run goes on from here."""
        assert self._caller is not None, "nothing runs that could be paused"
        self._paused = getcurrent()
        self._caller.switch()

    def stop(self) -> None:
        """Return from `run_until` when the executing CPU parks, after this event."""
        self._stop = True


def _no_irq(irq: Any) -> None:
    raise AssertionError(f"{irq}: interrupts are not set up")


def _no_preemption() -> None:
    raise AssertionError("preemption before sched_init()")


def _switch_to(prev: Task, next: Task) -> None:
    """Switch stacks and nothing else: what an architecture's switch_to() is built on."""
    del prev
    m = cur
    m.cpu.curr = next
    stack = next.stack_greenlet
    assert stack is not None, "the next task has a stack"
    if stack:
        stack.switch()
    else:
        m._start = stack
        m.hub.switch()


def _nothing(arg: Any) -> None:
    del arg


def _deliver(arg: tuple[Cpu, Any]) -> None:
    cpu, irq = arg
    cpu.machine.raise_irq(cpu, irq)
