"""<stdatomic.h> and malloc(): words of user memory that the threads of a process, and the kernel, see alike.

A program's Python variables are its registers; what others are to see stands in words.  An access is a step of user
mode: no system call and no time, but with a seed somebody else may come in before it.  What it gave is kept for the
child of a later fork(), as the result of a call is.
"""

from __future__ import annotations

from typing import Any, Final

from taskscope.model.include.linux.uaccess import Word
from taskscope.model.user.python import LOG_MAX, UserContext

#: where the heap's end is kept, and where the heap begins
_BRK: Final = Word(0x800)
_HEAP: Final = 0x10_0000


class Atomics(UserContext):
    """Words of memory and the operations on them."""

    __slots__ = ()

    def malloc(self, size: int = 4) -> Word:
        """Return so many new bytes, aligned to 16: where the first word of them is; they are 0 and never freed."""
        return Word(_HEAP + int(self._access("malloc", _BRK, -(-size // 16) * 16)))

    def new_word(self, value: int = 0) -> Word:
        """Return a new word of memory that has a value."""
        new = self.malloc(16)
        if value:
            self.store(new, value)
        return new

    def load(self, word: Word) -> Any:
        """Read a word."""
        return self._access("load", word, 0)

    def store(self, word: Word, value: Any) -> None:
        """Write a word."""
        self._access("store", word, value)

    def xchg(self, word: Word, value: Any) -> Any:
        """Write a word; return what was there."""
        return self._access("xchg", word, value)

    def cmpxchg(self, word: Word, old: Any, new: Any) -> Any:
        """Write a word if it has the old value; return what was there."""
        return self._access("cmpxchg", word, (old, new))

    def fetch_add(self, word: Word, value: int) -> int:
        """Add to a word; return what was there."""
        return int(self._access("fetch_add", word, value))

    def _access(self, name: str, word: Word, value: Any) -> Any:
        if self._at < self._end:
            return self._recall(name)[1]
        if self._chooses:
            self._hold_up()
        old = word.get()
        if name == "cmpxchg":
            if old == value[0]:
                word.put(value[1])
        elif name in ("fetch_add", "malloc"):
            word.put(old + value)
        elif name != "load":
            word.put(value)
        log = self._log
        log.append((name, 0, old))
        if len(log) > LOG_MAX:
            log.clear()
            self._overflown = True
        return old
