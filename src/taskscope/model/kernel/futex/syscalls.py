"""futex(2), set_robust_list(2), get_robust_list(2): kernel/futex.c, v4.19; kernel/futex/syscalls.c since v5.16."""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOSYS, EPERM, ESRCH
from typing import Any, Final

import taskscope.model.kernel.futex.pi as pi
import taskscope.model.kernel.futex.requeue as requeue
import taskscope.model.kernel.futex.waitwake as waitwake
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.ptrace as ptrace_
import taskscope.model.kernel.time.hrtimer as hrtimer
from taskscope.model import machine
from taskscope.model.include.linux.ptrace import PTRACE_MODE_READ_REALCREDS
from taskscope.model.include.linux.uaccess import Cell, Word, get_user, put_user
from taskscope.model.include.uapi.linux.futex import (
    FUTEX_BITSET_MATCH_ANY,
    FUTEX_CLOCK_REALTIME,
    FUTEX_CMD_MASK,
    FUTEX_CMP_REQUEUE,
    FUTEX_LOCK_PI,
    FUTEX_LOCK_PI2,
    FUTEX_PRIVATE_FLAG,
    FUTEX_REQUEUE,
    FUTEX_TRYLOCK_PI,
    FUTEX_UNLOCK_PI,
    FUTEX_WAIT,
    FUTEX_WAIT_BITSET,
    FUTEX_WAIT_REQUEUE_PI,
    FUTEX_WAKE,
    FUTEX_WAKE_BITSET,
    FUTEX_WAKE_OP,
)
from taskscope.model.kernel.futex.futex import FLAGS_CLOCKRT, FLAGS_SHARED

_TIMED: Final = (FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_LOCK_PI2, FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI)
_U32: Final = 0xFFFF_FFFF


def _signed(value: int) -> int:
    """Return what an int of C holds when a u32 is put into it."""
    value &= _U32
    return value - (1 << 32) if value >> 31 else value


def do_futex(uaddr: Any, op: int, val: int, timeout: int | None, uaddr2: Any, val2: int, val3: int) -> int:
    """Do one of the operations.

    :param timeout: when a wait ends (ns), None: never
    """
    cmd = op & FUTEX_CMD_MASK
    flags = 0 if op & FUTEX_PRIVATE_FLAG else FLAGS_SHARED
    if op & FUTEX_CLOCK_REALTIME:
        flags |= FLAGS_CLOCKRT
        # FUTEX_WAIT, whose time is relative, may have it from v4.5 (337f13046ff0) until v5.13 (4fbf5d6837bf).
        late = machine.cur.flavour.version >= (5, 13)
        allowed = (FUTEX_WAIT_BITSET, FUTEX_WAIT_REQUEUE_PI, FUTEX_LOCK_PI2 if late else FUTEX_WAIT)
        if cmd not in allowed:
            return -ENOSYS
    if cmd == FUTEX_WAIT:
        return waitwake.futex_wait(uaddr, flags, val, timeout, FUTEX_BITSET_MATCH_ANY)
    if cmd == FUTEX_WAIT_BITSET:
        return waitwake.futex_wait(uaddr, flags, val, timeout, val3)
    if cmd == FUTEX_WAKE:
        return waitwake.futex_wake(uaddr, flags, _signed(val), FUTEX_BITSET_MATCH_ANY)
    if cmd == FUTEX_WAKE_BITSET:
        return waitwake.futex_wake(uaddr, flags, _signed(val), val3)
    if cmd == FUTEX_REQUEUE:
        return requeue.futex_requeue(uaddr, flags, uaddr2, _signed(val), _signed(val2), None)
    if cmd == FUTEX_CMP_REQUEUE:
        return requeue.futex_requeue(uaddr, flags, uaddr2, _signed(val), _signed(val2), val3)
    if cmd == FUTEX_WAKE_OP:
        return waitwake.futex_wake_op(uaddr, flags, uaddr2, _signed(val), _signed(val2), val3)
    if cmd == FUTEX_LOCK_PI:
        return pi.futex_lock_pi(uaddr, flags | FLAGS_CLOCKRT, timeout, False)
    if cmd == FUTEX_LOCK_PI2 and machine.cur.flavour.version >= (5, 14):
        return pi.futex_lock_pi(uaddr, flags, timeout, False)
    if cmd == FUTEX_UNLOCK_PI:
        return pi.futex_unlock_pi(uaddr, flags)
    if cmd == FUTEX_TRYLOCK_PI:
        return pi.futex_lock_pi(uaddr, flags, None, True)
    # FUTEX_FD is gone.  Not modelled: FUTEX_WAIT_REQUEUE_PI, FUTEX_CMP_REQUEUE_PI.
    return -ENOSYS


def sys_futex(uaddr: Any, op: int, val: int, utime: Any = None, uaddr2: Any = None, val3: int = 0) -> int:
    """futex(2).

    :param uaddr: a `Word`
    :param utime: a timespec (s, ns), relative for FUTEX_WAIT and absolute else; a number for who takes one there
    """
    cmd = op & FUTEX_CMD_MASK
    timeout = None
    if utime and cmd in _TIMED:
        ts = utime if isinstance(utime, tuple) else get_user(utime) if isinstance(utime, (Cell, Word)) else None
        if not isinstance(ts, tuple):
            return -EFAULT
        timeout = hrtimer.timespec_ns(ts)
        if timeout is None:
            return -EINVAL
        if cmd == FUTEX_WAIT:
            timeout = min(timeout + machine.cur.now, hrtimer.KTIME_MAX)
    # requeue parameter in 'utime' if cmd is one of REQUEUE, CMP_REQUEUE, WAKE_OP
    val2 = utime if isinstance(utime, int) else 0
    return do_futex(uaddr, op, val & _U32, timeout, uaddr2, val2, val3 & _U32)


# ---- the robust list ------------------------------------------------------------------------------------

def _robust_list_head_size() -> int:
    """Return sizeof(struct robust_list_head): three words."""
    return 3 * machine.cur.flavour.long_size


def sys_set_robust_list(head: Any, length: int) -> int:
    """set_robust_list(2): where the kernel finds the locks that the caller holds, should it die."""
    # The kernel knows only one size for now:
    if length != _robust_list_head_size():
        return -EINVAL
    # An address where nothing is mapped is taken all the same; exit_robust_list() gives up on it.
    machine.cur.cpu.curr.robust_list = head if isinstance(head, Word) else None
    return 0


def sys_get_robust_list(pid: int, head_ptr: Any, len_ptr: Any) -> int:
    """get_robust_list(2), of a thread that the caller may look into."""
    p = pid_.find_task_by_vpid(pid) if pid else machine.cur.cpu.curr
    if p is None:
        return -ESRCH
    if not ptrace_.ptrace_may_access(p, PTRACE_MODE_READ_REALCREDS):
        return -EPERM
    if put_user(_robust_list_head_size(), len_ptr):
        return -EFAULT
    return -EFAULT if put_user(p.robust_list or 0, head_ptr) else 0
