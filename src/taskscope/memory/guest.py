"""The kernel of a running QEMU guest as an `Image`: found over QMP, read by drgn out of QEMU's own memory.

    with open_guest("qmp.sock", pause=True) as image:
        tasks = KernelMemory(image).snapshot().tasks

The guest runs on meanwhile, unless it is paused.  Then it goes on when the image is closed, and when we end without
closing it, however we end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskscope.errors import PermissionRefusedError, TraceError
from taskscope.memory.image import FaultError
from taskscope.memory.program import ProgramImage, is_kernel, new_program, why
from taskscope.memory.qmp import Monitor, ended

if TYPE_CHECKING:
    import drgn

#: bytes that are read at once: what a read costs is the walk through the page tables, not its length
_BLOCK: Final = 1 << 15
#: blocks that are kept, and for how many ns: what a running guest writes is seen after that
_BLOCKS: Final = 1024
_FRESH: Final = 200_000
#: bits of an address within what is read exactly once a block of it was not there: stacks lie so, between guard pages
_AREA: Final = 24
#: who lets the guest go on if we are killed: a shell whose stdin ends with us, and whose stdout is the monitor
_GUARD: Final = "read -r _ || { echo '{\"execute\": \"cont\"}'; sleep 1; }"


class GuestImage(ProgramImage):
    """The memory of a running guest; a context manager; made by `open_guest`."""

    def __init__(self, program: drgn.Program, monitor: Monitor) -> None:
        super().__init__(program, monitor.name)
        self._monitor = monitor
        self._guard: subprocess.Popen[bytes] | None = None
        self._blocks: dict[int, tuple[int, bytes]] = {}
        self._scattered: set[int] = set()
        self._closed = False

    # ---- reading ---------------------------------------------------------------------------------------------

    def read(self, address: int, count: int) -> bytes:
        """See `Image.read`.

        Of a guest that runs, what was read is known for 0.2 ms: a struct and the links in it are of one moment.

        :raises TraceError: the guest has ended, or the image has been closed
        """
        if address >= 0 and 0 < count <= _BLOCK:
            start = address & -_BLOCK
            first = self._block(start)
            if first is not None:
                at, end = address - start, address - start + count
                if end <= _BLOCK:
                    return first[at:end]
                second = self._block(start + _BLOCK)
                if second is not None:
                    return first[at:] + second[: end - _BLOCK]
        return self._exactly(address, count)

    @property
    def moving(self) -> bool:
        """Whether the guest runs on while it is looked at, as far as that is up to us."""
        return self._guard is None

    def forget(self) -> None:
        """Look at memory anew from now on, where the guest runs."""
        self._blocks.clear()
        self._scattered.clear()

    def _block(self, start: int) -> bytes | None:
        """Return a block of memory; None if not all of it is there."""
        now = time.monotonic_ns()
        kept = self._blocks.get(start)
        if kept is not None and (self._guard is not None or now - kept[0] < _FRESH):
            return kept[1]
        if start >> _AREA in self._scattered:
            return None
        try:
            found = self._exactly(start, _BLOCK)
        except FaultError:
            self._scattered.add(start >> _AREA)
            return None
        if len(self._blocks) >= _BLOCKS:
            self._blocks.clear()
        self._blocks[start] = now, found
        return found

    def _exactly(self, address: int, count: int) -> bytes:
        import drgn

        if self._closed:
            raise TraceError("the guest has been let go; open it again", self.source)
        try:
            found: bytes = self._program.read(address, count)
            return found
        except (drgn.FaultError, OverflowError, ValueError) as error:
            raise FaultError(address, count, why(error)) from None
        except Exception as error:
            # drgn has no class of its own for what a monitor says.
            if getattr(error, "errno", None) == errno.ESRCH or not self._monitor.alive():
                raise ended(self.source) from None
            raise FaultError(address, count, why(error)) from None

    # ---- pausing ---------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop the guest until the image is closed; one that stands already is left as it is.

        :raises TraceError: QEMU does not do it
        """
        if not self._monitor.execute("query-status").get("running"):
            return
        self._guard = subprocess.Popen(["/bin/sh", "-c", _GUARD], stdin=subprocess.PIPE, stdout=self._monitor.fileno(),
                                       stderr=subprocess.DEVNULL, start_new_session=True)
        self._monitor.execute("stop")
        self.forget()

    def close(self) -> None:
        """Let the guest go on if it was paused here, and let its monitor go; the second time does nothing.

        :raises TraceError: the guest was paused, and QEMU does not let it go on
        """
        if self._closed:
            return
        self._closed = True
        self._blocks.clear()
        guard, self._guard = self._guard, None
        word = b""
        try:
            if guard is not None and self._monitor.alive():
                self._monitor.execute("cont")
                word = b"done\n"
        finally:
            if guard is not None:
                # Without a word it tries, too.
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    guard.communicate(word, timeout=3)
            self._monitor.close()


