"""Sessions, process groups and their terminal: drivers/tty/tty_jobctrl.c, v4.19."""

from __future__ import annotations

from errno import EIO, ENOTTY, EPERM, ESRCH
from typing import TYPE_CHECKING, Any

import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.signal.kill as signal_kill
from taskscope.model import machine
from taskscope.model.include.linux.errno import ERESTARTSYS
from taskscope.model.include.linux.pid import PIDTYPE_PGID, PIDTYPE_SID, PIDTYPE_TGID
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.sched_signal import SEND_SIG_PRIV, SIG_IGN, sigmask
from taskscope.model.include.linux.thread_info import set_tsk_sigpending
from taskscope.model.include.linux.uaccess import get_user, put_user

if TYPE_CHECKING:
    from taskscope.model.drivers.tty.tty_io import TtyStruct
    from taskscope.model.include.linux.pid import Pid

SIGHUP, SIGCONT, SIGTTIN, SIGTTOU = 1, 18, 21, 22


def is_ignored(sig: int) -> bool:
    """Tell whether the current task ignores or blocks a signal."""
    current = machine.cur.cpu.curr
    assert current.sighand is not None
    return bool(current.blocked & sigmask(sig)) or current.sighand.action[sig - 1].sa_handler == SIG_IGN


def __tty_check_change(tty: TtyStruct, sig: int) -> int:
    """Check that the current task may use its terminal: only the foreground group may.

    A background group is sent `sig`, which stops it; -EIO where that would be for ever.
    """
    current = machine.cur.cpu.curr
    if current.signal.tty is not tty:
        return 0
    pgrp = pid_.task_pgrp(current)
    if tty.pgrp is None or pgrp is tty.pgrp:
        return 0
    if is_ignored(sig):
        return -EIO if sig == SIGTTIN else 0
    if exit_.is_current_pgrp_orphaned():
        return -EIO
    signal_kill.kill_pgrp(pgrp, sig, True)
    set_tsk_sigpending(current)
    return -ERESTARTSYS


def tty_check_change(tty: TtyStruct) -> int:
    """Check that the current task may change its terminal's state."""
    return __tty_check_change(tty, SIGTTOU)


def proc_set_tty(tty: TtyStruct) -> None:
    """Make a terminal the controlling one of the current task's session."""
    current = machine.cur.cpu.curr
    pid_.put_pid(tty.session)
    pid_.put_pid(tty.pgrp)
    tty.pgrp = pid_.get_pid(pid_.task_pgrp(current))
    tty.session = pid_.get_pid(pid_.task_session(current))
    current.signal.tty = tty
    current.signal.tty_old_pgrp = None


def tty_open_proc_set_tty(tty: TtyStruct) -> None:
    """Give a session leader without a terminal the one that it opens."""
    current = machine.cur.cpu.curr
    if current.signal.leader and current.signal.tty is None and tty.session is None:
        proc_set_tty(tty)


def get_current_tty() -> TtyStruct | None:
    """Return the controlling terminal of the current task."""
    found: TtyStruct | None = machine.cur.cpu.curr.signal.tty
    return found


def session_clear_tty(session: Pid | None) -> None:
    """Take the controlling terminal from every process of a session."""
    if session is None:
        return
    for p in pid_.do_each_pid_task(session, PIDTYPE_SID):
        p.signal.tty = None


def tty_signal_session_leader(tty: TtyStruct, exit_session: int) -> int:
    """Tell a session's leader, and its group, that the terminal has gone: SIGHUP and SIGCONT."""
    refs = 0
    if tty.session is not None:
        for p in pid_.do_each_pid_task(tty.session, PIDTYPE_SID):
            if p.signal.tty is tty:
                p.signal.tty = None
                refs += 1
            if not p.signal.leader:
                continue
            signal_kill.group_send_sig_info(SIGHUP, SEND_SIG_PRIV, p, PIDTYPE_TGID)
            signal_kill.group_send_sig_info(SIGCONT, SEND_SIG_PRIV, p, PIDTYPE_TGID)
            pid_.put_pid(p.signal.tty_old_pgrp)
            if tty.pgrp is not None:
                p.signal.tty_old_pgrp = pid_.get_pid(tty.pgrp)
    if tty.pgrp is not None and exit_session:
        signal_kill.kill_pgrp(tty.pgrp, SIGHUP, bool(exit_session))
    return refs


