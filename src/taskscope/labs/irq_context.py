"""Lab ``irq-context``: what an interrupt does to the task that it interrupts, and to preempt_count."""

from __future__ import annotations

from itertools import pairwise, takewhile
from typing import Any

from taskscope.labs.lab import Lab, Run
from taskscope.labs.logtext import clear_log, log_rows, report_rows
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

HARDIRQ_MASK = 0xF_0000
HARDIRQ_OFFSET = 0x1_0000
#: read one after the other
PAGES = 8


def scenario(run: Run) -> None:
    """Let one task wait for a disk while another computes; look at the count around the disk's interrupt."""
    k = run.boot()
    device, name, handler = (
        ("/dev/vda", "virtio0-req.0", "vring_interrupt")
        if run.new
        else ("/dev/mmcblk1", "mmc1", "bcm2835_mmc_irq")
    )
    k.trace("irq:*", "sched:sched_switch", "sched:sched_waking")
    k.spawn(busy, name="busy")
    k.run(s=0.005)
    clear_log(k)
    counts: list[tuple[str, int, bool, bool, str]] = []

    def look(where: str) -> Any:
        def looked(*_: Any) -> None:
            from taskscope.model.include.linux.preempt import in_interrupt, in_irq, preempt_count

            counts.append((where, preempt_count(), in_irq(), in_interrupt(), k.running().comm))

        return looked

    before = interrupts(k.read("/proc/interrupts").decode(), name)
    # irq_exit() calls tick_irq_exit() when it has subtracted.
    with (
        k.probe("irq_enter", look("irq_enter")),
        k.probe(handler, look(handler)),
        k.probe("irq_exit", look("irq_exit")),
        k.probe("tick_irq_exit", look("after")),
    ):
        reader = k.spawn(read_disk, device, name="reader")
        reader.wait()
    taken = interrupts(k.read("/proc/interrupts").decode(), name) - before
    places = [i for i, (where, *_) in enumerate(counts) if where == handler]
    around = [tuple(counts[i + n] for n in (-1, 0, 1, 2)) for i in places if i]
    run.show(
        [
            f"{where:<16} preempt_count {count:#010x}  in_irq() {irq!s:<5}  in_interrupt() {any_!s:<5}  current {comm}"
            for where, count, irq, any_, comm in (around[0] if around else ())
        ],
        f"around one interrupt of {name}",
    )
    rows = log_rows(k)
    mine = [row for row in rows if row.event == "irq_handler_entry" and row.value("name") == name]
    exits = [row for row in rows if row.event == "irq_handler_exit" and mine and row.us >= mine[0].us]
    switches = [row for row in rows if row.event == "sched_switch" and row.comm == "reader"]
    slept = [row for row in switches if row.value("prev_state") == "D"]
    run.show([row.text for row in (slept[:1] + mine[:2] + exits[:1])], "in the log")
    run.check("the disk interrupted", taken > 0 and len(places) == taken, (taken, len(places)))
    run.check(
        "the count was 0 in its field for hard interrupts before, and in_interrupt() was false",
        bool(around) and all(not e[1] & HARDIRQ_MASK and not e[3] for e, _, _, _ in around),
        around[:1],
    )
    run.check(
        "irq_enter() added HARDIRQ_OFFSET (0x10000): so it is in the handler and still on entry of irq_exit()",
        bool(around)
        and all(h[1] == e[1] + HARDIRQ_OFFSET and x[1] == h[1] for e, h, x, _ in around),
        around[:1],
    )
    run.check(
        "in the handler in_irq() and in_interrupt() are true",
        bool(around) and all(h[2] and h[3] for _, h, _, _ in around),
    )
    run.check(
        "irq_exit() subtracted it: the count is what it was",
        bool(around) and all(a[1] == e[1] for e, _, _, a in around),
        around[:1],
    )
    # A disk may be quicker than who asked is asleep: then it stops him on his way, and he does not sleep for that one.
    early = sum(h[4] == "reader" for _, h, _, _ in around)
    run.check(
        "current is whom the interrupt stopped, never who sleeps until the disk is done",
        bool(around) and all(h[4] == e[4] for e, h, _, _ in around) and len(slept) + early >= PAGES > early,
        ({h[4] for _, h, _, _ in around}, len(slept), early),
    )
    run.check(
        "it stopped a task that computed",
        any(h[4] == "busy" for _, h, _, _ in around),
        {h[4] for _, h, _, _ in around},
    )
    run.check(
        "the flags column says h and d: in a hard interrupt, with interrupts off",
        bool(mine) and all(row.context == "h" and row.irqs_off for row in mine),
        [row.flags for row in mine],
    )
    run.equal("one irq_handler_entry an interrupt, as many as /proc/interrupts counts", len(mine), taken)
    run.check("who asked slept in state D until then", bool(slept), [row.text for row in rows[-5:]])
    run.check("the reader got its bytes", reader.text.count("4096 bytes") == PAGES, reader.text)
    if not run.new:
        second_half(run, k)


