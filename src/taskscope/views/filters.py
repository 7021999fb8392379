"""Which records a report shows: event names and filter expressions, by pid, cpu and time; all on whole columns.

An expression has the grammar of the kernel's event filters (Documentation/trace/events.rst, v6.12):
comparisons ``== != < <= > >= &`` of a field with a number, ``== != ~`` with a string (``~`` takes the
wildcards ``* ? [``), joined by ``&& || !`` and parentheses.  Besides the event's fields, ``common_pid``,
``CPU`` and ``COMM`` can be compared.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.errors import UsageError
from taskscope.trace.source import EventType, Rows
from taskscope.trace.trace import Trace

Mask = npt.NDArray[np.bool_]
Test = Callable[[Trace, EventType, Rows], Mask]

_NAME = re.compile(r"[\w*?\[\]-]+([:/][\w*?\[\]-]+)?")
_TOKEN = re.compile(
    r"""\s*(?:(?P<op>&&|\|\||==|!=|<=|>=|[<>~&!()])|(?P<number>-?(?:0[xX][0-9a-fA-F]+|\d+)(?![\w.*?]))|
                        "(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s()&|<>=!~"']+))""",
    re.VERBOSE,
)
_DEPTH = 64


@dataclass(frozen=True, slots=True)
class EventFilter:
    """One ``-F``: event types by name, and what their records must fulfil (None: nothing)."""

    pattern: str
    test: Test | None


def parse_filter(text: str) -> EventFilter:
    """Read ``event``, ``system``, ``system:event`` (all with wildcards), or one of them and ``:expression``.

    :raises UsageError: the text is neither
    """
    stripped = text.strip()
    if _NAME.fullmatch(stripped):
        return EventFilter(stripped.replace("/", ":"), None)
    # The expression begins behind the first colon whose rest is not an event's name alone.
    head, colon, rest = stripped.partition(":")
    if colon and re.fullmatch(r"\s*[\w*?\[\]-]+\s*:.*", rest, re.DOTALL):
        event, _, expression = rest.partition(":")
        return EventFilter(f"{head.strip()}:{event.strip()}", parse_expression(expression))
    if colon and _NAME.fullmatch(head.strip()):
        return EventFilter(head.strip().replace("/", ":"), parse_expression(rest))
    raise UsageError(
        f"-F: {text!r} is no filter; give EVENT, SYSTEM, or EVENT:EXPRESSION such as "
        "'sched_switch:prev_pid==5 && prev_comm~\"ba*\"'"
    )


def parse_expression(text: str) -> Test:
    """Compile a filter expression.

    :raises UsageError: a syntax error; the message shows the place
    """
    return _Parser(text).parse()


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise self._error(at)
            kind = found.lastgroup or ""
            self.tokens.append((kind, found[kind], found.start(kind)))
            at = found.end()
        self.next = 0
        self.depth = 0

    def _error(self, at: int, want: str = "a comparison such as prev_pid==5") -> UsageError:
        return UsageError(
            f"-F: {self.text!r} cannot be read at {self.text[at:].strip()[:20] or 'its end'!r}; expected {want}"
        )

    def _here(self) -> int:
        return self.tokens[self.next][2] if self.next < len(self.tokens) else len(self.text)

    def _take(self, *ops: str) -> str | None:
        if self.next < len(self.tokens):
            kind, value, _ = self.tokens[self.next]
            if kind == "op" and value in ops:
                self.next += 1
                return value
        return None

    def parse(self) -> Test:
        test = self._or()
        if self.next != len(self.tokens):
            raise self._error(self._here(), "&& or ||")
        return test

    def _or(self) -> Test:
        tests = [self._and()]
        while self._take("||"):
            tests.append(self._and())
        if len(tests) == 1:
            return tests[0]
        return lambda trace, kind, rows: np.logical_or.reduce([t(trace, kind, rows) for t in tests])

    def _and(self) -> Test:
        tests = [self._not()]
        while self._take("&&"):
            tests.append(self._not())
        if len(tests) == 1:
            return tests[0]
        return lambda trace, kind, rows: np.logical_and.reduce([t(trace, kind, rows) for t in tests])

    def _not(self) -> Test:
        self.depth += 1
        if self.depth > _DEPTH:
            raise UsageError(f"-F: the expression is nested deeper than {_DEPTH}")
        try:
            if self._take("!"):
                test = self._not()
                return lambda trace, kind, rows: ~test(trace, kind, rows)
            if self._take("("):
                test = self._or()
                if not self._take(")"):
                    raise self._error(self._here(), ")")
                return test
            return self._comparison()
        finally:
            self.depth -= 1

    def _comparison(self) -> Test:
        if self.next >= len(self.tokens) or self.tokens[self.next][0] != "word":
            raise self._error(self._here())
        field = self.tokens[self.next][1]
        self.next += 1
        op = self._take("==", "!=", "<", "<=", ">", ">=", "&", "~")
        if op is None:
            raise self._error(self._here(), "== != < <= > >= & or ~")
        if self.next >= len(self.tokens) or self.tokens[self.next][0] == "op":
            raise self._error(self._here(), "a number or a string")
        kind, value, _ = self.tokens[self.next]
        self.next += 1
        number = int(value, 0 if value.lower().lstrip("-").startswith("0x") else 10) if kind == "number" else None
        if op == "~" or (number is None and op not in ("==", "!=")):
            if op != "~":
                raise UsageError(f"-F: {field} {op} {value!r}: a string can be compared with == != ~ only")
            number = None
        return lambda trace, kind, rows: _compare(trace, kind, rows, field, op, number, value)


