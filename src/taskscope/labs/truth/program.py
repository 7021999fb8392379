"""Programs of processes, and their transcripts.

A program is one script per actor (a process; 0 is the reaper that everything runs under) of operations over symbolic
names: ``@3`` is the pid of actor 3, ``-@3`` the process group that it leads or led.  Every operation has a serial
number in one order of all of them; a transcript is one line per serial number: what the operation returned, with pids
written as names, so that transcripts of different kernels, schedules and pid spaces compare as text.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

#: an operation of a script: [serial number, name, arguments…]; fences have serial -1
Item = list[Any]
#: what an operation returned: result or -errno, and what it wrote elsewhere; None: it never returned
Raw = tuple[int, tuple[int, ...] | bytes] | None

#: what the operations returned, by serial number; more lines say what went wrong as a whole
Transcript = list[str | None]

#: operations whose result is a pid
PID_RESULTS: Final = frozenset({"fork", "getpid", "getppid", "gettid", "getpgid", "getsid", "setsid", "wait4"})
#: operations that tell of signals: signal, code, sender, value of each
SIGINFO_RESULTS: Final = frozenset({"caught", "sigwait"})
#: between processes of a program: "tok" writes a token into another's pipe, "await" blocks until one has come, "gone"
#: until a process that releases itself has done so
FENCES: Final = frozenset({"tok", "await", "gone"})


class Program(NamedTuple):
    """A program: scripts of the actors, and what the reference says that its operations return."""

    scripts: list[list[Item]]
    expected: list[str | None]
    seed: str = ""

    @property
    def operations(self) -> int:
        """How many operations there are, fences not counted."""
        return len(self.expected)

    def to_json(self) -> str:
        """Write it as one line."""
        return json.dumps([self.scripts, self.expected, self.seed], separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> Program:
        """Read what `to_json` wrote."""
        scripts, expected, seed = json.loads(line)
        return cls(scripts, expected, seed)

    def ordered(self) -> list[tuple[int, Item]]:
        """Return (actor, item) in the order of serial numbers, fences before the operation that they precede."""
        merged: list[tuple[int, int, int, Item]] = []
        for actor, script in enumerate(self.scripts):
            serial = len(self.expected)
            for at in range(len(script) - 1, -1, -1):
                item = script[at]
                if item[0] >= 0:
                    serial = item[0]
                merged.append((serial, actor, at, item))
        return [(actor, item) for _, actor, _, item in sorted(merged, key=lambda entry: entry[:3])]

    def text(self, *transcripts: Sequence[str | None], fences: bool = False) -> str:
        """Write it down for people, one operation a line in an order that is right, with what each transcript says."""
        lines = []
        for actor, item in self.ordered():
            serial, name, *args = item
            if serial < 0:
                if fences:
                    lines.append(f"     @{actor}  {name} {' '.join(map(str, args))}")
                continue
            results = [show(t[serial]) if serial < len(t) else "?" for t in transcripts or (self.expected,)]
            mark = " " if len(set(results)) == 1 else "*"
            shown = results[:1] if mark == " " else results
            lines.append(f"{mark}{serial:>3}  @{actor}  {spell(name, args)}  ->  {'   |   '.join(shown)}")
        lines += [f"*     {show(line)}" for t in transcripts for line in t[self.operations :]]
        return "\n".join(lines)


def show(result: str | None) -> str:
    """Write one line of a transcript; an operation that never returned is a dash."""
    return "-" if result is None else result


def spell(name: str, args: Sequence[Any]) -> str:
    """Write an operation as a call."""
    if name == "fork":
        child, flags, how = args
        return f"clone({flags:#x}) = @{child} [{how}]" if flags != 17 else f"fork() = @{child} [{how}]"
    shown = [f"{arg:#x}" if isinstance(arg, int) and arg > 64 else str(arg) for arg in args]
    return f"{name}({', '.join(shown)})"


def signals(mask: int) -> str:
    """Write a set of signals."""
    return "{" + " ".join(str(sig) for sig in range(1, 65) if mask >> sig - 1 & 1) + "}"


def name_of(pid: int, names: Mapping[int, str]) -> str:
    """Return the symbolic name of a pid; a pid that is nobody's is shown as it is."""
    return names.get(pid) or ("0" if pid == 0 else f"?{pid}")


def render(item: Item, raw: Raw, names: Mapping[int, str], uid: int = 0) -> str | None:
    """Write what an operation returned, in symbolic names.

    :param names: pid -> name of everything that was created
    :param uid: the user that the program runs as; written as "me"
    """
    if raw is None:
        return None
    ret, more = raw
    if ret < 0:
        return errno.errorcode.get(-ret, f"errno {-ret}")
    name = item[1]
    if name == "wait4":
        assert isinstance(more, tuple)
        return f"{name_of(ret, names)} {more[0]:#06x}" if ret else "0"
    if name == "waitid":
        if not more:
            return "nothing"
        assert isinstance(more, tuple)
        pid, who, signo, status, code = more
        owner = "me" if who == uid else str(who)
        return f"{name_of(pid, names)} code {code} status {status} signo {signo} uid {owner}"
    if name == "stat":
        assert isinstance(more, bytes)
        head, _, tail = more.decode("latin-1").rpartition(") ")
        state, parent, group, session, signal = tail.split()
        pids = " ".join(name_of(int(pid), names) for pid in (parent, group, session))
        return f"{head}) {state} {pids} {signal}"
    if name in SIGINFO_RESULTS:
        assert isinstance(more, tuple)
        found = [f"{more[n]} code {more[n + 1]} from {name_of(more[n + 2], names)} value {more[n + 3]}"
                 for n in range(0, len(more), 4)]
        return "; ".join(found) or "none"
    if name in ("mask", "pend"):
        assert isinstance(more, tuple)
        return signals(more[0])
    if isinstance(more, bytes):
        return repr(more.decode("latin-1"))
    if name == "fork" and more:
        assert isinstance(more, tuple)
        return f"{name_of(ret, names)} {name_of(more[0], names)}"
    if name in PID_RESULTS:
        return name_of(ret, names)
    return " ".join(str(number) for number in (ret, *more))


def transcript(program: Program, raws: Sequence[Raw], pids: Iterable[int], uid: int = 0) -> Transcript:
    """Write the transcript of a run.

    :param raws: what the operations returned, by serial number
    :param pids: the actors' pids, 0 where an actor was never born
    """
    names = {pid: f"@{actor}" for actor, pid in enumerate(pids) if pid}
    lines: Transcript = [None] * program.operations
    for script in program.scripts:
        for item in script:
            if item[0] >= 0:
                lines[item[0]] = render(item, raws[item[0]], names, uid)
    return lines
