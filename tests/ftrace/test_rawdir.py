"""Folders of raw pages: the flat layout of the real sets, a copied tracefs, and folders that are neither."""

from __future__ import annotations

import os
import shutil
import struct
import time
from pathlib import Path

import datwriter as w
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskscope.errors import TraceError
from taskscope.ftrace.dat import read_dat
from taskscope.ftrace.formats import split_formats
from taskscope.ftrace.rawdir import read_rawdir
from taskscope.ftrace.recorded import Recorded
from taskscope.ftrace.systems import UNKNOWN, system_of

TRACEFS = Path("/sys/kernel/tracing")


def flat(folder: Path, cpus: dict[int, bytes], *, long_size: int = 8, size: int = 4096) -> Path:
    """Lay out a folder like the real raw sets."""
    folder.mkdir(parents=True, exist_ok=True)
    for cpu, pages in cpus.items():
        (folder / f"cpu{cpu}.raw").write_bytes(pages)
        (folder / f"cpu{cpu}.stats").write_text(f"entries: 1\noverrun: {cpu + 7}\ndropped events: {cpu}\n")
    (folder / "header_page").write_bytes(w.header_page(long_size, size))
    (folder / "header_event").write_bytes(b"# compressed entry header\n")
    (folder / "formats").write_bytes(b"".join([*w.FTRACE, *w.EVENTS["sched"], *w.EVENTS["task"]]))
    (folder / "saved_cmdlines").write_bytes(b"1 init\n42 a b\n")
    (folder / "trace_clock").write_bytes(b"local [global] mono\n")
    return folder


def tracefs(folder: Path, cpus: dict[int, bytes], instances: dict[str, dict[int, bytes]]) -> Path:
    """Lay out a folder like a copied tracefs."""
    for base, buffer in [(folder, cpus), *((folder / "instances" / n, c) for n, c in instances.items())]:
        for cpu, pages in buffer.items():
            per_cpu = base / "per_cpu" / f"cpu{cpu}"
            per_cpu.mkdir(parents=True)
            (per_cpu / "trace_pipe_raw").write_bytes(pages)
            (per_cpu / "stats").write_text("overrun: 3\n")
        (base / "trace_clock").write_bytes(b"[mono] local\n" if base != folder else b"[local] mono\n")
    events = folder / "events"
    for system, formats in {"ftrace": w.FTRACE, **w.EVENTS, "my probes": [w.event_format("p", 9)]}.items():
        for text in formats:
            event = events / system / text.split(b"\n")[0][6:].decode()
            event.mkdir(parents=True)
            (event / "format").write_bytes(text)
            (event / "id").write_bytes(b"1\n")
    (events / "enable").write_bytes(b"0\n")
    (events / "header_page").write_bytes(w.header_page())
    (events / "header_event").write_bytes(b"# x\n")
    (folder / "saved_cmdlines").write_bytes(b"7 x\n")
    (folder / "saved_tgids").write_bytes(b"7 6\n8 6\n")
    (folder / "printk_formats").write_bytes(b'0x10 : "a"\n')
    (folder / "kallsyms").write_bytes(b"ffffffff81000000 T _text\n")
    return folder


def pages_of(r: Recorded, buffer: int = 0) -> dict[int, bytes]:
    """Return the pages of each cpu of a buffer."""
    return {c.cpu: r.data[c.offset:c.offset + c.size].tobytes() for c in r.buffers[buffer].cpus}


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("long_size", [4, 8])
@pytest.mark.parametrize("size", [4096, 65536, 1024])
def test_the_layout_comes_from_the_data(tmp_path: Path, big: bool, long_size: int, size: int) -> None:
    """Byte order, size of long and page size are told by header_page and the page headers alone."""
    cpus = {k: w.pages(n, big_endian=big, long_size=long_size, size=size, cpu=k) for k, n in ((0, 3), (1, 1), (12, 2))}
    r = read_rawdir(str(flat(tmp_path, cpus, long_size=long_size, size=size)))
    assert (r.big_endian, r.long_size, r.buffers[0].page_size) == (big, long_size, size)
    assert pages_of(r) == cpus
    assert [(c.cpu, c.overrun, c.dropped) for c in r.buffers[0].cpus] == [(0, 7, 0), (1, 8, 1), (12, 19, 12)]
    assert all(c.offset % 8 == 0 for c in r.buffers[0].cpus)
    assert r.cmdlines == {1: b"init", 42: b"a b"}
    assert (r.container, r.clock, r.notes) == ("raw pages", "global", [])


