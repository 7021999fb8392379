"""Lab ``kthread-kinds``: kthreadd, a worker and an interrupt thread, each at work."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskscope.labs.evidence import calls, function_stack, ordered, plain, stat_rows
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.snapshot.decode import PF_KTHREAD, PF_WQ_WORKER

if TYPE_CHECKING:
    from taskscope.system import System

HARDIRQ_MASK = 0xF_0000
#: the handlers of a serial line, which the guest's console is
HANDLERS = ("serial8250_interrupt", "pl011_int", "pl031_interrupt")


def scenario(run: Run) -> None:
    """Type a key: its interrupt queues a work, a worker does it, and kthreadd makes the next worker."""
    k = run.boot()
    terminal = k.terminal()
    seen: dict[str, dict[str, Any]] = {}

    def note(what: str) -> Callable[..., None]:
        def at_work(*args: Any) -> None:
            task = k.running()
            seen.setdefault(
                what,
                {
                    "comm": task.comm,
                    "pid": task.pid,
                    "flags": task.flags,
                    "stack": k.running_stack(),
                    "count": k.machine.cpu.preempt_count,
                    "args": args,
                },
            )

        return at_work

    at_rest = k.task(2).row.wchan
    with (
        k.probe("workqueue_queue_work", note("queue_work")),
        k.probe("workqueue_execute_start", note("execute_start")),
        k.probe("flush_to_ldisc", note("worker")),
        k.probe("workqueue_execute_end", note("execute_end")),
        k.probe("wake_up_process", note("asker"), when=lambda p, *_: p is k.machine.kthreadd_task),
        k.probe("create_kthread", note("kthreadd")),
    ):
        terminal.type("echo hello")
    if not run.check("an interrupt leaves its work to a worker", "queue_work" in seen, plain(seen["worker"]["stack"])):
        return
    queued, worker = seen["queue_work"], seen["worker"]
    run.show(queued["stack"], f"the interrupt queues a work, while {queued['comm']} ({queued['pid']}) runs")
    run.show(worker["stack"], f"{worker['comm']} ({worker['pid']}) does it: innermost first")
    run.check(
        "the key's interrupt queues a work for system_unbound_wq, events_unbound: in hard interrupt context",
        bool(queued["count"] & HARDIRQ_MASK) and queued["args"][1].wq.name == "events_unbound",
        (hex(queued["count"]), queued["args"][1].wq.name),
    )
    run.check(
        "worker threads run worker_thread() -> process_one_work() -> the work's function, on the stack of kthread()",
        ordered(plain(worker["stack"]), ["flush_to_ldisc", "process_one_work", "worker_thread", "kthread"]),
        plain(worker["stack"]),
    )
    run.check(
        "a worker is kworker/uPOOL:ID, with PF_KTHREAD and PF_WQ_WORKER, and may sleep at its work: preempt_count is 0",
        worker["comm"].startswith("kworker/u")
        and worker["flags"] & (PF_KTHREAD | PF_WQ_WORKER) == PF_KTHREAD | PF_WQ_WORKER
        and worker["count"] == 0,
        (worker["comm"], hex(worker["flags"]), worker["count"]),
    )
    run.check(
        "one work from queueing to its end: workqueue_queue_work, execute_start, execute_end name the same one",
        seen["execute_start"]["args"][0] is queued["args"][2] is seen["execute_end"]["args"][0]
        and seen["execute_start"]["pid"] == seen["execute_end"]["pid"] == worker["pid"],
        [seen[what]["args"] for what in ("queue_work", "execute_start", "execute_end")],
    )
    k.run(s=0.1)
    row = next(t for t in k.ps().tasks if t.pid == worker["pid"])
    shown = k.read(f"/proc/{worker['pid']}/comm").decode().strip()
    run.show([f"/proc/{worker['pid']}/comm: {shown}", *k.stack(worker["pid"])], "the worker, when it has done its work")
    run.check(
        "idle, it sleeps in worker_thread(), and /proc/PID/comm says what it did last",
        row.wchan == "worker_thread" and shown == f"{worker['comm']}-events_unbound",
        (row.wchan, shown),
    )
    kthreadd(run, k, seen, at_rest)
    irq_thread(run, k, note, seen)


def on_real(run: Run) -> None:
    """Write to a pseudo-terminal, whose work a worker does, on a kernel whose handlers run in threads."""
    # Of all drivers here none asks for a thread of its own; threadirqs gives one to each handler that does not refuse.
    with run.real.booted_with("threadirqs") as machine:
        program = machine.program("terminal")
        functions = machine.traceable(["flush_to_ldisc", *HANDLERS])
        # A serial line that sends; and, as an emulated PL011 has sent before it could interrupt, an alarm clock.
        shot = machine.record(f"{program} 1 > /dev/null\necho hello > /dev/console\n"
                              "echo +1 > /sys/class/rtc/rtc0/wakealarm\nsleep 1.5\n"
                              "cat /proc/[0-9]*/stat\necho kthreadd at rest\ncat /proc/2/stack\n", functions=functions,
                              events=("sched", "task", "signal", "workqueue:workqueue_queue_work",
                                      "workqueue:workqueue_execute_start", "workqueue:workqueue_execute_end"))
        recording = shot.recording
        text, _, at_rest = shot.typed.output.partition("kthreadd at rest\n")
        rows = stat_rows(text)
        worker = next((pid for name, pid, _ in calls(recording) if name == "flush_to_ldisc"), 0)
        idle = machine.type(f"cat /proc/{worker}/comm /proc/{worker}/stack").output.splitlines()
    stack = function_stack(recording, worker, "flush_to_ldisc")
    run.show(stack, f"{rows[worker][1] if worker in rows else worker} at work: innermost first")
    run.check("worker threads run worker_thread() -> process_one_work() -> the work's function, on kthread()'s stack",
              ordered(stack, run.expect(["flush_to_ldisc", "process_one_work", "worker_thread", "kthread"],
                                        ["worker_thread", "process_one_work"])), stack)
    row = rows.get(worker, [])
    run.check("a worker is a child of kthreadd, kworker/uPOOL:ID, with PF_KTHREAD and PF_WQ_WORKER",
              bool(row) and row[1].startswith("kworker/u") and row[3] == "2"
              and int(row[8]) & (PF_KTHREAD | PF_WQ_WORKER) == PF_KTHREAD | PF_WQ_WORKER, row)
    run.show(idle, "the worker, when it has done its work")
    run.check("idle, it sleeps in worker_thread(), and /proc/PID/comm says what it did last",
              bool(idle) and re.fullmatch(r"kworker/u\S+-\w+", idle[0]) is not None
              and any("worker_thread" in line for line in idle), idle)
    works = [(one["work"], one["ts"]) for one in run.events(recording, "workqueue_execute_start")]
    queued = {one["work"]: one["ts"] for one in
              reversed(run.events(recording, "workqueue_queue_work", workqueue="events_unbound"))}
    ended = {one["work"]: one["ts"] for one in run.events(recording, "workqueue_execute_end")}
    both = [work for work, at in works if work in queued and queued[work] < at and ended.get(work, 0) > at]
    run.check("workqueue_queue_work, execute_start, execute_end name the same work, in this order", bool(both),
              works[:5])
    run.show(at_rest, "kthreadd (2) at rest")
    run.check("kthreadd, pid 2, sleeps in kthreadd() while nobody asks", "kthreadd+" in at_rest, at_rest)
    threads = [row for row in rows.values() if row[1].startswith("irq/")]
    run.show([f"{row[0]} {row[1]} policy {row[40]}, priority {row[39]}" for row in threads], "interrupt threads")
    run.check("with threadirqs there are interrupt threads: SCHED_FIFO tasks of priority 50, no workers",
              bool(threads) and all((row[39], row[40]) == ("50", "1") and not int(row[8]) & PF_WQ_WORKER
                                    for row in threads), threads)
    halves = [(name, pid) for name, pid, _ in calls(recording) if name in HANDLERS
              and str(pid) in {row[0] for row in threads}]
    second = function_stack(recording, halves[0][1], halves[0][0]) if halves else []
    run.show(second, "an interrupt thread at work: innermost first")
    run.check("they run irq_thread() -> the handler, in process context", ordered(second, ["irq_thread", "kthread"]),
              (halves[:3], second))


def kthreadd(run: Run, k: System, seen: dict[str, dict[str, Any]], at_rest: str | None) -> None:
    """Look at who asked for the next worker and who made it.

    :param at_rest: where kthreadd slept before
    """
    asker, maker = seen["asker"], seen["kthreadd"]
    name = maker["args"][0].full_name
    run.show(asker["stack"], f"{asker['comm']} is about to work, and nobody would be idle: it asks for one more")
    run.show(maker["stack"], f"{maker['comm']} ({maker['pid']}) makes {name}")
    run.equal("kthreadd, pid 2, sleeps in kthreadd() while nobody asks", at_rest, "kthreadd")
    run.check(
        "worker_thread() -> manage_workers() -> create_worker() -> kthread_create_on_node() puts a request",
        ordered(plain(asker["stack"]), ["kthread_create_on_node", "create_worker", "manage_workers", "worker_thread"]),
        plain(asker["stack"]),
    )
    run.check(
        "kthreadd() -> create_kthread() makes the thread",
        maker["pid"] == 2 and ordered(plain(maker["stack"]), ["create_kthread", "kthreadd"]),
        plain(maker["stack"]),
    )
    born = next((t for t in k.ps().tasks if t.comm == name), None)
    run.check("the new worker is a child of kthreadd", born is not None and born.ppid == 2, born)


def irq_thread(run: Run, k: System, note: Callable[[str], Callable[..., None]], seen: dict[str, Any]) -> None:
    """Let the MMC controller of the Pi interrupt: its handler wakes the thread."""
    threads = [t for t in k.machine_tasks() if t.kthread and t.kthread.threadfn.__name__ == "irq_thread"]
    expected = [] if run.new else ["irq/86-mmc1"]
    run.equal("interrupt threads: on the Pi that of the MMC controller", [t.comm for t in threads], expected)
    if not threads:
        return
    with (
        k.probe("bcm2835_mmc_irq", note("first half")),
        k.probe("bcm2835_mmc_thread_irq", note("second half")),
    ):
        interrupt_mmc1(k)
        k.run(s=0.01)
    first, second = seen["first half"], seen["second half"]
    run.show(first["stack"], f"the first half: hard interrupt, while {first['comm']} ({first['pid']}) runs")
    run.show(second["stack"], f"the second half: {second['comm']} ({second['pid']})")
    run.check(
        "the handler runs in hard interrupt context, in the name of whoever it interrupts",
        bool(first["count"] & HARDIRQ_MASK) and first["pid"] != threads[0].pid,
        (hex(first["count"]), first["comm"]),
    )
    run.check(
        "irq threads run the second half: irq_thread() -> the thread's function, in process context",
        second["pid"] == threads[0].pid
        and ordered(plain(second["stack"]), ["bcm2835_mmc_thread_irq", "irq_thread", "kthread"])
        and second["count"] == 0,
        (second["comm"], plain(second["stack"]), hex(second["count"])),
    )
    run.check(
        "it is a SCHED_FIFO task of priority 50, no worker: PF_WQ_WORKER is clear",
        (threads[0].policy, threads[0].rt_priority) == (1, 50) and not second["flags"] & PF_WQ_WORKER,
        (threads[0].policy, threads[0].rt_priority, hex(second["flags"])),
    )


def interrupt_mmc1(k: System) -> None:
    """Let the card interrupt."""
    k.machine.mmc1.hw.card_interrupt()


LAB = Lab(
    name="kthread-kinds",
    title="kthreadd, a worker and an interrupt thread at work",
    question="What do kernel threads run: kthreadd, kworker/…, irq/number-name?",
    look="the stacks: what stands below kthread(), and what the thread was woken for",
    answer=(
        "All begin in kthread(), which calls the function that was given to kthread_create().  kthreadd runs "
        "kthreadd(): it takes requests for threads off a list and makes them.  Workers run worker_thread(), which "
        "takes works off its pool's list and calls process_one_work() -> the work's function; a worker that goes to "
        "work and leaves nobody idle behind it asks kthreadd for one more (manage_workers()).  Interrupt threads run "
        "irq_thread(): the handler, in hard interrupt context, only wakes the thread, which does the second half in "
        "process context and may sleep."
    ),
    scenario=scenario,
    real=on_real,
    places=("guest",),
    refused="it takes the function tracer, and a boot with threadirqs; use --on guest",
    real_note=(
        "None of the guest's devices asks for an interrupt thread: it is booted with threadirqs, which gives "
        "one to each handler that does not refuse."
    ),
    needs=("events", "functions", "/proc"),
    mutant=Mutant(
        "the interrupt does the work itself",
        "drivers.tty.tty_buffer:tty_flip_buffer_push",
        "    if m.wq_online:\n",
        "    if not m.wq_online:\n",
    ),
)
