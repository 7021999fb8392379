"""Crowds: processes with threads, execs, stops, sessions and kills in random order, on several CPUs and schedules."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bare import ALL, accounts, error, world
from taskscope.model.user import programs


def asleep(sys: Any) -> None:
    while True:
        error(sys.pause)


def told(sys: Any, argv: list[str]) -> int:
    sys.pthread_create(lambda sys: sys.nanosleep(100_000))
    return 6


def busy(sys: Any, seed: int) -> int:
    """Do a few random things, and end in a random way."""
    r = random.Random(seed)
    for _ in range(r.randrange(1, 6)):
        kind = r.randrange(8)
        if kind == 0:
            sys.pthread_create(asleep)
        elif kind == 1:
            pause = r.randrange(1, 300) * 1000
            sys.pthread_create(lambda sys, pause=pause: sys.nanosleep(pause))
        elif kind == 2:
            if r.random() < 0.6:
                sys.clone(busy, r.randrange(1 << 30))
            else:
                sys.clone(asleep)
        elif kind == 3:
            sys.nanosleep(r.randrange(1, 500) * 1000)
        elif kind == 4:
            whom = 0 if r.random() < 0.2 else sys.getpid()
            error(sys.kill, whom, r.choice([19, 18, 17, 10, 15]) if r.random() < 0.4 else 18)
        elif kind == 5:
            error(sys.setsid) if r.random() < 0.5 else error(sys.setpgid, 0, 0)
        elif kind == 6 and r.random() < 0.5:
            sys.pthread_create(lambda sys: sys.execve("/bin/told", ["told"]))
        elif kind == 7:
            if r.random() < 0.3:
                sys.prctl(36, 1)
            else:
                sys.sigaction(17, 1)
    end = r.random()
    if end < 0.3:
        asleep(sys)
    if end < 0.5:
        sys._call("exit", 1)
    if end < 0.7:
        sys.execve("/bin/told", ["told"])
    return r.randrange(256)


def crowd(sys: Any, r: random.Random, size: int) -> None:
    """Let a crowd loose, kill it, and reap until nobody is left."""
    for _ in range(size):
        sys.clone(busy, r.randrange(1 << 30))
    sys.nanosleep(5_000_000)
    left = ""
    for _ in range(50):
        error(sys.kill, -1, 9)
        sys.nanosleep(1_000_000)
        while (left := error(sys.waitpid, -1, 1)) not in ("ECHILD", "(0, 0)"):
            pass
        if left == "ECHILD":
            break
    assert left == "ECHILD"
    sys.nanosleep(1_000_000_000)


@pytest.mark.parametrize("seed", range(1, 25))
def test_nothing_is_left_of_any_crowd(seed: int) -> None:
    """Whatever processes do, in whatever order: killed and reaped, they leave no memory, count or number behind."""
    flavour, cpus = ALL[seed % 3], 1 + seed % 4

    def scenario(sys: Any) -> Any:
        programs.install_program("/bin/told", told)
        r = random.Random(seed)
        crowd(sys, r, 8)
        before = accounts()
        crowd(sys, r, 15)
        after = accounts()
        # a slab keeps some pages that are empty
        return {k: (before[k], after[k]) for k in before if before[k] != after[k]}.keys() - {"free pages", "slab pages"}

    with world(flavour, cpus=cpus, seed=seed) as one:
        assert one.run(scenario) == set()
