"""A folder of raw ring-buffer pages: what ``trace_pipe_raw`` gave for each cpu, with texts that explain it.

Two layouts, also mixed: flat (``cpuN.raw``, ``cpuN.stats``, ``formats`` with all format files in one,
``header_page``, ``subbuf_size``, ``saved_cmdlines``, …) and a copied tracefs
(``per_cpu/cpuN/trace_pipe_raw``, ``events/SYSTEM/EVENT/format``, …, with instances under
``instances/NAME``).  The folder does not say the byte order: the lengths in the page headers do, since they
make sense in one order only.  The spool of `taskscope record` is such a folder too; it may grow meanwhile.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from taskscope.errors import PermissionRefusedError, TraceError
from taskscope.ftrace.blob import Blob, os_error
from taskscope.ftrace.cpudata import PAGE_MAX, PAGE_MIN, refuse_too_large
from taskscope.ftrace.dat import note_clocks
from taskscope.ftrace.formats import split_formats
from taskscope.ftrace.pages import MISSED_STORED, PageLayout, parse_header_page
from taskscope.ftrace.reader import Notes, show
from taskscope.ftrace.recorded import Buffer, CpuPages, Recorded
from taskscope.ftrace.saved import parse_clock, parse_cmdlines, parse_stats, parse_tgids
from taskscope.ftrace.sections import EVENTS_MAX, FORMAT_MAX, TEXT_MAX, Formats
from taskscope.ftrace.spool import RESERVED, SpoolInfo, is_running, read_info

_FLAT = re.compile(r"cpu(\d{1,5})\.raw")
_CPU = re.compile(r"cpu(\d{1,5})")
#: pages looked at for the byte order
_SAMPLE = 4096


@dataclass(slots=True)
class _CpuFile:
    cpu: int
    pages: Path
    stats: Path


def read_rawdir(path: str) -> Recorded:
    """Read a folder of raw pages.

    :raises TraceError: there are no pages, or they do not tell how to read them
    """
    top = Path(path)
    refuse_live_tracefs(top)
    try:
        folders = {"": top, **_instances(top)}
        files = {name: _cpu_files(folder) for name, folder in folders.items()}
    except OSError as e:
        raise os_error(e, path) from e
    spool = read_info(top)
    if not any(files.values()):
        if spool is not None:
            raise TraceError(_empty_spool(top, spool), path)
        raise TraceError("is a folder without pages of a ring buffer (neither cpuN.raw nor "
                         "per_cpu/cpuN/trace_pipe_raw); give a trace.dat, the text of a trace, or a folder "
                         "that has them", path)
    notes = Notes()
    header_page = _first(top, ("header_page", "events/header_page"), FORMAT_MAX, notes)
    formats = _formats(top, notes)
    layout = _layout(header_page, formats, path, notes)
    declared = _declared_size(header_page, layout)
    parts: list[npt.NDArray[np.uint8]] = []
    buffers: list[Buffer] = []
    start = 0
    for name, folder in folders.items():
        if not files[name]:
            continue
        size = _page_size(folder, declared, layout, path, notes)
        buffer = Buffer(name, size, [], parse_clock(_read(folder / "trace_clock", FORMAT_MAX, notes)))
        buffers.append(buffer)
        for file in files[name]:
            pages, content = _read_cpu(file, size, top, notes)
            if spool is not None:
                content = _written(content, size)
                pages.size, pages.missing = len(content), 0
            pages.offset = start
            start += -(-pages.size // 8) * 8
            buffer.cpus.append(pages)
            parts.append(content)
    recorded = _recorded(top, buffers, _join(parts, start, path), layout, header_page, formats, notes)
    if spool is not None:
        _add_spool(recorded, top, spool, layout)
    return recorded


def _recorded(top: Path, buffers: list[Buffer], data: npt.NDArray[np.uint8], layout: PageLayout,
              header_page: bytes, formats: Formats, notes: Notes) -> Recorded:
    comms, bad_comms = parse_cmdlines(_read(top / "saved_cmdlines", TEXT_MAX, notes))
    tgids, bad_tgids = parse_tgids(_read(top / "saved_tgids", TEXT_MAX, notes))
    for bad, what in ((bad_comms, "saved_cmdlines"), (bad_tgids, "saved_tgids")):
        if bad:
            notes.add(f"{bad:,} lines of {what} are none: they are left out")
    if not formats:
        notes.add("the folder holds no event formats (formats, or events/SYSTEM/EVENT/format): events have "
                  "neither names nor fields")
    note_clocks(buffers, buffers[0].clock, notes)
    return Recorded(
        path=str(top), container="raw pages", data=data,
        big_endian=_byte_order(data, buffers, layout, top, notes), long_size=layout.commit_size,
        header_page=header_page,
        header_event=_first(top, ("header_event", "events/header_event"), FORMAT_MAX, notes), formats=formats,
        buffers=buffers, kallsyms=_kallsyms(top, notes),
        printk_formats=_read(top / "printk_formats", TEXT_MAX, notes), cmdlines=comms, tgids=tgids,
        clock=buffers[0].clock, notes=list(notes))


# ---- spools ----------------------------------------------------------------------------------------------

def _empty_spool(top: Path, spool: SpoolInfo) -> str:
    if is_running(top, spool):
        return "is the spool of a recording that has just begun: nothing is in it yet; look again in a second"
    return "is the spool of a recorder that was killed before it began: nothing was recorded"


def _written(content: npt.NDArray[np.uint8], page_size: int) -> npt.NDArray[np.uint8]:
    """Leave out what the recorder had only reserved: pages of zeros at the end."""
    size = len(content) // page_size * page_size
    # The header of a page begins with the time of its first record.
    for _ in range(max(RESERVED // page_size, 1) + 1):
        if size <= 0 or content[size - page_size:size - page_size + 16].any():
            break
        size -= page_size
    return content[:size]


def _add_spool(recorded: Recorded, top: Path, spool: SpoolInfo, layout: PageLayout) -> None:
    """Add what ``spool.json`` tells, and what a finished recording would be without."""
    from taskscope.ftrace.record_pages import Counted, clean_outside, stack_rule, tidy

    recorded.container = "spool"
    words = spool.uname.split()
    if len(words) >= 4:
        recorded.uname, recorded.release, recorded.machine = spool.uname, words[-2], words[-1]
    recorded.cpu_count = spool.cpu_count
    recorded.trace_id = spool.trace_id or None
    if not recorded.data.flags.writeable:
        recorded.data = recorded.data.copy()
    rule = stack_rule(recorded.formats, spool)
    for buffer in recorded.buffers:
        for c in buffer.cpus if rule is not None and not buffer.name else ():
            tidy(recorded.data, c.offset, c.size, layout, buffer.page_size, recorded.big_endian, rule, Counted())
    clean_outside(recorded.data, recorded.buffers, spool, recorded.formats, layout, recorded.big_endian)
    if is_running(top, spool):
        recorded.notes.append(f"the recording is running (pid {spool.pid}); this is what it has until now")
    else:
        recorded.notes.append("the recorder was killed, and this is what it had written; make the file of it: "
                              f"taskscope record --recover {shlex.quote(str(top))}")


# ---- files -----------------------------------------------------------------------------------------------

def refuse_live_tracefs(path: Path) -> None:
    """Refuse the folder of a running kernel: reading ``trace_pipe_raw`` there would take its events away.

    :raises TraceError: the folder lies in a mounted tracefs or debugfs
    """
    real = os.path.realpath(path)
    try:
        mounts = Path("/proc/self/mounts").read_bytes()
    except OSError:
        return
    for line in mounts.splitlines():
        words = line.split(b" ")
        if len(words) > 2 and words[2] in (b"tracefs", b"debugfs"):
            mount = os.fsdecode(re.sub(rb"\\(\d{3})", lambda m: bytes([int(m[1], 8) & 255]), words[1]))
            if real == mount or real.startswith(mount + "/"):
                raise TraceError("is the tracefs of the running kernel, not a recording; record with "
                                 "`taskscope record`, or copy its files with tracing off and give the "
                                 "copy", str(path))


def _instances(top: Path) -> dict[str, Path]:
    folder = top / "instances"
    if not folder.is_dir():
        return {}
    names = sorted(p for p in folder.iterdir() if p.is_dir())[:254]
    return {show(os.fsencode(p.name)): p for p in names}


def _cpu_files(folder: Path) -> list[_CpuFile]:
    found: dict[int, _CpuFile] = {}
    for p in folder.iterdir():
        m = _FLAT.fullmatch(p.name)
        if m and int(m[1]) < 0xFFFF:
            found[int(m[1])] = _CpuFile(int(m[1]), p, p.with_suffix(".stats"))
    per_cpu = folder / "per_cpu"
    if per_cpu.is_dir():
        for p in per_cpu.iterdir():
            m = _CPU.fullmatch(p.name)
            if m and int(m[1]) < 0xFFFF and (p / "trace_pipe_raw").exists():
                found.setdefault(int(m[1]), _CpuFile(int(m[1]), p / "trace_pipe_raw", p / "stats"))
    return [found[cpu] for cpu in sorted(found)]


def _open(path: Path) -> Blob:
    """Open a regular file.

    :raises TraceError: it cannot be read, or is no regular file (a pipe in a folder would be waited for)
    """
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError as e:
        raise os_error(e, str(path)) from e
    if not regular:
        raise TraceError("is no regular file", str(path))
    return Blob.open(str(path))


def _read(path: Path, limit: int, notes: Notes) -> bytes:
    """Read a small file; one that is not there is empty, one that cannot be read leaves a note."""
    if not os.path.exists(path):  # noqa: PTH110  Path.exists() raises where a folder may not be searched
        return b""
    try:
        with _open(path) as blob:
            if len(blob.bytes) <= limit:
                return blob.bytes.tobytes()
        notes.add(f"{path.name} is too large ({len(blob.bytes):,} bytes): it is left out")
        return b""
    except TraceError as e:
        notes.add(f"{e}: it is left out")
        return b""


def _first(top: Path, names: tuple[str, ...], limit: int, notes: Notes) -> bytes:
    return next((text for name in names if (text := _read(top / name, limit, notes))), b"")


def _kallsyms(top: Path, notes: Notes) -> bytes:
    text = _read(top / "kallsyms", TEXT_MAX, notes)
    if not text:
        beside = top.absolute().parent / "kallsyms"
        text = _read(beside, TEXT_MAX, notes)
        if text:
            notes.add(f"the names of kernel addresses come from {beside}, beside the folder")
    return text


def _read_cpu(file: _CpuFile, page_size: int, top: Path,
              notes: Notes) -> tuple[CpuPages, npt.NDArray[np.uint8]]:
    stats = parse_stats(_read(file.stats, FORMAT_MAX, notes))
    pages = CpuPages(file.cpu, 0, 0, stats.overrun, stats.dropped)
    try:
        with _open(file.pages) as blob:
            whole = len(blob.bytes)
            # Pages that were never written are a hole at the end of a sparse file.
            used = -(-blob.data_end(0, whole) // page_size) * page_size
            content = blob.bytes[:used]
    except TraceError as e:
        if isinstance(e, PermissionRefusedError):
            raise
        notes.add(f"{e}: the events of cpu {file.cpu} are missing")
        pages.missing = 1
        return pages, np.empty(0, np.uint8)
    if used < whole:
        pages.missing = whole - used
        notes.add(f"{file.pages.relative_to(top)}: the last {pages.missing:,} of {whole:,} bytes were never written "
                  "(a hole in the file)")
    elif whole % page_size:
        pages.missing = page_size - whole % page_size
        notes.add(f"{file.pages.relative_to(top)} ends in the middle of a page: {pages.missing:,} bytes are missing")
    pages.size = len(content)
    return pages, content


def _join(parts: list[npt.NDArray[np.uint8]], size: int, path: str) -> npt.NDArray[np.uint8]:
    refuse_too_large(size, path)
    if len(parts) == 1:
        return parts[0]
    try:
        data = np.empty(size, np.uint8)
        at = 0
        for part in parts:
            data[at:at + len(part)] = part
            at += -(-len(part) // 8) * 8
    except MemoryError:
        raise TraceError(f"its pages are {size:,} bytes, which do not fit into memory; record less, or read "
                         "it on a machine with more", path) from None
    return data


# ---- formats ---------------------------------------------------------------------------------------------

def _formats(top: Path, notes: Notes) -> Formats:
    formats = split_formats(_read(top / "formats", TEXT_MAX, notes))
    events = top / "events"
    try:
        if formats or not events.is_dir():
            return formats
        for system in sorted(p for p in events.iterdir() if p.is_dir()):
            for event in sorted(p for p in system.iterdir() if p.is_dir()):
                if len(formats) >= EVENTS_MAX:
                    return formats
                text = _read(event / "format", FORMAT_MAX, notes)
                if text:
                    formats.append((show(os.fsencode(system.name)), text))
    except OSError as e:
        notes.add(f"{os_error(e, str(events))}: event formats are missing")
    return formats


# ---- layout of the pages ---------------------------------------------------------------------------------

def _layout(header_page: bytes, formats: Formats, path: str, notes: Notes) -> PageLayout:
    long_size: int | None = None
    if header_page:
        try:
            return parse_header_page(header_page, 8)
        except ValueError as e:
            notes.add(f"header_page cannot be understood ({e}): the usual layout of pages is taken")
    for _, text in formats:
        m = re.search(rb"field:(?:unsigned )?long \w+;\s*offset:\d+;\s*size:([48]);", text)
        if m:
            long_size = int(m[1])
            break
    if long_size is None:
        raise TraceError("has no header_page (nor events/header_page) that tells how its pages are laid out; "
                         "copy it from the tracefs of the kernel that was recorded", path)
    return parse_header_page(b"", long_size)


def _declared_size(header_page: bytes, layout: PageLayout) -> int | None:
    m = re.search(rb"\bdata;\s*offset:\d+;\s*size:(\d{1,10});", header_page)
    return layout.data + int(m[1]) if m else None


def _page_size(folder: Path, declared: int | None, layout: PageLayout, path: str, notes: Notes) -> int:
    """Return the bytes of a sub-buffer: what the folder says, else what header_page says."""
    stated: list[tuple[str, int]] = []
    for name, unit in (("subbuf_size", 1), ("buffer_subbuf_size_kb", 1024)):
        words = _read(folder / name, FORMAT_MAX, notes).split()
        if words and words[0].isdigit() and len(words[0]) < 10:
            stated.append((name, int(words[0]) * unit))
    if declared is not None:
        stated.append(("header_page", declared))
    good = [(name, size) for name, size in stated
            if PAGE_MIN <= size <= PAGE_MAX and size % 8 == 0 and size > layout.data]
    if not good:
        raise TraceError("does not say how large its pages are (header_page, subbuf_size or "
                         "buffer_subbuf_size_kb); copy them from the tracefs of the kernel that was recorded", path)
    if good[0][1] != good[-1][1] and folder.parent.name != "instances":
        notes.add(f"{good[0][0]} says that pages have {good[0][1]:,} bytes, {good[-1][0]} says "
                  f"{good[-1][1]:,}: {good[0][1]:,} is taken")
    return good[0][1]


def _byte_order(data: npt.NDArray[np.uint8], buffers: list[Buffer], layout: PageLayout, top: Path,
                notes: Notes) -> bool:
    """Tell by the page headers whether the recording is big-endian.

    :raises TraceError: they make sense in both orders, or in none
    """
    votes = [0, 0]
    filled = 0
    for buffer in buffers:
        room = buffer.page_size - layout.data
        for c in buffer.cpus:
            at = c.offset + np.arange(0, c.size - layout.data, buffer.page_size, dtype=np.int64)[:_SAMPLE]
            words = data[at[:, None] + np.arange(layout.commit, layout.commit + layout.commit_size)]
            filled += int(words.any(axis=1).sum())
            for big in (False, True):
                kind = f"{'>' if big else '<'}u{layout.commit_size}"
                value = np.ascontiguousarray(words).view(kind).ravel().astype(np.uint64)
                length = value & np.uint64(MISSED_STORED - 1)
                votes[big] += int(((value >> np.uint64(32) == 0) & (length > 0) & (length <= room)
                                   & (length % np.uint64(4) == 0)).sum())
    if not filled:
        notes.add("its pages are empty: there are no events")
        return False
    less, more = sorted(votes)
    if not more or less * 8 > more:
        raise TraceError(f"does not tell its byte order: of {filled:,} page headers {votes[0]:,} make sense "
                         f"as little-endian and {votes[1]:,} as big-endian; check that header_page and the "
                         "size of the pages are those of this recording", str(top))
    return votes[True] > votes[False]
