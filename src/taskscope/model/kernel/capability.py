"""capget(2) and capset(2): kernel/capability.c, v4.19.

User memory: the header is (version, pid), the data (effective, permitted, inheritable) as sets of 64 bits.
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, EPERM, ESRCH
from typing import Any, Final

import taskscope.model.kernel.cred as cred_
import taskscope.model.kernel.pid as pid_
import taskscope.model.security.commoncap as commoncap
from taskscope.model import machine
from taskscope.model.include.linux.uaccess import get_user, put_user
from taskscope.model.include.uapi.linux.capability import (
    _LINUX_CAPABILITY_VERSION_1,
    _LINUX_CAPABILITY_VERSION_2,
    _LINUX_CAPABILITY_VERSION_3,
)

_VERSIONS: Final = {
    _LINUX_CAPABILITY_VERSION_1: 32, _LINUX_CAPABILITY_VERSION_2: 64, _LINUX_CAPABILITY_VERSION_3: 64,
}


def cap_validate_magic(header: Any) -> int:
    """Return how many bits the caller's sets have; -EINVAL for a version that is not known, -EFAULT."""
    if not isinstance(header, tuple):
        return -EFAULT
    return _VERSIONS.get(header[0], -EINVAL)


def sys_capget(header: Any, dataptr: Any) -> int:
    """capget(2)."""
    bits = cap_validate_magic(header)
    # A null pointer for the data asks which version the kernel has.
    if bits < 0:
        return 0 if bits == -EINVAL and not dataptr else bits
    if not dataptr:
        return -EINVAL
    pid = header[1]
    if pid < 0:
        return -EINVAL
    target = pid_.find_task_by_vpid(pid) if pid else machine.cur.cpu.curr
    if target is None:
        return -ESRCH
    cred = target.cred
    mask = (1 << bits) - 1
    sets = (cred.cap_effective & mask, cred.cap_permitted & mask, cred.cap_inheritable & mask)
    return -EFAULT if put_user(sets, dataptr) else 0


def sys_capset(header: Any, data: Any) -> int:
    """capset(2), of the calling thread."""
    bits = cap_validate_magic(header)
    if bits < 0:
        return bits
    # may only affect current now
    if header[1] not in (0, pid_.task_pid_vnr(machine.cur.cpu.curr)):
        return -EPERM
    sets = data if isinstance(data, tuple) else get_user(data)
    if not isinstance(sets, tuple):
        return -EFAULT
    valid = cred_.cap_full_set() & (1 << bits) - 1
    effective, permitted, inheritable = (one & valid for one in sets)
    new = cred_.prepare_creds()
    if new is None:
        return -12
    ret = commoncap.cap_capset(new, machine.cur.cpu.curr.cred, effective, inheritable, permitted)
    if ret < 0:
        cred_.abort_creds(new)
        return ret
    return cred_.commit_creds(new)
