"""Lab ``ps-axjf``: the forest, and what kind each kernel thread is of."""

from __future__ import annotations

from taskscope.labs.evidence import stat_rows
from taskscope.labs.lab import Lab, Run
from taskscope.labs.look import Look
from taskscope.labs.mutant import Mutant
from taskscope.model.include.linux.sched import Task
from taskscope.snapshot.decode import PF_KTHREAD, PF_WQ_WORKER


def scenario(run: Run) -> None:
    """Tell kthreadd, workers, interrupt threads and per-cpu threads apart by flags and data, not by name."""
    k = run.boot()
    terminal = k.terminal()
    table = terminal.type("ps -axjf")
    run.typed("ps -axjf", table)
    lines = [line for line in table.splitlines() if line[:5].strip().isdigit()]
    run.check(
        "the columns are those of the notes", "PPID   PID  PGID   SID TTY      TPGID STAT   UID   TIME COMMAND" in table
    )
    shown = {int(line.split()[1]): line for line in lines}
    kinds: dict[int, str] = {}
    tasks = {task.pid: task for task in k.machine_tasks()}
    for pid, task in tasks.items():
        kinds[pid] = kind_of(task)
    run.show(
        [f"{pid:5d}  {kinds[pid]:<22} {tasks[pid].comm}" for pid in sorted(kinds) if kinds[pid] != "user"],
        "the same tasks, told apart by flags and thread function",
    )
    run.check(
        "kernel threads are in brackets: they have no command line",
        all("[" in shown[p] for p in kinds if kinds[p] != "user" and p in shown),
    )
    run.equal("kthreadd is the one whose function is kthreadd()", [p for p in kinds if kinds[p] == "kthreadd"], [2])
    workers = [p for p in kinds if kinds[p] == "worker"]
    run.check(
        "kworker/… threads have PF_WQ_WORKER and run worker_thread()",
        bool(workers) and all(tasks[p].comm.startswith("kworker/") and tasks[p].flags & PF_WQ_WORKER for p in workers),
        workers,
    )
    run.check(
        "no other task has PF_WQ_WORKER but a rescuer of a workqueue",
        all(kinds[p] in ("worker", "rescuer") for p in kinds if tasks[p].flags & PF_WQ_WORKER),
    )
    irq = [p for p in kinds if kinds[p] == "irq thread"]
    expected = [] if run.new else ["irq/86-mmc1"]
    run.equal(
        "irq/number-name threads run irq_thread(): on the Pi that of the MMC controller",
        [tasks[p].comm for p in irq],
        expected,
    )
    if irq:
        # The card interrupts: the controller's handler wakes the thread, which does the second half.
        mmc1 = k.machine.mmc1
        mmc1.hw.card_interrupt()
        k.run(s=0.01)
        run.check(
            "an interrupt of the device wakes it, and it runs the second half at priority 50 of SCHED_FIFO",
            mmc1.sdio_irqs == 1 and tasks[irq[0]].rt_priority == 50,
            (mmc1.sdio_irqs, tasks[irq[0]].rt_priority),
        )
    per_cpu = [p for p in kinds if kinds[p] == "per-cpu (smpboot)"]
    run.check(
        "ksoftirqd/N and migration/N are one a CPU, bound to it (PF_NO_SETAFFINITY)",
        {tasks[p].comm for p in per_cpu} >= {f"ksoftirqd/{n}" for n in range(run.lab.cpus)}
        and all(tasks[p].flags & 0x400_0000 for p in per_cpu),
        [tasks[p].comm for p in per_cpu],
    )
    run.check(
        "TTY is ? and TPGID -1 for what has no terminal",
        all(" ?  " in shown[p] and " -1 " in shown[p] for p in kinds if kinds[p] != "user" and p in shown),
    )


def on_real(run: Run) -> None:
    """Tell the kernel threads of a real kernel apart by their flags, and hold their names against them."""
    typed = run.real.type("cat /proc/[0-9]*/stat; for p in /proc/[0-9]*; do echo \"${p##*/} cmdline "
                          "$(wc -c < $p/cmdline)\"; done; cat /proc/cpuinfo | grep -c ^processor")
    rows = stat_rows(typed.output)
    flags = {pid: int(row[8]) for pid, row in rows.items()}
    kthreads = [pid for pid in rows if flags[pid] & PF_KTHREAD]
    workers = [pid for pid in rows if flags[pid] & PF_WQ_WORKER]
    run.show([f"{pid:5d}  {'worker or rescuer' if pid in workers else 'kernel thread':<18} {rows[pid][1]}"
              for pid in kthreads[:20]], "told apart by flags")
    empty = {int(words[0]) for line in typed.output.splitlines()
             if (words := line.split())[1:] == ["cmdline", "0"]}
    run.check("kernel threads are in brackets: they have no command line", set(kthreads) - empty <= {0},
              set(kthreads) - empty)
    run.check("init is a user process, kthreadd (2) the first kernel thread",
              not flags[1] & PF_KTHREAD and bool(flags[2] & PF_KTHREAD)
              and rows[2][1] == run.expect("kthreadd", "init"))
    named = [pid for pid in kthreads if rows[pid][1].startswith("kworker/")]
    run.check("kworker/… threads have PF_WQ_WORKER", bool(named) and set(named) <= set(workers),
              [rows[pid][1] for pid in named if pid not in workers])
    irq = [pid for pid in kthreads if rows[pid][1].startswith("irq/")]
    run.check("irq/number-name threads, where a driver has one, are no workers and run at SCHED_FIFO 50",
              all(pid not in workers and rows[pid][39] == "50" and rows[pid][40] == "1" for pid in irq),
              [rows[pid][1] for pid in irq])
    cpus = int(typed.output.split()[-1])
    per_cpu = {row[1] for row in rows.values()}
    run.check("ksoftirqd/N and migration/N are one a CPU, bound to it (PF_NO_SETAFFINITY)",
              all({f"ksoftirqd/{n}", f"migration/{n}"} <= per_cpu for n in range(cpus))
              and all(flags[pid] & 0x400_0000 for pid in kthreads if rows[pid][1].startswith("ksoftirqd/")))
    run.check("TTY is 0 (?) and TPGID -1 for what has no terminal",
              all(rows[pid][6] == "0" and rows[pid][7] == "-1" for pid in kthreads))


