r"""The line grammars of ftrace text: what stands before the event on one line, and which program wrote it.

Follows trace_print_context(), trace_print_lat_context() and trace_print_time() in the kernel's
kernel/trace/trace_output.c (3.10 to 6.18), tracecmd_show_data_func of trace-cmd's report, and
perf_sample__fprintf_start() of perf script.  Every pattern is linear in the length of a line: quantifiers before the
body are bounded or possessive, so no line, however long or hostile, makes them search back and forth.

`Grammar.pattern` matches every line: a line that is neither a record nor a frame of a stack comes out in the group
``other``.  So the matches of a block of text are its lines, one by one.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Text = bytes | mmap.mmap
Style = Literal["tracefs", "latency", "verbose", "report", "report-latency", "perf"]

#: bytes looked at, at first and at most, to find out what a text is; and how far it is searched for a first record
_FIRST, WINDOW, HORIZON = 1 << 16, 1 << 20, 8 << 20

# A comm has 15 bytes in the kernel, 16 columns in its text; other writers (Perfetto) print longer thread names, and
# trace-cmd puts the name of a buffer before it.  Leading blanks are the column's padding.  The first place where the
# rest of a head follows ends the comm: with three digits of a cpu and six of a stamp, none fits into a comm.
_COMM = rb" *+(?P<comm>.{0,79}?)"
# The same before a dash, and before a blank: pieces between those are taken whole.
_COMM_DASH = rb" *+(?P<comm>[^\n-]{0,79}+(?:-[^\n-]{0,79}+){0,15}?)-"
_COMM_BLANK = rb" *+(?P<comm>[^\n ]{0,79}+(?: {1,79}+[^\n ]{1,79}+){0,15}?)"
_PID = rb"(?P<pid>[01]?\d{1,9})"                     # < 2**31
_SECONDS = rb"(?P<sec>[0-8]?\d{1,9})\.(?P<frac>\d{6,9})"     # < 2**63 ns
_CYCLES = rb"(?P<sec>[0-8]?\d{1,18})"                # < 2**63
_FLAGS = rb"(?P<flags>[.\w]{4,8})"
_NAME = rb"(?:(?P<name>[^\s:(]{1,255}+):(?: |$))?"
_WIDE_NAME = rb"(?:(?P<name>[^\s:(]{1,255}+):(?: ++|$))?"
_TGID = rb"\( {0,12}(?P<tgid>\d{1,10}|-{1,10})\) {1,12}"


_ARROW = rb" {0,2}=> .*"


def _task(stamp: bytes, name: bytes, before: bytes = b"(?:" + _TGID + b")?", behind: bytes = b"") -> bytes:
    return (_COMM_DASH + _PID + rb" {1,12}" + before + rb"\[(?P<cpu>\d{3,4})\] {0,12}" + behind + b"(?:" + _FLAGS
            + rb" {1,24})?" + stamp + b": " + name)


def _latency(stamp: bytes, name: bytes) -> bytes:
    return _COMM_DASH + _PID + rb" {1,12}(?P<cpu>\d{1,4})" + _FLAGS + rb" {1,24}" + stamp + b": " + name


_US = rb"(?P<us>\d{1,15})us."
_PERF = (_COMM_BLANK + rb" {1,40}+(?:(?P<tgid>-1|[01]?\d{1,9})/)?(?P<pid>-1|[01]?\d{1,9}) {1,40}"
         rb"(?:\[(?P<cpu>\d{3,4})\] {1,12})?(?:[.\w]{4,8} {1,12})?" + _SECONDS + rb": {1,80}(?:\d{1,20} {1,80})?"
         rb"(?P<name>(?:[^\s:]{1,127}:)?[^\s:]{1,127}):(?: ++|$)")
_VERBOSE = (_COMM + rb" {1,12}" + _PID + rb" {1,12}(?P<cpu>\d{1,4}) (?P<rawflags>\d{1,3}) (?P<rawcount>[0-9a-f]{8})"
            rb" [0-9a-f]{8,16} \[(?P<hexus>[0-9a-f]{8,13})\] \d{1,15}\.\d{3}ms \(\+\d{1,15}\.\d{3}ms\): " + _NAME)


@dataclass(frozen=True)
class Grammar:
    """How one program writes a record's line.

    :param head: pattern of what stands before the body: the groups comm, pid, cpu, one of (sec, us, hexus) for the
        time, and where the style has them tgid, flags, frac and name
    :param stamp: the group that is never empty in a record's line
    :param frame: pattern of a line that is a frame of a call stack
    """

    style: Style
    head: bytes
    unit: Literal["ns", "cycles"]
    stamp: str
    frame: bytes = _ARROW

    @cached_property
    def pattern(self) -> re.Pattern[bytes]:
        """Matches every line; the body is the group ``rest``, a line that is no record's and no frame ``other``."""
        return re.compile(b"^(?:" + self.head + rb"(?P<rest>.*)|" + self.frame + rb"|(?P<other>.*))", re.MULTILINE)

    @cached_property
    def record(self) -> re.Pattern[bytes]:
        """Finds only the lines of records."""
        return re.compile(b"^" + self.head, re.MULTILINE)

    @property
    def wide(self) -> bool:
        """Tell whether blanks between the event's name and its body are padding, not the body's own."""
        return self.style in ("report", "report-latency", "perf")

    @property
    def comm_width(self) -> int:
        """Columns that the comm takes at least, and at most where it is cut."""
        return 8 if self.style in ("latency", "report-latency") else 16


