"""Lab ``stack-alloc``: slab, pages and cached stacks over forks and exits."""

from __future__ import annotations

from typing import Any

from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.flavours import FLAVOURS
from taskscope.model.user.libc import Sys


def scenario(run: Run) -> None:
    """Count task_structs and stacks while children come and go, and follow the addresses."""
    k = run.boot(cpus=1)
    k.run(s=0.5)
    vmap = FLAVOURS[run.flavour].switches.vmap_stack
    births: list[tuple[int, int, int]] = []

    def born(p: Any, *_: Any) -> None:
        if k.running().comm in ("family", "serial"):
            births.append((p.pid, p.address, p.stack))

    cache = k.machine.task_struct_cachep
    before = counts(k)
    with k.probe("wake_up_new_task", born):
        p = k.spawn(family, name="family")
        k.run(until=lambda: "alive" in p.text)
        during = counts(k)
        p.wait()
        k.run(s=1)
        after = counts(k)
        run.show(
            [f"{name:<22} {before[name]:>8} {during[name]:>8} {after[name]:>8}" for name in before],
            "before, with 10 children, after",
        )
        run.equal(
            "each child takes a task_struct from the slab (and the parent one)",
            during["task_struct"] - before["task_struct"],
            11,
        )
        run.equal(
            "the slab gives out objects of sizeof(struct task_struct), one address each",
            len({address for _, address, _ in births}),
            len(births),
        )
        run.equal("after their end all are back", after["task_struct"], before["task_struct"])
        kind = "vmalloc areas" if vmap else "stack pages"
        size = 11 if vmap else 11 * (FLAVOURS[run.flavour].thread_size // 4096)
        cached = before["cached stacks"]
        run.check(
            f"stacks are {'vmalloc areas' if vmap else 'pages of order THREAD_SIZE_ORDER (1)'}: {size} more, those "
            "from the cache aside",
            size - cached <= during[kind] - before[kind] <= size,
            (during[kind], before[kind], cached),
        )
        births.clear()
        p = k.spawn(serial, name="serial")
        p.wait()
    run.show(
        [f"pid {pid}: task_struct {address:#x}, stack {stack:#x}" for pid, address, stack in births],
        "five children one after the other",
    )
    run.check("addresses are used again", len({stack for _, _, stack in births}) < len(births), births)
    if vmap:
        run.check(
            "the CPU keeps at most two freed stacks (NR_CACHED_STACKS)",
            0 < after["cached stacks"] <= 2,
            after["cached stacks"],
        )
        run.equal("all others are unmapped", after["vmalloc areas"] - after["cached stacks"],
                  before["vmalloc areas"] - before["cached stacks"])
    else:
        run.check(
            "nothing is cached: the pages go back to the allocator",
            after["cached stacks"] == 0 and after["stack pages"] == before["stack pages"],
            after,
        )
    child = k.find(2)
    assert child is not None
    run.equal("a stack's last word holds STACK_END_MAGIC", k.machine.memory[end_of(k, child)], 0x57AC6E9D)
    del cache


def end_of(k: Any, task: Any) -> int:
    """Return the address of the last word that a stack may use."""
    from taskscope.model.kernel import fork

    with k.current():
        return int(fork.end_of_stack(task))


def counts(k: Any) -> dict[str, int]:
    """Return what forks take."""
    m = k.machine
    with k.current():
        return {
            "task_struct": m.task_struct_cachep.active,
            "sighand": m.sighand_cachep.active,
            "signal": m.signal_cachep.active,
            "mm": m.mm_cachep.active,
            "stack pages": stack_pages(m),
            "vmalloc areas": len(getattr(m, "vmap_areas", ())),
            "cached stacks": sum(one is not None for cached in m.cached_stacks for one in cached),
        }


def stack_pages(m: Any) -> int:
    """Return how many pages are kernel stacks of tasks."""
    if m.flavour.switches.vmap_stack:
        return 0
    stacks = sum(1 for address, what in m.memory.items() if type(what).__name__ == "ThreadInfo" and address)
    return stacks * int(m.flavour.thread_size // 4096)


def family(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Have ten children at once."""
    pids = [sys.clone(rest) for _ in range(10)]
    sys.puts("alive")
    for pid in pids:
        sys.waitpid(pid)


def rest(sys: Sys) -> None:
    """Be there for a while."""
    sys.nanosleep(200_000_000)


def serial(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Have five children one after the other, with time for RCU between."""
    for _ in range(5):
        sys.waitpid(sys.clone(at_once))
        sys.nanosleep(100_000_000)


def at_once(sys: Sys) -> int:  # noqa: ARG001
    """End at once."""
    return 0


LAB = Lab(
    name="stack-alloc",
    title="slab, pages and cached stacks over forks and exits",
    question="Where do the task_struct and the stack of a new task come from, and where do they go?",
    look="the counts before, during and after, and the addresses of children that follow each other",
    answer=(
        "dup_task_struct() takes the task_struct from the slab task_struct_cachep and the stack from "
        "alloc_thread_stack_node(): on 4.19-arm two pages at once (THREAD_SIZE_ORDER 1), on x86-64 with "
        "CONFIG_VMAP_STACK first one of the two stacks that the CPU keeps (cached_stacks), else "
        "__vmalloc_node_range().  setup_thread_stack() then copies the parent's thread_info and sets its task.  "
        "Both are given back when the last references go, so the next child often gets the same addresses."
    ),
    scenario=scenario,
    mutant=Mutant(
        "stacks are not given back",
        "kernel.fork:free_thread_stack",
        "        page_alloc.free_pages(tsk.stack, (m.flavour.thread_size // page_alloc.PAGE_SIZE).bit_length() - 1)\n",
        "        pass\n",
    ),
    later=Mutant(
        "stacks are not given back",
        "kernel.fork.task:thread_stack_free_rcu",
        "        vmalloc.vfree(area, machine.cur.flavour.thread_size)\n",
        "        pass\n",
    ),
)
