"""The schemas of what is told of recordings: lives, life, report, sched, kills, forks, tree, record --follow."""

from __future__ import annotations

from taskscope.cli.schemas.build import (
    CAUSES,
    HOW,
    KINDS,
    LIFE,
    NS,
    Schema,
    array,
    count,
    flag,
    inferred,
    integer,
    life,
    mapping,
    maybe,
    one_line,
    record,
    refers,
    stack,
    switches,
    text,
    times,
    word,
)

RESULT = "0 delivered, 1 ignored, 2 already pending, 3 and 4 lost for want of memory"
_COMM = "at most 15 bytes; bytes that are not UTF-8 are shown as \\xNN"


def lives(verb: str = "lives") -> Schema:
    """Return the schema of ``lives --json`` and ``life --json``."""
    born = record({
        "at": integer(NS), "by": maybe(life(), "the creator"), "how": maybe(word(*HOW)),
        "clone_flags": maybe(integer("as in task_newtask: without the exit signal")),
        "exit_signal": maybe(integer("the signal that tells the parent of the end")), "stack": stack(),
        "inferred": inferred(),
    }, "The creation.")
    end = record({
        "at": integer(NS), "code": maybe(integer("status, when it exited", least=0, most=255)),
        "signal": maybe(integer("the signal that ended it")), "core": maybe(flag("whether core was dumped")),
        "cause": maybe(word(*CAUSES, about="group_exit, exec: a thread that died because its group did, or because "
                            "another thread called execve; oom: by the OOM killer")),
        "killer": maybe(life(), "who sent the signal"), "stack": stack(), "inferred": inferred(),
    }, "The end.")
    signal = record({
        "at": integer(NS), "sig": integer("its number"), "code": integer("si_code"),
        "from": maybe(life(), "the sender; null: an interrupt"), "result": integer(RESULT),
        "delivered_at": maybe(integer(NS)),
    }, "A signal.")
    adoption = record({"at": maybe(integer(NS)), "by": maybe(life()), "inferred": inferred()}, "A new parent.")
    keys = {
        "pid": count("the task's own id (what gettid() returns), in the initial pid namespace"),
        "generation": count("how many tasks bore this pid before it in the recording; of an idle task its cpu"),
        "tgid": maybe(integer("thread group: the pid of its leader")),
        "kind": maybe(word(*KINDS, about="process: leader of a thread group; idle: swapper")),
        "comm": text(f"the last name known, {_COMM}"),
        "comms": array(record({"at": integer("from when on"), "comm": text()}, "A name."),
                       "the names it bore, in order"),
        "parent": maybe(life(), "the real parent at creation; with CLONE_PARENT or CLONE_THREAD the creator's parent"),
        "born": maybe(born, "the creation; null: the recording found the task running"),
        "execs": array(record({
            "at": integer(NS), "filename": text(),
            "old_pid": integer("differs from pid when a thread that was not the leader called execve"),
        }, "A program that the task began to run."), "programs that it began to run"),
        "signals": array(signal, "signals generated for this task"),
        "exit": maybe(end, "the end; null: it lived when the recording ended"),
        "reaped": maybe(record({
            "at": integer(f"{NS}; at the latest, where `inferred` says so"),
            "by": maybe(life(), "the parent in wait(), or the task itself where nobody has to"), "inferred": inferred(),
        }, "The reaping."), "when the zombie was collected"),
        "freed": maybe(record({"at": integer(NS)}, "The release."),
                       "when the last reference to the task_struct was dropped"),
        "adopted": array(adoption, "new parents, in order"),
        "time": times(), "switches": switches(), "wakeups": count(), "migrations": count(),
        "cpus": {**array(count(), "the cpus that it was seen on"), "uniqueItems": True},
        "gaps": count("places where lost events touch this life; what spans one is unknown"),
        "inferred": inferred(),
    }
    return one_line(verb, record(keys), "The life of one task, as a recording shows it. Unknown is null.", life=LIFE)


def report() -> Schema:
    """Return the schema of ``report --json``."""
    value = {"anyOf": [{"type": ["integer", "string"]}, array(integer())]}
    keys = {
        "ts": integer("ns of the recording's clock (cycles where it counts cycles)"), "cpu": count(),
        "comm": text("name, at that time, of the task that was current"),
        "pid": integer("the task that was current, also where an interrupt wrote the event"),
        "flags": text("as in the fourth column of tracefs' trace: irqs off, need-resched, context, preempt depth, "
                      "migrate-disable depth"),
        "event": maybe(text("its name; null: the recording has an event whose format it does not carry")),
        "fields": mapping(value, "the event's own fields, raw, by name"),
        "stack": stack("kernel call stack, innermost first; the frames of the tracing itself are left out"),
    }
    return one_line("report", record(keys), "One event.")


def sched() -> Schema:
    """Return the schema of ``sched --json``."""
    latency = record({
        "count": count("wakeups after which it was seen to run"), "mean": maybe(count("ns")), "p99": maybe(count("ns")),
        "max": maybe(count("ns")),
    }, "from a wakeup until it ran")
    keys = {**LIFE["properties"], "comm": text(), "kind": maybe(word(*KINDS)), "time": times(), "latency": latency,
            "switches": switches(), "migrations": count(), "gaps": count("places where lost events touch this life")}
    return one_line("sched", record(keys), "How one task was scheduled.")