def open_guest(
    socket: str | PathLike[str],
    *,
    btf: str | PathLike[str] | None = None,
    symbols: str | PathLike[str] | None = None,
    vmlinux: str | PathLike[str] | None = None,
    pause: bool = False,
) -> GuestImage:
    """Open the kernel of a running QEMU guest.

    QEMU runs on this host, with ``-qmp unix:SOCKET,server=on,wait=off -device vmcoreinfo``, and the guest has loaded
    its module qemu_fw_cfg.  The image holds the monitor, which serves one client at a time, until it is closed.

    :param socket: the path of QEMU's QMP socket
    :param btf: the types, where the kernel's memory has none: a file of raw BTF
    :param symbols: the symbols, where the kernel's memory has none of its data: a System.map
    :param vmlinux: types and symbols of its DWARF instead
    :param pause: stop the guest before it is read; it goes on when the image is closed
    :raises TraceError: there is no such guest, it cannot be read, or has no types or symbols and none were named
    :raises PermissionRefusedError: this user may not connect, or not read QEMU's memory
    :raises UsageError: drgn is not installed
    """
    program = new_program()
    monitor = Monitor(os.fspath(socket))
    try:
        _may_read(monitor)
        _attach(program, monitor)
        image = GuestImage(program, monitor)
    except BaseException:
        monitor.close()
        raise
    try:
        if pause:
            image.pause()
        image.learn(btf, symbols, vmlinux)
    except BaseException:
        image.close()
        raise
    return image


def _may_read(monitor: Monitor) -> None:
    """Check that QEMU's memory may be read: through its monitor it would take minutes."""
    pid = monitor.peer()
    if not pid:
        raise TraceError("its QEMU is in a PID namespace that cannot be seen from here; run taskscope where QEMU runs",
                         monitor.name)
    try:
        Path(f"/proc/{pid}/mem").open("rb").close()
    except PermissionError:
        raise PermissionRefusedError(f"the memory of its QEMU (pid {pid}) may not be read by this user; run it as "
                                     "root: sudo taskscope …", monitor.name) from None
    except OSError:
        raise ended(monitor.name) from None


def _attach(program: drgn.Program, monitor: Monitor) -> None:
    """Let drgn negotiate, map the guest's memory, and fetch VMCOREINFO."""
    try:
        program.set_qemu_qmp(monitor.descriptor())
    except Exception as error:
        if not monitor.alive():
            raise ended(monitor.name) from None
        late = isinstance(error, OSError) and error.errno == errno.EAGAIN
        what = "QEMU does not answer" if late else why(error)
        raise TraceError(f"the guest cannot be opened ({what}); is it still starting? try it again",
                         monitor.name) from None
    if not is_kernel(program):
        raise TraceError("the guest does not say where its kernel is (no VMCOREINFO): start QEMU with -device "
                         "vmcoreinfo and load the module qemu_fw_cfg in the guest (modprobe qemu_fw_cfg)", monitor.name)
