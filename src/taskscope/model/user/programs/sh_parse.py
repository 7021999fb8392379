"""The shell's grammar: lines to a tree of commands.

What POSIX sh has and this has not: functions, case, here-documents, arithmetic, most ${…} forms, aliases.
"""

from __future__ import annotations

from dataclasses import dataclass, field


class ShellSyntaxError(Exception):
    """The line is no command; ``more`` if it may become one with the next line."""

    def __init__(self, message: str, more: bool = False) -> None:
        super().__init__(message)
        self.more = more


@dataclass(slots=True)
class Part:
    """A piece of a word: ``text`` as it stands, the name of a variable (``var``) or a command line (``cmd``)."""

    kind: str
    text: str
    quoted: bool


Word = list[Part]


@dataclass(slots=True)
class Redirect:
    """A redirection: ``fd op target``."""

    fd: int
    op: str
    target: Word


@dataclass(slots=True)
class Simple:
    """A command with its words, assignments and redirections."""

    words: list[Word] = field(default_factory=list)
    assigns: list[tuple[str, Word]] = field(default_factory=list)
    redirects: list[Redirect] = field(default_factory=list)
    text: str = ""


@dataclass(slots=True)
class Pipeline:
    """Commands joined by ``|``."""

    commands: list[Command]
    negated: bool = False


@dataclass(slots=True)
class AndOr:
    """Pipelines joined by ``&&`` and ``||``: (operator before it, pipeline)."""

    parts: list[tuple[str, Pipeline]]
    background: bool = False
    text: str = ""


@dataclass(slots=True)
class Lines:
    """A list of commands."""

    items: list[AndOr]


@dataclass(slots=True)
class Group:
    """``{ … }`` or, in a shell of its own, ``( … )``."""

    body: Lines
    subshell: bool
    redirects: list[Redirect] = field(default_factory=list)


@dataclass(slots=True)
class If:
    """``if … then … elif … else … fi``."""

    branches: list[tuple[Lines, Lines]]
    otherwise: Lines | None
    redirects: list[Redirect] = field(default_factory=list)


@dataclass(slots=True)
class Loop:
    """``while`` or ``until``."""

    test: Lines
    body: Lines
    until: bool
    redirects: list[Redirect] = field(default_factory=list)


@dataclass(slots=True)
class For:
    """``for name in words``."""

    name: str
    words: list[Word] | None
    body: Lines
    redirects: list[Redirect] = field(default_factory=list)


Command = Simple | Group | If | Loop | For

_OPERATORS = ("&&", "||", ">>", ">&", "<&", ";", "&", "|", "<", ">", "(", ")", "\n")
_RESERVED = frozenset(["if", "then", "elif", "else", "fi", "while", "until", "do", "done", "for", "in", "{", "}", "!"])


@dataclass(slots=True)
class Token:
    """An operator, or a word; ``at`` is where it begins in the text."""

    op: str | None
    word: Word
    at: int
    end: int
    fd: int | None = None

    @property
    def plain(self) -> str | None:
        """The word, if nothing in it is quoted or expanded: what can be a reserved word."""
        if self.op is None and len(self.word) == 1 and self.word[0].kind == "text" and not self.word[0].quoted:
            return self.word[0].text
        return None


def tokens(text: str) -> list[Token]:
    """Cut a text into operators and words."""
    found: list[Token] = []
    i = 0
    while i < len(text):
        if text[i] in " \t":
            i += 1
        elif text.startswith("\\\n", i):
            i += 2
        elif text[i] == "#":
            while i < len(text) and text[i] != "\n":
                i += 1
        else:
            op = next((one for one in _OPERATORS if text.startswith(one, i)), None)
            if op is not None:
                found.append(Token(op, [], i, i + len(op)))
                i += len(op)
                continue
            word, end = _word(text, i)
            fd = None
            # Digits right before < or > are the descriptor.
            if end < len(text) and text[end] in "<>" and text[i:end].isdigit():
                op = next(one for one in _OPERATORS if text.startswith(one, end))
                fd = int(text[i:end])
                found.append(Token(op, [], i, end + len(op), fd))
                i = end + len(op)
                continue
            found.append(Token(None, word, i, end))
            i = end
    return found


