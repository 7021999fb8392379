"""Reader of ``NAME.facts.txt`` and the judge of lives by it.

A facts file is what a workload wrote down while it was recorded: who forked whom, what waitpid() returned,
who killed whom, the parent after reparenting.  It knows nothing of the trace.  `disagreements` compares it
with the output of ``taskscope lives --json`` and returns one sentence for each thing that is wrong; an
unknown (null) is wrong only where `Evidence` says that the recording shows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Row = dict[str, Any]

#: How a workload made a child -> the ways of ``born.how`` that name it.  The exit signal is not among the
#: clone_flags of task_newtask, so a clone() that differs from fork() only by it looks like fork().
HOW = {
    "fork": {"fork"},
    "vfork": {"vfork"},
    "clone_newpid": {"clone"},
    "clone_vm": {"clone"},
    "clone_exitsig10": {"clone", "fork"},
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a facts file: a verb and its words."""

    verb: str
    words: dict[str, str]
    line: str

    def num(self, key: str) -> int:
        """Return a word as a number."""
        return int(self.words[key])

    def has(self, key: str) -> bool:
        """Tell whether the line has that word."""
        return key in self.words


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a recording shows besides sched, task and signal events; where False, null is right."""

    code: bool = False  # exit statuses: a probe on do_exit, or the exit_group system call
    reaper: bool = False  # release_task() function events, or returns of wait4
    births: bool = True  # all births are in it
    ends: bool = True  # all exits and signals are in it


def parse(text: str) -> list[Fact]:
    """Parse the text of a facts file."""
    facts = []
    for line in text.splitlines():
        verb, *words = line.split()
        if "=" in verb:  # subshell_exit=3
            verb, words = verb.split("=")[0], [f"value={verb.split('=')[1]}"]
        facts.append(Fact(verb, dict(w.split("=", 1) for w in words), line))
    return facts


def facts_of(recording: Path) -> Path | None:
    """Return the facts file of a recording, None if it has none."""
    inside = recording / "facts.txt"
    if inside.exists():
        return inside
    name = recording.name
    for ending in (".dat.xz", ".trace.txt", ".txt", ".dat"):
        name = name.removesuffix(ending)
    beside = recording.with_name(f"{name}.facts.txt")
    return beside if beside.exists() else None


def evidence_of(names: Iterable[str], *, births: bool = True, ends: bool = True) -> Evidence:
    """Tell from the names of the events that a recording holds what it can know."""
    have = set(names)
    return Evidence(
        code=bool(have & {"do_exit", "sys_enter_exit_group", "sys_enter"}),
        reaper=bool(have & {"wait4_ret", "sys_exit_wait4"}),
        births=births,
        ends=ends,
    )


@dataclass
class Judge:
    """Compares facts with lives; `wrong` collects what does not agree."""

    facts: list[Fact]
    lives: list[Row]
    evidence: Evidence
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.by_pid: dict[int, list[Row]] = defaultdict(list)
        for life in self.lives:
            self.by_pid[life["pid"]].append(life)
        for same in self.by_pid.values():
            same.sort(key=lambda r: int(r["generation"]))
        self.forked: dict[int, int] = defaultdict(int)  # births of a pid seen so far in the facts
        self.reaped: dict[int, int] = defaultdict(int)
        self.killed: dict[int, set[int]] = defaultdict(set)

    # ------------------------------------------------------------------ finding

    def say(self, fact: Fact, text: str) -> None:
        """Note a disagreement."""
        self.wrong.append(f"{fact.line}: {text}")

    def nth_born(self, pid: int, n: int) -> Row | None:
        """Return the n-th life of a pid that the recording saw being born."""
        born = [r for r in self.by_pid[pid] if r["born"]]
        return born[n] if n < len(born) else None

    def life(self, fact: Fact, pid: int, n: int | None = None) -> Row | None:
        """Return the life that a fact speaks of: the n-th birth of the pid, or its only life."""
        if any(f.verb == "fork" and f.num("child") == pid for f in self.facts):
            found = self.nth_born(pid, n if n is not None else max(self.forked[pid] - 1, 0))
            if found is None and self.by_pid[pid] and not self.evidence.births:
                found = self.by_pid[pid][0]
        else:
            found = self.by_pid[pid][0] if self.by_pid[pid] else None
        if found is None and self.evidence.births:
            self.say(fact, f"no such life of pid {pid}")
        return found

    # ------------------------------------------------------------------ verbs

    def run(self) -> list[str]:
        """Judge every fact; return what is wrong."""
        for fact in self.facts:
            handler = getattr(self, f"on_{fact.verb}", None)
            if handler:
                handler(fact)
        return self.wrong

    def on_start(self, f: Fact) -> None:
        """Hold the parent of a process that said it started."""
        if not f.has("ppid"):
            return
        life = self.life(f, f.num("pid"))
        if life and life["parent"] and life["parent"]["pid"] != f.num("ppid"):
            self.say(f, f"parent is {life['parent']}")

    def on_fork(self, f: Fact) -> None:
        """Hold creator, parent, way and kind of a birth."""
        child = f.num("child")
        n = self.forked[child]
        self.forked[child] += 1
        life = self.life(f, child, n)
        if life is None:
            return
        born = life["born"]
        if born is None:
            if self.evidence.births:
                self.say(f, "born is null")
            return
        if born["by"] is None or born["by"]["pid"] != f.num("parent"):
            self.say(f, f"born.by is {born['by']}")
        if life["parent"] is None or life["parent"]["pid"] != f.num("parent"):
            self.say(f, f"parent is {life['parent']}")
        if born["how"] not in HOW[f.words["how"]]:
            self.say(f, f"born.how is {born['how']}")
        if life["kind"] != "process" or life["tgid"] != child:
            self.say(f, f"kind is {life['kind']}, tgid {life['tgid']}")
        if f.words["how"] == "clone_exitsig10" and born["exit_signal"] not in (10, None):
            self.say(f, f"exit_signal is {born['exit_signal']}")

    def on_clone_parent(self, f: Fact) -> None:
        """Hold creator and parent of a child made with CLONE_PARENT."""
        life = self.life(f, f.num("child"))
        if life is None or life["born"] is None:
            self.say(f, "not born")
            return
        if life["born"]["by"] is None or life["born"]["by"]["pid"] != f.num("maker"):
            self.say(f, f"born.by is {life['born']['by']}")
        if life["parent"] is None or life["parent"]["pid"] != f.num("real_parent"):
            self.say(f, f"parent is {life['parent']}")
        if life["adopted"]:
            self.say(f, f"adopted is {life['adopted']}, although its real parent never changed")

    def on_thread(self, f: Fact) -> None:
        """Hold group, way and name of a thread."""
        life = self.life(f, f.num("tid"))
        if life is None:
            return
        if life["kind"] != "thread" or life["tgid"] != f.num("tgid"):
            self.say(f, f"kind is {life['kind']}, tgid {life['tgid']}")
        if life["born"] and life["born"]["how"] != "thread":
            self.say(f, f"born.how is {life['born']['how']}")
        if f.words["name"] not in [c["comm"] for c in life["comms"]]:
            self.say(f, f"comms are {life['comms']}")

    def on_kill(self, f: Fact) -> None:
        """Hold the signal and its sender."""
        target, sig = f.num("target"), f.num("sig")
        life = self.life(f, target)
        if life is None:
            return
        self.killed[target].add(sig)
        sent = [s for s in life["signals"] if s["sig"] == sig]
        senders = [s["from"]["pid"] if s["from"] else None for s in sent]
        if f.num("by") not in senders and (self.evidence.ends or sent):
            self.say(f, f"senders of that signal are {senders}")
        if any(s["code"] != 0 for s in sent):
            self.say(f, f"si_code is {[s['code'] for s in sent]}")
        ended = life["exit"]
        if ended and ended["signal"] == sig and ended["killer"] and ended["killer"]["pid"] != f.num("by"):
            self.say(f, f"exit.killer is {ended['killer']}")
        if ended and ended["signal"] == sig and not ended["killer"] and self.evidence.ends:
            self.say(f, "exit.killer is null")

    def on_reaped(self, f: Fact) -> None:
        """Hold the wait status and the reaper."""
        pid = f.num("pid")
        n = self.reaped[pid]
        self.reaped[pid] += 1
        life = self.life(f, pid, n)
        if life is None:
            return
        self._status(f, life)
        reaped = life["reaped"]
        if reaped and reaped["by"] and reaped["by"]["pid"] != f.num("by"):
            self.say(f, f"reaped.by is {reaped['by']}")
        if self.evidence.reaper and not (reaped and reaped["by"]):
            self.say(f, f"reaped is {reaped}")

    def on_end(self, f: Fact) -> None:
        """Hold the status that a process said it would exit with."""
        life = self.life(f, f.num("pid"))
        if life and life["exit"]:
            self._status(f, life)

    def _status(self, f: Fact, life: Row) -> None:
        ended = life["exit"]
        if ended is None:
            if self.evidence.ends:
                self.say(f, "exit is null")
            return
        if f.has("exit"):
            code = f.num("exit")
            if ended["signal"] is not None:
                self.say(f, f"exit.signal is {ended['signal']}")
            if ended["code"] != code and (ended["code"] is not None or self.evidence.code):
                self.say(f, f"exit.code is {ended['code']}")
            if ended["cause"] not in ("exit", "group_exit") and (ended["cause"] or self.evidence.ends):
                self.say(f, f"exit.cause is {ended['cause']}")
            if ended["core"]:
                self.say(f, "exit.core is true")
        elif f.has("signal"):
            if ended["signal"] != f.num("signal") and (ended["signal"] is not None or self.evidence.ends):
                self.say(f, f"exit.signal is {ended['signal']}")
            if ended["code"] is not None:
                self.say(f, f"exit.code is {ended['code']}")
            if ended["cause"] not in ("signal", "oom") and (ended["cause"] or self.evidence.ends):
                self.say(f, f"exit.cause is {ended['cause']}")
            if f.words.get("core") == "0" and ended["core"] is not False and self.evidence.ends:
                self.say(f, f"exit.core is {ended['core']}")

    def on_exit_group(self, f: Fact) -> None:
        """Hold the causes of the ends of a thread group."""
        caller, tgid = f.num("by_tid"), f.num("tgid")
        for life in self.lives:
            if life["tgid"] != tgid or not life["exit"]:
                continue
            ended = life["exit"]
            if ended["signal"] is not None or ended["killer"] is not None:
                self.say(f, f"{life['pid']}: exit.signal {ended['signal']}, killer {ended['killer']}")
            # Threads may end by themselves before; so all that is certain is who cannot have been swept away.
            wanted: tuple[str | None, ...] = ("exit",) if life["pid"] == caller else ("group_exit", "exit", None)
            if ended["cause"] not in wanted:
                self.say(f, f"{life['pid']}: exit.cause is {ended['cause']}")

    def on_leader_exit(self, f: Fact) -> None:
        """Hold that a leader ended by itself."""
        life = self.life(f, f.num("tgid"))
        if life and life["exit"] and life["exit"]["cause"] != "exit":
            self.say(f, f"exit.cause is {life['exit']['cause']}")

    def on_exec(self, f: Fact) -> None:
        """Hold an execve() by a thread that does not lead."""
        tgid, tid = f.num("tgid"), f.num("by_tid")
        life = self.life(f, tgid)
        if life is None:
            return
        if not any(e["old_pid"] == tid and e["filename"] == f.words["file"] for e in life["execs"]):
            self.say(f, f"execs are {life['execs']}")
        taker = self.life(f, tid)
        if taker and (not taker["exit"] or taker["exit"]["cause"] != "exec"):
            self.say(f, f"the thread's own exit is {taker['exit']}")
        for other in self.lives:
            if (
                other["kind"] == "thread"
                and other["tgid"] == tgid
                and other["pid"] != tid
                and (not other["exit"] or other["exit"]["cause"] != "exec")
            ):
                self.say(f, f"{other['pid']}: exit is {other['exit']}")

    def on_orphan(self, f: Fact) -> None:
        """Hold the new parent."""
        life = self.life(f, f.num("pid"))
        if life is None:
            return
        adopters = [a["by"]["pid"] for a in life["adopted"] if a["by"]]
        wanted = f.num("ppid_now")
        if adopters and adopters[-1] != wanted:
            self.say(f, f"adopted by {adopters}")
        # Its exit signal went to the new parent: so the recording shows who that is.
        told = any(
            s["sig"] == 17 and s["from"] and s["from"]["pid"] == life["pid"]
            for parent in self.by_pid[wanted]
            for s in parent["signals"]
        )
        if told and not adopters:
            self.say(f, "adopted is empty although SIGCHLD went to the new parent")

    def on_autoreap(self, f: Fact) -> None:
        """Hold the end of a child whose parent ignores SIGCHLD."""
        life = self.life(f, f.num("child"))
        if life is None:
            return
        if life["time"]["zombie"]:
            self.say(f, f"zombie for {life['time']['zombie']} ns")
        if life["reaped"] and life["reaped"]["by"] and life["reaped"]["by"]["pid"] != f.num("child"):
            self.say(f, f"reaped.by is {life['reaped']['by']}")
        if not life["exit"] or life["exit"]["signal"] is not None:
            self.say(f, f"exit is {life['exit']}")

    def on_subshell_exit(self, f: Fact) -> None:
        """Hold the status of a subshell."""
        codes = [r["exit"]["code"] for r in self.lives if r["exit"] and r["born"]]
        if f.num("value") not in codes and self.evidence.code:
            self.say(f, f"exit codes are {codes}")

    def on_switches(self, f: Fact) -> None:
        """Hold the kernel's own counts of a task, read shortly before its exit."""
        life = self.life(f, f.num("pid"))
        if life is None:
            return
        for kind in ("voluntary", "involuntary"):
            # The last switch of all, and what the exit waits for, come after the task's look at its counts.
            if not f.num(kind) <= life["switches"][kind] <= f.num(kind) + 5:
                self.say(f, f"switches are {life['switches']}")

    def on_storm(self, f: Fact) -> None:
        """Hold the number of births."""
        forks = [g for g in self.facts if g.verb == "fork"]
        if len(forks) != f.num("made"):
            self.say(f, f"{len(forks)} fork lines")
        pairs = {(r["pid"], r["generation"]) for r in self.lives if r["born"]}
        if len(pairs) < f.num("made"):
            self.say(f, f"only {len(pairs)} lives were born")


def disagreements(facts: list[Fact], lives: list[Row], evidence: Evidence) -> list[str]:
    """Return what the facts and the lives do not agree on, one sentence each; empty when all is right."""
    return Judge(facts, lives, evidence).run()
