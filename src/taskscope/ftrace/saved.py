"""The small text files of tracefs that describe a recording: saved_cmdlines, saved_tgids, stats, trace_clock.

Follows the show functions in the kernel's kernel/trace/trace_sched_switch.c, trace.c and trace_printk.c
(6.1 to 6.18).  Texts are bytes: a comm may hold any byte but NUL.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: bytes of a comm without its NUL (TASK_COMM_LEN - 1)
COMM_MAX = 15

_CMDLINE = re.compile(rb"(\d{1,10}) (.*)\Z", re.DOTALL)
_TGID = re.compile(rb"(\d{1,10}) (\d{1,10})\Z")
_PRINTK = re.compile(rb'(?:0x)?([0-9a-fA-F]{1,16}) : "(.*)"\Z', re.DOTALL)
_ESCAPES = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"\\": b"\\", b'"': b'"'}


def parse_cmdlines(text: bytes) -> tuple[dict[int, bytes], int]:
    r"""Parse ``saved_cmdlines``: ``PID COMM\n`` per task.

    A comm may hold a newline; what follows one and does not begin with a number belongs to the comm before.

    :return: comm by pid, and how many lines were neither
    """
    comms: dict[int, bytes] = {}
    bad = 0
    last: int | None = None
    for line in text.rstrip(b"\0").removesuffix(b"\n").split(b"\n"):
        m = _CMDLINE.match(line)
        if m:
            last = int(m[1])
            comms[last] = m[2]
        elif last is not None and len(comms[last]) + 1 + len(line) <= COMM_MAX:
            comms[last] += b"\n" + line
        elif line:
            bad += 1
    return comms, bad


def parse_tgids(text: bytes) -> tuple[dict[int, int], int]:
    r"""Parse ``saved_tgids``: ``TID TGID\n`` per task.

    :return: tgid by tid, and how many lines were something else
    """
    tgids: dict[int, int] = {}
    bad = 0
    for line in text.rstrip(b"\0").splitlines():
        m = _TGID.match(line.strip())
        if m:
            tgids[int(m[1])] = int(m[2])
        elif line.strip():
            bad += 1
    return tgids, bad


def parse_printk_formats(text: bytes) -> dict[int, bytes]:
    """Parse ``printk_formats``: the strings that trace_printk() records refer to by address.

    :return: string by address, its escapes undone
    """
    def plain(m: re.Match[bytes]) -> bytes:
        return _ESCAPES.get(m[1], m[0])

    formats: dict[int, bytes] = {}
    for line in text.rstrip(b"\0").split(b"\n"):
        m = _PRINTK.match(line)
        if m:
            formats.setdefault(int(m[1], 16), re.sub(rb"\\(.)", plain, m[2]))
    return formats


def parse_clock(text: bytes) -> str | None:
    """Return the clock in brackets of ``trace_clock`` (``local [global]``), or its only word; else None."""
    m = re.search(rb"\[([\w-]{1,64})\]", text)
    if m:
        return m[1].decode("ascii", "replace")
    words = text.rstrip(b"\0").split()
    if len(words) == 1 and re.fullmatch(rb"[\w-]{1,64}", words[0]):
        return words[0].decode("ascii", "replace")
    return None


@dataclass(slots=True)
class Stats:
    """What per_cpu/cpuN/stats says of one cpu, in events; None where it does not."""

    overrun: int | None = None       # overwritten by newer events
    dropped: int | None = None       # not written because the buffer was full and may not overwrite


@dataclass(slots=True)
class BufferStats:
    """The stats of the cpus of one buffer."""

    name: bytes
    cpus: dict[int, Stats] = field(default_factory=dict)


def parse_stats(text: bytes) -> Stats:
    """Parse one ``stats`` file (rb_stats in the kernel: ``entries: N``, ``overrun: N``, …)."""
    stats = Stats()
    for line in text.split(b"\n"):
        key, _, value = line.partition(b":")
        number = value.strip(b" \0")
        if not number.isdigit() or len(number) > 20:
            continue
        if key == b"overrun":
            stats.overrun = int(number)
        elif key == b"dropped events":
            stats.dropped = int(number)
    return stats


def parse_cpustat(text: bytes) -> list[BufferStats]:
    """Parse joined CPUSTAT options of a trace.dat: ``CPU: N`` opens a cpu, ``Buffer: NAME`` an instance."""
    buffers = [BufferStats(b"")]
    parts = re.split(rb"^(Buffer|CPU): ?(.*)$", text.replace(b"\0", b"\n"), flags=re.MULTILINE)
    for kind, value, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        value = value.strip()
        if kind == b"Buffer":
            buffers.append(BufferStats(value))
        elif value.isdigit() and len(value) < 6:
            buffers[-1].cpus[int(value)] = parse_stats(body)
    return buffers