def disassociate_ctty(on_exit: int) -> None:
    """Part a session from its terminal; called when a session leader exits.

    The foreground group gets SIGHUP and SIGCONT; nobody of the session has a controlling terminal any more.
    """
    current = machine.cur.cpu.curr
    if not current.signal.leader:
        return
    tty = get_current_tty()
    if tty is not None:
        if not on_exit or tty.is_pty:
            if tty.pgrp is not None:
                signal_kill.kill_pgrp(tty.pgrp, SIGHUP, bool(on_exit))
                if not on_exit:
                    signal_kill.kill_pgrp(tty.pgrp, SIGCONT, bool(on_exit))
        elif tty.pgrp is not None:
            # tty_vhangup_session() of a terminal that is no pty
            tty_signal_session_leader(tty, on_exit)
    elif on_exit:
        old_pgrp = current.signal.tty_old_pgrp
        current.signal.tty_old_pgrp = None
        if old_pgrp is not None:
            signal_kill.kill_pgrp(old_pgrp, SIGHUP, bool(on_exit))
            signal_kill.kill_pgrp(old_pgrp, SIGCONT, bool(on_exit))
            pid_.put_pid(old_pgrp)
        return
    pid_.put_pid(current.signal.tty_old_pgrp)
    current.signal.tty_old_pgrp = None
    tty = get_current_tty() or tty
    if tty is not None:
        pid_.put_pid(tty.session)
        pid_.put_pid(tty.pgrp)
        tty.session = None
        tty.pgrp = None
    # Now clear signal->tty under the lock.
    session_clear_tty(pid_.task_session(current))


def no_tty() -> None:
    """Part a process from its terminal; called by kernel threads that began as user processes."""
    disassociate_ctty(0)
    proc_clear_tty(machine.cur.cpu.curr)


def proc_clear_tty(p: Task) -> None:
    """Take the controlling terminal from a process; called by setsid()."""
    p.signal.tty = None


def tiocsctty(tty: TtyStruct, arg: Any) -> int:
    """Make a terminal the controlling one: for a session leader that has none."""
    current = machine.cur.cpu.curr
    if current.signal.leader and pid_.task_session(current) is tty.session:
        return 0
    if not current.signal.leader or current.signal.tty is not None:
        return -EPERM
    if tty.session is not None:
        if arg != 1 or current.cred.euid != 0:
            return -EPERM
        # Steal it away.
        session_clear_tty(tty.session)
    proc_set_tty(tty)
    return 0


def tiocgpgrp(tty: TtyStruct, p: Any) -> int:
    """Store the foreground group."""
    if machine.cur.cpu.curr.signal.tty is not tty:
        return -ENOTTY
    return put_user(pid_.pid_vnr(tty.pgrp), p)


def tiocspgrp(tty: TtyStruct, p: Any) -> int:
    """Set the foreground group."""
    current = machine.cur.cpu.curr
    retval = tty_check_change(tty)
    if retval == -EIO:
        return -ENOTTY
    if retval:
        return retval
    if current.signal.tty is not tty or tty.session is not pid_.task_session(current):
        return -ENOTTY
    pgrp_nr = get_user(p)
    if pgrp_nr < 0:
        return pgrp_nr if pgrp_nr == -14 else -22
    pgrp = pid_.find_vpid(pgrp_nr)
    if pgrp is None:
        return -ESRCH
    if session_of_pgrp(pgrp) is not pid_.task_session(current):
        return -EPERM
    pid_.put_pid(tty.pgrp)
    tty.pgrp = pid_.get_pid(pgrp)
    return 0


def session_of_pgrp(pgrp: Pid) -> Pid | None:
    """Return the session of a process group."""
    p = pid_.pid_task(pgrp, PIDTYPE_PGID)
    if p is None:
        p = pid_.pid_task(pgrp, 0)
    return None if p is None else pid_.task_session(p)


def tiocgsid(tty: TtyStruct, p: Any) -> int:
    """Store the session."""
    if machine.cur.cpu.curr.signal.tty is not tty or tty.session is None:
        return -ENOTTY
    return put_user(pid_.pid_vnr(tty.session), p)
