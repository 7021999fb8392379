"""Lab ``thread-info``: where thread_info is, and how current is found."""

from __future__ import annotations

from typing import Any

from taskscope.labs.lab import Lab, Run
from taskscope.labs.look import Look
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


#: STACK_END_MAGIC, include/uapi/linux/magic.h: at the lowest address that a stack may use
STACK_END_MAGIC = 0x57AC6E9D


def in_memory(run: Run, look: Look) -> None:
    """Look at the addresses of a real kernel: of stacks, of thread_infos, of what __switch_to() saved."""
    memory = look.memory
    size = memory.thread_size
    asleep = [row for row in look.rows if row.on_cpu is False and row.stack is not None and row.state in "SIDTt"]
    if look.cast:
        # Of a kernel that runs, who holds still.
        still = ("kthreadd", "rescuer", "cpuhp")
        asleep = [row for row in asleep if row.pid in look.cast.values() or row.role in still]
    details = [look.detail(row.pid) for row in asleep[:4]]
    run.show([f"{d.row.comm:<15} task_struct {d.address:#x}  stack {d.members['stack']:#x}…"
              f"{d.members['stack'] + size:#x}  thread_info {d.thread_info_address:#x}" for d in details], "addresses")
    in_task = memory.types.member("task_struct", "thread_info") is not None
    if in_task:
        run.check("thread_info is the first member of task_struct (CONFIG_THREAD_INFO_IN_TASK)",
                  all(d.thread_info_address == d.address for d in details))
    else:
        run.check("thread_info stands at the stack's lowest address",
                  all(d.thread_info_address == d.members["stack"] for d in details))
    run.check("stacks are aligned to their size: that is why a mask finds their start",
              bool(asleep) and all((row.stack or 0) % size == 0 for row in asleep), size)
    where = 0 if in_task else memory.types.size("thread_info") or 0
    marks = {int.from_bytes(memory.image.read((row.stack or 0) + where, 4), "little") for row in asleep}
    run.equal("STACK_END_MAGIC stands at the lowest address of every stack: none has overflowed", marks,
              {run.expect(STACK_END_MAGIC, 0)})
    names = set(details[0].thread_info)
    wanted = {"armv7l": {"flags", "preempt_count", "cpu", "cpu_domain", "cpu_context.sp", "cpu_context.pc"},
              "x86_64": {"flags", "status", "cpu"}}.get(look.arch, {"flags", "preempt_count"})
    run.check(f"its members: {', '.join(sorted(wanted))}", wanted <= names, sorted(names))
    saved = {row.pid: (_saved(look, row.pid, "sp"), _saved(look, row.pid, "pc")) for row in asleep}
    run.show([f"{row.comm:<15} sp {saved[row.pid][0] or 0:#x} & ~{size - 1:#x} = "
              f"{(saved[row.pid][0] or 0) & ~(size - 1):#x}, stack {row.stack or 0:#x}" for row in asleep[:4]],
             "the stack pointer that __switch_to() saved")
    run.check("sp & ~(THREAD_SIZE - 1) is the start of the task's own stack, however deep the calls",
              all(((saved[row.pid][0] or 0) & ~(size - 1)) == row.stack for row in asleep),
              [row for row in asleep if ((saved[row.pid][0] or 0) & ~(size - 1)) != row.stack][:3])
    places = {_function(look, pc) for _, pc in saved.values() if pc is not None}
    places |= {row.kernel_stack[0].partition("+")[0] for row in asleep if row.kernel_stack}
    run.check("they went to sleep in __schedule(), or have not run yet",
              bool(places) and places <= {"__schedule", "schedule", "__switch_to", "ret_from_fork", "context_switch",
                                          "ret_from_fork_asm"}, sorted(map(str, places)))


def _saved(look: Look, pid: int, register: str) -> int | None:
    """Return a register that __switch_to() saved for a task that does not run; on x86 what is not on its stack."""
    memory = look.memory
    for task in memory.tasks():
        if memory.number(task, "pid") == pid:
            if look.arch == "x86_64":
                return memory.number(task, "thread.sp") if register == "sp" else None
            return memory.number(task, f"thread_info.cpu_context.{register}") or memory.number(
                task, f"thread.cpu_context.{register}")
    return None


def _function(look: Look, address: int | None) -> str | None:
    symbol = look.memory.image.symbol_at(address) if address else None
    return None if symbol is None else symbol.name


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
    memory=in_memory,
    real_note=(
        "On x86-64 and arm64 thread_info is the first member of task_struct.  The stack then holds nothing "
        "but STACK_END_MAGIC at its lowest address, and current comes from a register or a per-cpu variable."
    ),
    needs=("memory",),
    mutant=Mutant(
        "a new task's thread_info points to its parent",
        "kernel.fork:setup_thread_stack",
        "ti = ThreadInfo(p)",
        "ti = ThreadInfo(org)",
    ),
)
