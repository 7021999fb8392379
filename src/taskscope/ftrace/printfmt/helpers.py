"""The functions that print formats call: __print_flags, __get_str, __print_array and their like.

Follows include/trace/stages/stage3_trace_output.h, and the functions of kernel/trace/trace_output.c and
lib/trace_seq.c that these macros call (v6.18).  What is made of single values is made once per different value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from taskscope.ftrace.format import RawField
from taskscope.ftrace.printfmt import cint, octets
from taskscope.ftrace.printfmt.cint import INT, UINT, ULLONG, CInt, Num
from taskscope.ftrace.printfmt.evaluate import Array, Evaluator, Few, Helper, Kernel, Scope, Value, few_of
from taskscope.ftrace.printfmt.lexer import FormatError
from taskscope.ftrace.printfmt.nodes import Name, Node, Rec, Str, Table
from taskscope.ftrace.printfmt.plain import escaped
from taskscope.ftrace.printfmt.records import Spans

_Args = tuple[Node, ...]
_Known = frozenset[str]
_Entries = list[tuple[int, bytes]]

#: bits of common_flags (include/linux/trace_events.h)
_HARDIRQ, _SOFTIRQ, _NMI = 0x08, 0x10, 0x40


# ---- tables of names -------------------------------------------------------------------------------------------------


def flags_text(value: int, delimiter: bytes, entries: _Entries) -> bytes:
    """Name the bits of a value, as trace_print_flags_seq() does; bits without a name are left over in hex."""
    parts: list[bytes] = []
    for mask, name in entries:
        if not value:
            break
        if value & mask == mask:
            parts.append(name)
            value &= ~mask
    if value:
        parts.append(b"0x%x" % value)
    return delimiter.join(parts)


def symbolic_text(value: int, entries: _Entries) -> bytes:
    """Name a value, as trace_print_symbols_seq() does; without a name it is shown in hex."""
    name = next((name for known, name in entries if known == value), b"")
    return name or b"0x%x" % value


class _Table(Helper):
    """__print_symbolic, and with a delimiter before the table __print_flags; `size` of the values in bytes."""

    def __init__(self, delimiter: bool, size: int | None) -> None:
        super().__init__(1, 1 << 20)
        self.first = 2 if delimiter else 1
        self.size = size

    def check(self, ev: Evaluator, args: _Args, known: _Known) -> None:
        super().check(ev, args[:1], known)
        if len(args) < self.first:
            raise FormatError("no delimiter between flags")
        self._entries(ev, args)

    def call(self, scope: Scope, args: _Args) -> Value:
        type_, entries = self._entries(scope.ev, args)
        value = cint.convert(scope.number(args[0]), type_)
        if self.first == 1:
            return few_of(value, scope.rows, lambda v: symbolic_text(v, entries))
        delimiter = args[1].value if isinstance(args[1], Str) else b""
        return few_of(value, scope.rows, lambda v: flags_text(v, delimiter, entries))

    def _entries(self, ev: Evaluator, args: _Args) -> tuple[CInt, _Entries]:
        made = ev.made.get(id(args))
        if made is None:
            type_ = CInt(self.size or ev.kernel.long_size, False)
            made = ev.made[id(args)] = (args, (type_, _entries(ev, args[self.first:], type_)))
        result: tuple[CInt, _Entries] = made[1]
        return result


def _entries(ev: Evaluator, tables: Sequence[Node], type_: CInt) -> _Entries:
    """Return the (value, name) pairs of a table, up to the first without a name.

    An entry whose value is a macro that the kernel left in the text names nothing: its value is shown as a number.
    """
    entries: _Entries = []
    for t in tables:
        if not isinstance(t, Table):
            raise FormatError("a list of names expected")
        if not t.items:
            continue
        if all(isinstance(i, Table) for i in t.items):
            entries += _entries(ev, t.items, type_)
            continue
        if len(t.items) < 2 or not isinstance(t.items[1], Str):
            break
        value = ev.constant(t.items[0])
        if value is not None:
            entries.append((type_.wrap(value), t.items[1].value))
    return entries


# ---- dynamic arrays --------------------------------------------------------------------------------------------------


class _Field(Helper):
    """A helper whose argument names a dynamic field; `make` turns kernel, field and bytes into the value."""

    def __init__(self, make: Callable[[Kernel, RawField, Spans], Value]) -> None:
        super().__init__(1)
        self.make = make

    def check(self, ev: Evaluator, args: _Args, _known: _Known) -> None:
        if len(args) != 1 or not isinstance(args[0], Name | Rec) or args[0].name not in ev.fields:
            raise FormatError("a field of the record expected")

    def call(self, scope: Scope, args: _Args) -> Value:
        assert isinstance(args[0], Name | Rec)
        if scope.records is None:
            raise FormatError("a field where a constant should be")
        field = scope.ev.fields[args[0].name]
        return self.make(scope.ev.kernel, field, scope.records.spans(field))


def _bytes(_kernel: Kernel, _field: RawField, spans: Spans) -> Value:
    return spans


def _length(_kernel: Kernel, _field: RawField, spans: Spans) -> Value:
    return Num(INT, spans.length)


def _array(_kernel: Kernel, field: RawField, spans: Spans) -> Value:
    return Array(spans, field.element if field.element in (1, 2, 4, 8) else 1, field.signed)


def _bitmask(kernel: Kernel, _field: RawField, spans: Spans) -> Value:
    return few_bytes(spans, lambda raw: octets.bitmask(raw, kernel.long_size, kernel.big_endian))


def few_bytes(spans: Spans, make: Callable[[bytes], bytes]) -> Few:
    """Make a text once for each different run of bytes."""
    number: dict[bytes, int] = {}
    slots = np.array([number.setdefault(spans.tobytes(i), len(number)) for i in range(len(spans))], np.int64)
    return Few(slots, [make(raw) for raw in number])


# ---- bytes as text ---------------------------------------------------------------------------------------------------


class _Octets(Helper):
    """A helper that shows an array.

    :param array: which of its arguments is the array
    :param make: gets the kernel, the array's bytes, and the other arguments as numbers (or text)
    """

    def __init__(self, array: int, count: int, make: Callable[..., bytes]) -> None:
        super().__init__(count)
        self.array = array
        self.make = make

    def check(self, ev: Evaluator, args: _Args, known: _Known) -> None:
        super().check(ev, tuple(self._node(ev, a) for a in args), known)

    @staticmethod
    def _node(ev: Evaluator, a: Node) -> Node:
        """Read a field that is named without the record."""
        return Rec(a.name) if isinstance(a, Name) and a.name in ev.fields else a

    def call(self, scope: Scope, args: _Args) -> Value:
        if scope.records is None:
            raise FormatError("an array where a constant should be")
        array = scope.value(self._node(scope.ev, args[self.array]))
        if isinstance(array, Array):
            array = array.spans
        if not isinstance(array, Spans):
            raise FormatError("an array expected")
        n = scope.rows
        others: list[list[Any]] = []
        for i, a in enumerate(args):
            if i == self.array:
                continue
            v = scope.value(a)
            others.append([v] * n if isinstance(v, bytes) else scope.number(a).full(n).tolist())
        kernel = scope.ev.kernel
        number: dict[bytes, int] = {}
        slots = [number.setdefault(self.make(kernel, array.tobytes(i), *(o[i] for o in others)), len(number))
                 for i in range(n)]
        return Few(np.array(slots, np.int64), list(number), plain=True)


def _hex(_kernel: Kernel, raw: bytes, length: int) -> bytes:
    return octets.hex_bytes(raw[:max(length, 0)], b" ")


def _hex_str(_kernel: Kernel, raw: bytes, length: int) -> bytes:
    return octets.hex_bytes(raw[:max(length, 0)], b"")


def _print_array(kernel: Kernel, raw: bytes, count: int, size: int) -> bytes:
    return octets.array(raw[:max(count * size, 0)], size, kernel.big_endian)


def _dynamic_array(kernel: Kernel, raw: bytes, size: int) -> bytes:
    return octets.array(raw, size, kernel.big_endian)


def _hex_dump(kernel: Kernel, raw: bytes, prefix: bytes, kind: int, row: int, group: int, length: int,
              text: int) -> bytes:
    return octets.hex_dump(raw[:max(length, 0)], escaped(prefix), kind, row, group, bool(text), kernel.big_endian)


# ---- numbers ---------------------------------------------------------------------------------------------------------


class _Number(Helper):
    """A function of one number."""

    def __init__(self, make: Callable[[Num], Num], least: int = 1, most: int | None = None) -> None:
        super().__init__(least, most)
        self.make = make

    def call(self, scope: Scope, args: _Args) -> Value:
        return self.make(scope.number(args[0]))


def _seconds(ns: Num) -> Num:
    return cint.binary("/", cint.convert(ns, ULLONG), Num(ULLONG, 1_000_000_000))


def _without_seconds(ns: Num) -> Num:
    return cint.convert(cint.binary("%", cint.convert(ns, ULLONG), Num(ULLONG, 1_000_000_000)), UINT)


def _major(dev: Num) -> Num:
    return cint.binary(">>", cint.convert(dev, UINT), Num(INT, 20))


def _minor(dev: Num) -> Num:
    return cint.binary("&", cint.convert(dev, UINT), Num(UINT, (1 << 20) - 1))


class _Swap(Helper):
    """A byte swap; `big`: the order of the stored value, None: always swapped."""

    def __init__(self, size: int, big: bool | None) -> None:
        super().__init__(1)
        self.type = CInt(size, False)
        self.big = big

    def call(self, scope: Scope, args: _Args) -> Value:
        value = cint.convert(scope.number(args[0]), self.type)
        if self.big is not None and self.big == scope.ev.kernel.big_endian:
            return value
        if isinstance(value.data, int):
            return Num(self.type, int.from_bytes(value.data.to_bytes(self.type.size, "big"), "little"))
        return Num(self.type, value.data.astype(self.type.dtype, copy=False).byteswap())


class _Choose(Helper):
    """__builtin_choose_expr(constant, a, b)."""

    def call(self, scope: Scope, args: _Args) -> Value:
        return scope.value(args[1] if scope.ev.constant(args[0]) else args[2])


class _Constant(Helper):
    """__builtin_constant_p(): what a record holds is no constant."""

    def call(self, _scope: Scope, _args: _Args) -> Value:
        return Num(INT, 0)


class _Context(Helper):
    """__event_in_irq() and its like: bits of the flags that every record has."""

    def __init__(self, mask: int) -> None:
        super().__init__(0)
        self.mask = mask

    def check(self, ev: Evaluator, args: _Args, known: _Known) -> None:
        super().check(ev, args, known)
        ev.check(Rec("common_flags"))

    def call(self, scope: Scope, _args: _Args) -> Value:
        flags = scope.number(Rec("common_flags"))
        return cint.binary("!=", cint.binary("&", flags, Num(INT, self.mask)), Num(INT, 0))


class _Symbol(Helper):
    """The name of an address in one of the styles of `Kernel.symbols`."""

    def __init__(self, style: str) -> None:
        super().__init__(1)
        self.style = style

    def call(self, scope: Scope, args: _Args) -> Value:
        address = cint.convert(scope.number(args[0]), scope.ev.ulong)
        values, back = np.unique(address.full(scope.rows), return_inverse=True)
        names = scope.ev.kernel.symbols(values.tolist(), self.style)
        return Few(back.reshape(-1).astype(np.int64), list(names))


HELPERS: dict[str, Helper] = {
    "__print_flags": _Table(True, None),
    "__print_flags_u64": _Table(True, 8),
    "__print_symbolic": _Table(False, None),
    "__print_symbolic_u64": _Table(False, 8),
    "__get_str": _Field(_bytes),
    "__get_rel_str": _Field(_bytes),
    "__get_dynamic_array": _Field(_array),
    "__get_rel_dynamic_array": _Field(_array),
    "__get_sockaddr": _Field(_array),
    "__get_rel_sockaddr": _Field(_array),
    "__get_dynamic_array_len": _Field(_length),
    "__get_rel_dynamic_array_len": _Field(_length),
    "__get_bitmask": _Field(_bitmask),
    "__get_rel_bitmask": _Field(_bitmask),
    "__get_cpumask": _Field(_bitmask),
    "__get_rel_cpumask": _Field(_bitmask),
    "__print_hex": _Octets(0, 2, _hex),
    "__print_hex_str": _Octets(0, 2, _hex_str),
    "__print_array": _Octets(0, 3, _print_array),
    "__print_dynamic_array": _Octets(0, 2, _dynamic_array),
    "__print_hex_dump": _Octets(4, 7, _hex_dump),
    "__print_ns_to_secs": _Number(_seconds),
    "__print_ns_without_secs": _Number(_without_seconds),
    "__event_in_hardirq": _Context(_HARDIRQ),
    "__event_in_softirq": _Context(_SOFTIRQ),
    "__event_in_irq": _Context(_HARDIRQ | _SOFTIRQ | _NMI),
    "__builtin_expect": _Number(lambda value: value, 2),
    "__builtin_choose_expr": _Choose(3),
    "__builtin_constant_p": _Constant(1),
    "MAJOR": _Number(_major),
    "MINOR": _Number(_minor),
    "__taskscope_ip": _Symbol("ip"),
    "__taskscope_probe": _Symbol("ip+"),
    "__taskscope_function": _Symbol("function"),
    **{f"{o}{b}_to_cpu": _Swap(b // 8, o.endswith("be")) for o in ("be", "le", "__be", "__le") for b in (16, 32, 64)},
    **{f"cpu_to_{o}{b}": _Swap(b // 8, o == "be") for o in ("be", "le") for b in (16, 32, 64)},
    **{f"__cpu_to_{o}{b}": _Swap(b // 8, o == "be") for o in ("be", "le") for b in (16, 32, 64)},
    **{f"{p}swab{b}": _Swap(b // 8, None) for p in ("", "__", "__fs") for b in (16, 32, 64)},
    "ntohs": _Swap(2, True), "htons": _Swap(2, True), "ntohl": _Swap(4, True), "htonl": _Swap(4, True),
}

