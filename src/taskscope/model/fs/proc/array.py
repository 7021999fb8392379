"""What /proc tells of one task: fs/proc/array.c, v4.19: stat, status, statm, children."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import taskscope.model.kernel.kallsyms as kallsyms
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.cputime as cputime
import taskscope.model.kernel.stacktrace as stacktrace
import taskscope.model.kernel.workqueue as workqueue
from taskscope.abi.state import state_letter
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.mm_types import MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES, MM_SWAPENTS
from taskscope.model.include.linux.sched import PF_WQ_WORKER, Task, pid_alive, task_cpu
from taskscope.model.include.linux.sched_signal import RLIMIT_RSS, RLIMIT_SIGPENDING, SIG_DFL, SIG_IGN, rlimit
from taskscope.model.mm import memory

if TYPE_CHECKING:
    from taskscope.model.include.linux.mm_types import MmStruct
    from taskscope.model.include.linux.pid import Pid

NSEC_PER_CLOCK_T = 10_000_000  # USER_HZ is 100
MAX_RT_PRIO = 100
#: functions marked __sched outside of kernel/sched/
SCHED_TEXT = frozenset(
    {
        "__switch_to",
        "schedule_timeout",
        "schedule_timeout_interruptible",
        "schedule_timeout_uninterruptible",
        "do_nanosleep",
        "schedule_hrtimeout_range",
        "__mutex_lock",
        "__rt_mutex_slowlock",
        "mutex_lock",
        "mutex_lock_interruptible",
        "msleep",
        "usleep_range",
    }
)

#: the bit of task_struct.atomic_flags
PFA_NO_NEW_PRIVS: Final = 1
#: task_state_array[]: the words after the letter in /proc/PID/status
TASK_STATE_ARRAY: Final = {
    "R": "running", "S": "sleeping", "D": "disk sleep", "T": "stopped", "t": "tracing stop", "X": "dead", "Z": "zombie",
    "P": "parked", "I": "idle",
}


def get_task_state(tsk: Task) -> str:
    """Return the state's letter as ``ps`` shows it."""
    return state_letter(tsk.state, tsk.exit_state, machine.cur.flavour.version)


def proc_task_name(p: Task) -> str:
    """Return a task's name for /proc: a worker's with what it does, since v5.17 a kernel thread's whole name."""
    if p.flags & PF_WQ_WORKER:
        return workqueue.wq_worker_comm(p)
    if p.kthread is not None and machine.cur.flavour.version >= (5, 17) and p.kthread.full_name:
        return str(p.kthread.full_name)
    return p.comm


def task_nice(p: Task) -> int:
    """Return the nice value."""
    return p.static_prio - 120


def task_prio(p: Task) -> int:
    """Return the priority as /proc shows it: 0 is nice -20 of the fair class, below it is realtime."""
    return p.prio - MAX_RT_PRIO


def new_encode_dev(dev: int) -> int:
    """Return a device number as user space has it."""
    major, minor = dev >> 8, dev & 0xFF
    return minor | major << 8


def collect_sigign_sigcatch(p: Task) -> tuple[int, int]:
    """Return the sets of ignored and of caught signals."""
    ignored = caught = 0
    if p.sighand is not None:
        for n, action in enumerate(p.sighand.action):
            if action.sa_handler == SIG_IGN:
                ignored |= 1 << n
            elif action.sa_handler != SIG_DFL:
                caught |= 1 << n
    return ignored, caught


def task_ppid(task: Task) -> int:
    """Return the real parent's process id; 0 for a task that is not there any more."""
    return task.real_parent.tgid if pid_alive(task) else 0


def in_sched_functions(symbol: kallsyms.Symbol) -> bool:
    """Tell whether a function stands in .sched.text: waiting itself, which is never what a task waits for."""
    if symbol.name == "rt_mutex_wait_proxy_lock":
        return machine.cur.flavour.version >= (5, 15)
    module = "" if symbol.function is None else symbol.function.__module__
    return symbol.name in SCHED_TEXT or module.startswith("taskscope.model.kernel.sched.")


def get_wchan(task: Task) -> int:
    """Return the address where a sleeping task waits: in the innermost function that is not the scheduler's; else 0."""
    m = machine.cur
    if task.state == 0 or task.on_cpu or task.exit_state:
        return 0
    table = kallsyms.kallsyms(m)
    for address in stacktrace.save_stack_trace_tsk(m, task, 16):
        symbol = table.lookup(address)
        if symbol is not None and not in_sched_functions(symbol):
            return address
    return 0


