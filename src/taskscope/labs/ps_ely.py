"""Lab ``ps-ely``: the process table, read from the list of task descriptors."""

from __future__ import annotations

from taskscope.labs.evidence import stat_rows
from taskscope.labs.lab import Lab, Run
from taskscope.labs.look import Look
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys


def scenario(run: Run) -> None:
    """Compare what ps prints with a walk along init_task.tasks, with a threaded program alive."""
    k = run.boot()
    threaded = k.spawn(with_thread, name="threaded", tty=k.machine.console_tty)
    k.run(s=1)
    terminal = k.terminal()
    table = terminal.type("ps -ely")
    run.typed("ps -ely", table)
    rows = [
        line.split(None, 12)
        for line in table.splitlines()
        if line.split(None, 1)[:1] and line[0] in "SRDITZ" and line[1] == " "
    ]
    header, rows = rows[0], rows[1:]
    run.equal(
        "the columns are those of the notes",
        header,
        ["S", "UID", "PID", "PPID", "C", "PRI", "NI", "RSS", "SZ", "WCHAN", "TTY", "TIME", "CMD"],
    )
    by_pid = {int(row[2]): row for row in rows}
    walked = []
    node = k.machine.init_task.tasks.next
    while node is not k.machine.init_task.tasks:
        walked.append(node.owner)
        node = node.next
    leaders = [task.pid for task in walked]
    alive = set(leaders)
    run.show([f"{task.pid:5d} {task.comm}" for task in walked[:12]], "the walk along init_task.tasks, first 12")
    run.check(
        "ps lists what the list holds, and ps itself, which has gone since",
        set(by_pid) - alive <= {max(by_pid)} and alive <= set(by_pid),
        sorted(set(by_pid) ^ alive),
    )
    run.check("the list is in the order of creation", leaders == sorted(leaders), leaders)
    run.check(
        "the head of the list is init_task (swapper, pid 0), which is not in the table",
        k.machine.init_task.pid == 0 and 0 not in by_pid,
    )
    threads = [t for t in k.ps().tasks if t.kind == "thread"]
    run.check(
        "a thread that is no group leader is in no entry of the list",
        bool(threads) and all(t.pid not in by_pid for t in threads),
        threads,
    )
    run.equal(
        "pid 1 is init, pid 2 is kthreadd", (by_pid[1][12], by_pid[2][12], by_pid[2][3]), ("init", "kthreadd", "0")
    )
    # Since 6.9 rescuers say what they are: kworker/R-rcu_gp.
    names = {row[12].removeprefix("kworker/R-"): row for row in rows}
    run.equal(
        "rcu_gp: state I, PRI 60, NI -20", [names.get("rcu_gp", [""] * 13)[n] for n in (0, 5, 6)], ["I", "60", "-20"]
    )
    noted = ["rcu_gp", "rcu_par_gp", "mm_percpu_wq", "ksoftirqd/0"]
    if "rcu_exp_gp_kthr" in {name[:15] for name in names}:
        # Since 6.9 kthread_workers do what the workqueue rcu_par_gp did.
        noted.remove("rcu_par_gp")
    missing = [name for name in noted if name not in names]
    run.check("the kernel threads of the notes are there", not missing, missing)
    later = {"rcu_tasks_rude_", "rcu_tasks_trace"} & {name[:15] for name in names} or {
        n for n in names if n.startswith("rcu_tasks_")
    }
    run.check("the rcu_tasks_ threads exist from 5.10 on, not in 4.19", bool(later) == run.new, sorted(later))
    run.check(
        "WCHAN of the shell is read from its stack: it waits for ps in do_wait()",
        by_pid[terminal.process.pid or 0][9] == "do_wai",
        by_pid[terminal.process.pid or 0][9],
    )
    run.check(
        "ps itself runs: R, WCHAN -",
        by_pid[max(by_pid)][0] == "R" and by_pid[max(by_pid)][9] == "-",
        by_pid[max(by_pid)],
    )
    del threaded


def on_real(run: Run) -> None:
    """Read /proc, which has an entry for each of the list of tasks, while a shell waits and a thread sleeps."""
    pids = run.real.program("resting")
    typed = run.real.type(f"""{pids} &
resting=$!
sleep 0.3
sh -c 'cat /proc/[0-9]*/stat; sleep 0.5; :' &
sleep 0.3
echo "wchan $(cat /proc/$!/wchan)"
wait $!
kill $resting
echo "resting $resting"
""")
    rows = stat_rows(typed.output)
    run.show([f"{row[2]} {row[0]:>6} {row[3]:>6} {row[1]}" for row in list(rows.values())[:14]], "S PID PPID CMD")
    run.check("pid 0, the head of the list, is not in it", 0 not in rows and 1 in rows)
    run.equal("kthreadd is pid 2, a child of swapper (0)", (rows[2][1], rows[2][3]), ("kthreadd", run.expect("0", "1")))
    threaded = int(next(line.split()[1] for line in typed.output.splitlines() if line.startswith("resting")))
    with_it = [pid for pid, row in rows.items() if row[1] == "resting" and abs(pid - threaded) < 3]
    run.equal("a process with two threads is one entry of the list: its leader", (rows[threaded][19], with_it),
              ("2", [threaded]))
    names = {row[1].removeprefix("kworker/R-").removeprefix("kworker/R")[:15]: row for row in rows.values()}
    gp = next(row for name, row in names.items() if name.startswith(("rcu_gp", "-rcu_gp")))
    run.equal("rcu_gp: state I, priority 0 (ps: 60), nice -20", (gp[2], gp[17], gp[18]), ("I", "0", "-20"))
    missing = [name for name in ("ksoftirqd/0", "migration/0") if name not in names]
    run.check("the kernel threads of the notes are there", not missing, missing)
    run.check("the rcu_tasks_ threads exist from 5.10 on", any(name.startswith("rcu_tasks_") for name in names))
    wchan = next(line.split() for line in typed.output.splitlines() if line.startswith("wchan"))
    run.equal("WCHAN of a shell that waits for a program, from its stack: do_wait()", wchan[1], "do_wait")


