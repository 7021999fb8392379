"""Executing a program: fs/exec.c, v4.19: find a format that knows it, replace everything that was of the old one.

do_execve() prepares in a `LinuxBinprm` what the new program will have; up to flush_old_exec() a failure returns to
the old program, afterwards there is none any more.  The formats are in fs/binfmt_*.py.
"""

from __future__ import annotations

from errno import E2BIG, EACCES, EAGAIN, EFAULT, ELOOP, ENOEXEC, ENOMEM
from stat import S_ISGID, S_ISREG, S_ISUID, S_IXGRP
from typing import Any, Final

import taskscope.model.fs.binfmt_python as binfmt_python
import taskscope.model.fs.binfmt_script as binfmt_script
import taskscope.model.fs.file as fs_file
import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.namei as namei
import taskscope.model.kernel.cred as cred_
import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.ptrace as ptrace_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.deliver as signal_deliver
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.kernel.signal.sigqueue as sigqueue
import taskscope.model.kernel.time.posix_timers as posix_timers
import taskscope.model.mm.slab as slab
import taskscope.model.security.commoncap as commoncap
from taskscope.model import costs, machine
from taskscope.model.include.linux.fs import MAY_EXEC, allow_write_access, deny_write_access
from taskscope.model.include.linux.list import ListHead
from taskscope.model.include.linux.mm_types import MmStruct
from taskscope.model.include.linux.pid import PIDTYPE_PGID, PIDTYPE_PID, PIDTYPE_SID, PIDTYPE_TGID
from taskscope.model.include.linux.ptrace import PTRACE_EVENT_EXEC
from taskscope.model.include.linux.sched import (
    EXIT_DEAD,
    EXIT_ZOMBIE,
    PF_FORKNOEXEC,
    PF_KTHREAD,
    PF_NO_SETAFFINITY,
    PF_NOFREEZE,
    PF_NPROC_EXCEEDED,
    PF_RANDOMIZE,
    TASK_COMM_LEN,
    TASK_KILLABLE,
    Task,
    same_thread_group,
    thread_group_leader,
)
from taskscope.model.include.linux.sched_signal import (
    RLIMIT_NPROC,
    RLIMIT_STACK,
    SighandStruct,
    rlimit,
    signal_group_exit,
    thread_group_empty,
)
from taskscope.model.include.linux.spinlock import (
    spin_lock,
    spin_lock_irq,
    spin_unlock,
    spin_unlock_irq,
    write_lock_irq,
    write_unlock_irq,
)
from taskscope.model.include.trace.events.sched import trace_sched_prepare_exec, trace_sched_process_exec
from taskscope.model.include.trace.events.task import trace_task_rename

SIGCHLD: Final = 17
#: strings of one call at least, and three quarters of _STK_LIM at most; one string: 32 pages
ARG_MAX: Final = 131_072
_STK_LIM: Final = 8 * 1024 * 1024
MAX_ARG_STRLEN: Final = 32 * 4096
BINPRM_BUF_SIZE: Final = 128


class LinuxBinprm:
    """struct linux_binprm: a program that is about to be executed."""

    __slots__ = ("argv", "buf", "cred", "envp", "file", "filename", "interp", "mm", "recursion_depth", "secureexec",
                 "unsafe")

    def __init__(self, filename: str, argv: list[str], envp: dict[str, str]) -> None:
        self.filename = filename            # name of the binary as seen by procps
        self.interp = filename              # name of the binary really executed: differs for scripts
        self.argv = argv
        self.envp = envp
        self.file: Any = None
        self.mm: MmStruct | None = None
        self.cred: cred_.Cred | None = None
        self.buf = b""                      # the file's first bytes
        self.recursion_depth = 0
        self.secureexec = False
        self.unsafe = 0                     # LSM_UNSAFE_*: why privileges of the file may not be given


def exec_init() -> None:
    """Register the formats; called where their initcalls run."""
    machine.cur.formats = [binfmt_python.load_python_binary, binfmt_script.load_script]


