"""/proc/PID: fs/proc/base.c, v4.19: the directories of processes and threads and the files in them."""

from __future__ import annotations

from collections.abc import Callable
from errno import EACCES, EINVAL, ESRCH
from typing import Any, Final, NamedTuple

import taskscope.model.fs.d_path as d_path
import taskscope.model.fs.exec as exec_
import taskscope.model.fs.nsfs as nsfs
import taskscope.model.fs.proc.array as array
import taskscope.model.fs.proc.inode as proc_inode
import taskscope.model.kernel.kallsyms as kallsyms
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.stacktrace as stacktrace
import taskscope.model.mm.oom_kill as oom_kill
from taskscope.model import machine
from taskscope.model.include.linux.fs import File, FileOperations, Inode, InodeOperations
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.pid import PIDTYPE_PID, Pid
from taskscope.model.include.linux.sched import PF_KTHREAD, Task
from taskscope.model.include.trace.events.oom import trace_oom_score_adj_update


class PidEntry(NamedTuple):
    """struct pid_entry."""

    name: str
    mode: int
    show: Callable[[Task], str | int] | None
    store: Callable[[Task, bytes], int] | None = None


def get_proc_task(pid: Pid) -> Task | None:
    """Return the task that a directory stands for; None once it has been reaped."""
    return pid_.pid_task(pid, PIDTYPE_PID)


def proc_pid_show(private: tuple[Pid, PidEntry]) -> str | int:
    """Show one entry of a task; -ESRCH once it has been reaped."""
    pid, entry = private
    task = get_proc_task(pid)
    if task is None:
        return -ESRCH
    return -EINVAL if entry.show is None else entry.show(task)


def proc_pid_store(private: tuple[Pid, PidEntry], data: bytes) -> int:
    """Write one entry of a task."""
    pid, entry = private
    task = get_proc_task(pid)
    if task is None:
        return -ESRCH
    return -EINVAL if entry.store is None else entry.store(task, data)


def comm_show(task: Task) -> str:
    """/proc/PID/comm."""
    return array.proc_task_name(task) + "\n"


def comm_write(task: Task, data: bytes) -> int:
    """Set the name: of a thread of the writer's own process."""
    if task.signal is not machine.cur.cpu.curr.signal:
        return -EINVAL
    exec_.__set_task_comm(task, data.rstrip(b"\n")[:15].decode(errors="replace"), False)
    return len(data)


def proc_pid_cmdline(task: Task) -> str:
    """/proc/PID/cmdline: the arguments, each with a NUL behind; nothing for kernel threads and zombies."""
    return "" if task.mm is None else "".join(arg + "\0" for arg in task.mm.argv)


def proc_pid_environ(task: Task) -> str:
    """/proc/PID/environ."""
    return "" if task.mm is None else "".join(f"{name}={value}\0" for name, value in task.mm.envp.items())


def proc_pid_wchan(task: Task) -> str:
    """/proc/PID/wchan: the function that a sleeping task waits in, 0 if it does not sleep."""
    address = array.get_wchan(task)
    return kallsyms.sprint_symbol(machine.cur, address, False) if address else "0"


def proc_pid_stack(task: Task) -> str:
    """/proc/PID/stack: the kernel functions on a sleeping task's stack, innermost first."""
    m = machine.cur
    text = "".join(f"[<0>] {kallsyms.sprint_symbol(m, one)}\n" for one in stacktrace.save_stack_trace_tsk(m, task))
    # Until v5.1 the array ended in an entry of all ones, which is shown.
    return text + "[<0>] 0xffffffff\n" if machine.cur.flavour.version < (5, 2) else text


def proc_pid_schedstat(task: Task) -> str:
    """/proc/PID/schedstat: ns on a CPU, ns waited for one, how often."""
    info = task.sched_info
    return f"{task.se.sum_exec_runtime} {info.run_delay} {info.pcount}\n"


def oom_score_adj_read(task: Task) -> str:
    """/proc/PID/oom_score_adj."""
    return f"{task.signal.oom_score_adj}\n"


