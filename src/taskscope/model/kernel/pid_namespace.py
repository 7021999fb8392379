"""Pid namespaces: kernel/pid_namespace.c, v4.19: making one, entering one, and the end of one with its init.

A task lives in the namespace of its own number for ever; what CLONE_NEWPID and setns() change is where its children
will live (``nsproxy.pid_ns_for_children``).  Number 1 of a namespace is its init: it reaps the namespace's orphans, and
nothing outlives it there.
"""

from __future__ import annotations

from errno import ECHILD, EINVAL, ENOMEM, ENOSPC, EPERM
from typing import Any, Final

import taskscope.model.kernel.cred as cred
import taskscope.model.kernel.exit as exit_
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.rcu.tree as rcu
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.kill as signal_kill
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.mm.slab as slab
from taskscope.model import machine
from taskscope.model.include.linux.pid import MAX_PID_NS_LEVEL, PIDTYPE_MAX, PIDTYPE_PID, PidNamespace
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE, TASK_RUNNING, thread_group_leader
from taskscope.model.include.linux.sched_signal import SEND_SIG_PRIV, SIG_IGN, KSigaction
from taskscope.model.include.linux.spinlock import (
    read_lock,
    read_unlock,
    spin_lock_irq,
    spin_unlock_irq,
)
from taskscope.model.include.uapi.linux.sched import CLONE_NEWPID

SIGKILL: Final = 9
SIGCHLD: Final = 17
#: the inode number of the initial namespace (include/linux/proc_ns.h)
PROC_PID_INIT_INO: Final = 0xEFFF_FFFC
_FIRST_DYNAMIC_INO: Final = 0xF000_0000


def pid_namespaces_init() -> None:
    """Make the cache of namespaces; an initcall, made with the first of them here."""
    m = machine.cur
    m.pid_cache = {}
    m.pid_ns_cachep = slab.kmem_cache_create("pid_namespace", 96 if m.flavour.long_size == 4 else 208)
    m.ns_last_ino = _FIRST_DYNAMIC_INO


