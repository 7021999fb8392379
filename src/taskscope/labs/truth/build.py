"""Random programs: from steps of small numbers to operations that make sense where they stand.

Steps come from a seed or from Hypothesis; each is five numbers, so that dropping one keeps the others' sense.  What a
step asks for is left out where it could not be part of a program with one result; `fences.Builder` decides that.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable
from typing import Final

from taskscope.abi.sched import CloneFlag
from taskscope.labs.truth import build_signals
from taskscope.labs.truth.fences import ACTORS, TOKENS, Builder
from taskscope.labs.truth.program import Item, Program
from taskscope.labs.truth.shadow import World
from taskscope.labs.truth.shadow_ids import (
    PR_GET_CHILD_SUBREAPER,
    PR_GET_PDEATHSIG,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
)
from taskscope.labs.truth.shadow_state import (
    HARMLESS,
    P_ALL,
    P_PGID,
    P_PID,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
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
    SkipError,
)

#: a step: who, what, and three numbers that its arguments are chosen by
Step = tuple[int, int, int, int, int]
#: numbers of a step are below this
STEP_MAX: Final = 1 << 10
#: steps of a program at most
STEPS: Final = 40

SIGTERM: Final = 15
SIGUSR1: Final = 10
NOBODY: Final = 0x3FFF_FFFF     # above every pid_max: the pid of nobody

_C: Final = CloneFlag
#: flags of births that succeed, with the exit signal
FORKS: Final = (
    17, 17, 17, 17, 17, 17,
    0,                                                      # no exit signal: a "clone" child
    17 | _C.CLONE_PARENT,
    17 | _C.CLONE_FILES | _C.CLONE_FS,
    23,                                                     # SIGURG
    17 | _C.CLONE_FILES,
    17 | _C.CLONE_FS | _C.CLONE_SYSVSEM | _C.CLONE_UNTRACED,
    28 | _C.CLONE_PARENT,
    17 | _C.CLONE_PARENT_SETTID,
)
#: flags that contradict each other (copy_process(): EINVAL)
BAD_CLONES: Final = (
    17 | _C.CLONE_SIGHAND,                                  # without CLONE_VM
    17 | _C.CLONE_THREAD,                                   # without CLONE_SIGHAND
    17 | _C.CLONE_THREAD | _C.CLONE_VM,
    17 | _C.CLONE_NEWNS | _C.CLONE_FS,
    17 | _C.CLONE_NEWUSER | _C.CLONE_FS,
)
EXIT_CODES: Final = (0, 1, 2, 42, 255, 256, 259, -1)
WAIT_OPTIONS: Final = (
    0, 0, 0, WNOHANG, WALL, WUNTRACED | WCONTINUED, WNOHANG | WUNTRACED | WCONTINUED, WCLONE,
    WNOHANG | WCLONE, WNOTHREAD, WNOHANG | WALL, WEXITED, WNOWAIT, 0x40,
)
WAITID_OPTIONS: Final = (
    WEXITED, WEXITED, WEXITED | WNOWAIT, WEXITED | WNOHANG, WUNTRACED | WNOHANG, WCONTINUED | WNOHANG,
    WEXITED | WUNTRACED | WCONTINUED, WEXITED | WNOHANG | WNOWAIT, WEXITED | WALL, WEXITED | WCLONE, WNOHANG,
    WUNTRACED | WNOWAIT | WNOHANG, WEXITED | WNOTHREAD, 0x40 | WEXITED,
)
SIGNALS: Final = (
    SIGKILL, SIGKILL, SIGKILL, SIGTERM, 0, SIGSTOP, SIGCONT, SIGSTOP, SIGCONT, SIGHUP, SIGUSR1, *sorted(HARMLESS), 65,
)
PDEATHS: Final = (SIGKILL, SIGTERM, 0, 23, 65, SIGHUP)
IGNORES: Final = (SIGCHLD, SIGTERM, SIGCHLD, SIGHUP, SIGKILL, SIGUSR1)
BAD_PROGRAMS: Final = ("/nonexistent", "/", "", "/dev/null")
NAMES: Final = ("raspbian_proc", "a", "", "0123456789abcdef_", "with space", "x" * 15)

#: what a step does, with how many shares of the dice; the first is what shrinking ends at
KINDS: Final = tuple(name for name, shares in (
    ("getpid", 1), ("fork", 7), ("exit", 4), ("kill", 7), ("wait4", 6), ("waitid", 5), ("setpgid", 4), ("setsid", 2),
    ("getppid", 2), ("getpgid", 2), ("getsid", 1), ("subreaper", 2), ("pdeath", 2), ("prctl_get", 1), ("signal", 3),
    ("vfork", 2), ("job", 2), ("name", 1), ("files", 2), ("exec", 1), ("badexec", 1), ("stat", 2), ("setuid", 1),
    ("umask", 1), ("badclone", 1), ("gettid", 1),
    ("act", 5), ("mask", 5), ("sigqueue", 5), ("tgkill", 3), ("caught", 4), ("pend", 2), ("suspend", 4), ("sigwait", 4),
    ("play", 10),
) for _ in range(shares))
#: what a child of vfork() does before it ends
INSIDE: Final = (
    "getpid", "getppid", "setpgid", "setsid", "stat", "signal", "kill", "umask", "files", "badexec", "name",
    "mask", "act", "sigqueue", "pend",
)
#: kinds that can end the process itself or another
DEADLY: Final = frozenset({"exit", "kill"})


def random_steps(seed: int | str, count: int | None = None) -> list[Step]:
    """Return the steps of a seed."""
    rng = random.Random(f"taskscope {seed}")
    below = rng.randrange
    if count is None:
        count = below(4, STEPS + 1)
    return [(below(STEP_MAX), below(STEP_MAX), below(STEP_MAX), below(STEP_MAX), below(STEP_MAX)) for _ in range(count)]


def program(seed: int | str, *, root: bool = False) -> Program:
    """Return the program of a seed; see `build`."""
    return build(random_steps(seed), str(seed), root=root)


def build(steps: Iterable[Step], seed: str = "", *, root: bool = False) -> Program:
    """Build a program from steps; what makes no sense where it would stand is left out.

    :param root: the program is run by root, so that its processes can become other users'
    """
    steps = list(steps)
    for order in (1, -1):
        builder = Builder()
        for step in steps:
            take(builder, step, root=root)
        try:
            builder.finish(order)
        except SkipError:
            continue
        return Program(builder.scripts, builder.expected, seed)
    # The deaths at the end can not be told apart: a shorter program has no such knot.
    return build(steps[: len(steps) // 2], seed, root=root)


def take(builder: Builder, step: Step, *, root: bool) -> None:
    """Add what a step asks for, if that is possible here."""
    world = builder.world
    who, what, a, b, c = step
    kind = KINDS[what % len(KINDS)]
    able = [n for n in range(1, len(world.procs)) if builder.active(n)]
    if builder.tokens > TOKENS - 50:
        return
    if not able or (kind in ("wait4", "waitid") and who % 16 == 15):
        if kind not in ("wait4", "waitid"):
            return
        able = [0]
    actor = able[who % len(able)]
    if kind in DEADLY and not _may_end(world, actor, who // len(able)):
        kind = "fork"
    # Stops and continuations are rare: more often than not let what follows from them happen.
    news = [proc.parent for proc in world.procs
            if (proc.continued or proc.state == "stopped") and proc.parent > 0 and builder.active(proc.parent)]
    dice = what // len(KINDS) % 4
    if news and dice in (1, 2):
        actor, kind = news[who % len(news)], ("wait4", "waitid")[what % 2]
    elif actor and dice and any(proc.state == "stopped" for proc in world.procs):
        kind, b = "kill", b | 1
    call = _call(world, actor, kind, a, b, c)
    if call is None or (actor == 0 and kind not in ("wait4", "waitid")) or (kind == "setuid" and not root):
        return
    if kind == "vfork":
        _vfork(builder, actor, a, b, c)
        return
    if kind == "job":
        _job(builder, actor, a, b, c)
        return
    if kind == "play":
        others = [n for n in able if n != actor] or able
        build_signals.play(builder, actor, others[what // 8 % len(others)], a, b, c)
        return
    try:
        if kind == "exec":
            builder.exec(actor, "/bin/cat")
        else:
            builder.emit(actor, call)
    except SkipError:
        return


def _vfork(builder: Builder, actor: int, a: int, b: int, c: int) -> None:
    """Add a vfork with a short life of the child, or nothing."""
    child = len(builder.world.procs)
    if child >= ACTORS:
        return
    flags = int(_C.CLONE_VFORK) | (17, 17, 0, 17 | _C.CLONE_FILES)[a % 4]
    kinds = [INSIDE[number % len(INSIDE)] for number in (b // 4, c // 4)][: b % 3]
    inside = [_chooser(kind, c) for kind in kinds]
    end: Item = ["exec", "/bin/cat"] if a // 4 % 4 == 0 else ["exit", EXIT_CODES[c % len(EXIT_CODES)]]
    before = copy.deepcopy(vars(builder))
    try:
        builder.vfork(actor, ["fork", child, flags, ("fn", "again")[b // 4 % 2]], inside, end)
    except SkipError:
        vars(builder).update(before)


def _job(builder: Builder, actor: int, a: int, b: int, c: int) -> None:
    """Add what a shell does: a child in a group of its own, perhaps with a child, stopped and perhaps orphaned."""
    child = len(builder.world.procs)
    if child + 1 >= ACTORS:
        return
    calls: list[tuple[int, Item]] = [(actor, ["fork", child, 17, "fn"])]
    if a % 4:
        calls.append((actor, ["setpgid", f"@{child}", 0]))
    if b % 2:
        calls.append((child, ["fork", child + 1, 17, "fn"]))
        if b % 4 == 3:
            calls.append((child, ["setpgid", f"@{child + 1}", 0]))
    stopped = child + 1 if b % 2 and a // 4 % 2 else child
    calls.append((actor, ["kill", f"@{stopped}", SIGSTOP]))
    if c % 3 and _may_end(builder.world, actor, c // 3):
        calls.append((child if stopped != child and c % 2 else actor, ["exit", EXIT_CODES[c % len(EXIT_CODES)]]))
    for who, call in calls:
        try:
            builder.emit(who, call)
        except SkipError:
            return


def _chooser(kind: str, number: int) -> Callable[[World, int], Item | None]:
    def choose(world: World, actor: int) -> Item | None:
        return _call(world, actor, kind, number, number // 2, number // 4)

    return choose


def _may_end(world: World, actor: int, dice: int) -> bool:
    """Let a program have processes before it loses them, and its first one live longer."""
    born = len(world.procs)
    return born > 3 and (actor != 1 or born > 5 or dice % 8 == 7)


def _anyone(world: World, actor: int, a: int, *, kids: int = 0) -> str | int:
    """Choose whom an operation is about; with `kids` of 8 shares, one of the actor's children."""
    a, dice = divmod(a, 8)
    own = world.procs[actor].kids
    if dice < kids and own:
        return f"@{own[a % len(own)]}"
    if a % 16 == 15:
        return NOBODY
    if a % 8 == 7:
        return 0
    return f"@{a % (len(world.procs) - 1) + 1}"


