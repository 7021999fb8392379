"""A guest: a kernel that has booted, and that runs what it is told.

    with Guest.boot(find_kernel("6.1")) as guest:
        print(guest.sh("uname -r"))

One boot serves many requests: a script goes to the agent, its status and output come back.
"""

from __future__ import annotations

import contextlib
import io
import select
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Self

from taskscope.errors import UsageError
from taskscope.labs.guest import kvm
from taskscope.labs.guest.errors import GuestError
from taskscope.labs.guest.image import find_busybox, initramfs
from taskscope.labs.guest.kernel import Kernel
from taskscope.labs.guest.qemu import Qemu, Settings

#: seconds for a boot; two loaded cores and no KVM need some ten
BOOT_SECONDS: Final = 120.0
#: seconds for a boot under KVM before it is taken for broken
_KVM_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a script: its exit status and what it printed, stdout and stderr together."""

    status: int
    output: bytes

    @property
    def text(self) -> str:
        """The output as text."""
        return self.output.decode("utf-8", "replace")


class Guest:
    """A booted guest; a context manager."""

    def __init__(self, kernel: Kernel, qemu: Qemu, settings: Settings) -> None:
        self.kernel = kernel
        self.qemu = qemu
        self.settings = settings
        self.release = ""
        self.seconds = 0.0                # that the boot took
        self._buffer = bytearray()
        self._broken = ""                 # why it takes no more requests

    @classmethod
    def boot(cls, kernel: Kernel, settings: Settings | None = None, *, seconds: float = BOOT_SECONDS,
             say: Callable[[str], None] = lambda _: None) -> Guest:
        """Boot a kernel and wait for its agent.

        KVM is used where it has proved to work; the proof is tried once a boot of this machine, with a time limit.

        :param settings: how it is built; its ``accel`` is chosen here if it says none
        :param seconds: for the boot
        :raises GuestError: it does not boot, or what it needs is missing here
        """
        settings = settings or Settings()
        if not settings.accel and kvm.worth_a_try(kernel.machine):
            try:
                guest = cls._boot(kernel, replace(settings, accel="kvm"), _KVM_SECONDS, say)
            except GuestError:
                kvm.remember(False)
                say("KVM does not work here; the guest's instructions are translated (TCG)")
            else:
                kvm.remember(True)
                return guest
        return cls._boot(kernel, settings, seconds, say)

    @classmethod
    def _boot(cls, kernel: Kernel, settings: Settings, seconds: float, say: Callable[[str], None]) -> Guest:
        began = time.monotonic()
        image = initramfs(kernel, find_busybox(kernel.machine, say))
        guest = cls(kernel, Qemu(kernel, image, settings), settings)
        try:
            words = guest._line(began + seconds, "the guest did not boot").split()
            if len(words) != 3 or words[0] != "ready":
                raise GuestError(f"the guest's agent said {' '.join(words)!r}", guest.qemu.console())
        except BaseException:
            guest.close()
            raise
        guest.release = words[1]
        guest.seconds = time.monotonic() - began
        return guest

    # ---- requests --------------------------------------------------------------------------------------------

    def run(self, script: str, *, seconds: float = 60.0, data: bytes = b"") -> Done:
        """Run a script of busybox's shell.

        :param seconds: how long it may take
        :param data: what it finds on descriptor 3, and must read whole
        :raises GuestError: it took longer, or the guest died meanwhile
        """
        if self._broken:
            raise GuestError(f"the guest is busy: {self._broken}")
        end = time.monotonic() + seconds
        text = script.encode() + b"\n"
        try:
            self._send(b"%d\n" % len(text) + text + data, end)
            status, _, size = self._line(end, f"{script.strip().splitlines()[0]!r} did not end").partition(" ")
            if not (status.isdigit() and size.isdigit()):
                raise GuestError(f"the guest's agent said {status!r} {size!r}", self.qemu.console())
            return Done(int(status), self._bytes(int(size), end))
        except BaseException as error:
            # Its answer may come later: nobody must take it for that to another request.
            self._broken = f"{error}".partition("\n")[0] or type(error).__name__
            raise

    def sh(self, script: str, *, seconds: float = 60.0) -> str:
        """Run a script and return what it printed.

        :raises GuestError: it failed
        """
        done = self.run(script, seconds=seconds)
        if done.status:
            raise GuestError(f"in the guest, {script.strip().splitlines()[0]!r} ended with status {done.status}: "
                             f"{done.text.strip()[-400:]}")
        return done.text

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file into the guest."""
        name = shlex.quote(path)
        read = f"dd bs={len(data)} count=1 iflag=fullblock <&3 2>/dev/null" if data else ":"
        done = self.run(f"{read} > {name} && chmod {mode:o} {name}", data=data)
        if done.status:
            raise GuestError(f"the guest cannot write {path}: {done.text.strip()}")

    def get(self, path: str, *, seconds: float = 60.0) -> bytes:
        """Read a file of the guest.

        :raises GuestError: there is none
        """
        done = self.run(f"cat {shlex.quote(path)}", seconds=seconds)
        if done.status:
            raise GuestError(f"in the guest: {done.text.strip()}")
        return done.output

    def get_folder(self, path: str, *, seconds: float = 120.0) -> dict[str, bytes]:
        """Read all files below a folder of the guest: content by path."""
        done = self.run(f"tar -c -C {shlex.quote(path)} .", seconds=seconds)
        with tarfile.open(fileobj=io.BytesIO(done.output)) as archive:
            return {member.name.removeprefix("./"): file.read() for member in archive
                    if member.isfile() and (file := archive.extractfile(member)) is not None}

    # ---- the wire --------------------------------------------------------------------------------------------

    def _send(self, data: bytes, end: float) -> None:
        view = memoryview(data)
        while view:
            self._wait(select.POLLOUT, end, "the guest takes nothing any more")
            try:
                view = view[self.qemu.agent.send(view[:1 << 16]):]
            except OSError as e:
                raise self._died() from e

    def _wait(self, what: int, end: float, late: str) -> None:
        poll = select.poll()
        poll.register(self.qemu.agent, what)
        left = end - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise GuestError(f"{late} in time", self.qemu.console())

    def _more(self, end: float, late: str) -> None:
        self._wait(select.POLLIN, end, late)
        try:
            data = self.qemu.agent.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            raise self._died()
        self._buffer += data

    def _died(self) -> GuestError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.qemu.process.wait(1)
        if self.qemu.process.returncode not in (None, 0, -15):
            return GuestError(f"QEMU ended with status {self.qemu.process.returncode}", self.qemu.console())
        return GuestError("the guest has ended", self.qemu.console())

    def _line(self, end: float, late: str) -> str:
        while b"\n" not in self._buffer:
            if len(self._buffer) > 1 << 16:
                raise GuestError("the guest's agent talks nonsense", self.qemu.console())
            self._more(end, late)
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line.decode("utf-8", "replace")

    def _bytes(self, size: int, end: float) -> bytes:
        while len(self._buffer) < size:
            self._more(end, "the guest did not send all of it")
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def close(self) -> None:
        """End the guest; the second time does nothing."""
        self.qemu.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def parse_place(on: str) -> str | None:
    """Return the kernel that ``--on guest[:KERNEL]`` names; None if `on` names no guest.

    :raises UsageError: it names none after the colon
    """
    word, colon, name = on.partition(":")
    if word != "guest":
        return None
    if colon and not name:
        raise UsageError("--on guest: names no kernel; it is guest:6.1, guest:6.12, guest:host or "
                         "guest:/path/to/vmlinuz")
    return name or "6.1"
