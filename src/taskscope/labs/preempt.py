"""Lab ``preempt``: when a task loses its CPU, in user mode and in the kernel, and what forbids it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskscope.labs.lab import Lab, Run
from taskscope.labs.logtext import Row, clear_log, log_rows, report_rows
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

if TYPE_CHECKING:
    from taskscope.system import System

PARAMETERS = "/sys/module/preemptirq_delay_test/parameters"
TRIGGER = "/sys/kernel/preemptirq_delay_test/trigger"
#: how long the module keeps interrupts or preemption off (us)
DELAY = 7_000
SCHED_FIFO = 1


def scenario(run: Run) -> None:
    """Let a task of high priority wake up every 2 ms while others compute, in user mode and in the kernel."""
    look_at(run, run.boot(), full=not run.new)
    if run.new:
        look_at(run, run.boot(preempt="full"), full=True)


def look_at(run: Run, k: System, full: bool) -> None:
    """Look at one machine.

    :param full: its kernel preempts itself (CONFIG_PREEMPT, preempt=full)
    """
    from taskscope.model.kernel.trace import preemptirq_delay_test

    model = "full" if full else "voluntary"
    k.trace("sched:sched_switch", "sched:sched_waking", "sched:sched_wakeup")
    with k.current():
        preemptirq_delay_test.preemptirq_delay_init()
    k.spawn(alarm, name="alarm")
    user_mode(run, k, model)
    kernel_mode(run, k, model, full)
    forbidden(run, k, model, full)


def on_real(run: Run) -> None:
    """Let a task of high priority wake up every 2 ms while others compute, in user mode and in the kernel."""
    with run.real.booted_with("preempt=full") as machine:
        shot = machine.record(machine.program("alarm"), everything=True)
    rows = report_rows(shot.recording)
    run.equal("the program ran to its end", shot.typed.status, 0)
    user = [row for row in lost_to_alarm(rows, "in_user") if row.cpu == 0]
    kernel = [row for row in lost_to_alarm(rows, "in_kernel") if row.cpu == 0]
    run.show([row.text for row in user[:2]], "a program that computes in user mode")
    run.show([row.text for row in kernel[:2]], "a program that computes in the kernel (it reads /dev/urandom)")
    states = [row.value("prev_state") for row in user]
    run.check("on the way to user mode the CPU is taken by plain schedule(): prev_state=R, nearly always",
              len(states) >= 5 and states.count(run.expect("R", "S")) > 0.8 * len(states), states)
    run.check("inside the kernel it is taken by preemption: prev_state=R+",
              any(row.value("prev_state") == "R+" for row in kernel), [row.value("prev_state") for row in kernel])
    late = [row for row in rows if row.event == "sched_wakeup" and "comm=alarm " in row.body and row.depth > 1]
    run.show([row.text for row in late[:2]], "the alarm is woken while preemption is off: the count says so")
    run.check("while the count is raised the CPU does not change hands: no switch is logged with a count above 2",
              all(row.depth <= 2 for row in rows if row.event == "sched_switch"),
              [row.flags for row in rows if row.event == "sched_switch" and row.depth > 2][:3])


def user_mode(run: Run, k: System, model: str) -> None:
    """Let a program compute in user mode."""
    stacks: list[list[str]] = []
    way_out = run.name("exit_to_usermode_loop") if run.new else "do_work_pending"
    k.run(s=0.02)
    clear_log(k)
    with k.probe("sched_switch", stack_of(k, "busy", stacks)):
        k.spawn(busy, name="busy").wait()
    lost = lost_to_alarm(log_rows(k), "busy")
    seen = list(zip(lost, stacks, strict=True))
    user = [(row, stack) for row, stack in seen if stack[1:3] == ["schedule", way_out]]
    run.show([row.text for row, _ in user[:2]], f"{model}: a program computes in user mode")
    run.show(user[0][1] if user else [], "the stack at that switch")
    run.check(f"the alarm takes the CPU from it in {way_out}(), before user mode", len(user) >= 5, len(user))
    run.equal("that is plain schedule(): prev_state=R", {row.value("prev_state") for row, _ in user}, {"R"})
    # The program makes system calls at its begin and at its end: there it can be preempted in the kernel.
    run.check(
        "R+ is where preempt_schedule…() has called, and nowhere else",
        all((row.value("prev_state") == "R+") == stack[1].startswith("preempt_") for row, stack in seen),
        [(row.value("prev_state"), stack[1]) for row, stack in seen],
    )


def kernel_mode(run: Run, k: System, model: str, full: bool) -> None:
    """Let a kernel thread keep interrupts off; then they come, with preempt_count at 0."""
    stacks: list[list[str]] = []
    with k.probe("sched_switch", stack_of(k, "irq_test", stacks)):
        lost = lost_to_alarm(trigger(k, "irq"), "irq_test")
    run.show([row.text for row in lost[:1]], f"{model}: a kernel thread, and an interrupt with preempt_count 0")
    run.show(stacks[0] if stacks else [], "the stack at that switch")
    if not full:
        run.check(
            "without kernel preemption the kernel thread goes on until it sleeps",
            all(row.value("prev_state") != "R+" for row in lost),
            [row.text for row in lost],
        )
        return
    run.equal(
        "on the way out of the interrupt: prev_state=R+, preempted in the kernel",
        [row.value("prev_state") for row in lost[:1]],
        ["R+"],
    )
    wanted = ["preempt_schedule_irq", "svc_preempt", "__irq_svc"]
    if run.new:
        wanted = ["preempt_schedule_irq", "irqentry_exit_cond_resched", "irqentry_exit"]
    shown = stacks[0] if stacks else []
    run.check(
        f"{wanted[2]}: preempt_count is 0 and TIF_NEED_RESCHED is set, so {wanted[1]} calls {wanted[0]}()",
        [name for name in shown if name in wanted] == wanted,
        shown,
    )


def forbidden(run: Run, k: System, model: str, full: bool) -> None:
    """Let a kernel thread keep preemption off while the alarm wants to run."""
    stacks: list[list[str]] = []
    with k.probe("sched_switch", stack_of(k, "preempt_test", stacks)):
        rows = trigger(k, "preempt")
    # The alarm's wakeups that came while the thread ran, and the switch after each.
    wanted = [
        i
        for i, row in enumerate(rows)
        if row.event == "sched_wakeup" and row.comm == "preempt_test" and "comm=alarm " in row.body
    ]
    waits = []
    for i in wanted:
        switch = next((row for row in rows[i:] if row.event == "sched_switch" and row.cpu == rows[i].cpu), None)
        if switch is not None:
            waits.append((rows[i], switch))
    longest = max(waits, key=lambda w: w[1].us - w[0].us, default=None)
    run.show([row.text for row in (longest or ())], f"{model}: preempt_disable() for {DELAY / 1000:g} ms")
    run.show(stacks[0] if stacks else [], "the stack at the switch to the alarm")
    run.check("the alarm's timer interrupts all the same, and wakes it", bool(waits), [row.text for row in rows[:9]])
    if longest is None:
        return
    woken, switch = longest
    run.check(
        "the log of the interrupt says so: need-resched, hardirq, and a count that is not 0",
        woken.need_resched and woken.context == "h" and woken.depth > 0,
        woken.flags,
    )
    run.check(
        "but the raised count forbids that the CPU changes hands: the alarm is late by milliseconds",
        switch.us - woken.us > 1_000,
        switch.us - woken.us,
    )
    if full:
        run.equal("preempt_enable() lets it happen: R+", switch.value("prev_state"), "R+")
        shown = stacks[0] if stacks else []
        run.check(
            "preempt_enable() calls preempt_schedule(), not an interrupt",
            "preempt_schedule" in shown and "preempt_schedule_irq" not in shown and "preemptoff_test" in shown,
            shown,
        )
    else:
        run.check(
            "without kernel preemption it happens when the thread sleeps",
            switch.value("prev_state") not in ("R", "R+"),
            switch.text,
        )


def trigger(k: System, mode: str) -> list[Row]:
    """Have the module keep interrupts (irq) or preemption (preempt) off for a while; return the log of that time."""
    clear_log(k)
    k.spawn(test, mode, name="test").wait()
    return log_rows(k)


def stack_of(k: System, comm: str, stacks: list[list[str]]) -> Any:
    """Return a probe for sched_switch that keeps the stack of a task when it loses its CPU to the alarm."""

    def switched(_preempt: bool, prev: Any, next: Any, *_: Any) -> None:
        if prev.comm == comm and next.comm == "alarm":
            stacks.append([entry.partition("+")[0] for entry in k.running_stack()])

    return switched


def lost_to_alarm(rows: list[Row], comm: str) -> list[Row]:
    """Return the switches from a task to the alarm."""
    return [
        row
        for row in rows
        if row.event == "sched_switch" and row.value("prev_comm") == comm and row.value("next_comm") == "alarm"
    ]


def alarm(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Wake up every 2 ms, with realtime priority."""
    sys.sched_setscheduler(0, SCHED_FIFO, 50)
    sys.become(ring)


