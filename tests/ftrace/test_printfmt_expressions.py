"""C expressions: parsed and computed over columns, against an interpreter of single values in ctypes' numbers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.ftrace.format import RawField
from taskscope.ftrace.printfmt.cint import CInt, Num
from taskscope.ftrace.printfmt.evaluate import Evaluator, Kernel
from taskscope.ftrace.printfmt.helpers import HELPERS
from taskscope.ftrace.printfmt.lexer import FormatError
from taskscope.ftrace.printfmt.parser import MAX_DEPTH, parse, parse_expression
from taskscope.ftrace.printfmt.records import GivenRecords

FIELDS = {f"{'s' if signed else 'u'}{8 * size}": (size, signed) for size in (1, 2, 4, 8) for signed in (True, False)}
RAW = {n: RawField(n, n, 0, s, g, "fixed", False, s, 1) for n, (s, g) in FIELDS.items()}
C = {(s, g): getattr(ctypes, f"c_{'' if g else 'u'}int{8 * s}") for s in (1, 2, 4, 8) for g in (True, False)}
TYPES = {
    "int": (4, True),
    "unsigned int": (4, False),
    "unsigned long": (8, False),
    "long": (8, True),
    "u8": (1, False),
    "s8": (1, True),
    "unsigned short": (2, False),
    "s16": (2, True),
    "u64": (8, False),
    "unsigned long long": (8, False),
    "s64": (8, True),
    "pid_t": (4, True),
}


def kernel(long_size: int = 8) -> Kernel:
    """Return a kernel without symbols."""
    return Kernel(long_size, False, lambda addresses, _style: [b"0x%x" % a for a in addresses], {})


def compute(text: str, columns: dict[str, list[int]] | None = None, long_size: int = 8) -> tuple[CInt, list[int]]:
    """Compute an expression over columns: its type, and its values."""
    node = parse_expression(text, long_size)
    ev = Evaluator(kernel(long_size), RAW, HELPERS)
    ev.check(node)
    columns = columns or {"u8": [0]}
    given_ = {n: np.array(v, CInt(*FIELDS[n]).dtype) for n, v in columns.items()}
    records = GivenRecords(RAW, False, long_size, columns=given_)
    value = ev.value(node, records)
    assert isinstance(value, Num)
    return value.type, value.full(len(records)).tolist()


def result(text: str, long_size: int = 8) -> int:
    """Compute a constant expression."""
    return compute(text, long_size=long_size)[1][0]


@dataclass(frozen=True)
class V:
    """A value of the reference interpreter: a ctypes number knows how C wraps it."""

    size: int
    signed: bool
    value: int

    def to(self, size: int, signed: bool) -> V:
        """Convert, as C does."""
        return V(size, signed, C[size, signed](self.value).value)

    def promoted(self) -> V:
        """Promote what is narrower than int."""
        return self.to(4, True) if self.size < 4 else self


def balance(a: V, b: V) -> tuple[V, V]:
    """Bring two operands to their common type."""
    a, b = a.promoted(), b.promoted()
    size = max(a.size, b.size)
    # The wider type decides; of equally wide ones the unsigned.
    signed = all(x.signed for x in (a, b) if x.size == size)
    return a.to(size, signed), b.to(size, signed)


def apply(op: str, a: V, b: V) -> V:
    """Apply a binary operator to single values."""
    if op in ("&&", "||"):
        return V(4, True, int(bool(a.value and b.value) if op == "&&" else bool(a.value or b.value)))
    if op in ("<<", ">>"):
        a = a.promoted()
        count = b.promoted().value
        if not 0 <= count < 8 * a.size:
            return V(a.size, a.signed, 0)
        return V(a.size, a.signed, a.value << count if op == "<<" else a.value >> count).to(a.size, a.signed)
    a, b = balance(a, b)
    x, y = a.value, b.value
    if op in ("==", "!=", "<", ">", "<=", ">="):
        return V(4, True, int({"==": x == y, "!=": x != y, "<": x < y, ">": x > y, "<=": x <= y, ">=": x >= y}[op]))
    if op in ("/", "%"):
        quotient = 0 if y == 0 else int(abs(x) // abs(y)) * (1 if (x < 0) == (y < 0) else -1)
        r = quotient if op == "/" else 0 if y == 0 else x - quotient * y
    else:
        r = {"+": x + y, "-": x - y, "*": x * y, "&": x & y, "|": x | y, "^": x ^ y}[op]
    return V(a.size, a.signed, r).to(a.size, a.signed)


Tree = tuple[str, object]  # text, and a function from the record to a value


def trees() -> st.SearchStrategy[Tree]:
    """Draw expressions: their text, and what the reference interpreter makes of them."""

    def field(name: str) -> Tree:
        return f"REC->{name}", lambda r: V(*FIELDS[name], r[name])

    def literal(value: int) -> Tree:
        # An unsigned long constant, so that C's choice of a literal's type is tested elsewhere.
        return f"{value}UL", lambda _r: V(8, False, value)

    def small(value: int) -> Tree:
        return str(value), lambda _r: V(4, True, value)

    def binary(args: tuple[Tree, str, Tree]) -> Tree:
        (ta, fa), op, (tb, fb) = args
        return f"({ta} {op} {tb})", lambda r: apply(op, fa(r), fb(r))

    def unary(args: tuple[str, Tree]) -> Tree:
        op, (t, f) = args

        def run(r: dict[str, int]) -> V:
            v = f(r)
            if op == "!":
                return V(4, True, int(not v.value))
            v = v.promoted()
            return V(v.size, v.signed, {"-": -v.value, "~": ~v.value, "+": v.value}[op]).to(v.size, v.signed)

        return f"{op}({t})", run

    def cast(args: tuple[str, Tree]) -> Tree:
        name, (t, f) = args
        return f"({name})({t})", lambda r: f(r).to(*TYPES[name])

    def ternary(args: tuple[Tree, Tree, Tree]) -> Tree:
        (tc, fc), (ta, fa), (tb, fb) = args

        def run(r: dict[str, int]) -> V:
            a, b = balance(fa(r), fb(r))
            return a if fc(r).value else b

        return f"({tc} ? {ta} : {tb})", run

    leaves = (
        st.sampled_from(list(FIELDS)).map(field)
        | st.integers(0, (1 << 64) - 1).map(literal)
        | st.integers(0, 70).map(small)
    )
    operators = ["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "==", "!=", "<", ">", "<=", ">=", "&&", "||"]
    return st.recursive(
        leaves,
        lambda t: st.one_of(
            st.tuples(t, st.sampled_from(operators), t).map(binary),
            st.tuples(st.sampled_from("-~!+"), t).map(unary),
            st.tuples(st.sampled_from(list(TYPES)), t).map(cast),
            st.tuples(t, t, t).map(ternary),
        ),
        max_leaves=12,
    )


def rows() -> st.SearchStrategy[dict[str, int]]:
    """Draw the fields of a record."""

    def whole(size: int, signed: bool) -> st.SearchStrategy[int]:
        low, high = (-(1 << 8 * size - 1), (1 << 8 * size - 1) - 1) if signed else (0, (1 << 8 * size) - 1)
        return st.integers(low, high) | st.integers(max(low, -3), 3)

    return st.fixed_dictionaries({n: whole(*t) for n, t in FIELDS.items()})


@settings(max_examples=400)
@given(trees(), st.lists(rows(), min_size=1, max_size=5))
def test_expressions_are_those_of_c(tree: Tree, records: list[dict[str, int]]) -> None:
    """Any expression gives, for every record, the value and the type that C's rules give."""
    text, run = tree
    type_, got = compute(text, {n: [r[n] for r in records] for n in FIELDS})
    expected = [run(r) for r in records]
    assert got == [v.value for v in expected], text
    assert (type_.size, type_.signed) == (expected[0].size, expected[0].signed), text


