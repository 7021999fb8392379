"""The schemas of what is told of tasks at one moment: ps, tree, task, stack, cpus, blocked, diff."""

from __future__ import annotations

from taskscope.cli.schemas.build import (
    KINDS,
    LIFE,
    Schema,
    address,
    array,
    count,
    flag,
    integer,
    mapping,
    maybe,
    one_line,
    record,
    text,
    word,
)
from taskscope.cli.schemas.recorded import tree_of_lives

_STACK = "functions on its kernel stack, innermost first; null: it runs, or has none"
_FRAMES = "the same as function+offset/size, as /proc/PID/stack has them"
_SIGNALS = "bit n - 1 for signal n"
_WHY = "why a value is null, by its key"


def _row() -> dict[str, Schema]:
    ids = {name: maybe(count(about)) for name, about in (
        ("uid", "the effective one, as ps shows"), ("ruid", "the real one"), ("suid", "the saved one"),
        ("fsuid", "that of the file system"), ("gid", "the effective one"), ("rgid", "the real one"),
        ("sgid", "the saved one"), ("fsgid", "that of the file system"))}
    info = record({
        "flags": maybe(count("TIF_*")), "preempt_count": maybe(integer()), "cpu": maybe(count()),
        "cpu_context": maybe(mapping(address()), "registers saved at the last switch (32-bit ARM)"),
    }, "what stands in thread_info")
    return {
        "pid": count("of the task itself, what gettid() returns"),
        "tgid": maybe(count("of its process: the pid of the leader")),
        "comm": text("its name, at most 15 bytes; kernel threads and idle tasks have longer ones"),
        "state": maybe(text("one letter as in ps(1)")),
        "flags": maybe(count("PF_*")), "exit_state": maybe(count("EXIT_*: 32 zombie, 16 dead")),
        "exit_code": maybe(integer("a wait status: signal, or status << 8")),
        "real_parent": maybe(count("who created or adopted it")),
        "parent": maybe(count("who gets its SIGCHLD: its tracer if it is traced")),
        "tracer": maybe(count("who traces it")), "group_leader": maybe(count()),
        "children": maybe(array(count()), "pids, in the order of the kernel's list"),
        "utime": maybe(count("ns in user mode, of this task alone, as the kernel accounts them")),
        "stime": maybe(count("ns in kernel mode")),
        "sum_exec_runtime": maybe(count("ns on a cpu; in a recording since its start")),
        "start_time": maybe(integer("birth, ns of the source's clock")),
        "last_arrival": maybe(count("when it last came on a cpu, ns of sched_clock()")),
        "run_delay": maybe(count("ns that it waited for a cpu")), "pcount": maybe(count("times that it came on a cpu")),
        "cpu": maybe(count()), "on_cpu": maybe(flag("it runs")),
        "prio": maybe(integer("0 to 139; 120 is nice 0; negative: deadline")), "static_prio": maybe(integer()),
        "rt_priority": maybe(count()), "policy": maybe(count("SCHED_*")),
        "on_rq": maybe(flag("it runs, or waits for a cpu")),
        "address": maybe(address("of the task_struct")), "stack": maybe(address("of the kernel stack, its lowest one")),
        "wchan": maybe(text("the function that it sleeps in")), "thread_info": maybe(info),
        "kernel_stack": maybe(array(text()), _STACK),
        "generation": maybe(count("in a recording: how many tasks bore this pid before it")),
        "ppid": maybe(count("as ps shows: the process that created or adopted it")), "kind": maybe(word(*KINDS)),
        "forked": maybe(flag("it has not called execve since its birth")),
        "args": maybe(text("the command line, NUL bytes as blanks")),
        "cputime": maybe(count("ns on a cpu as ps counts them: of a leader its whole process, ended threads too")),
        "nice": maybe(integer()), "pgid": maybe(integer("process group")), "sid": maybe(integer("session")),
        "tty": maybe(text("its terminal; null: none")),
        "tpgid": maybe(integer("the terminal's foreground process group; -1: no terminal")), **ids,
        "rss_kib": maybe(count()), "size_kib": maybe(count("of its address space")),
        "locked_kib": maybe(count("memory locked into RAM")), "threads": maybe(count("of its process")),
        "min_flt": maybe(count("page faults without reading; of a leader those of its process")),
        "maj_flt": maybe(count("those that read")), "nvcsw": maybe(count("voluntary context switches")),
        "nivcsw": maybe(count("involuntary ones")), "pending": maybe(count(f"signals sent to the thread, {_SIGNALS}")),
        "shared_pending": maybe(count("and to its process")), "blocked": maybe(count(_SIGNALS)),
        "ignored": maybe(count(_SIGNALS)), "caught": maybe(count(f"those with a handler, {_SIGNALS}")),
        "cgroup": maybe(text("hierarchy:controllers:path, where it is not the root; several with commas between")),
        "namespaces": maybe(mapping(count()), "inode number of each"),
        "thread_fn": maybe(text("of a kernel thread: the function that it runs")),
        "role": maybe(text("of a kernel thread: what it is for, told by that: kworker, irq, ksoftirqd, …")),
        "about": maybe(text("of a kernel thread: what it works on: a work and its queue, an interrupt")),
        "waits": maybe(text("in state D: what for: mutex, I/O, vfork child, …")),
        "waits_for": maybe(count("the pid of who holds or is that")),
    }


