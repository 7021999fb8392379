"""Lab ``task-struct``: one task descriptor, every bit named."""

from __future__ import annotations

from collections import Counter

from taskscope.labs.lab import Lab, Run
from taskscope.labs.look import Look
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys


def scenario(run: Run) -> None:
    """Show task descriptors member by member; count the tasks by state on a healthy machine and on one in trouble."""
    from taskscope.views.task import task_lines

    k = run.boot()
    terminal = k.terminal()
    terminal.type("raspbian_proc &")
    proc = k.appears("raspbian_proc")
    k.run(s=1)
    detail = k.task(proc)
    lines = list(task_lines(detail))
    run.show(lines, f"task {proc}")
    text = "\n".join(lines)
    run.equal(
        "comm, pid, tgid",
        (detail.members["comm"], detail.members["pid"], detail.members["tgid"]),
        ("raspbian_proc", proc, proc),
    )
    state = detail.members.get("__state" if run.new else "state")
    run.equal(f"the member is called {'__state' if run.new else 'state'}; 1: it sleeps interruptibly", state, 1)
    run.check("every bit of flags has a name", "PF_" in text and "unknown" not in text.lower(), text)
    kthreadd = k.task(2)
    flags = "\n".join(task_lines(kthreadd))
    run.check("kthreadd: PF_KTHREAD, PF_NOFREEZE", "PF_KTHREAD" in flags and "PF_NOFREEZE" in flags, flags)
    idle = k.task(0)
    run.check("swapper: PF_IDLE", "PF_IDLE" in "\n".join(task_lines(idle)))
    terminal.type("sleep 1 &")
    child = k.appears("sleep")
    k.find(terminal.process.pid)
    k.spawn(careless, name="careless")
    k.run(s=0.2)
    zombie = next((t for t in k.ps().tasks if t.state == "Z"), None)
    run.check(
        "a zombie: exit_state 0x20 (EXIT_ZOMBIE), exit_code is the wait status 3 << 8",
        zombie is not None
        and (k.task(zombie.pid).members["exit_state"], k.task(zombie.pid).members["exit_code"]) == (0x20, 0x300),
        zombie and k.task(zombie.pid).members,
    )
    if zombie is not None:
        shown = "\n".join(task_lines(k.task(zombie.pid)))
        run.check(
            "its bits are named too: EXIT_ZOMBIE, PF_EXITING", "EXIT_ZOMBIE" in shown and "PF_EXITING" in shown, shown
        )
    states = Counter(t.state for t in k.ps().tasks if t.pid)
    run.show([f"{letter}: {count}" for letter, count in states.most_common()], "tasks by state, healthy")
    run.check("most tasks sleep", states["S"] + states["I"] > 0.8 * sum(states.values()), states)
    for _ in range(4):
        k.spawn(blocked, name="blocked")
        k.spawn(busy, name="busy")
    k.run(s=0.3)
    trouble = [t for t in k.ps().tasks if t.state in "RD" and t.pid]
    run.show(
        [f"{t.state} {t.pid:5d} {t.comm:<16} {t.wchan or 'wants a CPU'}" for t in trouble],
        "in trouble: who is R or D, and what for",
    )
    run.check(
        "the D tasks wait for their vfork children, the R tasks for a CPU",
        sum(t.state == "D" and t.wchan is not None for t in trouble) >= 4 and sum(t.state == "R" for t in trouble) >= 4,
        trouble,
    )
    del child