def test_a_file_of_all_formats_is_split_and_systems_are_told_by_name(tmp_path: Path) -> None:
    """Format files one after the other are separated; where nothing names the system, the event's name does."""
    r = read_rawdir(str(flat(tmp_path, {0: w.pages(1)})))
    assert r.formats == [("ftrace", w.FTRACE[0]), ("sched", w.EVENTS["sched"][0]), ("sched", w.EVENTS["sched"][1]),
                         ("task", w.EVENTS["task"][0])]


def test_what_stands_between_formats_names_the_system() -> None:
    """A line `system:` or the path of the format file before a format wins over the event's name."""
    a, b, c = w.event_format("sched_a", 1), w.event_format("b", 2), w.event_format("c", 3)
    text = b"system: mine\n" + a + b + b"\n==> events/other-s/c/format <==\n" + c + w.event_format("sched_d", 4)
    assert split_formats(text) == [("mine", a), ("mine", b), ("other-s", c), ("mine", w.event_format("sched_d", 4))]
    assert split_formats(b"") == []
    assert split_formats(b"no formats\n") == []
    assert split_formats(b"name: sched_x\nID: 7\n") == [("sched", b"name: sched_x\nID: 7\n")]


@pytest.mark.parametrize(("event", "system"), [
    ("sched_switch", "sched"), ("signal_generate", "signal"), ("task_newtask", "task"), ("sys_enter", "raw_syscalls"),
    ("sys_exit_wait4", "syscalls"), ("irq_handler_entry", "irq"), ("softirq_raise", "irq"), ("mark_victim", "oom"),
    ("hrtimer_start", "timer"), ("timer_expire_entry", "timer"), ("workqueue_execute_start", "workqueue"),
    ("kernel_stack", "ftrace"), ("funcgraph_exit", "ftrace"), ("do_exit", UNKNOWN), ("sched_", UNKNOWN),
    ("timerlat", "ftrace"),
])
def test_systems_told_by_name(event: str, system: str) -> None:
    """Names of the kernel's own events tell their system; others are unknown."""
    assert system_of(event) == system


@pytest.mark.root
def test_systems_told_by_name_are_those_of_this_kernel() -> None:
    """For every event of the running kernel the name tells the right system or none."""
    if not os.access(TRACEFS / "events", os.R_OK):
        pytest.skip("tracefs is not mounted, or this user may not read it")
    events = [p.parent for p in (TRACEFS / "events").glob("*/*/format")]
    assert len(events) > 100
    # dax, dma and others have no part in lives, so "unknown" is right for them.
    wrong = {(e.parent.name, e.name, system_of(e.name)) for e in events
             if system_of(e.name) not in (e.parent.name, UNKNOWN)}
    assert wrong == set()
    ours = {"sched", "signal", "task", "irq", "oom", "timer", "workqueue", "raw_syscalls", "ftrace"}
    missed = {e.name for e in events if e.parent.name in ours and system_of(e.name) == UNKNOWN}
    assert {m for m in missed if m != "tick_stop"} == set()


