"""Lab ``kthreadd-wakeup``: who wakes kthreadd, and whom the notes' patch names."""

from __future__ import annotations

from typing import Any

from taskscope.labs.evidence import ordered, plain
from taskscope.labs.kthread_create import owner
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys


def scenario(run: Run) -> None:
    """Patch ttwu_do_wakeup() as the notes do, wake kthreadd from its own CPU and from another's."""
    local, remote = wakeup(run, same_cpu=True), wakeup(run, same_cpu=False)
    run.show(local["dmesg"], "dmesg of the patch: waker and kthreadd on one CPU")
    run.show(remote["dmesg"], "dmesg of the patch: the waker runs on the other CPU")
    run.show(remote["waking"][1], "the waker's stack at sched_waking, in the same case")
    run.check(
        "on one CPU the patch names the one that asked",
        local["patch"][0] == "owner" and "kthread_create_on_node" in local["patch"][1],
        local["patch"],
    )
    run.check(
        "its stack: ttwu_do_wakeup <- … <- try_to_wake_up <- … <- kthread_create_on_node",
        ordered(local["patch"][1], ["ttwu_do_wakeup", "try_to_wake_up", "kthread_create_on_node"]),
        local["patch"][1],
    )
    run.check(
        "from another CPU the wakeup is done by kthreadd's CPU, in the interrupt: current is not the waker",
        remote["patch"][0] != "owner" and "sched_ttwu_pending" in remote["patch"][1],
        remote["patch"],
    )
    run.check(
        "there is no kthread_create_on_node() on that stack: it is the interrupt's",
        "kthread_create_on_node" not in remote["patch"][1],
        remote["patch"][1],
    )
    run.check(
        "sched_waking runs on the waker's side in both cases, and names it",
        all(
            one["waking"][0] == "owner" and "kthread_create_on_node" in plain(one["waking"][1])
            for one in (local, remote)
        ),
        remote["waking"],
    )


def on_real(run: Run) -> None:
    """Let a driver (nbd) or a file system (ext4) ask for a kernel thread; a trigger records who wakes kthreadd."""
    if run.real.place == "host":
        # ext4's journal is a kernel thread: jbd2/loopN-8.
        script = ("truncate -s 16M image && mkfs.ext4 -q -F image && mkdir -p mnt && mount -o loop image mnt && "
                  "umount mnt; rm -f image")
    else:
        # A workqueue with a rescuer: nbd0-recv.
        script = "rmmod nbd 2>/dev/null; insmod /modules/nbd.ko nbds_max=1"
    shot = run.record(script, everything=True, triggers=['sched_waking:stacktrace if comm == "kthreadd"'],
                      events=["default"])
    recording = shot.recording
    # Only wakeups of kthreadd have a stack: that is the trigger's condition.
    stacks = [list(stack) for row in recording.rows("sched_waking") if (stack := recording.stacks[row]) is not None]
    asked = [stack for stack in stacks if ordered(stack, ["try_to_wake_up", "__kthread_create_on_node"])]
    run.show(asked[0] if asked else [f"{len(stacks)} wakeups of kthreadd"],
             "the waker's stack at sched_waking, innermost first")
    run.check("sched_waking names the one that asked: its stack leads to kthread_create_on_node()",
              len(asked) >= run.expect(1, 1000), stacks[:2])
    # sched_wakeup comes where the task is put on its runqueue: on another cpu that is in an interrupt.
    wakeups = run.events(recording, "sched_wakeup", comm="kthreadd")
    wakings = run.events(recording, "sched_waking", comm="kthreadd")
    apart = sum(one["cpu"] != other["cpu"] for one, other in zip(wakings, wakeups, strict=False))
    run.show(f"{len(wakings)} wakeups of kthreadd; {apart} of them were finished by another CPU than the waker's",
             "where the notes' patch would print")
    run.check("each wakeup of kthreadd has its sched_waking first", bool(wakings) and len(wakeups) <= len(wakings),
              (wakings, wakeups))


def wakeup(run: Run, same_cpu: bool) -> dict[str, Any]:
    """Return what the patch and sched_waking see of one wakeup of kthreadd."""
    k = run.boot()
    m = k.machine
    from taskscope.model.drivers.vhost import vhost
    from taskscope.model.kernel import printk
    from taskscope.model.lib import dump_stack

    with k.current():
        vhost.vhost_init()
    # Two sockets: CPUs that share no cache leave a wakeup to each other.
    m.cpus[1].llc_id = 1
    seen: dict[str, Any] = {}

    def patch(_: Any, p: Any, *__: Any) -> None:
        # if (!strcmp(p->comm, "kthreadd")) { printk(...); dump_stack(); }
        if p.comm == "kthreadd" and "waking" in seen and "patch" not in seen:
            seen["patch"] = (k.running().comm, plain(k.running_stack()))
            printk.printk(f"[+][{k.running().comm}] wakeup kthreadd process \n")
            dump_stack.dump_stack()

    def waking(p: Any, *_: Any) -> None:
        if p.comm == "kthreadd" and k.running().comm == "owner":
            seen.setdefault("waking", (k.running().comm, k.running_stack()))

    kthreadd = m.kthreadd_task
    with k.probe("ttwu_do_wakeup", patch), k.probe("sched_waking", waking):
        k.run(s=0.05)
        cpu = kthreadd.thread_info.cpu
        k.install(owner, "/usr/local/bin/owner")
        launcher = k.spawn(pinned, str(cpu if same_cpu else 1 - cpu), str(cpu), name="pinned")
        k.run(until=lambda: "patch" in seen and "waking" in seen, s=5)
    del launcher
    text = k.dmesg()
    at = text.find("[+]")
    seen["dmesg"] = text[text.rfind("\n", 0, at) + 1 :].splitlines()[:24]
    return seen


def pinned(sys: Sys, argv: list[str]) -> None:
    """Bind kthreadd to one CPU and oneself to another (or the same), then own the device."""
    sys.sched_setaffinity(2, [int(argv[2])])
    sys.sched_setaffinity(0, [int(argv[1])])
    sys.execv("/usr/local/bin/owner", ["owner"])


LAB = Lab(
    name="kthreadd-wakeup",
    title="who wakes kthreadd, and whom the notes' patch names",
    question=(
        "The notes patch ttwu_do_wakeup() to print current->comm when kthreadd is woken.  Is that always the waker?"
    ),
    look="the two outputs of the patch, and the stack at sched_waking",
    answer=(
        "No.  On the waker's own CPU ttwu_do_wakeup() is called from try_to_wake_up(), and current is who called "
        "kthread_create().  If kthreadd's runqueue belongs to a CPU that shares no cache with the waker's, "
        "try_to_wake_up() only queues the task there and sends an interrupt: "
        "ttwu_do_wakeup() then runs in that CPU's interrupt (scheduler_ipi -> sched_ttwu_pending), and current is "
        "whatever was interrupted, often the idle task.  The waker is seen reliably at sched_waking, which "
        "try_to_wake_up() fires first: "
        'echo stacktrace if comm == "kthreadd" into its trigger instead of patching.'
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "A driver (nbd) or a file system (ext4's journal) asks for the thread.  Whether another CPU finishes "
        "the wakeup depends on which caches the CPUs share."
    ),
    needs=("events",),
    mutant=Mutant(
        "a wakeup is never handed to the other CPU",
        "kernel.sched.core:ttwu_queue",
        "ttwu_queue_remote(p, cpu, wake_flags)\n",
        "pass\n",
    ),
)
