"""The spool of a recording: what its spool.json says, who records, what a folder of it gives to read."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pagewriter import Page

import taskscope
from conftest import ROOT
from taskscope.errors import TraceError
from taskscope.ftrace.record_pump import PageFile
from taskscope.ftrace.spool import INFO, Spool, SpoolInfo, is_running, read_info, used
from taskscope.ftrace.tracefs import boot_id, start_time

SYSTEMS = (b"name: sched_process_exit\nID: 20\nformat:\n"
           b"\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
           b"\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n"
           b"\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n"
           b"\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"
           b"\tfield:char comm[16];\toffset:8;\tsize:16;\tsigned:0;\n"
           b"\tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;\n"
           b"\tfield:int prio;\toffset:28;\tsize:4;\tsigned:1;\n\n"
           b'print fmt: "comm=%s pid=%d prio=%d", REC->comm, REC->pid, REC->prio\n')
HEADER = (b"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
          b"\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
          b"\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
          b"\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;\n")


def exit_record(pid: int) -> bytes:
    """Return the data of a sched_process_exit."""
    order = sys.byteorder
    return ((20).to_bytes(2, order) + bytes(2) + pid.to_bytes(4, order) + b"dies".ljust(16, b"\0")
            + pid.to_bytes(4, order) + (120).to_bytes(4, order))


def spool_of(folder: Path, **values: object) -> SpoolInfo:
    """Make a spool whose recorder is dead, with one event and a reserved rest."""
    info = SpoolInfo(state="recording", pid=4194300, start_time=7, boot_id=boot_id(), output="trace.dat", clock="mono",
                     uname="Linux host 6.1.0 x86_64", cpu_count=2)
    for name, value in values.items():
        setattr(info, name, value)
    spool = Spool(folder, info)
    for name, text in (("header_page", HEADER), ("formats", b"system: sched\n" + SYSTEMS), ("trace_clock", b"[mono]"),
                       ("saved_cmdlines", b"5 dies\n"), ("header_event", b""), ("kallsyms", b"")):
        spool.put(name, text)
    fd = spool.create("cpu0.raw")
    os.write(fd, Page(1000, big_endian=sys.byteorder == "big").event(0, exit_record(5)).bytes() + bytes(1 << 18))
    os.close(fd)
    spool.close()
    return info


def test_it_says_what_it_was_told(tmp_path: Path) -> None:
    """What is written into spool.json is read back, shorter texts over longer ones too, and is for its owner only."""
    info = SpoolInfo(command=["a b", "\udcff\n"], tasks=[1, 2], began=1.5, state="recording")
    spool = Spool(tmp_path / "x.spool", info)
    assert read_info(tmp_path / "x.spool") == info
    info.command, info.state = [], "writing"
    spool.save()
    assert read_info(tmp_path / "x.spool") == info
    assert (tmp_path / "x.spool").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "x.spool" / INFO).stat().st_mode & 0o077 == 0
    spool.close()


def test_a_folder_that_is_there_is_not_used(tmp_path: Path) -> None:
    """A spool is never made in a folder that exists, nor through a link."""
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for name in ("there", "link"):
        with pytest.raises(FileExistsError):
            Spool(tmp_path / name, SpoolInfo())
    assert list((tmp_path / "there").iterdir()) == []


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from([*SpoolInfo.__slots__, "format"]), x)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_json_is_read_or_refused(tmp_path: Path, value: object) -> None:
    """Whatever stands in spool.json, the answer is what it says or one clear error."""
    folder = tmp_path
    if isinstance(value, dict):
        value = {"format": 1, **value}
    (folder / INFO).write_text(json.dumps(value))
    try:
        info = read_info(folder)
    except TraceError as e:
        assert INFO in str(e)  # noqa: PT017
    else:
        assert info is not None


def test_a_recorder_lives_or_not(tmp_path: Path) -> None:
    """A recorder is alive if its process is there with the same start, or if its lock holds; a pid alone is nothing."""
    folder = tmp_path / "x.spool"
    me = os.getpid()
    info = SpoolInfo(pid=me, start_time=start_time(me) or 0, boot_id=boot_id())
    spool = Spool(folder, info)
    assert is_running(folder, info)
    spool.close()
    assert is_running(folder, info)
    for other in (SpoolInfo(pid=me, start_time=1, boot_id=boot_id()),
                  SpoolInfo(pid=me, start_time=info.start_time, boot_id="another boot"), SpoolInfo()):
        assert not is_running(folder, other)
    script = ("import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); "
              "sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", script, folder / INFO], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert is_running(folder, SpoolInfo(pid=4194300, boot_id=boot_id()))
        holder.kill()
    assert not is_running(folder, SpoolInfo(pid=4194300, boot_id=boot_id()))


def test_a_dead_spool_is_read(tmp_path: Path) -> None:
    """The pages of a killed recorder are a recording: what it had only reserved is no loss, and the remedy is named."""
    spool_of(tmp_path / "it's.spool")
    t = taskscope.open(tmp_path / "it's.spool")
    assert t.events("sched_process_exit")["pid"].to_list() == [5]
    assert t.lost == ()
    assert t.source.container == "spool"
    assert (t.kernel.release, t.kernel.machine) == ("6.1.0", "x86_64")
    assert len([n for n in t.notes if "--recover" in n]) == 1
    assert any("'\"'\"'" in n for n in t.notes)


def test_a_living_spool_is_read(tmp_path: Path) -> None:
    """The pages of a recorder that lives are what it has until now."""
    me = os.getpid()
    spool_of(tmp_path / "x.spool", pid=me, start_time=start_time(me))
    t = taskscope.open(tmp_path / "x.spool")
    assert t.events("sched_process_exit")["pid"].to_list() == [5]
    assert any(f"is running (pid {me})" in n for n in t.notes)


@pytest.mark.parametrize("cut", [1, 17, 4095])
def test_a_page_that_is_cut_is_left_out(tmp_path: Path, cut: int) -> None:
    """Half a page at the end of a spool's file does not hide the pages before it."""
    spool_of(tmp_path / "x.spool")
    path = tmp_path / "x.spool/cpu0.raw"
    page = Page(2000, big_endian=sys.byteorder == "big").event(0, exit_record(6)).bytes()
    path.write_bytes(path.read_bytes()[:4096] + page[:cut])
    assert taskscope.open(tmp_path / "x.spool").events("sched_process_exit")["pid"].to_list() == [5]


