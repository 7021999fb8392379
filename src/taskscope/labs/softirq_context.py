"""Lab ``softirq-context``: what an interrupt leaves for later, where that runs, and when ksoftirqd takes it over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskscope.labs.lab import Lab, Run
from taskscope.labs.logtext import Row, clear_log, log_rows, report_rows
from taskscope.labs.module import insmod
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

if TYPE_CHECKING:
    from taskscope.system import System

SOFTIRQ_OFFSET = 0x100
SOFTIRQ_DISABLE_OFFSET = 0x200
SOFTIRQ_MASK = 0xFF00
#: how often the slow tasklet asks for itself, and how long it takes (ns)
AGAIN, SLOW = 30, 300_000


def scenario(run: Run) -> None:
    """Read a disk; hold softirqs back; keep one of them busy for too long."""
    k = run.boot()
    k.trace("irq:*", "sched:sched_switch", "sched:sched_waking")
    on_the_way_out(run, k)
    held_back(run, k)
    too_much(run, k)


def on_the_way_out(run: Run, k: System) -> None:
    """Look at the softirqs behind a disk's interrupt."""
    device, name = ("/dev/vda", "virtio0-req.0") if run.new else ("/dev/mmcblk1", "mmc1")
    counts: list[tuple[str, int, bool, bool, bool]] = []

    def look(where: str) -> Any:
        def looked(*_: Any) -> None:
            from taskscope.model.include.linux.preempt import in_interrupt, in_irq, in_serving_softirq, preempt_count

            counts.append((where, preempt_count(), in_irq(), in_serving_softirq(), in_interrupt()))

        return looked

    k.run(s=0.05)
    clear_log(k)
    with k.probe("invoke_softirq", look("invoke_softirq")), k.probe("blk_done_softirq", look("blk_done_softirq")):
        reader = k.spawn(read_disk, device, name="reader")
        reader.wait()
    rows = log_rows(k)
    run.show(
        [
            f"{where:<16} count {count:#010x}  in_irq() {irq}  in_serving_softirq() {soft}  in_interrupt() {any_}"
            for where, count, irq, soft, any_ in before_and_in(counts)
        ],
        "preempt_count",
    )
    chain = disk_chain(rows, name)
    run.show([row.text for row in chain], "the log, from the disk's interrupt on")
    first = "BLOCK" if run.new else "TASKLET"
    where = [f"{row.event}{vector(row)}" for row in chain if row.event.startswith(("irq_", "softirq_"))]
    expected = ["irq_handler_entry", f"softirq_raise {first}", "irq_handler_exit", f"softirq_entry {first}"]
    run.equal("raised in the handler, run when the handler is done", where[:4], expected)
    raised = [row for row in chain if row.event == "softirq_raise"]
    runs = [row for row in chain if row.event in ("softirq_entry", "softirq_exit")]
    run.check(
        "raise is in hard interrupt context (h), with interrupts off; the softirq is not (s), with interrupts on",
        bool(raised)
        and bool(runs)
        and raised[0].context == "h"
        and raised[0].irqs_off
        and all(row.context == "s" and not row.irqs_off for row in runs),
        [row.flags for row in chain],
    )
    if not run.new:
        run.check(
            "the tasklet raises BLOCK (s): that runs in the same go",
            where[4:7] == ["softirq_raise BLOCK", "softirq_exit TASKLET", "softirq_entry BLOCK"]
            and raised[1].context == "s",
            where,
        )
    woken = [row for row in chain if row.event == "sched_waking" and "comm=reader " in row.body]
    run.check("who waits for the disk is woken by the softirq", [row.context for row in woken] == ["s"], woken)
    served = [c for c in counts if c[0] == "blk_done_softirq"]
    entered = [c for c in counts if c[0] == "invoke_softirq"]
    run.check(
        "when invoke_softirq() is called the hard interrupt is counted off: in_interrupt() is false",
        bool(entered) and all(not c[2] and not c[4] for c in entered),
        entered[:2],
    )
    run.check(
        "SOFTIRQ_OFFSET (0x100) is in the count while a softirq runs: in_interrupt(), but not in_irq()",
        bool(served) and all(c[1] & SOFTIRQ_MASK == SOFTIRQ_OFFSET and not c[2] and c[3] and c[4] for c in served),
        served[:2],
    )


