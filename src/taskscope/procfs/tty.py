"""Names of terminals: `Terminals`.  Follows dev_to_tty() of procps-ng 4.0.2, library/devname.c."""

from __future__ import annotations

import os
from typing import Final

from taskscope.procfs.files import Proc

#: where the names of a major number start where /proc/tty/drivers does not tell: Documentation/admin-guide/devices.txt
_PTS: Final = 136
_SERIAL: Final = 64


class Terminals:
    """Finds the name of a terminal by its device number, such as ``pts/0`` or ``tty1``."""

    def __init__(self, proc: Proc, dev: str = "/dev") -> None:
        self._proc = proc
        self._dev = dev
        self._drivers: list[tuple[str, int, int, int]] | None = None
        self._names: dict[tuple[int, int], str | None] = {}

    def name(self, device: int, pid: int) -> str | None:
        """Return the name of a terminal; None for no terminal, or one that has no name.

        :param device: as in field tty_nr of /proc/PID/stat
        :param pid: a process whose terminal it is
        """
        if not device:
            return None
        # new_encode_dev(): the minor number is in two pieces.
        major, minor = device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00
        key = major, minor
        if key not in self._names:
            self._names[key] = self._find(major, minor, pid)
        return self._names[key]

    def _find(self, major: int, minor: int, pid: int) -> str | None:
        for name in self._candidates(major, minor, pid):
            if self._is(name, major, minor):
                return name.removeprefix(f"{self._dev}/")
        return None

    def _candidates(self, major: int, minor: int, pid: int) -> list[str]:
        found = []
        for name, number, first, last in self._known():
            if number == major and first <= minor <= last:
                found += [f"{self._dev}/{name}{minor}", f"{self._dev}/{name}/{minor}", f"{self._dev}/{name}"]
                break
        if (link := self._proc.link(f"{pid}/fd/2")) is not None:
            found.append(link)
        if _PTS <= major < _PTS + 8:
            found.append(f"{self._dev}/pts/{minor + (major - _PTS) * 256}")
        elif major == 4:
            found.append(f"{self._dev}/tty{minor}" if minor < _SERIAL else f"{self._dev}/ttyS{minor - _SERIAL}")
        return found

    def _is(self, path: str, major: int, minor: int) -> bool:
        try:
            device = os.stat(path).st_rdev  # noqa: PTH116
        except OSError:
            return False
        return (os.major(device), os.minor(device)) == (major, minor)

    def _known(self) -> list[tuple[str, int, int, int]]:
        """Return the drivers of /proc/tty/drivers: name of their devices, major number, first and last minor."""
        if self._drivers is None:
            self._drivers = []
            for line in (self._proc.read("tty/drivers") or b"").decode("ascii", "replace").splitlines():
                words = line.split()
                if len(words) < 5 or not words[-3].isdigit() or not words[1].startswith("/dev/"):
                    continue
                first, _, last = words[-2].partition("-")
                if first.isdigit() and (not last or last.isdigit()):
                    # Old kernels say pts/%d.
                    name = words[1].removeprefix("/dev/").partition("%")[0].removesuffix("/")
                    self._drivers.append((name, int(words[-3]), int(first), int(last or first)))
        return self._drivers
