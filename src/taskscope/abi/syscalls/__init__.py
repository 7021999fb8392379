"""System call numbers and names, architecture by architecture.

The tables (one module each, loaded when asked for) are those of Linux 6.18.  A number never changes its call, so they
serve older kernels too, which merely lack the newer calls.  Architectures go by the names of `taskscope.abi.arch`; any
spelling of uname -m is taken (``armv7l``, ``aarch64``, ``i686``).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import NamedTuple

from taskscope.abi.arch import Arch, arch_of
from taskscope.errors import UsageError


class Call(NamedTuple):
    """One system call of one architecture."""

    arch: Arch
    number: int
    name: str
    function: str | None        # what the kernel calls, without the architecture's prefix; None: reserved, not there
    abi: str | None = None      # "x32", "OABI" or "ARM private" where the number is not of the main table


class Table(NamedTuple):
    """All calls of an architecture, by number and by name."""

    by_number: dict[int, Call]
    by_name: dict[str, Call]


def _parse(text: str) -> dict[int, str]:
    calls: dict[int, str] = {}
    for line in text.strip().splitlines():
        first, *names = line.split()
        calls.update(enumerate(names, int(first)))
    return calls


@cache
def _table(arch: Arch) -> Table:
    module = import_module(f"{__name__}.{arch}")
    entries: dict[str, str] = module.ENTRIES
    missing = set(module.NOT_IMPLEMENTED.split())

    def call(number: int, name: str, abi: str | None = None) -> Call:
        return Call(arch, number, name, None if name in missing else entries.get(name, f"sys_{name}"), abi)

    main = {number: call(number, name) for number, name in _parse(module.CALLS).items()}
    # The main table goes last: it wins where a name has numbers in two ABIs.
    extra: dict[int, Call] = {}
    if arch == "arm":
        for number, name in _parse(module.OABI).items():
            extra[number] = call(number, name, "OABI")
        for number, name in _parse(module.PRIVATE).items():
            extra[number] = Call(arch, number, name, "arm_syscall", "ARM private")
    by_name = {one.name: one for one in (*extra.values(), *main.values())}
    if arch == "x86_64":
        x32, bit = _parse(module.X32), module.X32_SYSCALL_BIT
        replaced = set(x32.values())
        for number, name in x32.items():
            function = module.X32_ENTRIES.get(name, f"compat_sys_{name}")
            extra[number | bit] = Call(arch, number | bit, name, function, "x32")
        for number, one in main.items():
            if one.name not in replaced:
                extra[number | bit] = call(number | bit, one.name, "x32")
    return Table(dict(sorted({**extra, **main}.items())), by_name)


def table(machine: str) -> Table:
    """Return the calls of an architecture.

    :param machine: an architecture or a machine name
    :raises UsageError: there is no table for it
    """
    arch = arch_of(machine)
    if arch is None:
        raise UsageError(f"there is no system call table for {machine!r}; "
                         "known are arm, arm64, x86_64, i386 and s390x")
    return _table(arch)


def call_of_number(machine: str, number: int) -> Call | None:
    """Return the call behind a number; None if the architecture has none there.

    :raises UsageError: there is no table for the architecture
    """
    return table(machine).by_number.get(number)


def call_of_name(machine: str, name: str) -> Call | None:
    """Return the call of a name (``clone``); None if the architecture has none of it.

    :raises UsageError: there is no table for the architecture
    """
    return table(machine).by_name.get(name)
