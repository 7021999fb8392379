"""The syntax tree of a print format's arguments: C expressions over the fields of a record (``REC->field``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from taskscope.ftrace.printfmt.cint import CInt


@dataclass(frozen=True, slots=True)
class Node:
    """An expression."""

    def children(self) -> Iterator[Node]:
        """Yield the expressions that this one is made of."""
        for f in fields(self):
            yield from _nodes(getattr(self, f.name))

    def walk(self) -> Iterator[Node]:
        """Yield this expression and all within it."""
        yield self
        for child in self.children():
            yield from child.walk()

    def record_fields(self) -> set[str]:
        """Return the names of the record's fields that the expression reads."""
        return {n.name for n in self.walk() if isinstance(n, Rec)}


def _nodes(value: object) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, tuple):
        for v in value:
            yield from _nodes(v)


@dataclass(frozen=True, slots=True)
class Int(Node):
    """A number, typed as C types it."""

    value: int
    type: CInt


@dataclass(frozen=True, slots=True)
class Str(Node):
    """A string literal; adjacent ones are joined."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Rec(Node):
    """``REC->name``."""

    name: str


@dataclass(frozen=True, slots=True)
class Name(Node):
    """An identifier: a variable of a block, or a macro or enumerator that the kernel left in the text."""

    name: str


@dataclass(frozen=True, slots=True)
class Cast(Node):
    """``(type)operand``; `type` is None where the type is not known, and the value stays as it is.

    A pointer is an unsigned long; `pointee` is the integer type it points to, if it is one.
    """

    type: CInt | None
    operand: Node
    pointee: CInt | None = None


@dataclass(frozen=True, slots=True)
class Unary(Node):
    """``-x ~x !x +x *x &x``."""

    op: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary(Node):
    """Arithmetic, comparison, ``&&`` and ``||``."""

    op: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Ternary(Node):
    """``condition ? then : otherwise``; `then` is None in GNU C's ``condition ?: otherwise``."""

    condition: Node
    then: Node | None
    otherwise: Node


@dataclass(frozen=True, slots=True)
class Index(Node):
    """``base[index]``."""

    base: Node
    index: Node


@dataclass(frozen=True, slots=True)
class Member(Node):
    """``base.name`` or ``base->name`` where the base is not the record."""

    base: Node
    name: str


@dataclass(frozen=True, slots=True)
class SizeOf(Node):
    """``sizeof expression``."""

    operand: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A call of one of the helpers of print formats, or of a kernel function that the text cannot stand for."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Table(Node):
    """``{ value, "name" }`` in the arguments of __print_flags and its like."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Block(Node):
    """GNU C's ``({ type name = value; …; result; })``; the names are unique within the text (the kernel's min, max)."""

    variables: tuple[tuple[str, CInt | None, Node], ...]
    result: Node
