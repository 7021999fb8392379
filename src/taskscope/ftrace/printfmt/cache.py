"""Texts that are found again by a 64-bit key: made once per key, looked up for whole columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.printfmt.pieces import Chosen, Texts

Column = npt.NDArray[Any]

_BITS = 14
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - _BITS)

#: texts kept; with more, the cache starts anew
_MOST = 1 << 17


class SlotCache:
    """Maps keys to texts.

    :param make: makes the texts of new keys (a column of unsigned 64-bit numbers, all different)
    :param unit: see `Texts`
    """

    def __init__(self, make: Callable[[Column], list[bytes]], unit: int = 16) -> None:
        self._make = make
        self._unit = unit
        self._reset()

    def _reset(self) -> None:
        self._texts = Texts(self._unit)
        self._slots: dict[int, int] = {}
        # A direct-mapped table in front of the dictionary: one place per hash, the last key that was looked up.
        self._key = np.zeros(1 << _BITS, np.uint64)
        self._slot = np.zeros(1 << _BITS, np.int64)
        self._used = np.zeros(1 << _BITS, bool)

    def find(self, keys: Column) -> tuple[Texts, Column]:
        """Return the texts, and which of them each key has."""
        place = ((keys * _FACTOR) >> _SHIFT).view(np.int64)
        hit = self._key.take(place) == keys
        if not self._used.all():
            hit &= self._used.take(place)
        slots = self._slot.take(place)
        if hit.all():
            return self._texts, slots
        miss = np.flatnonzero(~hit)
        values, back = np.unique(keys[miss], return_inverse=True)
        if len(self._slots) + len(values) > _MOST and len(self._slots):
            self._reset()
            return self.find(keys)
        found = [self._slots.get(v, -1) for v in values.tolist()]
        number = np.array(found, np.int64)
        new = np.flatnonzero(number < 0)
        if len(new):
            first = self._texts.add(self._make(values[new]))
            number[new] = first + np.arange(len(new))
            self._slots.update(zip(values[new].tolist(), number[new].tolist(), strict=True))
        at = ((values * _FACTOR) >> _SHIFT).view(np.int64)
        self._key[at], self._slot[at], self._used[at] = values, number, True
        slots[miss] = number[back.reshape(-1)]
        return self._texts, slots

    def piece(self, keys: Column) -> Chosen:
        """Return the texts of a column of keys as a piece."""
        return Chosen(*self.find(keys))
