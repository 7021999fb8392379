"""Lab ``ps-ejH``: parents and children, indented."""

from __future__ import annotations

from taskscope.labs.evidence import stat_rows
from taskscope.labs.lab import Lab, Run
from taskscope.labs.look import Look
from taskscope.labs.mutant import Mutant


def on_real(run: Run) -> None:
    """Read parents, groups and sessions of all tasks from /proc while a program runs below the shell."""
    typed = run.real.type(f"""{run.real.program("raspbian_proc")} > /dev/null &
sleep 0.2
echo "shell $(cut -d' ' -f4 /proc/$!/stat)"
cat /proc/[0-9]*/stat
kill -9 $!
""")
    rows = stat_rows(typed.output)
    kthreads = [pid for pid, row in rows.items() if int(row[8]) & 0x20_0000 and pid != 2]
    run.check(
        "every kernel thread is a child of kthreadd (2)",
        bool(kthreads) and all(rows[pid][3] == run.expect("2", "1") for pid in kthreads),
        [rows[pid][:4] for pid in kthreads if rows[pid][3] != "2"],
    )
    run.equal("kthreadd and init are children of swapper (0)", (rows[1][3], rows[2][3]), ("0", "0"))
    proc = next(pid for pid, row in rows.items() if row[1] == "raspbian_proc")
    chain = [proc]
    while chain[-1] in rows and chain[-1] != 1 and len(chain) < 20:
        chain.append(int(rows[chain[-1]][3]))
    run.show(" <- ".join(f"{rows[pid][1]} ({pid})" for pid in chain if pid in rows), "who started whom")
    run.check("raspbian_proc stands under its shell, which stands under others, down to init or out of the namespace",
              f"shell {chain[1]}" in typed.output and chain[-1] in (0, 1), chain)
    run.check("kernel threads have no group and no session",
              all(rows[pid][4] == "0" and rows[pid][5] == "0" for pid in kthreads))


def scenario(run: Run) -> None:
    """Read the indentation of ps -ejH and compare it with real_parent."""
    k = run.boot()
    terminal = k.terminal()
    terminal.type("raspbian_proc &")
    k.appears("raspbian_proc")
    table = terminal.type("ps -ejH")
    run.typed("ps -ejH", table)
    lines = [line for line in table.splitlines() if line[:5].strip().isdigit()]
    depth: dict[int, int] = {}
    parent: dict[int, int] = {}
    above: list[int] = []
    for line in lines:
        pid = int(line[:5])
        name = line[36:]
        level = (len(name) - len(name.lstrip())) // 2
        above[level:] = [pid]
        depth[pid] = level
        parent[pid] = above[level - 1] if level else 0
    rows = {t.pid: t for t in k.ps().tasks if t.pid}
    shell = terminal.process.pid or 0
    wrong = [pid for pid in parent if pid in rows and rows[pid].ppid != parent[pid]]
    run.check("each line stands under its parent (real_parent of the task descriptor)", not wrong, wrong)
    kthreads = [t.pid for t in rows.values() if t.kind == "kthread" and t.pid != 2]
    run.check(
        "every kernel thread is a child of kthreadd (2)",
        bool(kthreads) and all(rows[p].ppid == 2 for p in kthreads),
        [p for p in kthreads if rows[p].ppid != 2],
    )
    run.check(
        "kthreadd and init are children of nobody in the list (of swapper, 0)", rows[1].ppid == 0 and rows[2].ppid == 0
    )
    proc = k.pids("raspbian_proc")
    run.check(
        "raspbian_proc stands under the shell, which stands under init",
        bool(proc) and parent.get(proc[0]) == shell and parent.get(shell) == 1,
        (proc, parent.get(shell)),
    )
    run.check(
        "a job is a process group of its own in the shell's session",
        bool(proc) and rows[proc[0]].pgid == proc[0] and rows[proc[0]].sid == shell,
        rows.get(proc[0] if proc else 0),
    )
    run.check(
        "kernel threads have no group and no session", all(rows[p].pgid == 0 and rows[p].sid == 0 for p in kthreads)
    )


def in_memory(run: Run, look: Look) -> None:
    """Follow real_parent and children in the kernel's memory."""
    from taskscope.views.ps import FORMS, ps_table

    lines = [line for line in ps_table(look.found, FORMS["ejH"]) if "kworker" not in line]
    run.show(lines[:24], "ps -ejH, first lines")
    kthreads = [row for row in look.rows if row.kind == "kthread" and row.pid != 2]
    run.check("every kernel thread is a child of kthreadd (2)",
              bool(kthreads) and all(row.real_parent == run.expect(2, 1) for row in kthreads),
              [row.pid for row in kthreads if row.real_parent != 2])
    run.equal("kthreadd and init are children of swapper (0)", [look.row(pid).real_parent for pid in (1, 2)], [0, 0])
    parents = {row.pid: row.real_parent for row in look.rows}
    wrong = [(row.pid, child) for row in look.rows for child in row.children or ()
             if parents.get(child, row.pid) != row.pid]
    run.check("who is on a task's list of children has it as real_parent", not wrong, wrong)
    run.check("kernel threads have no group and no session", all((row.pgid, row.sid) == (0, 0) for row in kthreads))


LAB = Lab(
    name="ps-ejH",
    title="parents and children, indented",
    question="Who is whose child, and where do kernel threads come from?",
    look="the indentation: kthreadd with all kernel threads below it, init with the shell and what it started",
    answer=(
        "There are two families.  Everything in user space descends from init (pid 1), everything in the kernel "
        "from kthreadd (pid 2); "
        "both are children of swapper (pid 0), which rest_init() made them from.  ps draws the tree from PPID, that is "
        "task_struct.real_parent.  PGID and SID of kernel threads are 0, the ids of swapper, which nothing has "
        "changed since."
    ),
    scenario=scenario,
    memory=in_memory,
    real=on_real,
    real_note=(
        "Who types for the lab stands where a login would: init itself in the guest, your shell on the host.  "
        "Each CPU has its own set of kernel threads."
    ),
    needs=("/proc", "memory"),
    mutant=Mutant(
        "a kernel thread is made by whoever asks, not by kthreadd",
        "kernel.fork:copy_process",
        "p.real_parent = current\n",
        "p.real_parent = current if current.mm is not None else m.init_task\n",
    ),
)
