"""Probes of programs and Python packages: compilers, the tools whose answers ours are compared with, libraries."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

from taskscope.host.answer import Answer, Host

GROUP = "tools"


def _program(name: str, commands: tuple[str, ...], debian: str, what: str) -> Callable[[Host], Answer]:
    def probe(host: Host) -> Answer:
        for command in commands:
            where = host.program(command)
            if where:
                return Answer(name, GROUP, "yes", where)
        return Answer(name, GROUP, "no", what, host.install(debian, commands[0]))

    probe.__name__ = name
    return probe


def package(host: Host, name: str, distribution: str, what: str, group: str = GROUP) -> Answer:  # noqa: ARG001
    """Tell whether a Python package is installed beside taskscope, without importing it."""
    try:
        version = metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return Answer(name, group, "no", what, f"pip install {_extra(distribution) or distribution}")
    return Answer(name, group, "yes", f"{version}: {what}")


def _extra(distribution: str) -> str | None:
    """Return the extra of taskscope that brings a package, quoted for a shell; None if there is none."""
    try:
        needs = metadata.requires("taskscope") or []
    except metadata.PackageNotFoundError:
        return None
    for need in needs:
        what, _, condition = need.partition(";")
        plain = what.strip().partition(" ")[0].rstrip("<>=!~.0123456789")
        extra = condition.partition("extra ==")[2].strip().strip("'\"")
        if plain == distribution and extra:
            return f"'taskscope[{extra}]'"
    return None


def _package(name: str, what: str) -> Callable[[Host], Answer]:
    def probe(host: Host) -> Answer:
        return package(host, name, name, what)

    probe.__name__ = name
    return probe


PROBES = (
    _program("gcc", ("gcc", "cc"), "gcc", "the C compiler"),
    _program("gcc-arm", ("arm-linux-gnueabihf-gcc", "arm-linux-gnueabi-gcc"), "gcc-arm-linux-gnueabihf",
             "a C compiler for ARM"),
    _program("trace-cmd", ("trace-cmd",), "trace-cmd", "reads the same recordings: a second opinion"),
    _program("procps", ("ps",), "procps", "ps and friends: a second opinion on processes"),
    _program("crash", ("crash",), "crash", "reads crash dumps: a second opinion"),
    _package("greenlet", "stacks that can be switched"),
    _package("pyelftools", "reads ELF programs"),
    _package("unicorn", "runs machine code"),
    _package("textual", "user interfaces in a terminal"),
    _package("perfetto", "writes traces for ui.perfetto.dev"),
)
