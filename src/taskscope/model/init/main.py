"""The boot: init/main.c, v4.19: start_kernel() sets everything up on the boot CPU, rest_init() makes pids 1 and 2.

The boot task ends as the idle task.  Pid 1 brings up the other CPUs, lets the subsystems start their kernel threads
through kthreadd, and executes the first program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import taskscope.model.drivers.base.init as driver_base
import taskscope.model.fs.dcache as dcache
import taskscope.model.fs.exec as exec_
import taskscope.model.fs.file as fs_file
import taskscope.model.fs.open as fs_open
import taskscope.model.init.init_task as init_task_
import taskscope.model.init.initcalls as initcalls
import taskscope.model.init.initramfs as initramfs
import taskscope.model.kernel.cpu as cpu_
import taskscope.model.kernel.cred as cred
import taskscope.model.kernel.fork as fork
import taskscope.model.kernel.futex as futex
import taskscope.model.kernel.irq.irqdesc as irqdesc
import taskscope.model.kernel.irq.proc as irq_proc
import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.panic as panic_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.rcu.tree as rcu
import taskscope.model.kernel.sched.completion as completion
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.idle as idle
import taskscope.model.kernel.smpboot as smpboot
import taskscope.model.kernel.softirq as softirq
import taskscope.model.kernel.time.hrtimer as hrtimer
import taskscope.model.kernel.time.tick_sched as tick_sched
import taskscope.model.kernel.time.timer as timer
import taskscope.model.kernel.trace.trace as trace
import taskscope.model.kernel.workqueue as workqueue
import taskscope.model.lib.fault_inject as fault_inject
import taskscope.model.mm.page_alloc as page_alloc
import taskscope.model.mm.vmalloc as vmalloc
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.preempt import preempt_disable
from taskscope.model.include.linux.spinlock import Spinlock
from taskscope.model.include.linux.syscalls import sys_call_table
from taskscope.model.include.uapi.linux.sched import CLONE_FILES, CLONE_FS

CPUHP_ONLINE: Final = 0
#: where the first program is looked for
INIT: Final = ("/sbin/init", "/etc/init", "/bin/init", "/bin/sh")

SYSTEM_BOOTING: Final = 0
SYSTEM_SCHEDULING: Final = 1
SYSTEM_RUNNING: Final = 2


def power_on(
    m: machine.Machine, *, bare: bool = False, program: Callable[..., Any] | None = None, argv: list[str] | None = None,
) -> None:
    """Put init_task on the boot CPU, so that the next `Machine.run_until` begins with start_kernel().

    :param bare: make no kernel threads but kthreadd
    :param program: a program in Python to put at /sbin/init, in place of what is there
    :param argv: its arguments
    """
    before, machine.cur = machine.cur, m
    m.bare = bare
    m.init_program = program
    m.init_argv = argv or ["/sbin/init"]
    m.system_state = SYSTEM_BOOTING
    m.panicked = None
    fault_inject.fault_init()
    m.init_task = init_task_.init_task()
    m.init_task.stack_greenlet = m.new_stack(start_kernel)
    m.cpu.curr = m.init_task
    m.cpu.sp = m.init_task.stack + m.flavour.thread_size - 8
    m.start_cpu(m.cpu)
    machine.cur = before


def start_kernel() -> NoReturn:
    """Boot.

    Context: the boot CPU, interrupts off.
    """
    m = machine.cur
    setup_arch()
    parse_args(m.boot_command_line)
    fork.set_task_stack_end_magic(m.init_task)
    m.tasklist_lock = Spinlock("tasklist_lock")
    mm_init()
    # In C the table of softirqs is static data; softirq_init() itself comes later.
    softirq.softirq_init()
    sched_core.sched_init()
    # The boot idle thread does lazy MMU switching as well: the end of sched_init().
    fork.mmgrab(m.init_mm)
    # Disable preemption - early bootup scheduling is extremely fragile until we cpu_idle() for the first time.
    preempt_disable()
    workqueue.workqueue_init_early()
    rcu.rcu_init()
    trace.trace_init()
    printk_.printk(
        f"<5>Linux version {m.flavour.release} (taskscope@taskscope) SMP{sched_core.preempt_name()}\n"
    )
    if m.boot_command_line:
        printk_.printk(f"<5>Kernel command line: {m.boot_command_line}\n")
    irqdesc.early_irq_init()
    tick_sched.tick_init()
    timer.init_timers()
    hrtimer.hrtimers_init()
    time_init()
    m.cpu.irqs_off = False                  # local_irq_enable()
    kthread.kthread_init()
    pid_.pid_idr_init()
    cred.cred_init()
    fork.fork_init()
    fork.proc_caches_init()
    futex.futex_init()
    vfs_caches_init()
    initcalls.early_workqueues()
    rest_init()


def parse_args(line: str) -> None:
    """Take the kernel's arguments off its command line; what is none of them is left to init.

    Modelled: ``preempt=`` (sched/core.c), ``threadirqs`` (kernel/irq/manage.c).
    """
    m = machine.cur
    for word in line.split():
        name, _, value = word.partition("=")
        if name == "preempt" and m.flavour.switches.preempt_dynamic:
            sched_core.setup_preempt_mode(value)
        elif word == "threadirqs":
            m.force_irqthreads = True                       # setup_forced_irqthreads()


def setup_arch() -> None:
    """Let the architecture set up what hangs on it."""
    m = machine.cur
    if m.flavour.arch == "arm":
        import taskscope.model.arch.arm.kernel.process as process
    else:
        import taskscope.model.arch.x86.kernel.process as process  # type: ignore[no-redef]
    m.arch = process
    process.setup_processor()
    m.work_mask = m.tif.NEED_RESCHED | m.tif.SIGPENDING | m.tif.NOTIFY_RESUME
    m.sys_call_table = sys_call_table(m.flavour.machine, m.flavour.version)


def mm_init() -> None:
    """Set up the allocators."""
    machine.cur.slab_caches = []
    page_alloc.mem_init()
    vmalloc.vmalloc_init()


def time_init() -> None:
    """Start the boot CPU's timer."""
    tick_sched.tick_setup_sched_timer()