_GRAMMARS = (
    Grammar("tracefs", _task(_SECONDS, _NAME), "ns", "sec"),
    Grammar("tracefs", _task(_CYCLES, _NAME), "cycles", "sec"),
    # 4.13 to 4.17 have the thread group behind the cpu.
    Grammar("tracefs", _task(_SECONDS, _NAME, b"", _TGID), "ns", "sec"),
    Grammar("latency", _latency(_US, _NAME), "ns", "us"),
    Grammar("latency", _latency(_CYCLES, _NAME), "cycles", "sec"),
    Grammar("verbose", _VERBOSE, "ns", "hexus"),
    Grammar("report", _task(_SECONDS, _WIDE_NAME), "ns", "sec"),
    Grammar("report", _task(_CYCLES, _WIDE_NAME), "cycles", "sec"),
    Grammar("report-latency", _latency(_SECONDS, _WIDE_NAME), "ns", "sec"),
    Grammar("perf", _PERF, "ns", "sec", rb"\t.*"),
)

# A line of trace-cmd report also follows the grammar of tracefs, which reads its padding as text.
_TRIED = tuple(g for g in _GRAMMARS if g.style != "report")

#: columns that trace-cmd report gives the name of an event at least
_NAME_WIDTH = 20
_CPUS = re.compile(rb"^cpus=\d{1,6}\r?$", re.MULTILINE)
#: only comments, as far as they show what follows them
_HEADER = re.compile(rb"^# tracer: |^# [-a-z_]+ latency trace v1|^# ========\r?\n# captured on", re.MULTILINE)
_HTML = re.compile(rb"<!doctype html|<html", re.IGNORECASE)
_SCRIPT = re.compile(rb'<script class="trace-data" type="application/text">\s*')


def windows(data: Text, start: int, end: int) -> Iterator[bytes]:
    """Yield the text in pieces of whole lines of up to `WINDOW` bytes, the first ones smaller, up to `HORIZON`.

    A line longer than a window is left out.
    """
    limit = min(end, start + HORIZON)
    at, size = start, _FIRST
    while at < limit:
        stop = min(at + size, end)
        size = min(size * 4, WINDOW)
        if stop < end:
            cut = data.rfind(b"\n", at, stop)
            if cut < 0:
                cut = data.find(b"\n", stop, limit)
                if cut < 0:
                    return
                at = cut + 1
                continue
            stop = cut + 1
        yield data[at:stop]
        at = stop


def _count(grammar: Grammar, text: bytes) -> int:
    return sum(1 for _ in grammar.record.finditer(text))


def _is_padded(grammar: Grammar, text: bytes) -> bool:
    """Tell whether blanks fill the columns behind the names of events, as trace-cmd writes them."""
    short = [text[m.end():m.end() + 1] == b" " for m in grammar.record.finditer(text)
             if m["name"] and len(m["name"]) < _NAME_WIDTH]
    return 2 * sum(short) > len(short)


def choose_grammar(data: Text, start: int, end: int) -> Grammar | None:
    """Find out which program wrote a text, from the first piece of it that has records.

    :return: the grammar that most lines of that piece follow; None if none does
    """
    for text in windows(data, start, end):
        count, best = max(((_count(g, text), g) for g in _TRIED), key=lambda x: x[0])
        if not count:
            continue
        if best.style == "tracefs" and (_CPUS.search(data, start, min(end, start + WINDOW)) is not None
                                        or _is_padded(best, text)):
            return next(g for g in _GRAMMARS if g.style == "report" and g.unit == best.unit)
        return best
    return None


def has_header(head: bytes) -> bool:
    """Tell whether a text bears the head of a recording, which may have no records."""
    return _HEADER.search(head) is not None or _CPUS.match(head) is not None


def looks_like_text(head: bytes) -> bool:
    """Tell whether the first bytes of a file are those of an ftrace text that `open_text` reads.

    True for the head of a tracefs ``trace`` file, of ``trace-cmd report``, ``perf script`` and of a systrace HTML
    page, and for anything with one line that is such a program's line of a record.

    :param head: the first bytes, some KiB are enough
    """
    if not head:
        return False
    if has_header(head) or head.startswith(b"TRACE:"):
        return True
    if _HTML.search(head[:1024]):
        # The recording stands at the end of the page, behind the viewer.
        return True
    return any(_count(g, head[:WINDOW]) for g in _TRIED)


def regions(data: Text) -> list[tuple[int, int]]:
    """Return the stretches of bytes that hold the recording: all, or the trace-data scripts of a systrace page."""
    if not _HTML.search(data[:1024]):
        return [(0, len(data))]
    found: list[tuple[int, int]] = []
    for m in _SCRIPT.finditer(data):
        end = data.find(b"</script>", m.end())
        found.append((m.end(), len(data) if end < 0 else end))
    # systrace.py puts a listing of processes into a script of its own.
    traces = [(a, b) for a, b in found if data.find(b"# tracer:", a, min(b, a + 4096)) >= 0]
    return traces or found or [(0, len(data))]
