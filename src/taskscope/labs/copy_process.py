"""Lab ``copy-process``: the order of copy_process(), and its unwinding."""

from __future__ import annotations

from contextlib import ExitStack

from taskscope.labs.evidence import calls, family
from taskscope.labs.fork import forker as forks
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys
from taskscope.system import System

STEPS = (
    "dup_task_struct",
    "copy_creds",
    "sched_fork",
    "copy_files",
    "copy_fs",
    "copy_sighand",
    "copy_signal",
    "copy_mm",
    "copy_namespaces",
    "copy_io",
    "copy_thread",
    "alloc_pid",
)


def scenario(run: Run) -> None:
    """Record the calls of one fork; then let every step fail in turn and compare memory and tables before and after."""
    k = run.boot()
    calls: list[str] = []
    with ExitStack() as probes:
        for step in STEPS:
            probes.enter_context(
                k.probe(step, lambda *_, step=step: calls.append(step), when=lambda *_: k.running().comm == "forker")
            )
        p = k.spawn(forker, "1", name="forker")
        p.wait()
    run.show(" -> ".join(calls), "calls of copy_process(), in order")
    run.equal("the steps come in the kernel's order", calls, list(STEPS))
    k.run(s=0.2)
    k.trace()
    q = k.spawn(forks, name="forker")
    q.wait()
    k.run(s=0.2)
    recording = k.recording()
    run.keep(recording, family(recording, q.pid or 0, "forker"))

    from taskscope.model.lib import fault_inject

    before = accounts(k)
    other = "__get_free_pages" if k.machine.flavour.switches.vmap_stack else "__vmalloc_node_range"
    points = [point for point in fault_inject.POINTS if point != other]
    failed: dict[str, str] = {}
    leaks: dict[str, object] = {}
    for point in points:
        with k.current():
            fault_inject.fail_next(point, comm="forker")
        p = k.spawn(forker, "1", name="forker")
        p.wait()
        k.run(s=0.2)
        failed[point] = p.text.splitlines()[-1]
        after = accounts(k)
        difference = {name: (before[name], after[name]) for name in before if before[name] != after[name]}
        if difference:
            leaks[point] = difference
    run.show(
        [f"{point:<22} {result}" for point, result in failed.items()], "each step made to fail: what fork() returned"
    )
    run.check(
        "every step can fail, and fork() says so",
        bool(failed) and all(text.startswith(("ENOMEM", "EAGAIN")) for text in failed.values()),
        failed,
    )
    run.check("a failed fork leaves nothing behind: slabs, pages, tables, processes", bool(failed) and not leaks, leaks)


#: those of the steps that a compiler leaves as functions of their own in every build that we have seen
SEEN = (
    "copy_creds", "sched_fork", "dup_fd", "copy_fs_struct", "dup_mmap", "copy_namespaces", "copy_thread", "alloc_pid",
)


def on_real(run: Run) -> None:
    """Trace the steps of copy_process() that are functions in this build: of a fork, and of one that is refused."""
    shot = run.record(run.real.program("forker"), functions=run.real.traceable(SEEN))
    roles = family(shot.recording, run.program(shot.recording, "forker").pid, "forker")
    run.keep(shot.recording, roles)
    made = [name for name, pid, _ in calls(shot.recording) if pid == roles["forker"]]
    first = made[: made.index("alloc_pid") + 1]
    run.show(" -> ".join(first), "calls of copy_process(), in order")
    steps = [name for name in SEEN if name in first]
    run.equal("the steps come in the kernel's order", first, run.expect(steps, steps[::-1]))
    run.check("dup_task_struct, copy_sighand and others are inlined: no tracer sees them", len(steps) >= 6, steps)
    refused = [name for name, pid, _ in calls(shot.recording) if pid == roles["forker.3"]]
    run.show(" -> ".join(refused) or "nothing", "calls of the fork that RLIMIT_NPROC refuses")
    run.check("it ends behind copy_creds(), which counts the user's processes: nothing else was begun",
              refused[:1] == ["copy_creds"] and "sched_fork" not in refused, refused)
    run.check("no task of the refused fork is left", "forker.3.1" not in roles, roles)


def accounts(k: System) -> dict[str, object]:
    """Return what a leak would change."""
    m = k.machine
    from taskscope.model.mm import page_alloc

    with k.current():
        # A freed stack may wait in its CPU's cache for the next fork: that is no leak.
        cached = sum(one is not None for stacks in m.cached_stacks for one in stacks)
        free = page_alloc.nr_free_pages() + cached * (m.flavour.thread_size // page_alloc.PAGE_SIZE)
    slabs = {cache.name: cache.active for cache in m.slab_caches}
    return {
        "slabs": slabs,
        "free pages": free,
        "threads": m.nr_threads,
        "pids": len(m.init_pid_ns.idr),
        "processes of root": m.root_user.processes,
        "init_files": m.init_files.count,
        "init_fs": m.init_fs.users,
    }


def forker(sys: Sys, argv: list[str]) -> int:  # noqa: ARG001
    """Fork once and say how it went."""
    try:
        pid = sys.fork()
    except OSError as error:
        sys.puts({11: "EAGAIN", 12: "ENOMEM"}.get(error.errno or 0, str(error.errno)))
        return 0
    if pid == 0:
        sys._exit(0)
    sys.waitpid(pid)
    sys.puts("forked")
    return 0


LAB = Lab(
    name="copy-process",
    title="the order of copy_process(), and its unwinding",
    question="In which order is a child put together, and what happens if a step in the middle fails?",
    look="the calls in their order, then the errno of each step that was made to fail",
    answer=(
        "dup_task_struct() first: task_struct and stack, both copies; then credentials, sched_fork(), and one "
        "copy_…() for each thing that a flag may share; copy_thread() gives it registers, alloc_pid() a number; "
        "only then is it linked into its parent's children and init_task.tasks, under tasklist_lock.  Until there "
        "every failure jumps to a label that undoes what was done, in reverse order, so that nothing leaks.  After "
        "it nothing can fail."
    ),
    scenario=scenario,
    real=on_real,
    places=("guest",),
    refused="its steps are functions, no events, and the function tracer is locked here; use --on guest",
    real_note=(
        "Compilers inline: copy_files() is seen as dup_fd(), copy_fs() as copy_fs_struct(), copy_mm() as "
        "dup_mmap().  No step is made to fail there; what refuses is RLIMIT_NPROC, early."
    ),
    needs=("events", "functions"),
    mutant=Mutant(
        "the unwinding forgets the signal actions",
        "kernel.fork:bad_fork_cleanup",
        "        __cleanup_sighand(p.sighand)\n",
        "        pass\n",
    ),
)
