"""Parses the text of ``print fmt:``: a format string and C expressions over the fields of the record.

The grammar is the part of C's that the kernel's TP_printk macros leave behind once the preprocessor is through
(include/trace/stages/stage4_event_fields.h to stage7_class_define.h, v6.18; earlier include/trace/ftrace.h).
"""

from __future__ import annotations

from dataclasses import dataclass

from taskscope.ftrace.printfmt.cint import CHAR, INT, UINT, CInt, literal
from taskscope.ftrace.printfmt.lexer import FormatError, Token, tokens, unescape
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
from taskscope.ftrace.printfmt.typenames import QUALIFIERS, TAGS, TYPEOF, WORDS, is_named, named, spelled

#: nesting deeper than this is no expression that a kernel prints with
MAX_DEPTH = 100

_BINARY = {"||": 1, "&&": 2, "|": 3, "^": 4, "&": 5, "==": 6, "!=": 6, "<": 7, ">": 7, "<=": 7, ">=": 7,
           "<<": 8, ">>": 8, "+": 9, "-": 9, "*": 10, "/": 10, "%": 10}


@dataclass(frozen=True, slots=True)
class PrintFormat:
    """A parsed print format."""

    format: bytes
    args: tuple[Node, ...]


def parse(text: str, long_size: int) -> PrintFormat:
    """Parse the text behind ``print fmt:``.

    :param long_size: bytes of the recorded kernel's ``long`` and pointers
    :raises FormatError: it is no format string with C expressions
    """
    p = _Parser(tokens(text), long_size)
    fmt = p.string()
    args: list[Node] = []
    while p.accept(","):
        args.append(p.assignment())
    p.end()
    return PrintFormat(fmt, tuple(args))


def parse_expression(text: str, long_size: int) -> Node:
    """Parse one C expression.

    :raises FormatError: it is none
    """
    p = _Parser(tokens(text), long_size)
    node = p.assignment()
    p.end()
    return node


@dataclass(frozen=True, slots=True)
class _Type:
    """A type name: the integer it stands for (None: none that is known), and whether it is a pointer."""

    integer: CInt | None
    pointer: bool = False


