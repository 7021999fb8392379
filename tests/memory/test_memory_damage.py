"""Kernel memory that does not fit together: everybody who can be reached is shown, and each wound is told."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import DATA

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.memory.core import CoreImage, open_core
from taskscope.memory.image import Image, Symbol
from taskscope.memory.kernel import KernelMemory
from taskscope.memory.structs import Struct
from taskscope.snapshot.decode import snapshot


class Patched(Image):
    """An image in which some words of memory are others."""

    def __init__(self, image: Image, words: dict[int, int]) -> None:
        self.image = image
        self.words = words
        self.arch, self.release, self.source, self.types = image.arch, image.release, image.source, image.types
        self.wrong = image.wrong

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        return self.image.symbol(name)

    def symbol_at(self, address: int) -> Symbol | None:
        """See `Image.symbol_at`."""
        return self.image.symbol_at(address)

    def read(self, address: int, count: int) -> bytes:
        """See `Image.read`."""
        data = bytearray(self.image.read(address, count))
        for at, word in self.words.items():
            for n, byte in enumerate(struct.pack("<Q", word)):
                if address <= at + n < address + count:
                    data[at + n - address] = byte
        return bytes(data)


@pytest.fixture(scope="module")
def image() -> CoreImage:
    return open_core(DATA / "vmcore/debian12-amd64.kdump")


@pytest.fixture(scope="module")
def tasks(image: CoreImage) -> dict[str, Struct]:
    kernel = KernelMemory(image)
    return {kernel.text(task, "comm") or "": task for task in kernel.processes()}


def link(image: CoreImage, task: Struct, name: str = "tasks") -> int:
    """Return where a task's list_head is."""
    member = image.types.member("task_struct", name)
    assert member is not None
    return task.address + member.offset


def names(kernel: KernelMemory) -> list[str]:
    return [row.comm for row in snapshot(kernel).tasks]


def test_a_circle_in_the_list_of_tasks(image: CoreImage, tasks: dict[str, Struct]) -> None:
    """A list that runs back into itself is walked once, and the wound says that something is missing."""
    kernel = KernelMemory(Patched(image, {link(image, tasks["sleeper"]): link(image, tasks["kthreadd"])}))
    found = names(kernel)
    assert found.count("kthreadd") == found.count("sleeper") == 1
    assert "zombie42" not in found
    assert [wound for wound in kernel.wounds if "circle" in wound]


@pytest.mark.parametrize(("word", "said"), [(0, "NULL"), (0x4141_4141_4141_4141, "leads nowhere"), (8, "leads nowhere"),
                                            (1 << 63, "leads nowhere")])
def test_a_wild_pointer_in_the_list_of_tasks(
    image: CoreImage, tasks: dict[str, Struct], word: int, said: str
) -> None:
    """A link that leads nowhere ends the walk there: who came before is shown."""
    kernel = KernelMemory(Patched(image, {link(image, tasks["sleeper"]): word}))
    found = names(kernel)
    assert "sleeper" in found
    assert "zombie42" not in found
    assert any(said in wound for wound in kernel.wounds), kernel.wounds


def test_a_wild_pointer_among_children(image: CoreImage, tasks: dict[str, Struct]) -> None:
    """Damage in one list of children hides nobody from the list of tasks."""
    kernel = KernelMemory(Patched(image, {link(image, tasks["sleeper"], "sibling"): 0x6666_0000}))
    whole = names(KernelMemory(image))
    assert sorted(row.comm for row in kernel.snapshot().tasks) == sorted(whole)
    assert any("children of 93" in wound for wound in kernel.wounds)


def test_pointers_out_of_a_task(image: CoreImage, tasks: dict[str, Struct]) -> None:
    """A task whose mm, signal and credentials are wild is shown with what it has itself; the rest is unknown."""
    words = {link(image, tasks["sleeper"], name): 0x1234_5678_0000 for name in ("mm", "signal", "cred", "real_parent")}
    kernel = KernelMemory(Patched(image, words))
    row = next(row for row in kernel.snapshot().tasks if row.comm == "sleeper")
    assert (row.pid, row.state) == (96, "S")
    assert row.ppid is None
    assert row.uid is None
    assert row.threads is None
    assert any("struct signal_struct" in wound for wound in kernel.wounds)


def test_a_comm_without_an_end(image: CoreImage, tasks: dict[str, Struct]) -> None:
    """A name of 16 bytes without a NUL, with bytes that are no text, is cut and written with escapes."""
    at = link(image, tasks["sleeper"], "comm")
    kernel = KernelMemory(Patched(image, {at: 0x1B5B_3331_6DFF_FE41, at + 8: 0x4242_4242_4242_4242}))
    row = next(row for row in kernel.snapshot().tasks if row.pid == 96)
    assert row.comm.endswith("BBBBBBBB")
    assert len(row.comm.encode("utf-8", "replace")) < 80
    from taskscope.views.ps import ps_table

    assert all("\x1b" not in line for line in ps_table(kernel.snapshot()))


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_any_damage(data: st.DataObject) -> None:
    """Whatever words of whichever task_struct are changed, the walk ends, and shows tasks or says why not."""
    image = open_core(DATA / "vmcore/debian12-amd64.kdump") if not IMAGES else IMAGES[0]
    IMAGES[:] = [image]
    kernel = KernelMemory(image)
    found = list(kernel.processes())
    words = {}
    for _ in range(data.draw(st.integers(1, 6))):
        task = data.draw(st.sampled_from(found))
        offset = 8 * data.draw(st.integers(0, len(task.data) // 8 - 1))
        other = data.draw(st.sampled_from(found))
        words[task.address + offset] = data.draw(st.one_of(
            st.integers(0, (1 << 64) - 1), st.just(0), st.just(other.address), st.just(other.address + offset)))
    damaged = KernelMemory(Patched(image, words))
    rows = damaged.snapshot(stacks=True).tasks
    assert len(rows) <= 2 * len(found)
    assert rows or damaged.wounds


IMAGES: list[CoreImage] = []
