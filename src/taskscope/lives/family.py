"""Births: who created a task and how, its thread group, its parent, and what kind of task it is.

Follows copy_process() and kernel_clone() in kernel/fork.c (6.1): the parent is the creator, with CLONE_PARENT or
CLONE_THREAD the creator's parent; the thread group is the creator's with CLONE_THREAD, else the task's own.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from taskscope.abi.sched import CSIGNAL, CloneFlag
from taskscope.abi.signal import NSIG
from taskscope.lives.functions import FORK, Functions
from taskscope.lives.identity import BirthRecords
from taskscope.lives.life import Birth, How, Kind, State
from taskscope.lives.names import Names
from taskscope.lives.records import Rec, records
from taskscope.lives.timeline import Timeline

#: flags that a plain fork() of a C library may carry: they only say where the new pid is written
_FORK_ONLY = int(CloneFlag.CLONE_CHILD_SETTID | CloneFlag.CLONE_CHILD_CLEARTID | CloneFlag.CLONE_PARENT_SETTID)
_UNTRACED, _VFORK = int(CloneFlag.CLONE_UNTRACED), int(CloneFlag.CLONE_VFORK)

#: names that kthread_create() gives in the kernel itself; a program could take one, so what follows is inferred
_KTHREAD_NAME = re.compile(
    r"kthreadd$|kworker/|ksoftirqd/\d|migration/\d|cpuhp/\d|rcu[a-z]*[_/]|rcu_|kswapd\d|kcompactd\d|khugepaged$|"
    r"kdevtmpfs$|jbd2/|irq/\d|idle_inject/\d|oom_reaper$|kauditd$|khungtaskd$|pool_workqueue|watchdogd?$|scsi_eh_|"
    r"ksmd$|kthrotld|writeback$|mm_percpu_wq$|ext4-rsv-|xfsaild|stopper/\d|posixcputmr/\d|psimon$|vhost-\d")


def named_as_kthread(comm: str) -> bool:
    """Tell whether a name is one that the kernel gives to its own threads; a program could take it too."""
    return _KTHREAD_NAME.match(comm) is not None


@dataclass
class Family:
    """Facts about every life, as lists by life number."""

    born: list[Birth | None]
    group: list[int]                        # life number of the thread group's leader
    tgid: list[int]
    kind: list[Kind]
    parent: list[int | None]
    creator: list[int | None]
    inferred: list[list[str]]
    members: dict[int, list[int]] = field(default_factory=dict)      # leader -> lives of its group
    children: dict[int, list[int]] = field(default_factory=dict)     # parent -> lives


def split_flags(recorded: int) -> tuple[int, int | None]:
    """Split task_newtask's clone_flags into the flags and the exit signal; None where that is not in them.

    Before clone3() (v5.3: 7f192e3cd316, "fork: add clone3") copy_process() got clone()'s flags with the signal in their
    low byte.  Since then 0x80 in that byte is CLONE_NEWTIME.

    >>> split_flags(0x1200011), split_flags(0x1200000), split_flags(0x80)
    ((18874368, 17), (18874368, None), (128, None))
    """
    flags = recorded & 0xFFFFFFFFFFFFFFFF
    low = flags & CSIGNAL
    return (flags & ~CSIGNAL, low) if 0 < low <= NSIG else (flags, None)


def how_born(flags: int | None, thread: bool, by_kthread: bool) -> How | None:
    """Say which kind of creation it was, from the clone flags (without the exit signal; None: not recorded).

    >>> how_born(0x1200000, False, False)
    'fork'
    """
    if by_kthread and (flags is None or flags & _UNTRACED):
        return "kthread"
    if flags is None:
        return "thread" if thread else None
    if thread:
        return "thread"
    if flags & _VFORK:
        return "vfork"
    return "clone" if flags & ~_FORK_ONLY else "fork"


class FamilyBuilder:
    """Builds `Family` from the births and from what else tells a process from a thread."""

    def __init__(self, timeline: Timeline, functions: Functions, names: Names) -> None:
        self.tl = timeline
        self.names = names
        self.trace = timeline.trace
        self.ids = timeline.ids
        self.functions = functions
        n = len(self.ids)
        self.family = Family([None] * n, list(range(n)), [r.pid for r in self.ids.refs], ["process"] * n, [None] * n,
                             [None] * n, [[] for _ in range(n)])

    def build(self) -> Family:
        """Make the family."""
        self._user = self._user_lives()
        self._idle_state = self._lives_seen_idle()
        for life in self._in_order_of_birth():
            birth = self.ids.birth_of[life]
            if birth is None or birth.seen is not None:
                self._found_running(life)
            else:
                self._born(life, birth)
        f = self.family
        for life, leader in enumerate(f.group):
            f.members.setdefault(leader, []).append(life)
        for life, parent in enumerate(f.parent):
            if parent is not None:
                f.children.setdefault(parent, []).append(life)
        return f

    def _in_order_of_birth(self) -> list[int]:
        births = self.ids.birth_of
        found = [k for k, b in enumerate(births) if b is None]
        born = sorted(((b.first.key, k) for k, b in enumerate(births) if b is not None))
        return found + [k for _, k in born]

    # ---- what shows the kind -----------------------------------------------------------------------------------

    def _user_lives(self) -> set[int]:
        """Find the lives that did what only a task with user space does."""
        found: set[int] = set()
        for event in ("sched_process_exec", "signal_deliver"):
            for rec in records(self.trace, event):
                life = self.ids.one(rec.pid, rec.ts, rec.cpu, rec.row)
                if life is not None:
                    found.add(life)
        return found

    def _lives_seen_idle(self) -> set[int]:
        idle = self.tl.life_out[self.tl.outs.state == State.IDLE]
        return set(np.unique(idle).tolist()) - {-1} if len(idle) else set()

    @cached_property
    def _exec_lives(self) -> set[int]:
        """The lives that began to run a program: leaders of their groups, and no kernel threads, from then on."""
        return {life for rec in records(self.trace, "sched_process_exec", "pid")
                for life in [self.ids.one(rec.f["pid"], rec.ts, row=rec.row)] if life is not None}

    def _found_running(self, life: int) -> None:
        f, ref = self.family, self.ids.refs[life]
        if ref.pid == 0:
            f.kind[life] = "idle"
            return
        tgid = self.trace.source.tgids.get(ref.pid)
        if tgid is not None and tgid > 0 and tgid != ref.pid and life not in self._exec_lives:
            leader = self.ids.one(tgid, self.trace.end)
            f.tgid[life], f.kind[life] = tgid, "thread"
            if leader is not None:
                f.group[life] = leader
            return
        comm = self.names.first(life)
        if life in self._user:
            pass
        elif ref.pid == 2 and comm == "kthreadd":
            f.kind[life] = "kthread"
            return
        elif life in self._idle_state:
            f.kind[life] = "kthread"
            f.inferred[life].append("kind: it slept in TASK_IDLE, as kernel threads do")
            return
        elif named_as_kthread(comm):
            f.kind[life] = "kthread"
            f.inferred[life].append("kind: from its name, which the kernel gives to its own threads")
            return
        if tgid is None and life not in self._exec_lives and ref.pid != 1:
            f.inferred[life].append("tgid, kind: nothing in the recording shows it to be a thread of another task")

    # ---- births ------------------------------------------------------------------------------------------------

    def _born(self, life: int, birth: BirthRecords) -> None:
        f, first = self.family, birth.first
        creator = self.ids.one(first.pid, first.ts, first.cpu, first.row)
        flags: int | None = birth.newtask.f.get("clone_flags") if birth.newtask is not None else None
        inferred: list[str] = []
        exit_signal: int | None = None
        f.creator[life] = creator
        if flags is not None:
            flags, exit_signal = split_flags(int(flags))
            thread = bool(flags & CloneFlag.CLONE_THREAD)
            if creator is not None:
                sibling = thread or bool(flags & CloneFlag.CLONE_PARENT)
                f.parent[life] = f.parent[creator] if sibling else creator
        else:
            tgid = self.trace.source.tgids.get(birth.pid)
            thread = tgid is not None and tgid > 0 and tgid != birth.pid and life not in self._exec_lives
            if creator is not None and not thread:
                f.parent[life] = creator
                f.inferred[life].append("parent, tgid, kind: the clone flags were not recorded; taken as of fork()")
        how = self._how(creator, flags, thread)
        if thread and creator is not None:
            f.group[life] = f.group[creator]
            f.tgid[life] = f.tgid[creator]
            # What is not known of the group's leader is not known of its threads.
            f.inferred[life] += [i for i in f.inferred[creator] if i.startswith("tgid")]
        f.kind[life] = "thread" if thread else "process"
        if how == "kthread" and life not in self._exec_lives:
            f.kind[life] = "kthread"
        if birth.newtask is None and birth.fork is None:
            inferred.append("born: only sched_wakeup_new shows it")
        f.born[life] = Birth(first.ts, first.cpu, self.ids.ref(creator), how, flags, exit_signal, self._stack(birth),
                             birth.wakeup.ts if birth.wakeup is not None else None, tuple(inferred))

    def _how(self, creator: int | None, flags: int | None, thread: bool) -> How | None:
        return how_born(flags, thread, creator is not None and self.family.kind[creator] == "kthread")

    def _stack(self, birth: BirthRecords) -> tuple[str, ...] | None:
        stacks = self.trace.stacks
        if not len(stacks):
            return None
        for rec in (birth.newtask, birth.fork):
            if rec is not None and (frames := stacks.get(rec.row)) is not None:
                return frames
        call = self._fork_call(birth.first)
        return stacks.get(call.row) if call is not None else None

    @cached_property
    def _fork_calls(self) -> dict[int, list[Rec]]:
        """Calls of fork functions by the pid that made them, in order of time."""
        found: dict[int, list[Rec]] = {}
        for call in self.functions.calls(*FORK[:-1]):
            found.setdefault(call.pid, []).append(call)
        return found

    def _fork_call(self, rec: Rec) -> Rec | None:
        """Find the last fork function that the creator entered before the birth."""
        calls = self._fork_calls.get(rec.pid, [])
        k = bisect_left(calls, rec.key, key=lambda c: c.key) - 1
        # The innermost: copy_process() is entered last before task_newtask.
        return calls[k] if k >= 0 else None