def on_real(run: Run) -> None:
    """Record the interrupts of a real kernel while a program computes and something makes a device interrupt."""
    # The disk of a host, the serial line of a guest.
    work = ("dd if=/dev/zero of=blocks bs=64k count=16 oflag=sync 2>/dev/null" if run.real.place == "host" else
            "for n in 1 2 3 4 5; do echo $n > /dev/console; sleep 0.02; done")
    shot = run.record(f"( i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done ) &\n{work}\nwait\nrm -f blocks\n",
                      irq=True, everything=True)
    rows = report_rows(shot.recording)
    entries = [row for row in rows if row.event == "irq_handler_entry"]
    exits = [row for row in rows if row.event == "irq_handler_exit"]
    run.show([row.text for row in (*entries[:3], *exits[:1])], "in the log")
    run.check("devices interrupted", len(entries) >= 3, len(entries))
    run.check("the flags column says h and d: in a hard interrupt, with interrupts off",
              all(row.context in "hH" and row.irqs_off for row in (*entries, *exits)),
              [row.flags for row in entries if row.context not in "hH"])
    run.check("each handler that was entered is left, on the same CPU, before the next",
              all(one.event != two.event for cpu in {row.cpu for row in entries}
                  for one, two in pairwise([row for row in (*rows,) if row.cpu == cpu and row.event in (
                      "irq_handler_entry", "irq_handler_exit")])), len(exits))
    outside = [row for row in rows if row.event == "sched_switch"]
    run.check("tasks switch outside of interrupts only: the count is not raised there",
              bool(outside) and all(row.context == run.expect(".", "h") for row in outside),
              {row.flags for row in outside})
    run.check("current is whom the interrupt stopped: the idle task, a program, whoever ran",
              len({row.comm for row in entries}) >= 1, {row.comm for row in entries})


def second_half(run: Run, k: Any) -> None:
    """Let the card behind mmc1 interrupt: its handler leaves the work to irq/86-mmc1."""
    seen: list[tuple[str, int, str]] = []

    def looked(where: str) -> Any:
        return lambda *_: seen.append((where, k.machine.cpu.preempt_count, k.running().comm))

    with (
        k.probe("bcm2835_mmc_irq", looked("bcm2835_mmc_irq")),
        k.probe("bcm2835_mmc_thread_irq", looked("bcm2835_mmc_thread_irq")),
    ):
        k.machine.mmc1.hw.card_interrupt()
        k.run(s=0.02)
    run.show([f"{where:<24} preempt_count {count:#010x}  current {comm}" for where, count, comm in seen], "two halves")
    run.check(
        "of a threaded interrupt the handler runs in hard interrupt context, and once",
        [bool(count & HARDIRQ_MASK) for where, count, _ in seen if where == "bcm2835_mmc_irq"] == [True],
        seen,
    )
    run.equal(
        "its second half runs in its thread, with the count at 0: it may sleep",
        [(count, comm) for where, count, comm in seen if where == "bcm2835_mmc_thread_irq"],
        [(0, "irq/86-mmc1")],
    )


def interrupts(table: str, name: str) -> int:
    """Return how often the line of that name has interrupted."""
    row = next(line.split() for line in table.splitlines() if line.endswith(f"  {name}"))
    return sum(int(n) for n in takewhile(str.isdigit, row[1:]))


def busy(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Compute."""
    sys.run_for(10_000_000_000)


def read_disk(sys: Sys, argv: list[str]) -> None:
    """Read eight pages of a disk, and wait for each."""
    fd = sys.open(argv[1])
    for _ in range(PAGES):
        sys.puts(f"{len(sys.read(fd, 4096))} bytes")


LAB = Lab(
    name="irq-context",
    title="what an interrupt does to preempt_count and to current",
    question="How does the kernel know that it is in an interrupt, and whose time does that take?",
    look="preempt_count before, in and after the handler; current; the flags column",
    answer=(
        "An interrupt runs on the stack of whatever task it stops: current is that task, which has nothing to do with "
        "it.  irq_enter() adds HARDIRQ_OFFSET (0x10000) to preempt_count, irq_exit() subtracts it; in_irq() and "
        "in_interrupt() look at nothing else, and the flags column of the log shows it as h.  While the count is not 0 "
        "nobody may sleep and nobody is preempted.  What takes longer is left to a softirq, a tasklet or a thread "
        "(irq/86-mmc1), which runs in a task's context and may sleep."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "The interrupts are those of the serial line or of a disk, and of whatever else happens meanwhile; "
        "most find the idle task."
    ),
    needs=("events",),
    mutant=Mutant(
        "irq_enter() does not count the interrupt",
        "kernel.softirq:irq_enter",
        "cpu.preempt_count += HARDIRQ_OFFSET",
        "cpu.preempt_count += 0",
    ),
    cpus=1,
)