def _playing(world: World, actor: int, a: int) -> str | int:
    """Choose whom to send a signal: more often than not somebody who blocks or catches some."""
    able = [n for n, proc in enumerate(world.procs) if n and proc.state == "run" and (proc.blocked or proc.actions)]
    return f"@{able[a % len(able)]}" if able and a // 64 % 4 else _anyone(world, actor, a)


def _seeing(world: World, actor: int, c: int, *, keep: bool) -> int:
    """Choose, more often than not, the options that show a child's stop or continuation; 0 where there is none.

    :param keep: sometimes without taking what is shown
    """
    kids = [world.procs[n] for n in world.procs[actor].kids]
    if not any(kid.state == "stopped" or kid.continued for kid in kids) or c % 3 == 0:
        return 0
    options = (
        WUNTRACED | WCONTINUED | WNOHANG, WUNTRACED | WNOHANG, WCONTINUED | WNOHANG, WUNTRACED, WCONTINUED,
        WUNTRACED | WCONTINUED,
    )[c // 3 % 6]
    return options | (WNOWAIT if keep and c // 18 % 3 == 0 else 0)


def _negative(target: str | int) -> str | int:
    return f"-{target}" if isinstance(target, str) else -target


def _call(world: World, actor: int, kind: str, a: int, b: int, c: int) -> Item | None:
    """Return the operation of a step, None if there is none of its kind here."""
    simple = SIMPLE.get(kind)
    if simple is not None:
        call, values = simple
        return [*call, int(values[a % len(values)])]
    match kind:
        case "badexec":
            return [kind, BAD_PROGRAMS[a % len(BAD_PROGRAMS)]]
        case "getpgid" | "getsid" | "stat":
            return [kind, _anyone(world, actor, a)]
        case "fork":
            child = len(world.procs)
            return ["fork", child, int(FORKS[a % len(FORKS)]), ("fn", "again")[b % 2]] if child < ACTORS else None
        case "setpgid":
            target = _anyone(world, actor, a, kids=4) if a % 3 else 0
            group: str | int = _anyone(world, actor, b) if b % 2 else "-@1" if b % 16 == 14 else 0
            return [kind, target, group]
        case "act":
            return build_signals.action(a, b, c)
        case "mask":
            return build_signals.blocking(world, actor, a, b)
        case "suspend" | "sigwait":
            return build_signals.waiting(world, actor, kind, a, b)
        case "tgkill" | "sigqueue":
            target = _playing(world, actor, a)
            sig = build_signals.sent_to(world, int(str(target).lstrip("@")), c) if isinstance(target, str) else 0
            sig = (65, 0)[b // 16 % 2] if b % 32 == 31 else sig
            return [kind, target, sig, b % 5] if kind == "sigqueue" else [kind, target, sig]
        case "name":
            return ["setname", NAMES[b % len(NAMES)]] if a % 2 else ["getname"]
        case "signal":
            return [kind, IGNORES[a % len(IGNORES)], "ign" if b % 4 else "dfl"]
        case "files":
            return [("getfd", "dup2", "close")[a % 3], 200 + b % 3]
        case "kill":
            target = _anyone(world, actor, a, kids=5)
            if b % 4 == 3:
                target = _negative(target)
            sig, dice = SIGNALS[c % len(SIGNALS)], c // len(SIGNALS) % 4
            if isinstance(target, str) and target[0] == "@" and b % 8 in (0, 4):
                sig = build_signals.sent_to(world, int(target[1:]), c)
            if dice and sig not in HARMLESS and target in (0, f"@{actor}", f"-@{world.procs[actor].pgrp}"):
                target = f"@{a % (len(world.procs) - 1) + 1}"       # suicide is rare
            stopped = [n for n, proc in enumerate(world.procs) if proc.state == "stopped"]
            if stopped and b % 2:
                target, sig = f"@{stopped[a % len(stopped)]}", (SIGCONT, SIGCONT, SIGTERM, sig)[c % 4]
            return [kind, target, sig]
        case "wait4":
            target = _anyone(world, actor, a, kids=7)
            if b % 3 == 1:
                target = -1
            elif b % 8 == 7:
                target = _negative(target) if isinstance(target, str) else 0
            return [kind, target, _seeing(world, actor, c, keep=False) or WAIT_OPTIONS[c % len(WAIT_OPTIONS)]]
        case "waitid":
            target = _anyone(world, actor, a, kids=7)
            options = _seeing(world, actor, c, keep=True) or WAITID_OPTIONS[c % len(WAITID_OPTIONS)]
            if b % 3 == 1:
                return [kind, P_ALL, 0, options]
            return [kind, P_PGID if b % 8 == 7 else 7 if b % 64 == 62 else P_PID, target, options]
    return [kind]


#: operations with one number that is chosen from a list
SIMPLE: Final[dict[str, tuple[Item, tuple[int, ...]]]] = {
    "badclone": (["badclone"], tuple(int(flags) for flags in BAD_CLONES)),
    "exit": (["exit"], EXIT_CODES),
    "subreaper": (["prctl", PR_SET_CHILD_SUBREAPER], (1, 1, 1, 0)),
    "pdeath": (["prctl", PR_SET_PDEATHSIG], PDEATHS),
    "prctl_get": (["prctl_get"], (PR_GET_CHILD_SUBREAPER, PR_GET_PDEATHSIG)),
    "setuid": (["setuid"], (1000, 1000, 1001, 0)),
    "umask": (["umask"], (0o22, 0o77, 0o7777, 0)),
}
