"""The host's kernel as a machine for labs: scripts run in a folder of their own, recordings are the recorder's."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from taskscope.errors import PermissionRefusedError, TraceError, UsageError
from taskscope.labs.guest.errors import GuestError
from taskscope.labs.programs import build
from taskscope.labs.real import Shot, Typed

if TYPE_CHECKING:
    from taskscope.memory.kernel import KernelMemory
    from taskscope.snapshot.snapshot import Snapshot


class Host:
    """The kernel that this process runs on.

    :raises PermissionRefusedError: this user may not record here
    """

    place = "host"

    def __init__(self) -> None:
        from taskscope.ftrace.tracefs import open_tracefs

        if os.geteuid() != 0:
            raise PermissionRefusedError("labs on this host record its kernel, which needs root: "
                                         "sudo taskscope lab … --on host")
        self._tracefs = open_tracefs()
        uname = os.uname()
        self.release, self.machine = uname.release, uname.machine
        # bash, where it is: it forks as that of the notes does; dash takes vfork() for what it waits for.
        self._shell = shutil.which("bash") or "/bin/sh"
        self.shell = Path(self._shell).name
        self._folder = tempfile.TemporaryDirectory(prefix="taskscope-lab-")
        self._count = 0

    def _start(self, script: str, said: BinaryIO) -> subprocess.Popen[bytes]:
        return subprocess.Popen([self._shell, "-c", script], cwd=self._folder.name, stdin=subprocess.DEVNULL,
                                stdout=said, stderr=subprocess.STDOUT, env=self._environment(), start_new_session=True,
                                preexec_fn=_nothing_ignored)

    def type(self, script: str, seconds: float = 60.0) -> Typed:
        """See `Real.type`."""
        # Into a file: a pipe would not end before the last program that the script leaves behind.
        with (Path(self._folder.name) / "typed").open("w+b") as said:
            process = self._start(script, said)
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired as e:
                raise GuestError(f"{script.strip().splitlines()[0]!r} did not end in time") from e
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            said.seek(0)
            return Typed(status, said.read().decode("utf-8", "replace"))

    @contextlib.contextmanager
    def hold(self, script: str, seconds: float = 30.0) -> Iterator[str]:
        """See `Real.hold`."""
        with (Path(self._folder.name) / "held").open("w+b") as said:
            process = self._start(script, said)
            try:
                end = time.monotonic() + seconds
                while b"ready\n" not in (text := _from_start(said)):
                    if process.poll() is not None or time.monotonic() > end:
                        raise GuestError(f"{script.strip().splitlines()[0]!r} does not say ready: "
                                         f"{text.decode('utf-8', 'replace')[-400:]}")
                    time.sleep(0.05)
                yield text.decode("utf-8", "replace")
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def proc(self) -> Snapshot:
        """See `Real.proc`."""
        from taskscope.procfs.snapshot import snapshot

        return snapshot()

    @contextlib.contextmanager
    def memory(self) -> Iterator[KernelMemory]:
        """See `Real.memory`."""
        from taskscope.memory.kernel import KernelMemory
        from taskscope.memory.live import open_live

        try:
            image = open_live()
        except TraceError as error:
            raise UsageError(f"this host's kernel memory cannot be read: {error}") from None
        with image:
            yield KernelMemory(image)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": self._folder.name, "LC_ALL": "C"}

    def record(self, script: str, *, events: Sequence[str] = (), irq: bool = False, triggers: Sequence[str] = (),
               functions: Sequence[str] = (), everything: bool = False, seconds: float = 60.0) -> Shot:
        """See `Real.record`.

        :raises UsageError: functions are asked for, and this kernel refuses its function tracer
        """
        from taskscope.ftrace.record import Recorder
        from taskscope.ftrace.record_order import Order
        from taskscope.recording import Recording

        if functions and (why := self.traces_functions()):
            raise UsageError(f"the function tracer does not work here: {why}")
        self._count += 1
        folder = Path(self._folder.name)
        output, said = folder / f"{self._count}.dat", folder / f"{self._count}.out"
        # The script's own output goes to a file: the recorder's command has ours otherwise.
        (folder / f"{self._count}.sh").write_text(script)
        command = (self._shell, "-c", f"cd {folder} && exec >{said} 2>&1 </dev/null && . ./{self._count}.sh")
        result = Recorder(Order(output=output, command=command, events=events, irq=irq, triggers=triggers,
                                functions=functions, everything=everything, seconds=seconds, ignores=False)).run()
        if result.failed:
            raise GuestError(result.failed)
        recording = Recording.open(output)
        recording.source.path = self.place
        text = said.read_text("utf-8", "replace") if said.exists() else ""
        return Shot(recording, Typed(result.exit_code or 0, text))

    def program(self, name: str) -> str:
        """See `Real.program`."""
        path = Path(self._folder.name) / name
        if not path.exists():
            path.write_bytes(build(name, self.machine))
            path.chmod(0o755)
        return str(path)

    def traces_functions(self) -> str:
        """See `Real.traces_functions`."""
        from taskscope.ftrace.functions import function_tracer
        from taskscope.ftrace.tracefs import Instance

        instance = Instance(self._tracefs)
        try:
            support = function_tracer(self._tracefs.path, instance.path)
            return "" if support.works else support.why
        finally:
            instance.remove()

    def traceable(self, names: Sequence[str]) -> list[str]:
        """See `Real.traceable`."""
        try:
            text = (self._tracefs.path / "available_filter_functions").read_text()
        except OSError:
            return []
        has = {line.split(" ")[0] for line in text.splitlines()}
        return [name for name in names if name in has]

    def booted_with(self, words: str) -> AbstractContextManager[Host]:
        """See `Real.booted_with`."""
        del words
        return contextlib.nullcontext(self)

    def close(self) -> None:
        """See `Real.close`."""
        self._tracefs.unmount()
        self._folder.cleanup()


def _from_start(file: BinaryIO) -> bytes:
    """Read a file that others write, whole; they go on at its end."""
    return os.pread(file.fileno(), 1 << 20, 0)


def _nothing_ignored() -> None:
    """Take the default action for every signal: a job in the background and nohup(1) leave some ignored."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
