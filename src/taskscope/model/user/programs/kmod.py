"""insmod and lsmod, of kmod."""

from __future__ import annotations

from taskscope.model.user.libc import Sys


def insmod(sys: Sys, argv: list[str]) -> int:
    """Load a module: insmod FILE."""
    for path in argv[1:]:
        try:
            fd = sys.open(path)
            sys.finit_module(fd)
            sys.close(fd)
        except OSError as error:
            sys.perror(f"insmod: ERROR: could not insert module {path}: {error.strerror}")
            return 1
    return 0


def lsmod(sys: Sys, argv: list[str]) -> int:
    """List the modules that are loaded."""
    del argv
    sys.puts("Module                  Size  Used by")
    for line in sys.slurp("/proc/modules").decode().splitlines():
        name, size, users = line.split()[:3]
        sys.puts(f"{name:<19} {size:>8}  {users}")
    return 0
