"""The event types of a text, numbered as they appear, and which of them a line without a name belongs to.

Text names events without their system (but perf); the system is the kernel's for names that are known.  tracefs
prints system calls, calls of functions, stacks and marks without the name of the event: they are recognised by their
shape.
"""

from __future__ import annotations

import re

from taskscope.ftrace.systems import UNKNOWN, system_of
from taskscope.ftrace.text_bodies import Reading, choose_reading
from taskscope.trace.source import EventType, Field

#: more names than this are no events; what comes after them is kept without being taken apart
MAX_TYPES = 4096

_STACK, _USER_STACK = b"<stack trace>", b"<user stack trace>"
_ENTER = re.compile(rb"sys_(\w{1,200})\(")
_EXIT = re.compile(rb"sys_(\w{1,200}) -> ")
_FUNCTION = re.compile(rb"[^\s(]{1,255}(?: \[[^\s\]]{1,63}\])?(?:\(.{0,4096}?\))?\s{1,2}<-\S")
_SYMBOL = re.compile(rb"[^\s(]{1,255}(?: \[[^\s\]]{1,63}\])?(?:\(.{0,4096}\))?\s{0,4}\Z")
_MARK = re.compile(rb"\S{1,255} <[0-9a-f]{1,16}>: ")
_MARKER = re.compile(rb"tracing_mark_write(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?\Z|\S{1,200}\+0x[0-9a-f]{1,8}/0x[0-9a-f]{1,8}\Z"
                     rb"|0x[0-9a-f]{1,16}\Z")
#: modifiers of perf's own events: cycles:u, instructions:ppp
_MODIFIERS = re.compile(rb"[ukhGHpPSDeWIb]{1,8}\Z")

#: types whose text has no name before it in tracefs
_BARE = frozenset({"print", "bprint", "bputs", "function", "kernel_stack", "user_stack"})


class TextType:
    """One event type: who it is, and the reading of its bodies."""

    def __init__(self, index: int, system: str, name: str, bare: bool) -> None:
        self.index = index
        self.system = system
        self.name = name
        self.bare = bare                    # its text does not begin with its name
        self.reading: Reading | None = None
        self.odd: TextType | None = None    # where bodies go that the reading does not fit

    @property
    def is_stack(self) -> bool:
        """Tell whether its records are call stacks."""
        return self.system == "ftrace" and self.name in ("kernel_stack", "user_stack")

    def event_type(self) -> EventType:
        """Describe it as `taskscope.trace.source` does."""
        fields: tuple[Field, ...] = ()
        if self.reading is not None:
            fields = tuple(c.field for c in self.reading.columns)
        return EventType(self.index, self.system, self.name, fields)


class Types:
    """All event types of a text.

    :param style: of its `taskscope.ftrace.text_lines.Grammar`
    """

    def __init__(self, style: str) -> None:
        self.all: list[TextType] = []
        self.tracer: str | None = None
        self._perf = style == "perf"
        self._wide = style in ("report", "report-latency")
        self._ids: dict[tuple[str, str], TextType] = {}
        #: types by the name before the body, as far as it is no part of the body itself
        self.known: dict[bytes, TextType] = {}

    def get(self, system: str, name: str, bare: bool) -> TextType:
        """Return the type, which is made if it is new."""
        found = self._ids.get((system, name))
        if found is None:
            found = self._ids[system, name] = TextType(len(self.all), system, name, bare)
            self.all.append(found)
        return found

    def resolve(self, name: bytes, rest: bytes) -> tuple[TextType, bool]:
        """Return the type of a line, and whether the name is part of the body.

        :param name: what stands before the first colon, b"" if nothing like a name
        """
        if not name:
            return self._unnamed(rest), False
        if len(self.all) >= MAX_TYPES:
            return self.get(UNKNOWN, "unknown", True), not (self._perf or self._wide)
        found = self._name(name)
        if found is None:
            return self.get("ftrace", "print", True), True
        self.known[name] = found
        return found, False

    def _name(self, name: bytes) -> TextType | None:
        text = name.decode("utf-8", "backslashreplace")
        if self._perf:
            system, _, event = text.rpartition(":")
            if not system or (_MODIFIERS.match(name.rpartition(b":")[2]) and system_of(event) == UNKNOWN):
                return self.get(UNKNOWN, text, False)
            return self.get(system, event, event in _BARE)
        if not self._wide and _MARKER.match(name):
            return None
        system = system_of(text)
        return self.get(system, text, self._wide and system == "ftrace" and text in _BARE)

    def _unnamed(self, rest: bytes) -> TextType:
        if rest == _STACK:
            return self.get("ftrace", "kernel_stack", True)
        if rest == _USER_STACK:
            return self.get("ftrace", "user_stack", True)
        if _FUNCTION.match(rest) or (self.tracer == "function" and _SYMBOL.match(rest)):
            return self.get("ftrace", "function", True)
        if _MARK.match(rest):
            return self.get("ftrace", "print", True)
        if len(self.all) < MAX_TYPES:
            if m := _ENTER.match(rest):
                return self.get("syscalls", f"sys_enter_{m[1].decode()}", True)
            if m := _EXIT.match(rest):
                return self.get("syscalls", f"sys_exit_{m[1].decode()}", True)
        return self.get(UNKNOWN, self.tracer if self.tracer not in (None, "nop") else "unknown", True)

    def read(self, type_: TextType, bodies: list[bytes]) -> list[int]:
        """Take further bodies of a type apart; return the positions of those that cannot be.

        Those belong to ``type_.odd`` from now on, a type of the same name without a system and without fields.
        """
        if type_.reading is None:
            if type_.system == UNKNOWN and type_.bare:
                return []
            type_.reading = choose_reading(type_.system, type_.name, bodies, not (self._perf or self._wide))
        bad = type_.reading.add(bodies)
        if bad and type_.odd is None:
            type_.odd = self.get("", type_.name, type_.bare)
        return bad
