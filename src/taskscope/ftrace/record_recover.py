"""``record --recover``: the trace.dat of a recording whose recorder was killed.

The kernel may still hold what the recorder had not read: where its instance is there, it is stopped, and its buffers
are emptied into the spool first.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path

from taskscope.errors import PermissionRefusedError, TaskscopeError, UsageError
from taskscope.ftrace import record_end
from taskscope.ftrace.record_end import Result, quoted
from taskscope.ftrace.record_probe import remove_probes
from taskscope.ftrace.record_pump import DiskFullError, Pump
from taskscope.ftrace.record_signals import Signals
from taskscope.ftrace.spool import INFO, OUTSIDE, SUFFIX, SpoolInfo, is_running, read_info, used
from taskscope.ftrace.tracefs import Tracefs, boot_id, find_tracefs, remove_stale, stale_instances


def recover(folder: Path, output: Path | None, say: Callable[[str], None]) -> Result:
    """Make the file of a spool, and remove the spool and what its recorder left in the kernel.

    :param output: the file; by default the one that the recording was to become, beside the spool
    :raises UsageError: the folder is no spool, its recorder is alive, or the output is in the way
    :raises TaskscopeError: the recorder was killed before it had recorded anything
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no spool of a recording; give the folder FILE{SUFFIX} that a killed recording "
                         "left")
    info = read_info(folder)
    if info is None:
        raise UsageError(f"{folder} is no spool of a recording: it has no {INFO}; raw pages are read as they are: "
                         f"taskscope lives -i {quoted(folder)}")
    if is_running(folder, info):
        raise UsageError(f"{folder}: the recording runs (pid {info.pid}); end it with Ctrl-C, or: kill -INT {info.pid}")
    if not (folder / "header_page").is_file():
        _clean(folder, info)
        raise TaskscopeError(f"{folder}: the recorder was killed before it began, so there is nothing in it; "
                             f"remove it: rm -r {quoted(folder)}")
    if output is None:
        name = info.output or folder.name.removesuffix(SUFFIX) or "trace.dat"
        output = folder.with_name(os.path.basename(name))  # noqa: PTH119  a name that a file claims
    record_end.refuse_output(output, say)
    result = Result(output, command=info.command[0] if info.command else "")
    with Signals() as signals:
        _trim(folder, info)
        _clean(folder, info)
        owner = _owner(folder)
        record_end.write(folder, info, output, result, signals, owner)
    return result


def _owner(folder: Path) -> tuple[int, int] | None:
    """Return to whom the spool belongs, if that is somebody else."""
    status = folder.stat()
    return (status.st_uid, status.st_gid) if os.geteuid() == 0 and status.st_uid else None


def _trim(folder: Path, info: SpoolInfo) -> None:
    """Cut the files of pages to the pages that were written."""
    for path in [*folder.glob("cpu*.raw"), *(folder / OUTSIDE).glob("cpu*.raw")]:
        # Not through a link: a spool may come from anywhere, and this may be root.
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, used(fd, info.page_size))
        finally:
            os.close(fd)


def _clean(folder: Path, info: SpoolInfo) -> None:
    """Empty the dead recorder's buffers into the spool, and remove what it left in the kernel."""
    if info.boot_id != boot_id() or not info.instance:
        return
    # Whoever may read a spool may not yet touch the kernel: then the next recording removes the instance.
    with contextlib.suppress(OSError, PermissionRefusedError):
        place = find_tracefs()
        if place is None:
            return
        tracefs = Tracefs(place)
        for instance in stale_instances(tracefs):
            # By its name alone, as a file claims it; that it is a dead recorder's is known from the kernel.
            for name, target in ((info.outside, folder / OUTSIDE), (info.instance, folder)):
                if name and instance.name == os.path.basename(name):  # noqa: PTH119
                    (instance / "tracing_on").write_text("0")
                    if (folder / "header_page").is_file() and target.is_dir() and not target.is_symlink():
                        _drain(instance, target, info)
        remove_stale(tracefs)
        remove_probes(tracefs)
        tracefs.unmount()


def _drain(instance: Path, folder: Path, info: SpoolInfo) -> None:
    def create(cpu: int) -> int:
        return os.open(folder / f"cpu{cpu}.raw", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    pump = Pump(instance, info.page_size, create)
    try:
        pump.read()
        for cpu in pump.cpus():
            stats = (instance / f"per_cpu/cpu{cpu}/stats").read_bytes()
            path = folder / f"cpu{cpu}.stats"
            path.unlink(missing_ok=True)
            path.write_bytes(stats)
    except DiskFullError as e:
        raise OSError(e.cause.errno or errno.ENOSPC, str(e)) from e
    finally:
        pump.close()
