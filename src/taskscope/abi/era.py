"""Which kernels a number holds for.

Internal flags move between kernel versions.  The tables of this package were read from the sources of the kernels in
`CHECKED`, one point release of every long-term series.  A kernel between two of them is read by the older one's table,
and whoever prints the result says which that was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from taskscope.errors import UsageError

Version = tuple[int, int]

#: series -> the release whose source was read; stable releases can move bits too
CHECKED: Final[Mapping[Version, str]] = {
    (4, 9): "4.9.45",
    (4, 14): "4.14.5",
    (4, 19): "4.19.73",     # the Raspberry Pi kernel
    (5, 4): "5.4.286",
    (5, 10): "5.10.89",
    (5, 15): "5.15.100",
    (6, 1): "6.1.192",      # Debian's
    (6, 6): "6.6.9",
    (6, 12): "6.12.117",    # Debian's
    (6, 18): "6.18.2",
}
KERNELS: Final[tuple[Version, ...]] = tuple(CHECKED)
DEFAULT: Final[Version] = (6, 1)

_RELEASE = re.compile(r"v?(\d+)\.(\d+)(?!\d)")


def kernel_of(release: str) -> Version:
    """Read the version out of a release string: ``6.1.0-56-cloud-amd64`` is (6, 1).

    :raises UsageError: the text does not begin with a version
    """
    found = _RELEASE.match(release.strip())
    if found is None:
        raise UsageError(f"{release!r} is no kernel version; write it like 4.19 or 6.1.0-56-amd64")
    return int(found[1]), int(found[2])


def checked(kernel: Version) -> Version:
    """Return the series whose table serves `kernel`: the newest of `KERNELS` that is not newer, else the oldest."""
    older = [known for known in KERNELS if known <= kernel]
    return older[-1] if older else KERNELS[0]


def version_text(kernel: Version) -> str:
    """Write a version: (6, 1) is ``6.1``."""
    return f"{kernel[0]}.{kernel[1]}"


class Row(NamedTuple):
    """One name for one value, and the series in which it holds."""

    name: str
    value: int
    meaning: str
    kernels: tuple[Version, ...]

    @property
    def span(self) -> str:
        """The series in words: ``4.9 to 5.4``, ``from 5.10`` (to the newest checked), ``6.1, 6.12``."""
        runs: list[list[int]] = []
        for kernel in self.kernels:
            index = KERNELS.index(kernel)
            if runs and runs[-1][-1] == index - 1:
                runs[-1].append(index)
            else:
                runs.append([index])
        return ", ".join(_run_text(run) for run in runs)


def _run_text(run: list[int]) -> str:
    first, last = version_text(KERNELS[run[0]]), version_text(KERNELS[run[-1]])
    if run[-1] == len(KERNELS) - 1:
        return f"from {first}"
    return first if len(run) == 1 else f"{first} to {last}"


def row(name: str, value: int, span: str, meaning: str) -> Row:
    """Make a row.

    :param span: the checked kernels that have it: ``4.9-5.4``, ``5.10-`` for all from there, ``6.1 6.12``; "" for all
    """
    kernels: list[Version] = []
    for run in span.split() or [f"{version_text(KERNELS[0])}-"]:
        first, dash, last = run.partition("-")
        low = kernel_of(first)
        high = low if not dash else KERNELS[-1] if not last else kernel_of(last)
        kernels += [kernel for kernel in KERNELS if low <= kernel <= high]
    return Row(name, value, meaning, tuple(kernels))


class Names:
    """Named values that moved between kernels: flags, states.

    :param prefix: what all names begin with, and what a reader may leave out (``PF_``)
    :param rows: in order of value
    """

    def __init__(self, prefix: str, rows: Iterable[Row]) -> None:
        self.prefix = prefix
        self.rows = tuple(rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def at(self, kernel: Version = DEFAULT) -> tuple[Row, ...]:
        """Return the rows that hold in `kernel`, in order of value."""
        series = checked(kernel)
        return tuple(sorted((r for r in self.rows if series in r.kernels), key=lambda r: r.value))

    def split(self, value: int, kernel: Version = DEFAULT) -> tuple[list[Row], int]:
        """Take a flag word apart: the rows whose bits are all set, and the bits that no row names."""
        found, rest = [], value
        for r in self.at(kernel):
            if r.value and value & r.value == r.value:
                found.append(r)
                rest &= ~r.value
        return found, rest

    def others(self, value: int, kernel: Version = DEFAULT) -> list[Row]:
        """Return the rows that give `value` another name in other kernels, oldest first."""
        here = {r.name for r in self.at(kernel) if r.value == value}
        return sorted((r for r in self.rows if r.value == value and r.name not in here), key=lambda r: r.kernels)

    def text(self, value: int, kernel: Version = DEFAULT) -> str:
        """Write a flag word as ``A|B``, bits without a name in hexadecimal; ``0`` if none is set."""
        found, rest = self.split(value, kernel)
        words = [r.name for r in found] + ([f"{rest:#x}"] if rest else [])
        return "|".join(words) or "0"
