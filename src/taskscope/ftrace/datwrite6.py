"""Writing trace.dat version 6: one fixed order, nothing compressed.

Follows trace-cmd.dat.v6(5).  The size of everything is known before the first byte is written, so the places
of all pages are computed and the file is written from its beginning to its end.
"""

from __future__ import annotations

from taskscope.errors import UsageError
from taskscope.ftrace.datwriteparts import (
    DatFile,
    Meter,
    Out,
    PageRun,
    clock_text,
    common_options,
    copy_plain,
    event_formats,
    ftrace_formats,
    head,
    header_info,
    option_list,
)
from taskscope.ftrace.options import Option


def write6(out: Out, dat: DatFile, runs: list[dict[int, PageRun]], meter: Meter, path: str) -> None:
    """Write the file.

    :param runs: the pages of the cpus of each buffer
    :raises UsageError: the buffers differ in what version 6 has only once
    """
    page = dat.buffers[0].page_size
    if any(b.page_size != page for b in dat.buffers):
        raise UsageError(f"{path}: version 6 of trace.dat has one size of pages for all buffers; write version 7")
    out.write(head(out, dat, 6))
    for body in (header_info(out, dat), ftrace_formats(out, dat), event_formats(out, dat), out.text4(dat.kallsyms),
                 out.text4(dat.printk_formats), out.text8(dat.cmdlines), out.n(4, dat.cpu_count)):
        out.write(body)
    options = common_options(out, dat)
    instances = [b.name.encode(errors="surrogateescape") + b"\0" for b in dat.buffers[1:]]
    lengths = [len(_table(out, dat, k, 0, {})) for k in range(len(dat.buffers))]
    # An option of an instance says where its pages begin, which depends on how long the options are.
    listed = option_list(out, [*options, *((int(Option.BUFFER), bytes(8) + name) for name in instances)])
    at = out.at + len(b"options  \0") + len(listed) + 2
    starts: list[int] = []
    places: list[dict[int, tuple[int, int]]] = []
    for k, cpus in enumerate(runs):
        starts.append(at)
        at += lengths[k]
        places.append({})
        for cpu in range(dat.cpu_count):
            at += -at % page
            size = cpus[cpu].size if cpu in cpus else 0
            places[k][cpu] = (at, size)
            at += size
    options += [(int(Option.BUFFER), out.n(8, start) + name)
                for start, name in zip(starts[1:], instances, strict=True)]
    out.write(b"options  \0" + option_list(out, options) + out.n(2, Option.DONE))
    for k, cpus in enumerate(runs):
        assert out.at == starts[k], "the places that were written are those of the pages"
        out.write(_table(out, dat, k, dat.cpu_count, places[k]))
        for cpu in range(dat.cpu_count):
            out.align(page)
            if cpu in cpus:
                copy_plain(out, cpus[cpu], meter)


def _table(out: Out, dat: DatFile, buffer: int, count: int, places: dict[int, tuple[int, int]]) -> bytes:
    """Return what stands before the pages of a buffer: where those of each cpu lie, and its clock."""
    rows = b"".join(out.n(8, at) + out.n(8, size) for at, size in (places[cpu] for cpu in range(count)))
    rows = rows or bytes(16 * dat.cpu_count)
    clock = b""
    # The option TRACECLOCK, which goes by the first buffer, announces a clock for each.
    if dat.buffers[0].clock is not None:
        clock = out.text8(clock_text(dat.buffers[buffer].clock or dat.buffers[0].clock))
    return b"flyrecord\0" + rows + clock
