"""Names of kernel functions and fields that changed between versions, and the many names of a system call's function.

`counterparts` answers which other names a function has had: a filter or a story written for ``_do_fork`` finds
``kernel_clone``.  `fold_syscall` makes ``sys_clone`` of every wrapper around it.  Each rename gives the version that
brought the new name, and the commit where it is known; stable releases carry a few of them back.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple


class Rename(NamedTuple):
    """One name that gave way to another."""

    old: str
    new: str
    since: str                  # the first version with the new name
    commit: str | None          # abbreviated, upstream
    note: str = ""
    kind: Literal["function", "field", "flag"] = "function"


RENAMES: Final = (
    # fork
    Rename("do_fork", "_do_fork", "v4.2", "3033f14ab78c", "do_fork() stayed as a wrapper for a while"),
    Rename("_do_fork", "kernel_clone", "v5.10", "cad6967ac108"),
    Rename("copy_thread_tls", "copy_thread", "v5.9", "714acdbd1c94", "copy_thread() was the name before v4.2 too"),
    # exec
    Rename("flush_old_exec", "begin_new_exec", "v5.8", None),
    Rename("__do_execve_file", "bprm_execve", "v5.9", None, "split: do_execveat_common() opens, bprm_execve() runs"),
    # futex
    Rename("futex_wait_queue_me", "futex_wait_queue", "v5.16", None),
    Rename("futex_wait_queue", "futex_do_wait", "v6.16", "93f1b6d79a73"),
    # signals and the way back to user space
    Rename("send_signal", "send_signal_locked", "v5.19", "157cc18122b4"),
    Rename("__send_signal", "__send_signal_locked", "v5.19", "157cc18122b4"),
    Rename("kill_pid_info", "kill_pid_info_type", "v6.9", None, "kill_pid_info() stayed as a wrapper"),
    Rename("do_signal", "arch_do_signal", "v5.9", "a9f3a74a29af", "x86, later s390; ARM and arm64 keep do_signal()"),
    Rename("arch_do_signal", "arch_do_signal_or_restart", "v5.11", "12db8b690010"),
    Rename("exit_to_usermode_loop", "exit_to_user_mode_loop", "v5.9", "a9f3a74a29af", "x86; generic since"),
    Rename("prepare_exit_to_usermode", "exit_to_user_mode_prepare", "v5.9", "a9f3a74a29af", "x86; generic since"),
    Rename("tracehook_notify_resume", "resume_user_mode_work", "v5.18", "03248addadf1"),
    # exit
    Rename("rewind_stack_do_exit", "rewind_stack_and_make_dead", "v5.17", "0e25498f8cd4"),
    Rename("complete_and_exit", "kthread_complete_and_exit", "v5.17", "cead18552660"),
    Rename("do_coredump", "vfs_coredump", "v6.17", "70e3ee31282d"),
    # scheduler
    Rename("check_preempt_curr", "wakeup_preempt", "v6.7", "e23edc86b09d"),
    Rename("check_preempt_wakeup", "check_preempt_wakeup_fair", "v6.7", "82845683ca6a"),
    Rename("scheduler_tick", "sched_tick", "v6.10", "86dd6c04ef9f"),
    Rename("task_running", "task_on_cpu", "v6.1", "0b9d46fc5ef7"),
    Rename("__do_softirq", "handle_softirqs", "v6.10", "1dd1eff161bd", "__do_softirq() stayed as a wrapper"),
    # workqueues
    Rename("pwq_activate_delayed_work", "pwq_activate_inactive_work", "v5.15", "018f3a13dd63"),
    Rename("pwq_activate_inactive_work", "__pwq_activate_work", "v6.9", None),
    Rename("flush_workqueue", "__flush_workqueue", "v5.19", "c4f135d64382", "flush_workqueue() became a macro"),
    Rename("destroy_worker", "set_worker_dying", "v6.3", "e02b93124855"),
    Rename("wake_up_worker", "kick_pool", "v6.5", "0219a3528d72"),
    Rename("__cancel_work_timer", "__cancel_work_sync", "v6.10", None),
    # x86 entry
    Rename("smp_apic_timer_interrupt", "sysvec_apic_timer_interrupt", "v5.8", None, "x86"),
    Rename("do_IRQ", "common_interrupt", "v5.8", None, "x86"),
    Rename("do_nmi", "exc_nmi", "v5.8", None, "x86"),
    Rename("do_page_fault", "exc_page_fault", "v5.8", None, "x86"),
    Rename("entry_SYSCALL_64_after_swapgs", "entry_SYSCALL_64_after_hwframe", "v4.14", None, "x86-64"),
    # fields and flags
    Rename("state", "__state", "v5.14", "2f064a59a11f", "task_struct", "field"),
    Rename("PF_LESS_THROTTLE", "PF_LOCAL_THROTTLE", "v5.8", None, "", "flag"),
    Rename("PF_MEMALLOC_NOCMA", "PF_MEMALLOC_PIN", "v5.13", None, "", "flag"),
)


def counterparts(name: str) -> tuple[str, ...]:
    """Return the other names a function, field or flag has had, oldest first; () if it never changed.

    >>> counterparts("kernel_clone")
    ('do_fork', '_do_fork')
    """
    chain = [name]
    grown = True
    while grown:
        grown = False
        for rename in RENAMES:
            if rename.old in chain and rename.new not in chain:
                chain.insert(chain.index(rename.old) + 1, rename.new)
                grown = True
            elif rename.new in chain and rename.old not in chain:
                chain.insert(chain.index(rename.new), rename.old)
                grown = True
    chain.remove(name)
    return tuple(chain)


def renames_of(name: str) -> tuple[Rename, ...]:
    """Return every rename that has `name` on either side, in the order of `RENAMES`."""
    return tuple(rename for rename in RENAMES if name in (rename.old, rename.new))


# What wraps the function of a system call, outermost first on each architecture:
#   SyS_x, compat_SyS_x         up to v4.16 (alias of sys_x)
#   __x64_sys_x, __ia32_sys_x   x86 since v4.17 (d5a00528b58c, "syscalls/core, syscalls/x86: Rename struct
#                               pt_regs-based sys_*() to __x64_sys_*()"), also with compat_ before sys_
#   __arm64_sys_x               arm64 since v4.19 (4378a7d4be30, "arm64: implement syscall wrappers")
#   __s390x_sys_x, __s390_      s390 since v5.0 (aa0d6e70d3b3, "s390: autogenerate compat syscall wrappers")
#   __riscv_sys_x               riscv, likewise
#   __se_sys_x, __do_sys_x      inside those since v4.17 (e145242ea0df)
_WRAPPER = re.compile(
    r"(?:__(?:x64|ia32|x32|arm64|s390x|s390|riscv)_|___?se_|__do_)?(?P<compat>compat_)?(?:sys|SyS)_(?P<call>\w+)"
)


def fold_syscall(function: str) -> str | None:
    """Return the plain name of a system call's function, ``sys_x`` or ``compat_sys_x``; None if it is no such function.

    A compiler's suffix (``.isra.0``, ``.constprop.0``) is dropped.

    >>> fold_syscall("__x64_sys_clone"), fold_syscall("__se_sys_wait4"), fold_syscall("SyS_exit_group")
    ('sys_clone', 'sys_wait4', 'sys_exit_group')
    >>> fold_syscall("__do_compat_sys_rt_sigaction")
    'compat_sys_rt_sigaction'
    >>> fold_syscall("kernel_clone") is None
    True
    """
    found = _WRAPPER.fullmatch(function.partition(".")[0])
    if found is None:
        return None
    return f"{found['compat'] or ''}sys_{found['call']}"


def fold(function: str) -> str:
    """Return `fold_syscall` of a system call's function, and any other function's name as it is."""
    return fold_syscall(function) or function
