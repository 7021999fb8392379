"""How ids and capabilities go together: security/commoncap.c, v4.19.

Root's ids give capabilities when a program is executed, and leaving them takes capabilities away; the rest is asking
with capable().  Not modelled: capabilities of files, user namespaces.
"""

from __future__ import annotations

from errno import EINVAL, ENOSYS, EPERM
from typing import TYPE_CHECKING, Any, Final

import taskscope.model.kernel.cred as cred_
import taskscope.model.kernel.ptrace as ptrace_
from taskscope.model import machine
from taskscope.model.include.uapi.linux.capability import (
    CAP_FS_SET,
    CAP_SETPCAP,
    CAP_SETUID,
    SECBIT_KEEP_CAPS,
    SECBIT_KEEP_CAPS_LOCKED,
    SECBIT_NO_CAP_AMBIENT_RAISE,
    SECBIT_NO_SETUID_FIXUP,
    SECBIT_NOROOT,
    SECURE_ALL_BITS,
    SECURE_ALL_UNPRIVILEGED,
)

if TYPE_CHECKING:
    from taskscope.model.kernel.cred import Cred

# what security_task_fix_setuid() is told
LSM_SETID_ID: Final = 1
LSM_SETID_RE: Final = 2
LSM_SETID_RES: Final = 4
LSM_SETID_FS: Final = 8

# bprm->unsafe
LSM_UNSAFE_SHARE: Final = 1
LSM_UNSAFE_PTRACE: Final = 2
LSM_UNSAFE_NO_NEW_PRIVS: Final = 4

PR_GET_KEEPCAPS: Final = 7
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_GET_SECUREBITS: Final = 27
PR_SET_SECUREBITS: Final = 28
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_IS_SET: Final = 1
PR_CAP_AMBIENT_RAISE: Final = 2
PR_CAP_AMBIENT_LOWER: Final = 3
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4


def cap_issubset(a: int, set_: int) -> bool:
    """Tell whether a set has nothing that another has not (include/linux/capability.h)."""
    return not a & ~set_


# ---- set*uid() ------------------------------------------------------------------------------------------

def cap_emulate_setxuid(new: Cred, old: Cred) -> None:
    """Take capabilities away when root is left, and give them back when the effective id is root's again."""
    if 0 in (old.uid, old.euid, old.suid) and 0 not in (new.uid, new.euid, new.suid):
        if not old.securebits & SECBIT_KEEP_CAPS:
            new.cap_permitted = 0
            new.cap_effective = 0
        # Pre-ambient programs expect setresuid to nonroot followed by exec to drop capabilities.
        new.cap_ambient = 0
    if old.euid == 0 and new.euid != 0:
        new.cap_effective = 0
    if old.euid != 0 and new.euid == 0:
        new.cap_effective = new.cap_permitted


def cap_task_fix_setuid(new: Cred, old: Cred, flags: int) -> int:
    """Fix up the results of setuid() and its like."""
    if old.securebits & SECBIT_NO_SETUID_FIXUP:
        return 0
    if flags in (LSM_SETID_RE, LSM_SETID_ID, LSM_SETID_RES):
        # juggle the capabilities to follow [RES]UID changes unless otherwise suppressed
        cap_emulate_setxuid(new, old)
        return 0
    # juggle the capabilities to follow FSUID changes, unless otherwise suppressed
    assert flags == LSM_SETID_FS
    if old.fsuid == 0 and new.fsuid != 0:
        new.cap_effective &= ~CAP_FS_SET
    if old.fsuid != 0 and new.fsuid == 0:
        new.cap_effective |= CAP_FS_SET & new.cap_permitted
    return 0


# ---- exec -----------------------------------------------------------------------------------------------

def cap_bprm_set_creds(bprm: Any) -> int:
    """Compute the credentials that an execve() gives.  cap_bprm_creds_from_file() since v5.8.

    Context: ``bprm.cred.euid`` and ``egid`` are those that the file asks for.
    """
    old: Cred = machine.cur.cpu.curr.cred
    new: Cred = bprm.cred
    # Not modelled: get_file_caps(): files have none, pP' = (X & fP) | (pI & fI) begins empty.
    new.cap_permitted = 0
    effective = False
    # handle_privileged_root(): if the root user is executed or euid is 0, pretend that the file has all capabilities
    if not new.securebits & SECBIT_NOROOT:
        if 0 in (new.euid, new.uid):
            # pP' = (cap_bset & ~0) | (pI & ~0)
            new.cap_permitted = old.cap_bset | old.cap_inheritable
        # If only the real uid is 0, we do not set the effective bit.
        if new.euid == 0:
            effective = True
    # Don't let someone trace a set[ug]id/setpcap binary with the revised credentials unless they have the appropriate
    # permit.  In addition, if NO_NEW_PRIVS, then ensure we get no new privs.
    is_setid = new.euid != old.uid or new.egid != old.gid
    if (is_setid or not cap_issubset(new.cap_permitted, old.cap_permitted)) and (
        bprm.unsafe & ~LSM_UNSAFE_PTRACE or not ptrace_.ptracer_capable(machine.cur.cpu.curr)
    ):
        # downgrade; they get no more than they had, and maybe less
        if not cred_.capable(CAP_SETUID) or bprm.unsafe & LSM_UNSAFE_NO_NEW_PRIVS:
            new.euid = new.uid
            new.egid = new.gid
        new.cap_permitted &= old.cap_permitted
    new.suid = new.fsuid = new.euid
    new.sgid = new.fsgid = new.egid
    # File caps or setid cancels ambient.
    if is_setid:
        new.cap_ambient = 0
    # Now that we've computed pA', update pP' to give: pP' = (X & fP) | (pI & fI) | pA'
    new.cap_permitted |= new.cap_ambient
    # Set pE' = (fE ? pP' : pA').  Because pA' is zero if fE == 1, this is the same as pE' = (fE ? pP' : 0) | pA'.
    new.cap_effective = new.cap_permitted if effective else new.cap_ambient
    new.securebits &= ~SECBIT_KEEP_CAPS
    # Check for privilege-elevated exec.
    if is_setid or (new.uid != 0 and (effective or not cap_issubset(new.cap_permitted, new.cap_ambient))):
        bprm.secureexec = True
    return 0