@pytest.mark.parametrize(
    ("text", "value", "size", "signed"),
    [
        ("1", 1, 4, True),
        ("4294967295", 4294967295, 8, True),
        ("0xffffffff", 0xFFFFFFFF, 4, False),
        ("0x80000000", 0x80000000, 4, False),
        ("2147483648", 2147483648, 8, True),
        ("1u", 1, 4, False),
        ("1UL", 1, 8, False),
        ("-9ULL", (1 << 64) - 9, 8, False),
        ("0x8000000000000000", 1 << 63, 8, False),
        ("017", 15, 4, True),
        ("'A'", 65, 4, True),
        (r"'\n'", 10, 4, True),
        (r"'\xff'", -1, 4, True),
        ("sizeof(u64)", 8, 8, False),
        ("sizeof(unsigned long)", 8, 8, False),
        ("sizeof(void *)", 8, 8, False),
        ("-1 / 2", 0, 4, True),
        ("-7 % 3", -1, 4, True),
        ("5 / 0", 0, 4, True),
        ("1 << 40", 0, 4, True),
        ("1UL << 40", 1 << 40, 8, False),
        ("-1 < 1u", 0, 4, True),
        ("-1 < 1", 1, 4, True),
        ("2 ?: 3", 2, 4, True),
        ("0 ?: 3", 3, 4, True),
        ("((unsigned int) ((0x900003) >> 20))", 9, 4, False),
        ("( gfp_t)((((1UL))) << (10))|((((1UL))) << (11))", 0xC00, 8, False),
        ("1 ? 2 : 3 ? 4 : 5", 2, 4, True),
        ("__builtin_expect(!!(3), 0)", 1, 4, True),
        ("true", 1, 4, True),
        ("SCHED_SOFTIRQ", 7, 4, True),
        ("({ int __x = (7); int __y = (5); ((__x) < (__y) ? (__x) : (__y)); })", 5, 4, True),
        ("({ typeof(REC->u8) a = 300; a + 1; })", 301, 4, True),
        ("(1, 2)", 2, 4, True),
        ("be16_to_cpu(0x1234)", 0x3412, 2, False),
        ("le16_to_cpu(0x1234)", 0x1234, 2, False),
        ("MAJOR(0x900003)", 9, 4, False),
        ("__print_ns_to_secs(7999999999)", 7, 8, False),
        ("__print_ns_without_secs(7999999999)", 999999999, 4, False),
        ("HRTIMER_MODE_REL_PINNED_HARD", 11, 4, True),
    ],
)
def test_constants(text: str, value: int, size: int, signed: bool) -> None:
    """Literals, casts, promotions, blocks and the functions of numbers have C's values and types."""
    type_, values = compute(text)
    assert values == [value]
    assert (type_.size, type_.signed) == (size, signed)


