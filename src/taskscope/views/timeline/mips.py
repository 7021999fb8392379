"""Slices in levels, so that a page can draw millions of them at any zoom: `Lanes`, `levels`.

Level 0 has every slice; each level above has one for eight neighbours of a lane, which bears what the longest of them
bore.  A page takes the level that has about two slices a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

FACTOR: Final = 8
#: a lane with fewer slices than this on its highest level needs no level above it
_FEW: Final = 64


@dataclass(frozen=True, slots=True)
class Lanes:
    """Slices of many lanes, one lane after the other, each in order of time and without holes.

    :param at: when each begins, ns from the start of the recording; it ends where the next of its lane begins
    :param code: what it is
    :param bounds: of lane k the slices bounds[k] to bounds[k + 1]; the last slice of each is its end, of no length
    """

    at: npt.NDArray[np.int64]
    code: npt.NDArray[Any]
    bounds: npt.NDArray[np.int64]


def levels(lanes: Lanes) -> list[Lanes]:
    """Return the lanes on all levels, the finest first."""
    found = [lanes]
    weight = _lengths(lanes)
    while int(np.max(np.diff(found[-1].bounds), initial=0)) > _FEW:
        above, weight = _fold(found[-1], weight)
        found.append(above)
    return found


def _lengths(lanes: Lanes) -> npt.NDArray[np.int64]:
    length = np.zeros(len(lanes.at), np.int64)
    length[:-1] = np.maximum(np.diff(lanes.at), 0)
    # Where a lane ends another one begins.
    length[lanes.bounds[1:] - 1] = 0
    return length


def _fold(lanes: Lanes, weight: npt.NDArray[np.int64]) -> tuple[Lanes, npt.NDArray[np.int64]]:
    counts = np.diff(lanes.bounds)
    # The end of a lane stays what it is: a group of its own.
    groups = np.where(counts > 0, (counts - 1 + FACTOR - 1) // FACTOR + 1, 0)
    bounds = np.concatenate(([0], np.cumsum(groups)))
    place = np.arange(len(lanes.at)) - np.repeat(lanes.bounds[:-1], counts)
    group = place // FACTOR + np.repeat(bounds[:-1], counts)
    last = lanes.bounds[1:][counts > 0] - 1
    group[last] = bounds[1:][counts > 0] - 1
    first = np.flatnonzero(np.diff(group, prepend=-1))
    total = np.add.reduceat(weight, first) if len(first) else weight
    order = np.lexsort((weight, group))
    longest = order[np.flatnonzero(np.diff(group[order], append=len(lanes.at) + 1))]
    return Lanes(lanes.at[first], lanes.code[longest], bounds), total