# ---- capset() and prctl() -------------------------------------------------------------------------------

def cap_capset(new: Cred, old: Cred, effective: int, inheritable: int, permitted: int) -> int:
    """Put new sets into credentials: 0 or -EPERM."""
    # incapable of using CAP_SETPCAP: cap_inh_is_capped()
    if not old.cap_effective >> CAP_SETPCAP & 1 and not cap_issubset(
            inheritable, old.cap_inheritable | old.cap_permitted):
        return -EPERM
    # no new pI capabilities outside bounding set
    if not cap_issubset(inheritable, old.cap_inheritable | old.cap_bset):
        return -EPERM
    # verify restrictions on target's new Permitted set
    if not cap_issubset(permitted, old.cap_permitted):
        return -EPERM
    # verify the _new_Effective_ is a subset of the _new_Permitted_
    if not cap_issubset(effective, permitted):
        return -EPERM
    new.cap_effective = effective
    new.cap_inheritable = inheritable
    new.cap_permitted = permitted
    # Mask off ambient bits that are no longer both permitted and inheritable.
    new.cap_ambient &= permitted & inheritable
    return 0


def cap_task_prctl(option: int, arg2: Any, arg3: Any, arg4: Any, arg5: Any) -> int:
    """Do the prctl(2) operations that are about capabilities; -ENOSYS for those of others."""
    old: Cred = machine.cur.cpu.curr.cred
    if option == PR_CAPBSET_READ:
        return old.cap_bset >> int(arg2) & 1 if cred_.cap_valid(arg2) else -EINVAL
    if option == PR_GET_SECUREBITS:
        return old.securebits
    if option == PR_GET_KEEPCAPS:
        return int(bool(old.securebits & SECBIT_KEEP_CAPS))
    if option not in (PR_CAPBSET_DROP, PR_SET_SECUREBITS, PR_SET_KEEPCAPS, PR_CAP_AMBIENT):
        return -ENOSYS                      # No functionality available - continue with default
    if option == PR_CAP_AMBIENT and (arg2, arg4, arg5) == (PR_CAP_AMBIENT_IS_SET, 0, 0) and cred_.cap_valid(arg3):
        return old.cap_ambient >> int(arg3) & 1
    new = cred_.prepare_creds()
    if new is None:
        return -12
    error = _cap_prctl_change(new, old, option, arg2, arg3, arg4, arg5)
    if error:
        cred_.abort_creds(new)
        return error
    return cred_.commit_creds(new)


def _cap_prctl_change(new: Cred, old: Cred, option: int, arg2: int, arg3: int, arg4: int, arg5: int) -> int:
    """Change credentials as prctl(2) asks: 0 or a negative errno; cap_prctl_drop() and the middle of the above."""
    if option == PR_CAPBSET_DROP:
        if not cred_.capable(CAP_SETPCAP):
            return -EPERM
        if not cred_.cap_valid(arg2):
            return -EINVAL
        new.cap_bset &= ~(1 << arg2)
        return 0
    if option == PR_SET_SECUREBITS:
        # [1] no changing of bits that are locked, [2] no unlocking of locks, [3] no setting of unsupported bits,
        # [4] doing anything requires privilege
        unprivileged = SECURE_ALL_UNPRIVILEGED if machine.cur.flavour.version >= (6, 14) else 0
        bits = SECURE_ALL_BITS | unprivileged
        changed = old.securebits ^ arg2
        locked = old.securebits & bits << 1
        if locked >> 1 & changed or locked & ~arg2 or arg2 & ~(bits | bits << 1):
            return -EPERM
        # For legacy reason, denies non-change; since v6.14 bits that only restrict may be changed by everybody.
        if (not changed or changed & ~(unprivileged | unprivileged << 1)) and not cred_.capable(CAP_SETPCAP):
            return -EPERM
        new.securebits = arg2
        return 0
    if option == PR_SET_KEEPCAPS:
        if not 0 <= arg2 <= 1:              # Note, we rely on arg2 being unsigned here
            return -EINVAL
        if old.securebits & SECBIT_KEEP_CAPS_LOCKED:
            return -EPERM
        new.securebits = new.securebits & ~SECBIT_KEEP_CAPS | (SECBIT_KEEP_CAPS if arg2 else 0)
        return 0
    # PR_CAP_AMBIENT
    if arg2 == PR_CAP_AMBIENT_CLEAR_ALL:
        if arg3 or arg4 or arg5:
            return -EINVAL
        new.cap_ambient = 0
        return 0
    if not cred_.cap_valid(arg3) or arg4 or arg5 or arg2 not in (PR_CAP_AMBIENT_RAISE, PR_CAP_AMBIENT_LOWER):
        return -EINVAL
    if arg2 == PR_CAP_AMBIENT_LOWER:
        new.cap_ambient &= ~(1 << arg3)
        return 0
    if (not old.cap_permitted >> arg3 & 1 or not old.cap_inheritable >> arg3 & 1
            or old.securebits & SECBIT_NO_CAP_AMBIENT_RAISE):
        return -EPERM
    new.cap_ambient |= 1 << arg3
    return 0
