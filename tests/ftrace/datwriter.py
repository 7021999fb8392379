"""A small writer of trace.dat files and ring-buffer pages for tests.

Written from trace-cmd.dat.v6(5) and trace-cmd.dat.v7(5), apart from the reader, so that what one misreads
the other does not repeat.  It writes any byte order, size of long, page size, compression and number of
buffers; the tests write wrong values over the places that it names.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

import zstandard

MAGIC = b"\x17\x08\x44tracing"
(DATE, CPUSTAT, BUFFER, TRACECLOCK, UNAME, HOOK, OFFSET, CPUCOUNT, VERSION, PROCMAPS, TRACEID, TIME_SHIFT,
 GUEST, TSC2NSEC, STRINGS, HEADER_INFO, FTRACE_EVENTS, EVENT_FORMATS, KALLSYMS, PRINTK, CMDLINES,
 BUFFER_TEXT) = range(1, 23)


def header_page(long_size: int = 8, page_size: int = 4096) -> bytes:
    """Return the text of events/header_page."""
    data = 8 + long_size
    return (f"\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
            f"\tfield: local_t commit;\toffset:8;\tsize:{long_size};\tsigned:1;\n"
            f"\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
            f"\tfield: char data;\toffset:{data};\tsize:{page_size - data};\tsigned:0;\n").encode()


def event_format(name: str, id: int, *fields: str) -> bytes:
    """Return the text of a format file; a field is ``type name;offset;size;signed``."""
    common = ("unsigned short common_type;0;2;0", "unsigned char common_flags;2;1;0",
              "unsigned char common_preempt_count;3;1;0", "int common_pid;4;4;1")

    def line(f: str) -> str:
        decl, offset, size, signed = f.split(";")
        return f"\tfield:{decl};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"

    return (f"name: {name}\nID: {id}\nformat:\n" + "".join(map(line, common)) + "\n"
            + "".join(map(line, fields)) + '\nprint fmt: "%d", REC->value\n').encode()


def page(ts: int, records: list[tuple[int, bytes]], *, big_endian: bool = False, long_size: int = 8,
         size: int = 4096, flags: int = 0) -> bytes:
    """Return one sub-buffer of (time delta, data) records; data has 4 to 112 bytes, a multiple of 4."""
    order = ">" if big_endian else "<"
    body = b""
    for delta, data in records:
        kind = len(data) // 4
        assert 1 <= kind <= 28
        assert len(data) % 4 == 0
        head = kind << 27 | delta if big_endian else delta << 5 | kind
        body += struct.pack(order + "I", head) + data
    commit = struct.pack(order + ("Q" if long_size == 8 else "I"), len(body) | flags)
    whole = struct.pack(order + "Q", ts) + commit + body
    assert len(whole) <= size
    return whole.ljust(size, b"\0")


def pages(count: int, *, start: int = 1000, big_endian: bool = False, long_size: int = 8, size: int = 4096,
          cpu: int = 0) -> bytes:
    """Return `count` sub-buffers whose records (id 1, a pid, a value that grows) differ from page to page."""
    order = ">" if big_endian else "<"
    out = []
    for p in range(count):
        records = [(k + 1, struct.pack(order + "HBBii", 1, 0, 0, 100 + cpu, p * 1000 + k))
                   for k in range(3 + p % 5)]
        out.append(page(start + 100 * p, records, big_endian=big_endian, long_size=long_size, size=size))
    return b"".join(out)


FTRACE = [event_format("function", 1, "int value;8;4;1")]
EVENTS = {"sched": [event_format("sched_switch", 300, "int value;8;4;1"),
                    event_format("sched_waking", 301, "int value;8;4;1")],
          "task": [event_format("task_newtask", 302, "int value;8;4;1")]}


@dataclass
class Buf:
    """One buffer: its cpus' pages by cpu number; ``text`` instead of pages for a latency tracer."""

    name: str = ""
    cpus: dict[int, bytes] = field(default_factory=dict)
    clock: str = "local"
    page_size: int | None = None
    text: bytes | None = None