def do_task_stat(task: Task, whole: bool) -> str:
    """Return the line of /proc/PID/stat (whole process) or /proc/PID/task/TID/stat."""
    m = machine.cur
    mm: MmStruct | None = task.mm
    pgid = sid = -1
    num_threads = 0
    tty_nr, tty_pgrp = 0, -1
    signal = task.signal
    cmin_flt = cmaj_flt = cutime = cstime = 0
    min_flt, maj_flt, utime, stime = task.min_flt, task.maj_flt, 0, 0
    if task.sighand is not None:
        if signal.tty is not None:
            tty_pgrp = pid_.pid_nr(signal.tty.pgrp)
            tty_nr = new_encode_dev(signal.tty.dev)
        num_threads = signal.nr_threads
        cmin_flt, cmaj_flt = signal.cmin_flt, signal.cmaj_flt
        cutime, cstime = signal.cutime, signal.cstime
        if whole:
            min_flt += signal.min_flt
            maj_flt += signal.maj_flt
            utime, stime = cputime.thread_group_cputime_adjusted(task)
        # There is one /proc, that of the initial pid namespace: its numbers are the global ones.
        sid = pid_.pid_nr(pid_.task_session(task))
        pgid = pid_.pid_nr(pid_.task_pgrp(task))
    if not whole or task.sighand is None:
        utime, stime = cputime.task_cputime_adjusted(task)
    ignored, caught = collect_sigign_sigcatch(task)
    wchan = get_wchan(task)
    rsslim = rlimit(task, RLIMIT_RSS) if task.sighand is not None else 0
    fields = [
        task.pid,
        f"({proc_task_name(task)})",
        get_task_state(task),
        task_ppid(task),
        pgid,
        sid,
        tty_nr,
        tty_pgrp,
        task.flags,
        min_flt,
        cmin_flt,
        maj_flt,
        cmaj_flt,
        utime // NSEC_PER_CLOCK_T,
        stime // NSEC_PER_CLOCK_T,
        cutime // NSEC_PER_CLOCK_T,
        cstime // NSEC_PER_CLOCK_T,
        task_prio(task),
        task_nice(task),
        num_threads,
        0,
        task.start_boottime // NSEC_PER_CLOCK_T,
        0 if mm is None else mm.total_vm * 4096,
        0 if mm is None else mm.rss,
        min(rsslim, (1 << 8 * m.flavour.long_size) - 1),
        # start_code, end_code, start_stack, esp, eip: programs in Python have no addresses
        0,
        0,
        0,
        0,
        0,
        task.pending.signal & 0x7FFFFFFF,
        task.blocked & 0x7FFFFFFF,
        ignored & 0x7FFFFFFF,
        caught & 0x7FFFFFFF,
        # The address until v5.15; since then only whether there is one.
        wchan if m.flavour.version < (5, 16) else int(wchan != 0),
        0,
        0,
        task.exit_signal,
        task_cpu(task),
        task.rt_priority,
        task.policy,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        task.exit_code if whole else 0,
    ]
    return " ".join(map(str, fields)) + "\n"


def proc_tgid_stat(task: Task) -> str:
    """/proc/PID/stat."""
    return do_task_stat(task, True)


def proc_tid_stat(task: Task) -> str:
    """/proc/PID/task/TID/stat."""
    return do_task_stat(task, False)


def bitmap_list(mask: int, count: int) -> str:
    """Return a set of CPUs as a list of ranges: 0-1,3."""
    runs: list[str] = []
    start = None
    for n in range(count + 1):
        if n < count and mask >> n & 1:
            start = n if start is None else start
        elif start is not None:
            runs.append(str(start) if start == n - 1 else f"{start}-{n - 1}")
            start = None
    return ",".join(runs)


