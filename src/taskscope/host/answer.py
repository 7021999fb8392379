"""One answer about the machine, and the machine as the probes see it.

Probes take a `Host` and give an `Answer`; they read and open, and leave every setting as it is.  A `Host` with another
root than ``/`` serves the tests of states that the machine at hand cannot be in.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

State = Literal["yes", "no", "partly", "unknown"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe found.

    :param name: what was asked, a word that stays the same from version to version
    :param state: ``partly``: it is there and lacks something; ``unknown``: this user may not be told
    :param detail: what it is, or what is missing, in a few words
    :param remedy: the command that mends it, or words where no command does; None where nothing is to be mended, or
        nothing mends it
    """

    name: str
    group: str
    state: State
    detail: str
    remedy: str | None = None

    @property
    def works(self) -> bool | None:
        """Whether it works as a whole; None if that is not known."""
        return {"yes": True, "no": False, "partly": False, "unknown": None}[self.state]

    def as_json(self) -> dict[str, object]:
        """Return the object of ``taskscope check --json``."""
        return {"name": self.name, "group": self.group, "works": self.works, "state": self.state,
                "detail": self.detail, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Host:
    """The machine: where its files are and who asks."""

    root: Path = Path("/")
    uid: int = field(default_factory=os.geteuid)
    search_path: str | None = None

    @property
    def is_root(self) -> bool:
        """Whether root asks."""
        return self.uid == 0

    def path(self, name: str) -> Path:
        """Return a file of the machine by its absolute name."""
        return self.root / name.lstrip("/")

    def read(self, name: str, limit: int = 1 << 16) -> bytes | None:
        """Return the beginning of a file, None if it cannot be read; never waits for a pipe."""
        try:
            descriptor = os.open(self.path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.read(descriptor, limit)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def text(self, name: str) -> str | None:
        """Return the beginning of a text file without blanks around it, None if it cannot be read."""
        content = self.read(name)
        return None if content is None else content.decode(errors="backslashreplace").strip()

    def sudo(self, command: str) -> str:
        """Return a command for root as this user has to type it."""
        return command if self.is_root else f"sudo {command}"

    def program(self, name: str) -> str | None:
        """Return where a program is, None if it is not there."""
        return shutil.which(name, path=self.search_path)

    def install(self, debian: str, command: str | None = None) -> str:
        """Return how to install a program: Debian's package where apt is, in words elsewhere."""
        if self.program("apt-get"):
            return self.sudo(f"apt-get install {debian}")
        return f"install {command or debian} (there is no apt here)"

    def mounts(self, kind: str) -> list[Path]:
        """Return where file systems of a kind are mounted (proc_mounts(5)), the shortest name first."""
        found = []
        for line in (self.read("/proc/self/mounts", 1 << 20) or b"").splitlines():
            words = line.split(b" ")
            if len(words) > 2 and words[2] == kind.encode():
                name = re.sub(rb"\\([0-7]{3})", lambda m: bytes([int(m[1], 8) & 255]), words[1])
                found.append(self.path(os.fsdecode(name)))
        return sorted(found, key=lambda p: len(str(p)))

    def tracefs(self) -> Path | None:
        """Return where tracefs is mounted.

        Only the list of mounts is asked: to look into /sys/kernel/debug/tracing would mount one there.
        """
        found = self.mounts("tracefs")
        home = self.path("/sys/kernel/tracing")
        return home if home in found else found[0] if found else None


def error_name(error: OSError) -> str:
    """Return the name of an errno: EPERM."""
    return errno.errorcode.get(error.errno or 0, f"errno {error.errno}")
