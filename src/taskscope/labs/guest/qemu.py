"""One QEMU process: what it is started with, and that nothing of it stays.

Everything that it is given (initramfs, console, the agent's port) is a file descriptor of ours: there is no socket and
no file that could be left behind or that somebody else could open.  It has no network, no disk, no display and no file
system of the host, it runs under QEMU's own seccomp filter, and the kernel ends it when we end, however we end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from taskscope.labs.guest.errors import GuestError
from taskscope.labs.guest.image import PORT
from taskscope.labs.guest.kernel import Kernel


@dataclass(frozen=True, slots=True)
class Board:
    """What a guest of one architecture is built of.

    :param program: the QEMU
    :param package: Debian's package of it
    :param machine: of QEMU's machines
    :param cpu: of QEMU's cpus, where its instructions are translated
    :param accel: how they are translated (TCG)
    :param console: what its kernel calls the first serial line
    :param serial: the device that virtio ports are plugged into
    """

    program: str
    package: str
    machine: str
    cpu: str
    accel: str
    console: str
    serial: str


#: by machine, as uname(2) calls it
BOARDS: Final = {
    # Multi-threaded TCG breaks while a kernel patches its functions (ftrace, modules): text_poke's int3 is met by
    # another cpu too late.
    "x86_64": Board("qemu-system-x86_64", "qemu-system-x86", "pc", "max", "tcg,thread=single", "ttyS0",
                    "virtio-serial-pci"),
    "aarch64": Board("qemu-system-aarch64", "qemu-system-arm", "virt", "cortex-a72", "tcg,thread=multi", "ttyAMA0",
                     "virtio-serial-pci"),
    # With one thread for two cpus Debian's 6.1 stands still at the end of its boot (QEMU 7.2); with a thread for each
    # it boots, and its function tracer works.
    "armv7l": Board("qemu-system-arm", "qemu-system-arm", "virt", "cortex-a15", "tcg,thread=multi", "ttyAMA0",
                    "virtio-serial-device"),
}
#: bytes of the console that are kept
_CONSOLE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Settings:
    """How a guest is built.

    :param cpus: how many
    :param mem: MiB
    :param accel: what runs its instructions: ``tcg,thread=multi``, ``tcg,thread=single`` or ``kvm``; "" for what the
        board takes for TCG
    :param qmp: where a QMP socket is to be made, for who reads the guest's memory; the caller removes it
    :param append: more words of the kernel's command line
    """

    cpus: int = 2
    mem: int = 512
    accel: str = ""
    qmp: Path | None = None
    append: str = ""


def program(machine: str) -> str:
    """Return the path of the QEMU for a machine.

    :raises GuestError: it is not installed
    """
    board = BOARDS[machine]
    found = shutil.which(board.program)
    if found is None:
        raise GuestError(f"there is no {board.program} here; install it: sudo apt-get install --no-install-recommends "
                         f"{board.package}")
    return found


class Qemu:
    """A running QEMU; a context manager."""

    def __init__(self, kernel: Kernel, initramfs: bytes, settings: Settings) -> None:
        """Start it.

        :raises GuestError: it cannot be started
        """
        path = program(kernel.machine)
        board = BOARDS[kernel.machine]
        self._console = os.memfd_create("console", os.MFD_CLOEXEC)
        self.agent, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        initrd = os.memfd_create("initramfs", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(initrd), "wb") as file:
            file.write(initramfs)
        arguments = [
            "-machine", board.machine, "-name", f"taskscope-{os.getpid()}",
            "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-nic", "none",
            "-accel", settings.accel or board.accel,
            "-cpu", "host" if settings.accel.startswith("kvm") else board.cpu,
            "-smp", str(settings.cpus), "-m", str(settings.mem),
            "-kernel", str(kernel.image), "-initrd", f"/proc/self/fd/{initrd}",
            "-append", f"console={board.console} panic=-1 quiet {settings.append}".rstrip(),
            "-chardev", f"file,id=console,path=/proc/self/fd/{self._console}", "-serial", "chardev:console",
            "-chardev", f"socket,id=agent,fd={theirs.fileno()}",
            "-device", board.serial, "-device", f"virtserialport,chardev=agent,name={PORT}",
        ]
        if settings.qmp is not None:
            arguments += ["-qmp", f"unix:{settings.qmp},server=on,wait=off", "-device", "vmcoreinfo"]
        sandbox = ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
        # The parent's death ends it, also one by SIGKILL (prctl(2), PR_SET_PDEATHSIG).
        tie = [found, "--pdeathsig", "KILL", "--"] if (found := shutil.which("setpriv")) else []
        try:
            self.process = subprocess.Popen(
                [*tie, path, *arguments, *sandbox], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=self._console, pass_fds=(initrd, self._console, theirs.fileno()), cwd="/",
                # Ctrl-C is ours; what we do about it is our caller's.
                start_new_session=True, env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"})
        except OSError as e:
            self.agent.close()
            os.close(self._console)
            raise GuestError(f"{path} cannot be started: {e.strerror}") from e
        finally:
            theirs.close()
            os.close(initrd)

    def console(self) -> str:
        """Return what the guest's kernel printed, the last MiB of it."""
        size = os.fstat(self._console).st_size
        data = os.pread(self._console, _CONSOLE, max(size - _CONSOLE, 0))
        return data.decode("utf-8", "replace")

    def alive(self) -> bool:
        """Tell whether it runs."""
        return self.process.poll() is None

    def close(self) -> None:
        """End it, whatever it does; the second time does nothing."""
        if self._console < 0:
            return
        self.agent.close()
        self.process.terminate()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self._console)
        self._console = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self.close()
