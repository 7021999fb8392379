"""Single fields as text: as the event's own print format shows them, and all of a record's, one by one."""

from __future__ import annotations

import numpy as np

from taskscope.ftrace.format import EventFormat, RawField
from taskscope.ftrace.printfmt.cint import INT
from taskscope.ftrace.printfmt.evaluate import Kernel
from taskscope.ftrace.printfmt.nodes import Call, Int, Name, Node, Rec
from taskscope.ftrace.printfmt.parser import PrintFormat
from taskscope.ftrace.printfmt.plain import escaped
from taskscope.ftrace.printfmt.program import Conversion, Memo, Part, Program
from taskscope.trace.source import Column


def fields_of(fmt: EventFormat) -> dict[str, RawField]:
    """Return the fields of a type by name, the common ones included."""
    return {f.name: f for f in (*fmt.common, *fmt.fields)}


def by_field(fmt: EventFormat) -> PrintFormat:
    """Make a print format that shows all fields of a record: ``name=value``, arrays as ``{0x1,0x2}``."""
    parts: list[str] = []
    args: list[Node] = []
    known = fields_of(fmt)
    for f in fmt.fields:
        if known[f.name] is not f:
            continue                 # a name that stands twice: only one of them can be asked for
        if f.is_string:
            parts.append(f"{f.name}=%s")
            args.append(Rec(f.name))
        elif f.is_array or f.size not in (1, 2, 4, 8):
            parts.append(f"{f.name}=%s")
            size = f.element if f.element in (1, 2, 4, 8) else 1
            args.append(Call("__print_dynamic_array", (Name(f.name), Int(size, INT))))
        else:
            conversion = "0x%llx" if f.type.endswith("*") else "%lld" if f.signed else "%llu"
            parts.append(f"{f.name}={conversion}")
            args.append(Rec(f.name))
    return PrintFormat(" ".join(parts).encode(), tuple(args))


class FieldTexts:
    """Shows values of one field as its print format does.

    :param program: the type's print format, None if it could not be used
    """

    def __init__(self, fmt: EventFormat, field: str, program: Program | None, kernel: Kernel) -> None:
        found = fmt.field(field)
        if found is None:
            raise KeyError(field)
        self.field = found
        self.big_endian = kernel.big_endian
        self._memo = _deciding(program, found) if program is not None else None

    def texts(self, values: Column) -> list[str]:
        """Return the text of each value."""
        if values.dtype.kind == "O":
            return [_object(v) for v in values.tolist()]
        if values.dtype.kind == "S":
            return [_shown(v) for v in values.tolist()]
        if self._memo is None or not len(values):
            return [str(v) for v in values.tolist()]
        table, slots = self._memo.cache.find(values.astype(np.int64, copy=False).view(np.uint64))
        texts = [t.decode("utf-8", "backslashreplace") for t in table.texts]
        return [texts[s] for s in slots.tolist()]


def _shown(text: bytes) -> str:
    return escaped(text).decode("utf-8", "backslashreplace")


def _object(value: object) -> str:
    if isinstance(value, bytes):
        return _shown(value)
    if isinstance(value, np.ndarray):
        return "{" + ",".join(str(v) for v in value.tolist()) + "}"
    return str(value)


def _deciding(program: Program, field: RawField) -> Memo | None:
    """Find the conversions that name the values of a field: neighbours that read nothing else, not all plain."""
    run: list[Conversion] = []
    parts: list[Part] = [*program.parts, b""]
    for p in parts:
        if isinstance(p, Conversion) and p.fields() == {field.name}:
            run.append(p)
            continue
        if any(c.spec.kind in ("s", "c") or (c.spec.kind == "p" and c.spec.extension[:1] in tuple("sSfFB"))
               for c in run):
            break
        run = []
    if not run or field.is_string or field.is_array or field.size not in (1, 2, 4, 8) or field.location != "fixed":
        return None
    return Memo(program, field, run)