def __set_oom_adj(task: Task, oom_adj: int, legacy: bool) -> int:
    """Set the adjustment of a process and of all that share its memory: 0 or a negative errno.

    Lowering it below what root set needs root.
    """
    root = machine.cur.cpu.curr.cred.euid == 0
    least = task.signal.oom_score_adj if legacy else task.signal.oom_score_adj_min
    if oom_adj < least and not root:
        return -EACCES
    if legacy:
        # warn that /proc/pid/oom_adj is deprecated, see Documentation/feature-removal-schedule.txt.
        current = machine.cur.cpu.curr
        printk_.printk(
            f"<4>{current.comm} ({current.pid}): /proc/{task.pid}/oom_adj is deprecated, please use "
            f"/proc/{task.pid}/oom_score_adj instead.\n"
        )
    task.signal.oom_score_adj = oom_adj
    if not legacy and root:
        task.signal.oom_score_adj_min = oom_adj
    trace_oom_score_adj_update(task)
    # Make sure we will check other processes sharing the mm if this is not vfrok which wants its own oom_score_adj.
    mm = task.mm
    if mm is None or task.vfork_done is not None or mm.mm_users <= 1:
        return 0
    for p in list_for_each_entry(machine.cur.init_task.tasks):
        if p.signal is task.signal or p.pid == 1 or p.flags & PF_KTHREAD or not oom_kill.process_shares_mm(p, mm):
            continue
        p.signal.oom_score_adj = oom_adj
        if not legacy and root:
            p.signal.oom_score_adj_min = oom_adj
    return 0


def oom_score_adj_write(task: Task, data: bytes) -> int:
    """Set the adjustment, -1000 to 1000."""
    try:
        value = int(data.decode().strip())
    except ValueError:
        return -EINVAL
    if not -1000 <= value <= 1000:
        return -EINVAL
    return __set_oom_adj(task, value, False) or len(data)


