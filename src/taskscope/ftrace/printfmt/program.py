"""Print formats made ready to run: format string and arguments become pieces of text for columns of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from taskscope.ftrace.format import RawField
from taskscope.ftrace.printfmt import cint
from taskscope.ftrace.printfmt.cache import SlotCache
from taskscope.ftrace.printfmt.cint import INT, CInt, Num
from taskscope.ftrace.printfmt.evaluate import Array, Evaluator, Few, Kernel, Value, few, few_of
from taskscope.ftrace.printfmt.helpers import HELPERS
from taskscope.ftrace.printfmt.lexer import FormatError
from taskscope.ftrace.printfmt.nodes import Call, Name, Node, Str, Ternary
from taskscope.ftrace.printfmt.numbers import columnwise, number
from taskscope.ftrace.printfmt.parser import PrintFormat, parse
from taskscope.ftrace.printfmt.pieces import Chosen, Copied, Cut, Instead, Literal, Piece, Sheet, Texts
from taskscope.ftrace.printfmt.plain import escaped, measure
from taskscope.ftrace.printfmt.pointers import extension_text
from taskscope.ftrace.printfmt.records import GivenRecords, PageRecords, Records, Spans
from taskscope.ftrace.printfmt.spec import Spec, format_number, format_text, parse_spec

Column = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Conversion:
    """One conversion and the expressions that feed it; `width` and `precision` where they are arguments (``*``)."""

    spec: Spec
    arg: Node
    width: Node | None = None
    precision: Node | None = None

    def nodes(self) -> list[Node]:
        """Return the expressions."""
        return [n for n in (self.arg, self.width, self.precision) if n is not None]

    def fields(self) -> set[str]:
        """Return the names of the fields that the conversion reads."""
        return set().union(*(n.record_fields() | _named(n) for n in self.nodes()))


def _named(node: Node) -> set[str]:
    """Return the fields that helpers read by name: __get_str(name)."""
    return {a.name for n in node.walk() if isinstance(n, Call) and n.name in HELPERS
            for a in n.args if isinstance(a, Name)}


Part = bytes | Conversion

#: what a line may have besides its texts: conversions, and bytes of literal text and padding.  Linux 6.18 has at most
#: 25 and 240; the limits keep a forged format from making gigabytes of a small recording.
MAX_CONVERSIONS = 96
MAX_FIXED = 4096


def conversions(fmt: PrintFormat) -> list[Part]:
    """Give each conversion of a format string its arguments.

    :raises FormatError: there are too few
    """
    parts: list[Part] = []
    args = iter(fmt.args)
    for s in parse_spec(fmt.format):
        if isinstance(s, bytes):
            parts.append(s)
            continue
        try:
            width = next(args) if s.width == -1 else None
            precision = next(args) if s.precision == -1 else None
            parts.append(Conversion(s, next(args), width, precision))
        except StopIteration:
            raise FormatError("more conversions than arguments") from None
    fixed = sum(len(p) if isinstance(p, bytes) else p.spec.width or 0 for p in parts)
    if sum(isinstance(p, Conversion) for p in parts) > MAX_CONVERSIONS or fixed > MAX_FIXED:
        raise FormatError("a line longer than any that the kernel prints")
    return parts


class Program:
    """The text of one event type.

    :param kernel: see `Kernel`
    :param fields: the type's fields by name, the common ones included
    :param text: the print format
    :param head: text in front, ``name: ``
    :param tail: text behind
    :raises FormatError: the format cannot be understood, or wants what the recording does not have
    """

    def __init__(self, kernel: Kernel, fields: Mapping[str, RawField], text: str | PrintFormat, head: bytes = b"",
                 tail: bytes = b"\n") -> None:
        self.kernel = kernel
        self.fields = fields
        self.evaluator = Evaluator(kernel, fields, HELPERS)
        fmt = parse(text, kernel.long_size) if isinstance(text, str) else text
        parts = conversions(fmt)
        used: set[str] = set()
        for p in parts:
            if isinstance(p, Conversion):
                for node in p.nodes():
                    self.evaluator.check(node)
                used |= p.fields()
        self.parts = parts
        self._steps = self._plan([head, *parts, tail])
        #: bytes of a record that the fields in use take
        self.reach = max((f.offset + f.size for f in (fields[u] for u in used if u in fields)), default=8)
        self._rehearse()

    def _rehearse(self) -> None:
        """Run once on a record of zeros: what means nothing shows here, not in the middle of a report."""
        size = max((f.offset + f.size for f in self.fields.values()), default=8) + 64
        records = PageRecords(self.fields, self.kernel.big_endian, self.kernel.long_size,
                              data=np.zeros(size, np.uint8), at=np.zeros(1, np.int64),
                              sizes=lambda: np.array([size - 64]), reach=self.reach)
        self.pieces(records)

    def _plan(self, parts: Sequence[Part]) -> list[Piece | Conversion | Memo]:
        steps: list[Piece | Conversion | Memo] = []
        text = b""
        for p in [*parts, b""]:
            if isinstance(p, bytes):
                text += p
                continue
            if text:
                steps.append(Literal(escaped(text, keep=b"\n\t")))
                text = b""
            field = self._single(p)
            last = steps[-1] if steps else None
            if field is None:
                steps.append(p)
            elif isinstance(last, Memo) and last.field == field:
                last.parts.append(p)
            else:
                steps.append(Memo(self, field, [p]))
        if text:
            steps.append(Literal(escaped(text, keep=b"\n\t")))
        return steps

    def _single(self, c: Conversion) -> RawField | None:
        """Return the field that alone decides a conversion whose text is better made once per value."""
        names = c.fields()
        if len(names) != 1:
            return None
        field = self.fields.get(next(iter(names)))
        if field is None or field.is_array or field.is_string or field.size not in (1, 2, 4, 8) \
                or field.location != "fixed":
            return None
        if any(isinstance(n, Call | Ternary | Str) for node in c.nodes() for n in node.walk()):
            return field
        if c.spec.kind == "p":
            return field if c.spec.extension not in ("", "x", "K") else None
        return None if columnwise(c.spec) else field

    def pieces(self, records: Records) -> list[Piece]:
        """Make the text of records."""
        out: list[Piece] = []
        for s in self._steps:
            if isinstance(s, Piece):
                out.append(s)
            elif isinstance(s, Conversion):
                out += self.convert(s, records)
            else:
                out.append(s.piece(records))
        return out

    # ---- conversions ---------------------------------------------------------------------------------------------

    def convert(self, c: Conversion, records: Records) -> list[Piece]:
        """Make the pieces of one conversion."""
        ev = self.evaluator
        value = ev.value(c.arg, records)
        width = None if c.width is None else cint.convert(ev.number(c.width, records), INT)
        precision = None if c.precision is None else cint.convert(ev.number(c.precision, records), INT)
        kind = c.spec.kind
        if kind == "p" and c.spec.extension in ("", "x", "K"):
            c = replace(c, spec=_address(c.spec, self.kernel.long_size))
            kind = "x"
        if kind == "p":
            texts = extension_text(self.kernel, c.spec, value, width, len(records))
            if texts is not None:
                return [_chosen(_formatted(c.spec, texts, None, None))]
            raise FormatError(f"%p{c.spec.extension} is not known")
        if kind == "s":
            return self._text(c.spec, value, width, precision, len(records))
        if not isinstance(value, Num):
            raise FormatError(f"a text where %{kind} wants a number")
        if kind == "c":
            return [_chosen(_formatted(c.spec, few_of(cint.convert(value, CInt(1, False)), len(records),
                                                      lambda v: bytes([v]).rstrip(b"\0")), width, None))]
        return self._number(c.spec, value, width, precision, len(records))

    def _number(self, spec: Spec, value: Num, width: Num | None, precision: Num | None, n: int) -> list[Piece]:
        value = cint.convert(value, spec.type(self.kernel.long_size))
        given = width is not None or precision is not None
        if not given and isinstance(value.data, int):
            return [Literal(format_number(spec, value.data))]
        if not given and columnwise(spec):
            return number(spec, value.full(n))
        w = width.full(n).tolist() if width is not None else [None] * n
        p = precision.full(n).tolist() if precision is not None else [None] * n
        slots: dict[bytes, int] = {}
        at = [slots.setdefault(format_number(spec, v, a, b), len(slots))
              for v, a, b in zip(value.full(n).tolist(), w, p, strict=True)]
        return [_chosen(Few(np.array(at, np.int64), list(slots)))]

    def _text(self, spec: Spec, value: Value, width: Num | None, precision: Num | None, n: int) -> list[Piece]:
        if isinstance(value, Array):
            # A byte array printed as text (u8 name[16]).
            value = value.spans
        if isinstance(value, Num):
            value = self._pointed(value, n)
        if isinstance(value, Spans) and width is None and not (spec.width and spec.precision):
            limit: Column | int | None = spec.precision if spec.precision != -1 else None
            if precision is not None:
                # A negative precision means that none was given.
                limit = precision.full(n).astype(np.int64)
                limit = np.where(limit < 0, np.int64(1 << 31), limit)
            return self._spans(spec, value, limit)
        return [_chosen(_formatted(spec, few(value, n), width, precision))]

    def _spans(self, spec: Spec, spans: Spans, limit: Column | int | None) -> list[Piece]:
        length, odd = measure(spans, limit)
        piece: Piece = Copied(spans, length)
        if len(odd):
            raw = [spans.tobytes(i)[:int(length[i])] for i in odd.tolist()]
            texts = [escaped(t) for t in raw]
            changed = [k for k in range(len(raw)) if raw[k] != texts[k]]
            if changed:
                piece = Instead(piece, odd[changed], [texts[k] for k in changed])
        if not spec.width:
            return [piece]
        pad = np.maximum(spec.width - np.asarray(piece.length), 0)
        padding = Cut(b" " * spec.width, pad)
        return [piece, padding] if spec.left else [padding, piece]

    def _pointed(self, value: Num, n: int) -> Few:
        """Find the kernel string that a pointer points to; one that the recording lacks is shown as its address."""
        strings = self.kernel.strings

        def text(address: int) -> bytes | None:
            if address == 0:
                return None
            found = strings.get(address)
            return b"0x%x" % address if found is None else found

        return few_of(cint.convert(value, self.evaluator.ulong), n, text)


class Memo:
    """Conversions that one integer field decides: their text is made once per value, and found again by the value."""

    def __init__(self, program: Program, field: RawField, parts: list[Conversion]) -> None:
        self.program = program
        self.field = field
        self.parts = parts
        self.cache = SlotCache(self._make)

    def piece(self, records: Records) -> Piece:
        """Return the text of each record."""
        keys = records.number(self.field)
        return self.cache.piece(keys.astype(np.int64, copy=False).view(np.uint64))

    def _make(self, keys: Column) -> list[bytes]:
        p = self.program
        column = keys.view(np.int64).astype(CInt(self.field.size, self.field.signed).dtype)
        given = GivenRecords(p.fields, p.kernel.big_endian, p.kernel.long_size, columns={self.field.name: column})
        pieces: list[Piece] = []
        for c in self.parts:
            pieces += p.convert(c, given)
        return render(pieces, len(column))


def render(pieces: Sequence[Piece], n: int) -> list[bytes]:
    """Write pieces as separate texts, one a record."""
    length = np.zeros(n, np.int64)
    for p in pieces:
        length = length + p.length
    # Each text is followed by room for what the pieces write behind their ends.
    end = np.cumsum(length + 2 * 32)
    at = end - length - 2 * 32
    total = int(end[-1]) if n else 0
    sheet = Sheet()
    sheet.prepare(total)
    begin = at.copy()
    for p in pieces:
        p.put(sheet, at)
        at = at + p.length
    raw = sheet.tobytes(total)
    return [raw[a:a + k] for a, k in zip(begin.tolist(), length.tolist(), strict=True)]


def _address(spec: Spec, long_size: int) -> Spec:
    """Return the conversion that shows a pointer as %px does: all its digits, unless a width is given."""
    if spec.width is None:
        return Spec("x", "0", 2 * long_size, None, "l")
    return Spec("x", spec.flags.replace("#", ""), spec.width, None, "l")


def _formatted(spec: Spec, texts: Few, width: Num | None, precision: Num | None) -> Few:
    """Apply width and precision to texts, and make them fit for a line."""
    def fit(t: bytes) -> bytes:
        return t if texts.plain else escaped(t)

    if width is None and precision is None:
        fixed = replace(spec, width=None if spec.width == -1 else spec.width)
        return Few(texts.slots, [format_text(fixed, None if t is None else fit(t)) for t in texts.texts])
    n = len(texts.slots)
    w = width.full(n).tolist() if width is not None else [None] * n
    p = precision.full(n).tolist() if precision is not None else [None] * n
    made: dict[bytes, int] = {}
    slots = []
    for s, a, b in zip(texts.slots.tolist(), w, p, strict=True):
        t = texts.texts[s]
        cut = None if t is None else t if b is None or b < 0 else t[:b]
        shown = format_text(spec, None if cut is None else fit(cut), a, b if cut is None else -1)
        slots.append(made.setdefault(shown, len(made)))
    return Few(np.array(slots, np.int64), list(made))


def _chosen(texts: Few) -> Piece:
    if len(texts.texts) == 1:
        return Literal(texts.texts[0] or b"")
    table = Texts()
    table.add([t or b"" for t in texts.texts])
    return Chosen(table, texts.slots)

