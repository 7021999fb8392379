"""Event filters, ``prev_pid == 12 && (prev_state & 2 || !(next_comm ~ "ba*"))``: trace_events_filter.c, v4.19.

The grammar is that of Documentation/trace/events.rst: predicates FIELD OP VALUE with ==, !=, <, <=, >, >= and & for
numbers, ==, != and ~ (a glob) for strings, which stand in quotes; they are joined by && and || (&& binds closer),
negated by !, and grouped by parentheses.  A filter is a tree, and `filter_match_preds` asks it about a record.
"""

from __future__ import annotations

import re
from errno import EINVAL, ENOENT, EPERM, ESRCH
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from taskscope.model.include.linux.trace_events import TraceEventCall

MAX_FILTER_STR_VAL: Final = 256
_NUMBER: Final = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)\Z")
_OPS: Final = ("==", "!=", "<=", ">=", "<", ">", "&", "~")
#: fields that every event has beside those of its record
_GENERIC: Final = {"CPU": "cpu", "cpu": "cpu", "COMM": "comm", "comm": "comm"}


class Pred(NamedTuple):
    """struct filter_pred: a comparison of one field."""

    where: int | str  # place in the record; "cpu" or "comm" of the running task
    op: str
    value: int | re.Pattern[bytes]
    negated: bool
    is_string: bool
    unsigned_bits: int = 0  # of an unsigned field; 0: signed


#: a Pred, or ("and" | "or", left, right), or ("not", node)
Node = Any


class FilterError(Exception):
    """A filter that cannot be understood: where, the kernel's own words for it, and the errno of the write.

    A mistake in a predicate is EINVAL.  The others are what the kernel's internal numbers -1 (a closing parenthesis, or
    too many terms), -2 (an opening one) and -3 (a quote) come to at the system call: EPERM, ENOENT and ESRCH.
    """

    def __init__(self, at: int, text: str, error: int = EPERM) -> None:
        super().__init__(text)
        self.at = at
        self.text = text
        self.errno = error


class EventFilter(NamedTuple):
    """struct event_filter."""

    root: Node
    text: str


def filter_match_preds(event_filter: EventFilter | None, record: tuple[Any, ...]) -> bool:
    """Tell whether a record passes.

    :param record: type, flags, preempt_count, pid, and the fields of the event
    """
    return event_filter is None or _match(event_filter.root, record)


def _match(node: Node, record: tuple[Any, ...]) -> bool:
    if isinstance(node, Pred):
        return _match_pred(node, record)
    if node[0] == "and":
        return _match(node[1], record) and _match(node[2], record)
    if node[0] == "or":
        return _match(node[1], record) or _match(node[2], record)
    return not _match(node[1], record)


def _match_pred(pred: Pred, record: tuple[Any, ...]) -> bool:
    from taskscope.model import machine

    where = pred.where
    if where == "cpu":
        field: Any = machine.cur.cpu.id
    elif where == "comm":
        field = machine.cur.cpu.curr.comm16
    else:
        assert isinstance(where, int)
        field = record[where]
    value = pred.value
    if pred.is_string:
        assert isinstance(value, re.Pattern)
        text = field.encode() if isinstance(field, str) else field
        return (value.match(text.partition(b"\0")[0]) is not None) != pred.negated
    field = int(field)
    if pred.unsigned_bits:
        field &= (1 << pred.unsigned_bits) - 1
    op = pred.op
    if op == "==":
        return bool(field == value)
    if op == "!=":
        return bool(field != value)
    if op == "&":
        return bool(field & value)
    if op == "<":
        return bool(field < value)
    if op == "<=":
        return bool(field <= value)
    if op == ">":
        return bool(field > value)
    return bool(field >= value)


# ---- the parser ------------------------------------------------------------------------------------------


def create_filter(event_call: TraceEventCall, text: str) -> EventFilter:
    """Compile a filter for an event.

    :raises FilterError: it is wrong; place and words are those of the kernel
    """
    _calc_stack(text)
    parser = _Parser(event_call, text)
    root = parser.disjunction()
    parser.skip()
    if root is None:
        raise FilterError(len(text), "No filter found", EINVAL)
    if parser.at < len(text):
        raise FilterError(parser.at, "Too many terms in predicate expression")
    return EventFilter(root, text)


def _calc_stack(text: str) -> None:
    """Check quotes and parentheses before anything else is looked at (calc_stack())."""
    quote, quote_at = "", 0
    opened: list[int] = []
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote, quote_at = c, i
        elif c == "(":
            opened.append(i)
        elif c == ")":
            if not opened:
                raise FilterError(i, "Too few '('")
            opened.pop()
    if quote:
        raise FilterError(quote_at, "Missing matching quote", ESRCH)
    if opened:
        raise FilterError(opened[-1], "Too many '('", ENOENT)


