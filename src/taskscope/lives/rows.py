"""State changes of lives as parallel columns: what the timeline sorts and the spans are cut from.

A row says "from this time on this life was in that state", or that a wakeup of it was recorded.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

#: codes of rows beyond State: a wakeup (runnable, unless it was already) and the sched_waking before it
WAKE, WAKING = 20, 21


@dataclass
class Rows:
    """State changes sorted by (life, time); parallel columns."""

    life: npt.NDArray[np.int32]
    ts: npt.NDArray[np.int64]
    code: npt.NDArray[np.uint8]          # State, WAKE or WAKING
    cpu: npt.NDArray[np.int16]           # -1 where the record does not say
    row: npt.NDArray[Any]                # of the record; -1 for a row without one
    involuntary: npt.NDArray[np.bool_]   # of switch-outs

    def take(self, order: npt.NDArray[np.integer]) -> Rows:
        """Return the rows in another order, or fewer of them."""
        columns: tuple[npt.NDArray[Any], ...] = (self.ts, self.row, self.life, self.cpu, self.code, self.involuntary)
        if len(order) < 1 << 16:
            ts, row, life, cpu, code, involuntary = (c.take(order) for c in columns)
        else:
            with ThreadPoolExecutor(2) as pool:
                ts, row, life, cpu, code, involuntary = pool.map(lambda c: c.take(order), columns)
        return Rows(life, ts, code, cpu, row, involuntary)

    def permute(self, at: int, order: npt.NDArray[np.integer]) -> None:
        """Put the rows from `at` on into another order, in place."""
        here = slice(at, at + len(order))
        for column in (self.ts, self.row, self.life, self.cpu, self.code, self.involuntary):
            column[here] = column[here][order]

    @staticmethod
    def concat(parts: list[Rows]) -> Rows:
        """Put parts behind each other."""
        columns: list[tuple[npt.NDArray[Any], ...]] = [
            (p.life, p.ts, p.code, p.cpu, p.row, p.involuntary) for p in parts]
        return Rows(*(np.concatenate(c) for c in zip(*columns, strict=True)))
