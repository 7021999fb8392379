"""The page of a timeline: one HTML file that loads nothing, with its data inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

#: where the data goes
_MARK = "{{DATA}}"


def page(recordings: Sequence[dict[str, Any]]) -> str:
    """Return the page.

    :param recordings: what `taskscope.views.timeline.pack.pack` has made of each
    """
    template = resources.files("taskscope.views.timeline").joinpath("page.html").read_text("utf-8")
    # Pure ASCII, and nothing in it can end the element that it stands in: names were chosen by whoever was recorded.
    data = json.dumps(list(recordings), separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
    before, _, behind = template.partition(_MARK)
    return before + data + behind
