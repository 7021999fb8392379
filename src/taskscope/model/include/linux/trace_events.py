"""Trace events: what a record of each looks like, and the text of its ``format`` file.

include/linux/trace_events.h, include/trace/trace_events.h, kernel/trace/trace_events.c (f_show), v4.19 to v6.18.  An
event is declared once for each shape that it has had, in include/trace/events/; the kernel at hand decides on the shape
and on the sizes of C types in it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from taskscope.abi.era import Version

#: bytes of the common fields: type, flags, preempt_count, pid
COMMON_SIZE: Final = 8
#: a record with more bytes keeps its length in a word of its own (RB_MAX_SMALL_DATA)
RB_MAX_SMALL_DATA: Final = 112

# Flags of a TraceEventFile.  0 is the fast path: write the record, nothing else to ask.
EVENT_FILE_FL_FILTERED: Final = 1
EVENT_FILE_FL_TRIGGER: Final = 2
EVENT_FILE_FL_SOFT_DISABLED: Final = 4
EVENT_FILE_FL_PID_FILTER: Final = 8
EVENT_FILE_FL_STACKTRACE: Final = 16  # the instance's option stacktrace; tr->trace_flags in the kernel
EVENT_FILE_FL_MIGRATION: Final = 64  # some task has migration disabled, which the record's context says
EVENT_FILE_FL_SLOW: Final = 32  # records of varying or great length, or times of another clock

_FIELD: Final = re.compile(r"(?P<type>.*?[\w*\]])\s*\b(?P<name>\w+)(?:\[(?P<count>\d*|-)\])?\Z")
# C type: struct code, bytes (0: a long), signed
_TYPES: Final[dict[str, tuple[str, int, int]]] = {
    "char": ("s", 1, -1),
    "unsigned char": ("B", 1, 0),
    "bool": ("B", 1, 0),
    "short": ("h", 2, 1),
    "unsigned short": ("H", 2, 0),
    "int": ("i", 4, 1),
    "pid_t": ("i", 4, 1),
    "clockid_t": ("i", 4, 1),
    "unsigned int": ("I", 4, 0),
    "u16": ("H", 2, 0),
    "u32": ("I", 4, 0),
    "long": ("q", 0, 1),
    "unsigned long": ("Q", 0, 0),
    "void *": ("Q", 0, 0),
    "resource_size_t": ("Q", 8, 0),
    "u64": ("Q", 8, 0),
    "s64": ("q", 8, 1),
    "unsigned long long": ("Q", 8, 0),
}


class Abi(NamedTuple):
    """What the layout of a record depends on."""

    long_size: int
    char_signed: bool
    u64_align: int = 8  # 4 on i386


class Field(NamedTuple):
    """One field of a record, as its ``format`` file has it."""

    type: str
    name: str
    offset: int
    size: int
    signed: int
    code: str  # for struct; "" for what follows the fixed part
    dynamic: bool  # __data_loc: a string behind the fixed part

    @property
    def declaration(self) -> str:
        """The C declaration: ``char comm[16]``."""
        match = re.match(r"(.*?)(\[.*\])\Z", self.type)
        if match and not self.dynamic:
            return f"{match[1]} {self.name}{match[2]}"
        return f"{self.type} {self.name}"


class Declaration(NamedTuple):
    """TRACE_EVENT(): a shape of an event and the kernels that have it."""

    system: str
    name: str
    fields: str  # C declarations, semicolons between
    print_fmt: str
    probe: Callable[..., Any] | None  # trace_event_raw_event_x(); None: no code of the model traces it
    output: Callable[..., str] | None  # trace_raw_output_x(): its text
    since: Version = (0, 0)
    before: Version = (1 << 30, 0)
    tracepoint: str = ""  # where it has another name than the event


COMMON: Final = (
    Field("unsigned short", "common_type", 0, 2, 0, "H", False),
    Field("unsigned char", "common_flags", 2, 1, 0, "B", False),
    Field("unsigned char", "common_preempt_count", 3, 1, 0, "B", False),
    Field("int", "common_pid", 4, 4, 1, "i", False),
)


def layout(fields: str, abi: Abi) -> tuple[tuple[Field, ...], int]:
    """Lay fields out as the C compiler does; return them with sizeof(*entry).

    :param fields: C declarations; ``type name @8`` gives an offset, ``@8 #unsigned long`` also what really stands there
    """
    offset = COMMON_SIZE
    widest = 4
    out = []
    for text in filter(None, (part.strip() for part in fields.split(";"))):
        text, _, at = text.partition(" @")
        at, _, stored = at.partition(" #")
        match = _FIELD.match(text)
        assert match, text
        c_type, name, count = match["type"], match["name"], match["count"]
        if c_type.startswith("__data_loc"):
            code, size, align, signed, kind = "I", 4, 4, int(abi.char_signed), c_type
        else:
            base = stored or c_type
            base = base if base in _TYPES else "void *" if c_type.endswith("*") else "unsigned int"
            code, size, signed = _TYPES[base]
            if size == 0:
                size = abi.long_size
                code = code if size == 8 else {"q": "i", "Q": "I"}[code]
            signed = abi.char_signed if signed < 0 else signed
            align = min(size, abi.u64_align) if size == 8 else size
            kind = c_type
            if count is not None:
                # Until v5.8 the format of ftrace's own records had no brackets for an array without a size: "-" here.
                n = int(count) if count.isdigit() else 0
                kind = c_type if count == "-" else f"{c_type}[{count}]"
                code = f"{n}s" if c_type == "char" else f"{n}{code}"
                size *= n
        offset = int(at) if at else -(-offset // align) * align
        out.append(Field(kind, name, offset, size, int(signed), code, c_type.startswith("__data_loc")))
        offset += size
        widest = max(widest, align)
    return tuple(out), -(-offset // widest) * widest


class TraceEventCall:
    """struct trace_event_call: an event of the running kernel."""

    __slots__ = (
        "declaration",
        "dynamic",
        "fields",
        "id",
        "length",
        "name",
        "output",
        "pack_into",
        "print_fmt",
        "probe",
        "record",
        "size",
        "system",
        "type_len",
        "unpack_from",
    )

    def __init__(self, declaration: Declaration, id: int, abi: Abi) -> None:
        self.declaration = declaration
        self.system = declaration.system
        self.name = declaration.name
        self.id = id
        self.fields, self.size = layout(declaration.fields, abi)
        self.print_fmt = declaration.print_fmt.replace("$SIZEOF_LONG", str(abi.long_size))
        self.probe = declaration.probe
        self.output = declaration.output
        self.dynamic = any(f.dynamic for f in self.fields)
        code, at = "<HBBi", COMMON_SIZE
        for f in self.fields:
            if f.size:
                code += "x" * (f.offset - at) + f.code
                at = f.offset + f.size
        #: the fixed part of a record, without its header word
        self.record = struct.Struct(code + "x" * (self.size - at))
        self.unpack_from = self.record.unpack_from
        #: bytes of data in the ring buffer, and what the header word says of them
        self.length = -(-self.size // 4) * 4
        if self.length == 8:
            self.length = 12  # rb_calculate_event_length(): room for a time extend
        self.type_len = self.length // 4 if self.length <= RB_MAX_SMALL_DATA else 0
        #: writes a record with its header word: that, type | flags << 16 | preempt_count << 24, pid, fields
        self.pack_into = struct.Struct(code.replace("<HBB", "<II", 1) + "x" * (self.length - at)).pack_into

    @property
    def format_text(self) -> bytes:
        """The event's ``format`` file."""
        lines = [f"name: {self.name}", f"ID: {self.id}", "format:", *map(_line, COMMON), "", *map(_line, self.fields)]
        return ("\n".join(lines) + f"\n\nprint fmt: {self.print_fmt}\n").encode()

    def field(self, name: str) -> Field | None:
        """Return a field by its name, common ones included; None if there is none."""
        return next((f for f in (*self.fields, *COMMON) if f.name == name), None)

    def __repr__(self) -> str:
        return f"<event {self.system}:{self.name}>"