def create_pid_cachep(level: int) -> slab.KmemCache:
    """Return the cache of pids that have a number in `level` namespaces above their own."""
    m = machine.cur
    cache = m.pid_cache.get(level)
    if cache is None:
        size = 64 + 8 * level if m.flavour.long_size == 4 else 112 + 16 * level
        # SLAB_HWCACHE_ALIGN
        cache = slab.kmem_cache_create("pid" if not level else f"pid_{level + 1}", -(-size // 64) * 64)
        m.pid_cache[level] = cache
    return cache


def pid_max(ns: PidNamespace) -> int:
    """Return the first number that is not given out: a namespace has its own limit since v6.14 (7863dcc72d0f)."""
    m = machine.cur
    return ns.pid_max if m.flavour.version >= (6, 14) else m.init_pid_ns.pid_max


def get_pid_ns(ns: PidNamespace) -> PidNamespace:
    """Take a reference; the initial namespace has no count."""
    if ns.level:
        ns.count += 1
    return ns


def put_pid_ns(ns: PidNamespace | None) -> None:
    """Drop a reference; the last one frees the namespace, and with it one of the namespace above."""
    while ns is not None and ns.level:
        parent = ns.parent
        ns.count -= 1
        assert ns.count >= 0, "put_pid_ns() of a free namespace"
        if ns.count:
            break
        rcu.call_rcu(ns, delayed_free_pidns)        # destroy_pid_namespace()
        ns = parent


def delayed_free_pidns(ns: PidNamespace) -> None:
    """Free a namespace.

    Context: RCU callback.
    """
    assert not ns.idr, f"a pid namespace of level {ns.level} goes with numbers in it"
    slab.kmem_cache_free_object(machine.cur.pid_ns_cachep)


def create_pid_namespace(parent_pid_ns: PidNamespace) -> PidNamespace | int:
    """Make a namespace below another: -ENOSPC if that is the deepest, -ENOMEM."""
    m = machine.cur
    level = parent_pid_ns.level + 1
    if level > MAX_PID_NS_LEVEL:
        return -ENOSPC
    # Not modelled: user namespaces and their ucounts, which limit how many there may be.
    if not slab.kmem_cache_alloc_object(m.pid_ns_cachep):
        return -ENOMEM
    ns = PidNamespace(m.pid_max_max, get_pid_ns(parent_pid_ns))
    ns.pid_cachep = create_pid_cachep(level)
    ns.inum = m.ns_last_ino                         # ns_alloc_inum()
    m.ns_last_ino += 1
    return ns


def copy_pid_ns(flags: int, old_ns: PidNamespace) -> PidNamespace | int:
    """Share or make the namespace of a task's children.

    :return: -EINVAL for who has unshared once already, so that its children live elsewhere than itself
    """
    if not flags & CLONE_NEWPID:
        return get_pid_ns(old_ns)
    if pid_.task_active_pid_ns(machine.cur.cpu.curr) is not old_ns:
        return -EINVAL
    return create_pid_namespace(old_ns)


def pidns_is_ancestor(child: PidNamespace, ancestor: PidNamespace) -> bool:
    """Tell whether a namespace is another one, or above it."""
    if child.level < ancestor.level:
        return False
    ns: PidNamespace | None = child
    while ns is not None and ns.level > ancestor.level:
        ns = ns.parent
    return ns is ancestor


def pidns_install(nsproxy: Any, new: PidNamespace) -> int:
    """Let the children of setns()'s caller live in a namespace: 0, -EPERM, or -EINVAL for one that is not below."""
    active = pid_.task_active_pid_ns(machine.cur.cpu.curr)
    if not cred.capable(cred.CAP_SYS_ADMIN):
        return -EPERM
    # Only allow entering the current active pid namespace or a child of the current active pid namespace.  This is
    # required for fork to return a usable pid value and this maintains the property that processes and their children
    # can not escape their current pid namespace.
    if not pidns_is_ancestor(new, active):
        return -EINVAL
    put_pid_ns(nsproxy.pid_ns_for_children)
    nsproxy.pid_ns_for_children = get_pid_ns(new)
    return 0


def zap_pid_ns_processes(pid_ns: PidNamespace) -> None:
    """Kill everything in the namespace and wait until it is gone: called by the last thread of its init that dies.

    Context: process context, no locks held; sleeps.
    """
    m = machine.cur
    me = m.cpu.curr
    init_pids = 1 if thread_group_leader(me) else 2
    # Don't allow any more processes into the pid namespace.
    pid_.disable_pid_allocation(pid_ns)
    # Ignore SIGCHLD causing any terminated children to autoreap.  This speeds up the namespace shutdown, plus see the
    # comment below.
    assert me.sighand is not None
    spin_lock_irq(me.sighand.siglock)
    old = me.sighand.action[SIGCHLD - 1]
    me.sighand.action[SIGCHLD - 1] = KSigaction(SIG_IGN, old.sa_flags, old.sa_mask)
    spin_unlock_irq(me.sighand.siglock)
    # The last thread in the cgroup-init thread group is terminating.  Find remaining pid_ts in the namespace, signal
    # and wait for them to exit.
    read_lock(m.tasklist_lock)
    for nr in sorted(pid_ns.idr):
        task = pid_.pid_task(pid_ns.idr[nr], PIDTYPE_PID) if nr >= 2 else None
        if task is not None and not signal_send.__fatal_signal_pending(task):
            signal_kill.group_send_sig_info(SIGKILL, SEND_SIG_PRIV, task, PIDTYPE_MAX)
    read_unlock(m.tasklist_lock)
    # Reap the EXIT_ZOMBIE children we had before we ignored SIGCHLD.  kernel_wait4() will also block until our children
    # traced from the parent namespace are detached and become EXIT_DEAD.
    while True:
        me.thread_info.flags &= ~m.tif_sigpending
        if exit_.kernel_wait4(-1, None, exit_.__WALL, None) == -ECHILD:
            break
    # kernel_wait4() misses EXIT_DEAD children, and EXIT_ZOMBIE process whose parents are outside of the pid namespace.
    # Such processes are created with setns()+fork().  If those EXIT_ZOMBIE processes are not reaped by their parents
    # before their parents exit, they will be reparented to pid_ns->child_reaper.  Thus pid_ns->child_reaper needs to
    # stay valid until they all go away.
    while True:
        me.state = TASK_INTERRUPTIBLE
        if pid_ns.pid_allocated == init_pids:
            break
        sched_core.schedule()
    me.state = TASK_RUNNING
    # Not modelled: pid_ns->reboot, acct_exit_ns().