class _Parser:
    def __init__(self, event_call: TraceEventCall, text: str) -> None:
        self.event_call = event_call
        self.text = text
        self.at = 0

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, token: str) -> bool:
        self.skip()
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def disjunction(self) -> Node:
        node = self.conjunction()
        while self.take("||"):
            right = self.conjunction()
            # The kernel takes a filter that ends in an operator, and leaves the operator out.
            node = node if right is None else ("or", node, right)
        return node

    def conjunction(self) -> Node:
        node = self.term()
        while self.take("&&"):
            right = self.term()
            node = node if right is None else ("and", node, right)
        return node

    def term(self) -> Node:
        """Parse a predicate, negated or in parentheses; None at the end of the text."""
        if self.take("!"):
            node = self.term()
            return None if node is None else ("not", node)
        if self.take("("):
            node = self.disjunction()
            if not self.take(")"):
                raise FilterError(self.at, "Too many terms in predicate expression")
            return node
        self.skip()
        return self.predicate() if self.at < len(self.text) else None

    def wrong(self, at: int, text: str) -> FilterError:
        """Return a mistake in a predicate: the kernel counts from the place behind its first character."""
        return FilterError(min(at + 1, len(self.text)), text, EINVAL)

    def predicate(self) -> Pred:
        start = self.at
        match = re.compile(r"\w*").match(self.text, self.at)
        assert match is not None
        name = match[0]
        if not name:
            raise FilterError(start, "", EPERM if self.text[start] in "&|" else EINVAL)
        self.at = match.end()
        where, is_string, unsigned_bits = self.field(name)
        self.skip()
        op = next((op for op in _OPS if self.text.startswith(op, self.at)), None)
        if op is None:
            raise self.wrong(self.at, "Invalid operator")
        self.at += len(op)
        self.skip()
        if self.text[self.at : self.at + 1] in ('"', "'"):
            return self.string(where, is_string, op)
        return self.number(where, is_string, unsigned_bits, op)

    def field(self, name: str) -> tuple[int | str, bool, int]:
        """Return where a field stands in a record, whether it is text, and its bits if it is unsigned."""
        call = self.event_call
        for i, field in enumerate(call.fields):
            if field.name == name:
                if "[" in field.type and not field.dynamic and not field.type.startswith("char"):
                    raise self.wrong(self.at, "Illegal operation for field type")
                string = field.dynamic or field.type.startswith("char[")
                place = 4 + sum(self._width(f) for f in call.fields[:i])
                return place, string, 0 if field.signed else 8 * field.size
        if name in _GENERIC:
            return _GENERIC[name], _GENERIC[name] == "comm", 0
        for i, common in enumerate(("common_type", "common_flags", "common_preempt_count", "common_pid")):
            if name == common:
                return i, False, 0
        raise self.wrong(self.at, "Field not found")

    @staticmethod
    def _width(field: Any) -> int:
        """Return how many values of the record a field is."""
        match = re.search(r"\[(\d+)\]\Z", field.type)
        return int(match[1]) if match and not field.type.startswith("char") else 1

    def string(self, where: int | str, is_string: bool, op: str) -> Pred:
        start = self.at
        end = self.text.find(self.text[start], start + 1)
        if op not in ("==", "!=", "~"):
            raise self.wrong(start, "Illegal operation for field type")
        if not is_string:
            raise self.wrong(start, "Expecting numeric field")
        value = self.text[start + 1 : end]
        if len(value) >= MAX_FILTER_STR_VAL:
            raise self.wrong(start, "Operand too long")
        self.at = end + 1
        pattern = _glob(value) if op == "~" else re.escape(value)
        return Pred(where, op, re.compile(pattern.encode() + rb"\Z", re.DOTALL), op == "!=", True)

    def number(self, where: int | str, is_string: bool, unsigned_bits: int, op: str) -> Pred:
        start = self.at
        match = re.compile(r"-?\w*").match(self.text, start)
        assert match is not None
        word = match[0]
        if not word or not (word[0].isdigit() or word[0] == "-"):
            raise self.wrong(start, "Invalid value (did you forget quotes)?")
        if is_string:
            raise self.wrong(start, "Expecting string field")
        if op == "~":
            raise self.wrong(start, "Illegal operation for field type")
        if not _NUMBER.match(word):
            raise self.wrong(start, "Illegal integer value")
        self.at = match.end()
        digits = word.removeprefix("-")
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" and len(digits) > 1 else 10
        value = -int(digits, base) if word.startswith("-") else int(digits, base)
        if unsigned_bits:
            value &= (1 << unsigned_bits) - 1
        return Pred(where, op, value, False, False, unsigned_bits)


def _glob(pattern: str) -> str:
    """Return the regular expression of a glob (lib/glob.c): *, ?, [a-z], [!a-z], and a backslash before one."""
    out = []
    i = 0
    while i < len(pattern):
        c = pattern[i]
        i += 1
        if c == "*":
            out.append(".*")
        elif c == "?":
            out.append(".")
        elif c == "\\" and i < len(pattern):
            out.append(re.escape(pattern[i]))
            i += 1
        elif c == "[":
            end = pattern.find("]", i + 2 if pattern[i : i + 1] == "!" else i + 1)
            if end < 0:
                out.append(re.escape(c))
                continue
            body = pattern[i:end]
            inverted = body.startswith("!")
            out.append(f"[{'^' if inverted else ''}{re.escape(body[inverted:]).replace(chr(92) + '-', '-')}]")
            i = end + 1
        else:
            out.append(re.escape(c))
    return "".join(out)


def glob_match(pattern: str, text: str) -> bool:
    """Tell whether a glob matches the whole of a text."""
    return re.fullmatch(_glob(pattern), text, re.DOTALL) is not None


def error_text(text: str, error: FilterError) -> str:
    """Return what the filter's file shows after a mistake (append_filter_err())."""
    if not error.text:
        return f"{text}\nError: (0)"
    return f"{text}\n{' ' * error.at}^\nparse_error: {error.text}"
