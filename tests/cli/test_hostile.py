"""Bad input: one clear error with exit code 3, or what can be read and a note of the rest; never worse.

Property tests cut and change real recordings and run ``taskscope lives --json`` on them inside this
process, under a limit of address space; the cases with a name run in processes of their own, where time and
memory are measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import DATA, Ran, peak_memory
from lives_json import run_inside

Cli = Callable[..., Ran]

GIB = 1 << 30
#: small recordings of each kind: v7 zstd, v6, v7 plain, 64-bit big endian, 32-bit, several buffers
FILES = [
    "d05-zombie.dat",
    "d33-zombie-612-v6.dat",
    "d06-threads.dat",
    "d50-signals-be64.dat",
    "d61-orphan-32-v6.dat",
    "d14-instances.dat",
]
TEXTS = ["d16-text-tgid.trace.txt", "d17-text-latency.trace.txt", "d80-perf-script-signals.txt"]
SETTINGS = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@contextlib.contextmanager
def little_memory(more: int = 2 * GIB) -> Iterator[None]:
    """Let this process grow by `more` bytes of address space and no further."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def check_answer(code: int, out: bytes, err: str) -> None:
    """Hold that an answer is lives and perhaps notes, or one line that says what is wrong."""
    assert "Traceback" not in err
    assert "bug in taskscope" not in err, err
    assert code in (0, 3), (code, err)
    text = out.decode("utf-8")
    for line in text.splitlines():
        assert isinstance(json.loads(line), dict)
    assert not [c for c in text if c < " " and c != "\n"]
    if code == 3:
        assert len(err.splitlines()) == 1, err
        assert out == b""