def vfs_caches_init() -> None:
    """Make the root file system, and give it to init_task."""
    m = machine.cur
    fs_file.files_init()
    dcache.vfs_caches_init()
    m.init_task.files = m.init_files
    m.init_task.fs = m.init_fs
    exec_.exec_init()
    smpboot.smpboot_init()


def rest_init() -> NoReturn:
    """Make pid 1 and pid 2, and become the idle task."""
    m = machine.cur
    m.kthreadd_done = Completion()
    # We need to spawn init first so that it obtains pid 1, however the init task will end up wanting to create
    # kthreads, which, if we schedule it before we create kthreadd, will OOPS.
    pid = fork.kernel_thread(kernel_init, None, CLONE_FS)
    # Pin init on the boot CPU.  Task migration is not properly working until sched_init_smp() has been run.
    tsk = pid_.find_task_by_pid_ns(pid, m.init_pid_ns)
    assert tsk is not None, f"kernel_thread(): {pid}"
    sched_core.set_cpus_allowed_ptr(tsk, 1 << m.cpu.id)
    pid = fork.kernel_thread(kthread.kthreadd, None, CLONE_FS | CLONE_FILES)
    kthreadd_task = pid_.find_task_by_pid_ns(pid, m.init_pid_ns)
    assert kthreadd_task is not None, f"kernel_thread(): {pid}"
    m.kthreadd_task = kthreadd_task
    # Enable might_sleep() and smp_processor_id() checks.
    m.system_state = SYSTEM_SCHEDULING
    completion.complete(m.kthreadd_done)
    # The boot idle thread must execute schedule() at least once to get things moving:
    sched_core.schedule_preempt_disabled()
    # Call into cpu_idle with preempt disabled
    idle.cpu_startup_entry(CPUHP_ONLINE)
    raise AssertionError("the idle loop ended")


def kernel_init(unused: Any) -> int:  # noqa: RET503  panic() never returns
    """Be pid 1: finish the boot, then execute the first program.  Returns to user mode as that program."""
    del unused
    m = machine.cur
    kernel_init_freeable()
    # Not modelled: async_synchronize_full(), free_initmem(), mark_readonly().
    m.system_state = SYSTEM_RUNNING
    for name in INIT:
        if not run_init_process(name):
            return 0
    panic_.panic("No working init found.  Try passing init= option to kernel. "
                 "See Linux Documentation/admin-guide/init.rst for guidance.")


def run_init_process(init_filename: str) -> int:
    """Execute the first program: 0 or a negative errno."""
    m = machine.cur
    printk_.printk(f"<6>Run {init_filename} as init process\n")
    return exec_.do_execve(init_filename, [init_filename, *m.init_argv[1:]], {"HOME": "/", "TERM": "linux"})


def kernel_init_freeable() -> None:
    """Bring up the CPUs and the subsystems' threads."""
    m = machine.cur
    # Wait until kthreadd is all set-up.
    completion.wait_for_completion(m.kthreadd_done)
    # init can run on any cpu.
    m.cad_pid = pid_.get_pid(pid_.task_pid(m.cpu.curr))
    smp_prepare_cpus()
    if not m.bare:
        workqueue.workqueue_init()
        initcalls.init_mm_internals()
        initcalls.do_pre_smp_initcalls()
    cpu_.smp_init()
    sched_core.sched_init_smp()
    sched_core.set_cpus_allowed_ptr(m.cpu.curr, (1 << m.nr_cpus) - 1)
    if not m.bare:
        driver_base.driver_init()
    irq_proc.init_irq_proc()
    if not m.bare:
        initcalls.do_initcalls()
    initcalls.start_devices()
    initramfs.populate_rootfs()
    # Open the /dev/console on the rootfs, this should never fail
    if fs_open.open_console() < 0:
        printk_.printk("<3>Warning: unable to open an initial console.\n")


def smp_prepare_cpus() -> None:
    """Look which CPUs there are: all of them are possible and present."""
    smpboot.idle_thread_set_boot_cpu()
