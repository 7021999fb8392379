"""The symbol table: parsing /proc/kallsyms and naming addresses."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskscope.ftrace.dat import read_dat
from taskscope.ftrace.kallsyms import REACH, Symbols
from taskscope.ftrace.record_setup import modules_of, symbols_of, with_later_modules

TABLE = b"""\
ffffffff81000000 T srso_alias_untrain_ret
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81000200 t copy_process
ffffffff81000a00 T kernel_clone
ffffffffc0000000 t virtqueue_add\t[virtio_ring]
ffffffffc0000100 t virtqueue_get\t[virtio_ring]
"""


def slow_name(table: bytes, address: int) -> str | None:
    """Name an address the plain way: the first of the symbols with the highest address at or below it."""
    best: tuple[int, str] | None = None
    for line in table.splitlines():
        words = line.split()
        at = int(words[0], 16)
        if at and words[1] not in (b"A", b"a") and at <= address and (best is None or at > best[0]):
            best = at, words[2].decode()
    return best[1] if best and address - best[0] < REACH else None


def test_an_address_has_the_name_of_the_symbol_that_holds_it() -> None:
    """Return addresses lie inside a function and are named by it, exact ones are its entry."""
    s = Symbols(TABLE)
    assert s.names([0xffffffff81000200, 0xffffffff810009ff, 0xffffffff81000a00]) == [
        "copy_process", "copy_process", "kernel_clone"]
    assert s.names([0xffffffff81000200, 0xffffffff81000201], exact=True) == ["copy_process", None]
    assert s.name(0xffffffff81000a04) == "kernel_clone"
    assert s.name(0xffffffff81000a04, exact=True) is None


def test_of_aliases_the_first_is_the_name() -> None:
    """Symbols of one address are named as the kernel does: by the first in the table."""
    assert Symbols(TABLE).name(0xffffffff81000000) == "srso_alias_untrain_ret"
    assert Symbols(TABLE).name(0xffffffff81000010) == "srso_alias_untrain_ret"


def test_addresses_outside_every_symbol_have_no_name() -> None:
    """Below the first, far behind the last, and in the hole between the text and the modules nothing is named."""
    s = Symbols(TABLE)
    outside = [0, 0x400000, 0xffffffff80ffffff, 0xffffffffa0000000, 0xfffffffffffffff0]
    assert s.names(outside) == [None] * len(outside)
    assert s.name(-1) is None
    assert s.name(1 << 70) is None


def test_the_module_is_shown_when_asked_for() -> None:
    """A module's symbol keeps its module apart from its name."""
    s = Symbols(TABLE)
    assert s.names([0xffffffffc0000104, 0xffffffff81000a00], module=True) == [
        "virtqueue_get [virtio_ring]", "kernel_clone"]
    assert s.name(0xffffffffc0000104) == "virtqueue_get"


def test_hidden_and_absolute_symbols_name_nothing() -> None:
    """Addresses that kptr_restrict made 0, and offsets of per-cpu data (type A), are no addresses."""
    s = Symbols(b"0000000000000000 T hidden\n0000000000001000 A per_cpu_thing\n0000000000100000 T start\n")
    assert s.names([0, 8, 0x1008, 0x100008]) == [None, None, None, "start"]
    assert Symbols(b"0000000000000000 T a\n0000000000000000 t b\n").names([0]) == [None]


def test_mapping_symbols_name_nothing() -> None:
    """The $a and $d of a module on ARM are marks in its code: an address behind one belongs to the function before."""
    s = Symbols(b"bf000000 t probe\t[vhost]\nbf000000 t $a\t[vhost]\nbf000040 t $d\t[vhost]\n"
                b"bf000080 t remove\t[vhost]\n")
    assert s.names([0xbf000000, 0xbf000050, 0xbf000084]) == ["probe", "probe", "remove"]
    assert len(s) == 2


def test_32_bit_and_unsorted_tables() -> None:
    """Addresses of 8 digits and tables out of order are read alike."""
    s = Symbols(b"c1000200 t b\nc1000000 T a\nf7d00000 t m\t[mod]\nc1000100 t c\n")
    assert s.names(np.array([0xc1000001, 0xc1000100, 0xc1000201, 0xf7d00001], np.uint32)) == ["a", "c", "b", "m"]


@pytest.mark.parametrize(("text", "count", "bad"), [
    (b"", 0, 0),
    (b"\n\n", 0, 0),
    (b"ffffffff81000000 T a", 1, 0),
    (b"ffffffff81000000 T a\0\0", 1, 0),
    (b"ffffffff81000000 T a\r\nffffffff81000010 T b\r\n", 2, 0),
    (b"not a table\nffffffff81000000 T a\nffffffffZZ000000 T b\n", 1, 2),
    (b"ffffffff81000000 T a\nc1000000 T b\nffffffff81000010 T c\n", 3, 0),
    (b"ffffffff81000000 T \nffffffff81000000 T\n", 0, 2),
    (b"ffffffff81000000\tT\ta\n", 0, 1),
])
def test_lines_that_are_no_symbols_are_counted(text: bytes, count: int, bad: int) -> None:
    """A damaged table gives the symbols that it still has."""
    s = Symbols(text)
    assert (len(s), s.bad) == (count, bad)


