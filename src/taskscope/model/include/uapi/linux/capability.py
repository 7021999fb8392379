"""Capabilities, what root's power is made of: include/uapi/linux/capability.h, v6.18; a set is a bit mask."""

from __future__ import annotations

from typing import Final

CAP_CHOWN: Final = 0
CAP_DAC_OVERRIDE: Final = 1
CAP_DAC_READ_SEARCH: Final = 2
CAP_FOWNER: Final = 3
CAP_FSETID: Final = 4
CAP_KILL: Final = 5
CAP_SETGID: Final = 6
CAP_SETUID: Final = 7
CAP_SETPCAP: Final = 8
CAP_SYS_CHROOT: Final = 18
CAP_SYS_PTRACE: Final = 19
CAP_SYS_ADMIN: Final = 21
CAP_SYS_BOOT: Final = 22
CAP_SYS_NICE: Final = 23
CAP_SYS_RESOURCE: Final = 24
CAP_SYS_TIME: Final = 25
CAP_SYS_TTY_CONFIG: Final = 26
CAP_MKNOD: Final = 27
CAP_MAC_OVERRIDE: Final = 32
CAP_AUDIT_READ: Final = 37
CAP_PERFMON: Final = 38                     # with CAP_BPF since v5.8
CAP_BPF: Final = 39
CAP_CHECKPOINT_RESTORE: Final = 40          # v5.9

#: CAP_FS_SET: what setfsuid() takes and gives
CAP_FS_SET: Final = sum(
    1 << cap
    for cap in (CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_MAC_OVERRIDE)
) | 1 << 9                                  # CAP_LINUX_IMMUTABLE

_LINUX_CAPABILITY_VERSION_1: Final = 0x19980330
_LINUX_CAPABILITY_VERSION_2: Final = 0x20071026
_LINUX_CAPABILITY_VERSION_3: Final = 0x20080522

# include/uapi/linux/securebits.h; each has its lock one bit above
SECBIT_NOROOT: Final = 1 << 0
SECBIT_NO_SETUID_FIXUP: Final = 1 << 2
SECBIT_KEEP_CAPS: Final = 1 << 4
SECBIT_KEEP_CAPS_LOCKED: Final = 1 << 5
SECBIT_NO_CAP_AMBIENT_RAISE: Final = 1 << 6
SECURE_ALL_BITS: Final = 0x55
SECURE_ALL_UNPRIVILEGED: Final = 0x500      # EXEC_RESTRICT_FILE, EXEC_DENY_INTERACTIVE: v6.14
