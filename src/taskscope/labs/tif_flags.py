"""Lab ``tif-flags``: the bits of thread_info.flags, on the way into the kernel and out of it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal

from taskscope.abi.ptrace import PtraceRequest
from taskscope.abi.threadinfo import SYSCALL_WORK, THREAD_FLAGS, work_masks
from taskscope.labs.lab import Lab, Run
from taskscope.labs.look import Look
from taskscope.labs.mutant import Mutant
from taskscope.model.flavours import FLAVOURS
from taskscope.model.user.libc import Sys

SIGUSR1 = 10
#: what the study notes list for the Raspberry Pi
NOTES = {
    "SIGPENDING": 0,
    "NEED_RESCHED": 1,
    "NOTIFY_RESUME": 2,
    "UPROBE": 3,
    "SYSCALL_TRACE": 4,
    "MEMDIE": 18,
    "RESTORE_SIGMASK": 20,
}
Seen = list[tuple[str, bool]]


def scenario(run: Run) -> None:
    """Follow four flags from where they are set to where they are cleared, and turn the slow way of system calls on."""
    flavour = FLAVOURS[run.flavour]
    family: Literal["arm", "x86"] = "x86" if run.new else "arm"
    bits = {row.name.removeprefix("TIF_"): row.value for row in THREAD_FLAGS[family].at(flavour.version)}
    masks = work_masks(family, flavour.version)
    k = run.boot()
    loop = run.name("exit_to_usermode_loop") if run.new else "do_work_pending"
    run.show(
        [f"{bit.bit_length() - 1:>3}  TIF_{name}" for name, bit in sorted(bits.items(), key=lambda row: row[1])]
        + [f"{mask:#06x}  {name}" for name, mask in masks.items()],
        f"thread_info.flags of {run.flavour}",
    )
    if not run.new:
        run.equal(
            "the numbers are those of the notes", {name: bits[name].bit_length() - 1 for name in NOTES}, NOTES
        )
    work = k.machine.work_mask
    tested = masks["EXIT_TO_USER_MODE_WORK" if run.new else "_TIF_WORK_MASK"]
    run.check(
        "SIGPENDING, NEED_RESCHED and NOTIFY_RESUME, with this kernel's numbers, lead into the loop on the way out",
        work == bits["SIGPENDING"] | bits["NEED_RESCHED"] | bits["NOTIFY_RESUME"] and not work & ~tested,
        f"{work:#x}",
    )
    signal(run, k, loop, bits["SIGPENDING"])
    resched(run, k, loop, bits["NEED_RESCHED"])
    resume(run, k, loop, bits["NOTIFY_RESUME"])
    syscalls(run, k, bits)


def follow(k: Any, stack: ExitStack, comm: str, bit: int, points: tuple[str, ...], seen: Seen) -> None:
    """Note at the entry of each function whether the task of that name has the flag; of others, who runs there."""

    def point(name: str) -> Any:
        def note(*args: Any) -> None:
            # The first task among the arguments is the one that a setter is about; elsewhere it is the running one.
            about = next((arg for arg in args if hasattr(arg, "thread_info")), k.running())
            if about.comm == comm:
                seen.append((name, bool(about.thread_info.flags & bit)))

        return note

    for name in points:
        stack.enter_context(k.probe(name, point(name)))


def way(seen: Seen, *points: str) -> Seen:
    """Return the first pass through the points, in this order, beginning with one at which the flag is not set."""
    found: Seen = []
    for name, flag in seen:
        if len(found) < len(points) and name == points[len(found)] and (found or not flag):
            found.append((name, flag))
    return found


def show(run: Run, name: str, found: Seen) -> None:
    """Show a pass."""
    run.show([f"{'set    ' if flag else 'not set'} on entry of {where}()" for where, flag in found], name)


def signal(run: Run, k: Any, loop: str, bit: int) -> None:
    """Send a signal to a process that computes."""
    seen: Seen = []
    points = ("signal_wake_up_state", loop, "get_signal", "handle_signal")
    with ExitStack() as stack:
        follow(k, stack, "handler", bit, points, seen)
        p = k.spawn(handles, name="handler")
        k.run(until=lambda: "ready" in p.text, s=1)
        k.spawn(sends, str(p.pid), name="sender")
        k.run(s=0.3)
    found = way(seen, *points)
    show(run, "TIF_SIGPENDING of a process that gets a signal while it computes", found)
    run.equal(
        "TIF_SIGPENDING: set by signal_wake_up_state(), seen on the way out, cleared when get_signal() has taken the "
        "last signal",
        found,
        [(points[0], False), (points[1], True), (points[2], True), (points[3], False)],
    )
    run.check("the handler has run", "handled" in p.text, p.text)


def resched(run: Run, k: Any, loop: str, bit: int) -> None:
    """Let two processes compute on one CPU."""
    seen: Seen = []
    points = ("resched_curr", loop, "schedule", "sched_switch")
    with ExitStack() as stack:

        def setter(rq: Any, *_: Any) -> None:
            if rq.curr.comm == "hog":
                seen.append(("resched_curr", bool(rq.curr.thread_info.flags & bit)))

        def switch(_preempt: Any, prev: Any, *_: Any) -> None:
            if prev.comm == "hog":
                seen.append(("sched_switch", bool(prev.thread_info.flags & bit)))

        stack.enter_context(k.probe("resched_curr", setter))
        follow(k, stack, "hog", bit, (loop, "schedule"), seen)
        stack.enter_context(k.probe("sched_switch", switch))
        for _ in range(2):
            k.spawn(computes, name="hog")
        k.run(s=0.4)
    found = way(seen, *points)
    show(run, "TIF_NEED_RESCHED of one of two processes that compute on one CPU", found)
    run.equal(
        "TIF_NEED_RESCHED: set by resched_curr() in the tick, seen on the way out, cleared before the switch",
        found,
        [(points[0], False), (points[1], True), (points[2], True), (points[3], False)],
    )


def resume(run: Run, k: Any, loop: str, bit: int) -> None:
    """Let a process drop the last reference to a file."""
    seen: Seen = []
    points = ("set_notify_resume", loop, "task_work_run", "____fput")
    with ExitStack() as stack:
        follow(k, stack, "closer", bit, points, seen)
        k.spawn(drops, name="closer")
        k.run(s=0.1)
    found = way(seen, *points)
    show(run, "TIF_NOTIFY_RESUME of a process that drops a file with dup2()", found)
    run.equal(
        "TIF_NOTIFY_RESUME: set by task_work_add(), seen on the way out, cleared before the work is done",
        found,
        [(points[0], False), (points[1], True), (points[2], False), (points[3], False)],
    )


def syscalls(run: Run, k: Any, bits: dict[str, int]) -> None:
    """Send the system calls of one process, and then of all, the long way."""
    work = FLAVOURS[run.flavour].syscall_work_bits
    word = "syscall_work" if run.new else "flags"
    if run.new:
        run.show(
            [f"{row.value:#04x}  {row.name}" for row in SYSCALL_WORK.at(FLAVOURS[run.flavour].version)],
            "thread_info.syscall_work: since v5.11 the flags of system calls stand in a word of their own",
        )
    seen: list[tuple[str, bool]] = []
    leaves = "syscall_exit_work" if run.new else "syscall_trace_exit"

    def note(where: str) -> Any:
        def noted(*_: Any) -> None:
            if k.running().comm == "traced":
                seen.append((where, bool(getattr(k.running().thread_info, word) & work.SYSCALL_TRACE)))

        return noted

    p = k.spawn(asks, name="traced")
    k.run(until=lambda: "ready" in p.text, s=1)
    task = k.find(p.pid)
    before = getattr(task.thread_info, word)
    with ExitStack() as stack:
        for where in ("syscall_trace_enter", leaves):
            stack.enter_context(k.probe(where, note(where)))
        tracer = k.spawn(follows, str(p.pid), name="tracer")
        k.run(until=lambda: "done" in tracer.text, s=1)
    after = getattr(task.thread_info, word)
    run.show([f"{'set    ' if flag else 'not set'} on entry of {where}()" for where, flag in seen], "SYSCALL_TRACE")
    run.check(
        "PTRACE_SYSCALL sets SYSCALL_TRACE: the next calls take the long way in and out; PTRACE_DETACH clears it",
        not before & work.SYSCALL_TRACE
        and not after & work.SYSCALL_TRACE
        and ("syscall_trace_enter", True) in seen
        and (leaves, True) in seen,
        (before, seen, after),
    )
    counts = []
    for on in (True, False):
        k.write("/sys/kernel/tracing/events/raw_syscalls/enable", "1" if on else "0")
        tasks = k.machine_tasks()
        counts.append(sum(bool(getattr(t.thread_info, word) & work.SYSCALL_TRACEPOINT) for t in tasks) == len(tasks))
        counts.append(not any(getattr(t.thread_info, word) & work.SYSCALL_TRACEPOINT for t in tasks))
    run.equal(
        "SYSCALL_TRACEPOINT is set in every task while an event of system calls is on, and in none afterwards",
        counts,
        [True, False, False, True],
    )
    if not run.new:
        run.equal(
            "_TIF_SYSCALL_WORK holds both",
            work_masks("arm", FLAVOURS[run.flavour].version)["_TIF_SYSCALL_WORK"] & work.mask,
            bits["SYSCALL_TRACE"] | bits["SYSCALL_TRACEPOINT"],
        )


def in_memory(run: Run, look: Look) -> None:
    """Decode the bits of the kernel at hand, and find those of tasks of which it is known which they must have."""
    family: Literal["arm", "arm64", "x86"] = {"armv7l": "arm", "aarch64": "arm64"}.get(look.arch, "x86")  # type: ignore[assignment]
    version = look.memory.version
    bits = {row.name.removeprefix("TIF_"): row.value for row in THREAD_FLAGS[family].at(version)}
    known = 0
    for bit in bits.values():
        known |= bit
    run.show([f"{bit.bit_length() - 1:>3}  TIF_{name}" for name, bit in sorted(bits.items(), key=lambda row: row[1])],
             f"thread_info.flags of {look.memory.image.release or version}")
    words = {row.pid: (row.thread_info or {}).get("flags") for row in look.rows}
    run.show([f"{row.pid:>6} {row.comm:<16} {words[row.pid] or 0:#010x}  "
              + " ".join(f"TIF_{name}" for name, bit in bits.items() if (words[row.pid] or 0) & bit)
              for row in look.rows if words[row.pid]][:20], "tasks with a bit set")
    odd = {pid: word for pid, word in words.items() if word is not None and word & ~known}
    run.check("every bit that is set has a name", bool(words) and not odd, odd)
    pending = bits["SIGPENDING"]
    quiet = [row for row in look.rows if row.kind == "kthread" and row.state in "SI"]
    run.check("nobody has a signal for a sleeping kernel thread",
              bool(quiet) and all(bool((words[row.pid] or 0) & pending) is run.expect(False, True) for row in quiet),
              quiet[:3])
    cast = [look.of(name) for name in ("vforker", "stopped", "sleeper", "tracee")]
    vforker, stopped, sleeper, tracee = cast
    if vforker is None or stopped is None or sleeper is None or tracee is None:
        return
    detail = look.detail(stopped.pid)
    told = [(bool(_pending(look, row.pid) & 1 << SIGUSR1 - 1), bool((words[row.pid] or 0) & pending))
            for row in (vforker, stopped, sleeper)]
    run.equal("TIF_SIGPENDING: set for who has a signal and cannot take it yet (in D); not for who is stopped, whom "
              "nobody wakes for it, nor for who has none", told, [(True, run.expect(True, False)), (True, False),
                                                                   (False, False)])
    work = next((row.value for row in SYSCALL_WORK.at(version) if row.name.endswith("SYSCALL_TRACE")), 0)
    name, bit = ("syscall_work", work) if "syscall_work" in detail.thread_info else ("flags", bits["SYSCALL_TRACE"])
    run.check(f"SYSCALL_TRACE, in {name}: set for who is stopped at a system call for its tracer, for nobody else",
              bool(look.detail(tracee.pid).thread_info[name] & bit) and not detail.thread_info[name] & bit,
              look.detail(tracee.pid).thread_info)


def _pending(look: Look, pid: int) -> int:
    """Return the signals that are pending for a task or its process."""
    members = look.detail(pid).members
    return int(members["signal.shared_pending.signal"] | members["pending.signal"])


def handles(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Compute, and handle a signal."""
    sys.sigaction(SIGUSR1, handled)
    sys.write(1, b"ready\n")
    sys.run_for(200_000_000)