def __set_task_comm(tsk: Task, buf: str, exec: bool) -> None:
    """Name a task: at most 15 bytes, as all of the kernel and ps show them."""
    del exec
    # task_lock(tsk): whoever reads it meanwhile sees the old or the new name, cut at a byte like C's strlcpy() does
    trace_task_rename(tsk, buf)
    raw = buf.encode(errors="surrogateescape").partition(b"\0")[0][:TASK_COMM_LEN - 1]
    tsk.comm = raw.decode(errors="replace")
    tsk.comm16 = raw.ljust(TASK_COMM_LEN, b"\0")


def set_task_comm(tsk: Task, from_: str) -> None:
    """Name a task."""
    __set_task_comm(tsk, from_, False)


# ---- the address space ----------------------------------------------------------------------------------

def bprm_mm_init(bprm: LinuxBinprm) -> int:
    """Make the address space of the new program, with nothing but a stack."""
    mm = fork.mm_alloc()
    if mm is None:
        return -ENOMEM
    bprm.mm = mm
    return 0


def exec_mmap(mm: MmStruct) -> int:
    """Switch to the new address space and let go of the old one."""
    tsk = machine.cur.cpu.curr
    # Notify parent that we're no longer interested in the old VM
    old_mm = tsk.mm
    fork.mm_release(tsk, old_mm)
    active_mm = tsk.active_mm
    tsk.mm = mm
    tsk.active_mm = mm
    # Not modelled: activate_mm().
    if old_mm is not None:
        assert active_mm is old_mm, "active_mm"
        exit_.mm_update_next_owner(old_mm)
        fork.mmput(old_mm)
        return 0
    if active_mm is not None:
        fork.mmdrop(active_mm)
    return 0


# ---- one thread -----------------------------------------------------------------------------------------

def de_thread(tsk: Task) -> int:
    """Kill all other threads and wait for them; take the leader's place if `tsk` is not the leader.

    :return: 0, or -EAGAIN: somebody else kills the process
    """
    m = machine.cur
    sig = tsk.signal
    oldsighand = tsk.sighand
    assert oldsighand is not None
    lock = oldsighand.siglock
    if not thread_group_empty(tsk):
        # Kill all other threads in the thread group.
        spin_lock_irq(lock)
        if signal_group_exit(sig):
            # Another group action in progress, just return so that the signal is processed.
            spin_unlock_irq(lock)
            return -EAGAIN
        sig.group_exit_task = tsk
        sig.notify_count = signal_send.zap_other_threads(tsk)
        if not thread_group_leader(tsk):
            sig.notify_count -= 1
        while sig.notify_count:
            tsk.state = TASK_KILLABLE
            spin_unlock_irq(lock)
            sched_core.schedule()
            if signal_send.__fatal_signal_pending(tsk):
                return de_thread_killed(tsk)
            spin_lock_irq(lock)
        spin_unlock_irq(lock)
        # At this point all other threads have exited, all we have to do is to wait for the thread group leader to
        # become inactive, and to assume its PID:
        if not thread_group_leader(tsk):
            leader = tsk.group_leader
            while True:
                write_lock_irq(m.tasklist_lock)
                # Do this under tasklist_lock to ensure that exit_notify() can't miss ->group_exit_task
                sig.notify_count = -1
                if leader.exit_state:
                    break
                tsk.state = TASK_KILLABLE
                write_unlock_irq(m.tasklist_lock)
                sched_core.schedule()
                if signal_send.__fatal_signal_pending(tsk):
                    return de_thread_killed(tsk)
            take_leadership(tsk, leader)
            # We are going to release_task()->ptrace_unlink() silently, the tracer can sleep in do_wait().  EXIT_DEAD
            # guarantees the tracer won't block again on this thread, but it must be woken.
            if leader.ptrace:
                exit_.__wake_up_parent(leader, leader.parent)
            write_unlock_irq(m.tasklist_lock)
            exit_.release_task(leader)
        sig.group_exit_task = None
        sig.notify_count = 0
    # no_thread_group: we have changed execution domain
    tsk.exit_signal = SIGCHLD
    posix_timers.exit_itimers(sig)
    sigqueue.flush_itimer_signals()
    if oldsighand.count != 1:
        # This ->sighand is shared with the CLONE_SIGHAND but not CLONE_THREAD task, switch to the new one.
        if not slab.kmem_cache_alloc_object(m.sighand_cachep):
            return -ENOMEM
        newsighand = SighandStruct(list(oldsighand.action))
        write_lock_irq(m.tasklist_lock)
        spin_lock(lock)
        tsk.sighand = newsighand
        spin_unlock(lock)
        write_unlock_irq(m.tasklist_lock)
        fork.__cleanup_sighand(oldsighand)
    assert thread_group_leader(tsk), "the leader executes"
    return 0