def judge(path: Path) -> int:
    """Run lives on a file inside this process; return its exit code."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = peak_memory()
    with little_memory():
        code, out, err = run_inside("lives", "--json", "-i", str(path))
    grown = peak_memory() - before
    assert grown < 128 << 20, f"{grown >> 20} MiB more for a file of {path.stat().st_size} bytes: {err}"
    check_answer(code, out, err)
    return code


@pytest.mark.limit(300)
@pytest.mark.parametrize("name", FILES + TEXTS)
def test_truncated_anywhere(name: str, tmp_path: Path) -> None:
    """A recording that is cut at any byte is refused in one line, or read as far as it goes."""
    whole = (DATA / name).read_bytes()
    target = tmp_path / name

    @SETTINGS
    @given(st.integers(0, len(whole) - 1))
    @example(0)
    @example(1)
    @example(9)
    @example(20)
    @example(len(whole) - 1)
    @example(len(whole) // 2)
    def cut(size: int) -> None:
        target.write_bytes(whole[:size])
        judge(target)

    cut()


# Values that counts, sizes and offsets go wrong with.
NASTY = st.sampled_from(
    [
        b"\xff" * 8,
        b"\xff" * 4,
        b"\x00" * 8,
        b"\x7f" + b"\xff" * 7,
        b"\xff" * 7 + b"\x7f",
        b"\x00\x00\x00\x80",
        b"\x80\x00\x00\x00",
        b"\x00" * 4,
        b"\n" * 4,
        b"-1",
    ]
)


@pytest.mark.limit(300)
@pytest.mark.parametrize("name", FILES + TEXTS)
def test_changed_anywhere(name: str, tmp_path: Path) -> None:
    """A recording with any bytes changed is refused in one line, or read with what is left of it."""
    whole = (DATA / name).read_bytes()
    target = tmp_path / name
    place = st.one_of(st.integers(0, min(4096, len(whole) - 1)), st.integers(0, len(whole) - 1))

    @SETTINGS
    @given(st.lists(st.tuples(place, st.one_of(NASTY, st.binary(min_size=1, max_size=16))), min_size=1, max_size=6))
    def change(changes: list[tuple[int, bytes]]) -> None:
        broken = bytearray(whole)
        for at, new in changes:
            broken[at : at + len(new)] = new[: len(broken) - at]
        target.write_bytes(broken)
        judge(target)

    change()


@pytest.mark.limit(300)
@pytest.mark.parametrize("name", ["d33-zombie-612-v6.dat", "d06-threads.dat", "d61-orphan-32-v6.dat"])
def test_changed_pages(name: str, tmp_path: Path) -> None:
    """Damage inside the ring-buffer pages (uncompressed here) costs events, never the answer's form."""
    whole = (DATA / name).read_bytes()
    target = tmp_path / name
    chance = random.Random(name)
    for _ in range(40):
        broken = bytearray(whole)
        for _ in range(chance.choice((1, 4, 64))):
            at = chance.randrange(len(whole) * 3 // 4, len(whole))
            broken[at] = chance.randrange(256)
        target.write_bytes(broken)
        judge(target)


@pytest.mark.limit(300)
@pytest.mark.parametrize("folder", ["d18-raw4k", "d62-raw-32"])
def test_changed_folders(folder: str, tmp_path: Path) -> None:
    """A folder of raw pages with a file cut, changed, emptied or gone is no worse than a bad file."""
    chance = random.Random(folder)
    names = sorted(p.name for p in (DATA / folder).iterdir())
    for k, name in enumerate(names * 4):
        target = tmp_path / f"{k}"
        shutil.copytree(DATA / folder, target)
        victim = target / name
        content = victim.read_bytes()
        how = k // len(names)
        if how == 0:
            victim.unlink()
        elif how == 1:
            victim.write_bytes(b"")
        elif how == 2:
            victim.write_bytes(content[: chance.randrange(len(content))])
        else:
            at = chance.randrange(len(content))
            victim.write_bytes(content[:at] + chance.randbytes(32) + content[at + 32 :])
        judge(target)
        shutil.rmtree(target)


# ---------------------------------------------------------------------- cases with a name


def refused(ran: Ran, path: Path, codes: tuple[int, ...] = (3,)) -> None:
    """One line on stderr that names the file, nothing on stdout, soon and with little memory."""
    assert ran.code in codes, (ran.code, ran.err)
    assert ran.out == b""
    lines = ran.err.decode().splitlines()
    assert len(lines) == 1, lines
    assert path.name in lines[0]
    assert "Traceback" not in lines[0]
    assert "bug in taskscope" not in lines[0]
    assert ran.seconds < 10
    assert ran.rss < 512 << 20


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"hello\n",
        b"\x17\x08\x44",
        b"\x17\x08\x44tracing",
        b"\x7fELF" * 99,
        b"\x17\x08\x44tracing9999\x00" + bytes(99),
        b"PERFILE2" + bytes(200),
        bytes(4096),
        b"\xff" * 4096,
        b"{}\n[]\n",
        b"\x17\x08\x44tracing6\x00\x00\x08" + b"\xff" * 99,
    ],
)
def test_what_is_no_recording(cli: Cli, tmp_path: Path, content: bytes) -> None:
    """An empty file, a wrong magic, another format: exit code 3 and one line."""
    path = tmp_path / "thing.dat"
    path.write_bytes(content)
    refused(cli("lives", "--json", "-i", path), path)