def test_a_copied_tracefs_with_instances(tmp_path: Path) -> None:
    """The kernel's own tree, copied, is read with its systems, tgids, symbols and instances."""
    cpus, inst = {0: w.pages(2), 1: w.pages(1, cpu=1)}, {"irqs": {0: w.pages(3)}, "empty": {0: b""}}
    r = read_rawdir(str(tracefs(tmp_path, cpus, inst)))
    assert [(b.name, b.clock) for b in r.buffers] == [("", "local"), ("empty", "mono"), ("irqs", "mono")]
    assert pages_of(r) == cpus
    assert pages_of(r, 2) == inst["irqs"]
    assert sorted(r.formats)[:3] == [("ftrace", w.FTRACE[0]), ("my probes", w.event_format("p", 9)),
                                     ("sched", w.EVENTS["sched"][0])]
    assert (r.tgids, r.cmdlines) == ({7: 6, 8: 6}, {7: b"x"})
    assert r.kallsyms == b"ffffffff81000000 T _text\n"
    assert r.printk_formats == b'0x10 : "a"\n'
    assert r.buffers[0].cpus[0].overrun == 3
    assert r.header_event == b"# x\n"
    assert len(r.notes) == 1
    assert "different clocks" in r.notes[0]


def test_a_sub_buffer_size_in_kib_is_that_of_its_buffer(tmp_path: Path) -> None:
    """buffer_subbuf_size_kb of an instance is the page size of that instance."""
    folder = tracefs(tmp_path, {0: w.pages(2)}, {"big": {0: w.pages(2, size=16384)}})
    (folder / "instances" / "big" / "buffer_subbuf_size_kb").write_text("16\n")
    (folder / "buffer_subbuf_size_kb").write_text("4\n")
    r = read_rawdir(str(folder))
    assert [b.page_size for b in r.buffers] == [4096, 16384]
    assert pages_of(r, 1)[0] == w.pages(2, size=16384)


def test_symbols_beside_the_folder_are_used_and_named(tmp_path: Path) -> None:
    """A kallsyms in the folder above is used with a note that says so."""
    folder = flat(tmp_path / "raw", {0: w.pages(1)})
    (tmp_path / "kallsyms").write_bytes(b"ffffffff81000000 T beside\n")
    r = read_rawdir(str(folder))
    assert b"beside" in r.kallsyms
    assert str(tmp_path / "kallsyms") in r.notes[0]


def test_a_header_page_that_is_not_there_is_made_up_from_the_formats(tmp_path: Path) -> None:
    """Without header_page the size of a long field gives the layout; the page size must be in the folder."""
    folder = flat(tmp_path, {0: w.pages(2, long_size=4)}, long_size=4)
    (folder / "header_page").unlink()
    with pytest.raises(TraceError, match="header_page"):
        read_rawdir(str(folder))
    (folder / "formats").write_bytes(w.event_format("function", 1, "unsigned long ip;8;4;0"))
    with pytest.raises(TraceError, match="how large its pages are"):
        read_rawdir(str(folder))
    (folder / "subbuf_size").write_text("4096\n")
    r = read_rawdir(str(folder))
    assert r.long_size == 4
    assert pages_of(r) == {0: w.pages(2, long_size=4)}


def test_pages_cut_in_the_middle_are_noted(tmp_path: Path) -> None:
    """A file that ends in a page keeps what is there and says how many bytes are missing."""
    r = read_rawdir(str(flat(tmp_path, {0: w.pages(3)[:-1000], 1: w.pages(1)})))
    assert pages_of(r)[0] == w.pages(3)[:-1000]
    assert [c.missing for c in r.buffers[0].cpus] == [1000, 0]
    assert "cpu0.raw ends in the middle of a page: 1,000 bytes are missing" in r.notes[0]


