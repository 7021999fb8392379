"""What always holds on the executable kernel, checked from outside while it runs.

`Watch` looks at every task switch through the tracepoint (a task that runs is on one CPU and alive; what the kernel
charges it is what it ran), and at any other moment at everything: lists, who is whose child, pids, runqueues, reference
counts.  `counts` is what must be again as before when all that ran is gone.  What does not hold raises AssertionError
with the fact that is broken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead
from taskscope.model.include.linux.sched import EXIT_DEAD, EXIT_ZOMBIE, TASK_DEAD, TASK_RUNNING, Task
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register, tracepoint_probe_unregister

# As include/linux/pid.h numbers them.
PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID = range(4)
#: nodes of a list at most: a longer one is a circle that leaves out its head
LONGEST = 1_000_000


def walk(head: ListHead, name: str) -> Iterator[Any]:
    """Yield the owners of a list's nodes; its pointers must fit on the way."""
    node = head.next
    assert node.prev is head, f"{name}: next.prev is not the head"
    for _ in range(LONGEST):
        if node is head:
            return
        assert node.next.prev is node, f"{name}: {node.owner}: next.prev is another"
        yield node.owner
        node = node.next
    raise AssertionError(f"{name}: the list does not come back to its head")


class Watch:
    """The watch over one machine."""

    def __init__(self, m: machine.Machine) -> None:
        self.m = m
        self.checks = 0
        self.switches = 0
        #: CPU time by our own account, from the runqueues' clocks: task -> ns
        self.ran: dict[Task, int] = {}
        self.since: list[int] = []
        self.idle = 0
        #: what the watch has seen pass on all CPUs
        self.passed = 0
        for cpu in m.cpus:
            curr = cpu.rq.curr
            self.since.append(cpu.rq.clock if curr is cpu.rq.idle else curr.se.exec_start)
        for task in self.tasks():
            self.ran[task] = task.se.sum_exec_runtime
        self.before = sum(self.ran.values())
        tracepoint_probe_register(m.tp, "sched_switch", _on_switch, self)
        tracepoint_probe_register(m.tp, "task_newtask", _on_newtask, self)

    def close(self) -> None:
        """Take the probes off."""
        tracepoint_probe_unregister(self.m.tp, "sched_switch", _on_switch, self)
        tracepoint_probe_unregister(self.m.tp, "task_newtask", _on_newtask, self)

    def tasks(self) -> list[Task]:
        """Return all tasks but the idle ones."""
        found: list[Task] = []
        for leader in walk(self.m.init_task.tasks, "init_task.tasks"):
            found += walk(leader.signal.thread_head, f"{leader}.signal.thread_head")
        return found

    # ---- everything ------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check everything that holds between two steps of the machine."""
        self.checks += 1
        tasks = self.tasks()
        assert len(set(tasks)) == len(tasks), "a task is on the list twice"
        for p in tasks:
            self.check_family(p)
            self.check_tracing(p)
            self.check_pids(p)
        self.check_references(tasks)
        self.check_futexes(tasks)
        self.check_runqueues(tasks)
        m = self.m
        assert m.nr_threads == len(tasks), f"nr_threads is {m.nr_threads}, there are {len(tasks)} tasks"
        # What all tasks that ever were are charged, and idling, is what passed on the CPUs.
        charged = sum(p.se.sum_exec_runtime for p in self.ran if not p.on_cpu)
        running = sum(ran for p, ran in self.ran.items() if p.on_cpu)
        assert charged + running - self.before + self.idle == self.passed, "run times are not the CPUs' time"
        cpu = m.cpu
        if cpu.user_mode:
            assert cpu.preempt_count == 0, f"preempt_count is {cpu.preempt_count:#x} in user mode"

    def check_family(self, p: Task) -> None:
        """Check parents, children and threads."""
        leader = p.group_leader
        assert leader.signal is p.signal, f"{p}: its leader is of another process"
        for child in walk(p.children, f"{p}.children"):
            assert child.real_parent is p, f"{child}: on the children of {p}, real_parent is {child.real_parent}"
            assert child.group_leader is child, f"{child}: a child that is a thread"
            assert child.exit_state != EXIT_ZOMBIE or not p.exit_state, f"{child}: a zombie whose parent {p} is dead"
        if p is leader:
            parent = p.real_parent
            assert any(node is p for node in walk(parent.children, f"{parent}.children")), (
                f"{p}: not on the children of its parent {parent}")
            assert p.exit_state != EXIT_ZOMBIE or not parent.exit_state, f"{p}: a zombie, its parent {parent} is dead"
        assert p.exit_state in (0, EXIT_ZOMBIE, EXIT_DEAD), f"{p}: exit_state {p.exit_state:#x}"
        # Between exit_notify() and its last schedule() a task can still be preempted.
        if p.exit_state and not p.on_cpu and not p.on_rq:
            assert p.state == TASK_DEAD, f"{p}: exited and off its CPU in state {p.state:#x}"

    def check_tracing(self, p: Task) -> None:
        """Check tracer and traced."""
        for one in walk(p.ptraced, f"{p}.ptraced"):
            assert one.ptrace, f"{one}: on the list of {p}, which does not trace it"
            assert one.parent is p, f"{one}: traced by {p}, its parent is {one.parent}"
        if p.ptrace:
            assert p.ptracer_cred is not None, f"{p}: traced with no credentials"
            assert any(one is p for one in walk(p.parent.ptraced, f"{p.parent}.ptraced")), (
                f"{p}: not on the list of its tracer {p.parent}")
            assert not p.parent.exit_state, f"{p}: its tracer {p.parent} is dead"
        else:
            assert p.parent is p.real_parent, f"{p}: not traced, parent {p.parent}, real_parent {p.real_parent}"
            assert p.ptracer_cred is None, f"{p}: not traced, and has a tracer's credentials"

    def check_pids(self, p: Task) -> None:
        """Check that the task is found by its number, in its group and in its session."""
        pid = p.thread_pid
        assert pid is not None, f"{p}: no pid"
        assert pid.nr == p.pid, f"{p}: its struct pid has {pid.nr}"
        for upid in pid.numbers:
            assert upid.ns.idr.get(upid.nr) is pid, f"{p}: its {upid.nr} of level {upid.ns.level} leads elsewhere"
        assert p in list(walk(pid.tasks[PIDTYPE_PID], f"pid {p.pid}")), f"{p}: not attached to its pid"
        if p is p.group_leader:
            for kind, name in ((PIDTYPE_TGID, "process"), (PIDTYPE_PGID, "process group"), (PIDTYPE_SID, "session")):
                group = p.signal.pids[kind]
                assert p in list(walk(group.tasks[kind], f"{name} {group.nr}")), f"{p}: not in its {name} {group.nr}"
                free = group.nr and self.m.init_pid_ns.idr.get(group.nr) is not group
                assert not free, f"{p}: its {name}'s number {group.nr} is free"

    def check_references(self, tasks: list[Task]) -> None:
        """Check that what tasks share has a reference from each, and no other."""
        shared: Counter[Any] = Counter()
        for p in tasks:
            assert p.usage >= 1, f"{p}: {p.usage} references to a task that lives"
            if p.sighand is not None:
                shared[p.sighand] += 1
            shared[p.signal] += 1
        for sighand, count in shared.items():
            if hasattr(sighand, "siglock"):
                assert sighand.count == count, f"a sighand_struct of {count} tasks has {sighand.count} references"
            else:
                assert sighand.nr_threads == count, f"a process of {count} threads counts {sighand.nr_threads}"
                assert sighand.sigcnt >= count, f"a process of {count} threads has {sighand.sigcnt} references"

    def check_futexes(self, tasks: list[Task]) -> None:
        """Check that who stands in a bucket of futexes lives, stands there once, and in order of priority."""
        seen: set[Task] = set()
        for hb in self.m.futex_queues.values():
            assert [q.prio for q in hb.chain] == sorted(q.prio for q in hb.chain), "a bucket of futexes is out of order"
            for q in hb.chain:
                assert q.hb is hb, f"{q.task}: sleeps in another bucket than it stands in"
                assert q.task in tasks, f"{q.task}: sleeps on a futex and is no more"
                assert q.task not in seen, f"{q.task}: sleeps on two futexes"
                seen.add(q.task)

    def check_runqueues(self, tasks: list[Task]) -> None:
        """Check who waits and who runs where."""
        where: dict[Task, int] = {}
        for cpu in self.m.cpus:
            rq = cpu.rq
            assert rq.lock.owner is None, f"rq.lock of cpu {cpu.id} is held between steps"
            queued = [se.task for se in rq.cfs.timeline[rq.cfs.first :]]
            for queue in rq.rt.queue:
                if queue is not None:
                    queued += walk(queue, f"rt queue of cpu {cpu.id}")
            if rq.stop is not None and rq.stop.on_rq:
                queued.append(rq.stop)
            if rq.curr is not rq.idle and rq.curr.on_rq and rq.curr not in queued:
                queued.append(rq.curr)
            assert rq.nr_running == len(queued), f"cpu {cpu.id}: nr_running {rq.nr_running}, queued {queued}"
            for p in queued:
                assert p not in where, f"{p}: on the runqueues of cpu {where[p]} and of cpu {cpu.id}"
                assert p.on_rq, f"{p}: queued on cpu {cpu.id} with on_rq 0"
                assert p.thread_info.cpu == cpu.id, f"{p}: queued on cpu {cpu.id}, task_cpu is {p.thread_info.cpu}"
                assert p.state != TASK_DEAD or p is rq.curr, f"{p}: dead and runnable"
                where[p] = cpu.id
            assert cpu.curr is rq.curr, f"cpu {cpu.id}: runs {cpu.curr}, its runqueue says {rq.curr}"
        running = {cpu.curr for cpu in self.m.cpus}
        for p in tasks:
            assert bool(p.on_cpu) == (p in running), f"{p}: on_cpu {p.on_cpu}, running are {running}"
            assert not p.on_rq or p in where, f"{p}: on_rq {p.on_rq}, but on no runqueue"

    def counts(self) -> dict[str, int]:
        """Return how many there are of what is allocated: equal before and after what left nothing."""
        m = self.m
        found = {cache.name: cache.active for cache in m.slab_caches}
        # A kernel thread goes on in the address space of who ran before it, even if that is dead: lazy TLB.
        borrowed = {cpu.curr.active_mm for cpu in m.cpus if cpu.curr.mm is None}
        found["mm_struct"] -= sum(mm is not None and mm.mm_users == 0 for mm in borrowed)
        found["pid numbers"] = len(m.init_pid_ns.idr)
        found["threads"] = m.nr_threads
        found["kernel stacks of the machine"] = len(vars(m)["_stacks"])
        return found


