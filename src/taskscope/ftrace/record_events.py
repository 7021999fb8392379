"""Which events a recorder enables: the set from which lives are built, and what ``-e`` and ``--trigger`` ask for.

An event is asked for as SYSTEM, SYSTEM:EVENT or EVENT, each with the globs of a shell, and a filter may follow after
one more colon: ``sched:sched_waking:comm == "kthreadd"``, ``sched_waking:pid > 100``.  A word that is followed by a
colon or the end is an event; anything else is a filter, in the syntax of Documentation/trace/events.rst, and is given
to the kernel as it is.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from taskscope.errors import UsageError
from taskscope.ftrace.tracefs import KernelRefusedError

#: lives are built from these (what a kernel does not have is left out)
_LIVES = (
    "sched:sched_switch", "sched:sched_waking", "sched:sched_wakeup", "sched:sched_wakeup_new",
    "sched:sched_migrate_task", "sched:sched_process_fork", "sched:sched_process_exec", "sched:sched_prepare_exec",
    "sched:sched_process_exit", "sched:sched_process_free", "sched:sched_process_wait", "sched:sched_process_hang",
    "task:task_newtask", "task:task_rename", "signal:signal_generate", "signal:signal_deliver", "oom:mark_victim",
)
#: the system calls that create, change, signal, await and end tasks
SYSCALLS = (
    "clone", "clone3", "fork", "vfork", "execve", "execveat", "exit", "exit_group", "wait4", "waitid", "waitpid",
    "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal", "prctl", "setpgid",
    "setsid", "ptrace",
)
#: without these there is no recording of lives at all
_NEEDED = ("sched:sched_switch", "sched:sched_process_exit")
IRQ = ("irq:irq_handler_entry", "irq:irq_handler_exit", "irq:softirq_*", "irq_vectors:*_entry", "irq_vectors:*_exit")
#: about a task that need not be the one that runs then (`taskscope.ftrace.record_outside`)
_OUTSIDE = ("signal/signal_generate", "sched/sched_process_free", "sched/sched_process_wait", "oom/mark_victim")
#: rare, and worth a call stack each
STACKS = (
    "task:task_newtask", "sched:sched_process_fork", "sched:sched_process_exec", "sched:sched_process_exit",
    "sched:sched_process_free", "signal:signal_generate", "signal:signal_deliver",
)
_WORD = r"[\w*?\[\]-]+"
_SPEC = re.compile(rf"({_WORD})(?:[:/]({_WORD})(?=:|$))?(?::(.*))?", re.DOTALL)


@dataclass(slots=True)
class Chosen:
    """What to enable: filter by event (``system/event``), and triggers as (event, text)."""

    events: dict[str, str] = field(default_factory=dict)
    triggers: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Events:
    """The events that a kernel has.

    :param lines: of its ``available_events``
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.all = sorted(line.replace(":", "/") for line in lines if not line.startswith("ftrace:"))

    @classmethod
    def of(cls, tracefs: Path) -> Events:
        """Return those of the kernel whose tracefs is mounted there."""
        try:
            lines = (tracefs / "available_events").read_text(errors="backslashreplace").split()
        except OSError:
            lines = [f"{p.parent.parent.name}:{p.parent.name}" for p in tracefs.glob("events/*/*/enable")]
        return cls(lines)

    def __contains__(self, event: str) -> bool:
        return event.replace(":", "/") in self.all

    def find(self, system: str, event: str) -> list[str]:
        """Return the events that fit two patterns."""
        return [e for e in self.all if fnmatch.fnmatchcase(e.split("/")[0], system)
                and fnmatch.fnmatchcase(e.split("/")[1], event)]

    def asked(self, spec: str) -> tuple[list[str], str]:
        """Return the events that ``-e SPEC`` means, and its filter.

        :raises UsageError: there is none; names that come near are named
        """
        m = _SPEC.fullmatch(spec.strip())
        if m is None:
            raise UsageError(f"-e {spec!r} is no event; it is SYSTEM, SYSTEM:EVENT or EVENT, and a filter may follow: "
                             "-e 'sched:sched_waking:prio < 100'")
        first, second, filter_ = m[1], m[2], (m[3] or "").strip()
        if second is not None:
            events = self.find(first, second)
        else:
            events = self.find(first, "*") or self.find("*", first)
        if not events:
            raise UsageError(f"this kernel has no event {first if second is None else f'{first}:{second}'!r}"
                             f"{self._near(first, second)}")
        return events, filter_

    def _near(self, first: str, second: str | None) -> str:
        names = [e.split("/")[1] for e in self.all]
        systems = sorted({e.split("/")[0] for e in self.all})
        close = difflib.get_close_matches(second or first, names, n=3, cutoff=0.6)
        found = [next(e.replace("/", ":") for e in self.all if e.endswith(f"/{n}")) for n in close]
        if second is None or not found:
            found += difflib.get_close_matches(first, systems, n=2)
        found = list(dict.fromkeys(found))
        return f"; did you mean {' or '.join(found)}?" if found else "; all are listed in its available_events"