def test_one_cpu_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    """A cpu's file that is a folder or a pipe is noted at once, and the other cpus are read."""
    folder = flat(tmp_path, {0: w.pages(1)})
    (folder / "cpu1.raw").mkdir()
    os.mkfifo(folder / "cpu2.raw")
    start = time.monotonic()
    r = read_rawdir(str(folder))
    assert time.monotonic() - start < 8, "waited for the pipe"
    assert pages_of(r) == {0: w.pages(1), 1: b"", 2: b""}
    assert [c.missing > 0 for c in r.buffers[0].cpus] == [False, True, True]
    assert len(r.notes) == 2
    assert "cpu 1" in r.notes[0]


def test_folders_without_pages(tmp_path: Path) -> None:
    """A folder that holds no pages is one error; one whose files of pages are all empty has no events."""
    with pytest.raises(TraceError, match=r"folder without pages.*;"):
        read_rawdir(str(tmp_path))
    r = read_rawdir(str(flat(tmp_path / "empty", {0: b"", 1: b""})))
    assert len(r.data) == 0
    assert "empty" in r.notes[0]


def test_a_byte_order_that_cannot_be_told_is_an_error(tmp_path: Path) -> None:
    """Pages whose lengths make sense in no byte order, or as often in both, are refused."""
    noise = b"".join(struct.pack("<QQ", 5, 0x7777777777777777).ljust(4096, b"\x55") for _ in range(3))
    with pytest.raises(TraceError, match=r"byte order.*;"):
        read_rawdir(str(flat(tmp_path / "a", {0: noise})))
    with pytest.raises(TraceError, match=r"byte order.*;"):
        read_rawdir(str(flat(tmp_path / "b", {0: w.pages(2), 1: w.pages(2, big_endian=True)})))


def test_a_few_damaged_pages_do_not_hide_the_byte_order(tmp_path: Path) -> None:
    """The order of most pages is the order."""
    pages = bytearray(w.pages(40))
    pages[8:16] = b"\xff" * 8
    pages[4096 + 8:4096 + 16] = bytes([0, 0, 0, 0, 0, 0, 0, 16])
    assert not read_rawdir(str(flat(tmp_path, {0: bytes(pages)}))).big_endian


def test_holes_of_a_sparse_file_are_not_read(tmp_path: Path) -> None:
    """Five GB of hole behind the pages cost neither time nor memory."""
    folder = flat(tmp_path, {0: w.pages(3), 1: w.pages(1)})
    os.truncate(folder / "cpu0.raw", 5 << 30)
    if (folder / "cpu0.raw").stat().st_blocks * 512 > 1 << 20:
        pytest.skip("the file system of the temporary folder has no sparse files")
    start = time.process_time()
    r = read_rawdir(str(folder))
    assert time.process_time() - start < 3
    assert len(r.data) < 1 << 20
    assert pages_of(r)[0][:3 * 4096] == w.pages(3)
    assert "never written" in r.notes[0]
    assert r.buffers[0].cpus[0].missing > 4 << 30


@pytest.mark.root
def test_the_tracefs_of_the_running_kernel_is_refused() -> None:
    """Reading the live files would take the kernel's events away, so it is an error with a remedy."""
    if not os.access(TRACEFS / "per_cpu", os.R_OK):
        pytest.skip("tracefs is not mounted, or this user may not read it")
    with pytest.raises(TraceError, match=r"tracefs of the running kernel.*taskscope record"):
        read_rawdir(str(TRACEFS))


def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    """Files that this user may not read are an error of rights, with its own exit code."""
    folder = flat(tmp_path / "raw", {0: w.pages(1)})
    (folder / "cpu0.raw").chmod(0)
    if os.geteuid() == 0:
        for p in (folder, *folder.iterdir()):
            os.chown(p, 65534, 65534)
        for p in (tmp_path, *list(tmp_path.parents)[:2]):
            p.chmod(p.stat().st_mode | 0o055)
        os.seteuid(65534)
    try:
        with pytest.raises(TraceError) as e:
            read_rawdir(str(folder))
    finally:
        if os.geteuid() != os.getuid():
            os.seteuid(os.getuid())
    assert e.value.exit_code == 77


