"""<pthread.h>, <semaphore.h> and futex(): threads and how they wait for each other.

Built on futexes as glibc builds them, in small: the same words, the same values in them, the same system calls where
somebody has to sleep.  Results are those of C: 0, or an errno that is no failure of the call (EOWNERDEAD); failures
raise OSError.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import (
    EAGAIN,
    EBUSY,
    EDEADLK,
    EINTR,
    EINVAL,
    ENOTRECOVERABLE,
    EOWNERDEAD,
    EPERM,
    ESRCH,
    ETIMEDOUT,
)
from typing import Any, Final, NamedTuple

from taskscope.abi.errno import errno_message
from taskscope.abi.sched import CloneFlag
from taskscope.model import machine
from taskscope.model.include.linux.uaccess import Cell, Word
from taskscope.model.include.uapi.linux.futex import (
    FUTEX_BITSET_MATCH_ANY,
    FUTEX_CLOCK_REALTIME,
    FUTEX_CMP_REQUEUE,
    FUTEX_OWNER_DIED,
    FUTEX_PRIVATE_FLAG,
    FUTEX_TID_MASK,
    FUTEX_WAIT,
    FUTEX_WAIT_BITSET,
    FUTEX_WAITERS,
    FUTEX_WAKE,
)
from taskscope.model.user.libc.stdatomic import Atomics

#: what glibc's pthread_create() asks for
PTHREAD_FLAGS: Final = int(
    CloneFlag.CLONE_VM
    | CloneFlag.CLONE_FS
    | CloneFlag.CLONE_FILES
    | CloneFlag.CLONE_SIGHAND
    | CloneFlag.CLONE_THREAD
    | CloneFlag.CLONE_SYSVSEM
    | CloneFlag.CLONE_SETTLS
    | CloneFlag.CLONE_PARENT_SETTID
    | CloneFlag.CLONE_CHILD_CLEARTID
)
INT_MAX: Final = (1 << 31) - 1
#: the threads that can be joined, as (tid, descriptor) each: glibc's stack_used
_THREADS: Final = Word(0x808)
# In a descriptor: the tid, which the kernel clears at the end, the result, and the head of the robust list.
_RESULT, _ROBUST_HEAD, _SIZE = 8, 0x20, 0x60
# In a robust mutex: the lock, its owner, and the entry of the robust list.
_OWNER, _ENTRY = 8, 0x20
_INCONSISTENT, _NOTRECOVERABLE = INT_MAX, INT_MAX - 1


class Mutex(NamedTuple):
    """pthread_mutex_t: the word is 0 free, 1 locked, 2 locked and somebody may sleep; the owner's tid if robust."""

    lock: Word
    robust: bool = False


class Cond(NamedTuple):
    """pthread_cond_t: the word counts signals."""

    seq: Word


class Sem(NamedTuple):
    """sem_t: the word is what can be taken."""

    value: Word


def failed(code: int) -> OSError:
    """Return the exception for an errno."""
    return OSError(code, errno_message(code) or "unknown error")