def _compare(trace: Trace, kind: EventType, rows: Rows, field: str, op: str, number: int | None, text: str) -> Mask:
    column: Any
    declared = kind.field(field)
    if declared is None and field in ("common_pid", "pid"):
        column, shape = trace.source.pids(rows), "int"
    elif declared is None and field in ("CPU", "cpu"):
        column, shape = trace.cpu(rows), "int"
    elif declared is None and field in ("COMM", "comm"):
        column, shape = np.array([bytes(c) for c in trace.comms_at(rows)], object), "string"
    elif declared is None:
        names = ", ".join(f.name for f in kind.fields) or "none"
        raise UsageError(f"-F: event {kind.name} has no field {field!r}; it has: {names}")
    else:
        column, shape = trace.source.column(kind, field, rows), declared.shape
    if shape == "array":
        raise UsageError(f"-F: field {field!r} of {kind.name} is an array and cannot be compared")
    if shape == "string":
        return _strings(column, op, text, field)
    if number is None:
        shown = (
            trace.source.field_text(kind, field, column) if declared is not None else [str(v) for v in column.tolist()]
        )
        return _match(np.array([s.encode() for s in shown], object), op, text)
    return _numbers(column, op, number)


def _numbers(column: npt.NDArray[Any], op: str, number: int) -> Mask:
    info = np.iinfo(column.dtype)
    if info.min == 0 and number < 0:
        number &= (1 << (8 * column.dtype.itemsize)) - 1  # as the kernel compares: in the field's own width
    if op == "&":
        return np.asarray((column.astype(np.uint64) & np.uint64(number & (2**64 - 1))) != 0)
    if not info.min <= number <= info.max:
        above = number > info.max
        true = {"==": False, "!=": True, "<": above, "<=": above, ">": not above, ">=": not above}[op]
        return np.full(len(column), true)
    compare = {
        "==": np.equal,
        "!=": np.not_equal,
        "<": np.less,
        "<=": np.less_equal,
        ">": np.greater,
        ">=": np.greater_equal,
    }[op]
    return np.asarray(compare(column, number), dtype=np.bool_)


def _strings(column: npt.NDArray[Any], op: str, text: str, field: str) -> Mask:
    if op not in ("==", "!=", "~"):
        raise UsageError(f"-F: field {field!r} is a string; it can be compared with == != ~ only")
    return _match(column, op, text)


def _match(column: npt.NDArray[Any], op: str, text: str) -> Mask:
    wanted = text.encode("utf-8", "surrogateescape")
    if op == "~":
        # The bytes of a name may be any: latin-1 maps each to one character for the wildcards.
        pattern = re.compile(fnmatch.translate(wanted.decode("latin-1")))
        unique, inverse = np.unique(column, return_inverse=True)
        hits = np.array([pattern.match(bytes(u).decode("latin-1")) is not None for u in unique.tolist()], np.bool_)
        return np.asarray(hits[inverse.reshape(-1)]) if len(unique) else np.zeros(len(column), np.bool_)
    equal = np.array([bytes(v) == wanted for v in column.tolist()], np.bool_)
    return equal if op == "==" else ~equal


def select(
    trace: Trace,
    filters: Sequence[EventFilter] = (),
    *,
    pids: Sequence[int] = (),
    cpus: Sequence[int] = (),
    after: int | None = None,
    before: int | None = None,
) -> Rows:
    """Return the rows that fulfil all of the conditions, in order of time.

    :param filters: any of them
    :param pids: records of these tasks: which they wrote, or which name them in a ``pid`` or ``…_pid`` field
    :param after: ns; records from that time on; `before`: up to that time
    :raises UsageError: a filter names an event that the recording does not declare, or a field that it lacks
    """
    index = trace.source.index
    order = trace.order
    if after is not None or before is not None:
        ts = index.ts[order]
        low = 0 if after is None else int(np.searchsorted(ts, after, "left"))
        high = len(order) if before is None else int(np.searchsorted(ts, before, "right"))
        order = order[low:high]
    if cpus:
        order = order[np.isin(index.cpu[order], np.array(cpus))]
    if not filters and not pids:
        return order
    keep = np.zeros(len(index), np.bool_)
    if filters:
        for one in filters:
            for kind in _types(trace, one.pattern):
                rows = np.flatnonzero(index.type == kind.index)
                keep[rows if one.test is None else rows[one.test(trace, kind, rows)]] = True
    else:
        keep[:] = True
    if pids:
        keep &= about(trace, pids)
    return order[keep[order]]


def _types(trace: Trace, pattern: str) -> list[EventType]:
    known = [
        t
        for t in trace.types
        if any(fnmatch.fnmatchcase(n, pattern) for n in (t.name, t.system, f"{t.system}:{t.name}"))
    ]
    if not known:
        import difflib

        names = {t.name for t in trace.types} | {t.system for t in trace.types}
        near = difflib.get_close_matches(pattern.rpartition(":")[2], names, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "taskscope report without -F shows what there is"
        raise UsageError(f"-F: the recording declares no event {pattern!r}; {hint}")
    return known


def about(trace: Trace, pids: Sequence[int]) -> Mask:
    """Return, for every row, whether one of the tasks wrote the record or is named in it."""
    wanted = np.array(sorted(set(pids)), np.int64)
    every = np.arange(len(trace), dtype=np.int64)
    keep = np.isin(trace.source.pids(every), wanted)
    counts = np.bincount(trace.source.index.type, minlength=len(trace.types))
    for kind in trace.types:
        if not counts[kind.index]:
            continue
        fields = [f.name for f in kind.fields if f.shape == "int" and (f.name == "pid" or f.name.endswith("_pid"))]
        if fields:
            rows = np.flatnonzero(trace.source.index.type == kind.index)
            for field in fields:
                keep[rows] |= np.isin(trace.source.column(kind, field, rows), wanted)
    return keep
