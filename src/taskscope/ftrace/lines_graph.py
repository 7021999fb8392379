"""Calls and returns of the function_graph tracer, and repeated calls of the function tracer.

A call that the very next record of its cpu returns from is a leaf: it takes one line, ``0.541 us    |  name();``, and
its return takes none.  Follows print_graph_function_event() in the kernel's kernel/trace/trace_functions_graph.c and
trace_func_repeats_print() in trace_output.c (v6.1 to v6.18), with the options that are on by default.  The frames that
the kernel draws around interrupts are left out: where they begin is not recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.format import EventFormat, RawField
from taskscope.ftrace.lines_special import listed
from taskscope.ftrace.printfmt.cache import SlotCache
from taskscope.ftrace.printfmt.evaluate import Kernel
from taskscope.ftrace.printfmt.pieces import Cut, Literal, Piece
from taskscope.ftrace.printfmt.records import PageRecords
from taskscope.trace.source import Rows

if TYPE_CHECKING:
    from taskscope.ftrace.ring import RingSource

Column = npt.NDArray[Any]

_NO_TIME = b"              |  "
#: a longer duration than that (ns) gets the mark (trace_find_mark)
_MARKS = ((1_000_000_000, "$"), (100_000_000, "@"), (10_000_000, "*"), (1_000_000, "#"), (100_000, "!"), (10_000, "+"))
_DEEPEST = 512


class Graph:
    """Finds leaves: calls whose return is the next record."""

    def __init__(self, source: RingSource) -> None:
        self.source = source
        self.types = {f.name: i for i, f in enumerate(source.formats) if f.system == "ftrace"}

    def number(self, name: str, field: str, rows: Rows) -> Column:
        """Return an integer field of calls or returns."""
        return self.source.column(self.source.types[self.types[name]], field, rows)

    def leaves(self, calls: Rows) -> npt.NDArray[np.bool_]:
        """Tell which calls are leaves."""
        index, back = self.source.index, self.types.get("funcgraph_exit")
        leaf = np.zeros(len(calls), bool)
        if back is None:
            return leaf
        after = np.minimum(calls + 1, len(index) - 1)
        near = np.flatnonzero((calls + 1 < len(index)) & (index.type[after] == back)
                              & (index.cpu[after] == index.cpu[calls]) & (index.buffer[after] == index.buffer[calls]))
        if len(near):
            a, b = calls[near], calls[near] + 1
            same = self.source.pids(a) == self.source.pids(b)
            same &= self.number("funcgraph_entry", "func", a) == self.number("funcgraph_exit", "func", b)
            leaf[near] = same
        return leaf

    def without_leaf_returns(self, rows: Rows, types: Column) -> npt.NDArray[np.bool_]:
        """Tell which rows take a line: all but the returns from leaves."""
        keep = np.ones(len(rows), bool)
        back, call = self.types.get("funcgraph_exit"), self.types.get("funcgraph_entry")
        if back is None or call is None:
            return keep
        returns = np.flatnonzero((types == back) & (rows > 0))
        returns = returns[self.source.index.type[rows[returns] - 1] == call]
        if len(returns):
            keep[returns[self.leaves(rows[returns] - 1)]] = False
        return keep


def duration_text(ns: int) -> bytes:
    """Show how long a call took, in a column of its own."""
    mark = next((m for bound, m in _MARKS if ns > bound), " ")
    us, rest = divmod(max(ns, 0), 1000)
    text = str(us)
    if len(text) < 7:
        text += "." + f"{rest:03d}"[:7 - len(text)]
    return f"{mark} {text} us ".encode() + b" " * (8 - len(text)) + b"|  "


class _GraphBody:
    """What calls and returns have in common."""

    def __init__(self, fmt: EventFormat, kernel: Kernel, graph: Graph, needs: tuple[str, ...]) -> None:
        self.fields: dict[str, RawField] = {}
        for name in needs:
            field = fmt.field(name)
            if field is None or field.size not in (1, 2, 4, 8):
                raise ValueError(f"a {fmt.name} record without {name}")
            self.fields[name] = field
        self.graph = graph
        self.names = SlotCache(lambda keys: kernel.symbols(keys.tolist(), "ps"))
        self.reach = max(f.offset + f.size for f in self.fields.values())
        width = len(str(max(graph.source.cpus, default=0)))
        self._cpus = SlotCache(lambda keys: [b" %*d) " % (width, k) for k in keys.tolist()])

    def column(self, records: PageRecords, name: str) -> Column:
        return records.number(self.fields[name])

    def cpu(self, records: PageRecords) -> Piece:
        return self._cpus.piece(self.graph.source.index.cpu[records.rows].astype(np.uint64))

    def name(self, records: PageRecords) -> Piece:
        return self.names.piece(self.column(records, "func").astype(np.uint64))

    def indent(self, records: PageRecords) -> Piece:
        deep = np.clip(self.column(records, "depth").astype(np.int64), 0, _DEEPEST) * 2
        return Cut(b" " * max(int(deep.max()), 1), deep)


class Call(_GraphBody):
    """``funcgraph_entry``."""

    def __init__(self, fmt: EventFormat, kernel: Kernel, graph: Graph) -> None:
        super().__init__(fmt, kernel, graph, ("func", "depth"))

    def pieces(self, records: PageRecords) -> list[Piece]:
        """See `lines_special.Body.pieces`."""
        leaf = self.graph.leaves(records.rows)
        times = [_NO_TIME] * len(leaf)
        at = np.flatnonzero(leaf)
        if len(at):
            returns = records.rows[at] + 1
            taken = self.graph.number("funcgraph_exit", "rettime", returns).astype(np.int64) \
                - self.graph.number("funcgraph_exit", "calltime", returns).astype(np.int64)
            for i, ns in zip(at.tolist(), taken.tolist(), strict=True):
                times[i] = duration_text(ns)
        ends = listed([b"();\n" if whole else b"() {\n" for whole in leaf.tolist()])
        return [self.cpu(records), listed(times), self.indent(records), self.name(records), ends]


class Return(_GraphBody):
    """``funcgraph_exit``."""

    def __init__(self, fmt: EventFormat, kernel: Kernel, graph: Graph) -> None:
        super().__init__(fmt, kernel, graph, ("func", "depth", "calltime", "rettime"))

    def pieces(self, records: PageRecords) -> list[Piece]:
        """See `lines_special.Body.pieces`."""
        taken = self.column(records, "rettime").astype(np.int64) - self.column(records, "calltime").astype(np.int64)
        times = [duration_text(ns) for ns in taken.tolist()]
        return [self.cpu(records), listed(times), self.indent(records), Literal(b"}\n")]


class Repeats(_GraphBody):
    """``func_repeats``: a function that was called again and again from one place."""

    def __init__(self, fmt: EventFormat, kernel: Kernel, graph: Graph) -> None:
        super().__init__(fmt, kernel, graph, ("ip", "parent_ip", "count", "top_delta_ts", "bottom_delta_ts"))
        self._ips = SlotCache(lambda keys: kernel.symbols(keys.tolist(), "ip"))

    def pieces(self, records: PageRecords) -> list[Piece]:
        """See `lines_special.Body.pieces`."""
        delta = self.column(records, "top_delta_ts").astype(np.int64) << 32
        delta |= self.column(records, "bottom_delta_ts").astype(np.int64)
        last = (self.graph.source.index.ts[records.rows] - delta).tolist()
        counts = self.column(records, "count").tolist()
        cycles = self.graph.source.clock.unit == "cycles"
        ends = []
        for ts, count in zip(last, counts, strict=True):
            seconds, us = divmod((ts + 500) // 1000, 1_000_000)
            stamp = f" {ts:12d}" if cycles else f" {seconds:5d}.{us:06d}"
            ends.append(f" (repeats: {count}, last_ts:{stamp})\n".encode())
        return [self._ips.piece(self.column(records, "ip").astype(np.uint64)), Literal(b" <-"),
                self._ips.piece(self.column(records, "parent_ip").astype(np.uint64)), listed(ends)]
