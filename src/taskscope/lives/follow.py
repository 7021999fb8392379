"""Lives told as they happen: takes the rare records in order of time and gives out happenings in that order.

Who died of what is judged by the rules that recordings are judged by (`judge`).  A death whose cause is not certain
when the task exits waits a moment for the signal by which the kernel tells the parent; what happened since waits with
it, so that the order stays that of time.  Memory is bounded by the tasks that live.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskscope.abi import signal as abi_signal
from taskscope.abi.sched import CloneFlag
from taskscope.lives.deaths import Death, ExitCall
from taskscope.lives.family import how_born, split_flags
from taskscope.lives.followed import MOST, Evidence, Group, Task, Tasks
from taskscope.lives.happenings import Execed, Exited, Forked, Happening, Killed, Lost
from taskscope.lives.identity import PID_LIMIT
from taskscope.lives.judge import HANDED_OVER, Verdict
from taskscope.lives.life import Kind
from taskscope.lives.records import Rec
from taskscope.lives.signals import CLD_DUMPED, CLD_EXITED, Delivered, Sent

#: the events that are used, and their fields; ``do_exit`` stands for probes on that function, ``lost`` for losses
FIELDS: Mapping[str, tuple[str, ...]] = {
    "task_newtask": ("pid", "comm", "clone_flags"),
    "sched_process_fork": ("parent_comm", "child_comm", "child_pid"),
    "sched_wakeup_new": ("pid", "comm"),
    "task_rename": ("pid", "oldcomm", "newcomm"),
    "sched_process_exec": ("filename", "pid", "old_pid"),
    "sched_process_exit": ("pid", "comm", "group_dead"),
    "sched_process_free": ("pid",),
    "signal_generate": ("sig", "code", "comm", "pid", "group", "result"),
    "signal_deliver": ("sig", "code", "sa_handler"),
    "sys_enter_exit_group": ("error_code",),
    "sys_enter_exit": ("error_code",),
    "sys_enter": ("id", "args"),
    "mark_victim": ("pid",),
    "kernel_stack": ("caller", "size"),
}

#: how long a death waits for the parent's signal (a busy machine may not let it run on at once): ns, and seconds
#: between ticks
GRACE = 500_000_000
GRACE_S = 0.75

_SIGCONT = 18

# Plain numbers: the operators of a flag are slow, and births are many.
_THREAD, _PARENT = int(CloneFlag.CLONE_THREAD), int(CloneFlag.CLONE_PARENT)


@dataclass(slots=True, eq=False)
class _Ending:
    """A death that is not judged yet, in its place among the happenings."""

    task: Task
    about: dict[str, Any]
    since: float                # seconds, see `Follow.tick`
    shown: Exited | None = None

    @property
    def at(self) -> int:
        """Time of the exit."""
        at: int = self.about["at"]
        return at


class Follow:
    """Makes happenings of records.

    :param threads: tell births and deaths of threads too, not only of processes
    :param comms: names of tasks that run already, by pid
    :param tgids: their thread groups, where known
    :param parents: their parent processes, where known
    :param only: pids of the tasks that are recorded from the beginning, where not all are: what others do to each other
        is not told
    :param exit_numbers: system call numbers that exit -> whether they end the whole group, for raw ``sys_enter``
    :param frames: names the functions of a call stack
    """

    def __init__(self, *, threads: bool = False, comms: Mapping[int, str] | None = None,
                 tgids: Mapping[int, int] | None = None, parents: Mapping[int, int] | None = None,
                 only: Collection[int] | None = None, exit_numbers: Mapping[int, bool] | None = None,
                 frames: Callable[[Sequence[int]], tuple[str, ...]] | None = None) -> None:
        self.threads = threads
        self._tasks = Tasks(comms or {}, tgids or {}, parents or {})
        self._only = frozenset(only) if only is not None else None
        self._exit_numbers = dict(exit_numbers or {})
        self._frames = frames
        self._judge = Evidence()
        self._queue: deque[Happening | _Ending] = deque()
        self._waiting: deque[_Ending] = deque()
        self._ends: dict[int, _Ending] = {}         # those that wait of whole groups, by life number of the leader
        self._now = 0.0
        self._late = False
        self._take: Mapping[str, Callable[[Rec], None]] = {
            "task_newtask": self._newtask, "sched_process_fork": self._fork, "sched_wakeup_new": self._wakeup_new,
            "task_rename": self._rename, "sched_process_exec": self._exec, "sched_process_exit": self._exit,
            "sched_process_free": self._free, "signal_generate": self._generate, "signal_deliver": self._deliver,
            "sys_enter_exit_group": self._exit_group, "sys_enter_exit": self._exit_one, "sys_enter": self._raw_exit,
            "mark_victim": self._victim, "kernel_stack": self._stack, "do_exit": self._status, "lost": self._lost,
        }

    # ---- in and out --------------------------------------------------------------------------------------------

    def see(self, event: str, rec: Rec, *, late: bool = False) -> None:
        """Take a record; records come in order of time, and ``rec.row`` grows with each.

        :param late: it was recorded before others that were seen already
        """
        while self._waiting and self._waiting[0].at + GRACE < rec.ts:
            self._settle(self._waiting[0])
        self._late = late
        take = self._take.get(event)
        if take is not None:
            take(rec)

    def tick(self, now: float) -> None:
        """Say what time it is, in seconds of any clock: deaths do not wait for ever where nothing happens."""
        self._now = now
        while self._waiting and self._waiting[0].since + GRACE_S < now:
            self._settle(self._waiting[0])

    def take(self) -> list[Happening]:
        """Return what has happened, each once, in order of time but for what is marked as late."""
        out: list[Happening] = []
        while self._queue:
            first = self._queue[0]
            if isinstance(first, _Ending):
                if first.shown is None:
                    break
                first = first.shown
            out.append(first)
            self._queue.popleft()
        return out

    def end(self) -> list[Happening]:
        """Return what is left: nothing more will be seen."""
        while self._waiting:
            self._settle(self._waiting[0])
        return self.take()

    def _about(self, task: Task, rec: Rec) -> dict[str, Any]:
        """Return what every happening of a task says."""
        group = task.group
        return {"at": rec.ts, "cpu": rec.cpu, "late": self._late, "pid": task.pid,
                "tgid": group.pid if group.known else None, "kind": task.kind, "comm": task.comm,
                "parent": self._tasks.parent_of(group)}

    # ---- births and names --------------------------------------------------------------------------------------

    def _newtask(self, rec: Rec) -> None:
        self._birth(rec, rec.f["pid"], 0, rec.f["comm"], rec.f["clone_flags"])

    def _fork(self, rec: Rec) -> None:
        self._birth(rec, rec.f["child_pid"], 1, rec.f["child_comm"], None)

    def _wakeup_new(self, rec: Rec) -> None:
        self._birth(rec, rec.f["pid"], 2, rec.f["comm"], None)

    def _birth(self, rec: Rec, pid: int, rank: int, comm: str | None, flags: int | None) -> None:
        """Take one of the three records of a birth: the first one that is seen tells it."""
        if not 0 < pid <= PID_LIMIT:
            return
        known = self._tasks.known(pid)
        if known is not None and known.creator == rec.pid and -1 < known.rank < rank:
            known.rank = rank
            return
        creator = self._tasks.current(rec)
        if creator is not None and creator.comm is None:
            # copy_process() copies the name with the task.
            creator.comm = comm
        flags = split_flags(flags)[0] if flags is not None else None
        thread = flags is not None and bool(flags & _THREAD)
        how = how_born(flags, thread, creator is not None and creator.kind == "kthread")
        kind: Kind | None = None
        if flags is not None:
            kind = "kthread" if how == "kthread" else "thread" if thread else "process"
        task = self._tasks.add(pid, comm, kind, creator.group if thread and creator is not None else None)
        task.group.childless = task.leads or task.group.childless
        task.born, task.creator, task.rank = rec.ts, rec.pid, rank
        if not thread and creator is not None:
            sibling = flags is not None and bool(flags & _PARENT)
            task.group.parent = creator.group.parent if sibling else creator.group
            if task.group.parent is not None:
                task.group.parent.childless = False
        if not thread or self.threads:
            self._queue.append(Forked(**self._about(task, rec), by=creator.who if creator is not None else None,
                                      how=how, clone_flags=flags))

    def _rename(self, rec: Rec) -> None:
        task = self._tasks.get(rec.f["pid"] if rec.f["pid"] is not None else rec.pid)
        if task is not None:
            task.before = rec.f["oldcomm"] or task.comm
            task.comm = rec.f["newcomm"]

    def _exec(self, rec: Rec) -> None:
        pid, old = rec.f["pid"], rec.f["old_pid"]
        old = pid if old is None else old
        task = self._tasks.get(pid)
        if task is None or rec.f["filename"] is None:
            return
        group = task.group
        if old != pid:
            self._handover(rec, task, old)
        group.execs = [rec.ts]
        if group.deaths:
            self._verdicts(group, group.deaths)
            group.deaths.clear()
        # Who runs a program leads a process, from here on at least.
        task.kind, group.pid, group.known, group.kthread = "process", pid, True, False
        old_comm = task.before if task.before is not None else task.comm
        if task.before is None:
            # The kernel names it after the program, but that name was not recorded.
            task.comm = None
        task.before = None
        self._queue.append(Execed(**self._about(task, rec), filename=rec.f["filename"], old_pid=old,
                                  old_comm=old_comm))

    def _handover(self, rec: Rec, task: Task, old: int) -> None:
        """A thread called execve: it gets the pid of the leader, who died for it, and goes on as that one."""
        group = task.group
        group.deaths = [d for d in group.deaths if d.life != task.life]
        task.death, task.dead, group.alive, group.gone = Death(task.life), False, 1, False
        thread = self._tasks.known(old)
        if thread is None:
            return
        self._tasks.forget(thread)
        thread.dead = True
        if self.threads:
            self._queue.append(Exited(
                **self._about(thread, rec), code=None, signal=None, core=None, cause="exec", killer=None, si_code=None,
                lived=None if thread.born is None else rec.ts - thread.born, inferred=(HANDED_OVER,)))

    # ---- signals -----------------------------------------------------------------------------------------------

    def _ours(self, pid: int) -> bool:
        """Tell whether a task is recorded: one of those that were chosen, or one whose birth was seen."""
        task = self._tasks.known(pid)
        return self._only is None or pid in self._only or (task is not None and task.born is not None)

    def _generate(self, rec: Rec) -> None:
        f = rec.f
        if not self._ours(f["pid"]) and (rec.irq or not self._ours(rec.pid)):
            return
        target = self._tasks.get(f["pid"], f["comm"])
        if target is None:
            return
        sender = self._tasks.current(rec)
        by = rec.f["by"] = sender.who if sender is not None else None
        sent = Sent(rec, f["sig"], f["code"] or 0, f["result"] or 0, bool(f["group"]), target.life,
                    sender.life if sender is not None else None)
        if sent.result == 0 and abi_signal.fatal_by_default(sent.sig):
            target.group.sent.append(sent)
        # What a task ignores does nothing, but for SIGCONT, which continues it even so.
        if sent.code <= 0 and (sent.result != 1 or sent.sig == _SIGCONT):
            self._queue.append(Killed(**self._about(target, rec), sig=sent.sig, code=sent.code, sender=by,
                                      group=sent.group, result=sent.result))
        if sender is not None and CLD_EXITED <= sent.code <= CLD_DUMPED and sender.dead and sender is not target:
            self._notice(sender.group, target, sent)

    def _notice(self, group: Group, target: Task, sent: Sent) -> None:
        """A dying task tells a parent of a child's end: the last such signal is about itself, see `deaths`."""
        ending = self._ends.get(group.leader)
        head = next((d for d in group.deaths if d.life == group.leader), None)
        if head is None or ending is None:
            return
        head.notice = sent
        # Who never had a child has none to tell of.
        if target.group is group.parent or group.childless:
            self._settle(ending)

    def _deliver(self, rec: Rec) -> None:
        f = rec.f
        self._judge.deliveries = True
        task = self._tasks.get(rec.pid)
        if task is None:
            return
        found = Delivered(rec, f["sig"], f["code"] or 0, f["sa_handler"], task.life)
        waiting = task.group.sent
        sent = next((s for s in waiting if s.sig == found.sig and (s.target == task.life or s.group)), None)
        if sent is not None:
            found.sent = sent
            sent.delivered, sent.handler = rec, found.handler
        if found.fatal:
            if not task.dead:
                task.death.fatal = found
        elif sent is not None:
            waiting.remove(sent)

    def _victim(self, rec: Rec) -> None:
        task = self._tasks.get(rec.f["pid"])
        if task is not None and not task.dead:
            task.death.victim = rec

    # ---- deaths ------------------------------------------------------------------------------------------------

    def _exit_group(self, rec: Rec) -> None:
        self._call(rec, rec.f["error_code"], True)

    def _exit_one(self, rec: Rec) -> None:
        self._call(rec, rec.f["error_code"], False)

    def _raw_exit(self, rec: Rec) -> None:
        if rec.f["args"]:
            self._call(rec, rec.f["args"][0], self._exit_numbers.get(rec.f["id"], True))

    def _call(self, rec: Rec, code: int | None, group: bool) -> None:
        task = self._tasks.current(rec)
        if task is not None and code is not None and not task.dead:
            task.death.call = ExitCall(rec, code & 0xFF, group)

    def _status(self, rec: Rec) -> None:
        task = self._tasks.current(rec)
        value = next((v for v in rec.f.values() if isinstance(v, int)), None)
        if task is not None and value is not None and not task.dead:
            task.death.status = value & 0xFFFFFFFF

    def _exit(self, rec: Rec) -> None:
        pid = rec.f["pid"] if rec.f["pid"] is not None else rec.pid
        known = self._tasks.known(pid)
        if known is not None and known.dead:
            # Somebody whose birth was not seen had the pid since.
            self._tasks.forget(known)
        task = self._tasks.get(pid, rec.f["comm"])
        if task is None:
            return
        group, call = task.group, task.death.call
        task.death.exit = rec
        self._tasks.bury(task)
        group.alive -= 1
        group.deaths.append(task.death)
        if len(group.deaths) > MOST:
            # Threads that came and went by themselves say nothing about how the group ends.
            group.deaths = [d for d in group.deaths if d.call is None or d.call.group or d.life == group.leader]
        told = rec.f["group_dead"]
        last = group.alive <= 0 if told is None else bool(told)
        if self.threads and not task.leads:
            self._wait(task, rec, sure=call is not None and not last)
        if last and not group.gone:
            group.gone = True
            called = any(d.call is not None and (d.call.group or group.ever == 1) for d in group.deaths)
            self._wait(group.head or task, rec,
                       sure=group.kthread or (called and all(d.fatal is None for d in group.deaths)))

    def _wait(self, task: Task, rec: Rec, *, sure: bool) -> None:
        """Put a death into its place; it waits unless it is certain what it was."""
        ending = _Ending(task, self._about(task, rec), self._now)
        self._queue.append(ending)
        self._waiting.append(ending)
        if task.leads:
            self._ends[task.life] = ending
        if sure:
            self._settle(ending)

    def _free(self, rec: Rec) -> None:
        task = self._tasks.known(rec.f["pid"])
        if task is not None and not task.dead and not self._ours(task.pid):
            self._tasks.forget(task)
        if task is None or not task.dead:
            return
        self._tasks.forget(task)
        ending = self._ends.get(task.life)
        if ending is not None:
            self._settle(ending)         # it is released: nobody is told any more
        if task.leads and not task.group.gone and task.death.exit is not None:
            # A leader is released last: the exit of another thread was not seen.
            task.group.gone = True
            late, self._late = self._late, True
            self._wait(task, task.death.exit, sure=True)
            self._late = late

    def _stack(self, rec: Rec) -> None:
        """The stack behind an exit: asked for where nothing else tells how the task ended."""
        task = self._tasks.known(rec.pid)
        if task is None or not task.dead or self._frames is None or task.group.kthread \
                or task.death.call is not None or task.death.fatal is not None:
            return
        callers = rec.f["caller"] or []
        if rec.f["size"] is not None:
            callers = callers[:max(rec.f["size"], 0)]
        task.death.stack = self._frames(callers)

    def _lost(self, rec: Rec) -> None:
        self._judge.lost = True
        self._tasks.losses += 1
        self._queue.append(Lost(at=rec.ts, cpu=rec.cpu, late=self._late, count=rec.f["count"]))

    # ---- judging -----------------------------------------------------------------------------------------------

    def _settle(self, ending: _Ending) -> None:
        """Judge a death now; of a group that has ended, all."""
        group, death = ending.task.group, ending.task.death
        if group.gone:
            self._verdicts(group, group.deaths)
            group.parent = None
            group.sent.clear()
        elif death.call is not None:
            self._verdicts(group, [death])
        else:
            self._verdicts(group, group.deaths, only=ending)
        if ending.shown is None:
            # Its death is not among those of its group any more: nothing is known of it.
            self._show(ending, Verdict())

    def _verdicts(self, group: Group, deaths: Sequence[Death], only: _Ending | None = None) -> None:
        """Judge deaths of a group and show those that wait, or one of them."""
        judge = self._judge
        judge.groups[group.leader] = group
        judge.judge(group.leader, sorted(deaths, key=lambda d: (d.at, d.life)))
        for e in [only] if only is not None else list(self._waiting):
            verdict = judge.verdicts.get(e.task.life)
            if e.task.group is group and verdict is not None:
                self._show(e, verdict)
        judge.groups.clear()
        judge.verdicts.clear()

    def _show(self, e: _Ending, verdict: Verdict) -> None:
        self._waiting.remove(e)
        task = e.task
        self._ends.pop(task.life, None)
        sent = next((s for s in reversed(task.group.sent)
                     if s.sig == verdict.signal and s.sender == verdict.killer), None)
        e.shown = Exited(
            **e.about, code=verdict.code, signal=verdict.signal, core=verdict.core, cause=verdict.cause,
            killer=sent.rec.f["by"] if sent is not None else None, si_code=sent.code if sent is not None else None,
            lived=None if task.born is None else e.at - task.born, inferred=tuple(verdict.inferred))
