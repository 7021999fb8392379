"""/proc itself and the files in it that are of no task.

Fs/proc/root.c, self.c, stat.c, softirqs.c, cmdline.c, uptime.c, loadavg.c, version.c, v4.19.
"""

from __future__ import annotations

from errno import EINVAL, EPERM
from stat import S_IFDIR
from typing import Any, Final

import taskscope.model.fs.proc.base as base
import taskscope.model.fs.proc.inode as proc_inode
import taskscope.model.fs.super as super_
import taskscope.model.kernel.cred as cred
import taskscope.model.kernel.irq.proc as irq_proc
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.pid_namespace as pid_namespace
import taskscope.model.kernel.sched.cputime as cputime
import taskscope.model.mm.show_mem as show_mem
from taskscope.model import machine
from taskscope.model.include.linux.fs import File, FileOperations, Inode, InodeOperations
from taskscope.model.include.linux.interrupt import SOFTIRQ_NAMES
from taskscope.model.include.linux.list import list_for_each_entry

USER_HZ = 100


def proc_root_init() -> None:
    """Mount /proc; called by start_kernel()."""
    base.proc_base_init()
    super_.kern_add("/proc", super_.new_inode(S_IFDIR | 0o555, proc_root_operations, proc_root_inode_operations))
    for name, show in (
        ("interrupts", irq_proc.show_interrupts),
        ("stat", show_stat),
        ("uptime", show_uptime),
        ("loadavg", show_loadavg),
        ("version", show_version),
        ("meminfo", show_meminfo),
        ("softirqs", show_softirqs),
        ("cmdline", show_cmdline),
        ("cpuinfo", show_cpuinfo),
    ):
        proc_inode.proc_create(name, 0o444, show)
    proc_inode.proc_create("sys/kernel/pid_max", 0o644, show_pid_max, store_pid_max)
    proc_inode.proc_create("sys/kernel/ns_last_pid", 0o644, show_last_pid, store_last_pid)
    proc_inode.proc_create("sys/kernel/osrelease", 0o444, show_osrelease)
    proc_inode.proc_create("sys/kernel/hostname", 0o444, show_hostname)


def proc_root_lookup(dir: Inode, name: str) -> Inode | None:
    """Look a name up: self, or a pid."""
    del dir
    current = machine.cur.cpu.curr
    if name == "self":
        return base.proc_pid_lookup(str(current.tgid))
    if name == "thread-self":
        pid = pid_.task_pid(current)
        return None if pid is None else base.proc_pid_make_inode(pid, machine.cur.tid_base_stuff)
    return base.proc_pid_lookup(name)


def proc_root_readdir(f: File) -> list[str]:
    """Return the names in /proc."""
    assert f.f_inode.i_children is not None
    return [*sorted(f.f_inode.i_children), "self", "thread-self", *base.proc_pid_readdir()]


def cpu_times(cpu: machine.Cpu) -> list[int]:
    """Return user, nice, system, idle, iowait, irq, softirq (ns), in the order of /proc/stat."""
    stat = cputime.kcpustat(cpu)
    return [stat[name] for name in ("user", "nice", "system", "idle", "iowait", "irq", "softirq")]


