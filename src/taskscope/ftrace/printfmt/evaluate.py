"""Computes the expressions of a print format over whole columns of records.

A value is a number (`Num`), a text (`Text`: one per record, or one of a few), or the bytes of an array (`Array`).
What the recording cannot tell (an unknown macro, a kernel function) raises `FormatError` when the expression is
checked, so that an event is either decoded in full or shown field by field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.format import RawField
from taskscope.ftrace.printfmt import cint
from taskscope.ftrace.printfmt.cint import INT, CInt, Num
from taskscope.ftrace.printfmt.lexer import FormatError
from taskscope.ftrace.printfmt.nodes import (
    Binary,
    Block,
    Call,
    Cast,
    Index,
    Int,
    Member,
    Name,
    Node,
    Rec,
    SizeOf,
    Str,
    Table,
    Ternary,
    Unary,
)
from taskscope.ftrace.printfmt.records import Records, Spans

Column = npt.NDArray[Any]

_TCP = ("ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT", "LAST_ACK",
        "LISTEN", "CLOSING", "NEW_SYN_RECV")
_HRTIMER_MODES = {f"HRTIMER_MODE_{base}{pinned}{context}": value + 2 * bool(pinned) + bits
                  for value, base in enumerate(("ABS", "REL")) for pinned in ("", "_PINNED")
                  for bits, context in ((0, ""), (4, "_SOFT"), (8, "_HARD"))}

# Enumerators that kernels leave in their print formats where no TRACE_DEFINE_ENUM resolves them (before v4.1, none
# did).  Their values have not changed from 2.6.39 to 6.18: include/linux/interrupt.h, include/linux/hrtimer.h,
# include/net/tcp_states.h, include/uapi/linux/ioprio.h.
ENUMERATORS = {
    "HI_SOFTIRQ": 0, "TIMER_SOFTIRQ": 1, "NET_TX_SOFTIRQ": 2, "NET_RX_SOFTIRQ": 3, "BLOCK_SOFTIRQ": 4,
    "BLOCK_IOPOLL_SOFTIRQ": 5, "IRQ_POLL_SOFTIRQ": 5, "TASKLET_SOFTIRQ": 6, "SCHED_SOFTIRQ": 7, "HRTIMER_SOFTIRQ": 8,
    "RCU_SOFTIRQ": 9, "HRTIMER_NORESTART": 0, "HRTIMER_RESTART": 1, **_HRTIMER_MODES,
    **{f"TCP_{name}": value for value, name in enumerate(_TCP, 1)},
    "IOPRIO_CLASS_NONE": 0, "IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3, "true": 1, "false": 0,
}


@dataclass(slots=True)
class Few:
    """Texts of which each record has one: ``texts[slot]``; None stands for a null pointer.

    ``plain``: the texts were made from numbers, so nothing in them needs an escape (a hex dump has lines).
    """

    slots: npt.NDArray[np.int64]
    texts: list[bytes | None]
    plain: bool = False


#: a text: the same for all records, one of a few, or bytes in the pages (up to the first NUL)
Text = bytes | Few | Spans


@dataclass(slots=True)
class Array:
    """The bytes of an array or structure, and what its elements are."""

    spans: Spans
    element: int
    signed: bool


Value = Num | bytes | Few | Spans | Array

#: the variables of an expression that stands in no block
NOTHING: Mapping[str, Value] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a print format needs to know of the kernel besides the record."""

    long_size: int
    big_endian: bool
    #: names addresses: (column of addresses, style) -> text each; style "ps", "pS" or "ip"
    symbols: Callable[[list[int], str], list[bytes]]
    #: strings of the kernel by their address (printk_formats)
    strings: Mapping[int, bytes]


