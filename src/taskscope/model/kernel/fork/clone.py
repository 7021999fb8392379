"""The ways into a fork: the end of kernel/fork.c, v4.19, with clone3() and pidfds of v5.3.

_do_fork() makes the child with copy_process(), puts it on a runqueue with wake_up_new_task(), and for vfork() waits.
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOMEM
from typing import Any, Final

import taskscope.model.fs.file as fs_file
import taskscope.model.fs.fs_struct as fs_struct
import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.nsproxy as nsproxy
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.ptrace as ptrace_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.lib.fault_inject as fault_inject
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.pid import MAX_PID_NS_LEVEL, PIDTYPE_PID
from taskscope.model.include.linux.ptrace import (
    PTRACE_EVENT_CLONE,
    PTRACE_EVENT_FORK,
    PTRACE_EVENT_VFORK,
    PTRACE_EVENT_VFORK_DONE,
    ptrace_event_enabled,
)
from taskscope.model.include.linux.sched import (
    Task,
)
from taskscope.model.include.linux.sched_signal import thread_group_empty
from taskscope.model.include.linux.sched_task import get_task_struct
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.trace.events.sched import trace_sched_process_fork
from taskscope.model.include.uapi.linux.sched import (
    CLONE_CLEAR_SIGHAND,
    CLONE_DETACHED,
    CLONE_FILES,
    CLONE_FS,
    CLONE_INTO_CGROUP,
    CLONE_LEGACY_FLAGS,
    CLONE_NAMESPACES,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_UNTRACED,
    CLONE_VFORK,
    CLONE_VM,
    CSIGNAL,
)

SIGCHLD: Final = 17


# ---- entries --------------------------------------------------------------------------------------------

def _do_fork(
    clone_flags: int, stack_start: Any, stack_size: Any, parent_tidptr: Any, child_tidptr: Any, tls: Any, *,
    exit_signal: int | None = None, pidfd: Any = None, set_tid: tuple[int, ...] = (),
) -> int:
    """Make a child and start it; its pid or a negative errno.  kernel_clone() since v5.10.

    :param exit_signal: None: the low byte of `clone_flags`
    """
    m = machine.cur
    current = m.cpu.curr
    if exit_signal is None:
        exit_signal = clone_flags & CSIGNAL
        clone_flags &= ~CSIGNAL
    trace = 0
    # Determine whether and which event to report to ptracer.  When called from kernel_thread, don't report any event.
    if current.ptrace and not clone_flags & CLONE_UNTRACED:
        if clone_flags & CLONE_VFORK:
            trace = PTRACE_EVENT_VFORK
        elif exit_signal != SIGCHLD:
            trace = PTRACE_EVENT_CLONE
        else:
            trace = PTRACE_EVENT_FORK
        if not ptrace_event_enabled(current, trace):
            trace = 0
    p = fork.copy_process(
        clone_flags, stack_start, stack_size, child_tidptr, None, trace, tls, exit_signal=exit_signal, pidfd=pidfd,
        set_tid=set_tid,
    )
    if isinstance(p, int):
        return p

    # Do this prior waking up the new thread - the thread pointer might get invalid after that point.
    trace_sched_process_fork(current, p)
    pid = pid_.get_task_pid(p, PIDTYPE_PID)
    assert pid is not None
    nr = pid_.pid_vnr(pid)
    if clone_flags & CLONE_PARENT_SETTID:
        put_user(nr, parent_tidptr)
    vfork = None
    if clone_flags & CLONE_VFORK:
        vfork = Completion()
        p.vfork_done = vfork
        get_task_struct(p)

    sched_core.wake_up_new_task(p)

    # forking complete and child started to run, tell ptracer
    if trace:
        ptrace_.ptrace_event_pid(trace, pid)

    if vfork is not None:
        killed = fork.wait_for_vfork_done(p, vfork)
        if not killed and current.ptrace:
            ptrace_.ptrace_event_pid(PTRACE_EVENT_VFORK_DONE, pid)
    pid_.put_pid(pid)
    return nr


def kernel_thread(fn: Any, arg: Any, flags: int) -> int:
    """Make a kernel thread that runs ``fn(arg)``: a child of the caller without an address space of its own."""
    return _do_fork(flags | CLONE_VM | CLONE_UNTRACED, fn, arg, None, None, 0)


def sys_fork() -> int:
    """fork(2): copy everything, SIGCHLD at the end."""
    return _do_fork(SIGCHLD, 0, 0, None, None, 0)


def sys_vfork() -> int:
    """vfork(2): borrow the address space, wait until the child has another."""
    return _do_fork(CLONE_VFORK | CLONE_VM | SIGCHLD, 0, 0, None, None, 0)


def sys_clone(clone_flags: int, newsp: Any = 0, parent_tidptr: Any = None, *rest: Any) -> int:
    """clone(2); it ends with (child_tidptr, tls) on x86-64, (tls, child_tidptr) on ARM (CLONE_BACKWARDS)."""
    first = rest[0] if rest else None
    second = rest[1] if len(rest) > 1 else None
    child_tidptr, tls = (second, first) if machine.cur.flavour.arch == "arm" else (first, second)
    clone_flags &= CLONE_LEGACY_FLAGS
    # For legacy clone() calls, CLONE_PIDFD uses the parent_tid argument to return the pidfd.
    if (machine.cur.flavour.switches.clone3 and clone_flags & CLONE_PIDFD and clone_flags & CLONE_PARENT_SETTID):
        return -EINVAL
    return _do_fork(clone_flags, newsp, 0, parent_tidptr, child_tidptr, tls, pidfd=parent_tidptr)


class CloneArgs:
    """struct clone_args, what clone3(2) takes."""

    __slots__ = (
        "cgroup",
        "child_tid",
        "exit_signal",
        "flags",
        "parent_tid",
        "pidfd",
        "set_tid",
        "size",
        "stack",
        "tls",
    )

    def __init__(
        self, flags: int = 0, *, pidfd: Any = None, child_tid: Any = None, parent_tid: Any = None, exit_signal: int = 0,
        stack: Any = 0, tls: Any = None, set_tid: tuple[int, ...] = (), cgroup: int = 0, size: int = 88,
    ) -> None:
        self.flags = flags
        self.pidfd = pidfd
        self.child_tid = child_tid
        self.parent_tid = parent_tid
        self.exit_signal = exit_signal
        self.stack = stack
        self.tls = tls
        self.set_tid = set_tid
        self.cgroup = cgroup
        self.size = size


def clone3_args_valid(kargs: CloneArgs) -> bool:
    """Tell whether the flags and fields of clone3() go together."""
    # Verify that no unknown flags are passed along.
    if kargs.flags & ~(CLONE_LEGACY_FLAGS | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP):
        return False
    # - make the CLONE_DETACHED bit reusable for clone3 - make the CSIGNAL bits reusable for clone3
    if kargs.flags & (CLONE_DETACHED | (CSIGNAL & ~0x80)):
        return False
    if kargs.flags & (CLONE_SIGHAND | CLONE_CLEAR_SIGHAND) == CLONE_SIGHAND | CLONE_CLEAR_SIGHAND:
        return False
    return not (kargs.flags & (CLONE_THREAD | CLONE_PARENT) and kargs.exit_signal)


def sys_clone3(uargs: Any, size: int = 88) -> int:
    """clone3(2), v5.3: as clone(), with everything in a structure."""
    if size < 64:
        return -EINVAL
    if not isinstance(uargs, CloneArgs):
        return -EFAULT
    if uargs.exit_signal & ~CSIGNAL or not 0 <= uargs.exit_signal <= 64:
        return -EINVAL
    if uargs.flags & CLONE_INTO_CGROUP:
        # Not modelled: cgroups.
        return -EINVAL
    if len(uargs.set_tid) > MAX_PID_NS_LEVEL:
        return -EINVAL
    if not clone3_args_valid(uargs):
        return -EINVAL
    return _do_fork(uargs.flags, uargs.stack, 0, uargs.parent_tid, uargs.child_tid, uargs.tls,
                    exit_signal=uargs.exit_signal, pidfd=uargs.pidfd, set_tid=tuple(uargs.set_tid))


def sys_set_tid_address(tidptr: Any) -> int:
    """set_tid_address(2): where to clear the tid at the end."""
    current = machine.cur.cpu.curr
    current.clear_child_tid = tidptr or None
    return pid_.task_pid_vnr(current)


def unshare_files() -> Any:
    """Give the caller a table of open files of its own.

    The old one if it was shared, None if not, or a negative errno.
    """
    task = machine.cur.cpu.curr
    displaced = task.files
    if displaced.count == 1:
        return None
    if fault_inject.should_fail("files_cache"):
        return -ENOMEM
    copy = fs_file.dup_fd(displaced)
    if isinstance(copy, int):
        return copy
    task.files = copy
    return displaced


def sys_unshare(unshare_flags: int) -> int:
    """unshare(2): stop sharing the table of files, root and working directory, or namespaces."""
    # If unsharing a user namespace must also unshare the thread group and unshare the filesystem root and working
    # directories.
    if unshare_flags & CLONE_NEWUSER:
        unshare_flags |= CLONE_THREAD | CLONE_FS
    # If unsharing vm, must also unshare signal handlers; with them the signal queues.
    if unshare_flags & CLONE_VM:
        unshare_flags |= CLONE_SIGHAND
    if unshare_flags & CLONE_SIGHAND:
        unshare_flags |= CLONE_THREAD
    # If unsharing namespace, must also unshare filesystem information.
    if unshare_flags & CLONE_NEWNS:
        unshare_flags |= CLONE_FS
    err = check_unshare_flags(unshare_flags)
    if err:
        return err
    current = machine.cur.cpu.curr
    # In C all copies are made before the first is put in; here the namespaces, which alone can be refused, come first.
    new_nsproxy = nsproxy.unshare_nsproxy_namespaces(unshare_flags)
    if isinstance(new_nsproxy, int):
        return new_nsproxy
    old = unshare_files() if unshare_flags & CLONE_FILES else None
    if isinstance(old, int):
        if new_nsproxy is not None:
            nsproxy.free_nsproxy(new_nsproxy)
        return old
    if new_nsproxy is not None:
        nsproxy.switch_task_namespaces(current, new_nsproxy)
    if unshare_flags & CLONE_FS and current.fs.users > 1:
        fs_struct.unshare_fs_struct()
    if old is not None:
        fs_file.put_files_struct(old)
    return 0


def check_unshare_flags(unshare_flags: int) -> int:
    """Check that what is to be unshared is not shared where the kernel cannot unshare it: 0 or -EINVAL."""
    if unshare_flags & ~(
        CLONE_FS | CLONE_FILES | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_NAMESPACES
    ):
        return -EINVAL
    # Not implemented, but pretend it works if there is nothing to unshare.  Note that unsharing the address space or
    # the signal handlers also need to unshare the signal queues (aka CLONE_THREAD).
    current = machine.cur.cpu.curr
    if unshare_flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM) and not thread_group_empty(current):
        return -EINVAL
    if unshare_flags & (CLONE_SIGHAND | CLONE_VM):
        assert current.sighand is not None
        if current.sighand.count > 1:
            return -EINVAL
    # current_is_single_threaded()
    return -EINVAL if unshare_flags & CLONE_VM and current.mm.mm_users > 1 else 0


def walk_process_tree(top: Task, visitor: Any, data: Any) -> None:
    """Visit the descendants of a process: ``visitor(task, data)`` < 0 ends the walk, 0 skips the task's children.

    Context: takes tasklist_lock for reading.
    """
    stack = [top]
    while stack:
        parent = stack.pop()
        for thread in signal_send.for_each_thread(parent):
            node = thread.children.next
            while node is not thread.children:
                child = node.owner
                res = visitor(child, data)
                if res < 0:
                    return
                if res:
                    stack.append(child)
                node = node.next
