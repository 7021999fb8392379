"""Shared fixtures: where the recordings lie, how the command line is run, how long a test may take.

Recordings that the tests need are in ``tests/data``.  A larger collection is used when it is there: the
folder that the environment variable ``TASKSCOPE_DATA`` names, or ``../shared/data`` beside the repository.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))

DATA = TESTS / "data"
ROOT = TESTS.parent

#: seconds a test may take unless it is marked ``limit(seconds)``
LIMIT = 120.0


def sweep_folder() -> Path | None:
    """Return the folder of the larger collection of recordings, None if this machine has none."""
    named = os.environ.get("TASKSCOPE_DATA")
    root = Path(named) if named else ROOT.parent / "shared" / "data"
    for folder in (root / "ftrace", root):
        if any(folder.glob("*.dat")):
            return folder
    return None


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites ``tests/golden`` with what the commands print now."""
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden with the present output")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of the time limit."""
    config.addinivalue_line("markers", f"limit(seconds): the test may take that long (default {LIMIT:.0f} s)")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note failed tests of real kernels for ./check, in the file that TASKSCOPE_CHECK_AGAIN names."""
    name = os.environ.get("TASKSCOPE_CHECK_AGAIN")
    if name and report.failed and {"real", "root"} & set(report.keywords) and "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(name).open("a") as file:
            file.write(f"{report.nodeid}\n")


@pytest.fixture(autouse=True)
def _time_limit(request: pytest.FixtureRequest) -> Iterator[None]:
    marker = request.node.get_closest_marker("limit")
    seconds = float(marker.args[0]) if marker else LIMIT

    def too_long(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"still running after {seconds:.0f} s", pytrace=True)

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(autouse=True)
def _tracefs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Share the kernel's tracefs with the tests of other workers; a test that is marked ``alone`` has it to itself."""
    if request.node.get_closest_marker("root") is None:
        yield
        return
    folder = tmp_path_factory.getbasetemp()
    if folder.name.startswith("popen-"):
        folder = folder.parent
    # Who waits to be alone holds the door, so that those who share cannot keep the room for ever.
    with (folder / "tracefs.door").open("w") as door, (folder / "tracefs.room").open("w") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if request.node.get_closest_marker("alone") else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield


@pytest.fixture(scope="session")
def data() -> Path:
    """Return the folder of recordings that the repository ships."""
    return DATA


@pytest.fixture(scope="session")
def sweep() -> Path:
    """Return the larger collection of recordings; skip where there is none."""
    folder = sweep_folder()
    if folder is None:
        pytest.skip("no larger collection of recordings here (TASKSCOPE_DATA names none)")
    return folder


@dataclass(frozen=True, slots=True)
class Ran:
    """What one run of the command line did: its exit code, its output, seconds and peak resident bytes."""

    code: int
    out: bytes
    err: bytes
    seconds: float
    rss: int


def peak_memory(pid: int | str = "self") -> int:
    """Return the most resident memory in bytes that a process has had since its exec; 0 if it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def run_cli(
    *args: str | os.PathLike[str],
    timeout: float = 60.0,
    address_space: int | None = None,
    stdin: bytes | None = None,
    prefix: tuple[str, ...] = (),
) -> Ran:
    """Run ``taskscope ARGS`` in a process of its own.

    :param timeout: seconds after which it is killed and the test fails
    :param address_space: RLIMIT_AS in bytes
    :param prefix: a command to put before it (setpriv …)
    """
    env = dict(
        os.environ,
        PYTHONPATH=str(ROOT / "src"),
        NO_COLOR="1",
        POLARS_MAX_THREADS="2",
        OPENBLAS_NUM_THREADS="1",
        PYTHONDONTWRITEBYTECODE="1",
    )

    def limits() -> None:
        if address_space is not None:
            resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    command = [*prefix, sys.executable, "-m", "taskscope.cli.main", *(os.fspath(a) for a in args)]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as inp:
        inp.write(stdin or b"")
        inp.seek(0)
        start = time.monotonic()
        child = subprocess.Popen(command, stdin=inp, stdout=out, stderr=err, env=env, preexec_fn=limits)
        # A poll of VmHWM, because ru_maxrss of a new process begins with what its parent had at the fork.
        rss = 0
        while True:
            rss = max(rss, peak_memory(child.pid))
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - start > timeout:
                child.kill()
                os.waitpid(child.pid, 0)
                child.returncode = -9
                pytest.fail(f"taskscope {' '.join(map(str, args))}: no answer within {timeout:.0f} s")
            time.sleep(0.005)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        out.seek(0)
        err.seek(0)
        return Ran(child.returncode, out.read(), err.read(), seconds, rss)


@pytest.fixture(scope="session")
def cli() -> Callable[..., Ran]:
    """Run the command line in a process of its own; see `run_cli`."""
    return run_cli


from world import world  # noqa: E402, F401  (the path above must come first; a fixture)


@pytest.fixture
def k() -> Iterator[Any]:
    """A machine of the executable kernel: two CPUs, and no threads but those that CPUs need."""
    import taskscope

    with taskscope.boot(cpus=2, bare=True) as machine:
        yield machine


@pytest.fixture
def ran(k: Any) -> Callable[..., tuple[int, str]]:
    """Run a program on that machine to its end; gives (exit code, what it printed)."""

    def run(program: Any, *args: str, s: float = 100, **options: Any) -> tuple[int, str]:
        process = k.spawn(program, *args, **options)
        code = process.wait(s)
        return code, process.text

    return run