def de_thread_killed(tsk: Task) -> int:
    """Give up: a fatal signal came first."""
    # protects against exit_notify() and __exit_signal()
    tsk.signal.group_exit_task = None
    tsk.signal.notify_count = 0
    return -EAGAIN


def take_leadership(tsk: Task, leader: Task) -> None:
    """Let the thread that executes become the process: its pid, its place in all lists; the second half of de_thread().

    Context: tasklist_lock held for writing.
    """
    m = machine.cur
    # The only record we have of the real-time age of a process, regardless of execs it's done, is start_time.
    tsk.start_time = leader.start_time
    tsk.start_boottime = leader.start_boottime
    assert same_thread_group(leader, tsk), "the leader is of another process"
    # Become a process group leader with the old leader's pid.  The old leader becomes a thread of the this thread
    # group. Since v5.7 (6b03d1304a32, "proc: Ensure we see the exit of each process tid exactly once") the two
    # exchange their pids; before, the old leader's stands for both until release_task().
    old_pid = tsk.thread_pid
    assert old_pid is not None
    assert leader.thread_pid is not None
    if m.flavour.version >= (5, 7):
        pid_.exchange_tids(tsk, leader)
        leader.pid = old_pid.nr
    else:
        pid_.change_pid(tsk, PIDTYPE_PID, leader.thread_pid)
    tsk.pid = tsk.tgid
    for type_ in (PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID):
        tsk.pid_links[type_] = ListHead(tsk)
        pid_.transfer_pid(leader, tsk, type_)
    list_replace(leader.tasks, tsk.tasks)
    list_replace(leader.sibling, tsk.sibling)
    tsk.group_leader = tsk
    leader.group_leader = tsk
    tsk.exit_signal = SIGCHLD
    leader.exit_signal = -1
    assert leader.exit_state == EXIT_ZOMBIE, "the leader is reaped by somebody else"
    exit_.set_exit_state(leader, EXIT_DEAD)


def list_replace(old: ListHead, new: ListHead) -> None:
    """Put a node in the place of another (list_replace_init())."""
    if old.next is old:
        new.next = new.prev = new
        return
    new.next, new.prev = old.next, old.prev
    new.next.prev = new
    new.prev.next = new
    old.next = old.prev = old


# ---- the point of no return -----------------------------------------------------------------------------

def flush_old_exec(bprm: LinuxBinprm) -> int:
    """Throw the old program away.  begin_new_exec() since v5.8, which does what setup_new_exec() did, too.

    :return: 0 or a negative errno; the old program is gone when ``bprm.mm`` is None
    """
    m = machine.cur
    current = m.cpu.curr
    if m.flavour.switches.sched_prepare_exec:
        trace_sched_prepare_exec(current, bprm)
    # Make sure we have a private signal table and that we are unassociated from the previous thread group.
    retval = de_thread(current)
    if retval:
        return retval
    # Must be called _before_ exec_mmap() as bprm->mm is not visible until then.
    assert bprm.mm is not None
    fork.set_mm_exe_file(bprm.mm, file_table.get_file(bprm.file))
    bprm.mm.exe_name = bprm.filename
    # Release all of the old mmap stuff
    retval = exec_mmap(bprm.mm)
    if retval:
        return retval
    bprm.mm = None                          # We're using it now
    current.flags &= ~(PF_RANDOMIZE | PF_FORKNOEXEC | PF_KTHREAD | PF_NOFREEZE | PF_NO_SETAFFINITY)
    m.arch.flush_thread()
    # We have to apply CLOEXEC before we change whether the process is dumpable (in setup_new_exec) to avoid a race with
    # a process in userspace trying to access the should-be-closed file descriptors of a process undergoing exec(2).
    fs_file.do_close_on_exec(current.files)
    return 0


