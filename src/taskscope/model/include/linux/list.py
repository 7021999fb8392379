"""Doubly linked lists: include/linux/list.h, v4.19.

A `ListHead` stands in a structure as in C; ``owner`` is what container_of() would find, None for the head of a list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class ListHead:
    """A node of a list, or its head."""

    __slots__ = ("next", "owner", "prev")

    def __init__(self, owner: Any = None) -> None:
        self.next: ListHead = self
        self.prev: ListHead = self
        self.owner = owner


def INIT_LIST_HEAD(head: ListHead) -> None:
    """Make the node a list of its own."""
    head.next = head.prev = head


def list_empty(head: ListHead) -> bool:
    """Tell whether nothing is on the list."""
    return head.next is head


def list_add(new: ListHead, head: ListHead) -> None:
    """Add behind the head."""
    after = head.next
    after.prev = new
    new.next = after
    new.prev = head
    head.next = new


def list_add_tail(new: ListHead, head: ListHead) -> None:
    """Add at the end."""
    before = head.prev
    head.prev = new
    new.next = head
    new.prev = before
    before.next = new


# RCU's variants differ in memory order only, which one step of the machine cannot show.
list_add_rcu = list_add
list_add_tail_rcu = list_add_tail


def list_del_init(entry: ListHead) -> None:
    """Take off the list it is on."""
    entry.prev.next = entry.next
    entry.next.prev = entry.prev
    entry.next = entry.prev = entry


def list_del(entry: ListHead) -> None:
    """Take off the list; the node must not be used before it is added again."""
    list_del_init(entry)


def list_del_rcu(entry: ListHead) -> None:
    """Take off the list, leaving ``next`` for readers that stand on it."""
    entry.prev.next = entry.next
    entry.next.prev = entry.prev
    entry.prev = entry


def list_move_tail(entry: ListHead, head: ListHead) -> None:
    """Take off one list and add at the end of another."""
    list_del_init(entry)
    list_add_tail(entry, head)


def list_move(entry: ListHead, head: ListHead) -> None:
    """Take off one list and add at the front of another."""
    list_del_init(entry)
    list_add(entry, head)


def list_splice_tail_init(source: ListHead, head: ListHead) -> None:
    """Move all of a list to the end of another."""
    if source.next is not source:
        first, last = source.next, source.prev
        before = head.prev
        before.next = first
        first.prev = before
        last.next = head
        head.prev = last
        source.next = source.prev = source


def list_first_entry(head: ListHead) -> Any:
    """Return the owner of the first node; the list must not be empty."""
    assert head.next is not head, "list_first_entry() of an empty list"
    return head.next.owner


def list_for_each_entry(head: ListHead) -> Iterator[Any]:
    """Iterate over the owners, first to last; the one just given may be taken off meanwhile."""
    node = head.next
    while node is not head:
        after = node.next
        yield node.owner
        # list_del_init() of the node given must not end the walk early, nor a node added behind it be missed.
        node = node.next if node.next is not node else after


list_for_each_entry_rcu = list_for_each_entry


def list_for_each_entry_safe(head: ListHead) -> Iterator[Any]:
    """Iterate over the owners; the one just given may be moved to another list meanwhile."""
    node = head.next
    while node is not head:
        after = node.next
        yield node.owner
        node = after