def in_memory(run: Run, look: Look) -> None:
    """Walk init_task.tasks in the kernel's memory."""
    from taskscope.views.ps import ps_table

    memory = look.memory
    for _ in range(5):
        leaders = list(memory.processes())
        pids = [memory.number(task, "pid") for task in leaders]
        starts = [memory.number(task, "start_time") or 0 for task in leaders]
        # Two CPUs may add in the other order than they took the time.
        late = [pid for pid, one, two in zip(pids[1:], starts, starts[1:], strict=False) if two + 10_000_000 < one]
        if not late or not memory.image.moving:
            break
        memory.forget()
    run.show(list(ps_table(look.found))[:16], "ps -ely of the list's entries, first 15")
    head = memory.init_task()
    run.check("the list's head is init_task, pid 0, which is no entry of it",
              memory.number(head, "pid") == 0 and 0 not in pids)
    run.check("it is in the order of creation", not late, late)
    threads = [row for row in look.rows if row.kind == "thread"]
    run.check("threads that lead no group are in no entry of it", not {row.pid for row in threads} & set(pids), threads)
    kthreadd = look.row(2)
    run.equal("kthreadd is pid 2, a child of swapper (0)", (kthreadd.comm, kthreadd.ppid),
              ("kthreadd", run.expect(0, 1)))
    gp = next((row for row in look.rows if row.kind == "kthread" and "rcu_gp" in (row.about, row.comm)), None)
    run.check("rcu_gp, the rescuer of a workqueue: state I, prio 100 (ps: 60), nice -20",
              gp is not None and (gp.state, gp.prio, gp.nice) == ("I", 100, -20), gp)
    roles = {row.role for row in look.rows}
    run.check("the kernel threads of the notes are there: ksoftirqd, migration, rcu, workers and rescuers",
              {"ksoftirqd", "migration", "rcu", "kworker", "rescuer"} <= roles, sorted(map(str, roles)))
    if any(row.kernel_stack for row in look.rows):
        odd = [row for row in look.rows if row.state == "S" and row.kernel_stack
               and row.wchan not in [entry.partition("+")[0] for entry in row.kernel_stack]]
        run.check("WCHAN is a function of the sleeper's own stack: the first that is not the scheduler's", not odd, odd)
    if look.told is not None:
        told = {row.pid: row for row in look.told.tasks if row.pid in look.cast.values()}
        run.check("/proc has the same entries, names, states and functions waited in",
                  all((row.comm, row.state, row.ppid) == (told[pid].comm, told[pid].state, told[pid].ppid)
                      and (row.state != "S" or row.wchan == told[pid].wchan or not row.kernel_stack)
                      for pid in told for row in [look.row(pid)]), told)


def with_thread(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Have a second thread, and sleep."""
    sys.pthread_create(waiting)
    sys.pause()


def waiting(sys: Sys) -> None:
    """Be the thread."""
    sys.pause()


LAB = Lab(
    name="ps-ely",
    title="the process table, read from init_task.tasks",
    question="Where does ps get its list from, who is in it, and who is not?",
    look="the first rows: init 1, kthreadd 2, and the kernel's own threads with state I, PRI 60, NI -20",
    answer=(
        "Every thread group leader is linked through task_struct.tasks into one circular list whose head is "
        "init_task, the task_struct of "
        "swapper (pid 0).  The head itself is not an entry, so ps never shows pid 0; nor are threads that are not "
        "leaders, "
        "which hang on their leader's thread_group.  copy_process() adds at the tail (list_add_tail_rcu), so the "
        "list is in the order of "
        "creation.  Idle workers sleep in TASK_IDLE, shown as I; a rescuer like rcu_gp has nice -20, which ps -l "
        "prints as "
        "PRI 60.  WCHAN is not stored anywhere: it is the innermost function on the sleeping task's kernel stack "
        "that is not the scheduler's."
    ),
    scenario=scenario,
    memory=in_memory,
    real=on_real,
    real_note=(
        "There are many more kernel threads, and ps has them all; since 5.10 rcu_tasks_… are among them.  C "
        "and TIME are not 0 for what has run.  On later kernels a rescuer is called kworker/R-rcu_gp."
    ),
    needs=("/proc", "memory"),
    mutant=Mutant(
        "a new process is put at the front of the list",
        "kernel.fork:copy_process",
        "list_add_tail_rcu(p.tasks, m.init_task.tasks)",
        "list_add(p.tasks, m.init_task.tasks)",
    ),
)