def default_events(events: Events, machine: str) -> Chosen:
    """Return the events from which lives are built, as far as the kernel has them.

    :raises UsageError: it lacks those without which there are no lives
    """
    missing = [e for e in _NEEDED if e not in events]
    if missing:
        raise UsageError(f"this kernel has no event {missing[0]}; without it no lives can be recorded (is it built "
                         "with CONFIG_EVENT_TRACING?). Name events that it has: -e EVENT")
    chosen = Chosen({e.replace(":", "/"): "" for e in _LIVES if e in events})
    calls = [f"syscalls/sys_{side}_{name}" for name in SYSCALLS for side in ("enter", "exit")]
    found = [c for c in calls if c in events]
    if found:
        chosen.events |= dict.fromkeys(found, "")
    elif "raw_syscalls:sys_enter" in events and (text := _raw_filter(machine)):
        chosen.events |= {"raw_syscalls/sys_enter": text, "raw_syscalls/sys_exit": text}
        chosen.notes.append("this kernel has no events of single system calls: raw_syscalls is recorded for those of "
                            "processes instead")
    else:
        chosen.notes.append("this kernel has no events of system calls: exit codes and who waited stay unknown")
    return chosen


def _raw_filter(machine: str) -> str:
    from taskscope.abi.syscalls import call_of_name

    try:
        calls = [call_of_name(machine, name) for name in SYSCALLS]
    except UsageError:               # an architecture whose numbers are not known
        return ""
    return " || ".join(f"id == {call.number}" for call in calls if call is not None)


def choose(events: Events, machine: str, asked: Sequence[str], *, irq: bool = False, stacks: str = "rare",
           triggers: Iterable[str] = ()) -> Chosen:
    """Work out what to enable.

    :param machine: as uname(2) calls it
    :param asked: the values of ``-e``; none stands for ``default``
    :param irq: interrupts and softirqs too
    :param stacks: ``rare`` for triggers on `STACKS`, anything else for none
    :param triggers: the values of ``--trigger``: ``EVENT:COMMAND[ if FILTER]``
    :raises UsageError: the kernel has no such event
    """
    chosen = Chosen()
    for spec in asked or ("default",):
        if spec == "default":
            more = default_events(events, machine)
            chosen.events |= {e: f for e, f in more.events.items() if e not in chosen.events}
            chosen.notes += more.notes
            continue
        names, filter_ = (events.all, "") if spec == "all" else events.asked(spec)
        for name in names:
            if chosen.events.get(name) and filter_ and chosen.events[name] != filter_:
                raise UsageError(f"two filters for {name.replace('/', ':')}; join them: (…) && (…)")
            chosen.events[name] = filter_ or chosen.events.get(name, "")
    if irq:
        wanted = [e for spec in IRQ for e in events.find(*spec.split(":"))]
        if not wanted:
            chosen.notes.append("this kernel has no events of interrupts: --irq records nothing")
        chosen.events |= {e: "" for e in wanted if e not in chosen.events}
    if stacks == "rare":
        chosen.triggers = [(e, "stacktrace") for s in STACKS if (e := s.replace(":", "/")) in chosen.events]
    for text in triggers:
        event, command = _trigger(events, text)
        chosen.events.setdefault(event, "")
        # The kernel takes one trigger of a kind: what was asked for takes the place of ours.
        kind = re.match(r"\w*", command)
        chosen.triggers = [(e, c) for e, c in chosen.triggers if e != event or kind is None or c != kind[0]]
        chosen.triggers.append((event, command))
    return chosen