# ---- recordings of real kernels --------------------------------------------------------------------------------------

REAL = {
    "d18-raw4k": (False, 8, 4096, 2, {"ftrace", "sched", "signal", "task"}),
    "d37-raw16k-612": (False, 8, 16384, 4, {"ftrace", "sched", "signal", "task", "irq"}),
    "d53-raw-be64": (True, 8, 4096, 2, {"ftrace", "sched", "signal", "task"}),
    "d62-raw-32": (False, 4, 4096, 2, {"ftrace", "sched", "signal", "task"}),
    "d70-host618-kill9-stack": (False, 8, 4096, 2, {"ftrace", "sched", "signal", "task"}),
    "d71-host618-orphan": (False, 8, 4096, 2, {"ftrace", "sched", "signal", "task"}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_raw_pages(data: Path, name: str) -> None:
    """Every real set is read whole: pages as in its files, in the byte order of its machine."""
    folder = data / name
    r = read_rawdir(str(folder))
    big, long_size, page_size, cpus, systems = REAL[name]
    assert (r.big_endian, r.long_size, r.buffers[0].page_size) == (big, long_size, page_size)
    assert pages_of(r) == {k: (folder / f"cpu{k}.raw").read_bytes() for k in range(cpus)}
    assert {s for s, _ in r.formats} == systems
    names = [line[6:] for line in (folder / "formats").read_text().splitlines() if line.startswith("name: ")]
    assert [text.split(b"\n")[0][6:].decode() for _, text in r.formats] == names
    assert b"".join(text for _, text in r.formats) == (folder / "formats").read_bytes()
    assert (r.clock, r.notes) == ("local", [])
    assert len(r.cmdlines) == len((folder / "saved_cmdlines").read_bytes().splitlines())
    assert [c.overrun for c in r.buffers[0].cpus] == [0] * cpus


@pytest.mark.parametrize("name", ["d05-zombie.dat", "d51-threads-be64-v6.dat", "d61-orphan-32-v6.dat"])
def test_the_byte_order_of_real_pages_is_told_as_their_file_says(tmp_path: Path, data: Path, name: str) -> None:
    """Pages of a trace.dat, put into a folder, show the order that the trace.dat states."""
    whole = read_dat(str(data / name))
    cpus = {c.cpu: whole.data[c.offset:c.offset + c.size].tobytes() for c in whole.buffers[0].cpus}
    folder = flat(tmp_path, cpus)
    (folder / "header_page").write_bytes(whole.header_page)
    r = read_rawdir(str(folder))
    assert (r.big_endian, r.long_size) == (whole.big_endian, whole.long_size)
    assert pages_of(r) == cpus


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.sampled_from(["cpu0.raw", "cpu1.raw", "formats", "header_page", "saved_cmdlines", "trace_clock",
                              "cpu0.stats", "subbuf_size"]),
       where=st.floats(0, 1, exclude_max=True), flips=st.lists(st.integers(0, 1 << 20), max_size=20), cut=st.booleans())
def test_damaged_folders(tmp_path: Path, data: Path, which: str, where: float, flips: list[int], cut: bool) -> None:
    """A file of the folder that is cut or has flipped bits gives an error, or pages with what is left."""
    folder = tmp_path / "raw"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(data / "d62-raw-32", folder)
    path = folder / which
    raw = bytearray(path.read_bytes())
    for bit in flips:
        raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    path.unlink()
    path.write_bytes(raw[:int(len(raw) * where)] if cut else raw)
    r: Recorded | None = None
    error = ""
    try:
        r = read_rawdir(str(folder))
    except TraceError as e:
        error = str(e)
    if r is None:
        assert str(folder) in error
        assert ";" in error
        return
    for c in r.buffers[0].cpus:
        assert 0 <= c.offset <= c.offset + c.size <= len(r.data)
    assert isinstance(r.data, np.ndarray)
