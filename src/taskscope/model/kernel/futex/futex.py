"""What the files of futexes have in common: kernel/futex/futex.h, v5.16; the head of kernel/futex.c before.

A header: it imports names from include/ only, so that all others can take its names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from taskscope.model.include.linux.rtmutex import RtMutex
from taskscope.model.include.linux.spinlock import Spinlock
from taskscope.model.include.uapi.linux.futex import FUTEX_BITSET_MATCH_ANY

if TYPE_CHECKING:
    from taskscope.model.include.linux.mm_types import MmStruct
    from taskscope.model.include.linux.sched import Task

FLAGS_SHARED: Final = 0x01
FLAGS_CLOCKRT: Final = 0x02
FLAGS_HAS_TIMEOUT: Final = 0x04


class FutexKey(NamedTuple):
    """union futex_key: which word.

    ``shared`` is FUT_OFF_MMSHARED: who waits without FUTEX_PRIVATE_FLAG is not found by who wakes with it.
    """

    mm: MmStruct
    address: int
    shared: bool


class FutexHashBucket:
    """struct futex_hash_bucket: those who sleep on the words that fall into it, in order of priority."""

    __slots__ = ("chain", "lock")

    def __init__(self) -> None:
        self.lock = Spinlock("futex_hash_bucket")
        self.chain: list[FutexQ] = []


class FutexQ:
    """struct futex_q: one sleeper.  Guarded by the lock of the bucket it stands in."""

    __slots__ = ("bitset", "hb", "key", "pi_state", "prio", "task")

    def __init__(self, bitset: int = FUTEX_BITSET_MATCH_ANY) -> None:
        self.task: Task = None  # type: ignore[assignment]  # set by queue_me()
        self.key: FutexKey = None  # type: ignore[assignment]  # set by futex_wait_setup()
        self.hb: FutexHashBucket | None = None  # lock_ptr: None once it has been woken
        self.prio = 0
        self.bitset = bitset
        self.pi_state: FutexPiState | None = None   # of who waits for a futex with priority inheritance


class FutexPiState:
    """struct futex_pi_state: the mutex behind a futex on which somebody waits.  Guarded by the wait_lock of that."""

    __slots__ = ("key", "owner", "pi_mutex", "refcount")

    def __init__(self, key: FutexKey) -> None:
        self.pi_mutex = RtMutex()
        self.owner: Task | None = None          # as the word has it; that of pi_mutex is who has taken that
        self.refcount = 1
        self.key = key