def proc_pid_status(task: Task) -> str:
    """/proc/PID/status."""
    m = machine.cur
    cred = task.cred
    letter = get_task_state(task)
    fs = task.fs
    version = m.flavour.version
    lines: list[tuple[str, Any]] = [("Name", proc_task_name(task).replace("\\", "\\\\").replace("\n", "\\n"))]
    if fs is not None:
        lines.append(("Umask", f"{fs.umask:04o}"))
    lines += [
        ("State", f"{letter} ({TASK_STATE_ARRAY[letter]})"),
        ("Tgid", task.tgid),
        ("Ngid", 0),
        ("Pid", task.pid),
        ("PPid", task_ppid(task)),
        ("TracerPid", task.parent.pid if task.ptrace else 0),
        ("Uid", f"{cred.uid}\t{cred.euid}\t{cred.suid}\t{cred.fsuid}"),
        ("Gid", f"{cred.gid}\t{cred.egid}\t{cred.sgid}\t{cred.fsgid}"),
        ("FDSize", fdsize(task)),
        ("Groups", " "),
        ("NStgid", ns_numbers(task, pid_.task_tgid(task))),
        ("NSpid", ns_numbers(task, pid_.task_pid(task))),
        ("NSpgid", ns_numbers(task, pid_.task_pgrp(task))),
        ("NSsid", ns_numbers(task, pid_.task_session(task))),
    ]
    if version >= (6, 8):
        lines.append(("Kthread", int(bool(task.flags & 0x200000))))
    if task.mm is not None:
        mm = task.mm
        lines += [
            *task_mem(mm),
        ]
    pending_shared = task.signal.shared_pending.signal if task.sighand is not None else 0
    ignored, caught = collect_sigign_sigcatch(task)
    qlim = min(rlimit(task, RLIMIT_SIGPENDING), (1 << 8 * m.flavour.long_size) - 1) if task.sighand is not None else 0
    cpus = len(m.cpus)
    lines += [
        ("Threads", task.signal.nr_threads if task.sighand is not None else 0),
        ("SigQ", f"{sigpending(task)}/{qlim}"),
        ("SigPnd", f"{task.pending.signal:016x}"),
        ("ShdPnd", f"{pending_shared:016x}"),
        ("SigBlk", f"{task.blocked:016x}"),
        ("SigIgn", f"{ignored:016x}"),
        ("SigCgt", f"{caught:016x}"),
        ("CapInh", f"{cred.cap_inheritable:016x}"),
        ("CapPrm", f"{cred.cap_permitted:016x}"),
        ("CapEff", f"{cred.cap_effective:016x}"),
        ("CapBnd", f"{cred.cap_bset:016x}"),
        ("CapAmb", f"{cred.cap_ambient:016x}"),
        ("NoNewPrivs", int(bool(task.atomic_flags & PFA_NO_NEW_PRIVS))),
        # Not modelled: seccomp, memory nodes.
        ("Cpus_allowed", f"{sched_core.task_cpus_mask(task) & (1 << cpus) - 1:x}"),
        ("Cpus_allowed_list", bitmap_list(sched_core.task_cpus_mask(task), cpus)),
        ("voluntary_ctxt_switches", task.nvcsw),
        ("nonvoluntary_ctxt_switches", task.nivcsw),
    ]
    return "".join(f"{name}:\t{value}\n" for name, value in lines)


def ns_numbers(task: Task, pid: Pid | None) -> str:
    """Return a pid's numbers in the namespaces from that of /proc down to the task's own."""
    mine = task.thread_pid
    if mine is None:
        return "0"
    return "\t".join(str(pid_.pid_nr_ns(pid, ns)) for _, ns in mine.numbers)


def sigpending(task: Task) -> int:
    """Return how many signals the user has queued."""
    return int(getattr(task.cred.user, "sigpending", 0))


def fdsize(task: Task) -> int:
    """Return how many descriptors the table has room for: 64, doubled as needed."""
    if task.files is None:
        return 0
    size = 64
    while size < len(task.files.fd):
        size *= 2
    return size


def kb(pages: int) -> str:
    """Write pages as KiB."""
    return f"{pages * 4:8d} kB"


def area_pages(mm: MmStruct) -> tuple[int, int, int]:
    """Return how many pages of areas are data, stack, and text."""
    data = stack = text = 0
    for area in mm.mmap:
        if area.name == "[stack]":
            stack += area.nr_pages
        elif area.flags[1] == "w" and area.flags.endswith("p"):
            data += area.nr_pages
        elif area.flags[2] == "x" and area.table.kind == MM_FILEPAGES:
            text += area.nr_pages
    return data, stack, text


def task_mem(mm: MmStruct) -> list[tuple[str, str]]:
    """Return the lines of /proc/PID/status on memory (fs/proc/task_mmu.c)."""
    data, stack, text = area_pages(mm)
    stat = mm.rss_stat
    return [
        ("VmPeak", kb(max(mm.hiwater_vm, mm.total_vm))),
        ("VmSize", kb(mm.total_vm)),
        ("VmLck", kb(0)),
        ("VmPin", kb(0)),
        ("VmHWM", kb(max(mm.hiwater_rss, mm.rss))),
        ("VmRSS", kb(mm.rss)),
        ("RssAnon", kb(stat[MM_ANONPAGES])),
        ("RssFile", kb(stat[MM_FILEPAGES])),
        ("RssShmem", kb(stat[MM_SHMEMPAGES])),
        ("VmData", kb(data)),
        ("VmStk", kb(stack)),
        ("VmExe", kb(text)),
        ("VmLib", kb(0)),
        ("VmPTE", f"{memory.mm_pgtables_bytes(mm) >> 10:8d} kB"),
        ("VmSwap", kb(stat[MM_SWAPENTS])),
    ]


def proc_pid_statm(task: Task) -> str:
    """/proc/PID/statm: size, resident, shared, text, 0, data and stack, 0; in pages."""
    mm = task.mm
    if mm is None:
        return "0 0 0 0 0 0 0\n"
    data, stack, text = area_pages(mm)
    shared = mm.rss_stat[MM_FILEPAGES] + mm.rss_stat[MM_SHMEMPAGES]
    return f"{mm.total_vm} {mm.rss} {shared} {text} 0 {data + stack} 0\n"


def children_seq_show(task: Task) -> str:
    """/proc/PID/task/TID/children: the pids of the children that this thread created or adopted."""
    return "".join(f"{child.pid} " for child in list_for_each_entry(task.children))
