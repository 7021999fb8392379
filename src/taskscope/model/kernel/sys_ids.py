"""Who a task is: the first part of kernel/sys.c, v4.19: pids, user ids, group ids.

Credentials are of a task, not of its process: a thread that calls setuid() leaves the others alone.  (The C library
makes all of them call.)
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOMEM, EPERM
from typing import TYPE_CHECKING, Any, Final

import taskscope.model.kernel.cred as cred_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.kernel.user as user_
import taskscope.model.security.commoncap as commoncap
from taskscope.model import machine
from taskscope.model.include.linux.sched import PF_NPROC_EXCEEDED
from taskscope.model.include.linux.sched_signal import RLIMIT_NPROC
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.uapi.linux.capability import CAP_SETGID, CAP_SETUID

if TYPE_CHECKING:
    from taskscope.model.kernel.cred import Cred

#: no id: "leave it" where a call sets several
_NONE: Final = 0xFFFF_FFFF


def _as_id(value: int) -> int:
    """Return what a uid_t or gid_t of C holds when an int is put into it."""
    return value & _NONE


# ---- pids -----------------------------------------------------------------------------------------------

def sys_getpid() -> int:
    """getpid(2): the process's number (tgid)."""
    return pid_.task_tgid_vnr(machine.cur.cpu.curr)


def sys_gettid() -> int:
    """gettid(2): the thread's number (pid)."""
    return pid_.task_pid_vnr(machine.cur.cpu.curr)


def sys_getppid() -> int:
    """getppid(2): the process that will be told of our end, also while we are traced; 0 if it is outside."""
    return pid_.task_tgid_vnr(machine.cur.cpu.curr.real_parent)


# ---- user ids -------------------------------------------------------------------------------------------

def sys_getuid() -> int:
    """getuid(2)."""
    return int(machine.cur.cpu.curr.cred.uid)


def sys_geteuid() -> int:
    """geteuid(2)."""
    return int(machine.cur.cpu.curr.cred.euid)


def set_user(new: Cred) -> int:
    """Charge the processes of new credentials to the user of their uid; notes an excess for execve()."""
    new_user = user_.alloc_uid(new.uid)
    current = machine.cur.cpu.curr
    user_.free_uid(new.user)
    new.user = new_user
    # We don't fail in case of NPROC limit excess here because too many poorly written programs don't check set*uid()
    # return code, assuming it never fails if called by root.  We may still enforce NPROC limit for programs doing
    # set*uid()+execve() by harmlessly deferring the failure to the execve() stage.
    limit = signal_send.task_rlimit(current, RLIMIT_NPROC)
    # Since v5.14 (21d1c5e386bc, "Reimplement RLIMIT_NPROC on top of ucounts") only more than the limit are too many.
    over = new_user.processes > limit if machine.cur.flavour.version >= (5, 14) else new_user.processes >= limit
    if over and new_user is not machine.cur.root_user:
        current.flags |= PF_NPROC_EXCEEDED
    else:
        current.flags &= ~PF_NPROC_EXCEEDED
    return 0


def sys_setreuid(ruid: int, euid: int) -> int:
    """setreuid(2): without CAP_SETUID the real id can become the effective one, the effective one any of the three."""
    ruid, euid = _as_id(ruid), _as_id(euid)
    new = cred_.prepare_creds()
    if new is None:
        return -ENOMEM
    old: Cred = machine.cur.cpu.curr.cred
    if ruid != _NONE:
        new.uid = ruid
        if ruid not in (old.uid, old.euid) and not cred_.capable(CAP_SETUID):
            cred_.abort_creds(new)
            return -EPERM
    if euid != _NONE:
        new.euid = euid
        if euid not in (old.uid, old.euid, old.suid) and not cred_.capable(CAP_SETUID):
            cred_.abort_creds(new)
            return -EPERM
    if new.uid != old.uid:
        set_user(new)
    if ruid != _NONE or (euid not in (_NONE, old.uid)):
        new.suid = new.euid
    new.fsuid = new.euid
    commoncap.cap_task_fix_setuid(new, old, commoncap.LSM_SETID_RE)
    return cred_.commit_creds(new)


def sys_setuid(uid: int) -> int:
    """setuid(2): all three ids with CAP_SETUID, else the effective one."""
    uid = _as_id(uid)
    if uid == _NONE:
        return -EINVAL
    new = cred_.prepare_creds()
    if new is None:
        return -ENOMEM
    old: Cred = machine.cur.cpu.curr.cred
    if cred_.capable(CAP_SETUID):
        new.suid = new.uid = uid
        if uid != old.uid:
            set_user(new)
    elif uid not in (old.uid, new.suid):
        cred_.abort_creds(new)
        return -EPERM
    new.fsuid = new.euid = uid
    commoncap.cap_task_fix_setuid(new, old, commoncap.LSM_SETID_ID)
    return cred_.commit_creds(new)


