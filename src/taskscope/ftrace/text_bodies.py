"""The bodies of all records of one event type, read into columns.

A known event is read by the template that fits it (`taskscope.ftrace.text_templates`); a system call by its argument
list; anything else by its ``key=value`` pairs, behind the address that a kprobe prints.  The first bodies decide; a
body that the chosen reading does not fit is handed back, never guessed at.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import compress

from taskscope.ftrace.text_columns import FieldColumn
from taskscope.ftrace.text_templates import Template, templates_of

#: bodies looked at to choose how a type is read, and fields that a type has at most
_SAMPLE, _MAX_KEYS = 256, 64

_KEY = re.compile(rb"(?:^|(?<=[ \t\n,;(\[{]))([A-Za-z_][\w-]{0,63}(?:\[\d{1,4}\])?)=")
_INNER_KEY = re.compile(rb"[ \t,;(\[{][A-Za-z_][\w-]{0,63}(?:\[\d{1,4}\])?=")
_PROBE = rb"\(([^()<\n]{0,255}?)(?: <- ([^()\n]{0,255}))?\)"
#: fields of which report -R prints addresses without 0x, and return values as unsigned
_RAW_PROBE = {"__probe_ip": "p", "__probe_func": "p", "__probe_ret_ip": "p"}
_RAW_CALL = {"ret": "n"}
_OPENERS = {b"]": b"[", b")": b"(", b"}": b"{"}

#: sys_NAME(int a: 0x1, b: 2), or the list alone, or sys_NAME -> 0x0, or the value alone
_CALL = re.compile(rb"\w{1,255}\(")
_RETURN = re.compile(rb"(?:\w{1,255} -> )?((?:0x)?[0-9a-fA-F]{1,16})\s*\Z")
_ARGUMENT = re.compile(rb"(?:^|, )(?:[\w *]{1,64}[ *])?([A-Za-z_]\w{0,63}): ((?:0x)?[0-9a-f]{1,16})(?![\w.])")


class Reading(ABC):
    """One way to read the bodies of a type; ``columns`` grows with every `add`."""

    columns: list[FieldColumn]

    @abstractmethod
    def add(self, bodies: list[bytes]) -> list[int]:
        """Read further bodies; return the positions of those that do not fit, which are left out."""


class TemplateReading(Reading):
    """Reads what a template describes."""

    def __init__(self, template: Template) -> None:
        self._template = template
        self.columns = [FieldColumn(name, kind) for name, kind in template.fields]

    def add(self, bodies: list[bytes]) -> list[int]:
        """See `Reading.add`."""
        text = b"\n".join(bodies)
        bad: list[int] = []
        rows: list[tuple[bytes, ...]]
        if text.count(b"\n") != len(bodies) - 1:
            matches = [self._template.whole.match(b) for b in bodies]
            bad = [i for i, m in enumerate(matches) if m is None]
            rows = [m.groups() for m in matches if m is not None]
        else:
            rows = self._template.lines.findall(text)
            witness = self._template.witness
            if witness is not None:
                fits = [row[witness] for row in rows]
                if not all(fits):
                    bad = [i for i, w in enumerate(fits) if not w]
                    rows = list(compress(rows, fits))
        if rows and self.columns:
            found = list(zip(*rows, strict=True))
            for column, group in zip(self.columns, self._template.groups, strict=True):
                column.add(found[group])
        return bad


class PairReading(Reading):
    """Reads ``key=value`` pairs; a record that lacks a key of the others has an empty text there.

    :param bodies: the first bodies, which tell the usual keys
    :param probe: the names of the addresses in the parentheses before the pairs, () if there are none
    :param kinds: kind of the fields of these names; else ``g``
    """

    def __init__(self, bodies: Sequence[bytes], probe: tuple[str, ...], kinds: Mapping[str, str]) -> None:
        usual = Counter(_keys(b) for b in bodies).most_common(1)
        self._keys = usual[0][0] if usual else ()
        self._probe = probe
        self._kinds = kinds
        self.columns = [FieldColumn(name, "p") for name in probe]
        self._by_key: dict[bytes, FieldColumn] = {}
        self._count = 0
        for key in self._keys:
            self._column(key)
        self._lines = self._compile()

    def _column(self, key: bytes) -> FieldColumn | None:
        column = self._by_key.get(key)
        if column is None and len(self.columns) < _MAX_KEYS:
            name = key.decode("ascii", "replace").replace("-", "_")
            column = FieldColumn(name, self._kinds.get(name, "g"))
            column.fill(self._count)
            self._by_key[key] = column
            self.columns.append(column)
        return column

    def _compile(self) -> re.Pattern[bytes]:
        out = b""
        if self._probe:
            out += rb"\(([^()<\n]{0,255}?)" + (rb" <- ([^()\n]{0,255})" if len(self._probe) > 1 else b"") + rb"\)"
        keys = [re.escape(k) for k in self._keys]
        for i, key in enumerate(keys):
            # Up to the first place where the key stands; never tried again.
            out += (rb"(?>(.*?)[ \t,;(\[{]" + key + b"=)" if i else rb"(?>.*?(?:(?<=[ \t,;(\[{])|^)" + key + b"=)")
        if keys:
            out += rb"(.*)"
        # The last group is the witness of a match.
        return re.compile(b"^(?:(?=(.?))" + out + b"$|.*)", re.MULTILINE)

    def add(self, bodies: list[bytes]) -> list[int]:
        """See `Reading.add`; every body fits."""
        text = b"\n".join(bodies)
        plain = text.count(b"\n") == len(bodies) - 1
        rows: list[tuple[bytes, ...]] = [] if not plain else self._rows(text)
        if rows and all(r[0] for r in rows) and not any(map(self._has_more, zip(*rows, strict=True), self._names)):
            found = list(zip(*rows, strict=True))[1:]
            for column, values in zip(self.columns, found, strict=False):
                column.add([v if v[-1:].isalnum() else _clean(v) for v in values])
            for column in self.columns[len(found):]:
                column.fill(len(bodies))
        else:
            self._add_odd(bodies)
        self._count += len(bodies)
        return []

    @property
    def _names(self) -> list[bool]:
        """For each group of the pattern: whether it is a name, which may hold anything."""
        return [True, *(c.is_name or i < len(self._probe) for i, c in enumerate(self.columns))]

    @staticmethod
    def _has_more(values: tuple[bytes, ...], name: bool) -> bool:
        """Tell whether values hold pairs of keys that are not among the usual ones."""
        return not name and _INNER_KEY.search(b"\n".join(values)) is not None

    def _rows(self, text: bytes) -> list[tuple[bytes, ...]]:
        found = self._lines.findall(text)
        # With one group, findall gives it bare.
        return found if not found or isinstance(found[0], tuple) else [(f,) for f in found]

    def _add_odd(self, bodies: list[bytes]) -> None:
        """Read bodies of which at least one has other keys, one by one."""
        rows = []
        for body in bodies:
            rest, probe = body, []
            if self._probe and (m := re.match(_PROBE, body)):
                probe = [v for v in m.groups() if v is not None]
                rest = body[m.end():]
            found = self._rows(body)[0] if b"\n" not in body else ()
            if found and found[0] and not any(map(self._has_more, zip(found, strict=True), self._names)):
                pairs = dict(zip(self._keys, found[1 + len(self._probe):], strict=True))
            else:
                pairs = _pairs(rest)
            for key in pairs:
                self._column(key)
            rows.append((probe, pairs))
        for i, column in enumerate(self.columns[:len(self._probe)]):
            column.add([p[i] if len(p) == len(self._probe) else b"" for p, _ in rows])
        for key, column in self._by_key.items():
            column.add([_clean(pairs.get(key, b"")) for _, pairs in rows])


class CallReading(Reading):
    """Reads the arguments or the return value of a system call."""

    def __init__(self, names: tuple[bytes, ...]) -> None:
        self._names = names
        self.columns = [FieldColumn(n.decode(), "x") for n in names] or [FieldColumn("ret", "r")]

    def add(self, bodies: list[bytes]) -> list[int]:
        """See `Reading.add`."""
        rows: list[tuple[bytes, ...]] = []
        bad: list[int] = []
        for i, body in enumerate(bodies):
            if not self._names:
                m = _RETURN.match(body)
                row: tuple[bytes, ...] | None = (m[1],) if m else None
            else:
                pairs = arguments(body)
                row = tuple(v for _, v in pairs) if tuple(k for k, _ in pairs) == self._names else None
            if row is None:
                bad.append(i)
            else:
                rows.append(row)
        if rows:
            for column, values in zip(self.columns, zip(*rows, strict=True), strict=True):
                column.add(values)
        return bad


def arguments(body: bytes) -> list[tuple[bytes, bytes]]:
    """Return the named arguments of a system call and their hexadecimal values."""
    m = _CALL.match(body)
    if m:
        body = body[m.end():].rstrip().removesuffix(b")")
    return _ARGUMENT.findall(body)


def _keys(body: bytes) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(_KEY.findall(body)))[:_MAX_KEYS]


def _pairs(body: bytes) -> dict[bytes, bytes]:
    marks = list(_KEY.finditer(body))
    ends = [*(m.start() for m in marks), len(body)][1:]
    pairs: dict[bytes, bytes] = {}
    for m, end in zip(marks, ends, strict=True):
        pairs.setdefault(m[1], body[m.end():end])
    return pairs


def _clean(value: bytes) -> bytes:
    """Cut what stands between a value and the next key, and quotation marks."""
    value = value.rstrip(b" \t,;([{")
    closer = value[-1:]
    if closer in _OPENERS and _OPENERS[closer] not in value:
        value = value[:-1].rstrip(b" ")
    if len(value) >= 2 and value[:1] == value[-1:] == b'"':
        value = value[1:-1]
    return value


def choose_reading(system: str, name: str, bodies: Sequence[bytes], probe_first: bool) -> Reading:
    """Choose how the bodies of an event are read.

    :param bodies: the first ones
    :param probe_first: a return probe's text names the return address first, as tracefs does; trace-cmd and perf
        name the function first
    """
    sample = bodies[:_SAMPLE]
    if known := templates_of(name):
        # No other reading: who asks for a field of a known event may rely on its type.
        counts = [sum(t.whole.match(b) is not None for b in sample) for t in known]
        if any(counts):
            return TemplateReading(known[counts.index(max(counts))])
        longer = (t.longer(b) for b in sample[:16] for t in known)
        return TemplateReading(next((t for t in longer if t is not None), known[0]))
    if system == "syscalls":
        if name.startswith("sys_exit_"):
            if any(map(_RETURN.match, sample)):
                return CallReading(())
        else:
            lists = Counter(tuple(k for k, _ in arguments(b)) for b in sample).most_common(1)
            if lists and lists[0][0] and len(set(lists[0][0])) == len(lists[0][0]):
                return CallReading(lists[0][0])
    probe: tuple[str, ...] = ()
    heads = [m for m in (re.match(_PROBE, b) for b in sample) if m]
    if heads and len(heads) * 2 >= len(sample):
        if heads[0][2] is None:
            probe = ("__probe_ip",)
        else:
            probe = ("__probe_ret_ip", "__probe_func") if probe_first else ("__probe_func", "__probe_ret_ip")
    return PairReading(sample, probe, _RAW_CALL if system == "syscalls" else _RAW_PROBE)
