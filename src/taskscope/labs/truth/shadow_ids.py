"""What a process is called and what it shares: the part of the reference that changes ids, names and descriptors.

Followed are kernel/sys.c of Linux 4.19 to 6.18, setpgid(2), setsid(2), prctl(2), dup2(2), umask(2).
"""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.shadow_deaths import Deaths
from taskscope.labs.truth.shadow_state import SkipError, ref

PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_NAME, PR_GET_NAME = 1, 2, 15, 16
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37


class Ids(Deaths):
    """The operations on ids, names, descriptors and the umask."""

    # ---- names and ids ---------------------------------------------------------------------------------

    def op_getpid(self, actor: int) -> str:
        """getpid()"""
        return f"@{actor}"

    def op_gettid(self, actor: int) -> str:
        """gettid()"""
        return f"@{actor}"

    def op_getppid(self, actor: int) -> str:
        """getppid()"""
        if actor == 0:
            raise SkipError
        self.touch("par", actor, "r")
        return f"@{self.procs[actor].parent}"

    def op_getpgid(self, actor: int, target: Any) -> str:
        """getpgid()"""
        return self._id(actor, target, "pgrp")

    def op_getsid(self, actor: int, target: Any) -> str:
        """getsid()"""
        return self._id(actor, target, "sid")

    def _id(self, actor: int, target: Any, which: str) -> str:
        found = self.find(target, actor)
        if found is None:
            return "ESRCH"
        self.touch("ids", found, "r")
        return f"@{getattr(self.procs[found], which)}"

    def op_setpgid(self, actor: int, target: Any, group: Any) -> str:
        """setpgid(): kernel/sys.c, checks in its order"""
        sign, leader = ref(group)
        if sign < 0:
            return "EINVAL"
        who = self.find(target, actor)
        if who is None:
            return "ESRCH"
        me, proc = self.procs[actor], self.procs[who]
        self.touch("ids", who, "w")
        self.touch("ids", actor, "r")
        if who != actor:
            self.touch("par", who, "r")
            if proc.parent != actor:
                return "ESRCH"
            if proc.sid != me.sid:
                return "EPERM"
            self.touch("exec", who, "r")
            if proc.execed:
                return "EACCES"
        if proc.leader:
            return "EPERM"
        if leader is None:
            if sign:
                return "EPERM"          # a number that is nobody's group
            leader = who
        if leader != who:
            if not self.group_exists(leader):
                return "EPERM"
            if self.procs[self.members(leader)[0]].sid != me.sid:
                return "EPERM"
        self._move(who, leader)
        return "0"

    def op_setsid(self, actor: int) -> str:
        """setsid()"""
        me = self.procs[actor]
        self.touch("ids", actor, "w")
        if me.leader or self.group_exists(actor):
            return "EPERM"
        self._move(actor, actor)
        me.sid, me.leader = actor, True
        return f"@{actor}"

    # ---- prctl -----------------------------------------------------------------------------------------

    def op_prctl(self, actor: int, option: int, value: int) -> str:
        """prctl() with a number"""
        me = self.procs[actor]
        if option == PR_SET_CHILD_SUBREAPER:
            self.touch("sub", actor, "w")
            me.subreaper = bool(value)
            return "0"
        if option == PR_SET_PDEATHSIG:
            if value > 64:
                return "EINVAL"
            self.touch("pds", actor, "w")
            me.pdeath = value           # not inherited, cleared by setuid(), kept by exec
            return "0"
        return "EINVAL"

    def op_prctl_get(self, actor: int, option: int) -> str:
        """prctl() that writes a number"""
        me = self.procs[actor]
        return f"0 {int(me.subreaper) if option == PR_GET_CHILD_SUBREAPER else me.pdeath}"

    def op_setname(self, actor: int, name: str) -> str:
        """prctl(PR_SET_NAME)"""
        self.procs[actor].name = name[:15]
        self.touch("name", actor, "w")
        return "0"

    def op_getname(self, actor: int) -> str:
        """prctl(PR_GET_NAME)"""
        return repr(self.procs[actor].name)

    # ---- what clone shares -----------------------------------------------------------------------------

    def op_dup2(self, actor: int, slot: int) -> str:
        """dup2() onto a descriptor of our own"""
        me = self.procs[actor]
        self.touch("files", me.files, "w")
        self.files[me.files] |= {slot}
        return str(slot)

    def op_close(self, actor: int, slot: int) -> str:
        """close()"""
        me = self.procs[actor]
        self.touch("files", me.files, "w")
        if slot not in self.files[me.files]:
            return "EBADF"
        self.files[me.files] -= {slot}
        return "0"

    def op_getfd(self, actor: int, slot: int) -> str:
        """fcntl(F_GETFD)"""
        me = self.procs[actor]
        self.touch("files", me.files, "r")
        return "0" if slot in self.files[me.files] else "EBADF"

    def op_umask(self, actor: int, mask: int) -> str:
        """umask()"""
        me = self.procs[actor]
        self.touch("fs", me.fs, "w")
        old, self.umasks[me.fs] = self.umasks[me.fs], mask & 0o777
        return str(old)