def ring(sys: Sys) -> None:
    """Sleep, again and again."""
    for _ in range(10_000):
        sys.nanosleep(2_000_000)
    sys.become(ring)


def busy(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Compute."""
    sys.run_for(30_000_000)


def test(sys: Sys, argv: list[str]) -> None:
    """Do what one would type: echo preempt > test_mode; echo 7000 > delay; echo 1 > trigger."""
    for path, text in ((f"{PARAMETERS}/test_mode", argv[1]), (f"{PARAMETERS}/delay", str(DELAY)), (TRIGGER, "1")):
        fd = sys.open(path, 1)
        sys.write(fd, text.encode() + b"\n")
        sys.close(fd)


LAB = Lab(
    name="preempt",
    title="when a task loses its CPU, and what forbids it",
    question="At which places can a task lose its CPU, and how does the log tell them apart?",
    look="prev_state, R or R+; the stacks at the switch; the flags column while preemption is off",
    answer=(
        "TIF_NEED_RESCHED is a wish.  On the way back to user mode it is always granted, by schedule(): "
        "prev_state=R.  In the kernel it is granted only with CONFIG_PREEMPT (preempt=full), and only where "
        "preempt_count is 0: at the end of an interrupt (__irq_svc, svc_preempt, preempt_schedule_irq()) or when the "
        "count comes down to 0 (preempt_enable(), a lock's release: preempt_schedule()).  Such a switch is marked R+.  "
        "While the count is raised the log shows N or n, need-resched, and the depth, and nobody else runs.  Other "
        "kernels give way in the kernel where they sleep, and at cond_resched(), which is R+, too."
    ),
    scenario=scenario,
    real=on_real,
    real_note="The guest is booted with preempt=full; a host does what it was built or booted for.",
    needs=("events",),
    mutant=Mutant(
        "preempt_schedule_irq() calls __schedule() as schedule() does",
        "kernel.sched.core.switch:preempt_schedule_irq",
        "__schedule(True)",
        "__schedule(False)",
    ),
    cpus=1,
)
