"""What the letters behind ``%p`` print: symbols, network and hardware addresses, UUIDs, bit maps.

Follows pointer() in the kernel's lib/vsprintf.c (v6.18).  A pointer to a structure that the record does not hold
(``%pd``, ``%pV``, …) cannot be shown.  A plain ``%p`` is not handled here: it prints the address itself, as tracefs
does with the option ``nohash-ptr``; with ``hash-ptr`` the kernel prints a hash that no recording carries.
"""

from __future__ import annotations

import errno

import numpy as np

from taskscope.ftrace.printfmt import cint, octets
from taskscope.ftrace.printfmt.cint import CInt, Num
from taskscope.ftrace.printfmt.evaluate import Array, Few, Kernel, Value, few_of
from taskscope.ftrace.printfmt.helpers import few_bytes
from taskscope.ftrace.printfmt.lexer import FormatError
from taskscope.ftrace.printfmt.records import Spans
from taskscope.ftrace.printfmt.spec import Spec


def extension_text(kernel: Kernel, spec: Spec, value: Value, width: Num | None, n: int) -> Few | None:
    """Make the texts of a ``%p`` with letters; None if the letters are not known.

    :param width: the argument that gives the width, which for bytes and bit maps is their length
    :raises FormatError: the value is not what the letters show
    """
    ext = spec.extension
    kind = ext[0]
    if kind in "sSfFB":
        return _symbols(kernel, ext, value, n)
    if kind == "e":
        return few_of(_number(value, kernel), n, lambda v: _error(v, kernel.long_size))
    if kind in "Ii" and ext[1:2] in ("4", "6", "S"):
        spans = _spans(value)
        if ext[1] == "4":
            return few_bytes(spans, lambda raw: octets.ipv4(raw, ext, kernel.big_endian))
        if ext[1] == "6":
            return few_bytes(spans, lambda raw: octets.ipv6(raw, ext))
        return few_bytes(spans, lambda raw: octets.sockaddr(raw, ext, kernel.big_endian))
    if kind in "Mm":
        return few_bytes(_spans(value), lambda raw: octets.mac(raw, ext))
    if kind == "U":
        return few_bytes(_spans(value), lambda raw: octets.uuid(raw, ext))
    if kind == "h":
        separator = {"C": b":", "D": b"-", "N": b""}.get(ext[1:2], b" ")
        return _sized(value, spec, width, n, lambda raw, k: octets.hex_bytes(raw[:min(max(k, 0), 64)], separator))
    if kind == "b":
        show = octets.bitlist if ext[1:2] == "l" else octets.bitmask
        return _sized(value, spec, width, n, lambda raw, k: show(raw, kernel.long_size, kernel.big_endian, k))
    if kind == "a":
        spans = _spans(value)
        order = "big" if kernel.big_endian else "little"
        return few_bytes(spans, lambda raw: b"0x%0*x" % (2 * len(raw), int.from_bytes(raw, order)))  # type: ignore[arg-type]
    return None


def _number(value: Value, kernel: Kernel) -> Num:
    if not isinstance(value, Num):
        raise FormatError("a text where a pointer should be")
    return cint.convert(value, CInt(kernel.long_size, False))


def _spans(value: Value) -> Spans:
    if isinstance(value, Array):
        return value.spans
    if isinstance(value, Spans):
        return value
    raise FormatError("a pointer to something that the record does not hold")


def _symbols(kernel: Kernel, extension: str, value: Value, n: int) -> Few:
    style = "ps" if extension[0] in "sf" else "pS"
    address = _number(value, kernel)
    if isinstance(address.data, int):
        return Few(np.zeros(n, np.int64), list(kernel.symbols([address.data], style)))
    values, back = np.unique(address.column(), return_inverse=True)
    return Few(back.reshape(-1).astype(np.int64), list(kernel.symbols(values.tolist(), style)))


def _error(value: int, long_size: int) -> bytes:
    number = (1 << (8 * long_size)) - value
    if 0 < number <= 4095:
        name = errno.errorcode.get(number)
        return f"-{name}".encode() if name else b"%d" % -number
    return b"%0*x" % (2 * long_size, value)


def _sized(value: Value, spec: Spec, width: Num | None, n: int, make: object) -> Few:
    spans = _spans(value)
    sizes = [spec.width if spec.width is not None else 1] * n if width is None else width.full(n).tolist()
    texts: dict[bytes, int] = {}
    slots = [texts.setdefault(make(spans.tobytes(i), k), len(texts))  # type: ignore[operator]
             for i, k in enumerate(sizes)]
    return Few(np.array(slots, np.int64), list(texts))
