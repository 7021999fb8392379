"""Lists that are kept in order of priority, first come first served among equals: lib/plist.c, v4.19.

Two linked lists in C; an ordered array here.  A node is anything with a ``prio``; the lowest number stands first.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import Any

_PRIO = attrgetter("prio")


def plist_add(node: Any, head: list[Any]) -> None:
    """Put a node behind those of its priority."""
    head.insert(bisect_right(head, node.prio, key=_PRIO), node)


def plist_del(node: Any, head: list[Any]) -> None:
    """Take a node off."""
    head.remove(node)
