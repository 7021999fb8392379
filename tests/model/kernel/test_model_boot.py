"""The boot: which tasks there are, who made them, in which state they wait."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bare import ALL, play, world
from taskscope.model import machine
from taskscope.model.include.linux.sched import PF_KTHREAD, TASK_IDLE, TASK_INTERRUPTIBLE
from taskscope.model.include.linux.sched_task_stack import thread_saved_sp
from taskscope.model.include.linux.thread_info import current_thread_info

# As ps shows them on a Raspberry Pi 4.19, a Debian 6.1 and a 6.18 with two CPUs; comm has 15 bytes.  The Pi's kernel is
# not preemptible and has no rcu_preempt; what a busy system adds (kworker/0:1) is left out.
FIRST = {
    "4.19-arm":
        "rcu_gp rcu_par_gp kworker/0:0 kworker/0:0H kworker/u4:0 mm_percpu_wq ksoftirqd/0 rcu_preempt rcu_sched "
        "rcu_bh migration/0 cpuhp/0 cpuhp/1 migration/1 ksoftirqd/1 kworker/1:0 kworker/1:0H kdevtmpfs netns",
    "6.1-x86_64":
        "rcu_gp rcu_par_gp slub_flushwq netns kworker/0:0 kworker/0:0H kworker/u4:0 mm_percpu_wq rcu_tasks_kthre "
        "rcu_tasks_rude_ rcu_tasks_trace ksoftirqd/0 rcu_preempt migration/0 cpuhp/0 cpuhp/1 migration/1 "
        "ksoftirqd/1 kworker/1:0 kworker/1:0H kdevtmpfs inet_frag_wq kauditd khungtaskd oom_reaper writeback "
        "kcompactd0 ksmd kintegrityd kblockd blkcg_punt_bio",
    "6.18-x86_64":
        "pool_workqueue_ kworker/R-rcu_g kworker/R-sync_ kworker/R-kvfre kworker/R-slub_ "
        "kworker/R-netns kworker/0:0 kworker/0:0H kworker/u8:0 kworker/R-mm_pe ksoftirqd/0 rcu_preempt "
        "rcu_exp_par_gp_ rcu_exp_gp_kthr migration/0 cpuhp/0 cpuhp/1 migration/1 ksoftirqd/1 kworker/1:0 "
        "kworker/1:0H kdevtmpfs kworker/R-inet_ rcu_tasks_kthre rcu_tasks_rude_ rcu_tasks_trace kauditd "
        "khungtaskd oom_reaper kworker/R-write kcompactd0 ksmd khugepaged kworker/R-kbloc",
}


def idle(sys: Any) -> None:
    return None


@pytest.mark.parametrize("flavour", ALL)
def test_boot_threads_are_those_of_the_kernel(flavour: str) -> None:
    """The kernel's own threads follow init and kthreadd in the order of the real machine, all children of kthreadd."""
    with world(flavour, cpus=2, bare=False) as one:
        one.run(idle)
        tasks = one.tasks()
        assert [(t.pid, t.comm, t.real_parent.pid) for t in tasks[:2]] == [(1, "init", 0), (2, "kthreadd", 0)]
        names = FIRST[flavour].split()
        assert [t.comm for t in tasks[2:2 + len(names)]] == names
        assert [t.pid for t in tasks] == list(range(1, len(tasks) + 1))
        assert all(t.real_parent.pid == 2 and t.flags & PF_KTHREAD and t.mm is None for t in tasks[2:])
        for t in tasks[2:]:
            waits = (
                t.comm.startswith(("kworker", "rcu_", "mm_percpu", "netns", "slub", "writeback", "k"))
                or t.state == TASK_INTERRUPTIBLE
            )
            assert t.state in (TASK_IDLE, TASK_INTERRUPTIBLE), (t, hex(t.state))
            assert waits or t.state == TASK_IDLE
        by_name = {t.comm: t for t in tasks}
        assert (by_name["migration/1"].cpus_allowed, by_name["migration/1"].sched_class.name) == (2, "stop")
        assert by_name["kworker/0:0H"].static_prio == 100
        assert [cpu.idle.pid for cpu in one.m.cpus] == [0, 0]
        assert one.m.cpu_online_mask == one.m.cpu_active_mask == 3