class Threads(Atomics):
    """The calls of <pthread.h> and <semaphore.h>, and the system call below them."""

    __slots__ = ("_descriptor",)

    #: where this thread's descriptor is; of the first thread from when it is wanted
    _descriptor: Word | None

    def futex(
        self, uaddr: Any, op: int, val: int, timeout: Any = None, uaddr2: Any = None, val3: int = 0
    ) -> int:
        """Ask the kernel to sleep on a word, or to wake who does: the system call itself.

        :param timeout: (s, ns), or a number for the operations that take one there
        """
        return int(self._call("futex", uaddr, op, val, 0 if timeout is None else timeout, uaddr2, val3))

    def set_robust_list(self, head: Any, size: int) -> None:
        """Tell the kernel where the locks stand that this thread holds."""
        self._call("set_robust_list", head, size)

    def get_robust_list(self, pid: int = 0) -> tuple[Any, int]:
        """Return where a thread's robust list is, and how long its head."""
        head, size = Cell(0), Cell(0)
        both = _Two(head, size)
        _, value = self._call("get_robust_list", pid, head, size, out=both)
        return value  # type: ignore[no-any-return]

    def _tid(self) -> int:
        return int(self._call("gettid"))

    # ---- threads ---------------------------------------------------------------------------------------

    def _new_thread(self, start: Callable[[Word], int]) -> int:
        descriptor = self.malloc(_SIZE)
        tid = start(descriptor)
        while True:
            known = self.load(_THREADS)
            if self.cmpxchg(_THREADS, known, (*(known or ()), (tid, descriptor.addr))) == known:
                return tid

    def pthread_join(self, tid: int) -> Any:
        """Wait until a thread has ended; return what its function returned."""
        addr = dict(self.load(_THREADS) or ()).get(tid)
        if addr is None:
            raise failed(ESRCH)
        word = Word(addr)
        # The kernel clears the tid and wakes those who sleep on it, without FUTEX_PRIVATE_FLAG.
        while left := self.load(word):
            if left == tid:
                self._futex_wait(word, FUTEX_WAIT, left)
        while True:
            known = self.load(_THREADS)
            if self.cmpxchg(_THREADS, known, tuple(one for one in known if one[0] != tid)) == known:
                return self.load(Word(addr + _RESULT))

    def _ended(self, result: Any) -> None:
        """Keep the result of this thread's function for who joins."""
        if self._descriptor is not None:
            self.store(Word(self._descriptor.addr + _RESULT), result)

    def _futex_wait(self, word: Word, op: int, val: int, until: Any = None) -> bool:
        """Sleep while a word has a value: False if the time was over; who calls looks again in any case."""
        try:
            self.futex(word, op, val, until, None, FUTEX_BITSET_MATCH_ANY)
        except OSError as error:
            if error.errno == ETIMEDOUT:
                return False
            if error.errno not in (EAGAIN, EINTR):
                raise
        return True

    def _wait_until(self, word: Word, val: int, until: Any) -> bool:
        """Sleep on a private word, until a time of the wall clock if there is one."""
        if until is None:
            return self._futex_wait(word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, val)
        return self._futex_wait(word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME, val, until)

    # ---- mutexes ---------------------------------------------------------------------------------------

    def pthread_mutex_init(self, robust: bool = False) -> Mutex:
        """Return a new mutex."""
        return Mutex(self.malloc(0x40), robust)

    def pthread_mutex_lock(self, mutex: Mutex, until: Any = None) -> int:
        """Take a mutex: 0, or EOWNERDEAD if it is robust and its owner has died with it.

        :param until: (s, ns) of CLOCK_REALTIME: ETIMEDOUT is raised then (pthread_mutex_timedlock())
        """
        if mutex.robust:
            return self._robust_lock(mutex, until)
        # lll_lock()
        if self.cmpxchg(mutex.lock, 0, 1) != 0:
            while self.xchg(mutex.lock, 2) != 0:
                if not self._wait_until(mutex.lock, 2, until):
                    raise failed(ETIMEDOUT)
        return 0

    def pthread_mutex_trylock(self, mutex: Mutex) -> None:
        """Take a mutex; raises EBUSY if somebody has it."""
        if self.cmpxchg(mutex.lock, 0, self._tid() if mutex.robust else 1) != 0:
            raise failed(EBUSY)
        if mutex.robust:
            self._enqueue(mutex)

    def pthread_mutex_unlock(self, mutex: Mutex) -> None:
        """Release a mutex."""
        if mutex.robust:
            self._robust_unlock(mutex)
        elif self.xchg(mutex.lock, 0) > 1:
            self.futex(mutex.lock, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1)

    def pthread_mutex_consistent(self, mutex: Mutex) -> None:
        """Say that what a robust mutex protects is in order again after EOWNERDEAD."""
        owner = Word(mutex.lock.addr + _OWNER)
        if not mutex.robust or self.load(owner) != _INCONSISTENT:
            raise failed(EINVAL)
        self.store(owner, self._tid())

    # ---- robust mutexes --------------------------------------------------------------------------------

    def _robust_head(self) -> Word:
        """Return the head of this thread's robust list, made known to the kernel when it is first wanted."""
        size = machine.cur.flavour.long_size
        if self._descriptor is None:
            self._descriptor = self.malloc(_SIZE)
        head = Word(self._descriptor.addr + _ROBUST_HEAD)
        if not self.load(head):
            self.store(head, head.addr)
            self.store(Word(head.addr + size), -_ENTRY)
            self.set_robust_list(head, 3 * size)
        return head

    def _robust_after_fork(self) -> None:
        """Begin with an empty robust list in a forked child: what its parent holds is no lock of its own."""
        if self._descriptor is None:
            return
        head = Word(self._descriptor.addr + _ROBUST_HEAD)
        if self.load(head):
            self.store(head, head.addr)
            self._pending(0)
            self.set_robust_list(head, 3 * machine.cur.flavour.long_size)

    def _pending(self, entry: int) -> None:
        self.store(Word(self._robust_head().addr + 2 * machine.cur.flavour.long_size), entry)

    def _enqueue(self, mutex: Mutex) -> None:
        head = self._robust_head()
        entry = mutex.lock.addr + _ENTRY
        self.store(Word(entry), self.load(head))
        self.store(head, entry)

    def _dequeue(self, mutex: Mutex) -> None:
        head = self._robust_head()
        entry = mutex.lock.addr + _ENTRY
        at = head
        while (following := self.load(at)) not in (entry, head.addr):
            at = Word(following)
        if following == entry:
            self.store(at, self.load(Word(entry)))

    def _robust_lock(self, mutex: Mutex, until: Any) -> int:
        lock = mutex.lock
        tid = self._tid()
        self._pending(lock.addr + _ENTRY)
        others = 0
        result = 0
        while True:
            old = self.cmpxchg(lock, 0, tid | others)
            if old == 0:
                break
            if old & FUTEX_OWNER_DIED:
                if self.cmpxchg(lock, old, tid | old & FUTEX_WAITERS) != old:
                    continue
                self.store(Word(lock.addr + _OWNER), _INCONSISTENT)
                result = EOWNERDEAD
                break
            if old & FUTEX_TID_MASK == tid:
                self._pending(0)
                raise failed(EDEADLK)
            if not old & FUTEX_WAITERS and self.cmpxchg(lock, old, old | FUTEX_WAITERS) != old:
                continue
            # exit_robust_list() wakes without FUTEX_PRIVATE_FLAG, so that is how to sleep.
            op = FUTEX_WAIT if until is None else FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME
            if not self._futex_wait(lock, op, old | FUTEX_WAITERS, until):
                self._pending(0)
                raise failed(ETIMEDOUT)
            others = FUTEX_WAITERS
        owner = Word(lock.addr + _OWNER)
        if self.load(owner) == _NOTRECOVERABLE:
            self._pending(0)
            if self.xchg(lock, 0) & FUTEX_WAITERS:
                self.futex(lock, FUTEX_WAKE, INT_MAX)
            raise failed(ENOTRECOVERABLE)
        self._enqueue(mutex)
        self._pending(0)
        if not result:
            self.store(owner, tid)
        return result

    def _robust_unlock(self, mutex: Mutex) -> None:
        lock = mutex.lock
        if self.load(lock) & FUTEX_TID_MASK != self._tid():
            raise failed(EPERM)
        owner = Word(lock.addr + _OWNER)
        self.store(owner, _NOTRECOVERABLE if self.load(owner) == _INCONSISTENT else 0)
        self._pending(lock.addr + _ENTRY)
        self._dequeue(mutex)
        if self.xchg(lock, 0) & FUTEX_WAITERS:
            self.futex(lock, FUTEX_WAKE, 1)
        self._pending(0)

    # ---- condition variables ---------------------------------------------------------------------------

    def pthread_cond_init(self) -> Cond:
        """Return a new condition variable."""
        return Cond(self.new_word())

    def pthread_cond_wait(self, cond: Cond, mutex: Mutex, until: Any = None) -> None:
        """Release the mutex, wait for a signal, take the mutex again; may return without one, as in POSIX.

        :param until: (s, ns) of CLOCK_REALTIME: ETIMEDOUT is raised then, with the mutex taken
        """
        seen = self.load(cond.seq)
        self.pthread_mutex_unlock(mutex)
        in_time = self._wait_until(cond.seq, seen, until)
        if mutex.robust:
            self.pthread_mutex_lock(mutex)
        else:
            # A broadcast may have moved others to the mutex: it must be locked as one that somebody sleeps on.
            while self.xchg(mutex.lock, 2) != 0:
                self._wait_until(mutex.lock, 2, None)
        if not in_time:
            raise failed(ETIMEDOUT)

    def pthread_cond_signal(self, cond: Cond) -> None:
        """Wake one who waits."""
        self.fetch_add(cond.seq, 1)
        self.futex(cond.seq, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1)

    def pthread_cond_broadcast(self, cond: Cond, mutex: Mutex | None = None) -> None:
        """Wake all who wait: one, and the others move to the mutex, if it is given, instead of running into it."""
        while True:
            seq = self.fetch_add(cond.seq, 1) + 1
            if mutex is None or mutex.robust:
                self.futex(cond.seq, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX)
                return
            try:
                op = FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG
                self.futex(cond.seq, op, 1, INT_MAX, mutex.lock, seq)
            except OSError as error:
                if error.errno != EAGAIN:
                    raise
            else:
                return

    # ---- semaphores ------------------------------------------------------------------------------------

    def sem_init(self, value: int = 0) -> Sem:
        """Return a new semaphore."""
        return Sem(self.new_word(value))

    def sem_post(self, sem: Sem) -> None:
        """Give one back, and wake one who waits."""
        self.fetch_add(sem.value, 1)
        self.futex(sem.value, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1)

    def sem_trywait(self, sem: Sem) -> None:
        """Take one; raises EAGAIN if there is none."""
        while (value := self.load(sem.value)) > 0:
            if self.cmpxchg(sem.value, value, value - 1) == value:
                return
        raise failed(EAGAIN)

    def sem_wait(self, sem: Sem, until: Any = None) -> None:
        """Take one, waiting until there is one; a signal handler ends the wait with EINTR.

        :param until: (s, ns) of CLOCK_REALTIME: ETIMEDOUT is raised then (sem_timedwait())
        """
        while True:
            try:
                self.sem_trywait(sem)
            except OSError:
                op = FUTEX_WAIT if until is None else FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME
                try:
                    self.futex(sem.value, op | FUTEX_PRIVATE_FLAG, 0, until, None, FUTEX_BITSET_MATCH_ANY)
                except OSError as error:
                    if error.errno != EAGAIN:
                        raise
            else:
                return

    def sem_getvalue(self, sem: Sem) -> int:
        """Return how many there are."""
        return int(self.load(sem.value))


class _Two:
    """Two cells as one result."""

    def __init__(self, first: Cell, second: Cell) -> None:
        self.first = first
        self.second = second

    @property
    def value(self) -> tuple[Any, Any]:
        return self.first.value, self.second.value
