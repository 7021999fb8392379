"""What is kept of a machine: its log as a trace.dat to be, and its task descriptors for behind it.

Stands at the front door because it joins rooms that may not know each other: the model, and the writer of recordings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.ftrace.datwriteparts import DatFile
    from taskscope.model.machine import Machine
    from taskscope.snapshot.saved import Saved


def dat_of_machine(machine: Machine) -> DatFile:
    """Return what to write for all that a machine has recorded by now; its buffers are left as they are.

    :param machine: the one that runs (`taskscope.model.machine.cur`)
    """
    from taskscope.ftrace.datwriteparts import DatBuffer, DatFile
    from taskscope.model.kernel.trace.extract import tracing_extract

    log = tracing_extract(machine)
    buffers = [DatBuffer(b.name, b.clock, b.page_size, b.pages, b.stats) for b in log.buffers]
    return DatFile(
        header_page=log.header_page,
        header_event=log.header_event,
        formats=log.formats,
        kallsyms=log.kallsyms,
        printk_formats=log.printk_formats,
        cmdlines=log.cmdlines,
        buffers=buffers,
        cpu_count=log.cpu_count,
        long_size=log.long_size,
        uname=log.uname,
        tgids=log.tgids,
    )


def tasks_of_machine(machine: Machine) -> Saved:
    """Return all task descriptors of a machine as they are now.

    :param machine: the one that runs (`taskscope.model.machine.cur`)
    """
    from taskscope.model.memory import ModelMemory
    from taskscope.snapshot.detail import detail_of
    from taskscope.snapshot.saved import Saved

    memory = ModelMemory(machine)
    tasks = (*memory.idle_tasks(), *(t for leader in memory.processes() for t in memory.threads(leader)))
    return Saved(machine.now, memory.source, machine.flavour.arch, tuple(detail_of(memory, task) for task in tasks))
