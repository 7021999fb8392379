"""Opening a recording's lives, and choosing among them by pid, kind and time."""

from __future__ import annotations

from collections.abc import Sequence

from taskscope.cli.options import Common
from taskscope.cli.output import progress, say
from taskscope.errors import AmbiguousTaskError
from taskscope.lives.life import Life
from taskscope.lives.lives import Lives
from taskscope.recording import Recording


def lives_of(trace: Recording, common: Common) -> Lives:
    """Return the lives of an open recording; what it lacks for telling them goes to stderr unless ``-q`` was given."""
    with progress("telling lives", common):
        lives = trace.lives
        notes = lives.notes
    if not common.quiet:
        for note in notes:
            say(f"note: {note}")
    return lives


def open_lives(common: Common) -> Lives:
    """Open the recording that was asked for and return its lives."""
    return lives_of(common.open(), common)


def choose(lives: Lives, common: Common, kinds: Sequence[str] = ()) -> list[Life]:
    """Return the lives that ``-p``, ``--from`` and ``--to``, and a kind leave.

    :raises NoSuchTaskError: a pid that was asked for is not in the recording
    """
    after, before = common.window(lives.trace)
    return lives.choose(common.pids, kinds, after, before)


#: how many candidates of an ambiguous name are listed
_MOST = 20


def lives_named(lives: Lives, task: str) -> list[Life]:
    """Return the lives that a person named: one, or the few that bear the name, in order of their births.

    :raises NoSuchTaskError: none fits
    :raises AmbiguousTaskError: too many fit; the candidates are lines of the table of lives
    """
    try:
        return lives.named(task)
    except AmbiguousTaskError:
        return [one_life(lives, task)]


def one_life(lives: Lives, task: str) -> Life:
    """Return the one life that a person named.

    :raises NoSuchTaskError: none fits
    :raises AmbiguousTaskError: several fit; the candidates are lines of the table of lives
    """
    found = lives.find(task)
    if len(found) < 2:
        return lives.get(task)
    from taskscope.views.lives_table import lives_table

    lines = tuple(lives_table(lives, found[:_MOST]))
    if len(found) > _MOST:
        lines += (f"... and {len(found) - _MOST:,} more",)
    first = found[-1].ref
    raise AmbiguousTaskError(
        f"{lives.trace.path}: {task!r} fits {len(found):,} lives; name one as PID.GEN (such as "
        f"{first.pid}.{first.generation})",
        lines,
    )
