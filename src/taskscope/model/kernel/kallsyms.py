"""Names and addresses of the kernel's functions: kernel/kallsyms.c, v4.19.

The table is made of the model's own functions, in the order in which vmlinux is linked, when it is first asked for.  It
is data for listing and symbolising, never a way to call.  A function takes eight bytes for each line of its source, so
that an address says where in it; its name is that of the kernel at hand (``kernel_clone`` for ``_do_fork`` since v5.10,
``__x64_sys_kill`` for ``sys_kill`` on x86-64).

A helper of the model alone has a name that begins with one underscore; it is no symbol, as an inlined function is none.
"""

from __future__ import annotations

import importlib
import pkgutil
from bisect import bisect_right
from types import CodeType, FrameType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from taskscope.abi.renames import RENAMES

if TYPE_CHECKING:
    from taskscope.model.machine import Machine

#: rooms of the model that are the kernel, in link order; include/ is inlined, user/ is not the kernel
_ROOMS: Final = ("init", "arch", "kernel", "mm", "fs", "security", "block", "drivers", "lib")
_PACKAGE: Final = "taskscope.model"
#: what the function tracer itself is made of
_NOTRACE: Final = tuple(f"{_PACKAGE}.kernel.{name}" for name in ("trace", "kallsyms", "stacktrace", "kprobes"))
#: stands among it, and is traced
_TEST: Final = ".preemptirq_delay_test"
#: where the probes of trace events are
_EVENTS: Final = f"{_PACKAGE}.include.trace.events."
#: the kernel's own names that begin with one underscore
_ONE_UNDERSCORE: Final = frozenset({"_do_fork", "_copy_from_user", "_copy_to_user"})
#: what the compiler of a flavour's build has made of a name (the Raspberry Pi's 4.19, as recordings of it show)
_BUILT: Final = {"4.19-arm": {"copy_process": "copy_process.part.5"}}
_LINE: Final = 8
_GENERATOR: Final = 0x20 | 0x80 | 0x200


class Symbol:
    """A function of the kernel: one line of /proc/kallsyms."""

    __slots__ = ("address", "code", "first_line", "function", "hidden", "name", "notrace", "size")

    def __init__(
        self, name: str, address: int, size: int, function: FunctionType | None, notrace: bool, hidden: bool = False
    ) -> None:
        self.name = name
        self.address = address
        self.size = size
        self.function = function
        self.code = None if function is None else original_code(function)
        self.first_line = 0 if self.code is None else self.code.co_firstlineno
        self.hidden = hidden  # tracing itself, which stands in no stack
        self.notrace = notrace  # tracing itself, and what has no code to patch

    def __repr__(self) -> str:
        return f"<symbol {self.address:x} {self.name}>"


