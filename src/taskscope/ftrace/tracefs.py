"""The tracefs of this machine: finding it, mounting it, and tracing instances of our own in it.

An instance (``instances/NAME``) has its own ring buffer, events, filters, triggers and clock, so a recording touches
no setting of anybody else.  Ours are named by the process that made them, so that what a killed recorder left is
recognised and removed.  Follows Documentation/trace/ftrace.rst and kernel/trace/trace.c (6.1 to 6.18).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from taskscope.errors import PermissionRefusedError, TaskscopeError, UsageError

#: where the kernel documents tracefs to be mounted
HOME = Path("/sys/kernel/tracing")
#: where it was before v4.1; to look there on a newer kernel mounts one, so it comes last
_OLD_HOME = Path("/sys/kernel/debug/tracing")
#: taskscope-PID-START-RANDOM, with an m where the recorder mounted the tracefs itself
_NAME = re.compile(r"taskscope-(\d{1,10})-(\d{1,20})-[0-9a-f]{6}(m?)")


class KernelRefusedError(UsageError):
    """The kernel refused a setting; ``log`` is what it says about it itself, "" if nothing."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


@dataclass(slots=True)
class Tracefs:
    """A mounted tracefs; ``made`` if it was mounted here for this recording."""

    path: Path
    made: bool = False

    def unmount(self) -> None:
        """Unmount what `open_tracefs` mounted, unless an instance in it is still in use."""
        if not self.made:
            return
        with contextlib.suppress(OSError):
            if any(_NAME.fullmatch(p.name) for p in (self.path / "instances").iterdir()):
                return
            _libc().umount(os.fsencode(self.path))
        self.made = False


def find_tracefs() -> Path | None:
    """Return where a tracefs is mounted, None if it is nowhere.

    :raises PermissionRefusedError: there is one that this user may not look into
    """
    refused: Path | None = None
    places = [HOME, *_mounted()]
    if not HOME.is_dir():
        places.append(_OLD_HOME)
    for place in places:
        try:
            os.stat(place / "instances")  # noqa: PTH116  Path.exists() hides that it is refused
            return place
        except PermissionError:
            refused = refused or place
        except OSError:
            continue
    if refused is not None:
        raise refused_here(f"{refused} may not be read by this user")
    return None


def _mounted() -> list[Path]:
    found: list[Path] = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_bytes().splitlines():
            words = line.split(b" ")
            if len(words) > 2 and words[2] == b"tracefs":
                name = re.sub(rb"\\(\d{3})", lambda m: bytes([int(m[1], 8) & 255]), words[1])
                found.append(Path(os.fsdecode(name)))
    return found


def refused_here(what: str) -> PermissionRefusedError:
    """Return the error of a recorder that may not record, with what helps."""
    if os.geteuid() != 0:
        return PermissionRefusedError(f"{what}; recording needs root: sudo taskscope record …")
    return PermissionRefusedError(f"{what}, although this is root: a container without CAP_SYS_ADMIN, or a kernel that "
                                  "is locked down; record on the host itself")


def open_tracefs() -> Tracefs:
    """Find the tracefs, and mount it at `HOME` where there is none.

    :raises PermissionRefusedError: this user may not, or the kernel refuses it to root
    :raises TaskscopeError: the kernel has no tracefs
    """
    found = find_tracefs()
    if found is not None:
        if not os.access(found / "instances", os.W_OK | os.X_OK):
            raise refused_here(f"{found}/instances may not be written by this user")
        return Tracefs(found)
    if os.geteuid() != 0:
        raise refused_here("no tracefs is mounted")
    if not HOME.is_dir():
        raise TaskscopeError("this kernel has no tracefs (it was built without CONFIG_FTRACE): nothing can be recorded "
                             "here; record in a guest, or on another kernel")
    libc = _libc()
    if libc.mount(b"nodev", os.fsencode(HOME), b"tracefs", ctypes.c_ulong(0), None) != 0:
        code = ctypes.get_errno()
        if code == errno.EBUSY and (found := find_tracefs()) is not None:
            return Tracefs(found)
        if code in (errno.EPERM, errno.EACCES):
            raise refused_here(f"no tracefs is mounted, and the kernel refuses to mount it at {HOME}")
        raise TaskscopeError(f"no tracefs is mounted, and mounting it at {HOME} fails ({os.strerror(code)}); try: "
                             f"mount -t tracefs nodev {HOME}")
    return Tracefs(HOME, made=True)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# ---- who is alive -------------------------------------------------------------------------------------------

