"""Credentials: who a task is: kernel/cred.c and capability.c, v4.19.

A `Cred` is shared by reference and never changed once a task has it: prepare_creds() makes a copy to change,
commit_creds() puts it in.
"""

from __future__ import annotations

from errno import ENOMEM
from typing import Final

import taskscope.model.kernel.rcu.tree as rcu
import taskscope.model.kernel.user as user_
import taskscope.model.mm.slab as slab
from taskscope.model import machine
from taskscope.model.include.linux.sched import PF_SUPERPRIV, Task
from taskscope.model.include.uapi.linux.capability import CAP_AUDIT_READ, CAP_BPF, CAP_CHECKPOINT_RESTORE
from taskscope.model.include.uapi.linux.capability import CAP_KILL as CAP_KILL
from taskscope.model.include.uapi.linux.capability import CAP_SETGID as CAP_SETGID
from taskscope.model.include.uapi.linux.capability import CAP_SETUID as CAP_SETUID
from taskscope.model.include.uapi.linux.capability import CAP_SYS_ADMIN as CAP_SYS_ADMIN
from taskscope.model.include.uapi.linux.capability import CAP_SYS_NICE as CAP_SYS_NICE
from taskscope.model.include.uapi.linux.capability import CAP_SYS_RESOURCE as CAP_SYS_RESOURCE
from taskscope.model.include.uapi.linux.capability import CAP_SYS_TTY_CONFIG as CAP_SYS_TTY_CONFIG
from taskscope.model.include.uapi.linux.sched import CLONE_THREAD
from taskscope.model.kernel.user import UserStruct

NGROUPS_MAX: Final = 65536


class Cred:
    """struct cred."""

    __slots__ = (
        "cap_ambient", "cap_bset", "cap_effective", "cap_inheritable", "cap_permitted", "egid", "euid", "fsgid",
        "fsuid", "gid", "group_info", "securebits", "sgid", "suid", "uid", "usage", "user",
    )

    def __init__(self, user: UserStruct) -> None:
        self.usage = 1
        self.uid = self.euid = self.suid = self.fsuid = user.uid
        self.gid = self.egid = self.sgid = self.fsgid = 0
        self.securebits = 0
        self.cap_inheritable = self.cap_ambient = 0
        self.cap_bset = cap_full_set()
        self.cap_permitted = self.cap_effective = self.cap_bset if user.uid == 0 else 0
        self.group_info: tuple[int, ...] = ()
        self.user = user


def cap_last_cap() -> int:
    """Return the number of the last capability that the kernel at hand knows."""
    version = machine.cur.flavour.version
    return CAP_CHECKPOINT_RESTORE if version >= (5, 9) else CAP_BPF if version >= (5, 8) else CAP_AUDIT_READ


def cap_full_set() -> int:
    """Return the set of all capabilities (CAP_FULL_SET)."""
    return (2 << cap_last_cap()) - 1


def cap_valid(cap: int) -> bool:
    """Tell whether there is such a capability."""
    return isinstance(cap, int) and 0 <= cap <= cap_last_cap()


def cred_init() -> None:
    """Make the slab of credentials; called by start_kernel()."""
    m = machine.cur
    m.cred_jar = slab.kmem_cache_create("cred_jar", 128 if m.flavour.long_size == 4 else 192)


def get_cred(cred: Cred) -> Cred:
    """Take a reference."""
    cred.usage += 1
    return cred


def put_cred(cred: Cred) -> None:
    """Drop a reference; the last one frees after a grace period."""
    cred.usage -= 1
    assert cred.usage >= 0, "put_cred() of free credentials"
    if cred.usage == 0:
        rcu.call_rcu(cred, put_cred_rcu)


def put_cred_rcu(cred: Cred) -> None:
    """Free credentials.

    Context: RCU callback.
    """
    user_.free_uid(cred.user)
    slab.kmem_cache_free_object(machine.cur.cred_jar)


def prepare_creds() -> Cred | None:
    """Return a copy of the caller's credentials to change; None where memory is short."""
    if not slab.kmem_cache_alloc_object(machine.cur.cred_jar):
        return None
    old: Cred = machine.cur.cpu.curr.cred
    new = Cred.__new__(Cred)
    # memcpy(new, old, sizeof(struct cred))
    new.uid, new.euid, new.suid, new.fsuid = old.uid, old.euid, old.suid, old.fsuid
    new.gid, new.egid, new.sgid, new.fsgid = old.gid, old.egid, old.sgid, old.fsgid
    new.securebits = old.securebits
    new.cap_inheritable, new.cap_permitted = old.cap_inheritable, old.cap_permitted
    new.cap_effective, new.cap_bset, new.cap_ambient = old.cap_effective, old.cap_bset, old.cap_ambient
    new.group_info = old.group_info
    new.usage = 1
    new.user = user_.get_uid(old.user)
    return new


def abort_creds(new: Cred) -> None:
    """Throw away credentials that were prepared."""
    put_cred(new)


def commit_creds(new: Cred) -> int:
    """Give the caller new credentials; 0."""
    task = machine.cur.cpu.curr
    old = task.cred
    assert new.usage >= 1, "commit_creds() of free credentials"
    # dumpability changes
    if ((old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid)
            or new.cap_permitted & ~old.cap_permitted):     # cred_cap_issubset()
        if task.mm is not None:
            task.mm.dumpable = 0            # suid_dumpable
        task.pdeath_signal = 0
    if new.user is not old.user:
        new.user.processes += 1
    task.cred = new
    if new.user is not old.user:
        old.user.processes -= 1
    put_cred(old)
    return 0


def copy_creds(p: Task, clone_flags: int) -> int:
    """Give a new task its parent's credentials: the same object for a thread, a copy for a process."""
    if clone_flags & CLONE_THREAD:
        get_cred(p.cred)
        p.cred.user.processes += 1
        return 0
    new = prepare_creds()
    if new is None:
        return -ENOMEM
    # Not modelled: user namespaces, keyrings.
    new.user.processes += 1
    p.cred = new
    return 0


def exit_creds(tsk: Task) -> None:
    """Drop a freed task's credentials."""
    put_cred(tsk.cred)


def capable(cap: int) -> bool:
    """Tell whether the caller has a capability; notes that it used one (PF_SUPERPRIV)."""
    current = machine.cur.cpu.curr
    if current.cred.cap_effective >> cap & 1:
        current.flags |= PF_SUPERPRIV
        return True
    return False


def in_group_p(grp: int) -> bool:
    """Tell whether the caller belongs to a group."""
    cred: Cred = machine.cur.cpu.curr.cred
    return grp == cred.fsgid or grp in cred.group_info