class Kallsyms:
    """The symbol table of one kernel."""

    __slots__ = ("_starts", "arm", "by_code", "by_name", "symbols", "text_base", "user")

    def __init__(self, cur: Machine) -> None:
        self.symbols: list[Symbol] = []
        self.by_name: dict[str, Symbol] = {}
        #: by id(): comparing code objects would compare all that is in them
        self.by_code: dict[int, Symbol] = {}
        #: other code met on a stack, and whether user mode begins with it; kept, so that its id() stays its own
        self.user: dict[int, tuple[CodeType, bool]] = {}
        self.arm = cur.flavour.arch == "arm"
        self.text_base = cur.flavour.text_base
        self._link(cur)
        self._starts = [s.address for s in self.symbols]

    def _link(self, cur: Machine) -> None:
        x86 = cur.flavour.arch == "x86_64"
        align = 16 if x86 else 4
        address = self.text_base
        for name in _modules(x86):
            module = importlib.import_module(name)
            hidden = name.startswith(_NOTRACE) and not name.endswith(_TEST)
            probes = name.startswith(_EVENTS)
            for attribute, function in list(vars(module).items()):
                if (
                    not isinstance(function, FunctionType)
                    or function.__module__ != name
                    or function.__name__ != attribute
                    or not _is_symbol(attribute)
                    or (probes and not attribute.startswith("trace_event_raw_event_"))
                ):
                    continue
                code = original_code(function)
                if code.co_flags & _GENERATOR:
                    continue  # stands for a macro that walks a list
                lines = max((line for _, _, line in code.co_lines() if line), default=code.co_firstlineno)
                size = max(32, (lines - code.co_firstlineno + 1) * _LINE)
                self._add(Symbol(symbol_name(attribute, cur), address, size, function, hidden or probes, hidden))
                address = -(-(address + size) // align) * align
        self._add(
            Symbol("ret_fast_syscall" if not x86 else "entry_SYSCALL_64_after_hwframe", address, 0x28, None, True)
        )

    def _add(self, symbol: Symbol) -> None:
        self.symbols.append(symbol)
        self.by_name.setdefault(symbol.name, symbol)
        if symbol.code is not None:
            self.by_code[id(symbol.code)] = symbol

    def symbol_of(self, code: CodeType) -> Symbol | None:
        """Return the function that a code object is the own code of; None for one that is none of the kernel's."""
        return self.by_code.get(id(code))

    def lookup(self, address: int) -> Symbol | None:
        """Return the function that an address lies in."""
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        symbol = self.symbols[at]
        return symbol if address < symbol.address + symbol.size else None

    def text(self) -> bytes:
        """Return the table as /proc/kallsyms gives it to root."""
        return b"".join(
            b"%0*x T %s\n" % (16 if self.text_base >> 32 else 8, s.address, s.name.encode()) for s in self.symbols
        )


def _modules(x86: bool) -> list[str]:
    """Return the names of the kernel's modules in link order."""
    other = f"{_PACKAGE}.arch.arm" if x86 else f"{_PACKAGE}.arch.x86"
    found: list[str] = []
    for room in _ROOMS:
        package = importlib.import_module(f"{_PACKAGE}.{room}")
        names = sorted(info.name for info in pkgutil.walk_packages(package.__path__, f"{_PACKAGE}.{room}."))
        found += [name for name in names if not name.startswith(other)]
    if x86:
        # Unwinders of later kernels show the event's probe as the innermost function; 4.19 on ARM skips it.
        package = importlib.import_module(_EVENTS.rstrip("."))
        found += sorted(f"{_EVENTS}{info.name}" for info in pkgutil.iter_modules(package.__path__))
    return found


def _is_symbol(name: str) -> bool:
    return not name.startswith("_") or name.startswith("__") or name in _ONE_UNDERSCORE


def symbol_name(name: str, cur: Machine) -> str:
    """Return what the kernel at hand calls a function that has this name in 4.19."""
    version = cur.flavour.version
    x86 = cur.flavour.arch == "x86_64"
    for rename in RENAMES:
        if (
            rename.kind == "function"
            and rename.old == name
            and _since(rename.since) <= version
            and (x86 or "x86" not in rename.note)
        ):
            name = rename.new
    if x86 and name.startswith("sys_") and version >= (4, 17):
        name = f"__x64_{name}"
    return _BUILT.get(cur.flavour.name, {}).get(name, name)


def _since(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.removeprefix("v").split("."))


def original_code(function: FunctionType) -> CodeType:
    """Return a function's own code, also while the function tracer has put another in its place."""
    record = function.__dict__.get("__ftrace__")
    code: CodeType = function.__code__ if record is None else record.code
    return code


def kallsyms(cur: Machine) -> Kallsyms:
    """Return the table of the machine; made at the first call."""
    if cur.kallsyms is None:
        cur.kallsyms = Kallsyms(cur)
    return cur.kallsyms


def kallsyms_lookup_name(name: str, cur: Machine) -> int:
    """Return the address of a function by its name, 0 if there is none."""
    symbol = kallsyms(cur).by_name.get(name)
    return symbol.address if symbol is not None else 0


def kallsyms_address(cur: Machine, function: Any) -> int:
    """Return the address of a function by itself; 0 for one that is none of the kernel's."""
    function = getattr(function, "__func__", function)
    if not isinstance(function, FunctionType):
        return 0
    symbol = kallsyms(cur).symbol_of(original_code(function))
    return symbol.address if symbol is not None else 0


def sprint_symbol(cur: Machine, address: int, offset: bool = True) -> str:
    """Return an address as ``name+0xOFFSET/0xSIZE``, or its number where no function is."""
    symbol = kallsyms(cur).lookup(address)
    if symbol is None:
        return f"0x{address:x}"
    return f"{symbol.name}+0x{address - symbol.address:x}/0x{symbol.size:x}" if offset else symbol.name


def frame_address(cur: Machine, frame: FrameType) -> int | None:
    """Return where a frame stands, as its return address; None for one that is no function of the kernel's."""
    symbol = kallsyms(cur).symbol_of(frame.f_code)
    if symbol is None:
        return None
    at = (frame.f_lineno - symbol.first_line) * _LINE + _LINE // 2
    return symbol.address + min(max(at, 0), symbol.size - 1)
