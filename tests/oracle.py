"""A second, slow opinion on lives: one event at a time, from the text that another program made.

Reads ``trace-cmd report -R -t`` (or tracefs' own ``trace``), orders the events by time, cpu and place on
the cpu, and steps every task through its states in plain Python.  It shares nothing with taskscope but the
definitions:

- a state begins at: switch-in (running), switch-out (by prev_state), sched_wakeup and sched_wakeup_new of a
  task that is not running or runnable (runnable), birth (runnable), the last switch-out (zombie, or dead:
  no time);
- a task that existed before is in an unknown state from the start of the recording to its first event; the
  task that is current in the first record of a cpu runs there from that record on;
- what spans lost events is unknown from their start to the task's next event, except for a zombie, and for
  a task that runs on another cpu;
- where only some tasks were recorded, switches are missing: a task that leaves a cpu without having come there was
  in an unknown state before, and one whose cpu another task leaves was gone at some time after its last record there;
- a thread that calls execve() takes over the leader's pid at sched_process_exec, or at a moment since its last
  switch-in that `takeover` names; its own life ends there.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

STATES = (
    "running",
    "runnable",
    "sleeping",
    "blocked",
    "stopped",
    "traced",
    "parked",
    "idle",
    "zombie",
    "unknown",
)
#: prev_state since Linux 4.14: TASK_REPORT and TASK_REPORT_IDLE (include/linux/sched.h); 0x100 is "preempted"
BY_BIT = {
    0: "runnable",
    1: "sleeping",
    2: "blocked",
    4: "stopped",
    8: "traced",
    0x10: "dead",
    0x20: "zombie",
    0x40: "parked",
    0x80: "idle",
    0x100: "runnable",
}
BY_LETTER = {"R": 0, "S": 1, "D": 2, "T": 4, "t": 8, "X": 0x10, "Z": 0x20, "P": 0x40, "I": 0x80, "R+": 0x100}


class Event(NamedTuple):
    """One record: ns, cpu, the task that was current, whether an interrupt wrote it, name, fields."""

    ts: int
    cpu: int
    pid: int
    irq: bool
    name: str
    words: dict[str, str]


class Loss(NamedTuple):
    """Events of a cpu that were lost between two of its records."""

    cpu: int
    start: int
    end: int


@dataclass
class Text:
    """What a text holds: events in order, gaps."""

    events: list[Event]
    gaps: list[Loss]

    @property
    def start(self) -> int:
        """Return the time of the first record."""
        return self.events[0].ts

    @property
    def end(self) -> int:
        """Return the time of the last record."""
        return self.events[-1].ts


_REPORT = re.compile(r"^(?:\s*([\w.-]+):)?\s*(\S.*?|)-(\d+)\s+\[(\d+)\]\s*(\d+)(?:\.(\d{9}))?: (\w+):\s*(.*)$")
_TRACEFS = re.compile(
    r"^\s*(\S.*?|)-(\d+)\s+(?:\(\s*[\d-]+\)\s+)?\[(\d+)\]\s+(\S{4,6})\s+(\d+)\.(\d{6}): (\w+): ?(.*)$"
)
_DROPPED = re.compile(r"^CPU:(\d+) \[(?:(\d+) )?EVENTS DROPPED\]$")

# Where a comm stands, everything up to the next known key belongs to it: comms hold blanks and even "pid=".
_KEYS = {
    "sched_switch": (
        "prev_comm",
        "prev_pid",
        "prev_prio",
        "prev_state",
        "next_comm",
        "next_pid",
        "next_prio",
    ),
    "sched_wakeup": ("comm", "pid", "prio", "target_cpu"),
    "sched_migrate_task": ("comm", "pid", "prio", "orig_cpu", "dest_cpu"),
    "task_newtask": ("pid", "comm", "clone_flags", "oom_score_adj"),
    "task_rename": ("pid", "oldcomm", "newcomm", "oom_score_adj"),
    "sched_process_exec": ("filename", "pid", "old_pid"),
    "sched_process_exit": ("comm", "pid", "prio"),
    "sched_process_free": ("comm", "pid", "prio"),
}
_KEYS["sched_wakeup_new"] = _KEYS["sched_waking"] = _KEYS["sched_wakeup"]
_PATTERNS = {
    name: re.compile(r"\s+(?:==>\s+)?".join(f"{k}=(.*?)" for k in keys) + r"(?:\s+\w+=\S+)*\s*$")
    for name, keys in _KEYS.items()
}
_FORK = re.compile(r"(?:parent_)?comm=(.*) (?:parent_)?pid=(\d+) child_comm=(.*) child_pid=(\d+)\s*$")


def _words(name: str, body: str) -> dict[str, str]:
    if name == "sched_process_fork":
        m = _FORK.match(body)
        assert m, body
        return {"parent_pid": m[2], "child_pid": m[4]}
    if name in _KEYS:
        m = _PATTERNS[name].match(body)
        assert m, f"{name}: {body}"
        return dict(zip(_KEYS[name], m.groups(), strict=True))
    return dict(w.split("=", 1) for w in body.split() if "=" in w)


def read(lines: Iterable[str]) -> Text:
    """Read a text; lines that are no events (headers, stacks) are passed over."""
    events: list[Event] = []
    gaps: list[Loss] = []
    last: dict[int, int] = {}
    lost: set[int] = set()
    for line in lines:
        line = line.rstrip("\n")
        drop = _DROPPED.match(line)
        if drop:
            lost.add(int(drop[1]))
            continue
        m = _TRACEFS.match(line.replace("<stack trace>", "kernel_stack: "))
        if m:
            _, pid, cpu, flags, sec, frac, name, body = m.groups()
            ts, irq = int(sec) * 10**9 + int(frac) * 1000, flags[2] in "hHszZ"
        else:
            m = _REPORT.match(line)
            if not m:
                continue
            _, _, pid, cpu, sec, frac, name, body = m.groups()
            ts, irq = (int(sec) * 10**9 + int(frac) if frac else int(sec)), False
        c = int(cpu)
        if c in lost:
            lost.discard(c)
            gaps.append(Loss(c, last.get(c, ts), ts))
        last[c] = ts
        events.append(Event(ts, c, int(pid), irq, name, _words(name, body)))
    return Text(events, gaps)


def ordered(text: Text) -> Text:
    """Order the events of a binary recording by time; equal stamps of several cpus as cause and effect demand."""
    events: list[Event] = []
    on: dict[int, int] = {}  # pid -> the cpu that it runs on
    asleep: set[int] = set()
    for _, group in groupby(sorted(text.events, key=lambda e: (e.ts, e.cpu)), key=lambda e: e.ts):
        queues: dict[int, list[Event]] = defaultdict(list)
        for e in group:
            queues[e.cpu].append(e)
        while queues:
            heads = [q[0] for q in queues.values()]
            ready = (
                h for h in heads if not any(_before(o, h, on, asleep) for c in queues if c != h.cpu for o in queues[c])
            )
            e = next(ready, heads[0])
            events.append(e)
            if e.name == "sched_switch":
                off, into = int(e.words["prev_pid"]), int(e.words["next_pid"])
                on.pop(off, None)
                on[into] = e.cpu
                asleep.discard(into)
                if _bits(e) not in (0, 0x100):
                    asleep.add(off)
            elif e.name in ("sched_wakeup", "sched_wakeup_new"):
                asleep.discard(int(e.words["pid"]))
            elif e.name == "sched_process_fork":
                asleep.add(int(e.words["child_pid"]))  # until its sched_wakeup_new
            del queues[e.cpu][0]
            if not queues[e.cpu]:
                del queues[e.cpu]
    return Text(events, text.gaps)


def _before(o: Event, e: Event, on: dict[int, int], asleep: set[int]) -> bool:
    # Must o, on another cpu and with the same stamp, have happened before e?
    woken = int(e.words["pid"]) if e.name in ("sched_wakeup", "sched_wakeup_new") else None
    into = int(e.words["next_pid"]) if e.name == "sched_switch" else None
    if o.name in ("task_newtask", "sched_process_fork"):
        child = int(o.words["pid" if o.name == "task_newtask" else "child_pid"])
        return child in (e.pid, woken, into)
    if o.name == "sched_switch":
        off = int(o.words["prev_pid"])
        if woken is not None and woken not in asleep and woken in (off, int(o.words["next_pid"])):
            return True  # a wakeup of a task that is awake says nothing: it was woken from the sleep to come
        return off != 0 and on.get(off) == o.cpu and off == into
    if o.name in ("sched_wakeup", "sched_wakeup_new"):
        return into == int(o.words["pid"]) and into not in on
    return False


def _bits(e: Event) -> int:
    raw = e.words["prev_state"]
    return int(raw, 0) if raw[0].isdigit() else BY_LETTER[raw]


@dataclass
class Told:
    """What the oracle says of one life."""

    pid: int
    generation: int
    begin: int
    born: bool = False
    state: str = "unknown"
    cpu: int | None = None
    since: int = 0
    spans: list[tuple[int, int, str, int | None]] = field(default_factory=list)
    voluntary: int = 0
    involuntary: int = 0
    wakeups: int = 0
    migrations: int = 0
    cpus: set[int] = field(default_factory=set)
    forks: int = 0
    execs: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    final: int | None = None
    freed: int | None = None
    ended: int | None = None  # by losing its pid to an exec
    waking: tuple[int, int | None] | None = None  # the last sched_waking: when, by whom (None: an interrupt)
    woken: dict[int, tuple[int, int | None]] = field(default_factory=dict)  # sched_wakeup -> its sched_waking

    def to(self, ts: int, state: str, cpu: int | None = None) -> None:
        """Enter a state."""
        if self.state != "dead" and ts > self.since:
            self.spans.append((self.since, ts, self.state, self.cpu))
        self.state, self.since, self.cpu = state, ts, cpu

    @property
    def time(self) -> dict[str, int]:
        """Sum the spans by state."""
        sums: Counter[str] = Counter()
        for a, b, state, _ in self.spans:
            sums[state] += b - a
        return {s: sums[s] for s in STATES}


class Oracle:
    """Steps all tasks of a text through their states; the result is `lives`, by (pid, generation)."""

    def __init__(self, text: Text, takeover: dict[int, int] | None = None) -> None:
        self.text = text
        self.takeover = takeover or {}
        self.lives: dict[tuple[int, int], Told] = {}
        self.now: dict[int, Told] = {}
        self.all: dict[int, list[Told]] = defaultdict(list)
        self.told_birth: dict[int, int] = {}
        self.on: dict[int, Told] = {}  # who came to each cpu last
        self.seen_there: dict[int, int] = {}  # and when it was last seen there
        seen: set[int] = set()
        after_gap = {(g.cpu, g.end) for g in text.gaps}
        for e in text.events:
            if e.cpu not in seen or (e.cpu, e.ts) in after_gap:
                seen.add(e.cpu)
                after_gap.discard((e.cpu, e.ts))
                self._current(e)
            handler = getattr(self, f"_{e.name}", None)
            if handler:
                handler(e)
            running = self.on.get(e.cpu)
            if running is not None and running.pid == e.pid:
                self.seen_there[e.cpu] = e.ts
        for life in self.lives.values():
            if life.state != "dead" and life.ended is None and life.freed is None:
                life.to(text.end, "dead")
        for gap in text.gaps:
            for life in self.lives.values():
                life.spans = list(_spanning(life.spans, gap))

    # ------------------------------------------------------------------ which life

    def _new(self, pid: int, begin: int, generation: int | None = None) -> Told:
        life = Told(pid, len(self.all[pid]) if generation is None else generation, begin, since=begin)
        self.all[pid].append(life)
        self.now[pid] = life
        self.lives[pid, life.generation] = life
        return life

    def of(self, pid: int, cpu: int) -> Told:
        """Return the life that a pid means now; each cpu has an idle task of its own, all with pid 0."""
        if pid == 0:
            life = self.lives.get((0, cpu))
            return life or self._new(0, self.text.start, cpu)
        life = self.now.get(pid)
        return life or self._new(pid, self.text.start)

    def _current(self, e: Event) -> None:
        life = self.of(e.pid, e.cpu)
        if life.state != "running":
            life.to(e.ts, "running", e.cpu)
        life.cpus.add(e.cpu)

    # ------------------------------------------------------------------ events

    def _birth(self, pid: int, e: Event) -> None:
        creator = self.of(e.pid, e.cpu)
        if self.told_birth.get(pid) == e.pid and self.now[pid].state == "runnable":
            del self.told_birth[pid]  # task_newtask and sched_process_fork tell of the same birth
            return
        old = self.now.get(pid)
        if old is not None and old.state not in ("dead", "zombie"):
            old.to(e.ts, "dead")
        self.told_birth[pid] = e.pid
        life = self._new(pid, e.ts)
        life.born, life.state = True, "runnable"
        creator.forks += 1

    def _task_newtask(self, e: Event) -> None:
        self._birth(int(e.words["pid"]), e)

    def _sched_process_fork(self, e: Event) -> None:
        self._birth(int(e.words["child_pid"]), e)

    def _sched_switch(self, e: Event) -> None:
        bits = _bits(e)
        state = BY_BIT[bits if bits in BY_BIT else bits & 0x100 or bits & -bits]
        out, into = self.of(int(e.words["prev_pid"]), e.cpu), self.of(int(e.words["next_pid"]), e.cpu)
        if bits == 0 or bits & 0x100:
            out.involuntary += 1
        else:
            out.voluntary += 1
        out.cpus.add(e.cpu)
        into.cpus.add(e.cpu)
        gone = self.on.get(e.cpu)
        if gone is not None and gone is not out and (gone.state, gone.cpu) == ("running", e.cpu):
            gone.to(self.seen_there[e.cpu], "unknown")
        self.on[e.cpu], self.seen_there[e.cpu] = into, e.ts
        if (out.state, out.cpu) != ("running", e.cpu):
            out.state = "unknown"
        out.to(e.ts, state)
        if state in ("dead", "zombie"):
            out.final = e.ts
        into.to(e.ts, "running", e.cpu)

    def _sched_waking(self, e: Event) -> None:
        self.of(int(e.words["pid"]), e.cpu).waking = (e.ts, None if e.irq or e.pid == 0 else e.pid)

    def _woken(self, e: Event) -> None:
        life = self.of(int(e.words["pid"]), e.cpu)
        life.wakeups += 1
        waking, life.waking = life.waking, None
        if life.state not in ("running", "runnable", "dead", "zombie"):
            if waking is not None:
                life.woken[e.ts] = waking
            life.to(e.ts, "runnable")

    _sched_wakeup = _sched_wakeup_new = _woken

    def _sched_migrate_task(self, e: Event) -> None:
        self.of(int(e.words["pid"]), e.cpu).migrations += 1

    def _sched_process_exit(self, e: Event) -> None:
        self.of(int(e.words["pid"]), e.cpu).exits.append(e.ts)

    def _sched_process_exec(self, e: Event) -> None:
        pid, old = int(e.words["pid"]), int(e.words["old_pid"])
        life = self.of(pid, e.cpu)
        life.execs.append(e.words["filename"])
        if pid != old:
            thread = self.of(old, e.cpu)
            at = self.takeover.get(old, e.ts)
            assert thread.since <= at <= e.ts, f"{old} became {pid} at {at}"
            thread.to(at, "dead")
            thread.ended = at
            life.to(at, "running", e.cpu)
            life.exits.clear()
            life.final = None

    def _sched_process_free(self, e: Event) -> None:
        pid = int(e.words["pid"])
        waiting = [x for x in self.all[pid] if x.freed is None]
        life = waiting[0] if waiting else self._new(pid, self.text.start)
        life.to(e.ts, "dead")
        life.freed = e.ts


def _spanning(spans: list[tuple[int, int, str, int | None]], gap: Loss) -> Iterator[tuple[int, int, str, int | None]]:
    for a, b, state, cpu in spans:
        spared = state in ("zombie", "unknown") or (state == "running" and cpu != gap.cpu)
        if spared or a >= gap.end or b <= gap.start:
            yield a, b, state, cpu
            continue
        if gap.start > a:
            yield a, gap.start, state, cpu
        yield max(a, gap.start), b, "unknown", None