def kind_of(task: Task) -> str:
    """Say what kind a task is of, by its flags and the function it runs."""
    if not task.flags & PF_KTHREAD:
        return "user"
    if task.kthread is None:
        return "kthreadd" if task.pid == 2 else "kernel thread"
    name = getattr(task.kthread.threadfn, "__name__", "")
    known = {
        "worker_thread": "worker",
        "rescuer_thread": "rescuer",
        "irq_thread": "irq thread",
        "smpboot_thread_fn": "per-cpu (smpboot)",
    }
    return known.get(name, f"{name}()")


def in_memory(run: Run, look: Look) -> None:
    """Tell kernel threads apart by the functions that they were made with, and hold their names against that."""
    from taskscope.views.ps import Form, chosen_columns, ps_table

    kthreads = [row for row in look.rows if row.kind == "kthread"]
    columns = chosen_columns("ppid,pid,stat,role,thread_fn,about:28,comm")
    run.show([line for line in ps_table(look.found, Form(columns)) if " - " not in line[16:30]][:40],
             "kernel threads, told apart by the function that each runs")
    run.check("each says which function it runs", all(row.thread_fn for row in kthreads),
              [row.comm for row in kthreads if not row.thread_fn])
    run.equal("kthreadd is the one that runs kthreadd()", [row.pid for row in kthreads if row.role == "kthreadd"],
              [run.expect(2, 1)])
    workers = [row for row in kthreads if row.role == "kworker"]
    run.check("kworker/… threads run worker_thread() and have PF_WQ_WORKER",
              bool(workers) and all(row.comm.startswith("kworker/") and (row.flags or 0) & PF_WQ_WORKER
                                    for row in workers), workers)
    run.check("no other task has PF_WQ_WORKER but a rescuer of a workqueue, which knows whose",
              all(row.role == "kworker" or (row.role == "rescuer" and row.about) for row in kthreads
                  if (row.flags or 0) & PF_WQ_WORKER))
    named = {row.comm for row in kthreads if row.role in ("ksoftirqd", "migration", "cpuhp")}
    cpus = look.memory.cpus() or sorted({row.cpu for row in look.found.tasks if row.cpu is not None})
    run.check("ksoftirqd/N and migration/N are one a CPU, told by what smpboot_thread_fn() calls for them",
              {f"{name}/{cpu}" for name in ("ksoftirqd", "migration") for cpu in cpus} <= named, sorted(named))
    irq = [row for row in kthreads if row.role == "irq" or row.comm.startswith("irq/")]
    run.check("irq/number-name threads, where a driver has one, run irq_thread() for that number, SCHED_FIFO 50",
              all(row.role == "irq" and row.comm.startswith(f"irq/{(row.about or '').split()[1]}-")
                  and (row.policy, row.rt_priority) == (1, 50) for row in irq), irq)


LAB = Lab(
    name="ps-axjf",
    title="the forest, and what kind each kernel thread is of",
    question="How does one tell kthreadd, worker threads and interrupt threads apart?",
    look="the bracketed names below [kthreadd], and the second table: flags and thread function of each",
    answer=(
        "All kernel threads have PF_KTHREAD and no mm, so that ps has no command line and prints the name in "
        "brackets.  What they are "
        "is the function given to kthread_create(): worker_thread() for kworker/… (which sets PF_WQ_WORKER), "
        "rescuer_thread() for the "
        "rescuer of a workqueue such as rcu_gp, irq_thread() for irq/number-name, smpboot_thread_fn() for the "
        "threads that "
        "each CPU has.  The name is only the format string of whoever asked."
    ),
    scenario=scenario,
    memory=in_memory,
    real=on_real,
    real_note=(
        "/proc puts the workqueue behind a worker's name (kworker/0:1-events), which comm itself has not.  "
        "Interrupt threads are there only if a driver asked for one."
    ),
    needs=("/proc", "memory"),
    mutant=Mutant(
        "workers do not say that they are workers",
        "kernel.workqueue:set_pf_worker",
        "        current.flags |= PF_WQ_WORKER\n",
        "        pass\n",
    ),
)
