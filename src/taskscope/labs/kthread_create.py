"""Lab ``kthread-create``: a kernel thread is asked for, and made by kthreadd."""

from __future__ import annotations

from typing import Any

from taskscope.labs.evidence import calls, ordered, plain
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_UNTRACED, SIGCHLD, PF_KTHREAD = 0x100, 0x200, 0x400, 0x80_0000, 17, 0x20_0000


def scenario(run: Run) -> None:
    """Let a driver ask for a kernel thread from a system call, and watch both sides."""
    k = run.boot()
    k.trace()
    seen: dict[str, Any] = {}

    def asked(p: Any, *_: Any) -> None:
        if p is k.machine.kthreadd_task and "asker" not in seen and k.running().comm == "vhost_owner":
            seen["asker"] = k.running_stack()
            seen["request on the list"] = [one.owner.full_name for one in nodes(k.machine.kthread_create_list)]
            seen["state of kthreadd"] = p.state

    def made(flags: int, fn: Any, arg: Any, *_: Any) -> None:
        if k.running().pid == 2:
            seen["flags"] = flags
            seen["function"] = getattr(fn, "__name__", "")
            seen["for"] = arg.full_name
            seen["kthreadd"] = k.running_stack()
            seen["list meanwhile"] = [one.owner.full_name for one in nodes(k.machine.kthread_create_list)]

    def completed(*_: Any) -> None:
        if k.running().flags & PF_KTHREAD and k.running().pid > 2 and "flags" in seen and "reporter" not in seen:
            seen["reporter"] = (k.running().pid, k.running().comm, k.running_stack())

    from taskscope.model.drivers.vhost import vhost

    with k.current():
        vhost.vhost_init()
    with k.probe("wake_up_process", asked), k.probe(run.name("_do_fork"), made), k.probe("complete", completed):
        p = k.spawn(owner, name="vhost_owner")
        k.run(until=lambda: bool(p.text))
    run.show(seen["asker"], "who asks: innermost first")
    run.show(
        f"request {seen['request on the list']} is on kthread_create_list; kthreadd is in state "
        f"{seen['state of kthreadd']} (1: TASK_INTERRUPTIBLE)"
    )
    run.show(seen["kthreadd"], "kthreadd makes it: innermost first")
    run.show(
        [f"{run.name('_do_fork')}(flags={seen['flags']:#x}, fn={seen['function']}(), arg=request for {seen['for']})"]
    )
    asker, daemon = plain(seen["asker"]), plain(seen["kthreadd"])
    run.check(
        "the request goes on kthread_create_list before kthreadd is woken",
        seen["request on the list"] == [f"vhost-{p.pid}"],
        seen["request on the list"],
    )
    run.check(
        "the asker is in kthread_create_on_node() <- vhost_dev_set_owner()",
        "kthread_create_on_node" in asker and "vhost_dev_set_owner" in asker,
        asker,
    )
    run.check(
        "kthreadd sleeps interruptibly while its list is empty",
        seen["state of kthreadd"] == 1,
        seen["state of kthreadd"],
    )
    run.check(
        "kthreadd: create_kthread() -> kernel_thread() -> _do_fork()",
        daemon[:4] == [run.name("_do_fork"), "kernel_thread", "create_kthread", "kthreadd"],
        daemon,
    )
    run.check("it took the request off the list first", seen["list meanwhile"] == [], seen["list meanwhile"])
    run.equal(
        "flags: CLONE_FS | CLONE_FILES | SIGCHLD of create_kthread(), CLONE_VM | CLONE_UNTRACED of kernel_thread()",
        seen["flags"],
        CLONE_FS | CLONE_FILES | SIGCHLD | CLONE_VM | CLONE_UNTRACED,
    )
    run.equal("the new thread starts in kthread(), whatever it is to do", seen["function"], "kthread")
    run.check(
        "the result comes back by a completion, completed by the new thread in kthread()",
        "reporter" in seen and "kthread" in plain(seen["reporter"][2]),
        seen.get("reporter"),
    )
    rows = {t.pid: t for t in k.ps().tasks}
    worker = next(t for t in rows.values() if t.comm == f"vhost-{p.pid}")
    task = k.find(worker.pid)
    assert task is not None
    run.equal("its name is vhost-PID, of current->pid of the asker", worker.comm, f"vhost-{p.pid}")
    run.check(
        "it has PF_KTHREAD, no mm, and kthreadd for a parent",
        bool(task.flags & PF_KTHREAD) and task.mm is None and worker.ppid == 2,
        worker,
    )
    k.run(s=0.3)
    run.keep(k.recording(), {"owner": p.pid or 0, "vhost": worker.pid}, {"kthreadd": 2})
    run.equal("closing the device stops it", [t.comm for t in k.ps().tasks if t.comm.startswith("vhost")], [])