def test_nothing_recorded_yet(tmp_path: Path) -> None:
    """A spool without pages says whether its recorder has just begun or was killed."""
    spool = Spool(tmp_path / "x.spool", SpoolInfo(pid=4194300, boot_id=boot_id()))
    spool.close()
    with pytest.raises(TraceError, match="killed before it began"):
        taskscope.open(tmp_path / "x.spool")
    me = os.getpid()
    shutil.rmtree(tmp_path / "x.spool")
    spool = Spool(tmp_path / "x.spool", SpoolInfo(pid=me, start_time=start_time(me) or 0, boot_id=boot_id()))
    spool.close()
    with pytest.raises(TraceError, match="has just begun"):
        taskscope.open(tmp_path / "x.spool")


# ---- files of pages --------------------------------------------------------------------------------------

@pytest.mark.parametrize("page_size", [4096, 8192, 65536])
def test_pages_land_in_the_file(tmp_path: Path, page_size: int) -> None:
    """Pages that are put into the rooms of a file are its content, in their order, over any number of extensions."""
    fd = os.open(tmp_path / "cpu0.raw", os.O_RDWR | os.O_CREAT)
    file = PageFile(fd, page_size)
    count = 3 * (1 << 20) // page_size + 5
    for k in range(count):
        file.room()[:] = bytes([k % 251 + 1]) * page_size
        file.size += page_size
        if k == 2:
            assert used(fd, page_size) == 3 * page_size
    file.close()
    content = (tmp_path / "cpu0.raw").read_bytes()
    assert content == b"".join(bytes([k % 251 + 1]) * page_size for k in range(count))


def test_a_limit_is_met_before_a_page_is_taken(tmp_path: Path) -> None:
    """Where a file may not grow the room ends in an error, and the file holds the pages that fitted."""
    script = f"""
import os, resource, signal, sys
sys.path.insert(0, {str(ROOT / "src")!r})
from taskscope.ftrace.record_pump import DiskFullError, PageFile
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10 * 4096 + 100, 10 * 4096 + 100))
file = PageFile(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), 4096)
try:
    while True:
        file.room()[:] = b"x" * 4096
        file.size += 4096
except DiskFullError as e:
    print(e.cause.errno, file.size)
file.close()
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "f"], capture_output=True, text=True, timeout=30,
                          check=True)
    assert done.stdout.split() == [str(errno.EFBIG), str(10 * 4096)]
    assert (tmp_path / "f").stat().st_size == 10 * 4096