class Evaluator:
    """Computes expressions over one type's records.

    :param helpers: functions that print formats call, by name
    """

    def __init__(self, kernel: Kernel, fields: Mapping[str, RawField], helpers: Mapping[str, Helper]) -> None:
        self.kernel = kernel
        self.fields = fields
        self.helpers = helpers
        self.long, self.ulong = CInt(kernel.long_size, True), CInt(kernel.long_size, False)
        #: what helpers made of their constant arguments, by the identity of the arguments
        self.made: dict[int, Any] = {}

    # ---- checking ------------------------------------------------------------------------------------------------

    def check(self, node: Node, known: frozenset[str] = frozenset()) -> None:
        """Make sure that an expression can be computed from the record alone.

        :raises FormatError: it cannot; the message names what is unknown
        """
        match node:
            case Rec(name):
                if name not in self.fields:
                    raise FormatError(f"the record has no field {name}")
            case Name(name):
                if name not in known and name not in ENUMERATORS:
                    raise FormatError(f"{name} is not known")
            case Call(name, args):
                helper = self.helpers.get(name)
                if helper is None:
                    raise FormatError(f"the kernel function {name}() is not known")
                helper.check(self, args, known)
            case Block(variables, result):
                for variable, _, expression in variables:
                    self.check(expression, known)
                    known = known | {variable}
                self.check(result, known)
            case Member(_, name):
                raise FormatError(f"the member {name} of something that is not the record")
            case Unary("*", _):
                raise FormatError("a pointer is followed")
            case Unary("&", operand) if not isinstance(operand, Rec):
                raise FormatError("the address of something that is not a field")
            case Table():
                raise FormatError("a list where a value should be")
            case _:
                for child in node.children():
                    self.check(child, known)

    # ---- computing -----------------------------------------------------------------------------------------------

    def value(self, node: Node, records: Records | None, env: Mapping[str, Value] = NOTHING) -> Value:
        """Compute an expression.

        :param records: None for an expression that reads no field
        :raises FormatError: it means nothing (a text is divided, …)
        """
        match node:
            case Int(number, kind):
                return Num(kind, number)
            case Str(text):
                return text
            case Rec(name):
                return self._field(name, records)
            case Name(name):
                return env[name] if name in env else Num(INT, ENUMERATORS[name])
            case Cast():
                return self._cast(node, records, env)
            case Binary("&&" | "||"):
                return self._logic(node, records, env)
            case Binary(op, left, right):
                return cint.binary(op, self.number(left, records, env), self.number(right, records, env))
            case Unary("&", operand):
                return self._address(operand, records)
            case Unary(op, operand):
                return cint.unary(op, self.number(operand, records, env))
            case Ternary():
                return self._ternary(node, records, env)
            case Index(base, index):
                return self._index(base, index, records, env)
            case SizeOf(operand):
                return Num(self.ulong, self._sizeof(operand))
            case Block(variables, result):
                inner = dict(env)
                for name, type_, expression in variables:
                    v = self.value(expression, records, inner)
                    inner[name] = cint.convert(v, type_) if isinstance(v, Num) and type_ is not None else v
                return self.value(result, records, inner)
            case Call(name, args):
                return self.helpers[name].call(Scope(self, records, env), args)
        raise FormatError(f"{type(node).__name__} cannot be computed")

    def number(self, node: Node, records: Records | None, env: Mapping[str, Value] = NOTHING) -> Num:
        """Compute an expression that is a number.

        :raises FormatError: it is none
        """
        v = self.value(node, records, env)
        if isinstance(v, Num):
            return v
        if isinstance(v, bytes | Spans | Array):
            # A pointer in a condition (text ? a : b): it is not null.
            return Num(self.ulong, 1)
        raise FormatError("a text where a number should be")

    def constant(self, node: Node) -> int | None:
        """Return the value of an expression that reads no field; None if it does, or is no number."""
        if any(isinstance(n, Rec | Call) for n in node.walk()):
            return None
        try:
            self.check(node)
            v = self.number(node, None)
        except FormatError:
            return None
        return v.data if isinstance(v.data, int) else None

    def _field(self, name: str, records: Records | None) -> Value:
        field = self.fields[name]
        if records is None:
            raise FormatError(f"field {name} where a constant should be")
        if field.is_string:
            return records.spans(field)
        if field.is_array or field.size not in (1, 2, 4, 8):
            return Array(records.spans(field), field.element if field.element in (1, 2, 4, 8) else 1, field.signed)
        return Num(CInt(field.size, field.signed), records.number(field))

    def _address(self, operand: Node, records: Records | None) -> Value:
        assert isinstance(operand, Rec)
        field = self.fields[operand.name]
        if records is None:
            raise FormatError("an address where a constant should be")
        if field.location == "fixed" and field.count == 1 and not field.is_string:
            # The bytes of a scalar, for %pI4 and its like.
            column = records.number(field)
            stored = np.dtype(f"{'>' if records.big_endian else '<'}{column.dtype.kind}{field.size}")
            raw = np.zeros(len(column) * field.size + 16, np.uint8)
            raw[:len(column) * field.size] = column.astype(stored).view(np.uint8)
            start = np.arange(len(column), dtype=np.int64) * field.size
            return Array(Spans(raw, start, np.full(len(column), field.size, np.int64)), field.size, field.signed)
        return self._field(operand.name, records)

    def _cast(self, node: Cast, records: Records | None, env: Mapping[str, Value]) -> Value:
        v = self.value(node.operand, records, env)
        if isinstance(v, Num):
            return v if node.type is None else cint.convert(v, node.type)
        if isinstance(v, Array) and node.pointee is not None:
            return Array(v.spans, node.pointee.size, node.pointee.signed)
        return v

    def _logic(self, node: Binary, records: Records | None, env: Mapping[str, Value]) -> Value:
        left = cint.truth(self.number(node.left, records, env))
        if isinstance(left, bool) and left == (node.op == "||"):
            return Num(INT, int(left))
        right = cint.truth(self.number(node.right, records, env))
        if isinstance(left, bool):
            return Num(INT, int(right) if isinstance(right, bool) else right)
        both = np.logical_and(left, right) if node.op == "&&" else np.logical_or(left, right)
        return Num(INT, both)

    def _ternary(self, node: Ternary, records: Records | None, env: Mapping[str, Value]) -> Value:
        condition = self.number(node.condition, records, env)
        a = condition if node.then is None else self.value(node.then, records, env)
        b = self.value(node.otherwise, records, env)
        if isinstance(a, Num) and isinstance(b, Num):
            return cint.choose(condition, a, b)
        t = cint.truth(condition)
        if isinstance(t, bool):
            return a if t else b
        if isinstance(a, Array) or isinstance(b, Array):
            raise FormatError("a choice of arrays")
        x, y = few(a, len(t)), few(b, len(t))
        return Few(np.where(t, x.slots, y.slots + len(x.texts)), x.texts + y.texts)

    def _index(self, base: Node, index: Node, records: Records | None, env: Mapping[str, Value]) -> Value:
        v = self.value(base, records, env)
        i = self.number(index, records, env)
        if isinstance(v, Spans):
            v = Array(v, 1, True)
        if not isinstance(v, Array) or records is None:
            raise FormatError("an element of something that is no array")
        column = records.elements(v.spans, i.data, v.element, v.signed)
        return Num(CInt(v.element, v.signed), column)

    def _sizeof(self, node: Node) -> int:
        match node:
            case Rec(name):
                return self.fields[name].size
            case Index(Rec(name), _):
                return self.fields[name].element
            case Int(_, type_) | Cast(CInt() as type_, _):
                return type_.size
            case Str(text):
                return len(text) + 1
        raise FormatError("sizeof of an expression that is not known")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a helper computes its arguments with."""

    ev: Evaluator
    records: Records | None
    env: Mapping[str, Value]

    @property
    def rows(self) -> int:
        """How many records there are; 1 for an expression that reads none."""
        return 1 if self.records is None else len(self.records)

    def value(self, node: Node) -> Value:
        """Compute an argument."""
        return self.ev.value(node, self.records, self.env)

    def number(self, node: Node) -> Num:
        """Compute an argument that is a number."""
        return self.ev.number(node, self.records, self.env)


class Helper:
    """A function that print formats call; takes `least` to `most` arguments."""

    def __init__(self, least: int, most: int | None = None) -> None:
        self.least = least
        self.most = least if most is None else most

    def check(self, ev: Evaluator, args: tuple[Node, ...], known: frozenset[str]) -> None:
        """Make sure that the arguments can be computed.

        :raises FormatError: they cannot
        """
        if not self.least <= len(args) <= self.most:
            raise FormatError(f"{len(args)} arguments where {self.least} should be")
        for a in args:
            ev.check(a, known)

    def call(self, scope: Scope, args: tuple[Node, ...]) -> Value:
        """Compute the function."""
        raise NotImplementedError


def few(value: Value, n: int) -> Few:
    """Turn any text into one of few.

    :raises FormatError: it is no text
    """
    if isinstance(value, Few):
        return value
    if isinstance(value, bytes):
        return Few(np.zeros(n, np.int64), [value])
    if isinstance(value, Spans):
        number: dict[bytes, int] = {}
        slots = [number.setdefault(value.tobytes(i).split(b"\0", 1)[0], len(number)) for i in range(len(value))]
        return Few(np.array(slots, np.int64), list(number))
    if isinstance(value, Num) and isinstance(value.data, int) and value.data == 0:
        return Few(np.zeros(n, np.int64), [None])
    raise FormatError("a number where a text should be")


def unique(column: Column) -> tuple[list[int], npt.NDArray[np.int64]]:
    """Return the different values of a column, and which of them each row has."""
    values, back = np.unique(column, return_inverse=True)
    return values.tolist(), back.reshape(-1).astype(np.int64, copy=False)


def few_of(number: Num, n: int, make: Callable[[int], bytes | None]) -> Few:
    """Make a text once for each different value of a number."""
    if isinstance(number.data, int):
        return Few(np.zeros(n, np.int64), [make(number.data)])
    values, slots = unique(number.full(n))
    return Few(slots, [make(v) for v in values])

