"""<linux/module.h>: loading modules; glibc has no header for it."""

from __future__ import annotations

from taskscope.model.user.python import UserContext


class Modules(UserContext):
    """The calls on modules."""

    __slots__ = ()

    def finit_module(self, fd: int, params: str = "", flags: int = 0) -> None:
        """Load a module from an open file."""
        self._call("finit_module", fd, params, flags)
