"""Rules that go wrong on purpose: that what goes wrong is told, on both kernels, is tested by these."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import asleep, sleeper


def hangs(sys: Any, say: Any) -> None:
    """A rule that has no end."""
    say("before")
    sys.pause()


def fails(sys: Any, say: Any) -> None:
    """A rule that ends with an exception."""
    say("before")
    sys.kill(sys.getpid(), 99)


def leaves(sys: Any, say: Any) -> None:
    """A rule that leaves a process."""
    asleep(sys, sys.clone(sleeper))
    say("asleep")


def forks(sys: Any, say: Any) -> None:
    """A rule whose child goes on where its parent is."""
    say("once")
    if sys.fork() == 0:
        say("child")
        sys.exit(0)
    sys.wait()
    say("parent")


def speaks(sys: Any, say: Any) -> None:
    """A rule that names everybody."""
    pid = sys.clone(sleeper)
    say(say.who(pid), say.who(-pid), say.who(sys.getpid()), say.who(1), say.who(0), [1, "two"], [])
