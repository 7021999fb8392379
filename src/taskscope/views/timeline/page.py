"""The page of a timeline: an HTML file that loads nothing and has its data inside, or one that asks its server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

#: where the data goes
_MARK = "{{DATA}}"


def page(recordings: Sequence[dict[str, Any]], *, served: bool = False) -> str:
    """Return the page.

    :param recordings: what `taskscope.views.timeline.pack.pack` has made of each, or `Pages.outline` where it is served
    :param served: whether it may ask the server that it comes from for more
    """
    template = resources.files("taskscope.views.timeline").joinpath("page.html").read_text("utf-8")
    # Pure ASCII, and nothing in it can end the element that it stands in: names were chosen by whoever was recorded.
    data = json.dumps(list(recordings), separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    before, _, behind = template.partition(_MARK)
    if served:
        before = before.replace("connect-src 'none'", "connect-src 'self'", 1)
        before = before.replace("<html ", "<html data-served ", 1)
    return before + data + behind
