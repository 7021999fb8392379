"""A machine's log as a trace.dat to be: what joins the model's pages and the writer of recordings.

Stands at the front door because the two rooms may not know each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskscope.ftrace.datwriteparts import DatFile
    from taskscope.model.machine import Machine


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
