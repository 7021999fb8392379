"""The kernel's globals: what is a global variable in C, typed, grouped by the lock that guards it.

They stand on the machine (`taskscope.model.machine.Machine` is a `Globals`), so that several machines fit in one
process: kernel code says ``machine.cur.tasklist_lock``.  Each is set by its owner's init function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskscope.model.fs.exec import LinuxBinprm
    from taskscope.model.include.linux.completion import Completion
    from taskscope.model.include.linux.irqdesc import IrqDesc
    from taskscope.model.include.linux.kthread import KthreadWorker
    from taskscope.model.include.linux.list import ListHead
    from taskscope.model.include.linux.mm_types import MmStruct
    from taskscope.model.include.linux.mutex import Mutex
    from taskscope.model.include.linux.pid import Pid, PidNamespace
    from taskscope.model.include.linux.sched import Task
    from taskscope.model.include.linux.sched_signal import KSigaction
    from taskscope.model.include.linux.spinlock import Spinlock
    from taskscope.model.include.linux.trace_events import TraceEventCall
    from taskscope.model.include.linux.tracepoint import Tracepoints
    from taskscope.model.include.linux.wait import WaitQueueHead
    from taskscope.model.kernel.cpu import CpuhpCpuState
    from taskscope.model.kernel.kallsyms import Kallsyms
    from taskscope.model.kernel.printk import LogBuf
    from taskscope.model.kernel.smpboot import SmpHotplugThread
    from taskscope.model.kernel.trace.trace import TraceArray
    from taskscope.model.kernel.user import UserStruct
    from taskscope.model.kernel.workqueue.pool import WorkerPool
    from taskscope.model.kernel.workqueue.pwq import WorkqueueStruct
    from taskscope.model.mm.page_alloc import Zone
    from taskscope.model.mm.slab import KmemCache
    from taskscope.model.mm.vmalloc import VmStruct


class Globals:
    """The slots; a machine that has booted has them all."""

    __slots__ = ()

    # ---- kernel/sched (each rq has its own lock; set by sched_init()) ----
    cpu_online_mask: int
    cpu_active_mask: int
    total_forks: int                            # tasklist_lock
    nr_threads: int                             # tasklist_lock
    avenrun: list[int]                          # written by the tick of tick_do_timer_cpu
    calc_load_tasks: int
    calc_load_update: int
    sched_domains: bool                         # balancing works: sched_init_smp() has run
    sysctl_sched_latency: int                   # ns
    sysctl_sched_min_granularity: int
    sysctl_sched_wakeup_granularity: int
    sysctl_sched_migration_cost: int
    sysctl_sched_child_runs_first: bool

    # ---- kernel/time (jiffies_lock) ----
    jiffies: int
    tick_nsec: int
    tick_do_timer_cpu: int

    # ---- kernel/softirq.py, kernel/irq/: written at boot ----
    softirq_vec: list[Any]
    irq_timer: IrqDesc
    ipi_reschedule: IrqDesc
    ipi_call_func: IrqDesc
    irq_descs: list[IrqDesc]                    # all, for /proc/interrupts
    irq_desc_tree: dict[int, IrqDesc]           # the lines by number
    irqs_resend: Any                            # (tasklet, numbers of lines) of chip.py's check_irq_resend()
    poll_spurious_irq_timer: Any                # struct timer_list
    tasklet_wait: WaitQueueHead                 # who waits for a tasklet to end

    # ---- kernel/rcu (rnp->lock) ----
    rcu_state: Any
    rcu_gp_wq: WorkqueueStruct
    rcu_par_gp_wq: WorkqueueStruct

    # ---- kernel/trace (event_mutex, trace_types_lock; set by trace_init()) ----
    tp: Tracepoints
    savedcmd: dict[int, bytes]                  # saved_cmdlines: comm by pid
    trace_events: list[TraceEventCall]
    saved_cmdlines_size: int
    saved_tgids: dict[int, int]                 # tgid by pid
    ftrace_trace_arrays: list[TraceArray]       # the first is the top-level instance
    trace_counter: int                          # of trace_clock counter
    kallsyms: Kallsyms | None                   # made when it is first asked for

    # ---- kernel/printk.py (logbuf_lock) ----
    log_buf: LogBuf | None                      # made by the first printk()

    # ---- tasklist_lock ----
    tasklist_lock: Spinlock
    process_counts: list[int]                   # by CPU; a sum
    init_task: Task                             # the head of the list of processes, pid 0

    # ---- kernel/pid.py (pidmap_lock) ----
    pidmap_lock: Spinlock
    init_pid_ns: PidNamespace
    init_struct_pid: Pid
    pid_cache: dict[int, KmemCache]             # by level
    pid_ns_cachep: KmemCache
    ns_last_ino: int

    # ---- kernel/futex (hb->lock) ----
    futex_hashsize: int
    futex_queues: dict[int, Any]                # struct futex_hash_bucket, by number
    pid_max_min: int
    pid_max_max: int

    # ---- kernel/fork.py, user.py, cred.py, signal/: caches, limits; set at boot ----
    task_struct_cachep: KmemCache
    signal_cachep: KmemCache
    sighand_cachep: KmemCache
    mm_cachep: KmemCache
    cred_jar: KmemCache
    cached_stacks: list[list[Any]]              # by CPU: freed stacks that are still mapped
    max_threads: int
    init_mm: MmStruct
    root_user: UserStruct
    uidhash: dict[int, UserStruct]
    ka_default: KSigaction
    ka_ignore: KSigaction
    fault_log: list[str]                        # names of the places that lib/fault_inject.py has seen
    fault_point: tuple[str, str] | None         # which is to fail next, for a task of which name

    # ---- kernel/kthread.py (kthread_create_lock), smpboot.py, cpu.py, workqueue.py ----
    kthread_create_lock: Spinlock
    kthread_create_list: ListHead
    kthreadd_task: Task
    kthreadd_done: Completion
    hotplug_threads: list[SmpHotplugThread]
    idle_threads: dict[int, Task]
    cpuhp_states: list[CpuhpCpuState]
    cpu_running: Completion
    wq_online: bool
    wq_pool_mutex: Mutex                        # workqueues, worker_pool_idr, unbound_pools
    wq_pool_attach_mutex: Mutex                 # which workers are attached to pools, PF_WQ_WORKER
    wq_mayday_lock: Spinlock
    wq_manager_wait: WaitQueueHead
    cancel_waitq: WaitQueueHead
    workqueues: list[WorkqueueStruct]
    worker_pool_idr: dict[int, WorkerPool | None]
    cpu_worker_pools: list[list[WorkerPool]]    # by CPU: normal and high priority
    unbound_pools: list[WorkerPool]
    pwq_release_worker: KthreadWorker
    system_wq: WorkqueueStruct
    system_highpri_wq: WorkqueueStruct
    system_long_wq: WorkqueueStruct
    system_unbound_wq: WorkqueueStruct
    system_freezable_wq: WorkqueueStruct
    system_power_efficient_wq: WorkqueueStruct
    system_freezable_power_efficient_wq: WorkqueueStruct
    mm_percpu_wq: WorkqueueStruct
    devtmpfs_thread: Task
    hung_task: Any                              # kernel/hung_task.py
    watchdog: Any                               # kernel/watchdog.py
    lowmem: Any                                 # drivers/staging/android/lowmemorykiller.py, once it is loaded

    # ---- mm (zone->lock, vmap_area_lock) ----
    zone: Zone
    min_free_kbytes: int
    exec_tables: Any                            # mm/memory.py: which page tables a new program needs
    vm: Any                                     # mm/vmscan.py: struct pglist_data and the list of shrinkers
    oom: Any                                    # mm/oom_kill.py: its sysctls, victims, the reaper's list
    slab_caches: list[KmemCache]
    vmap_next: int
    vmap_free: dict[tuple[int, int], list[int]]
    vmap_areas: dict[int, VmStruct]
    data_end: int                               # bytes of kernel data that have been given addresses
    memory: dict[int, Any]                      # what stands at an address: task_structs, thread_infos, stack ends

    # ---- init/main.py, arch: written at boot ----
    bare: bool                                  # no kernel threads but kthreadd
    init_program: Callable[..., Any] | None
    init_argv: list[str]
    system_state: int
    panicked: str | None                        # what panic() said
    cad_pid: Pid | None
    bit_wait_table: Any                         # kernel/sched/wait_bit.py: where wait_on_bit() sleeps
    arch: Any                                   # arch/*/kernel/process.py
    sizeof_thread_info: int
    entry_sp: int                               # from a stack's lowest address to where an entry from user mode begins
    frame_size: int                             # bytes that a call takes on a stack
    work_mask: int                              # _TIF_WORK_MASK
    tif_syscall_work: int                       # _TIF_SYSCALL_WORK, where the flags of system calls stand there
    sys_call_table: dict[int, Callable[..., int]]
    formats: list[Callable[[LinuxBinprm], int]]

    # ---- fs, drivers/tty (mounted and made at boot) ----
    init_files: Any                             # struct files_struct of init_task
    init_fs: Any                                # struct fs_struct of init_task
    last_ino: int
    tgid_base_stuff: Any                        # what is in /proc/PID and in /proc/PID/task/TID
    tid_base_stuff: Any
    console_tty: Any                            # struct tty_struct
    ttys: list[Any]
    mmc1: Any                                   # struct bcm2835_host, of ARM
    vda: Any                                    # struct virtio_blk, of x86-64
    uart_fifo: list[Any]                        # what was typed and not yet taken: (tty, bytes)
    irq_uart: Any                               # struct irq_desc
    abort: Any                                  # arch/*/mm/fault.py: a bad access of the kernel
    user_abort: Any                             # a program's access to what is not there
    bug: Any                                    # arch/*/kernel/traps.py: BUG()
    show_irq_regs: Any                          # the registers of what an interrupt has interrupted
    oops: Any                                   # kernel/panic.py: taints, oopses
    modules: list[str]                          # loaded, the last one first
    user_gate: Any                              # the system call entry, for user/python.py
    hostctl: Any                                # drivers/char/hostctl.py
