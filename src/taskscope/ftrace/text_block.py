"""Records of a text as parallel columns, and the count of what was not understood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass
class Block:
    """The records of a run of lines, as parallel columns."""

    ts: npt.NDArray[np.int64]
    cpu: npt.NDArray[np.uint16]
    type: npt.NDArray[np.uint16]
    pid: npt.NDArray[np.int32]
    tgid: npt.NDArray[np.int32]          # -1 unknown
    comm: npt.NDArray[np.int32]          # number in Scan.comms
    flags: npt.NDArray[np.uint16]        # number in Scan.tokens
    start: npt.NDArray[np.int64]         # byte of the body (of a stack: of its frames)
    size: npt.NDArray[np.int32]          # bytes of it
    count: npt.NDArray[np.int8]          # order of records that one line makes

    @classmethod
    def concat(cls, blocks: list[Block]) -> Block:
        """Put blocks behind each other."""
        if not blocks:
            i64, i32, u16 = np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.uint16)
            return cls(i64, u16, u16, i32, i32, i32, u16, i64, i32, np.empty(0, np.int8))
        names = cls.__dataclass_fields__
        return cls(**{n: np.concatenate([getattr(b, n) for b in blocks]) for n in names})

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Block:
        """Return some of the records."""
        return Block(**{n: getattr(self, n)[rows] for n in self.__dataclass_fields__})


@dataclass
class Unread:
    """Lines of one kind that were not understood."""

    lines: int = 0
    first: int = 0              # line number, from 1

    def add(self, line: int, count: int = 1) -> None:
        """Count one more."""
        if not self.lines or line < self.first:
            self.first = line
        self.lines += count