def setup_new_exec(bprm: LinuxBinprm) -> None:
    """Give the task what the new program begins with."""
    current = machine.cur.cpu.curr
    if bprm.secureexec:
        # Make sure parent cannot signal privileged process.
        current.pdeath_signal = 0
    current.sas_ss_sp = (0, 0, 0)
    current.sigframes = ()
    cred = current.cred
    current.mm.dumpable = 1 if cred.euid == cred.uid and cred.egid == cred.gid and not bprm.secureexec else 0
    __set_task_comm(current, bprm.filename.rpartition("/")[2], True)
    # An exec changes our domain. We are no longer part of the thread group
    current.self_exec_id += 1
    signal_deliver.flush_signal_handlers(current, False)


def install_exec_creds(bprm: LinuxBinprm) -> None:
    """Take the credentials that the program's file gives."""
    assert bprm.cred is not None
    cred_.commit_creds(bprm.cred)
    bprm.cred = None


def prepare_exec_creds() -> cred_.Cred | None:
    """Return credentials to change (kernel/cred.c)."""
    # Not modelled: keyrings.
    return cred_.prepare_creds()


def bprm_fill_uid(bprm: LinuxBinprm) -> None:
    """Apply the set-user-id and set-group-id bits of the file."""
    current = machine.cur.cpu.curr
    cred = bprm.cred
    assert cred is not None
    # clear any previous set[ug]id data from a previous binary
    cred.euid = current.cred.euid
    cred.egid = current.cred.egid
    # Not modelled: mounts without set-user-id.
    if current.atomic_flags & 1:            # task_no_new_privs()
        return
    inode = bprm.file.f_inode
    mode = inode.i_mode
    if not mode & (S_ISUID | S_ISGID):
        return
    if mode & S_ISUID:
        cred.euid = inode.i_uid
    if mode & (S_ISGID | S_IXGRP) == (S_ISGID | S_IXGRP):
        cred.egid = inode.i_gid


def prepare_binprm(bprm: LinuxBinprm) -> int:
    """Look at the file: whose rights it gives, and its first bytes."""
    bprm_fill_uid(bprm)
    commoncap.cap_bprm_set_creds(bprm)      # security_bprm_set_creds()
    bprm.buf = bytes(bprm.file.f_inode.i_content[:BINPRM_BUF_SIZE])
    return 0


def search_binary_handler(bprm: LinuxBinprm) -> int:
    """Let the formats try, each in turn, to load the program."""
    # This allows 4 levels of binfmt rewrites before failing hard.
    if bprm.recursion_depth > 5:
        return -ELOOP
    retval = -ENOEXEC
    for load_binary in machine.cur.formats:
        bprm.recursion_depth += 1
        retval = load_binary(bprm)
        bprm.recursion_depth -= 1
        if retval < 0 and bprm.mm is None:
            # we got to flush_old_exec() and failed after it
            signal_send.force_sig(11, machine.cur.cpu.curr)
            return retval
        if retval != -ENOEXEC or bprm.file is None:
            return retval
    return retval


def exec_binprm(bprm: LinuxBinprm) -> int:
    """Load the program, and tell that it was."""
    current = machine.cur.cpu.curr
    # Need to fetch pid before load_binary changes it
    old_pid = current.pid
    old_vpid = pid_.task_pid_nr_ns(current, pid_.task_active_pid_ns(current.parent)) if current.ptrace else 0
    ret = search_binary_handler(bprm)
    if ret >= 0:
        # Not modelled: audit_bprm(), proc_exec_connector().
        trace_sched_process_exec(current, old_pid, bprm)
        if current.ptrace:
            ptrace_.ptrace_event(PTRACE_EVENT_EXEC, old_vpid)
    return ret


def do_open_execat(filename: str) -> Any:
    """Open a program's file: the File, or -errno."""
    path = namei.user_path(filename)
    if isinstance(path, int):
        return path
    inode = path.inode
    err = namei.inode_permission(inode, MAY_EXEC)
    if err:
        return err
    if not S_ISREG(inode.i_mode):
        return -EACCES
    file = namei.do_open(path, 0)
    if not isinstance(file, int):
        err = deny_write_access(file)
        if err:
            file_table.fput(file)
            return err
    return file