def apart(chosen: Chosen, asked: Iterable[str]) -> Chosen:
    """Take out the events about a task that others cause, and return them: they need the second instance.

    One that has a trigger of the user's stays: a trigger means the instance that it is in.

    :param asked: the values of ``--trigger``
    """
    kept = {e for e, command in chosen.triggers for text in asked if text.endswith(command)}
    names = [e for e in chosen.events if e in _OUTSIDE and e not in kept]
    other = Chosen({e: chosen.events.pop(e) for e in names}, [t for t in chosen.triggers if t[0] in names])
    chosen.triggers = [t for t in chosen.triggers if t[0] not in names]
    return other


def _trigger(events: Events, text: str) -> tuple[str, str]:
    parts = text.split(":")
    for k in (2, 1):
        if len(parts) > k:
            name, command = parts[:k], ":".join(parts[k:]).strip()
            found = events.find(*name) if k == 2 else events.find("*", name[0])
            if found and command:
                if len(found) > 1:
                    raise UsageError(f"--trigger {text!r}: {name[-1]} means {len(found)} events; name one")
                return found[0], command
    if len(parts) > 1:
        events.asked(":".join(parts[:1]))      # says which names come near
    raise UsageError(f"--trigger {text!r} is none; it is EVENT:COMMAND with an optional condition, such as "
                     "'sched_waking:stacktrace if comm == \"kthreadd\"'")


class Knobs(Protocol):
    """An instance's files, wherever its kernel is; see `taskscope.ftrace.tracefs.Instance`."""

    def write(self, name: str, text: str) -> None:
        """Write one knob; raises KernelRefusedError."""

    def try_write(self, name: str, text: str) -> bool:
        """Write a knob that some kernels lack; tell whether it took."""

    def read(self, name: str) -> bytes:
        """Read one file, b"" if it is not there."""


def enable(instance: Knobs, chosen: Chosen) -> list[str]:
    """Write filters, triggers and enables into an instance; return notes about what the kernel refused.

    :raises UsageError: it refuses a filter or a trigger; its own explanation is in the message
    """
    notes: list[str] = []
    filters: dict[str, list[str]] = {}
    for event, text in chosen.events.items():
        if text:
            filters.setdefault(text, []).append(event)
    dropped: set[str] = set()
    for text, names in filters.items():
        refused: KernelRefusedError | None = None
        bad = []
        for event in names:
            try:
                instance.write(f"events/{event}/filter", text)
            except KernelRefusedError as e:
                refused = e
                bad.append(event)
        if refused is not None and len(bad) == len(names):
            raise UsageError(f"the kernel refuses the filter of {bad[0].replace('/', ':')}: {text}{told(refused)}")
        if bad:
            notes.append(f"not recorded, as the filter {text!r} does not fit: {', '.join(_colon(bad))}")
            dropped.update(bad)
    for event, text in chosen.triggers:
        if event in dropped:
            continue
        try:
            instance.write(f"events/{event}/trigger", text)
        except KernelRefusedError as e:
            offers = instance.read(f"events/{event}/trigger").decode("utf-8", "replace")
            m = re.search(r"Available triggers:\s*\n#(.*)", offers)
            has = f" (this kernel has: {', '.join(m[1].split())})" if m else ""
            raise UsageError(f"the kernel refuses the trigger of {event.replace('/', ':')}: {text}{has}"
                             f"{told(e)}") from e
    failed = [event for event in chosen.events if event not in dropped
              and not instance.try_write(f"events/{event}/enable", "1")]
    if failed:
        if len(failed) == len(chosen.events):
            raise UsageError(f"the kernel refuses to enable {', '.join(_colon(failed[:5]))}")
        notes.append(f"the kernel refuses to enable {', '.join(_colon(failed[:5]))}"
                     f"{f' and {len(failed) - 5} more' if len(failed) > 5 else ''}: not recorded")
    for event in failed:
        dropped.add(event)
    for event in dropped:
        chosen.events.pop(event, None)
    return notes


def _colon(events: Iterable[str]) -> list[str]:
    return [e.replace("/", ":") for e in events]


def told(refused: KernelRefusedError) -> str:
    """Return the kernel's last explanation with its mark, on lines of their own; "" if it gave none."""
    entries = re.split(r"^\[ *\d+\.\d+\] ", refused.log, flags=re.MULTILINE)
    last = entries[-1].rstrip("\n")
    if not last.strip():
        return ""
    return "\n" + "\n".join(f"  {line}" for line in last.split("\n"))
