"""From a number to its names and back, for every kind of value that `taskscope.abi` knows.

`decode` takes words as a person types them (``0x01200011``, ``CLONE_VM|CLONE_FS``, ``vm|fs|sigchld``) and gives one
`Decoded` for each value.  Numbers may be decimal or begin with 0x, 0o or 0b; names may be in any case and without their
prefix; what has no name is shown as such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from taskscope.abi import decode_flags as flags
from taskscope.abi import decode_values as values
from taskscope.abi.arch import arch_of, family_of
from taskscope.abi.decoded import Decoded, Part, lines
from taskscope.abi.era import DEFAULT, Version, kernel_of
from taskscope.abi.words import cut, near
from taskscope.errors import UsageError

__all__ = ["KINDS", "Decoded", "Kind", "Part", "decode", "lines"]


Reader = Callable[[list[str], str | None, Version], list[Decoded]]


class Kind(NamedTuple):
    """A kind of value."""

    name: str
    summary: str
    takes: str          # what the words are, for errors
    read: Reader


def _word(read: Callable[[str], Decoded]) -> Reader:
    return lambda words, _arch, _kernel: [read(word) for word in words]


def _word_of_kernel(read: Callable[[str, Version], Decoded]) -> Reader:
    return lambda words, _arch, kernel: [read(word, kernel) for word in words]


_VALUE: Final = "a VALUE"
_ALL: Final = (
    Kind("clone", "flags of clone(), clone3(), unshare(); clone_flags of task_newtask", _VALUE, _word(flags.clone)),
    Kind("pf", "task_struct.flags: PF_*", _VALUE, _word_of_kernel(flags.process_flags)),
    Kind("tif", "thread_info.flags: TIF_*, per architecture", "[ARCH] VALUE", flags.thread_flags),
    Kind("syscall_work", "thread_info.syscall_work (x86, s390)", _VALUE, _word_of_kernel(flags.syscall_work)),
    Kind("state", "task_struct.__state and exit_state: TASK_*, EXIT_*", _VALUE, _word_of_kernel(flags.state)),
    Kind("prev_state", "prev_state of sched_switch, which is not the raw state", _VALUE,
         _word_of_kernel(flags.prev_state)),
    Kind("preempt", "preempt_count", "[ARCH] VALUE", flags.preempt),
    Kind("traceflags", "flags column of ftrace: text, or common_flags and preempt_count", "TEXT or FLAGS [COUNT]",
         lambda words, _arch, kernel: flags.trace_flags(words, kernel)),
    Kind("sigset", "signal mask: SigPnd, SigBlk, SigIgn, SigCgt of /proc/PID/status", _VALUE, _word(flags.sigset)),
    Kind("wait", "wait status; argument of do_exit(), task_struct.exit_code", _VALUE, _word(values.wait)),
    Kind("exit", "status given to exit(), or a shell's $?", _VALUE, _word(values.exit_status)),
    Kind("signal", "signal number", _VALUE, _word(values.signal)),
    Kind("sicode", "si_code: why a signal was sent", "[SIGNAL] VALUE",
         lambda words, _arch, _kernel: values.si_code(words)),
    Kind("syscall", "system call number, per architecture", "[ARCH] VALUE",
         lambda words, arch, _kernel: values.syscall(words, arch)),
    Kind("errno", "error number, or a return value that carries one", _VALUE, _word(values.errno)),
    Kind("prio", "priority in sched events: nice and real-time priorities", _VALUE, _word(values.prio)),
    Kind("policy", "scheduling policy: SCHED_*", _VALUE, _word(values.policy)),
)

#: kind -> what it is and how it is read, in the order of help
KINDS: Final = {kind.name: kind for kind in _ALL}


def kind_of(name: str) -> Kind:
    """Return the kind of that name; case, ``-`` and ``_`` do not matter.

    :raises UsageError: there is none; the message lists near ones
    """
    key = name.lower().replace("-", "").replace("_", "")
    for kind in _ALL:
        if kind.name.replace("_", "") == key:
            return kind
    raise UsageError(f"{cut(name)!r} is no kind of value{near(name, KINDS)}; known are {', '.join(KINDS)}")


def decode(kind: str, words: Sequence[str], *, arch: str | None = None,
           kernel: str | Version | None = None) -> list[Decoded]:
    """Say what values mean.

    >>> decode("clone", ["0x01200011"])[0].text
    'CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD'
    >>> decode("wait", ["0x0009"])[0].text
    'SIGKILL'
    >>> decode("syscall", ["arm", "120"])[0].text
    'clone'

    :param kind: one of `KINDS`
    :param words: the values; a kind that depends on an architecture (tif, preempt, syscall) or a signal (sicode)
        takes it as a first word
    :param arch: architecture, if it is not among the words; without one, tif and syscall answer for all they know
    :param kernel: a version or a release string; decides which table of internal flags is used (default Linux 6.1)
    :raises UsageError: unknown kind, name, architecture or kernel; near matches are in the message
    """
    known = kind_of(kind)
    if not words:
        raise UsageError(f"{known.name}: nothing to decode; give {known.takes}")
    if arch is not None and family_of(arch) is None and arch_of(arch) is None:
        raise UsageError(f"{cut(arch)!r} is no known architecture; known are arm, arm64, x86_64, i386 and s390x")
    version = DEFAULT if kernel is None else kernel_of(kernel) if isinstance(kernel, str) else kernel
    return known.read(list(words), arch, version)