def _word(text: str, i: int) -> tuple[Word, int]:
    parts: Word = []

    def add(kind: str, value: str, quoted: bool) -> None:
        if kind == "text" and parts and parts[-1].kind == "text" and parts[-1].quoted == quoted:
            parts[-1].text += value
        else:
            parts.append(Part(kind, value, quoted))

    while i < len(text) and text[i] not in " \t\n;&|<>()":
        c = text[i]
        if c == "'":
            end = text.find("'", i + 1)
            if end < 0:
                raise ShellSyntaxError("unexpected EOF while looking for matching `''", True)
            add("text", text[i + 1 : end], True)
            i = end + 1
        elif c == '"':
            i += 1
            add("text", "", True)
            while True:
                if i >= len(text):
                    raise ShellSyntaxError("unexpected EOF while looking for matching `\"'", True)
                if text[i] == '"':
                    i += 1
                    break
                if text[i] == "\\" and i + 1 < len(text) and text[i + 1] in '"\\$`':
                    add("text", text[i + 1], True)
                    i += 2
                elif text[i] in "$`":
                    i = _expansion(text, i, True, add)
                else:
                    add("text", text[i], True)
                    i += 1
        elif c == "\\":
            if i + 1 >= len(text):
                raise ShellSyntaxError("unexpected EOF", True)
            if text[i + 1] != "\n":
                add("text", text[i + 1], True)
            i += 2
        elif c in "$`":
            i = _expansion(text, i, False, add)
        else:
            add("text", c, False)
            i += 1
    return parts, i


def _expansion(text: str, i: int, quoted: bool, add: object) -> int:
    assert callable(add)
    if text[i] == "`":
        end = text.find("`", i + 1)
        if end < 0:
            raise ShellSyntaxError("unexpected EOF while looking for matching ``'", True)
        add("cmd", text[i + 1 : end], quoted)
        return end + 1
    if text.startswith("$(", i):
        depth, end = 1, i + 2
        while end < len(text) and depth:
            if text[end] == "'":
                close = text.find("'", end + 1)
                end = close if close > 0 else end
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        if depth:
            raise ShellSyntaxError("unexpected EOF while looking for matching `)'", True)
        add("cmd", text[i + 2 : end - 1], quoted)
        return end
    if text.startswith("${", i):
        end = text.find("}", i)
        name = text[i + 2 : end] if end > 0 else ""
        if not (name.isidentifier() or name.isdigit() or name in ("?", "!", "$", "@", "*", "#")):
            raise ShellSyntaxError(f"${{{name}}}: bad substitution")
        add("var", name, quoted)
        return end + 1
    rest = text[i + 1 : i + 2]
    if (rest and rest in "?!$@*#-") or rest.isdigit():
        add("var", rest, quoted)
        return i + 2
    end = i + 1
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    if end == i + 1:
        add("text", "$", quoted)
    else:
        add("var", text[i + 1 : end], quoted)
    return end


class Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)
        self.i = 0

    def peek(self) -> Token | None:
        """Return the next token."""
        return self.tokens[self.i] if self.i < len(self.tokens) else None

    def op(self) -> str | None:
        """Return the next token if it is an operator."""
        token = self.peek()
        return None if token is None else token.op

    def plain(self) -> str | None:
        """Return the next token if it can be a reserved word."""
        token = self.peek()
        return None if token is None else token.plain

    def newlines(self) -> None:
        """Skip ends of lines."""
        while self.op() == "\n":
            self.i += 1

    def expect(self, word: str) -> None:
        """Take a reserved word or operator."""
        self.newlines()
        if self.plain() != word and self.op() != word:
            raise self.unexpected()
        self.i += 1

    def unexpected(self) -> ShellSyntaxError:
        """Return the error for the next token."""
        token = self.peek()
        if token is None:
            return ShellSyntaxError("syntax error: unexpected end of file", True)
        shown = "newline" if token.op == "\n" else self.text[token.at : token.end]
        return ShellSyntaxError(f"syntax error near unexpected token `{shown}'")

    def lines(self, *ends: str) -> Lines:
        """Parse a list up to one of the reserved words or operators in `ends`, or the end of the text."""
        items: list[AndOr] = []
        while True:
            while self.op() in ("\n", ";") and (self.op() == "\n" or items):
                self.i += 1
            token = self.peek()
            if token is None:
                if ends:
                    raise self.unexpected()
                return Lines(items)
            if token.plain in ends or token.op in ends:
                if not items:
                    raise self.unexpected()
                return Lines(items)
            items.append(self.and_or())
            if self.op() == "&":
                items[-1].background = True
                self.i += 1
            elif self.op() in (";", "\n"):
                self.i += 1
            elif self.peek() is not None and not (self.plain() in ends or self.op() in ends):
                raise self.unexpected()

    def and_or(self) -> AndOr:
        """Parse pipelines joined by && and ||."""
        first = self.peek()
        assert first is not None
        parts = [("", self.pipeline())]
        while self.op() in ("&&", "||"):
            op = self.op() or ""
            self.i += 1
            self.newlines()
            parts.append((op, self.pipeline()))
        return AndOr(parts, text=self.text[first.at : self.tokens[self.i - 1].end])

    def pipeline(self) -> Pipeline:
        """Parse commands joined by |."""
        negated = self.plain() == "!"
        if negated:
            self.i += 1
        commands = [self.command()]
        while self.op() == "|":
            self.i += 1
            self.newlines()
            commands.append(self.command())
        return Pipeline(commands, negated)

    def command(self) -> Command:
        """Parse one command."""
        word = self.plain()
        made: Command
        if self.op() == "(":
            self.i += 1
            body = self.lines(")")
            self.expect(")")
            made = Group(body, True)
        elif word == "{":
            self.i += 1
            body = self.lines("}")
            self.expect("}")
            made = Group(body, False)
        elif word == "if":
            made = self.if_()
        elif word in ("while", "until"):
            self.i += 1
            test = self.lines("do")
            self.expect("do")
            body = self.lines("done")
            self.expect("done")
            made = Loop(test, body, word == "until")
        elif word == "for":
            made = self.for_()
        elif word in _RESERVED:
            raise self.unexpected()
        else:
            return self.simple()
        while (redirect := self.redirect()) is not None:
            made.redirects.append(redirect)
        return made

    def if_(self) -> If:
        """Parse if."""
        branches = []
        self.i += 1
        while True:
            test = self.lines("then")
            self.expect("then")
            branches.append((test, self.lines("elif", "else", "fi")))
            word = self.plain()
            self.i += 1
            if word == "fi":
                return If(branches, None)
            if word == "else":
                otherwise = self.lines("fi")
                self.expect("fi")
                return If(branches, otherwise)

    def for_(self) -> For:
        """Parse for."""
        self.i += 1
        name = self.plain()
        if name is None or not name.isidentifier():
            raise self.unexpected()
        self.i += 1
        words: list[Word] | None = None
        if self.plain() == "in":
            self.i += 1
            words = []
            while (token := self.peek()) is not None and token.op is None:
                words.append(token.word)
                self.i += 1
        if self.op() in (";", "\n"):
            self.i += 1
        self.expect("do")
        body = self.lines("done")
        self.expect("done")
        return For(name, words, body)

    def redirect(self) -> Redirect | None:
        """Parse a redirection, if one is next."""
        token = self.peek()
        if token is None or token.op not in ("<", ">", ">>", ">&", "<&"):
            return None
        self.i += 1
        target = self.peek()
        if target is None or target.op is not None:
            raise self.unexpected()
        self.i += 1
        fd = token.fd if token.fd is not None else 0 if token.op.startswith("<") else 1
        return Redirect(fd, token.op, target.word)

    def simple(self) -> Simple:
        """Parse a simple command."""
        made = Simple()
        first = self.peek()
        while True:
            redirect = self.redirect()
            if redirect is not None:
                made.redirects.append(redirect)
                continue
            token = self.peek()
            if token is None or token.op is not None:
                break
            self.i += 1
            head = token.word[0] if token.word else None
            if not made.words and head is not None and head.kind == "text" and not head.quoted and "=" in head.text:
                name, _, rest = head.text.partition("=")
                if name.isidentifier():
                    made.assigns.append((name, [Part("text", rest, False), *token.word[1:]]))
                    continue
            made.words.append(token.word)
        if not (made.words or made.assigns or made.redirects):
            raise self.unexpected()
        assert first is not None
        made.text = self.text[first.at : self.tokens[self.i - 1].end]
        return made


def parse(text: str) -> Lines:
    """Parse a text.

    :raises ShellSyntaxError: it is no list of commands
    """
    return Parser(text).lines()
