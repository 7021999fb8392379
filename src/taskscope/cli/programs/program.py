"""A Python program in the making: `Program`, `call`.

What a person typed goes in as literals.  Nothing is read: a program can be made before there is a recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taskscope.errors import UsageError

if TYPE_CHECKING:
    from taskscope.cli.options import Common

Given = dict[str, Any]


class Code(str):
    """Text that stands in a program as it is; every other argument becomes a literal."""

    __slots__ = ()


class Program:
    """A program in the making: what it imports, and its lines."""

    def __init__(self, common: Common) -> None:
        self.common = common
        self._modules: set[str] = set()
        self._names: dict[str, set[str]] = {}
        self._lines: list[str] = []

    def use(self, module: str, *names: str) -> None:
        """Import names of a module, or the module itself."""
        if names:
            self._names.setdefault(module, set()).update(names)
        else:
            self._modules.add(module)

    def add(self, *lines: str) -> None:
        """Add lines."""
        self._lines += lines

    def before(self, *lines: str) -> None:
        """Put lines before those that there are."""
        self._lines[:0] = lines

    def lines(self) -> Iterator[str]:
        """Yield the lines of the whole program."""
        froms = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(self._names.items())]
        standard = [f"import {module}" for module in sorted(self._modules)]
        standard += [line for line in froms if not line.startswith("from taskscope")]
        if standard:
            yield from (*standard, "")
        if any("taskscope." in line for line in self._lines):
            yield "import taskscope"
        yield from (*(line for line in froms if line.startswith("from taskscope")), "")
        yield from self._lines

    # ---- what many programs do --------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the recording as ``t``."""
        common = self.common
        if common.input == "-":
            raise UsageError("--py: a program cannot read this stdin again; name a file: -i FILE")
        self.add(f"t = {call('taskscope.open', common.input or 'trace.dat', buffer=common.buffer)}")

    def window(self) -> Given:
        """Return ``--from`` and ``--to`` as arguments."""
        ends = (("after", self.common.after, "first"), ("before", self.common.before, "last"))
        return {name: Code(f"t.time({text!r}, {edge!r})") for name, text, edge in ends if text is not None}

    def choose(self, **more: Any) -> Code:
        """Return the call that chooses lives by ``-p``, ``--from`` and ``--to``."""
        return call("t.lives.choose", pids=self.common.pids, **more, **self.window())

    def moment(self) -> tuple[Code, ...]:
        """Put ``--at`` into ``at``, as the last moment that is shown so, and return it as argument; none without."""
        at = self.common.at
        if at is None:
            return ()
        self.add(f"at = min(max(t.time({at!r}, 'last'), t.start), t.end)")
        return (Code("at"),)

    def snapshot(self, **more: Any) -> None:
        """Read the tasks of one moment as ``s``, of whichever source was named.

        :param more: what `taskscope.snapshot` takes besides the source
        """
        from taskscope.cli.source import source_of

        source = source_of(self.common)
        if source is None:
            self.open()
            at = self.moment()
            self.add(f"s = {call('t.tasks', *at)}")
        else:
            named = {key: getattr(source, key) for key in ("guest", "live", "btf", "symbols", "vmlinux", "pause")}
            self.add(f"s = {call('taskscope.snapshot', *([source.core] if source.core else []), **named, **more)}")
        if self.common.pids:
            self.use("dataclasses", "replace")
            self.add(f"pids = {literal(self.common.pids)}",
                     "s = replace(s, tasks=tuple(x for x in s.tasks if x.pid in pids or x.tgid in pids))")

    def paint(self) -> Given:
        """Return the colours that ``--color always`` asks for as arguments."""
        if self.common.color != "always":
            return {}
        self.use("taskscope.views.text", "Paint")
        return {"paint": Code("Paint(True)")}

    def table(self, module: str, function: str, *arguments: Any, indent: str = "", **more: Any) -> None:
        """Print the lines of a table."""
        self.use(module, function)
        self.add(f"{indent}for line in {call(function, *arguments, **more, **self.paint())}:",
                 f"{indent}    print(line)")

    def data(self, module: str, function: str, *arguments: Any, **more: Any) -> None:
        """Write blocks of bytes."""
        self.use("sys")
        self.use(module, function)
        self.add(f"sys.stdout.buffer.writelines({call(function, *arguments, **more)})")


def call(function: str, *arguments: Any, **named: Any) -> Code:
    """Write a call; named arguments that say nothing (None, False, empty) are left out.

    >>> call("f", "x", Code("y"), pids=(1,), wide=False)
    "f('x', y, pids=[1])"
    """
    said = [f"{key}={literal(value)}" for key, value in named.items() if value not in (None, False, ())]
    return Code(f"{function}({', '.join([*map(literal, arguments), *said])})")


def literal(value: Any) -> str:
    """Write a value as a literal; of a tuple a list."""
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(literal, value))}]"
    return repr(value)
