"""What stands in /proc/PID/stat and /proc/PID/status: `Stat`, `status_fields`.  Follows proc(5), Linux 6.18."""

from __future__ import annotations

from typing import Final, NamedTuple

#: ns of a tick; USER_HZ is 100 on every architecture that is read here
TICK: Final = 10_000_000


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
    rss: int           # pages
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
    words = line[closed + 2 :].split()
    try:
        number = list(map(int, words[1:50]))
    except ValueError:
        return None
    if len(number) < 39 or len(words[0]) != 1:
        return None
    n = number.__getitem__
    return Stat(
        line[opened + 1 : closed], words[0].decode("ascii", "replace"), n(0), n(1), n(2), n(3), n(4), n(5), n(6), n(8),
        n(10), n(11), n(14), n(15), n(16), n(18), n(20), n(35), n(36), n(37),
        n(48) if len(number) > 48 else 0, len(number) > 48)


_IDS: Final = {b"Uid": ("ruid", "uid", "suid", "fsuid"), b"Gid": ("rgid", "gid", "sgid", "fsgid")}
_KIB: Final = {b"VmSize": "size_kib", b"VmRSS": "rss_kib", b"VmLck": "locked_kib"}
_MASKS: Final = {b"SigPnd": "pending", b"ShdPnd": "shared_pending", b"SigBlk": "blocked", b"SigIgn": "ignored",
                 b"SigCgt": "caught"}
_NUMBERS: Final = {b"TracerPid": "tracer", b"voluntary_ctxt_switches": "nvcsw",
                   b"nonvoluntary_ctxt_switches": "nivcsw"}


def status_fields(text: bytes) -> dict[str, int]:
    """Return the fields of a `TaskRow` that a status file holds, by name; a line that is none is left out.

    A task without memory (a kernel thread, a zombie) has no lines for it: then they are 0.
    """
    found = dict.fromkeys(_KIB.values(), 0)
    for line in text.split(b"\n"):
        key, _, value = line.partition(b":")
        try:
            if key in _IDS:
                found.update(zip(_IDS[key], map(int, value.split()), strict=True))
            elif key in _KIB:
                found[_KIB[key]] = int(value.split()[0])
            elif key in _MASKS:
                found[_MASKS[key]] = int(value, 16)
            elif key in _NUMBERS:
                found[_NUMBERS[key]] = int(value)
        except (ValueError, IndexError):
            continue
    return found