class _Parser:
    """A recursive-descent parser; binary operators by precedence."""

    def __init__(self, words: list[Token], long_size: int) -> None:
        self.words = words
        self.at = 0
        self.depth = 0
        self.long_size = long_size
        self.ulong = CInt(long_size, False)

    # ---- words ---------------------------------------------------------------------------------------------------

    @property
    def word(self) -> Token:
        """The next word."""
        return self.words[self.at]

    def peek(self, ahead: int = 1) -> Token:
        """Look at a word behind the next."""
        return self.words[min(self.at + ahead, len(self.words) - 1)]

    def accept(self, op: str) -> bool:
        """Take an operator if it is the next word."""
        if self.word.kind == "op" and self.word.text == op:
            self.at += 1
            return True
        return False

    def expect(self, op: str) -> None:
        """Take an operator that must be the next word."""
        if not self.accept(op):
            raise self.error(f"{op!r} expected")

    def error(self, why: str) -> FormatError:
        """Make the error that says what is wrong at the next word."""
        found = "the end" if self.word.kind == "end" else repr(self.word.text[:40])
        return FormatError(f"{why}, found {found} at character {self.word.at}")

    def end(self) -> None:
        """Make sure that nothing is left."""
        if self.word.kind != "end":
            raise self.error("the end of the text expected")

    def name(self) -> str:
        """Take a name."""
        if self.word.kind != "name":
            raise self.error("a name expected")
        self.at += 1
        return self.words[self.at - 1].text

    def string(self) -> bytes:
        """Take a string literal, or several that stand side by side."""
        if self.word.kind != "string":
            raise self.error("a format string expected")
        parts = []
        for w in self.words[self.at:]:
            if w.kind != "string":
                break
            parts.append(unescape(w.text))
            self.at += 1
        return b"".join(parts)

    # ---- expressions ---------------------------------------------------------------------------------------------

    def assignment(self) -> Node:
        """Parse an expression without commas."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("nested too deeply")
        condition = self.binary(1)
        if self.accept("?"):
            then = None if self.word.text == ":" else self.expression()
            self.expect(":")
            condition = Ternary(condition, then, self.assignment())
        self.depth -= 1
        return condition

    def expression(self) -> Node:
        """Parse an expression; of ``a, b`` it is b that counts."""
        node = self.assignment()
        while self.accept(","):
            node = self.assignment()
        return node

    def binary(self, least: int) -> Node:
        """Parse operators that bind as tightly as `least`, or tighter."""
        left = self.unary()
        while self.word.kind == "op" and _BINARY.get(self.word.text, 0) >= least:
            op = self.word.text
            self.at += 1
            left = Binary(op, left, self.binary(_BINARY[op] + 1))
        return left

    def unary(self) -> Node:
        """Parse what stands between binary operators."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error("nested too deeply")
        node = self._unary()
        self.depth -= 1
        return node

    def _unary(self) -> Node:
        w = self.word
        if w.kind == "op" and w.text in ("-", "+", "~", "!", "*", "&"):
            self.at += 1
            return Unary(w.text, self.unary())
        if w.kind == "name" and w.text == "sizeof":
            self.at += 1
            if self.word.text == "(":
                here = self.at
                self.at += 1
                type_ = self.type_name()
                if type_ is not None and self.accept(")"):
                    return Int(self._size(type_), self.ulong)
                self.at = here
            return SizeOf(self.unary())
        if w.kind == "op" and w.text == "(":
            here = self.at
            self.at += 1
            type_ = self.type_name()
            if type_ is not None and self.accept(")") and self._begins_operand():
                if type_.pointer:
                    return Cast(self.ulong, self.unary(), type_.integer)
                return Cast(type_.integer, self.unary())
            self.at = here
        return self.postfix()

    def _begins_operand(self) -> bool:
        w = self.word
        return w.kind in ("number", "name", "string", "char") or w.text in ("(", "-", "+", "~", "!", "*", "&", "{")

    def _size(self, type_: _Type) -> int:
        if type_.pointer:
            return self.long_size
        if type_.integer is None:
            raise self.error("sizeof of a type that is not known")
        return type_.integer.size

    def postfix(self) -> Node:
        """Parse a value and what is taken of it: elements, members, a call."""
        node = self.primary()
        while True:
            if self.accept("["):
                index = self.expression()
                self.expect("]")
                node = Index(node, index)
            elif self.word.text in ("->", ".") and self.word.kind == "op":
                self.at += 1
                name = self.name()
                node = Rec(name) if isinstance(node, Name) and node.name == "REC" else Member(node, name)
            elif self.word.text == "(" and isinstance(node, Name):
                node = self.call(node.name)
            else:
                return node

    def call(self, name: str) -> Node:
        """Parse the arguments of a call."""
        self.expect("(")
        args: list[Node] = []
        if not self.accept(")"):
            args.append(self.argument())
            while self.accept(","):
                args.append(self.argument())
            self.expect(")")
        return Call(name, tuple(args))

    def argument(self) -> Node:
        """Parse an argument, which may be a list in braces."""
        if self.word.text == "{" and self.word.kind == "op":
            return self.table()
        return self.assignment()

    def table(self) -> Node:
        """Parse a list in braces."""
        self.expect("{")
        items: list[Node] = []
        while not self.accept("}"):
            items.append(self.argument())
            if not self.accept(","):
                self.expect("}")
                break
        return Table(tuple(items))

    def primary(self) -> Node:
        """Parse a number, a name, a string, or something in parentheses."""
        w = self.word
        if w.kind == "number":
            self.at += 1
            return self._number(w.text)
        if w.kind == "char":
            self.at += 1
            value = unescape(w.text)
            return Int(CHAR.wrap(value[-1]) if value else 0, INT)
        if w.kind == "string":
            return Str(self.string())
        if w.kind == "name":
            self.at += 1
            if w.text == "NULL":
                return Cast(self.ulong, Int(0, INT))
            return Name(w.text)
        if self.accept("("):
            node = self.block() if self.word.text == "{" else self.expression()
            self.expect(")")
            return node
        raise self.error("an expression expected")

    def _number(self, text: str) -> Node:
        digits = text.rstrip("uUlL")
        suffix = text[len(digits):]
        if digits[:2].lower() == "0x":
            value, decimal = int(digits, 16), False
        elif digits[0] == "0" and len(digits) > 1:
            if not set(digits) <= set("01234567"):
                raise self.error("no octal number")
            value, decimal = int(digits, 8), False
        else:
            if len(digits) > 40:
                raise self.error("a number too long")
            value, decimal = int(digits), True
        num = literal(value, suffix, decimal, self.long_size)
        assert isinstance(num.data, int)
        return Int(num.data, num.type)

    # ---- types ---------------------------------------------------------------------------------------------------

    def type_name(self) -> _Type | None:
        """Parse a type name if one stands here; None, and nothing read, if not."""
        here = self.at
        words: list[str] = []
        known: CInt | None = None
        seen = False
        while self.word.kind == "name":
            t = self.word.text
            if t in QUALIFIERS:
                self.at += 1
            elif t in WORDS:
                words.append(t)
                seen = True
                self.at += 1
            elif t in TAGS and self.peek().kind == "name":
                known, seen = (UINT if t == "enum" else None), True
                self.at += 2
            elif t in TYPEOF:
                seen = True
                self.at += 1
                if self.accept("("):
                    self.expression()
                    self.expect(")")
            elif not seen and self._names_type(t):
                known = named(t, self.long_size)
                seen = True
                self.at += 1
            else:
                break
        if not seen:
            self.at = here
            return None
        pointer = False
        while self.accept("*"):
            pointer = True
            while self.word.text in QUALIFIERS:
                self.at += 1
        return _Type(spelled(words, self.long_size) if words else known, pointer)

    def _names_type(self, name: str) -> bool:
        if is_named(name):
            return True
        after = self.peek()
        if name.endswith("_t"):
            return after.text in (")", "*") or after.kind == "name"
        # An unknown name is a type only where nothing else can be: (name *) or name name =.
        return (after.text == "*" and self.peek(2).text in (")", "*")) and name != "REC"

    # ---- blocks --------------------------------------------------------------------------------------------------

    def block(self) -> Node:
        """Parse what stands between the braces of ``({ … })``."""
        self.expect("{")
        variables: list[tuple[str, CInt | None, Node]] = []
        result: Node | None = None
        while not self.accept("}"):
            if self.accept(";"):
                continue
            here = self.at
            type_ = self.type_name()
            if type_ is not None and self.word.kind == "name":
                name = self.name()
                if not self.accept("="):
                    raise self.error("'=' expected")
                variables.append((name, self.ulong if type_.pointer else type_.integer, self.assignment()))
                result = None
            else:
                self.at = here
                result = self.expression()
            if self.word.text != "}":
                self.expect(";")
        if result is None:
            raise self.error("a block without a value")
        return Block(tuple(variables), result)