def test_a_name_leads_back_to_its_address() -> None:
    """The first symbol of a name is found by it."""
    s = Symbols(TABLE)
    assert s.address_of("kernel_clone") == 0xffffffff81000a00
    assert s.address_of("virtqueue_add") == 0xffffffffc0000000
    assert s.address_of("kernel") is None


@given(st.lists(st.tuples(st.integers(0, 1 << 12), st.sampled_from("tTwAdr"), st.sampled_from(["a", "b.cold", "_c"]),
                          st.booleans()), max_size=30), st.lists(st.integers(0, 1 << 12), max_size=30))
def test_lookup_equals_the_plain_way(symbols: list[tuple[int, str, str, bool]], wanted: list[int]) -> None:
    """Columns of addresses are named as a loop over the table names them."""
    base = 0xffffffff80000000
    table = b"".join(f"{base + at:016x} {kind} {name}{k}".encode() + (b"\t[m]" if module else b"") + b"\n"
                     for k, (at, kind, name, module) in enumerate(symbols))
    addresses = [base + at for at in wanted]
    assert Symbols(table).names(addresses) == [slow_name(table, a) for a in addresses]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_without_symbols(text: bytes) -> None:
    """No bytes make the parser fail, and every symbol that it finds can be named."""
    s = Symbols(text)
    assert all(isinstance(n, str) for n in s.names(s.addresses))


def test_real_tables_name_their_own_symbols(data: Path) -> None:
    """In a real table every symbol's address has a name, and it is the first of that address."""
    for name in ("d05-zombie.dat", "d33-zombie-612-v6.dat", "d50-signals-be64.dat", "d60-signals-32.dat"):
        text = read_dat(str(data / name)).kallsyms
        s = Symbols(text)
        assert s.bad == 0
        addresses = [int(line.split()[0], 16) for line in text.splitlines()]
        assert s.names(addresses, exact=True) == [slow_name(text, a) for a in addresses]


def test_a_table_of_200_000_lines_is_parsed_at_once() -> None:
    """Seven MB take well under the 0.15 s that a whole report may spend on them (best of three)."""
    table = b"".join(b"%016x t some_function_of_the_kernel%d\n" % (0xffffffff81000000 + 64 * k, k)
                     for k in range(200_000))
    took = []
    for _ in range(3):
        start = time.perf_counter()
        s = Symbols(table)
        took.append(time.perf_counter() - start)
    assert len(s) == 200_000
    assert min(took) < 0.15


@pytest.mark.root
def test_this_kernels_table() -> None:
    """The table of the running kernel is understood to the last line."""
    text = Path("/proc/kallsyms").read_bytes()
    if b"T _text" not in text or text.startswith(b"0000000000000000"):
        pytest.skip("this user may not see the addresses of /proc/kallsyms")
    s = Symbols(text)
    assert s.bad == 0
    at = s.address_of("do_exit") or s.address_of("schedule")
    assert at is not None
    assert s.name(at, exact=True) is not None


def test_a_call_stack_names_code_only() -> None:
    """Behind a module's data lies perhaps code of a module that the table does not know: it has no name then."""
    symbols = Symbols(b"ffffffffc0000000 t probe\t[virtio]\nffffffffc0001000 d __this_module\t[virtio]\n"
                      b"ffffffffc0002000 D marker\nffffffffc0002000 T worker\t[vhost]\nffffffffc0003000 W weak\n")
    assert symbols.function(0xFFFFFFFFC0000010) == "probe"
    assert symbols.function(0xFFFFFFFFC0001010) is None
    assert symbols.name(0xFFFFFFFFC0001010) == "__this_module"
    assert symbols.function(0xFFFFFFFFC0002004) == "worker"
    assert symbols.function(0xFFFFFFFFC0003004) == "weak"
    assert symbols.function(0x10) is None
    assert symbols.function(-1) is None


def test_symbols_of_later_modules_are_added() -> None:
    """Of the modules that were loaded since a table was read, and of them alone, the lines are taken."""
    before = b"ffffffff81000010 T do_exit\nffffffffc0000000 t probe\t[virtio]\n"
    after = (b"ffffffff81000010 T do_exit\nffffffffc0000000 t probe\t[virtio]\nffffffffc0005000 t "
             b"vhost_worker\t[vhost]\n"
             b"ffffffffc0006000 t other\t[vhost_vsock]\n")
    assert modules_of(before) == {b"virtio"}
    assert modules_of(after) == {b"virtio", b"vhost", b"vhost_vsock"}
    whole = before + symbols_of(after, {b"vhost"})
    assert modules_of(whole) == {b"virtio", b"vhost"}
    assert Symbols(whole).function(0xFFFFFFFFC0005008) == "vhost_worker"
    assert symbols_of(after, set()) == b""
    assert with_later_modules(before) == before or Path("/proc/modules").read_bytes()
