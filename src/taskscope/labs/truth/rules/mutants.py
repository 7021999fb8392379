"""Changed kernels that a rule must notice: one line each, with the rule that tells it from the true one."""

from __future__ import annotations

from typing import Final, NamedTuple

from taskscope.labs.mutant import Mutant
from taskscope.labs.truth.rules import load, model


class Change(NamedTuple):
    """A changed line of the kernel."""

    mutant: Mutant
    rule: str


def _change(rule: str, function: str, old: str, new: str) -> Change:
    return Change(Mutant(rule, function, old, new), rule)


CHANGES: Final = (
    _change("wait.exit_code", "kernel.exit.death:sys_exit_group", "(error_code & 0xFF) << 8", "error_code << 8"),
    _change("wait.zombies_oldest_first", "kernel.fork.copy:copy_process", "list_add_tail(p.sibling,",
            "list_add(p.sibling,"),
    _change("wait.bad_status_pointer", "kernel.exit.wait:kernel_wait4", "ret = -EFAULT", "pass"),
    _change("wait.own_group", "kernel.exit.wait:kernel_wait4", "elif upid == 0:", "elif upid == 1:"),
    _change("wait.wnothread", "kernel.exit.wait:do_wait", "wo.wo_flags & __WNOTHREAD or ", ""),
    _change("wait_options.nohang", "kernel.exit.wait:do_wait", "if retval or wo.wo_flags & WNOHANG:", "if retval:"),
    _change("wait_options.unknown_options", "kernel.exit.wait:kernel_wait4", "if options & ~(", "if 0 & ~("),
    _change("wait_options.stop_is_told", "kernel.exit.wait:wait_task_stopped", "p.signal.group_exit_code = 0", "pass"),
    _change("wait_options.stop_is_not_told", "kernel.exit.wait:wait_task_stopped",
            "if not ptrace and not wo.wo_flags & WUNTRACED:", "if False:"),
    _change("wait_options.continue_is_told", "kernel.exit.wait:wait_task_continued",
            "p.signal.flags &= ~SIGNAL_STOP_CONTINUED", "pass"),
    _change("wait_options.continue_replaces_stop", "kernel.signal.send:prepare_signal",
            "why | SIGNAL_STOP_CONTINUED", "why | SIGNAL_STOP_STOPPED"),
    _change("wait_options.clone_child_is_hidden", "kernel.exit.wait:eligible_child",
            "return (p.exit_signal != SIGCHLD) == bool(wo.wo_flags & __WCLONE)", "return True"),
    _change("wait_options.wall_sees_both", "kernel.exit.wait:eligible_child", "ptrace or wo.wo_flags & __WALL",
            "ptrace"),
    _change("wait_sleep.nocldwait", "kernel.signal.notify:do_notify_parent", "or action.sa_flags & SA_NOCLDWAIT", ""),
    _change("wait_sleep.other_exit_signal_keeps_zombie", "kernel.signal.notify:do_notify_parent", "sig == SIGCHLD and",
            "sig and"),
    _change("wait_sleep.interrupted", "kernel.exit.wait:do_wait", "retval = -ERESTARTSYS", "retval = -ECHILD"),
    _change("waitid.nowait_keeps_zombie", "kernel.exit.wait:wait_task_zombie", "if wo.wo_flags & WNOWAIT:",
            "if False:"),
    _change("waitid.zombie_without_wexited", "kernel.exit.wait:wait_task_zombie", "if not wo.wo_flags & WEXITED:",
            "if False:"),
    _change("waitid.nothing_asked", "kernel.exit.wait:kernel_waitid",
            "if not options & (WEXITED | WSTOPPED | WCONTINUED):",
            "if False:"),
    _change("waitid.signo_is_sigchld", "kernel.exit.wait:sys_waitid", "signo = SIGCHLD", "signo = 10"),
    _change("fork.pdeathsig_is_not_inherited", "kernel.fork.copy:copy_process", "p.pdeath_signal = 0", "pass"),
    _change("fork.inherits_actions", "kernel.fork.copy:copy_sighand", "list(current.sighand.action)",
            "[m.ka_default] * 64"),
    _change("clone.shares_descriptors", "kernel.fork.copy:copy_files", "if clone_flags & CLONE_FILES:", "if False:"),
    _change("clone.clone_parent_exit_signal", "kernel.fork.copy:copy_process",
            "current.group_leader.exit_signal if clone_flags & CLONE_PARENT else exit_signal", "exit_signal"),
    _change("clone.contradictions", "kernel.fork.copy:copy_process",
            "if clone_flags & CLONE_SIGHAND and not clone_flags & CLONE_VM:", "if False:"),
    _change("clone.no_exit_signal", "kernel.signal.notify:do_notify_parent", "if 0 < sig <= _NSIG:", "if sig:"),
    _change("exit.leader_leaves_first", "kernel.exit.wait:wait_consider_task", "if not delay_group_leader(p) and (",
            "if ("),
    _change("exit.last_thread_decides", "kernel.exit.death:synchronize_group_exit",
            "sig.group_exit_code = code", "sig.group_exit_code = 0"),
    _change("exit.orphaned_group_that_runs", "kernel.exit.death:kill_orphaned_pgrp", "and has_stopped_jobs(pgrp)", ""),
    _change("exit.orphaned_group_is_woken", "kernel.exit.death:kill_orphaned_pgrp",
            "signal_kill.__kill_pgrp_info(SIGHUP, SEND_SIG_PRIV, pgrp)", "pass"),
    _change("orphans.subreaper_adopts", "kernel.exit.death:find_new_reaper", "if father.signal.has_child_subreaper:",
            "if False:"),
    _change("orphans.adopted_sends_sigchld", "kernel.exit.death:reparent_leader", "p.exit_signal = SIGCHLD", "pass"),
    _change("sigchld.sigchld_is_one", "kernel.signal.send:legacy_queue", "return sig < SIGRTMIN and",
            "return False and"),
    _change("sigchld.nocldstop", "kernel.signal.notify:do_notify_parent_cldstop",
            "and not action.sa_flags & SA_NOCLDSTOP",
            ""),
    _change("delivery.lowest_first", "kernel.signal.deliver:next_signal", "return (x & -x).bit_length()",
            "return x.bit_length()"),
    _change("delivery.synchronous_first", "kernel.signal.deliver:next_signal", "x &= SYNCHRONOUS_MASK", "pass"),
    _change("delivery.realtime_signals_queue", "kernel.signal.send:legacy_queue", "sig < SIGRTMIN and ", ""),
    _change("delivery.ignored_and_blocked_is_kept", "kernel.signal.send:sig_ignored",
            "if (t.blocked | t.real_blocked) >> (sig - 1) & 1:", "if False:"),
    _change("delivery.mask_of_a_handler", "kernel.signal.deliver:signal_setup_done",
            "if not ksig.ka.sa_flags & SA_NODEFER:",
            "if False:"),
    _change("stop_cont.cont_cancels_pending_stops", "kernel.signal.send:prepare_signal",
            "sigqueue.flush_sigqueue_mask(SIG_KERNEL_STOP_MASK, signal.shared_pending)", "pass"),
    _change("stop_cont.stop_cancels_pending_cont", "kernel.signal.send:prepare_signal",
            "sigqueue.flush_sigqueue_mask(_SIGCONT_BIT, signal.shared_pending)", "pass"),
    _change("stop_cont.orphaned_group_does_not_stop", "kernel.signal.deliver:get_signal",
            "if exit_.is_current_pgrp_orphaned():", "if False:"),
    _change("signals_queue.full_queue", "kernel.signal.send:queue_signal", "override_rlimit = sig < SIGRTMIN and ",
            "override_rlimit = "),
    _change("signals_queue.process_signal_finds_a_thread", "kernel.signal.send:wants_signal",
            "if p.blocked >> (sig - 1) & 1:", "if False:"),
    _change("signals_queue.exec_keeps_pending", "kernel.signal.sigqueue:__flush_itimer_signals",
            "if q.info.si_code != SI_TIMER:", "if False:"),
    _change("signals_action.handlers_on_the_altstack", "kernel.signal.action:do_sigaltstack",
            "if deliver.on_sig_stack(t):", "if False:"),
    _change("signals_action.altstack_that_disarms", "kernel.signal.deliver:signal_setup_done",
            "if current.sas_ss_sp[1] & SS_AUTODISARM:", "if False:"),
    _change("signals_action.threads_have_no_altstack", "kernel.fork.copy:copy_process",
            "p.sas_ss_sp = (0, 0, 0)", "pass"),
    _change("signals_send.others_may_not_be_signalled", "kernel.signal.kill:check_kill_permission",
            "not same_thread_group(current, t) and not kill_ok_by_cred(t)", "False"),
    _change("signals_send.continue_is_free_in_a_session", "kernel.signal.kill:check_kill_permission",
            "if sig == SIGCONT:", "if False:"),
    _change("signals_send.codes_that_may_be_queued", "kernel.signal.action:sys_rt_sigqueueinfo",
            "or uinfo.si_code == SI_TKILL", ""),
    _change("signals_wait.timedwait_is_woken", "kernel.signal.action:do_sigtimedwait",
            "tsk.blocked &= mask", "pass"),
    _change("restart.a_stop_does_not_end_sleep", "kernel.time.hrtimer:hrtimer_nanosleep",
            "current.restart_block.fn = hrtimer_nanosleep_restart", "pass"),
    _change("jobcontrol.reading_that_cannot_stop", "drivers.tty.tty_jobctrl:__tty_check_change",
            "return -EIO if sig == SIGTTIN else 0", "return 0"),
    _change("jobcontrol.writing_in_the_background", "drivers.tty.n_tty:n_tty_write",
            "if tty.termios.c_lflag & TOSTOP:", "if False:"),
    _change("tty_keys.a_key_forgets_the_line", "drivers.tty.n_tty:isig", "if not tty.termios.c_lflag & NOFLSH:",
            "if True:"),
    _change("hangup.hanging_up_reaches_the_foreground_by_the_leader", "drivers.tty.tty_jobctrl:disassociate_ctty",
            "signal_kill.kill_pgrp(old_pgrp, SIGCONT, bool(on_exit))", "pass"),
    _change("timers.overruns_are_counted", "kernel.time.posix_timers:posixtimer_rearm",
            "timr.it_overrun_last = timr.it_overrun", "pass"),
    _change("timers.a_deleted_timers_signal", "kernel.time.posix_timers:posixtimer_rearm", "return not checked",
            "return True"),
    _change("timers.exec_keeps_interval_timers", "fs.exec:de_thread", "posix_timers.exit_itimers(sig)", "pass"),
    _change("groups.child_that_has_executed", "kernel.sys:set_process_group", "if not p.flags & PF_FORKNOEXEC:",
            "if False:"),
    _change("groups.session_leader", "kernel.sys:set_process_group", "if p.signal.leader:", "if False:"),
    _change("groups.group_of_own_number", "kernel.sys:sys_setsid",
            " or pid_.pid_task(sid, PIDTYPE_PGID) is not None", ""),
    _change("exec.open_for_writing", "fs.exec:do_open_execat", "err = deny_write_access(file)", "err = 0"),
    _change("exec.running_program", "kernel.fork.mm:set_mm_exe_file", "error = deny_write_access(new_exe_file)",
            "error = 0"),
    _change("exec.handlers_go", "kernel.signal.deliver:flush_signal_handlers", "not force_default", "False"),
    _change("exec.ignored_sigchld_stays", "kernel.signal.deliver:flush_signal_handlers", "KSigaction(SIG_IGN)",
            "default"),
    _change("exec.dumpable_again", "fs.exec:setup_new_exec", "current.mm.dumpable = 1 if",
            "current.mm.dumpable = 0 if"),
    _change("prctl.pdeathsig_values", "kernel.sys:sys_prctl", "not 0 <= arg2 <= 64", "not 0 <= arg2 <= 65"),
    _change("prctl.subreaper_values", "kernel.sys:sys_prctl", "is_child_subreaper = bool(arg2)",
            "is_child_subreaper = arg2 == 1"),
    _change("rlimits.soft_and_hard", "kernel.sys:do_prlimit", "if soft > hard:", "if False:"),
    _change("rlimits.hard_goes_down", "kernel.sys:do_prlimit", "hard > old.rlim_max and", "False and"),
    _change("sched.nice_without_root", "kernel.sys:set_one_prio", "if niceval < task_nice(p) and", "if False and"),
    _change("sched.nice_of_a_group", "kernel.sys:sys_getpriority", "max((MAX_NICE", "min((MAX_NICE"),
    _change("pipes.nonblocking_read", "fs.pipe:pipe_read", "error = -EAGAIN", "error = 0"),
    _change("pipes.interrupted_write_tells_part", "fs.pipe:pipe_write", "ret = ret or -ERESTARTSYS",
            "ret = -ERESTARTSYS"),
)


def noticed(change: Change) -> bool:
    """Tell whether the change's rule says something else on the changed kernel."""
    rules = load([change.rule])
    true = model.run(rules)
    with change.mutant.applied():
        changed = model.run(rules)
    return true != changed