def test_long_is_the_kernels() -> None:
    """On a 32-bit kernel a long has 4 bytes, and constants and casts follow."""
    assert result("sizeof(long)", 4) == 4
    assert result("(unsigned long)-1", 4) == 0xFFFFFFFF
    assert result("4294967295 + 1", 4) == 4294967296
    assert result("0xffffffffUL + 1", 4) == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "an expression expected"),
        ("1 +", "an expression expected"),
        ("(1", "'\\)' expected"),
        ("1 2", "the end"),
        ("REC->nothing", "no field nothing"),
        ("jiffies - 1", "jiffies is not known"),
        ("ilog2(8)", "function ilog2"),
        ("*REC->u64", "a pointer is followed"),
        ("REC->u8.x", "the member x"),
        ("1 ? ", "an expression expected"),
        ("sizeof(struct page)", "sizeof of a type"),
        ("089", "octal"),
        ("@", "unexpected '@'"),
        ("a[", "an expression"),
        ('"text" / 2 + "x"', ""),
        ("{1}", "an expression"),
        ("({ })", "without a value"),
        ("({ int a; a; })", "'=' expected"),
    ],
)
def test_what_cannot_be_computed(text: str, why: str) -> None:
    """What is no expression, or needs what a record does not hold, raises a FormatError that says why."""
    if not why:
        assert result(text) == 1  # pointers to text are not null: nonsense, but no crash
        return
    with pytest.raises(FormatError, match=why):
        compute(text)


@pytest.mark.parametrize(
    "text",
    ["(" * 5000 + "1" + ")" * 5000, "-" * 5000 + "1", "1?" * 5000 + "1", "f(" * 5000, "1+" * 50 + "1", "{" * 3000],
)
def test_nesting_is_bounded(text: str) -> None:
    """Absurd nesting is refused, not followed into the ground; a long flat sum is computed."""
    if text.startswith("1+"):
        assert result(text) == 51
        assert MAX_DEPTH >= 50
        return
    with pytest.raises(FormatError):
        parse_expression(text, 8)


@given(st.text(alphabet="\"%dsxp REC->u8,(){}[]?:&|+-*/<>!~=0123abc_;\\'.", max_size=60))
def test_no_text_does_more_than_format_error(text: str) -> None:
    """Arbitrary text is parsed and computed, or refused with a FormatError; nothing else is raised."""
    try:
        fmt = parse('"%d", ' + text, 8)
        ev = Evaluator(kernel(), RAW, HELPERS)
        for node in fmt.args:
            ev.check(node)
            ev.value(node, GivenRecords(RAW, False, 8, columns={n: np.zeros(2, f"u{t[0]}") for n, t in FIELDS.items()}))
    except FormatError:
        pass
