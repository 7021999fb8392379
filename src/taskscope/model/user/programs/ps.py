"""ps: the process table, from /proc, as procps prints it: -e, -f, -ely, -ejH, -axjf and their BSD spellings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from taskscope.model.user.libc import Sys

USER_HZ = 100


class Proc(NamedTuple):
    """What ps needs of one process."""

    pid: int
    comm: str
    state: str
    ppid: int
    pgid: int
    sid: int
    tty: str
    tpgid: int
    ticks: int
    priority: int
    nice: int
    threads: int
    start: int
    size_kib: int
    rss_kib: int
    uid: int
    wchan: str
    cmdline: str


def main(sys: Sys, argv: list[str]) -> int:
    """Print the table that the options ask for."""
    flags = "".join(arg.lstrip("-") for arg in argv[1:])
    if not set(flags) <= set("AelyjHaxfuw"):
        sys.perror("ps: the formats known here are -e, -ef, -ely, -ejH and axjf")
        return 1
    uptime = float(sys.slurp("/proc/uptime").split()[0])
    found = list(processes(sys))
    if not set(flags) & set("Aeax"):
        tty = next((p.tty for p in found if p.pid == sys.getpid()), "?")
        found = [p for p in found if p.tty == tty]
    if "l" in flags:
        _print(
            sys,
            "S   UID   PID  PPID  C PRI  NI   RSS    SZ WCHAN  TTY          TIME CMD",
            (_long(p, uptime) for p in found),
        )
    elif "j" in flags and ("x" in flags or "a" in flags):
        _print(
            sys,
            " PPID   PID  PGID   SID TTY      TPGID STAT   UID   TIME COMMAND",
            (_jobs_bsd(p, lead) for p, _, lead in forest(found)),
        )
    elif "j" in flags:
        _print(sys, "  PID  PGID   SID TTY          TIME CMD", (_jobs(p, depth) for p, depth, _ in forest(found)))
    elif "f" in flags:
        _print(sys, "UID        PID  PPID  C STIME TTY          TIME CMD", (_full(p, uptime) for p in found))
    else:
        _print(sys, "  PID TTY          TIME CMD", (f"{p.pid:5d} {p.tty:<8} {clock(p.ticks)} {name(p)}" for p in found))
    return 0


def _print(sys: Sys, header: str, lines: Iterator[str]) -> None:
    sys.puts(header)
    for line in lines:
        sys.puts(line)


def processes(sys: Sys) -> Iterator[Proc]:
    """Read every process; one that goes away meanwhile is left out."""
    for pid in sorted(int(entry) for entry in sys.listdir("/proc") if entry.isdigit()):
        try:
            stat = sys.slurp(f"/proc/{pid}/stat").decode()
            status = dict(line.split(":\t", 1) for line in sys.slurp(f"/proc/{pid}/status").decode().splitlines())
            wchan = sys.slurp(f"/proc/{pid}/wchan").decode()
            cmdline = sys.slurp(f"/proc/{pid}/cmdline").decode().replace("\0", " ").rstrip()
        except OSError:
            continue
        comm = stat[stat.index("(") + 1 : stat.rindex(")")]
        f = stat[stat.rindex(")") + 2 :].split()
        yield Proc(
            pid,
            comm,
            f[0],
            int(f[1]),
            int(f[2]),
            int(f[3]),
            tty_name(int(f[4])),
            int(f[5]),
            int(f[11]) + int(f[12]),
            int(f[15]),
            int(f[16]),
            int(f[17]),
            int(f[19]),
            int(f[20]) // 1024,
            int(f[21]) * 4,
            int(status["Uid"].split()[1]),
            wchan,
            cmdline,
        )


def tty_name(dev: int) -> str:
    """Return a terminal's name from its number."""
    major, minor = dev >> 8 & 0xFFF, dev & 0xFF
    return {0: "?", 4: f"tty{minor}", 136: f"pts/{minor}"}.get(major, "?")


def name(p: Proc) -> str:
    """Return the name as CMD shows it."""
    return f"{p.comm} <defunct>" if p.state == "Z" else p.comm


def command(p: Proc) -> str:
    """Return the arguments, or the bracketed name of what has none."""
    if p.state == "Z":
        return f"[{p.comm}] <defunct>"
    return p.cmdline or f"[{p.comm}]"


def clock(ticks: int) -> str:
    """Write cpu time as hh:mm:ss."""
    seconds = ticks // USER_HZ
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def usage(p: Proc, uptime: float) -> int:
    """Return C: cpu time as a percentage of the process's age."""
    age = uptime - p.start / USER_HZ
    return min(99, int(p.ticks / USER_HZ / age * 100)) if age > 0 else 0


def _long(p: Proc, uptime: float) -> str:
    wchan = "-" if p.wchan == "0" else p.wchan[:6]
    nice = f"{p.nice:3d}" if p.priority >= 0 else "  -"
    return (
        f"{p.state} {p.uid:5d} {p.pid:5d} {p.ppid:5d} {usage(p, uptime):2d} {60 + p.priority:3d} {nice} {p.rss_kib:5d} "
        f"{p.size_kib // 4:5d} {wchan:<6} {p.tty:<8} {clock(p.ticks)} {name(p)}"
    )


def _jobs(p: Proc, depth: int) -> str:
    return f"{p.pid:5d} {p.pgid:5d} {p.sid:5d} {p.tty:<8} {clock(p.ticks)} {'  ' * depth}{name(p)}"


def _jobs_bsd(p: Proc, lead: str) -> str:
    stat = p.state + ("<" if p.nice < 0 else "N" if p.nice > 0 else "")
    stat += (
        ("s" if p.sid == p.pid and p.sid else "")
        + ("l" if p.threads > 1 else "")
        + ("+" if p.tpgid == p.pgid and p.pgid > 0 else "")
    )
    seconds = p.ticks // USER_HZ
    return (
        f"{p.ppid:5d} {p.pid:5d} {p.pgid:5d} {p.sid:5d} {p.tty:<8} {p.tpgid:5d} {stat:<4} {p.uid:5d} "
        f"{f'{seconds // 60}:{seconds % 60:02d}':>6} {lead}{command(p)}"
    )


def _full(p: Proc, uptime: float) -> str:
    uid = "root" if p.uid == 0 else str(p.uid)
    return f"{uid:<8} {p.pid:5d} {p.ppid:5d} {usage(p, uptime):2d} 00:00 {p.tty:<8} {clock(p.ticks)} {command(p)}"


def forest(found: list[Proc]) -> Iterator[tuple[Proc, int, str]]:
    """Yield (process, depth, what ps f draws before its name), children under their parents."""
    pids = {p.pid for p in found}
    children: dict[int, list[Proc]] = {}
    for p in found:
        children.setdefault(p.ppid if p.ppid in pids and p.ppid != p.pid else 0, []).append(p)
    stack = [(p, 0, "", k == len(children.get(0, [])) - 1) for k, p in reversed(list(enumerate(children.get(0, []))))]
    while stack:
        p, depth, before, last = stack.pop()
        yield p, depth, "" if depth == 0 else f"{before} \\_ "
        under = "" if depth == 0 else before + ("    " if last else " |  ")
        kids = children.get(p.pid, [])
        stack += [(kid, depth + 1, under, k == len(kids) - 1) for k, kid in reversed(list(enumerate(kids)))]
