"""What is counted per user id: kernel/user.c, v4.19."""

from __future__ import annotations

from taskscope.model import machine


class UserStruct:
    """struct user_struct: a user id, and how much everything that runs under it has."""

    __slots__ = ("count", "processes", "sigpending", "uid")

    def __init__(self, uid: int) -> None:
        self.uid = uid
        # atomic:
        self.count = 1                      # references: credentials
        self.processes = 0
        self.sigpending = 0


def uid_cache_init() -> None:
    """Start with root; called by start_kernel()."""
    m = machine.cur
    root = UserStruct(0)
    m.root_user = root
    m.uidhash = {0: root}


def alloc_uid(uid: int) -> UserStruct:
    """Return the user_struct of an id with a reference taken."""
    table = machine.cur.uidhash
    up = table.get(uid)
    if up is not None:
        up.count += 1
        return up
    up = UserStruct(uid)
    table[uid] = up
    return up


def get_uid(u: UserStruct) -> UserStruct:
    """Take a reference."""
    u.count += 1
    return u


def free_uid(up: UserStruct) -> None:
    """Drop a reference; the last one forgets the user."""
    up.count -= 1
    assert up.count >= 0, "free_uid() of a free user"
    if up.count == 0:
        del machine.cur.uidhash[up.uid]
