"""Operations on signals for random programs: numbers of a step become calls that make sense where they stand."""

from __future__ import annotations

from typing import Final

from taskscope.labs.truth.fences import Builder
from taskscope.labs.truth.program import Item
from taskscope.labs.truth.shadow import World
from taskscope.labs.truth.shadow_signals import bit, pending
from taskscope.labs.truth.shadow_state import (
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    SA_NODEFER,
    SA_RESETHAND,
    SA_RESTART,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGKILL,
    SIGSTOP,
    SIGTSTP,
    SkipError,
)

SIGTERM, SIGUSR1, SIGUSR2, SIGURG, RT = 15, 10, 12, 23, 34

#: what programs block, catch, ignore and send
PLAYED: Final = (SIGUSR1, SIGUSR2, SIGTERM, RT, RT + 1, RT + 2, SIGHUP, SIGCONT, SIGUSR1, RT, SIGURG, SIGCHLD, SIGTSTP)
FLAGS: Final = (0, SA_RESTART, SA_NODEFER, SA_RESETHAND, SA_RESTART | SA_NODEFER, SA_NODEFER | SA_RESETHAND, 0)
CHLD_FLAGS: Final = (SA_NOCLDWAIT, SA_NOCLDSTOP, SA_RESTART, SA_NOCLDWAIT | SA_NOCLDSTOP)
SETS: Final = tuple(
    sum(map(bit, some)) for some in (
        (SIGUSR1,), (SIGUSR1, SIGUSR2), (RT, RT + 1), (SIGUSR1, SIGTERM, RT), (SIGHUP, SIGCONT), (SIGCHLD,), PLAYED[:6],
        (SIGTERM, RT, RT + 2), (SIGKILL, SIGSTOP, SIGUSR2), (SIGTSTP, SIGCONT), set(PLAYED) - {SIGCHLD, SIGTSTP}, (),
    )
)
ALL_PLAYED: Final = sum(map(bit, set(PLAYED)))


def action(a: int, b: int, c: int) -> Item:
    """Return a sigaction()."""
    sig = PLAYED[a % len(PLAYED)]
    how = ("catch", "catch", "catch", "catch", "catch", "ign", "ign", "dfl")[b % 8]
    if sig == SIGCHLD:
        return ["act", sig, ("dfl", "dfl", "ign", "catch")[b % 4], CHLD_FLAGS[c % len(CHLD_FLAGS)], 0]
    return ["act", sig, how, FLAGS[c % len(FLAGS)], SETS[c // 8 % len(SETS)] if b // 8 % 2 else 0]


def blocking(world: World, actor: int, a: int, b: int) -> Item:
    """Return a sigprocmask(): more is blocked than let through."""
    return ["mask", (0, 0, 0, 1, 2, 2, 1, 1)[a % 8], SETS[b % len(SETS)] or world.procs[actor].blocked]


def sent_to(world: World, target: int, c: int) -> int:
    """Choose a signal that a process blocks or catches, or another."""
    proc = world.procs[target]
    mine = [sig for sig in PLAYED if proc.blocked & bit(sig) or proc.action(sig)[0] != "dfl"]
    if mine and c % 8:
        return mine[c // 8 % len(mine)]
    return PLAYED[c // 8 % len(PLAYED)]


def waiting(world: World, actor: int, kind: str, a: int, b: int) -> Item | None:
    """Return a sigsuspend() or sigtimedwait() for what is pending; none where nothing is."""
    proc = world.procs[actor]
    come = pending(proc) & proc.blocked
    if not come:
        return ["sigwait", proc.blocked & ALL_PLAYED, 0] if kind == "sigwait" and a % 4 == 0 else None
    caught = sum(bit(sig) for sig in set(PLAYED) if come & bit(sig) and proc.action(sig)[0] == "catch")
    if kind == "suspend":
        first = caught & -caught
        return ["suspend", proc.blocked & ~(caught if a % 2 else first)] if caught else None
    first = come & -come
    return ["sigwait", come if a % 2 else first, None if b % 3 else 0]


def play(builder: Builder, x: int, other: int, a: int, b: int, c: int) -> None:
    """Add what signals are about: some are caught and blocked, sent by both, and then waited for or let through."""
    sigs = [PLAYED[n % len(PLAYED)] for n in (a, b, c)][: 1 + a // 16 % 3]
    several = sum(map(bit, set(sigs)))
    calls: list[tuple[int, Item]] = [
        (x, ["act", sig, "catch", FLAGS[n // 16 % len(FLAGS)], (0, several, bit(SIGTERM))[n // 128 % 3]])
        for sig, n in zip(sigs, (a, b, c), strict=False)
    ]
    if c % 8:
        calls.append((x, ["mask", 0, several if c // 8 % 4 else bit(sigs[0])]))
    stopped = c // 32 % 8 == 7
    if stopped:
        calls.append((other, ["kill", f"@{x}", SIGSTOP]))
    for n in range(1 + b // 32 % 4):
        sender = other if stopped or (a >> n) % 4 else x
        sig = sigs[(b + n) % len(sigs)]
        kind = ("kill", "sigqueue", "sigqueue", "tgkill")[(b >> n) % 4]
        calls.append((sender, [kind, f"@{x}", sig, n] if kind == "sigqueue" else [kind, f"@{x}", sig]))
    if stopped:
        calls.append((other, ["kill", f"@{x}", SIGCONT]))
    ends: list[list[Item]] = [
        [["pend"], ["suspend", 0], ["caught"]], [["sigwait", several, None], ["pend"]], [["mask", 1, several]],
        [["suspend", several & ~bit(sigs[0])]], [["sigwait", bit(sigs[-1]), None], ["mask", 2, 0]], [["pend"]],
        [["act", sigs[0], "ign", 0, 0], ["pend"], ["mask", 2, 0]], [],
    ]
    calls += [(x, item) for item in [*ends[c // 4 % len(ends)], ["caught"]]]
    for who, call in calls:
        try:
            if builder.active(who):
                builder.emit(who, call)
        except SkipError:
            continue
