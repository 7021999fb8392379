"""Runs of bytes as text: hex, arrays, bit masks, hardware and network addresses, UUIDs.

Each function gives the text of one conversion behind ``%p`` (or of a trace helper) of the kernel's lib/vsprintf.c,
lib/hexdump.c and kernel/trace/trace_output.c (v6.18).  Bytes that a record does not hold are missing, never invented:
what is too short for an address gives an empty text.
"""

from __future__ import annotations


def hex_bytes(raw: bytes, separator: bytes) -> bytes:
    """Show bytes as two hex digits each (%*ph, __print_hex)."""
    return raw.hex(separator.decode()).encode() if separator else raw.hex().encode()


def array(raw: bytes, size: int, big_endian: bool) -> bytes:
    """Show numbers as ``{0x1,0x2}`` (trace_print_array_seq); a size that no integer has is shown byte by byte."""
    order = "big" if big_endian else "little"
    if size in (1, 2, 4, 8):
        parts = [b"0x%x" % int.from_bytes(raw[i:i + size], order)  # type: ignore[arg-type]
                 for i in range(0, len(raw) - size + 1, size)]
    else:
        parts = [(b"BAD SIZE:%d 0x%x" % (size, b)) if i == 0 else b"0x%x" % b for i, b in enumerate(raw)]
    return b"{" + b",".join(parts) + b"}"