def show_stat(private: Any) -> str:
    """/proc/stat: CPU time by kind, in ticks of 1/100 s, and some totals."""
    del private
    m = machine.cur
    rows = [cpu_times(cpu) for cpu in m.cpus]
    total = [sum(column) for column in zip(*rows, strict=True)]
    lines = ["cpu  " + " ".join(str(ns * USER_HZ // 1_000_000_000) for ns in total)]
    lines += [f"cpu{n} " + " ".join(str(ns * USER_HZ // 1_000_000_000) for ns in row) for n, row in enumerate(rows)]
    running = sum(cpu.rq.nr_running for cpu in m.cpus)
    softirqs = [sum(counts) for counts in zip(*(cpu.pcpu["softirqs"] for cpu in m.cpus), strict=True)]
    lines += [
        f"intr {sum(sum(desc.kstat_irqs) for desc in m.irq_descs)}",
        f"ctxt {sum(cpu.rq.nr_switches for cpu in m.cpus)}",
        "btime 0",
        f"processes {m.total_forks}",
        f"procs_running {running}",
        f"procs_blocked {sum(cpu.rq.nr_iowait for cpu in m.cpus)}",
        "softirq " + " ".join(str(n) for n in (sum(softirqs), *softirqs)),
    ]
    return "\n".join(lines) + "\n"


def show_uptime(private: Any) -> str:
    """/proc/uptime."""
    del private
    m = machine.cur
    idle = sum(cpu_times(cpu)[3] for cpu in m.cpus)
    return " ".join(f"{ns // 1_000_000_000}.{ns // 10_000_000 % 100:02d}" for ns in (m.now, idle)) + "\n"


def show_loadavg(private: Any) -> str:
    """/proc/loadavg."""
    del private
    m = machine.cur
    loads = " ".join(f"{load >> 11}.{(load & 2047) * 100 >> 11:02d}" for load in m.avenrun)
    running = sum(cpu.rq.nr_running for cpu in m.cpus)
    return f"{loads} {running}/{m.nr_threads} {max(m.init_pid_ns.idr_next - 1, 0)}\n"


def show_version(private: Any) -> str:
    """/proc/version."""
    del private
    return f"Linux version {machine.cur.flavour.release} (taskscope) #1 SMP\n"


def show_meminfo(private: Any) -> str:
    """/proc/meminfo (fs/proc/meminfo.c), what the model has of it, in the kernel's order."""
    del private
    m = machine.cur
    zone = m.zone
    # si_mem_available(): what is free above the reserve; no page of the page cache can be dropped here
    available = max(zone.nr_free - zone.totalreserve_pages, 0)
    committed = sum(
        area.nr_pages
        for p in list_for_each_entry(m.init_task.tasks)
        if p.mm is not None
        for area in p.mm.mmap
        if area.flags[1] == "w"
    )
    rows = [
        ("MemTotal", zone.managed_pages),
        ("MemFree", zone.nr_free),
        ("MemAvailable", available),
        ("Buffers", 0),
        ("Cached", zone.nr_file),
        ("SwapCached", 0),
        ("Active", zone.nr_anon),
        ("Inactive", zone.nr_shmem),
        ("Active(anon)", zone.nr_anon),
        ("Inactive(anon)", zone.nr_shmem),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", zone.nr_file - zone.nr_shmem),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", zone.nr_anon),
        ("Shmem", zone.nr_shmem),
        *((("KReclaimable", 0),) if m.flavour.version >= (4, 20) else ()),
        ("Slab", show_mem.slab_pages()),
        ("SReclaimable", 0),
        ("SUnreclaim", show_mem.slab_pages()),
        ("KernelStack", show_mem.stack_kib() // 4),
        ("PageTables", zone.nr_pagetable),
        ("CommitLimit", zone.managed_pages // 2),
        ("Committed_AS", committed),
    ]
    return "".join(f"{name + ':':<15} {pages << 2:8d} kB\n" for name, pages in rows)


def show_softirqs(private: Any) -> str:
    """/proc/softirqs: how often each CPU ran each softirq."""
    del private
    cpus = machine.cur.cpus
    lines = [" " * 20 + "".join(f"CPU{cpu.id:<8d}" for cpu in cpus)]
    for n, name in enumerate(SOFTIRQ_NAMES):
        lines.append(f"{name:>12}:" + "".join(f" {cpu.pcpu['softirqs'][n]:10d}" for cpu in cpus))
    return "\n".join(lines) + "\n"


def show_cmdline(private: Any) -> str:
    """/proc/cmdline: the arguments that the kernel was booted with."""
    del private
    return machine.cur.boot_command_line + "\n"


def show_cpuinfo(private: Any) -> str:
    """/proc/cpuinfo: one entry a CPU."""
    del private
    return "".join(
        f"processor\t: {cpu.id}\nmodel name\t: taskscope {machine.cur.flavour.machine}\n\n" for cpu in machine.cur.cpus
    )


def show_pid_max(private: Any) -> str:
    """Sysctl kernel.pid_max: of the reader's pid namespace since v6.14, before that of all."""
    del private
    return f"{pid_namespace.pid_max(pid_.task_active_pid_ns(machine.cur.cpu.curr))}\n"


def store_pid_max(private: Any, data: bytes) -> int:
    """Set kernel.pid_max, within its bounds."""
    del private
    m = machine.cur
    try:
        value = int(data)
    except ValueError:
        return -EINVAL
    if not m.pid_max_min <= value <= m.pid_max_max:
        return -EINVAL
    ns = m.init_pid_ns
    if m.flavour.version >= (6, 14):
        ns = pid_.task_active_pid_ns(m.cpu.curr)
    ns.pid_max = value
    return len(data)


def show_last_pid(private: Any) -> str:
    """Sysctl kernel.ns_last_pid: the number given out last in the reader's pid namespace."""
    del private
    return f"{max(pid_.task_active_pid_ns(machine.cur.cpu.curr).idr_next - 1, 0)}\n"


def store_last_pid(private: Any, data: bytes) -> int:
    """Set from where the next number is looked for (pid_ns_ctl_handler())."""
    del private
    ns = pid_.task_active_pid_ns(machine.cur.cpu.curr)
    try:
        value = int(data)
    except ValueError:
        return -EINVAL
    if not cred.capable(cred.CAP_SYS_ADMIN):
        return -EPERM
    if not 0 <= value <= pid_namespace.pid_max(ns):
        return -EINVAL
    ns.idr_next = value + 1
    return len(data)


def show_osrelease(private: Any) -> str:
    """Uname -r."""
    del private
    return machine.cur.flavour.release + "\n"


def show_hostname(private: Any) -> str:
    """Uname -n."""
    del private
    return "raspberrypi\n" if machine.cur.flavour.arch == "arm" else "debian\n"


proc_root_operations: Final = FileOperations(iterate=proc_root_readdir)
proc_root_inode_operations: Final = InodeOperations(lookup=proc_root_lookup)
