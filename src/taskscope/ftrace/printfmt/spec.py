"""printf conversions as the kernel's vsnprintf understands them, and the text of single values.

Follows format_decode(), number() and string() in lib/vsprintf.c (v6.18; the same since v2.6.33).  It differs from C's:
``%#x`` of 0 is ``0x0``, ``0`` pads in front of a precision, too, and letters behind ``%p`` choose what is printed.
The columns of `numbers` give the same text; what is rare is made here, value by value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from taskscope.ftrace.printfmt.cint import CInt
from taskscope.ftrace.printfmt.lexer import FormatError

#: widths beyond this are no layout (the widest of Linux 6.18 is 16)
MAX_WIDTH = 256

_CONVERSION = re.compile(
    rb"%(?P<flags>[-+ #0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|-?\d*))?(?P<length>hh|h|ll|l|L|z|Z|t|q|j)?"
    rb"(?:(?P<pointer>p[0-9A-Za-z]*)|(?P<kind>[diuxXocs%]))")


@dataclass(frozen=True, slots=True)
class Spec:
    """One conversion.

    ``width`` and ``precision``: a number, None where not given, -1 where an argument gives it (``*``).
    """

    kind: str                       # d u x X o c s p
    flags: str = ""
    width: int | None = None
    precision: int | None = None
    length: str = ""
    extension: str = ""             # the letters behind %p

    @property
    def left(self) -> bool:
        """Tell whether the text stands on the left of its width."""
        return "-" in self.flags

    @property
    def zero(self) -> bool:
        """Tell whether zeros pad the number."""
        return "0" in self.flags and not self.left

    @property
    def base(self) -> int:
        """The base in which a number is shown."""
        return {"x": 16, "X": 16, "o": 8}.get(self.kind, 10)

    def type(self, long_size: int) -> CInt:
        """Return the type in which the conversion takes its argument."""
        size = {"hh": 1, "h": 2, "": 4, "l": long_size, "z": long_size, "Z": long_size, "t": long_size}
        return CInt(size.get(self.length, 8), self.kind == "d")


def parse_spec(fmt: bytes) -> list[bytes | Spec]:
    """Split a format string into literal text and conversions.

    :raises FormatError: a conversion that the kernel does not have
    """
    out: list[bytes | Spec] = []
    at = 0
    while at < len(fmt):
        percent = fmt.find(b"%", at)
        if percent < 0:
            percent = len(fmt)
        if percent > at:
            _literal(out, fmt[at:percent])
        if percent == len(fmt):
            break
        m = _CONVERSION.match(fmt, percent)
        if m is None:
            raise FormatError(f"no conversion at {fmt[percent:percent + 8]!r}")
        at = m.end()
        if m["kind"] == b"%":
            _literal(out, b"%")
            continue
        width, precision = _size(m["width"]), _size(m["precision"])
        if (width or 0) > MAX_WIDTH or (m["kind"] != b"s" and (precision or 0) > MAX_WIDTH):
            raise FormatError(f"a width of {width or precision}")
        kind, extension = (m["kind"].decode(), "") if m["kind"] else ("p", m["pointer"][1:].decode())
        out.append(Spec("d" if kind == "i" else kind, "".join(sorted(set(m["flags"].decode()))), width, precision,
                        (m["length"] or b"").decode(), extension))
    return out


def _literal(out: list[bytes | Spec], text: bytes) -> None:
    if out and isinstance(out[-1], bytes):
        out[-1] += text
    else:
        out.append(text)


def _size(text: bytes | None) -> int | None:
    if text is None:
        return None
    if text == b"*":
        return -1
    if len(text) > 9:
        raise FormatError("a width of many digits")
    return max(int(text), 0) if text.strip(b"-") else 0


def format_number(spec: Spec, value: int, width: int | None = None, precision: int | None = None) -> bytes:
    """Format one number that is within the conversion's type.

    :param width: instead of the conversion's, where an argument gives it; negative means on the left
    :param precision: likewise; negative means none
    """
    left, zero = spec.left, spec.zero
    width = spec.width if width is None else width
    if width is not None and width < 0:
        left, zero, width = True, False, -width
    precision = spec.precision if precision is None else precision
    precision = 0 if precision is None or precision < 0 else precision
    digits = _digits(abs(value), spec.base, spec.kind == "X")
    sign = "-" if value < 0 else ""
    if not sign and spec.kind == "d":
        sign = "+" if "+" in spec.flags else " " if " " in spec.flags else ""
    prefix = ""
    if "#" in spec.flags:
        prefix = "0x" if spec.base == 16 else "0" if spec.base == 8 and value else ""
        prefix = prefix.upper() if spec.kind == "X" else prefix
    digits = digits.rjust(min(precision, MAX_WIDTH), "0")
    room = min(width or 0, MAX_WIDTH) - len(sign) - len(prefix)
    if zero:
        digits = digits.rjust(room, "0")
    text = sign + prefix + digits
    full = min(width or 0, MAX_WIDTH)
    return (text.ljust(full) if left else text.rjust(full)).encode()


def _digits(value: int, base: int, upper: bool) -> str:
    match base:
        case 16:
            return f"{value:X}" if upper else f"{value:x}"
        case 8:
            return f"{value:o}"
        case _:
            return str(value)


def format_text(spec: Spec, text: bytes | None, width: int | None = None, precision: int | None = None) -> bytes:
    """Format one text; None is a null pointer.

    :param width: instead of the conversion's, where an argument gives it; negative means on the left
    :param precision: likewise; negative means none
    """
    text = b"(null)" if text is None else text
    left = spec.left
    width = spec.width if width is None else width
    if width is not None and width < 0:
        left, width = True, -width
    precision = spec.precision if precision is None else precision
    if precision is not None and precision >= 0:
        text = text[:precision]
    full = min(width or 0, MAX_WIDTH)
    return text.ljust(full) if left else text.rjust(full)