def kills() -> Schema:
    """Return the schema of ``kills --json``."""
    keys = {
        "at": integer(NS), "cpu": maybe(count("where it was sent")), "sig": integer("its number"),
        "code": maybe(integer("si_code; null here, in result and in delivered_at: nobody was seen sending it, but "
                              "somebody died of it")),
        "from": maybe(life(), "the sender; null: an interrupt, or unknown"), "to": life("who got it"),
        "comm": text("the last name of who got it"), "result": maybe(integer(RESULT)),
        "delivered_at": maybe(integer(NS)), "deadly": flag("it ended who got it"),
    }
    return one_line("kills", record(keys), "One signal, or one death by a signal.", life=LIFE)


def forks() -> Schema:
    """Return the schema of ``forks --json``."""
    keys = {
        "at": integer(NS), "cpu": maybe(count("where its creator ran")), "by": maybe(life(), "the creator"),
        "child": life("who was created"), "comm": text("the child's last name"), "how": maybe(word(*HOW)),
        "clone_flags": maybe(integer("as in task_newtask: without the exit signal")), "exit_signal": maybe(integer()),
        "stack": stack("the creator's kernel call stack, innermost first; null where it was not recorded"),
    }
    return one_line("forks", record(keys), "One creation.", life=LIFE)


def tree_of_lives() -> Schema:
    """Return the object of ``tree --json`` of a recording as a whole."""
    keys = {
        **LIFE["properties"], "depth": count("0: a root"), "parent": maybe(life(), "under which it stands"),
        "kind": maybe(word(*KINDS)), "comm": text("the last name"),
        "state": maybe(text("one letter as in ps(1), X: it has ended")),
        "end": maybe(text("how it ended, as the tree shows it")),
        "adopted": array(maybe(life()), "new parents, in order"),
        "gaps": count("places where lost events touch this life"), "inferred": inferred(),
    }
    return {**record(keys, "A task of a recording; parents come before their children."), "title": "of a recording"}


def follow() -> Schema:
    """Return the schema of ``record --follow --json``."""
    who = record({"pid": integer(least=1), "comm": maybe(text())}, "A task as it was known at that moment.")
    head = {"at": integer(NS), "cpu": count("where it was recorded"),
            "late": flag("it was recorded before what earlier lines tell; its page was read late")}
    task = {
        **head, "pid": integer("the task that it happened to", least=1),
        "tgid": maybe(integer("its thread group; null: the task was found running, and nothing says whether it is a "
                              "thread")),
        "kind": maybe(word("process", "thread", "kthread", about="of a task that was found running, kthread is told "
                           "from its name or parent")),
        "comm": maybe(text(f"the name that it bears from now on, {_COMM}")),
        "parent": maybe(refers("who"), "the process whose child it is; null too when that one has ended, or may have "
                        "where events were lost"),
    }
    end = record({
        "code": maybe(integer("when it exited by itself", least=0, most=255)),
        "signal": maybe(integer("what ended it")),
        "core": maybe(flag("whether a core was dumped")), "cause": maybe(word(*CAUSES)),
        "killer": maybe(refers("who"), "who sent the signal"),
        "si_code": maybe(integer("with which si_code; greater than 0: the kernel")), "inferred": inferred(),
    }, "how it ended")
    own: dict[str, tuple[str, dict[str, Schema]]] = {
        "fork": ("The task was created.", {
            **task, "by": maybe(refers("who"), "the creator"), "how": maybe(word(*HOW)),
            "clone_flags": maybe(integer("as in task_newtask: without the exit signal"))}),
        "exec": ("The task began to run a program.", {
            **task, "filename": text("the program"),
            "old_pid": integer("another one than pid when a thread that was not the leader called execve"),
            "old_comm": maybe(text("the name that it bore before"))}),
        "kill": ("Somebody sent the task a signal. What the kernel sends by itself, the deaths that it causes tell.", {
            **task, "sig": integer("signal number"),
            "code": integer("si_code: 0 kill(2), -6 tkill(2) and so on", most=0),
            "from": maybe(refers("who"), "the sender; null: an interrupt, of a timer say"),
            "group": flag("sent to the whole thread group"),
            "result": integer("0 delivered, 1 ignored (told of SIGCONT alone, which continues a stopped task all the "
                              "same), 2 already pending, 3 and 4 lost", least=0, most=4)}),
        "exit": ("The task ended; of a process, its last thread did.", {
            **task, "exit": end, "lived": maybe(integer("ns since its birth; null: it was found running"))}),
        "lost": ("The kernel could not keep events of this cpu, up to this time.", {
            **head, "count": maybe(integer("how many; null: unknown", least=1))}),
    }
    kinds = [{"title": name, **record({"event": {"const": name}, **keys}, about)}
             for name, (about, keys) in own.items()]
    return one_line("record --follow", {"oneOf": kinds}, "One happening, told by its event. Unknown is null.", who=who)