def oom_adj_read(task: Task) -> str:
    """/proc/PID/oom_adj: the adjustment in the old units, -17 to 15."""
    adj = task.signal.oom_score_adj
    old = min((abs(adj) * 17 // 1000) * (1 if adj >= 0 else -1), 15)
    return f"{old}\n"


def oom_adj_write(task: Task, data: bytes) -> int:
    """Set the adjustment in the old units."""
    try:
        value = int(data.decode().strip())
    except ValueError:
        return -EINVAL
    if not -16 <= value <= 15 and value != -17:
        return -EINVAL
    # Scale /proc/pid/oom_score_adj appropriately ensuring that a maximum value is always attainable.
    adj = 1000 if value == 15 else (abs(value) * 1000 // 17) * (1 if value >= 0 else -1)
    return __set_oom_adj(task, adj, True) or len(data)


def proc_oom_score(task: Task) -> str:
    """/proc/PID/oom_score: how much the process is in danger."""
    return f"{oom_kill.oom_score(task)}\n"


def proc_exe(task: Task) -> str:
    """/proc/PID/exe, as text: symbolic links are not modelled."""
    return "" if task.mm is None else task.mm.exe_name + "\n"


def proc_cwd(task: Task) -> str:
    """/proc/PID/cwd, as text."""
    return "" if task.fs is None else d_path.d_path(task.fs.pwd) + "\n"


def proc_pident_lookup(dir: Inode, name: str) -> Inode | None:
    """Look a name up in the directory of a process or thread."""
    pid, entries = dir.i_private
    if get_proc_task(pid) is None:
        return None
    if name == "task" and entries is machine.cur.tgid_base_stuff:
        return proc_inode.proc_dir_inode(proc_task_inode_operations, proc_task_operations, pid)
    if name == "fd":
        return proc_inode.proc_dir_inode(proc_fd_inode_operations, proc_fd_operations, pid, 0o500)
    if name == "ns":
        return nsfs.proc_ns_dir_inode(pid)
    for entry in entries:
        if entry.name == name:
            inode = proc_inode.proc_get_inode(
                entry.mode, proc_inode.ProcEntry(proc_pid_show, proc_pid_store, (pid, entry))
            )
            task = get_proc_task(pid)
            if task is not None and task.cred is not None:
                inode.i_uid, inode.i_gid = task.cred.euid, task.cred.egid
            return inode
    return None


def proc_pident_readdir(f: File) -> list[str]:
    """Return the names in the directory of a process or thread."""
    entries = f.f_inode.i_private[1]
    folders = ["task", "fd", "ns"] if entries is machine.cur.tgid_base_stuff else ["fd", "ns"]
    return [entry.name for entry in entries] + folders


def proc_pid_lookup(name: str) -> Inode | None:
    """Return the directory of a process (any task's, though only leaders are listed)."""
    ns = machine.cur.init_pid_ns            # that of the mount: there is one /proc
    pid = pid_.find_pid_ns(int(name), ns) if name.isdigit() and len(name) < 10 else None
    return None if pid is None or get_proc_task(pid) is None else proc_pid_make_inode(pid, machine.cur.tgid_base_stuff)


def proc_pid_make_inode(pid: Pid, entries: Any) -> Inode:
    """Return the directory of a task."""
    return proc_inode.proc_dir_inode(proc_pident_inode_operations, proc_pident_operations, (pid, entries))


def proc_pid_readdir() -> list[str]:
    """Return the pids of all processes, in order."""
    ns = machine.cur.init_pid_ns
    names = []
    for nr in sorted(ns.idr):
        task = pid_.pid_task(ns.idr[nr], PIDTYPE_PID)
        if task is not None and task.exit_signal >= 0:
            names.append(str(nr))
    return names


def proc_task_lookup(dir: Inode, name: str) -> Inode | None:
    """Look a thread up in /proc/PID/task."""
    leader = get_proc_task(dir.i_private)
    ns = machine.cur.init_pid_ns            # that of the mount: there is one /proc
    pid = pid_.find_pid_ns(int(name), ns) if name.isdigit() and len(name) < 10 else None
    task = None if pid is None else get_proc_task(pid)
    if leader is None or pid is None or task is None or task.signal is not leader.signal:
        return None
    return proc_pid_make_inode(pid, machine.cur.tid_base_stuff)


def proc_task_readdir(f: File) -> list[str]:
    """Return the tids of a process."""
    leader = get_proc_task(f.f_inode.i_private)
    if leader is None or leader.sighand is None:
        return []
    return [str(t.pid) for t in list_for_each_entry(leader.signal.thread_head)]


def proc_readfd(f: File) -> list[str]:
    """Return the descriptors of a task."""
    task = get_proc_task(f.f_inode.i_private)
    if task is None or task.files is None:
        return []
    return [str(n) for n, one in enumerate(task.files.fd) if one is not None]


def proc_lookupfd(dir: Inode, name: str) -> Inode | None:
    """Return the file behind a descriptor of a task."""
    task = get_proc_task(dir.i_private)
    if task is None or task.files is None or not name.isdigit() or int(name) >= len(task.files.fd):
        return None
    f = task.files.fd[int(name)]
    return None if f is None else f.f_inode


def common_entries() -> tuple[PidEntry, ...]:
    """Return the files that processes and threads both have."""
    return (
        PidEntry("status", 0o444, array.proc_pid_status),
        PidEntry("comm", 0o644, comm_show, comm_write),
        PidEntry("cmdline", 0o444, proc_pid_cmdline),
        PidEntry("environ", 0o400, proc_pid_environ),
        PidEntry("statm", 0o444, array.proc_pid_statm),
        PidEntry("wchan", 0o444, proc_pid_wchan),
        PidEntry("stack", 0o400, proc_pid_stack),
        PidEntry("schedstat", 0o444, proc_pid_schedstat),
        PidEntry("oom_score", 0o444, proc_oom_score),
        PidEntry("oom_adj", 0o644, oom_adj_read, oom_adj_write),
        PidEntry("oom_score_adj", 0o644, oom_score_adj_read, oom_score_adj_write),
        PidEntry("exe", 0o444, proc_exe),
        PidEntry("cwd", 0o444, proc_cwd),
    )


def proc_base_init() -> None:
    """Make the tables of what is in the directory of a process and of a thread."""
    m = machine.cur
    m.tgid_base_stuff = (PidEntry("stat", 0o444, array.proc_tgid_stat), *common_entries())
    m.tid_base_stuff = (
        PidEntry("stat", 0o444, array.proc_tid_stat),
        PidEntry("children", 0o444, array.children_seq_show),
        *common_entries(),
    )


proc_pident_operations: Final = FileOperations(iterate=proc_pident_readdir)
proc_pident_inode_operations: Final = InodeOperations(lookup=proc_pident_lookup)
proc_task_operations: Final = FileOperations(iterate=proc_task_readdir)
proc_task_inode_operations: Final = InodeOperations(lookup=proc_task_lookup)
proc_fd_operations: Final = FileOperations(iterate=proc_readfd)
proc_fd_inode_operations: Final = InodeOperations(lookup=proc_lookupfd)