def test_a_folder_that_is_no_recording(cli: Cli, tmp_path: Path) -> None:
    """A directory without ring-buffer pages is refused."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing\n")
    refused(cli("lives", "-i", folder), folder)


def test_a_file_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    """A name that leads nowhere is refused, as input (3) or as usage (2)."""
    path = tmp_path / "absent.dat"
    ran = cli("lives", "-i", path)
    assert ran.code in (2, 3)
    assert b"absent.dat" in ran.err
    assert b"Traceback" not in ran.err


@pytest.mark.parametrize("kind", ["fifo", "/dev/null", "/dev/zero", "/proc/self/mem"])
def test_what_is_no_regular_file(cli: Cli, tmp_path: Path, kind: str) -> None:
    """Devices and pipes are refused soon: no read without an end, no wait without an end."""
    path = Path(kind)
    if kind == "fifo":
        path = tmp_path / "fifo"
        os.mkfifo(path)
    ran = cli("lives", "-i", path, timeout=15, address_space=8 * GIB)
    assert ran.code in (1, 3, 77), ran
    assert b"Traceback" not in ran.err
    assert b"bug in taskscope" not in ran.err
    assert ran.rss < 512 << 20


def test_a_file_without_permission(cli: Cli, tmp_path: Path) -> None:
    """A file that the caller may not read: 77 (no permission) or 3, and one line."""
    path = tmp_path / "secret.dat"
    shutil.copy(DATA / "d05-zombie.dat", path)
    path.chmod(0)
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root reads everything, and there is no setpriv to be someone else")
        prefix = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == 0 and str(folder).startswith("/tmp/pytest"):
                folder.chmod(0o755)
        try:
            subprocess.run(
                [*prefix, sys.executable, "-c", "import taskscope.cli.main"],
                check=True,
                capture_output=True,
                env=dict(os.environ, PYTHONPATH=str(DATA.parents[1] / "src"), PYTHONDONTWRITEBYTECODE="1"),
            )
        except subprocess.CalledProcessError:
            pytest.skip("another user cannot run this Python")
    refused(cli("lives", "-i", path, prefix=prefix), path, (3, 77))


@pytest.mark.parametrize("head", [b"", b"d05-zombie.dat", b"d33-zombie-612-v6.dat", b"# tracer: nop\n#\n"])
def test_a_sparse_file_of_5_gigabytes(cli: Cli, tmp_path: Path, head: bytes) -> None:
    """5 GB of holes, alone or behind a recording: no 5 GB in memory, and an answer in seconds."""
    path = tmp_path / "sparse.dat"
    start = (DATA / head.decode()).read_bytes() if head.startswith(b"d") else head
    path.write_bytes(start)
    os.truncate(path, 5_000_000_000)
    ran = cli("lives", "--json", "-i", path, timeout=60)
    check_answer(ran.code, ran.out, ran.err.decode())
    assert ran.seconds < 30
    assert ran.rss < GIB
    if not head.startswith(b"d"):
        assert ran.code == 3


def test_a_decompression_bomb(cli: Cli, tmp_path: Path) -> None:
    """A section of some kilobytes that unpacks to a gigabyte is not unpacked to a gigabyte."""
    import zstandard

    small = zstandard.ZstdCompressor(level=3)
    packed = small.compress(bytes(GIB))
    whole = bytearray((DATA / "d05-zombie.dat").read_bytes())
    # v7: magic(10) version\0 endian(1) long(1) page(4) compression\0 version\0 first options(8);
    # section: id(2) flags(2) description(4) size(8); if compressed: chunks(4), each packed(4) plain(4) data.
    at = whole.index(b"7\x00") + 2 + 6
    at = whole.index(b"\x00", whole.index(b"\x00", at) + 1) + 1
    assert struct.unpack_from("<Q", whole, at)[0] < len(whole)
    struct.pack_into("<Q", whole, at, len(whole))
    body = struct.pack("<III", 1, len(packed), GIB) + packed
    path = tmp_path / "bomb.dat"
    path.write_bytes(bytes(whole) + struct.pack("<HHIQ", 0, 1, 0, len(body)) + body)
    ran = cli("lives", "--json", "-i", path, timeout=60)
    check_answer(ran.code, ran.out, ran.err.decode())
    assert ran.rss < 512 << 20


def test_a_claim_of_many_chunks(cli: Cli, tmp_path: Path) -> None:
    """Chunk counts and sizes that the file cannot hold are not believed."""
    whole = bytearray((DATA / "d05-zombie.dat").read_bytes())
    found = 0
    for at in range(16, len(whole) - 32):
        # every zstd frame stands behind its chunk's two sizes
        if whole[at : at + 4] == b"\x28\xb5\x2f\xfd":
            struct.pack_into("<I", whole, at - 4, 0xFFFFFF00)
            found += 1
    assert found
    path = tmp_path / "claims.dat"
    path.write_bytes(whole)
    ran = cli("lives", "--json", "-i", path, timeout=60, address_space=6 * GIB)
    check_answer(ran.code, ran.out, ran.err.decode())
    assert ran.rss < 512 << 20


def test_a_recording_without_sched_events(cli: Cli, tmp_path: Path) -> None:
    """Where no event tells of tasks, there is an error or an answer with a note, and no invented life."""
    path = tmp_path / "trace.txt"
    path.write_text(
        "# tracer: nop\n#\n"
        + "".join(
            f"          <idle>-0       [000] d.h1.   10.{k:06d}: irq_handler_entry: irq=9 name=acpi\n"
            for k in range(50)
        )
    )
    ran = cli("lives", "--json", "-i", path)
    check_answer(ran.code, ran.out, ran.err.decode())
    assert ran.err, "nothing says that the recording has no sched events"
    for line in ran.out.splitlines():
        row = json.loads(line)
        assert row["pid"] == 0
        assert row["born"] is None
        assert row["exit"] is None


def hostile_names(tmp_path: Path) -> Path:
    """Return a recording whose tasks and programs have terminal sequences for names."""
    whole = (DATA / "d33-zombie-612-v6.dat").read_bytes()
    evil = whole.replace(b"wl\x00\x00\x00\x00\x00\x00", b"\x1b[2J\n\xff\xfe\x00").replace(
        b"/bin/wl\x00", b"/\x1b[7m\nx\x00"
    )
    assert evil != whole
    assert len(evil) == len(whole)
    path = tmp_path / "evil.dat"
    path.write_bytes(evil)
    return path


@pytest.mark.parametrize(
    "verb",
    [
        ("lives",),
        ("lives", "--json"),
        ("report",),
        ("report", "--json"),
        ("kills",),
        ("forks",),
        ("sched",),
        ("ps", "--at", "+3"),
        ("tree", "--at", "+3"),
        ("life", "225"),
    ],
)
def test_names_cannot_write_to_the_terminal(cli: Cli, tmp_path: Path, verb: tuple[str, ...]) -> None:
    """Escape sequences, newlines and bytes that are no UTF-8 in comms and file names come out escaped."""
    ran = cli(verb[0], "-i", hostile_names(tmp_path), *verb[1:])
    assert ran.code == 0, ran.err
    assert ran.out
    text = ran.out.decode("utf-8")
    assert not [c for c in text if (c < " " and c != "\n") or "\x7f" <= c < "\xa0"]
    assert b"\x1b" not in ran.err
    if verb[0] == "life":
        return  # a story wraps its lines, and these names are longer
    plain = cli(verb[0], "-i", DATA / "d33-zombie-612-v6.dat", *verb[1:])
    assert len(text.splitlines()) == len(plain.out.splitlines()), "a newline in a name made a line"


def test_a_terminal_sequence_in_text(cli: Cli, tmp_path: Path) -> None:
    """Raw control characters in a text recording do not reach the terminal either."""
    source = (DATA / "d16-text-tgid.trace.txt").read_bytes()
    path = tmp_path / "trace.txt"
    path.write_bytes(source.replace(b"newcomm=worker-3", b"newcomm=\x1b[5m\x07\x9b"))
    for verb in ("lives", "report", "forks"):
        ran = cli(verb, "-i", path)
        assert ran.code == 0, ran.err
        assert not [b for b in ran.out if b < 32 and b != 10]
        ran.out.decode("utf-8")


def test_memory_is_a_few_times_the_input(cli: Cli) -> None:
    """The largest shipped recording is told with little memory beyond what Python and its libraries need."""
    largest = max(DATA.glob("*.dat"), key=lambda p: p.stat().st_size)
    nothing = cli("decode", "wait", "0x0009")
    assert nothing.code == 0, nothing.err
    ran = cli("lives", "--json", "-i", largest)
    assert ran.code == 0
    assert ran.rss < 300 << 20, f"{ran.rss >> 20} MiB for a file of {largest.stat().st_size >> 10} KiB"