def in_memory(run: Run, look: Look) -> None:
    """Show a descriptor of a real kernel, count the tasks by state, and say what the R and D ones wait for."""
    from taskscope.views.cpus import blocked_table, states
    from taskscope.views.task import task_lines

    sleeper = look.of("sleeper") or next(row for row in look.rows if row.kind == "process" and row.state == "S")
    detail = look.detail(sleeper.pid)
    lines = list(task_lines(detail, look.arch))
    run.show(lines, f"task {sleeper.pid}")
    member = "__state" if "__state" in detail.members else "state"
    run.equal(f"comm, pid, tgid, and {member}: 1, it sleeps interruptibly",
              # Since v6.1 TASK_FREEZABLE may stand beside it.
              [detail.members[name] for name in ("comm", "pid", "tgid")] + [detail.members[member] & 0xFF],
              [sleeper.comm, sleeper.pid, sleeper.pid, run.expect(1, 2)])
    shown = {row.pid: "\n".join(task_lines(look.detail(row.pid), look.arch)) for row in look.rows[:24]}
    run.check("every bit of flags has a name", all("PF_" in text or "flags                        0x0" in text
              for text in shown.values()) and not any("unknown" in text.lower() for text in shown.values()))
    run.check("kthreadd: PF_KTHREAD, PF_NOFREEZE", "PF_KTHREAD" in shown[2] and "PF_NOFREEZE" in shown[2], shown[2])
    zombies = [row for row in look.rows if row.state == "Z" and row.kind == "process"]
    run.check("a zombie: exit_state 0x20 (EXIT_ZOMBIE), PF_EXITING, no memory any more",
              bool(zombies or not look.cast)
              and all(row.exit_state == 0x20 and (row.flags or 0) & 0x4 and row.rss_kib == 0 for row in zombies),
              zombies)
    if (mine := look.of("zombie")) is not None:
        run.equal("exit_code is the wait status: 3 << 8", mine.exit_code, 0x300)
    counted = dict(states(look.found))
    run.show(list(blocked_table(look.found)), "the count by state, and what the R and D ones wait for")
    run.check("most tasks sleep", counted.get("S", 0) + counted.get("I", 0) > 0.7 * sum(counted.values()), counted)
    vforkers = [row for row in look.rows if row.waits == "vfork child"]
    if look.cast and any(row.kernel_stack for row in look.rows):
        run.check("who is in D waits for its vfork child, which is found by vfork_done",
                  [row.pid for row in vforkers if row.pid == look.cast["vforker"]] == [look.cast["vforker"]]
                  and all(row.waits_for is not None and look.row(row.waits_for).ppid == row.pid for row in vforkers),
                  vforkers)
    for name in look.cast:
        told, row = look.proc(name), look.of(name)
        if told is not None and row is not None and name != "busy":
            run.check(f"{name}: /proc says the same of state, flags and parents",
                      (told.state, told.flags, told.ppid, told.tracer) == (row.state, row.flags, row.ppid, row.tracer),
                      (told, row))


def careless(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Leave a zombie with exit code 3."""
    if sys.fork() == 0:
        sys._exit(3)
    sys.nanosleep(3_000_000_000)


def blocked(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Wait in D for a child that sleeps."""
    if sys.vfork() == 0:
        sys.nanosleep(2_000_000_000)
        sys._exit(0)


def busy(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Compute for two seconds."""
    sys.run_for(2_000_000_000)


LAB = Lab(
    name="task-struct",
    title="one task descriptor, every bit named",
    question="What does the kernel know of a process, and what does it mean if many tasks are R or D?",
    look="the members of the descriptor with their bits, then the count by state",
    answer=(
        "state says whether the task can run (0), sleeps interruptibly (1) or not (2); flags (PF_…) what kind of "
        "task it is and how far its death has come; exit_state (0x20 zombie, 0x10 dead) and exit_code how it "
        "ended.  On a healthy machine nearly "
        "all sleep.  Many R tasks want more CPUs than there are; many D tasks wait for something that does not "
        "come: what for is on their stacks (WCHAN)."
    ),
    scenario=scenario,
    memory=in_memory,
    real_note=(
        "The member is called __state since 5.14, and since 6.1 a sleeper that may be frozen has "
        "TASK_FREEZABLE in it.  Memory tells what /proc does not: every member has its type from the kernel "
        "itself."
    ),
    needs=("memory",),
    mutant=Mutant(
        "a sleep is not interruptible",
        "kernel.time.hrtimer:do_nanosleep",
        "current.state = TASK_INTERRUPTIBLE",
        "current.state = 2",
    ),
)