def handled(sys: Sys, sig: int, info: Any) -> None:
    """Say that the signal came."""
    del sig, info
    sys.write(1, b"handled\n")


def sends(sys: Sys, argv: list[str]) -> None:
    """Send the signal."""
    sys.nanosleep(20_000_000)
    sys.kill(int(argv[1]), SIGUSR1)


def computes(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Compute on CPU 0."""
    sys.sched_setaffinity(0, [0])
    sys.run_for(150_000_000)


def drops(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Open a file twice, and let one descriptor stand for the other: the file behind it is closed."""
    first = sys.open("/dev/null")
    sys.dup2(first, sys.open("/dev/zero"))


def asks(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Make a system call now and then."""
    sys.write(1, b"ready\n")
    for _ in range(40):
        sys.nanosleep(10_000_000)


def follows(sys: Sys, argv: list[str]) -> None:
    """Stop a process at two system calls."""
    pid = int(argv[1])
    sys.ptrace(PtraceRequest.PTRACE_SEIZE, pid)
    sys.ptrace(PtraceRequest.PTRACE_INTERRUPT, pid)
    sys.waitpid(pid)
    for _ in range(4):
        sys.ptrace(PtraceRequest.PTRACE_SYSCALL, pid)
        sys.waitpid(pid)
    sys.ptrace(PtraceRequest.PTRACE_DETACH, pid)
    sys.write(1, b"done\n")


LAB = Lab(
    name="tif-flags",
    title="the thread flags, on the way in and out",
    question="How does a task learn, on its way back to user space, that something is to be done first?",
    look="where each flag is set, seen and cleared",
    answer=(
        "By a bit of thread_info.flags.  Who wants something of a task sets its TIF_ flag: signal_wake_up_state() "
        "TIF_SIGPENDING, resched_curr() TIF_NEED_RESCHED, task_work_add() TIF_NOTIFY_RESUME.  The way out tests all of "
        "them at once (_TIF_WORK_MASK) and goes into a loop, do_work_pending() on ARM, exit_to_user_mode_loop() on "
        "x86, until none is left: schedule(), do_signal(), task_work_run().  The way in tests _TIF_SYSCALL_WORK, so "
        "that tracers and the events of system calls cost nothing while nobody uses them; on x86 since v5.11 these "
        "flags have a word of their own, syscall_work.  The numbers are the architecture's, and change between kernels."
    ),
    scenario=scenario,
    memory=in_memory,
    real_note=(
        "The numbers are each architecture's own: TIF_SIGPENDING is 0 on ARM and 2 on x86-64.  The bits of "
        "most tasks are 0; look at who has one."
    ),
    needs=("memory",),
    mutant=Mutant(
        "a signal does not mark the task",
        "kernel.signal.send:signal_wake_up_state",
        "t.thread_info.flags |= machine.cur.tif_sigpending",
        "pass",
    ),
)