def held_back(run: Run, k: System) -> None:
    """Disable softirqs in a task for three ticks."""
    seen: list[tuple[str, int, int]] = []

    def section() -> None:
        from taskscope.model import machine
        from taskscope.model.kernel import softirq
        from taskscope.model.kernel.time import timer

        m = machine.cur
        timer.mod_timer(due, m.jiffies + 1)
        softirq.local_bh_disable()
        seen.append(("disabled", m.cpu.preempt_count, m.now))
        m.run_for(3 * m.tick_nsec)
        seen.append(("enabling", m.cpu.preempt_count, m.now))
        softirq.local_bh_enable()
        seen.append(("enabled", m.cpu.preempt_count, m.now))

    from taskscope.model.include.linux.timer import TimerList

    due = TimerList(lambda t: seen.append(("timer", k.machine.cpu.preempt_count, k.now)))
    trigger = insmod(k, "bh_test", section)
    clear_log(k)
    k.spawn(writer, trigger, name="bh_test").wait()
    disabled, begin = next((count, ts) for what, count, ts in seen if what == "disabled")
    end = next(ts for what, _, ts in seen if what == "enabling")
    enabled = next(count for what, count, _ in seen if what == "enabled")
    rows = [row for row in log_rows(k) if row.comm == "bh_test"]
    inside = [row for row in rows if begin // 1000 < row.us < end // 1000]
    raised = [row for row in inside if row.event == "softirq_raise"]
    entered = [row for row in inside if row.event == "softirq_entry"]
    then = [row for row in rows if row.event == "softirq_entry" and row.us >= end // 1000 - 1]
    run.show([row.text for row in (*raised[:3], *then[:2])], "softirqs disabled for three ticks, then enabled")
    run.equal("local_bh_disable() adds 2 * SOFTIRQ_OFFSET", disabled & SOFTIRQ_MASK, SOFTIRQ_DISABLE_OFFSET)
    run.check("interrupts come meanwhile and raise softirqs", bool(raised), inside)
    run.check("but none runs: the count says in_interrupt()", bool(raised) and not entered, entered[:1])
    run.check("local_bh_enable() runs them, in the task", bool(then) and then[0].context == "s", then[:1])
    run.equal("and the count is 0 again", enabled, 0)
    if run.new:
        run.equal("the log says D there: interrupts off and softirqs disabled", {row.flags[0] for row in raised}, {"D"})


def too_much(run: Run, k: System) -> None:
    """Let a tasklet that takes 300 us ask for itself again and again, on an idle machine."""
    ran: list[tuple[int, str]] = []

    def slow(data: Any) -> None:
        from taskscope.model import machine
        from taskscope.model.kernel import softirq

        del data
        m = machine.cur
        ran.append((m.now, m.cpu.curr.comm))
        m.run_for(SLOW)
        if len(ran) < AGAIN:
            softirq.tasklet_schedule(tasklet)

    def start() -> None:
        from taskscope.model import machine
        from taskscope.model.kernel.time import timer

        # Later, when nothing else goes on: a reschedule that is due ends the rounds, too.
        timer.mod_timer(first, machine.cur.jiffies + machine.cur.hz)

    def fire(t: Any) -> None:
        from taskscope.model.kernel import softirq

        del t
        softirq.tasklet_schedule(tasklet)

    from taskscope.model.include.linux.interrupt import TaskletStruct
    from taskscope.model.include.linux.timer import TimerList

    tasklet, first = TaskletStruct(slow, None), TimerList(fire)
    trigger = insmod(k, "slow_tasklet", start)
    k.run(s=0.1)
    clear_log(k)
    k.spawn(writer, trigger, name="slow_tasklet").wait()
    k.run(s=1.5)
    inline = [comm for _, comm in ran if not comm.startswith("ksoftirqd/")]
    thread = [comm for _, comm in ran if comm.startswith("ksoftirqd/")]
    woken = [row for row in log_rows(k) if row.event == "sched_waking" and "comm=ksoftirqd/" in row.body]
    run.show(
        [
            f"{len(inline)} times on the way out of interrupts, in {', '.join(sorted(set(inline)))}",
            f"{len(thread)} times in {', '.join(sorted(set(thread)))}",
            *(row.text for row in woken[:1]),
        ],
        f"a tasklet of {SLOW // 1000} us that asks for itself {AGAIN} times",
    )
    run.equal("it ran as often as it was asked for", len(ran), AGAIN)
    begun = 0
    while begun < len(ran) and not ran[begun][1].startswith("ksoftirqd/"):
        begun += 1
    run.check("__do_softirq() goes round ten times at most, then it is ksoftirqd's", 2 <= begun <= 10, begun)
    run.check("ksoftirqd is woken in the softirq", bool(woken) and woken[0].context == "s", woken[:1])
    run.check("it runs the rest as a task among others", len(thread) > 0, ran)
    [thread_pid, *_] = k.pids(thread[0]) if thread else [0]
    run.equal("with the priority of any program (120): others run too", k.task(thread_pid).row.prio, 120)


def on_real(run: Run) -> None:
    """Record the softirqs of a real kernel while timers fire and a program computes."""
    shot = run.record("( i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done ) &\n"
                      "for n in 1 2 3 4 5; do sleep 0.02; done\nwait\n", irq=True, everything=True)
    rows = [row for row in report_rows(shot.recording) if row.event.startswith(("softirq_", "irq_"))]
    raised = [row for row in rows if row.event == "softirq_raise" and row.context in "hH"]
    entered = [row for row in rows if row.event == "softirq_entry"]
    run.show([row.text for row in rows[:8]], "the log")
    run.check("interrupts raise softirqs: raise is in hard interrupt context (h), with interrupts off",
              bool(raised) and all(row.irqs_off for row in raised), raised[:1])
    run.check("a softirq runs in context s, with interrupts on",
              bool(entered) and all(row.context == run.expect("s", "h") and not row.irqs_off for row in entered),
              {row.flags for row in entered})
    # Raised twice before it runs it runs once: there are never more runs than raises, but for what was due before.
    late: list[str] = []
    left: dict[tuple[int, str], int] = {}
    for row in rows:
        if row.event == "softirq_raise":
            left[row.cpu, vector(row)] = left.get((row.cpu, vector(row)), 1) + 1
        elif row.event == "softirq_entry":
            left[row.cpu, vector(row)] = left.get((row.cpu, vector(row)), 1) - 1
            late += [row.text] if left[row.cpu, vector(row)] < 0 else []
    run.check("each was raised before it ran, on its CPU", not late, late[:3])
    inside = 0
    for cpu in {row.cpu for row in rows}:
        depth = 0
        for row in (one for one in rows if one.cpu == cpu):
            depth += {"softirq_entry": 1, "softirq_exit": -1}.get(row.event, 0)
            inside = max(inside, depth)
    run.equal("softirqs do not nest: one runs at a time on a CPU", inside, 1)
    run.check("they run in whatever task was interrupted, or in ksoftirqd", bool({row.comm for row in entered}),
              {row.comm for row in entered})


def before_and_in(counts: list[tuple[str, int, bool, bool, bool]]) -> list[tuple[str, int, bool, bool, bool]]:
    """Return the first pair of an invoke_softirq() and the block softirq that it runs."""
    for i, count in enumerate(counts):
        if count[0] == "blk_done_softirq" and i:
            return counts[i - 1 : i + 1]
    return []


def disk_chain(rows: list[Row], name: str) -> list[Row]:
    """Return the rows from the disk's interrupt that raises a softirq to the end of the block softirq, on its CPU."""
    for i, row in enumerate(rows):
        if row.event != "irq_handler_entry" or row.value("name") != name:
            continue
        mine = [r for r in rows[i:] if r.cpu == row.cpu]
        if mine[1].event != "softirq_raise":
            continue
        end = next((n for n, r in enumerate(mine) if r.event == "softirq_exit" and vector(r) == " BLOCK"), len(mine))
        return mine[: end + 1]
    return []


def vector(row: Row) -> str:
    """Return a softirq's name, with a space before it; "" for other events."""
    return f" {row.body.partition('action=')[2].rstrip(']')}" if row.event.startswith("softirq_") else ""


def read_disk(sys: Sys, argv: list[str]) -> None:
    """Read a page of a disk, and wait for it."""
    fd = sys.open(argv[1])
    sys.puts(f"{len(sys.read(fd, 4096))} bytes")


def writer(sys: Sys, argv: list[str]) -> None:
    """Trigger a module: echo 1 > FILE."""
    fd = sys.open(argv[1], 1)
    sys.write(fd, b"1\n")


LAB = Lab(
    name="softirq-context",
    title="what an interrupt leaves for later, and where that runs",
    question="When does a softirq run, in whose context, and what if it takes long?",
    look="the order in the log, the letters h and s, preempt_count, and ksoftirqd",
    answer=(
        "A handler raises a softirq: a bit.  irq_exit() counts the hard interrupt off and, if the count says that this "
        "was the outermost one (not in_interrupt()) and a bit is set, calls invoke_softirq(): __do_softirq() adds "
        "SOFTIRQ_OFFSET (0x100) and calls the vectors' functions with interrupts on.  So a softirq runs in the name of "
        "the interrupted task, too, and may not sleep.  local_bh_disable() adds 0x200, which makes irq_exit() leave "
        "the bits alone; local_bh_enable() looks after them.  After ten rounds, 2 ms, or when a reschedule is due, the "
        "rest is left to ksoftirqd/N, which the scheduler treats as any task."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "Which vectors are raised is up to the machine: mostly SCHED, TIMER, RCU, and NET_RX or BLOCK where "
        "there is traffic."
    ),
    needs=("events",),
    mutant=Mutant(
        "irq_exit() does not look whether softirqs are disabled",
        "kernel.softirq:irq_exit",
        "if not cpu.preempt_count & _INTERRUPT and cpu.softirq_pending:",
        "if not cpu.preempt_count & HARDIRQ_MASK and cpu.softirq_pending:",
    ),
)