def on_real(run: Run) -> None:
    """Let the vhost driver ask for a kernel thread, as in the notes, and watch both sides."""
    modules = ("vhost_iotlb", "vhost", "vsock", "vmw_vsock_virtio_transport_common", "vhost_vsock")
    run.real.type("; ".join(f"insmod /modules/{name}.ko 2>/dev/null" for name in modules))
    owner_program = run.real.program("vhost_owner")
    wanted = ("kthread_create_on_node", "kernel_thread", "kthread", "complete", "kthread_stop", "vhost_task_create")
    shot = run.record(f"{owner_program}\nsleep 0.2\n", triggers=["sched_waking:stacktrace"],
                      functions=run.real.traceable(wanted))
    recording = shot.recording
    asker = run.program(recording, "vhost_owner")
    made = calls(recording)
    thread = next((life for life in recording.lives if life.comm == f"vhost-{asker.pid}"), None)
    if thread is None:
        thread = next(life for life in recording.lives if life.comm.startswith("vhost-"))
    run.story(thread)
    assert thread.born is not None
    names = [(name, pid) for name, pid, _ in made]
    run.check("its name is vhost-PID, of current->pid of the asker", thread.comm == f"vhost-{asker.pid}", thread.comm)
    if ("vhost_task_create", asker.pid) in names:
        run.check("since 6.4 vhost asks for a thread of its own process (vhost_task), not of kthreadd",
                  thread.born.by == asker.ref, thread.born.by)
        return
    run.check("the asker calls kthread_create_on_node()", ("kthread_create_on_node", asker.pid) in names, names[:12])
    waking = [row["ts"] for row in run.events(recording, "sched_waking", pid=2)]
    run.check("kthreadd (2) is woken before the thread is made", any(at <= thread.born.at for at in waking), waking)
    run.equal("kthreadd makes it", thread.born.by and thread.born.by.pid, run.expect(2, asker.pid))
    way = ["copy_process", run.name("_do_fork"), "kernel_thread", "kthreadd"]
    run.check(f"by kernel_thread() -> {run.name('_do_fork')}() -> copy_process()",
              ordered(list(thread.born.stack or ()), way), thread.born.stack)
    run.check("with CLONE_FS | CLONE_FILES of create_kthread(), CLONE_VM | CLONE_UNTRACED of kernel_thread()",
              thread.born.clone_flags is not None
              and thread.born.clone_flags & (CLONE_FS | CLONE_FILES | CLONE_VM | CLONE_UNTRACED)
              == CLONE_FS | CLONE_FILES | CLONE_VM | CLONE_UNTRACED, thread.born.clone_flags)
    run.check("the new thread starts in kthread()", ("kthread", thread.pid) in names, names)
    run.check("the result comes back by a completion of the new thread", ("complete", thread.pid) in names, names)
    run.keep(recording, {"owner": asker.pid, "vhost": thread.pid}, {"kthreadd": 2})
    run.check("closing the device stops it", ("kthread_stop", asker.pid) in names and thread.exit is not None,
              thread.exit)


def nodes(head: Any) -> list[Any]:
    """Return the nodes of a list."""
    found = []
    node = head.next
    while node is not head:
        found.append(node)
        node = node.next
    return found


def owner(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Own a vhost device for a while."""
    fd = sys.open("/dev/vhost-net", 2)
    sys.ioctl(fd, 0xAF01)
    sys.puts("owner")
    sys.nanosleep(100_000_000)
    sys.close(fd)


LAB = Lab(
    name="kthread-create",
    title="a kernel thread is asked for, and made by kthreadd",
    question="kthread_create() is called by a driver, yet the thread's parent is kthreadd: how?",
    look="the two stacks: who asks, and who makes",
    answer=(
        "kthread_create() does not fork.  It puts a request on kthread_create_list under kthread_create_lock, "
        "wakes kthreadd and waits for a completion.  kthreadd, which sleeps in TASK_INTERRUPTIBLE while the list "
        "is empty, takes the request "
        "and calls create_kthread() -> kernel_thread(kthread, create, CLONE_FS | CLONE_FILES | SIGCHLD) -> "
        "_do_fork(flags | CLONE_VM | CLONE_UNTRACED).  So every kernel thread is a child of kthreadd, with a clean "
        "context instead of the caller's.  The new "
        "thread, in kthread(), completes the request and waits to be woken."
    ),
    scenario=scenario,
    real=on_real,
    places=("guest",),
    refused="it takes a driver that asks for a kernel thread (vhost); use --on guest",
    real_note=(
        "The driver is the notes' own, vhost, up to 6.3.  Since 6.4 it makes its worker by "
        "vhost_task_create(), as a thread of the process that asked; the lab then says so."
    ),
    needs=("events", "functions"),
    mutant=Mutant(
        "a kernel thread does not share fs with kthreadd",
        "kernel.kthread:create_kthread",
        "CLONE_FS | CLONE_FILES | SIGCHLD",
        "CLONE_FILES | SIGCHLD",
    ),
)