def count_strings(argv: list[str], envp: dict[str, str]) -> int:
    """Check that arguments and environment fit: 0 or -E2BIG."""
    total = 0
    for text in (*argv, *(f"{name}={value}" for name, value in envp.items())):
        size = len(text.encode(errors="surrogateescape")) + 1
        if size > MAX_ARG_STRLEN:
            return -E2BIG
        total += size + machine.cur.flavour.long_size
    # Limit to 1/4 of the max stack size or 3/4 of _STK_LIM, whichever is smaller.  We've historically supported up to
    # 32 pages (ARG_MAX) of argument strings even with small stacks.
    limit = min(_STK_LIM // 4 * 3, rlimit(machine.cur.cpu.curr, RLIMIT_STACK) // 4)
    return -E2BIG if total > max(limit, ARG_MAX) else 0


def free_bprm(bprm: LinuxBinprm) -> None:
    """Throw away what was prepared and not used."""
    if bprm.mm is not None:
        fork.mmput(bprm.mm)
    if bprm.cred is not None:
        cred_.abort_creds(bprm.cred)
    if bprm.file is not None:
        allow_write_access(bprm.file)
        file_table.fput(bprm.file)


def __do_execve_file(filename: str, argv: list[str], envp: dict[str, str]) -> int:
    m = machine.cur
    current = m.cpu.curr
    # We move the actual failure in case of RLIMIT_NPROC excess from set*uid() to execve() because too many poorly
    # written programs don't check setuid() return code.
    if current.flags & PF_NPROC_EXCEEDED and current.cred.user.processes > signal_send.task_rlimit(
        current, RLIMIT_NPROC
    ):
        return -EAGAIN
    # We're below the limit (still or again), so we don't want to make further execve() calls fail.
    current.flags &= ~PF_NPROC_EXCEEDED
    displaced = fork.unshare_files()
    if isinstance(displaced, int):
        return displaced
    bprm = LinuxBinprm(filename, list(argv), dict(envp))
    # Not modelled: cred_guard_mutex, for tracers that attach meanwhile.
    bprm.cred = prepare_exec_creds()
    retval = -ENOMEM
    if bprm.cred is not None:
        check_unsafe_exec(bprm)
        current.in_execve = True
        retval = do_execve_prepared(bprm)
        current.fs.in_exec = False
        current.in_execve = False
    free_bprm(bprm)
    if retval < 0:
        if displaced is not None:
            fs_file.reset_files_struct(displaced)
        return retval
    if displaced is not None:
        fs_file.put_files_struct(displaced)
    return retval


def do_execve_prepared(bprm: LinuxBinprm) -> int:
    """Open and load: the middle of __do_execve_file()."""
    file = do_open_execat(bprm.filename)
    if isinstance(file, int):
        return file
    bprm.file = file
    # the task uses little memory and cache now: the best time to move it to another CPU
    sched_core.sched_exec()
    retval = bprm_mm_init(bprm)
    if retval:
        return retval
    retval = count_strings(bprm.argv, bprm.envp)
    if retval:
        return retval
    retval = prepare_binprm(bprm)
    if retval:
        return retval
    machine.cur.cost(costs.EXEC)
    return exec_binprm(bprm)


def check_unsafe_exec(bprm: LinuxBinprm) -> None:
    """Find out why the privileges of the file may not be given: no_new_privs, or somebody shares our fs_struct.

    If nobody outside of the process does, keep it so until the exec is done.
    """
    p = machine.cur.cpu.curr
    # Not modelled: LSM_UNSAFE_PTRACE.
    if p.atomic_flags & 1:                  # task_no_new_privs()
        bprm.unsafe |= commoncap.LSM_UNSAFE_NO_NEW_PRIVS
    n_fs = sum(1 for t in signal_send.for_each_thread(p) if t.fs is p.fs)
    if p.ptrace:
        bprm.unsafe |= commoncap.LSM_UNSAFE_PTRACE
    if p.fs.users > n_fs:
        bprm.unsafe |= commoncap.LSM_UNSAFE_SHARE
    else:
        p.fs.in_exec = True


def do_execve(filename: Any, argv: Any, envp: Any) -> int:
    """Replace the program of the running task; 0, or a negative errno and it goes on."""
    name = namei.getname(filename)
    if isinstance(name, int):
        return name
    if not isinstance(argv, (list, tuple)):
        return -EFAULT
    return __do_execve_file(name, list(argv), dict(envp or {}))


def sys_execve(filename: Any, argv: Any, envp: Any) -> int:
    """execve(2); `argv` is a list of strings, `envp` a mapping."""
    return do_execve(filename, argv, envp)