def _on_newtask(watch: Watch, p: Task, clone_flags: int) -> None:
    del clone_flags
    assert p not in watch.ran, f"{p}: made twice"
    watch.ran[p] = 0


def _on_switch(watch: Watch, preempt: bool, prev: Task, next: Task) -> None:
    m = watch.m
    cpu = m.cpu
    rq = cpu.rq
    watch.switches += 1
    assert rq.lock.owner is cpu, "a switch without rq.lock"
    assert cpu.irqs_off, "a switch with interrupts on"
    assert cpu.curr is prev, f"cpu {cpu.id}: switches from {prev}, runs {cpu.curr}"
    assert prev is not next, f"{prev}: switches to itself"
    for other in m.cpus:
        assert other is cpu or other.curr is not next, f"{next}: chosen by cpu {cpu.id}, runs on cpu {other.id}"
    # Who was preempted on its way to sleep or to death is still queued, and goes on with that.
    assert next is rq.idle or next.on_rq, f"{next}: chosen, and not on the runqueue"
    assert next.state != TASK_DEAD, f"{next}: dead and chosen"
    assert not preempt or prev.state == TASK_RUNNING or prev.on_rq, f"{prev}: preempted on the way to sleep, and off"
    now = rq.clock
    ran, watch.since[cpu.id] = now - watch.since[cpu.id], now
    assert ran >= 0, f"cpu {cpu.id}: the runqueue's clock went back"
    watch.passed += ran
    if prev is rq.idle:
        watch.idle += ran
    else:
        mine = watch.ran[prev] = watch.ran[prev] + ran
        charged = prev.se.sum_exec_runtime
        assert charged == mine, f"{prev}: charged {charged} ns, ran {mine} ns"
