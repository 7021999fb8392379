"""What Linux does with processes, in as few lines as the generator needs: a reference that is neither kernel.

`World.apply` performs one system call on the processes of a program and tells, beside the result, what it touched,
which processes die of it, and who must have finished before it: what `fences` needs.
Followed are kernel/{fork,exit,signal,sys}.c of Linux 4.19 to 6.18 where they agree, and setpgid(2), wait(2), prctl(2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from taskscope.abi.sched import CloneFlag
from taskscope.labs.truth.program import Item, signals
from taskscope.labs.truth.shadow_ids import Ids
from taskscope.labs.truth.shadow_signals import CHILDREN, bit, flush, pending
from taskscope.labs.truth.shadow_state import (
    CLD_CONTINUED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    P_ALL,
    P_PGID,
    P_PID,
    SA_RESTART,
    SI_QUEUE,
    SI_TKILL,
    SI_USER,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    WALL,
    WCLONE,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOTHREAD,
    WNOWAIT,
    WUNTRACED,
    Effect,
    Proc,
    Sent,
    SkipError,
    ref,
)

_PARENT: Final = int(CloneFlag.CLONE_PARENT)
_FILES: Final = int(CloneFlag.CLONE_FILES)
_FS: Final = int(CloneFlag.CLONE_FS)
_VFORK: Final = int(CloneFlag.CLONE_VFORK)
_SETTID: Final = int(CloneFlag.CLONE_PARENT_SETTID)
UNBLOCKABLE: Final = bit(SIGKILL) | bit(SIGSTOP)



class World(Ids):
    """The reference: processes, and the system calls that they make."""

    __slots__ = ()

    # ---- an operation ----------------------------------------------------------------------------------

    def apply(self, actor: int, item: Item) -> Effect:
        """Perform an operation; the world is changed.

        :raises SkipError: it can not be part of a deterministic program here
        """
        effect = self.effect
        for arg in item[2:]:
            if isinstance(arg, str) and arg[:1] in "@-" and arg[-1:].isdigit() and item[1] != "setname":
                self.touch("pid", int(arg.lstrip("@-")), "r")
        effect.result = getattr(self, f"op_{item[1]}")(actor, *item[2:])
        done = 0
        while self.queue:
            victim, status, cause = self.queue.pop(0)
            if self.procs[victim].state in ("run", "stopped"):
                self._die(victim, status, cause)
                done += 1
        if self.procs[actor].state in ("zombie", "ghost"):
            effect.result = None
            effect.suspended = True
        return effect
    # ---- birth -----------------------------------------------------------------------------------------

    def op_fork(self, actor: int, child: int, flags: int, how: str) -> str:
        """clone() of a process."""
        del how
        if child != len(self.procs):
            raise SkipError
        me = self.procs[actor]
        parent, exit_signal = actor, flags & 0xFF
        if flags & _PARENT:
            self.touch("par", actor, "r")
            if actor == 0:
                raise SkipError
            parent, exit_signal = me.parent, me.exit_signal
        for kind, number, mode in (("kids", parent, "w"), ("pid", child, "w"), ("ext", child, "w"),
                                   ("par", child, "w"), ("ids", child, "w"),
                                   ("wst", child, "w"), ("ids", actor, "r"), ("pg", me.pgrp, "a"),
                                   ("files", me.files, "r"), ("fs", me.fs, "r"), ("sig", actor, "r"),
                                   ("sig", child, "w"), ("chld", child, "w")):
            self.touch(kind, number, mode)
        new = Proc(parent=parent, pgrp=me.pgrp, sid=me.sid, exit_signal=exit_signal, name=me.name, uid=me.uid,
                   actions=me.actions, blocked=me.blocked,
                   files=me.files if flags & _FILES else child, fs=me.fs if flags & _FS else child)
        if not flags & _FILES:
            self.files[child] = self.files[me.files]
        if not flags & _FS:
            self.umasks[child] = self.umasks[me.fs]
        self.procs.append(new)
        self.procs[parent].kids += (child,)
        self.effect.born = child
        me.waiting = bool(flags & _VFORK)
        return f"@{child} @{child}" if flags & _SETTID else f"@{child}"

    def op_badclone(self, actor: int, flags: int) -> str:
        """clone() with flags that contradict each other."""
        del actor, flags
        return "EINVAL"

    # ---- exec, users, /proc ----------------------------------------------------------------------------

    def op_badexec(self, actor: int, path: str) -> str:
        """execve() of what is no program"""
        del actor
        return "ENOENT" if path in ("", "/nonexistent") else "EACCES"

    def op_exec(self, actor: int, path: str, parent: int, token: int) -> None:
        """execve() of cat, which hands a token that waits on its standard input to the parent, and waits"""
        del token
        me = self.procs[actor]
        if me.parent != parent:
            raise SkipError
        self.touch("par", actor, "w")       # de_thread(): the exit signal of what has execed is SIGCHLD
        self.touch("exec", actor, "w")
        me.exit_signal = SIGCHLD
        self.touch("name", actor, "w")
        self.touch("files", me.files, "w")     # descriptors 0 and 1, before the table is its own
        self._changes(actor, CHILDREN)
        me.actions = tuple(entry for entry in me.actions if entry[1][0] == "ign")
        me.execed, me.name = True, path.rpartition("/")[2]
        self.files[actor], me.files = self.files[me.files], actor

    def op_setuid(self, actor: int, uid: int) -> str:
        """setuid()"""
        me = self.procs[actor]
        if me.uid and uid != me.uid:
            return "EPERM"
        self.touch("uid", actor, "w")
        if uid != me.uid:
            self.touch("pds", actor, "w")
            me.pdeath = 0
        me.uid = uid
        return "0"

    def op_stat(self, actor: int, target: Any) -> str:
        """/proc/PID/stat: name, state, parent, group, session, exit signal"""
        found = self.find(target, actor)
        if found is None:
            return "ENOENT"
        proc = self.procs[found]
        for kind in ("wst", "par", "ids", "name"):
            self.touch(kind, found, "r")
        state = {"zombie": "Z", "stopped": "T"}.get(proc.state, "live")
        return f"({proc.name}) {state} @{proc.parent} @{proc.pgrp} @{proc.sid} {proc.exit_signal}"

    def op_exit(self, actor: int, code: int) -> None:
        """exit_group()"""
        self.queue.append((actor, (code & 0xFF) << 8, -1))

    # ---- signals ---------------------------------------------------------------------------------------

    def op_signal(self, actor: int, sig: int, action: str) -> str:
        """signal() with SIG_IGN or SIG_DFL"""
        return self.op_act(actor, sig, action, SA_RESTART, 0)

    def op_act(self, actor: int, sig: int, how: str, flags: int, mask: int) -> str:
        """sigaction()"""
        if sig in (SIGKILL, SIGSTOP):
            return "EINVAL"
        me = self.procs[actor]
        self._changes(actor, bit(sig))
        self._act(me, sig, (how, flags, mask & ~UNBLOCKABLE))
        if me.ignores(sig):
            flush(me, bit(sig))
        return "0"

    def op_mask(self, actor: int, how: int, mask: int) -> str:
        """sigprocmask()"""
        me = self.procs[actor]
        old = me.blocked
        mask &= ~UNBLOCKABLE
        me.blocked = (old | mask, old & ~mask, mask)[how]
        self._changes(actor, old ^ me.blocked)
        self._take(actor, -1)
        if me.state == "stopped":
            self.effect.suspended = True
        return signals(old)

    def op_pend(self, actor: int) -> str:
        """sigpending()"""
        me = self.procs[actor]
        self.touch("sig", actor, "r")
        return signals(pending(me) & me.blocked)

    def op_caught(self, actor: int) -> str:
        """What the handlers of this program have noted."""
        me = self.procs[actor]
        self.touch("sig", actor, "w")
        caught, me.caught = me.caught, ()
        return "; ".join(_told(sent) for sent in caught) or "none"

    def op_suspend(self, actor: int, mask: int) -> str:
        """sigsuspend(): only where a handler is to run"""
        me = self.procs[actor]
        old, mask = me.blocked, mask & ~UNBLOCKABLE
        self._changes(actor, old ^ mask)
        come = [sent for sent in (*me.own, *me.shared) if not mask & bit(sent.sig)]
        if not come or any(me.action(sent.sig)[0] != "catch" for sent in come):
            raise SkipError                 # it would go on waiting, or die
        alone = len(me.own) + len(me.shared) == 1
        me.blocked = mask
        self._take(actor, -1, old)
        me.blocked = old
        if alone:                           # what came last is what it takes
            self.effect.waits = ("sig", actor)
        return "EINTR"

    def op_sigwait(self, actor: int, mask: int, timeout: int | None) -> str:
        """sigtimedwait()"""
        me = self.procs[actor]
        self.touch("sig", actor, "w")
        mask &= ~UNBLOCKABLE
        if mask & ~me.blocked:
            raise SkipError
        come = [sent for sent in (*me.own, *me.shared) if mask & bit(sent.sig)]
        if not come and timeout is None:
            raise SkipError
        alone = len(me.own) + len(me.shared) == 1
        found = self._dequeue(actor, ~mask)
        if found is None:
            return "EAGAIN"
        if timeout is None and alone:
            self.effect.waits = ("sig", actor)
        return _told(found)

    def op_tgkill(self, actor: int, target: Any, sig: int) -> str:
        """tgkill() to the only thread of a process"""
        return self._send(actor, target, Sent(sig, SI_TKILL, actor, 0), private=True)

    def op_sigqueue(self, actor: int, target: Any, sig: int, value: int) -> str:
        """rt_sigqueueinfo()"""
        return self._send(actor, target, Sent(sig, SI_QUEUE, actor, value))

    def _send(self, actor: int, target: Any, sent: Sent, *, private: bool = False) -> str:
        """do_send_specific(), kill_pid_info()"""
        sign, who = ref(target)
        if sign < 0 or (who is None and sign == 0):
            if private:
                return "EINVAL"
            raise SkipError
        found = self.find(target, actor)
        if found is None:
            return "ESRCH"
        if not 0 <= sent.sig <= 64:
            return "EINVAL"
        if not self._may_kill(actor, found, sent.sig):
            return "EPERM"
        if sent.sig:
            self._deliver(found, sent, -1, private=private)
        if self.procs[actor].state == "stopped":
            self.effect.suspended = True
        return "0"

    def op_kill(self, actor: int, target: Any, sig: int) -> str:
        """kill()"""
        sign, who = ref(target)
        if who is None and sign != 0:
            return "ESRCH"                  # a pid that nobody has
        if who is None or sign < 0:
            group = self.procs[actor].pgrp if who is None else who
            if who is None:
                self.touch("ids", actor, "r")
            self.touch("pg", group, "r")
            targets = self.members(group)
            if not targets and group in self.tainted:
                raise SkipError
        else:
            found = self.find(target, actor)
            targets = [] if found is None else [found]
        if not targets:
            return "ESRCH"
        if not 0 <= sig <= 64:
            return "EINVAL"
        allowed = [x for x in targets if self._may_kill(actor, x, sig)]
        if not allowed:
            return "EPERM"
        if sig:
            for x in allowed:
                self._deliver(x, Sent(sig, SI_USER, actor, 0), -1)
        if self.procs[actor].state == "stopped":
            self.effect.suspended = True
        return "0"
    # ---- waiting ---------------------------------------------------------------------------------------

    def op_wait4(self, actor: int, target: Any, options: int) -> str:
        """wait4()"""
        if options & ~(WNOHANG | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL):
            return "EINVAL"
        sign, who = ref(target)
        kind: tuple[int, int | None]
        if who is None and sign == -1:
            kind = (P_ALL, None)
        elif who is None and sign == 0:
            self.touch("ids", actor, "r")
            kind = (P_PGID, self.procs[actor].pgrp)
        else:
            kind = (P_PID if sign > 0 else P_PGID, who)
        found = self._wait(actor, kind, options | WEXITED)
        if isinstance(found, str):
            return found
        child, code, status = found
        if code in (CLD_EXITED, CLD_KILLED):
            word = status << 8 if code == CLD_EXITED else status
        else:
            word = status << 8 | 0x7F if code == CLD_STOPPED else 0xFFFF
        return f"@{child} {word:#06x}"

    def op_waitid(self, actor: int, idtype: int, target: Any, options: int) -> str:
        """waitid()"""
        if options & ~(WNOHANG | WNOWAIT | WEXITED | WUNTRACED | WCONTINUED | WNOTHREAD | WCLONE | WALL):
            return "EINVAL"
        if not options & (WEXITED | WUNTRACED | WCONTINUED):
            return "EINVAL"
        sign, who = ref(target)
        if idtype not in (P_ALL, P_PID, P_PGID):
            return "EINVAL"
        if idtype != P_ALL and who is None and sign <= 0:
            if idtype == P_PGID and sign == 0:
                raise SkipError             # EINVAL before v5.4, the own group since
            return "EINVAL"
        found = self._wait(actor, (idtype, who), options)
        if isinstance(found, str):
            return "nothing" if found == "0" else found
        child, code, status = found
        self.touch("uid", child, "r")
        owner = self.procs[child].uid or "me"
        return f"@{child} code {code} status {status} signo {SIGCHLD} uid {owner}"

    def _wait(self, actor: int, kind: tuple[int, int | None], options: int) -> str | tuple[int, int, int]:
        """do_wait()"""
        idtype, who = kind
        me = self.procs[actor]
        if idtype == P_PID and who is not None:
            self.touch("par", who, "r")
            self.touch("ext", who, "r")
            if self.procs[who].state == "ghost":
                raise SkipError
            kids: Iterable[int] = (who,) if who in me.kids else ()
        elif idtype == P_PID or (idtype == P_PGID and who is None):
            kids = ()                       # a number that nobody has
        else:
            self.touch("kids", actor, "r")
            kids = me.kids
        may = False
        events: list[tuple[int, int, int]] = []
        for c in kids:
            child = self.procs[c]
            self.touch("wst", c, "r")
            self.touch("par", c, "r")
            if idtype == P_PGID:
                self.touch("ids", c, "r")
                if child.pgrp != who:
                    continue
            if not options & WALL and (child.exit_signal != SIGCHLD) != bool(options & WCLONE):
                continue
            if child.state == "zombie":
                if options & WEXITED:
                    code = CLD_KILLED if child.status & 0x7F else CLD_EXITED
                    events.append((c, code, child.status & 0x7F or child.status >> 8))
                    may = True
                continue
            may = True
            if child.stop_code and options & WUNTRACED:
                events.append((c, CLD_STOPPED, child.stop_code))
            elif child.continued and options & WCONTINUED:
                events.append((c, CLD_CONTINUED, SIGCONT))
        if not events:
            if not may:
                return "ECHILD"
            if options & WNOHANG:
                return "0"
            raise SkipError                 # it would block until something that may never come
        c, code, status = events[0]
        # Who was continued into its death is seen continued for a moment.
        moment = options & WCONTINUED and self.procs[c].continued
        if not options & WNOHANG and len(events) == 1 and code in (CLD_EXITED, CLD_KILLED) and not moment:
            self.effect.exempt = c
        if not options & WNOWAIT:
            self._consume(actor, c, code)
        return c, code, status

    def _consume(self, actor: int, c: int, code: int) -> None:
        child = self.procs[c]
        self.touch("wst", c, "w")
        if code == CLD_STOPPED:
            child.stop_code = 0
        elif code == CLD_CONTINUED:
            child.continued = False
        else:
            self.touch("kids", actor, "w")
            self.touch("ext", c, "w")
            self.touch("ids", c, "w")
            self._leave(c)
            child.state = "gone"
            me = self.procs[actor]
            me.kids = tuple(k for k in me.kids if k != c)


def _told(sent: Sent) -> str:
    sender = "0" if sent.sender is None else f"@{sent.sender}"
    return f"{sent.sig} code {sent.code} from {sender} value {sent.value}"
