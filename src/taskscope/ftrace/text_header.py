"""What the lines between the records say: heads, losses, the meaning of the flag columns.

Follows print_trace_header(), print_event_info() and print_lat_help_header() in the kernel's kernel/trace/trace.c (3.10
to 6.18), trace-cmd report and the header of perf script.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from taskscope.abi.traceflags import flags_of_text

#: NR_CPUS is at most 8192; a greater number is damage
MAX_CPUS = 1 << 16

_TRACER = re.compile(rb"# tracer: ([\w-]{1,64})")
_ENTRIES = re.compile(rb"# entries-in-buffer/entries-written: (\d{1,18})/(\d{1,18}) {0,8}#P:(\d{1,6})")
_LATENCY = re.compile(rb"# \S{1,64} latency trace v\S{1,16} on (\S{1,128})")
_LATENCY_ENTRIES = re.compile(rb"# latency: \d{1,18} us, #(\d{1,18})/(\d{1,18}), CPU#\d{1,6} \|.{0,200}#P:(\d{1,6})\)")
_LEGEND = re.compile(rb"#.{1,80}=> (\S{1,40})")
_STARTED = re.compile(rb"#{5} CPU (\d{1,5}) buffer started")
_PERF = re.compile(rb"# (hostname|os release|arch|nrcpus online|nrcpus avail) : (\S{1,128})")
_CPUS = re.compile(rb"cpus=(\d{1,6})\s{0,4}\Z")
_LOST = re.compile(rb"CPU:(\d{1,5}) \[(?:LOST )?(?:(\d{1,18}) )?EVENTS(?: DROPPED)?\]\s{0,4}\Z")
#: perf's own records that its options --show-*-events print
_PERF_LOST = re.compile(rb".{0,100}?\[(\d{1,4})\] {1,12}\d{1,12}\.\d{1,9}: PERF_RECORD_LOST(?:_SAMPLES)? "
                        rb"lost (\d{1,18})")
_SILENT = re.compile(rb"CPU \d{1,5} is empty|TRACE:|version = \d|PERF_RECORD_|.{0,100}: PERF_RECORD_[A-Z]|\s{0,64}\Z")

#: the columns of trace_print_lat_fmt() where no legend names them, by their number
_COLUMNS = {
    4: (b"irqs-off", b"need-resched", b"hardirq/softirq", b"preempt-depth"),
    5: (b"irqs-off", b"need-resched", b"hardirq/softirq", b"preempt-depth", b"migrate-disable"),
    7: (b"irqs-off", b"need-resched", b"need-resched-lazy", b"hardirq/softirq", b"preempt-depth",
        b"preempt-lazy-depth", b"migrate-disable"),          # PREEMPT_RT kernels
}

#: kernels whose letters differ: bit 1 of common_flags got another meaning in 6.13
_ERAS = ((6, 18), (6, 12))


@dataclass(slots=True)
class Loss:
    """Events lost before the record numbered ``before``; ``cpu`` and ``count`` None where the text does not say."""

    before: int
    cpu: int | None
    count: int | None
    head: bool = False          # from the counts at the head: before the cpu's first record


@dataclass(slots=True)
class Header:
    """What was gathered from comments and the like; None where nothing said it."""

    tracer: str | None = None
    cpus: int | None = None
    release: str | None = None
    machine: str | None = None
    hostname: str | None = None
    columns: list[bytes] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    _latest: dict[int, Loss] = field(default_factory=dict)
    started: set[int] = field(default_factory=set)           # cpus whose buffer was annotated as beginning later

    def comment(self, line: bytes, before: int) -> None:
        """Read a line that begins with ``#``; `before` is the number of the next record."""
        if m := _TRACER.match(line):
            self.tracer = m[1].decode()
            self.columns = []
        elif m := _ENTRIES.match(line) or _LATENCY_ENTRIES.match(line):
            kept, written = int(m[1]), int(m[2])
            if written > kept:
                self.losses.append(Loss(before, None, written - kept, head=True))
            self._cpus(m[3])
        elif m := _LATENCY.match(line):
            self.release = m[1].decode("utf-8", "backslashreplace")
        elif m := _STARTED.match(line):
            self.started.add(int(m[1]))
        elif m := _PERF.match(line):
            value = m[2].decode("utf-8", "backslashreplace")
            if m[1] == b"hostname":
                self.hostname = value
            elif m[1] == b"os release":
                self.release = value
            elif m[1] == b"arch":
                self.machine = value
            else:
                self._cpus(m[2])
        elif (m := _LEGEND.match(line)) and m[1] != b"CPU#":
            self.columns.append(m[1].split(b"/BH-")[0].replace(b"_", b"-"))

    def _cpus(self, digits: bytes) -> None:
        if digits.isdigit() and 0 < int(digits) <= MAX_CPUS:
            self.cpus = max(int(digits), self.cpus or 0)

    def other(self, line: bytes, before: int) -> bool:
        """Read a line that is neither a record, a frame nor a comment; return whether it means anything."""
        if m := _LOST.match(line) or _PERF_LOST.match(line):
            self._lost(before, int(m[1]), int(m[2]) if m[2] else None)
        elif m := _CPUS.match(line):
            self._cpus(m[1])
        elif not _SILENT.match(line):
            return False
        return True

    def _lost(self, before: int, cpu: int, count: int | None) -> None:
        last = self._latest.get(cpu)
        if last is not None and last.before == before:
            # Two losses with no record between them are one.
            last.count = None if count is None or last.count is None else last.count + count
            return
        self._latest[cpu] = Loss(before, cpu, count)
        self.losses.append(self._latest[cpu])

    def flags(self, token: bytes) -> int | None:
        """Turn the flag columns of a record back into common_flags and, in the high byte, common_preempt_count.

        The inverse of trace_print_lat_fmt() in kernel/trace/trace_output.c.

        :param token: the columns, such as ``d..2.``
        :return: None if there are columns whose meaning the text does not tell, or letters that no kernel prints
        """
        names: tuple[bytes, ...] | None = tuple(c for c in self.columns if c != b"delay")
        if names and len(token) > len(names) and names[-1] == b"preempt-depth":
            # Before 5.16 the depth is not one digit only.
            names += (b"preempt-depth",) * (len(token) - len(names))
        if not names or len(names) != len(token):
            names = _COLUMNS.get(len(token))
        if names is None:
            return None
        column = {name: token[i:i + 1].decode() for i, name in enumerate(names)}
        letters = "".join(column.get(n, ".") for n in (b"irqs-off", b"need-resched", b"hardirq/softirq"))
        found = next((f for f in (flags_of_text(f"{letters}..", era) for era in _ERAS) if f is not None), None)
        depth_text = "".join(token[i:i + 1].decode() for i, n in enumerate(names) if n == b"preempt-depth")
        counts = [c.replace(".", "0") or "0" for c in (depth_text, column.get(b"migrate-disable", "."))]
        if found is None or not all(set(c) <= set("0123456789abcdef") for c in counts):
            return None
        lazy = 0x02 if column.get(b"need-resched-lazy", ".") in "Ll" else 0
        depth, migrate = (int(c, 16) for c in counts)
        return found[0] | lazy | (depth & 0xFF | migrate << 4 & 0xF0) << 8
