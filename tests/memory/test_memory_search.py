"""What is found in kernel memory by what it is, and stacks of frame records: only what fits is taken."""

from __future__ import annotations

import struct

import pytest

from conftest import DATA
from taskscope.memory.frames import frames
from taskscope.memory.image import FaultError
from taskscope.memory.search import Search

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.memory.core import CoreImage, open_core
from taskscope.memory.kernel import KernelMemory

LOW, HIGH = 0xFFFF_8000_0000_0000, 0xFFFF_8000_0000_4000
TEXT = 0xFFFF_B796_3721_0000


@pytest.fixture(scope="module")
def image() -> CoreImage:
    return open_core(DATA / "vmcore/debian12-amd64.kdump")


@pytest.fixture(scope="module")
def vmcoreinfo(image: CoreImage) -> str:
    return image._program["VMCOREINFO"].string_().decode()


def test_what_symbols_say_is_found_without_them(image: CoreImage, vmcoreinfo: str) -> None:
    """BTF and init_task lie where the kernel's symbols say, and nothing else is taken for them."""
    search = Search(image.read, vmcoreinfo)
    start, stop, init_task = (image.symbol(name) for name in ("__start_BTF", "__stop_BTF", "init_task"))
    assert start is not None
    assert stop is not None
    assert search.btf() == image.read(start, stop - start)
    assert search.init_task(image.types) == init_task


@pytest.mark.parametrize("member", ["pid", "tgid", "real_parent", "parent", "group_leader", "tasks", "comm"])
def test_what_does_not_fit_is_not_init_task(image: CoreImage, vmcoreinfo: str, member: str) -> None:
    """An init_task of which one member is not as it must be is not found: it would be a guess."""
    found = image.types.member("task_struct", member)
    init_task = image.symbol("init_task")
    assert found is not None
    assert init_task is not None
    at = init_task + found.offset

    def read(address: int, count: int) -> bytes:
        data = bytearray(image.read(address, count))
        for n in range(4):
            if address <= at + n < address + count:
                data[at + n - address] ^= 0x55
        return bytes(data)

    assert Search(read, vmcoreinfo).init_task(image.types) is None


def test_without_a_place_to_begin_nothing_is_found(image: CoreImage) -> None:
    """Where VMCOREINFO does not say where the kernel's image is, nothing is looked for."""
    search = Search(image.read, "OSRELEASE=6.1.0\n")
    assert search.btf() is None
    assert search.init_task(image.types) is None


def test_a_kernel_whose_data_has_no_symbols(image: CoreImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump of a kernel that knows the names of its functions alone is read like any other."""
    from taskscope.memory.kallsyms import Kallsyms

    ours = Kallsyms.symbol
    hidden = ("init_task", "__start_BTF", "__stop_BTF")
    monkeypatch.setattr(Kallsyms, "symbol", lambda self, name: None if name in hidden else ours(self, name))
    kernel = KernelMemory(open_core(DATA / "vmcore/debian12-amd64.kdump"))
    assert len(kernel.snapshot().tasks) == 83
    assert kernel.wounds == []


def stack(*records: tuple[int, int, int]) -> dict[int, bytes]:
    """Return frame records by address: where each is, the next one, and the return address."""
    return {LOW + at: struct.pack("<QQ", following and LOW + following, address) for at, following, address in records}


@pytest.mark.parametrize(("records", "found"), [
    (stack((0x100, 0x200, TEXT + 1), (0x200, 0, 0)), [0, 1]),
    (stack((0x100, 0x200, TEXT + 1), (0x200, 0, TEXT + 2)), [0, 1, 2]),
    (stack((0x100, 0x200, (TEXT + 1) ^ 0x7D2A << 48), (0x200, 0, 0)), [0, 1]),
    (stack((0x100, 0x100, TEXT + 1)), [0, 1]),
    (stack((0x100, 0x80, TEXT + 1), (0x80, 0x100, TEXT + 2)), [0, 1]),
    (stack((0x100, 0x3FF8, TEXT + 1)), [0, 1]),
    (stack((0x100, 0x204, TEXT + 1)), [0, 1]),
    (stack((0x100, 0x200, TEXT + 1)), [0, 1]),
], ids=["zeros", "no-next", "signed", "itself", "circle", "above", "crooked", "missing"])
def test_frame_records(records: dict[int, bytes], found: list[int]) -> None:
    """Records are followed upwards within the stack, to the last one or to the first that makes no sense."""
    def read(address: int, count: int) -> bytes:
        if address not in records:
            raise FaultError(address, count)
        return records[address]

    assert frames(read, TEXT, LOW + 0x100, LOW, HIGH) == [TEXT + n for n in found]
