"""The labs that look at kernel memory, on stored dumps of x86-64 and 32-bit ARM: no root, no QEMU, no debug package."""

from __future__ import annotations

import lzma
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import DATA, run_cli

pytest.importorskip("drgn", reason="drgn is not installed")

from taskscope.errors import UsageError
from taskscope.labs.catalog import TITLES, get
from taskscope.labs.lab import run_real
from taskscope.labs.real.dump import Dumped

DUMPS = DATA / "vmcore"
LABS = [name for name in TITLES if get(name).memory is not None]


@pytest.fixture(scope="module", params=["amd64", "armhf"])
def dump(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dumped]:
    """A dump of each architecture; that of ARM has neither types nor names of data in its memory."""
    if request.param == "amd64":
        yield Dumped(DUMPS / "debian12-amd64.kdump")
        return
    path = tmp_path_factory.mktemp("armhf") / "armhf.core"
    path.write_bytes(lzma.decompress((DUMPS / "debian12-armhf.core.xz").read_bytes()))
    yield Dumped(path, DUMPS / "debian12-armhf.btf.xz", DUMPS / "debian12-armhf.System.map.xz")


def test_which_labs_look_at_memory() -> None:
    """Those whose row of the notes asks for it do."""
    assert set(LABS) >= {"ps-ely", "ps-ejH", "ps-axjf", "task-struct", "parents", "times", "thread-info", "tif-flags"}


@pytest.mark.parametrize("name", LABS)
def test_a_lab_on_a_dump(dump: Dumped, name: str) -> None:
    """What the notes say of task descriptors is seen in the memory of a kernel that crashed long ago."""
    run = run_real(get(name), dump)
    assert run.checks
    assert run.passed, [f"{c.what}: {c.seen[:300]}" for c in run.checks if not c.passed]


@pytest.mark.parametrize("name", LABS)
def test_a_wrong_expectation_is_noticed(dump: Dumped, name: str) -> None:
    """With one expectation that is wrong the lab fails."""
    assert not run_real(get(name), dump, wrong=True).passed


def test_the_command(tmp_path: Path) -> None:
    """`lab --on dump:FILE` shows what memory shows; what runs nothing is not asked to run a lab of another kind."""
    ran = run_cli("lab", "thread-info", "--on", f"dump:{DUMPS / 'debian12-amd64.kdump'}")
    assert ran.code == 0
    assert b"STACK_END_MAGIC" in ran.out
    other = run_cli("lab", "fork", "--on", f"dump:{DUMPS / 'debian12-amd64.kdump'}")
    assert other.code == 2
    assert b"lab fork is not for dump" in other.err
    assert run_cli("lab", "times", "--on", f"dump:{tmp_path / 'none'}").code == 3
    with pytest.raises(UsageError, match="a dump runs nothing"):
        Dumped(DUMPS / "debian12-amd64.kdump").type("true")