@pytest.mark.parametrize("flavour", ALL)
def test_a_bare_boot_has_three_tasks(flavour: str) -> None:
    """A bare machine has the idle tasks, init and kthreadd."""
    with world(flavour, cpus=2) as one:
        one.run(idle)
        assert [(t.pid, t.comm) for t in one.tasks()] == [(1, "init"), (2, "kthreadd")]


@pytest.mark.parametrize("flavour", ALL)
def test_same_seed_same_machine(flavour: str) -> None:
    """Two boots with one seed come to the same time, pids and addresses."""

    def mark() -> Any:
        with world(flavour, cpus=2, seed=7, bare=False) as one:
            one.run(idle)
            return one.m.now, [(t.pid, t.comm, t.address, t.stack, t.se.sum_exec_runtime) for t in one.tasks()]

    assert mark() == mark()


@pytest.mark.parametrize("flavour", ALL)
def test_current_is_found_as_the_hardware_finds_it(flavour: str) -> None:
    """The masked stack pointer leads to the running task's thread_info; a sleeper's saved sp lies on its stack."""
    with world(flavour, cpus=2) as one:
        seen = []

        def look() -> None:
            seen.append(current_thread_info().task is machine.cur.cpu.curr)

        def child(sys: Any) -> None:
            for _ in range(5):
                sys.nanosleep(1_000_000)
                look()

        def scenario(sys: Any) -> Any:
            pids = [sys.clone(child) for _ in range(4)]
            look()
            sys.nanosleep(1_500_000)
            stacks = []
            for pid in pids:
                task = machine.cur.init_pid_ns.idr[pid].tasks[0].next.owner
                if task is not machine.cur.cpu.curr and not task.on_cpu:
                    sp = thread_saved_sp(task)
                    stacks.append(task.stack < sp < task.stack + one.m.flavour.thread_size)
            for pid in pids:
                sys.waitpid(pid)
            return stacks

        assert one.run(scenario).count(True) >= 2
        assert seen
        assert all(seen)


def test_no_init_is_a_panic() -> None:
    """Without a program to run as pid 1 the machine panics."""
    with world() as one:
        from taskscope.model.init import main

        main.power_on(one.m, bare=True)
        one.m.init_program = None
        before, machine.cur = machine.cur, one.m
        try:
            import taskscope.model.user.programs as programs

            original = programs.install
            programs.install = lambda: None
            try:
                one.m.run_until(1_000_000_000)
            finally:
                programs.install = original
        finally:
            machine.cur = before
        assert one.m.panicked is not None
        assert one.m.panicked.startswith("No working init found.")


def test_closing_leaves_nothing() -> None:
    """A closed machine keeps no task, and its stacks are unwound."""
    with world(cpus=2, bare=False) as one:
        one.run(idle)
        stacks = [t.stack_greenlet for t in one.tasks()]
        one.close()
        assert all(not stack for stack in stacks)


def test_hung_tasks_are_reported() -> None:
    """Khungtaskd reports a task that has been in D for two of its looks."""

    def blocked(sys: Any) -> None:
        from taskscope.model.include.linux.completion import Completion
        from taskscope.model.kernel.sched import completion

        cpu = machine.cur.cpu
        cpu.user_mode = False
        completion.wait_for_completion(Completion())

    def scenario(sys: Any) -> None:
        sys.nanosleep(1000)
        sys.clone(blocked)
        sys.nanosleep(400_000_000_000)

    with world(bare=False) as one:
        one.run(scenario)
        from taskscope.model.kernel import printk

        with one.current():
            # The wheel rounds the timeout up: 512 jiffies in this distance.
            assert re.search(r"blocked for more than 12\d seconds\.", printk.dmesg())


def test_play_returns_what_the_scenario_returns() -> None:
    """The helper of these tests hands the scenario's result out."""
    assert play(lambda sys: sys.getpid()) == 1
