"""Lab ``thread-info``: where thread_info is, and how current is found."""

from __future__ import annotations

from typing import Any

from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.flavours import FLAVOURS


def scenario(run: Run) -> None:
    """Look at addresses: of stacks, of thread_infos, of the stack pointer in the middle of a system call."""
    k = run.boot()
    size = FLAVOURS[run.flavour].thread_size
    terminal = k.terminal()
    terminal.type("raspbian_proc &")
    proc = k.appears("raspbian_proc")
    k.run(s=1)
    details = [k.task(pid) for pid in (0, 1, 2, proc)]
    run.show(
        [
            f"{d.row.comm:<15} task_struct {d.address:#x}  stack "
            f"{d.members['stack']:#x}…{d.members['stack'] + size:#x}  thread_info {d.thread_info_address:#x}"
            for d in details
        ],
        "addresses",
    )
    samples: list[tuple[int, int, int, int]] = []

    def sampled(*_: Any) -> None:
        from taskscope.model.include.linux.thread_info import current_thread_info

        sp = k.sample_sp()
        ti = current_thread_info()
        samples.append((sp, k.running().stack, ti.task.pid, k.running().pid))

    with k.probe("hrtimer_nanosleep", sampled), k.probe("schedule", sampled):
        k.run(s=7)
    run.show(
        [
            f"sp {sp:#x}  & ~{size - 1:#x} = {sp & ~(size - 1):#x}, stack {stack:#x}: task {task}"
            for sp, stack, task, _ in samples[:4]
        ],
        "the stack pointer in the kernel",
    )
    in_task = FLAVOURS[run.flavour].switches.thread_info_in_task
    if in_task:
        run.check(
            "thread_info is the first member of task_struct (CONFIG_THREAD_INFO_IN_TASK)",
            all(d.thread_info_address == d.address for d in details),
        )
        run.equal("kernel stacks are 16 KiB", size, 16384)
    else:
        run.check(
            "thread_info stands at the stack's lowest address, one for each task",
            all(d.thread_info_address == d.members["stack"] for d in details)
            and len({d.thread_info_address for d in details}) == len(details),
        )
        run.equal("THREAD_SIZE is PAGE_SIZE << 1: 8 KiB", size, 4096 << 1)
        run.check(
            "thread_info.task points back to the task_struct",
            all(d.thread_info["task"] == d.address for d in details),
            [d.thread_info for d in details],
        )
    run.check(
        "stacks are aligned to their size: that is why a mask finds their start",
        all(d.members["stack"] % size == 0 for d in details),
    )
    run.check(
        "sp & ~(THREAD_SIZE - 1) is the start of the running task's stack, however deep the calls",
        bool(samples) and all(sp & ~(size - 1) == stack for sp, stack, _, _ in samples),
        samples[:4],
    )
    run.check("sp moves with the depth", len({sp - stack for sp, stack, _, _ in samples}) > 1)
    run.check(
        "current, found so, is the running task",
        bool(samples) and all(task == running for _, _, task, running in samples),
        samples[:4],
    )
    names = set(details[3].thread_info)
    wanted = (
        {"flags", "preempt_count", "addr_limit", "task", "cpu", "cpu_domain", "syscall"}
        if not in_task
        else {"flags", "status", "syscall_work"}
    )
    run.check(f"its members: {', '.join(sorted(wanted))}", wanted <= names, sorted(names))
    if not in_task:
        context = {name: value for name, value in details[3].thread_info.items() if name.startswith("cpu_context.")}
        run.show(
            [f"{name} = {value:#x}" for name, value in context.items()],
            f"registers of {details[3].row.comm} saved by __switch_to",
        )
        sp = context.get("cpu_context.sp", 0)
        run.check(
            "cpu_context.sp lies on its own stack, cpu_context.pc in __schedule's callers",
            details[3].members["stack"] < sp < details[3].members["stack"] + size
            and k.symbol(context.get("cpu_context.pc", 0)) != "",
            context,
        )


LAB = Lab(
    name="thread-info",
    title="where thread_info is, and how current is found",
    question="How does the kernel know which task it runs for, with nothing but the stack pointer?",
    look="the addresses, and the stack pointer masked",
    answer=(
        "On ARM 4.19 each task's kernel stack is THREAD_SIZE = 8 KiB, aligned to its size, and thread_info stands "
        "at its lowest address.  current_thread_info() clears the low bits of sp and is there; current is its task "
        "member.  It holds what entry code needs: flags (TIF_…), "
        "preempt_count, cpu, and cpu_context, the registers that __switch_to saved.  Later kernels put thread_info "
        "into task_struct (CONFIG_THREAD_INFO_IN_TASK), so that a stack overflow cannot overwrite it, and find "
        "current in a per-CPU variable or register."
    ),
    scenario=scenario,
    mutant=Mutant(
        "a new task's thread_info points to its parent",
        "kernel.fork:setup_thread_stack",
        "ti = ThreadInfo(p)",
        "ti = ThreadInfo(org)",
    ),
)