def _of_a_moment() -> Schema:
    keys = {**_row(), "at": maybe(integer("the moment, ns of the source's clock")),
            "unavailable": mapping(text(), _WHY)}
    return record(keys, "A task at a moment.", optional=("kernel_stack",))


def ps() -> Schema:
    """Return the schema of ``ps --json``."""
    return one_line("ps", _of_a_moment(), "One task at a moment. Keys are the same whatever the source; "
                    "kernel_stack is there with --stacks only.")


def tree() -> Schema:
    """Return the schema of ``tree --json``."""
    either = [{**tree_of_lives()}, {"title": "of a moment", **_of_a_moment()}]
    return one_line("tree", {"oneOf": either}, "One task: of a recording as a whole, or of a moment (--at, "
                    "/proc, a dump, a guest), as `ps --json` has it.", life=LIFE)


def task() -> Schema:
    """Return the schema of ``task --json``."""
    value = {"type": ["integer", "string", "null"]}
    keys = {
        **_row(), "frames": maybe(array(text()), _FRAMES), "unavailable": mapping(text(), _WHY),
        "members": mapping(value, "members of task_struct, and of what it points to, by the kernel's names; addresses "
                           "as hex strings"),
        "thread_info_address": maybe(address()),
        "thread_info_members": maybe(mapping({"type": ["integer", "string"]}), "by the kernel's names"),
        "thread_pids": array(count(), "of its process"),
        "stack_use": maybe(record({
            "low": address("its lowest one"), "size": count("bytes"), "used": count("bytes from its top to the deepest "
                                                                                   "that was ever written"),
            "whole": flag("STACK_END_MAGIC still stands at its end"),
        }, "the kernel stack")),
        "reaper": maybe(record({"pid": count(), "comm": text(), "how": word("thread", "subreaper", "init")}),
                        "who would adopt its children if it died now"),
        "every": maybe(mapping({"type": ["integer", "string"]}), "with -v: all members of task_struct"),
    }
    return one_line("task", record(keys), "One task descriptor: what `ps --json` says of the task, then its members.")


def stack() -> Schema:
    """Return the schema of ``stack --json``."""
    keys = {"pid": count(), "comm": text(), "state": text("one letter as in ps(1)"),
            "kernel_stack": maybe(array(text()), _STACK), "frames": maybe(array(text()), _FRAMES),
            "unavailable": mapping(text(), "why kernel_stack is null")}
    return one_line("stack", record(keys), "The kernel stack of one task.")


def cpus() -> Schema:
    """Return the schema of ``cpus --json``."""
    who = record({"pid": count(), "comm": text(), "prio": maybe(integer())}, "A task.")
    keys = {"cpu": count(), "current": maybe(who, "who runs there; null: not known"),
            "preempt_count": maybe(integer("of that one")),
            "waiting": maybe(array(who), "who waits for this cpu; null: it is not known who runs and who waits"),
            "runnable": array(who, "both, without the idle task")}
    return one_line("cpus", record(keys), "One CPU at a moment.")


def blocked() -> Schema:
    """Return the schema of ``blocked --json``."""
    row = _row()
    keys = {"pid": row["pid"], "comm": row["comm"], "state": word("R", "D"), "cpu": row["cpu"], "on_cpu": row["on_cpu"],
            **{name: row[name] for name in ("waits", "waits_for", "wchan", "kernel_stack")}}
    return one_line("blocked", record(keys), "One task that runs or waits for a CPU (R), or waits where no signal "
                    "disturbs it (D).")


def diff() -> Schema:
    """Return the schema of ``diff --json``."""
    value = {"type": ["integer", "string", "boolean", "null"]}
    keys = {"pid": count(), "comm": text(), "how": word("new", "gone", "changed"),
            "changes": mapping({**array(value), "minItems": 2, "maxItems": 2}, "key of `ps --json`: before, after"),
            "used": maybe(integer("ns on a CPU meanwhile")),
            "inferred": flag("that both are the same task is told by the pid alone")}
    return one_line("diff", record(keys), "What became of one task between two moments.")
