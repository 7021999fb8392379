"""Asking whether two processes share something: kernel/kcmp.c, v4.19."""

from __future__ import annotations

from errno import EBADF, EINVAL, EOPNOTSUPP, EPERM, ESRCH
from typing import Any, Final

import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.ptrace as ptrace_
from taskscope.model.include.linux.ptrace import PTRACE_MODE_READ_REALCREDS
from taskscope.model.include.linux.sched import Task

KCMP_FILE: Final = 0
KCMP_VM: Final = 1
KCMP_FILES: Final = 2
KCMP_FS: Final = 3
KCMP_SIGHAND: Final = 4
KCMP_IO: Final = 5
KCMP_SYSVSEM: Final = 6


def kcmp_ptr(v1: Any, v2: Any) -> int:
    """Compare two pointers: 0 the same, 1 less, 2 greater; the order means nothing but stays the same."""
    return 0 if v1 is v2 else 1 if id(v1) < id(v2) else 2


def get_file_raw_ptr(task: Task, idx: int) -> Any:
    """Return the open file behind a descriptor of a task; None if there is none."""
    files = task.files
    return files.fd[idx] if files is not None and 0 <= idx < len(files.fd) else None


def sys_kcmp(pid1: int, pid2: int, type: int, idx1: int = 0, idx2: int = 0) -> int:
    """kcmp(2)."""
    task1 = pid_.find_task_by_vpid(pid1)
    task2 = pid_.find_task_by_vpid(pid2)
    if task1 is None or task2 is None:
        return -ESRCH
    if not (
        ptrace_.ptrace_may_access(task1, PTRACE_MODE_READ_REALCREDS)
        and ptrace_.ptrace_may_access(task2, PTRACE_MODE_READ_REALCREDS)
    ):
        return -EPERM
    if type == KCMP_FILE:
        filp1, filp2 = get_file_raw_ptr(task1, idx1), get_file_raw_ptr(task2, idx2)
        return -EBADF if filp1 is None or filp2 is None else kcmp_ptr(filp1, filp2)
    if type == KCMP_VM:
        return kcmp_ptr(task1.mm, task2.mm)
    if type == KCMP_FILES:
        return kcmp_ptr(task1.files, task2.files)
    if type == KCMP_FS:
        return kcmp_ptr(task1.fs, task2.fs)
    if type == KCMP_SIGHAND:
        return kcmp_ptr(task1.sighand, task2.sighand)
    if type == KCMP_IO:
        return 0                            # nobody has an io_context
    return -EOPNOTSUPP if type == KCMP_SYSVSEM else -EINVAL