def _line(f: Field) -> str:
    return f"\tfield:{f.declaration};\toffset:{f.offset};\tsize:{f.size};\tsigned:{f.signed};"


class TraceEventFile:
    """struct trace_event_file: an event in one instance of tracing."""

    __slots__ = (
        "buffers",
        "enabled",
        "event_call",
        "filter",
        "filter_text",
        "flags",
        "head",
        "length",
        "pack_into",
        "registered",
        "soft_mode",
        "tr",
        "triggers",
        "type_len",
    )

    def __init__(self, event_call: TraceEventCall, tr: Any) -> None:
        self.event_call = event_call
        self.tr = tr  # struct trace_array
        self.buffers = tr.buffers
        # of the call, near at hand for the probes: bytes with the header word, what is constant in its two first words,
        # the writer
        self.length = event_call.length + 4
        self.type_len = event_call.type_len
        self.head = event_call.id
        self.pack_into = event_call.pack_into
        self.flags = 0
        self.enabled = False  # its records are wanted
        self.registered = False  # its probe is on the tracepoint
        self.soft_mode = 0  # triggers that need the probe though the event is off
        self.filter: Any = None  # struct event_filter
        self.filter_text = ""
        self.triggers: list[Any] = []

    def __repr__(self) -> str:
        return f"<event file {self.event_call.system}:{self.event_call.name}>"