def hex_dump(raw: bytes, prefix: bytes, kind: int, row: int, group: int, ascii_: bool, big_endian: bool) -> bytes:
    """Dump bytes in rows, after a newline (trace_print_hex_dump_seq, hex_dump_to_buffer).

    :param kind: what stands before each row: 0 nothing, 1 its address (not recorded, left out), 2 its offset
    """
    row = row if row in (16, 32) else 16
    group = group if group in (1, 2, 4, 8) and len(raw) % group == 0 else 1
    order = "big" if big_endian else "little"
    out = b"\n"
    for at in range(0, len(raw), row):
        chunk = raw[at:at + row]
        words = [b"%0*x" % (2 * group, int.from_bytes(chunk[i:i + group], order))  # type: ignore[arg-type]
                 for i in range(0, len(chunk), group)]
        text = b" ".join(words)
        if ascii_:
            text = text.ljust(row * 2 + row // group + 1)
            text += bytes(b if 32 <= b < 127 else 46 for b in chunk)
        place = b"%.8x: " % at if kind == 2 else b""
        out += prefix + place + text + b"\n"
    return out


def bits(raw: bytes, long_size: int, big_endian: bool) -> int:
    """Return a bitmap (an array of unsigned longs) as one number, bit 0 lowest."""
    value = 0
    for i in range(0, len(raw), long_size):
        word = raw[i:i + long_size]
        value |= int.from_bytes(word, "big" if big_endian else "little") << (8 * i)
    return value


def bitmask(raw: bytes, long_size: int, big_endian: bool, count: int | None = None) -> bytes:
    """Show a bitmap in hex, a comma every 32 bits (%*pb, trace_seq_bitmask).

    :param count: bits in it; by default all of them
    """
    count = 8 * len(raw) if count is None else min(max(count, 0), 8 * len(raw))
    value = bits(raw, long_size, big_endian) & ((1 << count) - 1)
    parts: list[bytes] = []
    width = count & 31 or 32
    at = (count + 31) // 32 * 32 - 32
    while at >= 0:
        parts.append(b"%0*x" % ((width + 3) // 4, (value >> at) & 0xFFFFFFFF))
        at, width = at - 32, 32
    return b",".join(parts)


def bitlist(raw: bytes, long_size: int, big_endian: bool, count: int) -> bytes:
    """Show a bitmap as ranges, ``0-3,7`` (%*pbl)."""
    value = bits(raw, long_size, big_endian) & ((1 << min(max(count, 0), 8 * len(raw))) - 1)
    parts: list[bytes] = []
    bit = 0
    while value >> bit:
        bit += _zeros(value >> bit)
        end = bit + _zeros(~(value >> bit))
        parts.append(b"%d" % bit if end - bit == 1 else b"%d-%d" % (bit, end - 1))
        bit = end
    return b",".join(parts)


def _zeros(value: int) -> int:
    """Count the zero bits below the lowest that is set."""
    return (value & -value).bit_length() - 1


def mac(raw: bytes, extension: str) -> bytes:
    """Show a hardware address (%pM, %pMR, %pMF, %pm)."""
    if len(raw) < 6:
        return b""
    raw = raw[5::-1] if "R" in extension else raw[:6]
    separator = b"-" if "F" in extension else b"" if extension[:1] == "m" else b":"
    return hex_bytes(raw, separator)


def ipv4(raw: bytes, extension: str = "", big_endian: bool = False) -> bytes:
    """Show an IPv4 address (%pI4: dotted; %pi4: with leading zeros; h, n, b, l: byte order)."""
    if len(raw) < 4:
        return b""
    raw = raw[:4]
    order = extension[2:3]
    if order == "l" or (order == "h" and not big_endian):
        raw = raw[::-1]
    return b".".join((b"%03d" if extension[:1] == "i" else b"%d") % b for b in raw)


def ipv6(raw: bytes, extension: str = "") -> bytes:
    """Show an IPv6 address (%pI6 in full, %pi6 without colons, %pI6c compressed)."""
    if len(raw) < 16:
        return b""
    raw = raw[:16]
    if extension[:1] == "i":
        return hex_bytes(raw, b"")
    if "c" in extension:
        return _compressed(raw)
    return b":".join(raw[i:i + 2].hex().encode() for i in range(0, 16, 2))


def _compressed(raw: bytes) -> bytes:
    """Compress as ip6_compressed_string() does: the longest run of zero words, an IPv4 tail in dots."""
    tail = _has_ipv4_tail(raw)
    words = [int.from_bytes(raw[i:i + 2], "big") for i in range(0, 16, 2)]
    count = 6 if tail else 8
    runs = [0] * 8
    for i in range(count):
        for j in range(i, count):
            if words[j]:
                break
            runs[i] += 1
    longest = max(runs[:count])
    start = runs.index(longest) if longest > 1 else -1
    out = b""
    colon = False
    i = 0
    while i < count:
        if i == start:
            if colon or i == 0:
                out += b":"
            out += b":"
            colon = False
            i += longest
            continue
        if colon:
            out += b":"
        out += b"%x" % words[i]
        colon = True
        i += 1
    if tail:
        out += (b":" if colon else b"") + ipv4(raw[12:])
    return out


def _has_ipv4_tail(raw: bytes) -> bool:
    # ipv6_addr_v4mapped(): ::ffff:a.b.c.d; ipv6_addr_is_isatap(): interface id 0200:5efe or 0000:5efe.
    mapped = raw[:10] == bytes(10) and raw[10:12] == b"\xff\xff"
    isatap = (raw[8] | 0x02) == 0x02 and raw[9:12] == b"\x00\x5e\xfe"
    return mapped or isatap


def sockaddr(raw: bytes, extension: str, big_endian: bool) -> bytes:
    """Show a socket address (%pIS: address; p port, c compressed, f flow label, s scope)."""
    if len(raw) < 2:
        return b""
    family = int.from_bytes(raw[:2], "big" if big_endian else "little")
    port = b":%d" % int.from_bytes(raw[2:4], "big") if "p" in extension and len(raw) >= 4 else b""
    options = extension[2:]
    if family == 2 and len(raw) >= 8:
        return ipv4(raw[4:8]) + port
    if family == 10 and len(raw) >= 24:
        address = ipv6(raw[8:24], "I6c" if "c" in options else "I6")
        out = b"[" + address + b"]" if any(o in options for o in "pfs") else address
        out += port
        if "f" in options:
            out += b"/%d" % (int.from_bytes(raw[4:8], "big") & 0x0FFFFFFF)
        if "s" in options and len(raw) >= 28:
            out += b"%%%d" % int.from_bytes(raw[24:28], "big" if big_endian else "little")
        return out
    return b"(einval)"


def uuid(raw: bytes, extension: str) -> bytes:
    """Show a UUID (%pUb and %pUB big-endian, %pUl and %pUL little-endian; capital letters for B and L)."""
    if len(raw) < 16:
        return b""
    kind = extension[1:2]
    raw = raw[:16]
    if kind in ("l", "L"):
        raw = raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]
    h = raw.hex()
    text = f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
    return (text.upper() if kind in ("B", "L") else text).encode()
