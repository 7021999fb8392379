"""What a host can and cannot do, as lines for people: `answer_lines`."""

from __future__ import annotations

import platform
import textwrap
from collections.abc import Iterator, Sequence

from taskscope.host.answer import Answer
from taskscope.views.text import escape

_NAME, _STATE = 17, 9


def answer_lines(answers: Sequence[Answer], *, whole: bool = True) -> Iterator[str]:
    """Yield a line or more for each answer: name, yes or no, why, and the command that mends it.

    :param whole: all of a host, in groups, under a line that says which it is
    """
    if whole:
        yield f"{platform.system()} {platform.release()} {platform.machine()}"
    group = ""
    said: set[str] = set()
    for answer in answers:
        if answer.group != group and whole:
            group = answer.group
            said.clear()
            yield ""
            yield group.upper()
        lines = _wrapped(escape(answer.detail))
        yield f"{answer.name:<{_NAME}}{answer.state:<{_STATE}}{lines[0]}"
        yield from (" " * (_NAME + _STATE) + line for line in lines[1:])
        if answer.remedy and answer.remedy not in said:
            # On one line, so that it can be copied; once in a group, for many lack the same.
            said.add(answer.remedy)
            yield " " * _NAME + f"mend: {escape(answer.remedy)}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 79 - _NAME - _STATE, break_long_words=False, break_on_hyphens=False) or [""]
