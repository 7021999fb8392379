"""Mutants: named one-line changes of the executable kernel that a lab must notice.

A mutant replaces one line of one kernel function while a machine runs, by compiling the changed source and giving the
function that code.  It fails loudly when the line is not there any more.
"""

from __future__ import annotations

import importlib
import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, FunctionType

from taskscope.errors import UsageError

_MODEL = "taskscope.model."


@dataclass(frozen=True, slots=True)
class Mutant:
    """One line of the kernel, changed.

    :param function: ``kernel.exit:do_exit``, a module below taskscope.model and a function in it
    :param old: the text that is replaced; it must stand in the function exactly once
    """

    name: str
    function: str
    old: str
    new: str

    def target(self) -> FunctionType:
        """Return the function."""
        module, _, name = self.function.partition(":")
        found = getattr(importlib.import_module(_MODEL + module), name, None)
        if not isinstance(found, FunctionType):
            raise UsageError(f"mutant {self.name}: the kernel has no function {self.function}")
        return found

    def code(self) -> CodeType:
        """Return the changed function's code.

        :raises UsageError: the line is not there, or not once
        """
        function = self.target()
        source = textwrap.dedent(inspect.getsource(function))
        count = source.count(self.old)
        if count != 1:
            raise UsageError(f"mutant {self.name}: {self.old!r} stands {count} times in {self.function}")
        changed = source.replace(self.old, self.new)
        flags = compile("from __future__ import annotations", "", "exec").co_flags
        module = compile(changed, inspect.getsourcefile(function) or "<mutant>", "exec", flags=flags, dont_inherit=True)
        code = next(c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__)
        return code.replace(co_firstlineno=function.__code__.co_firstlineno)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Run the kernel with the change."""
        function, code = self.target(), self.code()
        before = function.__code__
        function.__code__ = code
        try:
            yield
        finally:
            function.__code__ = before
