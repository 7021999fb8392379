"""The labs' programs in C, for real kernels: compiled once each, kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from taskscope.labs.guest.errors import GuestError
from taskscope.labs.guest.kernel import cache_folder

SOURCES = Path(__file__).parent
#: by uname -m: the compiler, and Debian's package of it
_COMPILERS = {
    "x86_64": ("gcc", "gcc libc6-dev"),
    "aarch64": ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
    "armv7l": ("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf libc6-dev-armhf-cross"),
}


def names() -> list[str]:
    """Return the programs that there are."""
    return sorted(path.stem for path in SOURCES.glob("*.c"))


def build(name: str, machine: str) -> bytes:
    """Return a program as a static ELF file for a machine.

    :param name: of the source, without ``.c``
    :param machine: as uname(2) calls it
    :raises GuestError: there is no compiler, or it fails
    """
    source = SOURCES / f"{name}.c"
    compiler, packages = _COMPILERS.get(machine, _COMPILERS["x86_64"])
    text = source.read_bytes()
    kept = cache_folder() / "programs" / f"{name}-{machine}-{hashlib.sha256(text).hexdigest()[:16]}"
    if not kept.is_file():
        found = shutil.which(compiler)
        if found is None:
            raise GuestError(f"there is no {compiler} here to compile the labs' programs with; install it: "
                             f"sudo apt-get install {packages}")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as work:
            made = Path(work) / name
            done = subprocess.run([found, "-O1", "-static", "-pthread", "-o", made, source], capture_output=True,
                                  text=True, check=False, timeout=120, env={**os.environ, "LC_ALL": "C"})
            if done.returncode:
                raise GuestError(f"{compiler} cannot compile {source.name}: {done.stderr.strip()[-400:]}")
            made.rename(kept)
    return kept.read_bytes()
