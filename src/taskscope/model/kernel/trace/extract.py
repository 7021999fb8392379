"""What leaves a machine as a recording: pages, formats, names; what ``trace-cmd extract`` takes from tracefs.

All is bytes, as the files of tracefs give them, so that whoever writes a trace.dat of it needs to know nothing of the
model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from taskscope.model.kernel import kallsyms
from taskscope.model.kernel.trace import ring_buffer, trace, tracefs

if TYPE_CHECKING:
    from taskscope.model.machine import Machine


class ExtractedBuffer(NamedTuple):
    """The ring buffer of an instance; the top-level one has no name."""

    name: str
    clock: str
    page_size: int
    pages: dict[int, bytes]  # by CPU, oldest first
    stats: dict[int, bytes]  # per_cpu/cpuN/stats


class Extract(NamedTuple):
    """All that a recording is made of."""

    header_page: bytes
    header_event: bytes
    formats: list[tuple[str, bytes]]  # (system, text of a format file)
    kallsyms: bytes
    printk_formats: bytes
    cmdlines: bytes  # saved_cmdlines
    tgids: bytes  # saved_tgids
    buffers: list[ExtractedBuffer]
    cpu_count: int
    long_size: int
    uname: str  # sysname, nodename, release, machine


def tracing_extract(cur: Machine) -> Extract:
    """Return what the machine has recorded by now; its buffers are left as they are."""
    top = trace.top_trace_array(cur)
    buffers = []
    for tr in cur.ftrace_trace_arrays:
        pages = {b.cpu: ring_buffer.ring_buffer_pages(b) for b in tr.buffers}
        stats = {b.cpu: tracefs.show_stats(cur, tr, b.cpu) for b in tr.buffers}
        buffers.append(ExtractedBuffer(tr.name, tr.clock, ring_buffer.PAGE_SIZE, pages, stats))
    flavour = cur.flavour
    node = "raspberrypi" if flavour.arch == "arm" else "debian"
    return Extract(
        tracefs.show_header_page(cur, top, None),
        ring_buffer.HEADER_EVENT,
        [(call.system, call.format_text) for call in cur.trace_events],
        kallsyms.kallsyms(cur).text(),
        b"",
        tracefs.show_saved_cmdlines(cur, top, None),
        tracefs.show_saved_tgids(cur, top, None),
        buffers,
        len(cur.cpus),
        flavour.long_size,
        f"Linux {node} {flavour.release} {flavour.machine}",
    )