@dataclass
class Dat:
    """A trace.dat to be; `build` returns its bytes, and ``places`` then says where things lie in them."""

    version: int = 7
    big_endian: bool = False
    long_size: int = 8
    page_size: int = 4096
    compression: str = "none"
    buffers: list[Buf] = field(default_factory=list)
    header: tuple[bytes, bytes] | None = None
    ftrace: list[bytes] = field(default_factory=lambda: list(FTRACE))
    events: dict[str, list[bytes]] = field(default_factory=lambda: {k: list(v) for k, v in EVENTS.items()})
    kallsyms: bytes = b"ffffffff81000000 T _text\nffffffff81000100 T do_exit\n"
    printk: bytes = b'0xffffffff82000000 : "hello\\n"\n'
    cmdlines: bytes = b"1 init\n42 a b\n"
    options: list[tuple[int, bytes]] = field(default_factory=list)
    cpu_count: int | None = None
    chunk_pages: int = 10
    count_in_size: bool = True       # trace-cmd before 3.2 left the chunk count out of the size of a cpu
    chunk_list: bytes | None = None  # stands in for the chunks of every cpu
    places: dict[str, int] = field(default_factory=dict)

    # ---- numbers ----

    def n(self, size: int, value: int) -> bytes:
        """Return a number in the byte order of the file."""
        return value.to_bytes(size, "big" if self.big_endian else "little")

    def _head(self) -> bytes:
        return (MAGIC + str(self.version).encode() + b"\0"
                + bytes([self.big_endian, self.long_size]) + self.n(4, self.page_size))

    # ---- bodies ----

    def _header_info(self) -> bytes:
        top, event = self.header or (header_page(self.long_size, self.page_size), b"# compressed entry header\n")
        return b"header_page\0" + self._text8(top) + b"header_event\0" + self._text8(event)

    def _ftrace(self) -> bytes:
        return self.n(4, len(self.ftrace)) + b"".join(map(self._text8, self.ftrace))

    def _events(self) -> bytes:
        out = self.n(4, len(self.events))
        for system, formats in self.events.items():
            out += system.encode() + b"\0" + self.n(4, len(formats))
            out += b"".join(map(self._text8, formats))
        return out

    def _text4(self, text: bytes) -> bytes:
        return self.n(4, len(text)) + text

    def _text8(self, text: bytes) -> bytes:
        return self.n(8, len(text)) + text

    def squeeze(self, data: bytes) -> bytes:
        """Compress one chunk."""
        if self.compression == "zlib":
            return zlib.compress(data, 9)
        return zstandard.ZstdCompressor(write_content_size=False).compress(data)

    def chunks(self, data: bytes, page_size: int) -> bytes:
        """Return the chunk list of a cpu."""
        if self.chunk_list is not None:
            return self.chunk_list
        step = self.chunk_pages * page_size
        parts = [data[k:k + step] for k in range(0, len(data), step)]
        out = self.n(4, len(parts))
        for part in parts:
            packed = self.squeeze(part)
            out += self.n(4, len(packed)) + self.n(4, len(part)) + packed
        return out

    # ---- files ----

    def build(self) -> bytes:
        """Return the file."""
        return self._build6() if self.version == 6 else self._build7()

    @staticmethod
    def _align(out: bytearray, size: int) -> None:
        out += bytes(-len(out) % size)

    def _build6(self) -> bytes:
        out = bytearray(self._head())
        for name, body in (("header_info", self._header_info()), ("ftrace", self._ftrace()),
                           ("events", self._events()), ("kallsyms", self._text4(self.kallsyms)),
                           ("printk", self._text4(self.printk)), ("cmdlines", self._text8(self.cmdlines))):
            self.places[name] = len(out)
            out += body
        top = next((b for b in self.buffers if not b.name), Buf())
        count = self.cpu_count or max([c + 1 for b in self.buffers for c in b.cpus], default=1)
        self.places["cpus"] = len(out)
        out += self.n(4, count)
        fixups: list[tuple[int, Buf]] = []
        instances = [b for b in self.buffers if b.name]
        self.places["options"] = len(out)
        if self.options or instances:
            out += b"options  \0"
            for option, data in self.options:
                out += self.n(2, option) + self.n(4, len(data)) + data
            for b in instances:
                name = b.name.encode() + b"\0"
                out += self.n(2, BUFFER) + self.n(4, 8 + len(name))
                fixups.append((len(out), b))
                out += bytes(8) + name
            out += self.n(2, 0)
        if top.text is not None:
            return bytes(out + b"latency  \0" + top.text)
        self._flyrecord6(out, top, count)
        for at, b in fixups:
            start = len(out)
            self._flyrecord6(out, b, count)
            out[at:at + 8] = self.n(8, start)
        return bytes(out)

    def _flyrecord6(self, out: bytearray, b: Buf, count: int) -> None:
        self.places["flyrecord " + b.name] = len(out)
        out += b"flyrecord\0"
        table = len(out)
        out += bytes(16 * count)
        if any(option == TRACECLOCK for option, _ in self.options):
            out += self._text8(b"[" + b.clock.encode() + b"]")
        for cpu in range(count):
            self._align(out, self.page_size)
            data = b.cpus.get(cpu, b"")
            out[table + 16 * cpu:table + 16 * cpu + 16] = self.n(8, len(out)) + self.n(8, len(data))
            self.places[f"cpu {b.name}{cpu}"] = len(out)
            out += data

    def section(self, id: int, body: bytes, *, compress: bool = True) -> bytes:
        """Return a section with its header, compressed if the file is."""
        packed = compress and self.compression != "none"
        if packed:
            squeezed = self.squeeze(body)
            body = self.n(4, len(squeezed)) + self.n(4, len(body)) + squeezed
        return self.n(2, id) + self.n(2, int(packed)) + self.n(4, 0) + self.n(8, len(body)) + body

    def _build7(self) -> bytes:
        out = bytearray(self._head())
        out += self.compression.encode() + b"\0" + (b"1.5.4" if self.compression != "none" else b"") + b"\0"
        first = len(out)
        self.places["first options"] = first
        out += bytes(8)
        options = []
        for name, section, body in (("header_info", HEADER_INFO, self._header_info()),
                               ("ftrace", FTRACE_EVENTS, self._ftrace()),
                               ("events", EVENT_FORMATS, self._events()),
                               ("kallsyms", KALLSYMS, self._text4(self.kallsyms)),
                               ("printk", PRINTK, self._text4(self.printk)),
                               ("cmdlines", CMDLINES, self._text8(self.cmdlines))):
            self.places[name] = len(out)
            options.append((section, self.n(8, len(out))))
            out += self.section(section, body)
        next_at = self._options7(out, first, options + self.options)
        for b in self.buffers:
            next_at = self._options7(out, next_at, [self._buffer7(out, b)])
        self.places["strings"] = len(out)
        out += self.section(STRINGS, b"headers\0options\0")
        return bytes(out)

    def _options7(self, out: bytearray, link: int, options: list[tuple[int, bytes]]) -> int:
        """Append an options section, let the 8 bytes at `link` point to it, return where its own link is."""
        out[link:link + 8] = self.n(8, len(out))
        self.places.setdefault("options", len(out))
        self.places["last options"] = len(out)
        body = b"".join(self.n(2, option) + self.n(4, len(data)) + data for option, data in options)
        body += self.n(2, 0) + self.n(4, 8) + bytes(8)
        out += self.section(0, body, compress=False)
        return len(out) - 8

    def _buffer7(self, out: bytearray, b: Buf) -> tuple[int, bytes]:
        start = len(out)
        self.places["buffer " + b.name] = start
        entry = self.n(8, start) + b.name.encode() + b"\0" + b.clock.encode() + b"\0"
        packed = self.compression != "none"
        size = b.page_size or self.page_size
        kind = BUFFER if b.text is None else BUFFER_TEXT
        out += self.n(2, kind) + self.n(2, int(packed)) + self.n(4, 0) + bytes(8)
        if b.text is not None:
            out += self.chunks(b.text, size) if packed else b.text
        else:
            entry += self.n(4, size) + self.n(4, len(b.cpus))
            for cpu, data in b.cpus.items():
                self._align(out, size)
                stored = self.chunks(data, size) if packed and data else data
                length = len(stored) - (0 if self.count_in_size or not stored or not packed else 4)
                entry += self.n(4, cpu) + self.n(8, len(out)) + self.n(8, length)
                self.places[f"cpu {b.name}{cpu}"] = len(out)
                out += stored
        out[start + 8:start + 16] = self.n(8, len(out) - start - 16)
        return kind, entry
