"""``export --to story``: lives told in Markdown, to be put into a bug report.

Names, file names and stacks come from the programs that were recorded, so they stand in code alone: as code spans and
in fenced blocks, where neither Markdown nor HTML means anything, and nobody is mentioned and nothing linked by them.
Follows CommonMark 0.31 and GitHub's tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from taskscope.lives.life import Life, Signal
from taskscope.lives.lives import Lives
from taskscope.views.kills import Kill, result_text
from taskscope.views.lives_table import lived
from taskscope.views.names import clone_text, si_code_name, signal_name
from taskscope.views.signals import fatal
from taskscope.views.story import told
from taskscope.views.text import escape
from taskscope.views.times import Times
from taskscope.views.who import comm_at, decorated, end_text, pid_text, who

#: cells of a line of the story
_WIDTH = 100

#: how many signals are listed
_SIGNALS = 30

#: what would end a code span or a cell of a table
_ENDS = str.maketrans({"`": "\\x60", "|": "\\x7c"})


def code(text: str) -> str:
    r"""Return text as a code span that is safe in a cell too.

    >>> code("a|b`<img>")
    '`a\\x7cb\\x60<img>`'
    """
    shown = escape(text).translate(_ENDS)
    # Blanks at both ends are taken away, and without anything else it is no span.
    return f"`{shown}`" if shown.strip(" ") == shown != "" else f"`\"{shown}\"`"


def block(text: str) -> str:
    """Return lines as a fenced block whose fence does not occur in them."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}text\n{text}\n{fence}"


def story_markdown(lives: Lives, chosen: Sequence[Life], *, verbose: bool = False) -> Iterator[str]:
    """Yield the parts of a document: what was recorded, then each life.

    :param verbose: with the records and whole call stacks that each line of a story rests on
    """
    yield _recording(lives)
    for life in chosen:
        yield from _life(lives, life, verbose)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(' --- ' for _ in head)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _recording(lives: Lives) -> str:
    trace = lives.trace
    lost = trace.lost_count
    times = Times(trace.clock, trace.start)
    rows = [
        ("Recording", code(trace.path)),
        ("Kernel", code(" ".join(filter(None, (trace.kernel.release, trace.kernel.machine)))) if trace.kernel.release
         else "not recorded"),
        ("Cpus", str(len(trace.cpus))),
        ("Events", f"{len(trace):,} in {times.length(trace.end - trace.start)}"),
        ("Lost", "an unknown number" if lost is None else f"{lost:,}"),
        ("Clock", code(trace.clock.name)),
    ]
    notes = [f"- {code(note)}" for note in (*trace.notes, *lives.notes)]
    parts = ["# Life stories", _table(("", ""), rows)]
    return "\n\n".join([*parts, *(["What the recording lacks:", "\n".join(notes)] if notes else [])]) + "\n"


def _life(lives: Lives, life: Life, verbose: bool) -> Iterator[str]:
    times = Times(lives.trace.clock, lives.trace.start)
    name = f"{decorated(life.kind, comm_at(life))} {pid_text(life.ref)}"
    parts = [f"## {code(name)}", _table(("", ""), _facts(lives, life, times)),
             "### Story", block(told(life, lives, width=_WIDTH, verbose=verbose))]
    spent = [(state, times.length(ns)) for state, ns in life.time.items() if ns]
    if spent:
        parts += ["### Where the time went", _table(("state", "time"), spent)]
    if life.signals:
        told_now = life.signals if verbose else life.signals[:_SIGNALS]
        rows = [_signal(lives, life, one, times) for one in told_now]
        parts += ["### Signals", _table(("time", "signal", "from", "code", "result"), rows)]
        if len(told_now) < len(life.signals):
            parts.append(f"and {len(life.signals) - len(told_now):,} more (-v shows them)")
    inferred = [*life.inferred, *(r for x in (life.born, life.exit, life.reaped) if x is not None for r in x.inferred)]
    if inferred:
        parts += ["### Inferred, not recorded", "\n".join(f"- {code(reason)}" for reason in inferred)]
    yield "\n" + "\n\n".join(parts) + "\n"


def _facts(lives: Lives, life: Life, times: Times) -> list[tuple[str, str]]:
    """Return what is known of a task, a line each; what is not known is said to be so."""
    rows = [("Task", f"pid {life.pid}" + (f", generation {life.generation}" if life.generation else "")),
            ("Kind", life.kind or "not known")]
    if life.tgid is not None and life.tgid != life.pid:
        rows.append(("Thread group", str(life.tgid)))
    born = life.born
    if born is None:
        rows.append(("Created", "before the recording"))
    else:
        by = "its creator was not recorded" if born.by is None else f"by {code(who(lives, born.by, born.at))}"
        flags = "" if born.clone_flags is None else clone_text(born.clone_flags, born.exit_signal).replace("|", " ")
        how = born.how or "how is not known"
        rows.append(("Created", f"{times.stamp(born.at)} {by}, {how}" + (f", {code(flags)}" if flags else "")))
    rows += [("Program", f"{times.stamp(one.at)} {code(one.filename)}") for one in life.execs[:_SIGNALS]]
    rows.append(("Lived" if born is not None else "Seen for", times.length(lived(life))))
    end = life.exit
    rows.append(("Ended", end_text(life) if end is None else f"{times.stamp(end.at)} {end_text(life)}"))
    if life.reaped is not None:
        by = "by itself" if life.reaped.by == life.ref else code(who(lives, life.reaped.by, life.reaped.at))
        rows.append(("Reaped", f"{times.stamp(life.reaped.at)} {by}"))
    rows.append(("Switches", f"{life.switches.voluntary:,} voluntary, {life.switches.involuntary:,} involuntary"))
    if life.gaps:
        rows.append(("Gaps", f"{life.gaps:,}: events were lost while it lived"))
    return rows


def _signal(lives: Lives, life: Life, one: Signal, times: Times) -> tuple[str, ...]:
    sender = "an interrupt" if one.sender is None else code(who(lives, one.sender, one.at))
    kill = Kill(one.at, one.cpu, one.sig, one.sender, life, one, fatal(life, one))
    return times.stamp(one.at), signal_name(one.sig), sender, si_code_name(one.sig, one.code), result_text(kill)
