"""What stands in /proc/PID/stat and /proc/PID/status: `Stat`, `Status`.  Follows proc(5), Linux 6.18."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple


class Stat(NamedTuple):
    """The line of /proc/PID/stat, as far as it is used."""

    comm: bytes
    state: str
    ppid: int
    pgid: int
    sid: int
    tty: int           # device number
    tpgid: int
    flags: int
    min_flt: int
    maj_flt: int
    utime: int         # ticks
    stime: int
    prio: int          # less 100
    nice: int
    threads: int
    start: int         # ticks since boot
    cpu: int
    rt_priority: int
    policy: int
    exit_code: int
    exit_code_shown: bool


def parse_stat(line: bytes) -> Stat | None:
    """Take the line of a stat file apart; None if it is none.

    The name may hold anything, brackets and blanks too: it ends at the last ``)``.
    """
    opened, closed = line.find(b"("), line.rfind(b")")
    if opened < 0 or closed < opened:
        return None
    w = line[closed + 2 :].split()
    if len(w) < 40 or len(w[0]) != 1:
        return None
    told = len(w) > 49
    try:
        return Stat(
            line[opened + 1 : closed], w[0].decode("ascii", "replace"), int(w[1]), int(w[2]), int(w[3]), int(w[4]),
            int(w[5]), int(w[6]), int(w[7]), int(w[9]), int(w[11]), int(w[12]), int(w[15]), int(w[16]), int(w[17]),
            int(w[19]), int(w[36]), int(w[37]), int(w[38]), int(w[49]) if told else 0, told)
    except ValueError:
        return None


#: where the fields of a row stand in a status file: line, words of it
_IDS: Final = {b"\nUid:": ("ruid", "uid", "suid", "fsuid"), b"\nGid:": ("rgid", "gid", "sgid", "fsgid")}
_KIB: Final = {"size_kib": b"\nVmSize:", "rss_kib": b"\nVmRSS:", "locked_kib": b"\nVmLck:"}
_MASKS: Final = {"pending": b"\nSigPnd:", "shared_pending": b"\nShdPnd:", "blocked": b"\nSigBlk:",
                 "ignored": b"\nSigIgn:", "caught": b"\nSigCgt:"}
_NUMBERS: Final = {"tracer": b"\nTracerPid:", "nvcsw": b"\nvoluntary_ctxt_switches:",
                   "nivcsw": b"\nnonvoluntary_ctxt_switches:"}


class Status:
    """Reads the fields of a `TaskRow` that a status file holds.

    :param wanted: names of fields; the effective uid comes with any other
    """

    def __init__(self, wanted: Collection[str]) -> None:
        self._ids = [(key, names) for key, names in _IDS.items() if "uid" in names or not set(names).isdisjoint(wanted)]
        # A task without memory (a kernel thread, a zombie) has no lines for it.
        self._kib = [(name, key) for name, key in _KIB.items() if name in wanted]
        self._numbers = [(name, key, 10) for name, key in _NUMBERS.items() if name in wanted]
        self._numbers += [(name, key, 16) for name, key in _MASKS.items() if name in wanted]

    def fields(self, text: bytes) -> dict[str, int]:
        """Return the fields by name; those that the text does not tell are left out, sizes of no memory are 0."""
        found: dict[str, int] = {}
        for key, names in self._ids:
            words = _after(text, key).split()
            if len(words) == len(names) and all(map(bytes.isdigit, words)):
                found.update(zip(names, map(int, words), strict=True))
        for name, key in self._kib:
            word = _after(text, key).strip().partition(b" ")[0]
            found[name] = int(word) if word.isdigit() else 0
        for name, key, base in self._numbers:
            try:
                found[name] = int(_after(text, key), base)
            except ValueError:
                continue
        return found


def _after(text: bytes, key: bytes) -> bytes:
    """Return what stands behind a key in its line; nothing if there is no such line."""
    at = text.find(key)
    if at < 0:
        return b""
    end = text.find(b"\n", at + 1)
    return text[at + len(key) : end if end > 0 else None]
