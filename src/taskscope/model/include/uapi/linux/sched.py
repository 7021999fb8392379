"""Clone flags as plain integers: include/uapi/linux/sched.h, v6.18.  Flags that a kernel does not know, it ignores."""

from __future__ import annotations

from typing import Final

from taskscope.abi.sched import CloneFlag

CSIGNAL: Final = 0xFF
CLONE_VM: Final = int(CloneFlag.CLONE_VM)
CLONE_FS: Final = int(CloneFlag.CLONE_FS)
CLONE_FILES: Final = int(CloneFlag.CLONE_FILES)
CLONE_SIGHAND: Final = int(CloneFlag.CLONE_SIGHAND)
CLONE_PIDFD: Final = int(CloneFlag.CLONE_PIDFD)
CLONE_PTRACE: Final = int(CloneFlag.CLONE_PTRACE)
CLONE_VFORK: Final = int(CloneFlag.CLONE_VFORK)
CLONE_PARENT: Final = int(CloneFlag.CLONE_PARENT)
CLONE_THREAD: Final = int(CloneFlag.CLONE_THREAD)
CLONE_NEWNS: Final = int(CloneFlag.CLONE_NEWNS)
CLONE_SYSVSEM: Final = int(CloneFlag.CLONE_SYSVSEM)
CLONE_SETTLS: Final = int(CloneFlag.CLONE_SETTLS)
CLONE_PARENT_SETTID: Final = int(CloneFlag.CLONE_PARENT_SETTID)
CLONE_CHILD_CLEARTID: Final = int(CloneFlag.CLONE_CHILD_CLEARTID)
CLONE_DETACHED: Final = int(CloneFlag.CLONE_DETACHED)
CLONE_UNTRACED: Final = int(CloneFlag.CLONE_UNTRACED)
CLONE_CHILD_SETTID: Final = int(CloneFlag.CLONE_CHILD_SETTID)
CLONE_NEWUSER: Final = int(CloneFlag.CLONE_NEWUSER)
CLONE_NEWPID: Final = int(CloneFlag.CLONE_NEWPID)
CLONE_IO: Final = int(CloneFlag.CLONE_IO)
CLONE_CLEAR_SIGHAND: Final = int(CloneFlag.CLONE_CLEAR_SIGHAND)
CLONE_INTO_CGROUP: Final = int(CloneFlag.CLONE_INTO_CGROUP)
#: CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
CLONE_NAMESPACES: Final = 0x7E02_0000
CLONE_LEGACY_FLAGS: Final = 0xFFFF_FFFF
