"""The flags column against the kernel's own text of the same records, and against its source's rules."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskscope.abi.era import KERNELS, Version
from taskscope.abi.traceflags import COLUMNS, flags_of_text, flags_text

# A machine under load must not fail a test by being slow.
SETTINGS = settings(deadline=None)

#: raw ring-buffer pages that lie beside the kernel's text of them -> the kernel that wrote both
RAW: dict[str, Version] = {
    "d18-raw4k": (6, 1),
    "d37-raw16k-612": (6, 12),
    "d53-raw-be64": (6, 1),
    "d62-raw-32": (6, 1),
    "d70-host618-kill9-stack": (6, 18),
    "d71-host618-orphan": (6, 18),
}


def records(folder: Path, cpu: int) -> Iterator[tuple[int, int]]:
    """Walk one cpu's pages and give (common_flags, common_preempt_count) of every record, oldest first.

    A small reader of its own: header_page says where data begin, the word before each record its length.
    """
    size = int((folder / "subbuf_size").read_text())
    layout = re.findall(r"field: \S+ (\w+);\s*offset:(\d+);\s*size:(\d+);", (folder / "header_page").read_text())
    offsets = {name: (int(offset), int(length)) for name, offset, length in layout}
    big = "be" in folder.name
    order, start = ">" if big else "<", offsets["data"][0]
    commit_at, commit_size = offsets["commit"]
    pages = (folder / f"cpu{cpu}.raw").read_bytes()
    for at in range(0, len(pages), size):
        page = pages[at:at + size]
        commit, = struct.unpack_from(f"{order}{'Q' if commit_size == 8 else 'I'}", page, commit_at)
        position, end = start, start + (commit & 0xFFFFF)
        while position < end:
            word, = struct.unpack_from(f"{order}I", page, position)
            kind = word >> 27 if big else word & 31
            position += 4
            if kind in (30, 31):                # time extend, time stamp
                position += 4
                continue
            if kind in (0, 29):                 # the length is in the next word
                length, = struct.unpack_from(f"{order}I", page, position)
                data, position = position + 4, position + length
                if kind == 29:
                    continue
            else:
                data, position = position, position + 4 * kind
            yield page[data + 2], page[data + 3]


def shown(folder: Path, cpu: int) -> list[str]:
    """Return the flags column of every line of one cpu in the kernel's text."""
    text = (folder / "trace.txt").read_text(errors="replace")
    return re.findall(rf"^ *.*-\d+ +\[0*{cpu:d}\] (\S{{5}}) +[\d.]+: ", text, re.MULTILINE)


@pytest.mark.parametrize("recording", RAW)
def test_every_record_shows_the_flags_that_the_kernel_showed(data: Path, recording: str) -> None:
    """For every record of a real ring buffer the column equals the one in the kernel's own text."""
    folder, seen = data / recording, 0
    for path in sorted(folder.glob("cpu*.raw")):
        cpu = int(path.stem[3:])
        expected = shown(folder, cpu)
        found = list(records(folder, cpu))
        assert [flags_text(flags, count, RAW[recording]) for flags, count in found] == expected
        # Which kernel it was does not matter to these: only bit 1 changed its meaning.
        assert [flags_text(flags, count) for flags, count in found] == expected
        seen += len(found)
    assert seen >= 40


def by_source(flags: int, count: int, kernel: Version) -> str:
    """Say what trace_print_lat_fmt() prints, as a list of rules in the order of its tests."""
    def on(bits: int) -> bool:
        return flags & bits == bits

    new, bh = kernel > (6, 12), kernel >= (6, 1)
    irqs = next(letter for letter, holds in (
        ("D", on(0x81) and bh), ("d", on(1)), ("b", on(0x80) and bh), ("X", on(2) and not new), (".", True)) if holds)
    resched = next(letter for letter, holds in (
        ("B", on(0x26) and new), ("N", on(0x24)), ("L", on(0x22) and new), ("b", on(0x06) and new), ("n", on(0x04)),
        ("p", on(0x20)), ("l", on(0x02) and new), (".", True)) if holds)
    context = next(letter for letter, holds in (
        ("Z", on(0x48)), ("z", on(0x40)), ("H", on(0x18)), ("h", on(0x08)), ("s", on(0x10)), (".", True)) if holds)
    head = irqs + resched + context
    if kernel < (5, 15):
        return head + (f"{count:x}" if count else ".")
    return head + (f"{count & 15:x}" if count & 15 else ".") + (f"{count >> 4:x}" if count & 0xF0 else ".")


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_combination_follows_the_source(kernel: Version) -> None:
    """All 256 flags with all counts that matter are shown by the rules of kernel/trace/trace_output.c."""
    for flags in range(256):
        for count in (0, 1, 2, 9, 10, 15, 16, 17, 0x2F, 0xF0, 0xFF):
            assert flags_text(flags, count, kernel) == by_source(flags, count, kernel)


@SETTINGS
@given(st.integers(0, 255), st.integers(0, 255), st.sampled_from(KERNELS))
def test_a_column_is_read_back(flags: int, count: int, kernel: Version) -> None:
    """Reading a column and showing it again gives the same column, with a subset of the bits."""
    text = flags_text(flags, count, kernel)
    back = flags_of_text(text, kernel)
    assert back is not None
    assert flags_text(*back, kernel) == text
    assert back[0] & ~flags == 0
    assert back[1] == count


@pytest.mark.parametrize("text", ["", "d..2", "d..2..", "x..2.", "dQ.2.", "d.q2.", "d..g.", "d..0.", "d..2G", "D" * 5,
                                  "dl.2."])
def test_what_is_no_column_is_refused(text: str) -> None:
    """Text of another shape gives None; so do letters that the kernel at hand does not print."""
    if text == "d..2":
        assert flags_of_text(text, (5, 10)) == (1, 2)
    else:
        assert flags_of_text(text, (6, 1)) is None


def test_every_letter_has_a_meaning() -> None:
    """Each letter that a column can show is explained."""
    letters: list[set[str]] = [set(), set(), set()]
    for kernel in KERNELS:
        for flags in range(256):
            for column, letter in zip(letters, flags_text(flags, 0, kernel), strict=False):
                column.add(letter)
    assert [set(meanings) for _, meanings in COLUMNS[:3]] == letters