def sys_setresuid(ruid: int, euid: int, suid: int) -> int:
    """setresuid(2); -1 leaves an id."""
    ruid, euid, suid = _as_id(ruid), _as_id(euid), _as_id(suid)
    new = cred_.prepare_creds()
    if new is None:
        return -ENOMEM
    old: Cred = machine.cur.cpu.curr.cred
    have = (_NONE, old.uid, old.euid, old.suid)
    if any(wanted not in have for wanted in (ruid, euid, suid)) and not cred_.capable(CAP_SETUID):
        cred_.abort_creds(new)
        return -EPERM
    if ruid != _NONE:
        new.uid = ruid
        if ruid != old.uid:
            set_user(new)
    if euid != _NONE:
        new.euid = euid
    if suid != _NONE:
        new.suid = suid
    new.fsuid = new.euid
    commoncap.cap_task_fix_setuid(new, old, commoncap.LSM_SETID_RES)
    return cred_.commit_creds(new)


def sys_getresuid(ruidp: Any, euidp: Any, suidp: Any) -> int:
    """getresuid(2)."""
    cred = machine.cur.cpu.curr.cred
    return -EFAULT if put_user(cred.uid, ruidp) or put_user(cred.euid, euidp) or put_user(cred.suid, suidp) else 0


def sys_setfsuid(uid: int) -> int:
    """setfsuid(2): the id that files are opened with; returns what it was, whether or not it has changed."""
    old: Cred = machine.cur.cpu.curr.cred
    uid = _as_id(uid)
    if uid == _NONE:
        return int(old.fsuid)
    new = cred_.prepare_creds()
    if new is None:
        return int(old.fsuid)
    old_fsuid = int(old.fsuid)
    if uid != old.fsuid and (uid in (old.uid, old.euid, old.suid) or cred_.capable(CAP_SETUID)):
        new.fsuid = uid
        commoncap.cap_task_fix_setuid(new, old, commoncap.LSM_SETID_FS)
        cred_.commit_creds(new)
    else:
        cred_.abort_creds(new)
    return old_fsuid


# ---- group ids ------------------------------------------------------------------------------------------

def sys_getgid() -> int:
    """getgid(2)."""
    return int(machine.cur.cpu.curr.cred.gid)


def sys_getegid() -> int:
    """getegid(2)."""
    return int(machine.cur.cpu.curr.cred.egid)


def sys_setregid(rgid: int, egid: int) -> int:
    """setregid(2), as setreuid() does it."""
    rgid, egid = _as_id(rgid), _as_id(egid)
    new = cred_.prepare_creds()
    if new is None:
        return -ENOMEM
    old: Cred = machine.cur.cpu.curr.cred
    if ((rgid not in (_NONE, old.gid, old.egid) or egid not in (_NONE, old.gid, old.egid, old.sgid))
            and not cred_.capable(CAP_SETGID)):
        cred_.abort_creds(new)
        return -EPERM
    if rgid != _NONE:
        new.gid = rgid
    if egid != _NONE:
        new.egid = egid
    if rgid != _NONE or egid not in (_NONE, old.gid):
        new.sgid = new.egid
    new.fsgid = new.egid
    return cred_.commit_creds(new)


def sys_setgid(gid: int) -> int:
    """setgid(2)."""
    gid = _as_id(gid)
    if gid == _NONE:
        return -EINVAL
    new = cred_.prepare_creds()
    if new is None:
        return -ENOMEM
    old: Cred = machine.cur.cpu.curr.cred
    if cred_.capable(CAP_SETGID):
        new.gid = new.egid = new.sgid = new.fsgid = gid
    elif gid in (old.gid, old.sgid):
        new.egid = new.fsgid = gid
    else:
        cred_.abort_creds(new)
        return -EPERM
    return cred_.commit_creds(new)


def sys_setresgid(rgid: int, egid: int, sgid: int) -> int:
    """setresgid(2); -1 leaves an id."""
    rgid, egid, sgid = _as_id(rgid), _as_id(egid), _as_id(sgid)
    new = cred_.prepare_creds()
    if new is None:
        return -ENOMEM
    old: Cred = machine.cur.cpu.curr.cred
    have = (_NONE, old.gid, old.egid, old.sgid)
    if any(wanted not in have for wanted in (rgid, egid, sgid)) and not cred_.capable(CAP_SETGID):
        cred_.abort_creds(new)
        return -EPERM
    if rgid != _NONE:
        new.gid = rgid
    if egid != _NONE:
        new.egid = egid
    if sgid != _NONE:
        new.sgid = sgid
    new.fsgid = new.egid
    return cred_.commit_creds(new)


def sys_getresgid(rgidp: Any, egidp: Any, sgidp: Any) -> int:
    """getresgid(2)."""
    cred = machine.cur.cpu.curr.cred
    return -EFAULT if put_user(cred.gid, rgidp) or put_user(cred.egid, egidp) or put_user(cred.sgid, sgidp) else 0


def sys_setfsgid(gid: int) -> int:
    """setfsgid(2)."""
    old: Cred = machine.cur.cpu.curr.cred
    gid = _as_id(gid)
    old_fsgid = int(old.fsgid)
    if gid in (_NONE, old_fsgid):
        return old_fsgid
    if gid in (old.gid, old.egid, old.sgid) or cred_.capable(CAP_SETGID):
        new = cred_.prepare_creds()
        if new is not None:
            new.fsgid = gid
            cred_.commit_creds(new)
    return old_fsgid
