"""printf conversions: single values against the C library, columns against single values."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskscope.ftrace.printfmt.lexer import FormatError
from taskscope.ftrace.printfmt.numbers import columnwise, number
from taskscope.ftrace.printfmt.program import render
from taskscope.ftrace.printfmt.spec import Spec, format_number, format_text, parse_spec

LIBC = ctypes.CDLL(None)
LENGTHS = {1: "hh", 2: "h", 4: "", 8: "ll"}
C_TYPES = {
    (s, signed): getattr(ctypes, f"c_{'' if signed else 'u'}int{8 * s}") for s in LENGTHS for signed in (True, False)
}


def c_number(fmt: str, size: int, signed: bool, value: int) -> bytes:
    """Format a number with the C library."""
    out = ctypes.create_string_buffer(8192)
    # Numbers narrower than int are passed as int.
    c_type = C_TYPES[size, signed] if size >= 4 else ctypes.c_int
    LIBC.snprintf(out, ctypes.c_size_t(8192), fmt.encode(), c_type(value))
    return out.value


@st.composite
def specs(draw: st.DrawFn, kinds: str = "duxXo", precision: bool = True) -> tuple[str, Spec, int]:
    """Draw a conversion of a number, and the bytes of its type."""
    size = draw(st.sampled_from([1, 2, 4, 8]))
    flags = "".join(draw(st.sets(st.sampled_from("-+ #0"))))
    width = draw(st.none() | st.integers(1, 25))
    p = draw(st.none() | st.integers(0, 22)) if precision else None
    kind = draw(st.sampled_from(kinds))
    text = f"%{flags}{'' if width is None else width}{'' if p is None else f'.{p}'}{LENGTHS[size]}{kind}"
    (spec,) = parse_spec(text.encode())
    assert isinstance(spec, Spec)
    return text, spec, size


@cache
def values(size: int, signed: bool) -> st.SearchStrategy[int]:
    """Draw values of a type: of any length, and the powers where another digit begins."""
    low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << 8 * size) - 1)
    powers = [b**k + d for b in (10, 16) for k in range(20) for d in (-1, 0) if b**k + d <= high]
    short = st.integers(0, 64).flatmap(lambda bits: st.integers(0, min(high, (1 << bits) - 1)))
    return st.integers(low, high) | short | st.sampled_from([*powers, low, high])


@given(st.data())
def test_single_numbers_are_those_of_c(data: st.DataObject) -> None:
    """Flags, widths and precisions give what C's snprintf gives, where the kernel does not differ from C."""
    text, spec, size = data.draw(specs())
    signed = spec.kind == "d"
    value = data.draw(values(size, signed))
    if "#" in spec.flags and (value == 0 or spec.kind == "o"):
        return  # the kernel prints 0x0, and 0 in front of any octal number
    if spec.precision is not None and (spec.zero or (spec.precision == 0 and value == 0)):
        return  # the kernel pads with zeros in front of a precision, too, and never prints nothing
    assert format_number(spec, value) == c_number(text, size, signed, value)


@pytest.mark.parametrize(
    ("fmt", "value", "text"),
    [
        ("%#x", 0, b"0x0"),
        ("%#lx", 0x1F, b"0x1f"),
        ("%#X", 0x1F, b"0X1F"),
        ("%#o", 8, b"010"),
        ("%#o", 0, b"0"),
        ("%.0d", 0, b"0"),
        ("%#010x", 0x1F, b"0x0000001f"),
        ("%08.3d", 7, b"00000007"),
        ("%-08d|", 7, b"7       "),
        ("%+d", 7, b"+7"),
        ("% d", 7, b" 7"),
        ("%+u", 7, b"7"),
    ],
)
def test_where_the_kernel_is_not_c(fmt: str, value: int, text: bytes) -> None:
    """The kernel's own ways (number() in lib/vsprintf.c) are kept."""
    spec = parse_spec(fmt.rstrip("|").encode())[0]
    assert isinstance(spec, Spec)
    assert format_number(spec, value) == text


@given(st.data())
def test_columns_are_their_values(data: st.DataObject) -> None:
    """A column of numbers gives the text of each of its values."""
    text, spec, size = data.draw(specs("dux", precision=False))
    if not columnwise(spec):
        assert set(spec.flags) & {"+", " "} or (spec.width or 0) > 24
        return
    signed = spec.kind == "d"
    column = data.draw(st.lists(values(size, signed), min_size=1, max_size=40))
    array = np.array(column, f"{'i' if signed else 'u'}{size}")
    assert render(number(spec, array), len(column)) == [format_number(spec, v) for v in column], text


@given(st.text(alphabet="ab c", max_size=12), st.integers(-15, 15), st.integers(-2, 15), st.booleans())
def test_texts_are_those_of_c(text: str, width: int, precision: int, left: bool) -> None:
    """Width, precision and the minus flag of %s give what C's snprintf gives, also as arguments."""
    fmt = f"%{'-' if left else ''}*.*s"
    (spec,) = parse_spec(fmt.encode())
    assert isinstance(spec, Spec)
    out = ctypes.create_string_buffer(256)
    LIBC.snprintf(out, ctypes.c_size_t(256), fmt.encode(), width, precision, text.encode())
    assert format_text(spec, text.encode(), width, precision) == out.value


def test_null_text() -> None:
    """A null pointer is shown as the kernel shows it, cut by a precision."""
    (spec,) = parse_spec(b"%.3s")
    assert isinstance(spec, Spec)
    assert format_text(spec, None) == b"(nu"


def test_conversions_are_split() -> None:
    """Literal text, %%, and letters behind %p that choose what is printed are told apart."""
    parts = parse_spec(b"100%% %pISpc:%-8s [%03d] %*pbl %hhu %Lu%zx %p.")
    assert parts == [
        b"100% ",
        Spec("p", extension="ISpc"),
        b":",
        Spec("s", "-", 8),
        b" [",
        Spec("d", "0", 3),
        b"] ",
        Spec("p", "", -1, extension="bl"),
        b" ",
        Spec("u", length="hh"),
        b" ",
        Spec("u", length="L"),
        Spec("x", length="z"),
        b" ",
        Spec("p"),
        b".",
    ]


@pytest.mark.parametrize("fmt", [b"%", b"%y", b"%5", b"%n", b"%99999d", b"%.99999d", b"%ll"])
def test_what_is_no_conversion(fmt: bytes) -> None:
    """A conversion that the kernel does not have, or an absurd width, is refused."""
    with pytest.raises(FormatError):
        parse_spec(fmt)


def test_types_of_conversions() -> None:
    """l, z and t are as wide as the recorded kernel's long, ll is 8 bytes, hh and h are narrow."""
    sizes = {"%ld": (4, 8), "%zu": (4, 8), "%td": (4, 8), "%lld": (8, 8), "%d": (4, 4), "%hd": (2, 2), "%hhx": (1, 1)}
    for fmt, (on32, on64) in sizes.items():
        (spec,) = parse_spec(fmt.encode())
        assert isinstance(spec, Spec)
        assert (spec.type(4).size, spec.type(8).size) == (on32, on64)
        assert spec.type(8).signed is fmt.endswith("d")
