"""``taskscope cpus`` and ``taskscope blocked``: who runs at one moment, and who waits for what."""

from __future__ import annotations

from taskscope.cli.options import Common, verb
from taskscope.cli.output import paint_for, put_bytes, put_lines
from taskscope.cli.source import end, snapshot_of


@verb(
    "cpus",
    takes=("at", "kernel", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope cpus", "this machine's runnable tasks, CPU by CPU"),
        ("taskscope cpus --live", "who runs and who waits for its CPU, out of the kernel's memory"),
        ("taskscope cpus --core vmcore", "what each CPU did when the machine crashed"),
    ),
)
def command(common: Common) -> None:
    """Show what each CPU runs, and which tasks wait for it.

    * is the task that runs; the others in state R wait.  /proc does not tell one from the other: then it is ?.  COUNT
    is preempt_count of the task that runs, where the source knows it.
    """
    from taskscope.views.cpus import cpus_json, cpus_table

    found = snapshot_of(common, fields=("on_cpu",))
    if common.json:
        put_bytes(cpus_json(found), common)
    else:
        put_lines(cpus_table(found, paint=paint_for(common)), common)
    end(common, found.wounds)


@verb(
    "blocked",
    takes=("at", "kernel", "json"),
    file=False,
    default=False,
    examples=(
        ("taskscope blocked", "who of this machine runs or is in D, and what for"),
        ("taskscope blocked --core vmcore", "who held what when the machine hung"),
        ("taskscope blocked --live --json", "as data, with kernel stacks"),
    ),
)
def blocked(common: Common) -> None:
    """Show the tasks in states R and D, and what they wait for: most tasks sleep, many of these point to trouble.

    WAITS is told by the functions on the kernel stack (root, or kernel memory): mutex, rwsem, I/O, vfork child …; FOR
    is who holds or is that, which only kernel memory tells.
    """
    from taskscope.views.cpus import blocked_json, blocked_table

    found = snapshot_of(common, fields=("wchan", "kernel_stack"), stacks=common.json and common.input is None)
    if common.json:
        put_bytes(blocked_json(found), common)
    else:
        put_lines(blocked_table(found, paint=paint_for(common)), common)
    end(common, found.wounds)