def start_time(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot (proc_pid_stat(5), field 22); None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        words = stat[stat.rindex(b")") + 2:].split()
        return int(words[19]) if words[0] not in (b"Z", b"X") else None
    except (OSError, ValueError, IndexError):
        return None


def boot_id() -> str:
    """Return the id of this boot; "" where the kernel does not tell it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


# ---- instances ----------------------------------------------------------------------------------------------

class Instance:
    """A tracing instance of our own.

    It is made with tracing off, and kept busy by an open file for as long as it lives, so that nobody who takes it
    for a dead recorder's can remove it.
    """

    def __init__(self, tracefs: Tracefs) -> None:
        """Make the instance.

        :raises PermissionRefusedError: this user may not
        :raises TaskscopeError: the kernel cannot make one
        """
        pid = os.getpid()
        mark = "m" if tracefs.made else ""
        self.tracefs = tracefs
        self.name = f"taskscope-{pid}-{start_time(pid) or 0}-{secrets.token_hex(3)}{mark}"
        self.path = tracefs.path / "instances" / self.name
        self._busy = -1
        try:
            self.path.mkdir()
        except PermissionError as e:
            raise refused_here(f"the kernel refuses to make a tracing instance ({e.strerror})") from e
        except OSError as e:
            raise TaskscopeError(f"the kernel cannot make a tracing instance in {self.path.parent}: {e.strerror}; "
                                 "it may lack memory, or CONFIG_TRACING") from e
        try:
            self.write("tracing_on", "0")
            self._busy = os.open(self.path / "trace_marker", os.O_WRONLY | os.O_CLOEXEC)
        except BaseException:
            self.remove()
            raise

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def write(self, name: str, text: str) -> None:
        """Write one knob.

        :raises KernelRefusedError: the kernel does not take the text; its own words stand in ``log``
        :raises PermissionRefusedError: it may not be written
        """
        before = self.error_log()
        try:
            fd = os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode("utf-8", "surrogateescape"))
            finally:
                os.close(fd)
        except OSError as e:
            if e.errno in (errno.EPERM, errno.EACCES):
                raise PermissionRefusedError(f"the kernel refuses to write {name} of a tracing instance: "
                                             f"{e.strerror}") from e
            after = self.error_log()
            log = after[len(before):] if after.startswith(before) else after
            raise KernelRefusedError(f"the kernel does not take {text!r} for {name}: {e.strerror}", log) from e

    def try_write(self, name: str, text: str) -> bool:
        """Write a knob that some kernels lack; tell whether it took."""
        try:
            self.write(name, text)
        except (KernelRefusedError, PermissionRefusedError):
            return False
        return True

    def read(self, name: str) -> bytes:
        """Read one file, b"" if it is not there."""
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return b""

    def error_log(self) -> str:
        """Return the kernel's explanations of what it refused (error_log, since v5.2)."""
        return self.read("error_log").decode("utf-8", "replace")

    def cpus(self) -> list[int]:
        """Return the cpus that have a ring buffer."""
        return sorted(int(p.name[3:]) for p in (self.path / "per_cpu").iterdir() if p.name[3:].isdigit())

    def remove(self) -> bool:
        """Remove the instance; tell whether it is gone."""
        if self._busy >= 0:
            os.close(self._busy)
            self._busy = -1
        return remove_instance(self.path)


def remove_instance(path: Path) -> bool:
    """Remove an instance with all its events, filters and triggers; tell whether it is gone.

    The kernel refuses while a file of it is open, so one in use stays untouched.
    """
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_stale(tracefs: Tracefs) -> list[str]:
    """Remove the instances whose recorder is dead; return their names.

    A tracefs that a dead recorder mounted becomes ours to unmount.
    """
    removed: list[str] = []
    for path in stale_instances(tracefs):
        if remove_instance(path):
            removed.append(path.name)
            tracefs.made = tracefs.made or path.name.endswith("m")
    return removed


def stale_instances(tracefs: Tracefs) -> list[Path]:
    """Return the instances whose recorder is dead."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        for path in (tracefs.path / "instances").iterdir():
            m = _NAME.fullmatch(path.name)
            if m and start_time(int(m[1])) != int(m[2]):
                found.append(path)
    return found
