"""Architectures: the names that tables use, and every spelling of uname -m and of distributions that means them."""

from __future__ import annotations

from typing import Final, Literal

Arch = Literal["arm", "arm64", "x86_64", "i386", "s390x"]

#: the architectures that the system call tables cover
ARCHES: Final[tuple[Arch, ...]] = ("arm", "arm64", "x86_64", "i386", "s390x")

Family = Literal["arm", "arm64", "x86", "s390"]

#: folder names under the kernel's arch/, by which flags in thread_info differ
FAMILIES: Final[tuple[Family, ...]] = ("arm", "arm64", "x86", "s390")

_SPELLINGS: Final[dict[str, Arch]] = {
    "arm": "arm", "armhf": "arm", "armel": "arm", "arm32": "arm", "aarch32": "arm",
    "arm64": "arm64", "aarch64": "arm64", "aarch64_be": "arm64", "armv8": "arm64",
    "x86_64": "x86_64", "x86-64": "x86_64", "amd64": "x86_64", "x64": "x86_64",
    "i386": "i386", "i486": "i386", "i586": "i386", "i686": "i386", "x86_32": "i386", "ia32": "i386",
    "s390x": "s390x",
}

_FAMILY: Final[dict[Arch, Family]] = {
    "arm": "arm", "arm64": "arm64", "x86_64": "x86", "i386": "x86", "s390x": "s390",
}


def arch_of(machine: str) -> Arch | None:
    """Return the architecture of a machine name (``armv7l``, ``aarch64``, ``i686``, ``amd64``); None if unknown."""
    word = machine.strip().lower()
    if word in _SPELLINGS:
        return _SPELLINGS[word]
    # uname -m of 32-bit ARM: armv5tel, armv6l, armv7l, armv7b, and armv8l for 32-bit programs on a 64-bit kernel.
    if word.startswith(("armv5", "armv6", "armv7", "armv8l", "armv8b")):
        return "arm"
    return None


def family_of(machine: str) -> Family | None:
    """Return the kernel's arch/ folder of a machine name: ``x86`` for ``i686``; None if unknown."""
    word = machine.strip().lower()
    if word == "x86":
        return "x86"
    if word == "s390":
        return "s390"
    arch = arch_of(word)
    return _FAMILY[arch] if arch else None
