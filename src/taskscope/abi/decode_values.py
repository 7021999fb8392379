"""Reading statuses, signals, system calls, errors and priorities; see `taskscope.abi.decode`."""

from __future__ import annotations

from taskscope.abi import errno as errors
from taskscope.abi import sched, siginfo
from taskscope.abi import wait as wait_status
from taskscope.abi.arch import ARCHES, Arch, arch_of
from taskscope.abi.decoded import Decoded, Part
from taskscope.abi.renames import fold_syscall
from taskscope.abi.signal import (
    ACTION_MEANINGS,
    ALIASES,
    MEANINGS,
    NSIG,
    SIGRTMIN,
    Signal,
    default_action,
    sig_kernel_only,
    signal_name,
    signal_number,
)
from taskscope.abi.words import cut, lookup, near, number_of, split_flags, unknown
from taskscope.errors import UsageError

_SIGNAL_NAMES = (*Signal.__members__, *ALIASES, "SIGRTMIN", "SIGRTMAX")


def _signal(kind: str, word: str) -> int:
    number = number_of(word)
    if number is None:
        number = signal_number(word)
    if number is None:
        raise unknown(kind, word, _SIGNAL_NAMES, ("SIG",))
    if not 1 <= number <= NSIG:
        raise UsageError(f"{kind}: there is no signal {number}; they go from 1 to {NSIG}")
    return number


def signal(word: str) -> Decoded:
    """Read a signal number or name."""
    number = _signal("signal", word)
    action = default_action(number)
    if number >= SIGRTMIN:
        why = "real-time signal"
    elif number > 31:
        why = "real-time signal that glibc keeps for its threads"
    else:
        why = MEANINGS[Signal(number)]
    only = "" if not sig_kernel_only(number) or "cannot" in why else "; cannot be caught, blocked or ignored"
    return Decoded("signal", word, number, signal_name(number),
                   f"{action.value} ({ACTION_MEANINGS[action]}): {why}{only}")


def _wait_value(word: str) -> int:
    number = number_of(word)
    if number is not None:
        return number
    head, sign, tail = word.lower().replace("=", ":").partition(":")
    if head in ("exit", "exited") and sign:
        code = number_of(tail)
        if code is None or not 0 <= code <= 255:
            raise UsageError(f"wait: {cut(word)}: an exit status goes from 0 to 255")
        return wait_status.exited(code)
    if head == "stopped" and sign:
        return wait_status.stopped(_signal("wait", tail))
    if word.lower() == "continued":
        return wait_status.CONTINUED
    items = [item for item in split_flags(word) if item.lower() not in ("core", "wcoreflag")]
    if len(items) != 1:
        raise UsageError(f"wait: {cut(word)!r} is no status; write it like exit:3, SIGKILL, SIGSEGV|core, "
                         "stopped:SIGTSTP or continued")
    if signal_number(items[0]) is None and number_of(items[0]) is None:
        raise unknown("wait", word, [*_SIGNAL_NAMES, "continued", "stopped:SIGSTOP", "exit:0"], ("SIG",))
    return wait_status.killed(_signal("wait", items[0]), core=len(items) != len(split_flags(word)))


def wait(word: str) -> Decoded:
    """Read a wait status: a number, ``exit:3``, ``SIGKILL``, ``SIGSEGV|core``, ``stopped:SIGTSTP``, ``continued``."""
    value = _wait_value(word)
    try:
        status = wait_status.split(value)
    except ValueError as error:
        return Decoded("wait", word, value, f"{value:#x}", f"no wait status: {str(error).partition(': ')[2] or error}")
    parts = []
    if status.how == "exited":
        assert status.code is not None
        text = f"exit:{status.code}"
        parts = [Part(None, "WIFEXITED", "true", ""), Part(status.code << 8, "WEXITSTATUS", str(status.code))]
    elif status.how == "killed":
        assert status.signal is not None
        text = signal_name(status.signal) + ("|core" if status.core else "")
        parts = [Part(None, "WIFSIGNALED", "true", ""),
                 Part(status.signal, "WTERMSIG", f"{status.signal} {signal_name(status.signal)}"),
                 Part(wait_status.CORE if status.core else 0, "WCOREDUMP", "true" if status.core else "false")]
    elif status.how == "stopped":
        assert status.signal is not None
        plain = status.signal <= NSIG and not status.event
        text = f"stopped:{signal_name(status.signal)}" if plain else f"{value:#x}"
        parts = [Part(None, "WIFSTOPPED", "true", ""),
                 Part(status.signal << 8, "WSTOPSIG", f"{status.signal} {signal_name(status.signal & 0x7F)}")]
        if status.event:
            event = wait_status.PTRACE_EVENTS.get(status.event, "unknown")
            parts.append(Part(status.event << 16, "ptrace event", event))
    else:
        text = "continued"
        parts = [Part(None, "WIFCONTINUED", "true", "")]
    return Decoded("wait", word, value, text, str(status), parts=tuple(parts))


def exit_status(word: str) -> Decoded:
    """Read an exit status; a signal's name gives what a shell shows for a process that it killed."""
    number = number_of(word)
    if number is None:
        killer = signal_number(word)
        if killer is None:
            raise unknown("exit", word, _SIGNAL_NAMES, ("SIG",))
        number = 128 + killer
    code = number & 0xFF
    notes = () if code == number else (f"only the low byte counts: exit({number}) is exit({code})",)
    success = "" if code else ": success"
    parts = [Part(wait_status.exited(code), "exit", f"wait status after exit({code}){success}")]
    if 1 <= code - 128 <= NSIG:
        killer = code - 128
        name = signal_name(killer)
        parts.append(Part(killer, name, f"wait status if a shell shows {code} in $? for a process that {name} killed"))
    elif code in (126, 127):
        why = "the command could not be executed" if code == 126 else "the command was not found"
        parts.append(Part(wait_status.exited(code), "shell", f"a shell's way to say that {why}"))
    return Decoded("exit", word, code, str(code), parts=tuple(parts), notes=notes)


def si_code(words: list[str]) -> list[Decoded]:
    """Read si_codes; a signal's name or number as a first word says whose code it is."""
    sig = None
    number = number_of(words[0])
    # "11 1" is a signal and its code, as an event prints them; "1 2 3" are codes.
    if len(words) > 1 and (signal_number(words[0]) or (len(words) == 2 and number is not None and 1 <= number <= NSIG)):
        sig, words = _signal("sicode", words[0]), words[1:]
    return [record for word in words for record in _si_code(word, sig)]


def _si_code(word: str, sig: int | None) -> list[Decoded]:
    code = number_of(word)
    if code is None:
        found = siginfo.si_code_number(word)
        if found is None:
            names = [name for codes in siginfo.SPECIFIC.values() for name, _ in codes.values()]
            raise unknown("sicode", word, [*siginfo.SiCode.__members__, *names], ("SI_",))
        owner, code = found
        if sig is not None and owner not in (None, sig):
            raise UsageError(f"sicode: {word.upper()} belongs to {signal_name(owner or 0)}, not to {signal_name(sig)}")
        sig = sig or owner
    if sig is None and siginfo.si_code_name(None, code) is None:
        owners = [owner for owner, codes in siginfo.SPECIFIC.items() if code in codes]
    else:
        owners = [sig or 0]
    return [_si_code_record(word, owner or None, code) for owner in owners or [0]]


def _si_code_record(word: str, sig: int | None, code: int) -> Decoded:
    name, meaning = siginfo.si_code_name(sig, code), siginfo.si_code_meaning(sig, code)
    event = code >> 8
    if name is None and sig in (None, Signal.SIGTRAP) and code & 0xFF == Signal.SIGTRAP and event:
        sig, name = Signal.SIGTRAP, wait_status.PTRACE_EVENTS.get(event)
        meaning = "ptrace stop: the event times 256, plus SIGTRAP" if name else None
    if name is None:
        whose = f"{signal_name(sig)} has" if sig else "there is"
        meaning = f"{whose} no such code" + ("; codes up to 0 come from processes" if code < 0 else "")
    return Decoded("sicode", word, code, name or str(code), meaning or "", of=signal_name(sig) if sig else None)


def syscall(words: list[str], arch: str | None) -> list[Decoded]:
    """Read system call numbers and names, of one architecture or of each that is known."""
    given = arch_of(words[0])
    if given is None and len(words) > 1 and number_of(words[0]) is None and _plain_call(words[0]) is None:
        raise UsageError(f"syscall: {cut(words[0])!r} is no architecture and no system call"
                         f"{near(words[0], [*ARCHES, *_all_calls()])}")
    if given:
        words = words[1:]
    elif arch:
        given = arch_of(arch)
        if given is None:
            raise UsageError(f"syscall: {cut(arch)!r} has no table; known are {', '.join(ARCHES)}")
    if not words:
        raise UsageError(f"syscall: nothing to decode after {given}; give a number or a name")
    records = []
    for word in words:
        found = [record for one in ((given,) if given else ARCHES) if (record := _syscall(word, one))]
        if not found:
            raise _no_call(word, given)
        records += found
    return records


def _all_calls() -> set[str]:
    from taskscope.abi.syscalls import table

    return {name for one in ARCHES for name in table(one).by_name}


def _plain_call(word: str) -> str | None:
    """Return the call's plain name: of ``sys_clone``, ``__NR_clone``, ``__x64_sys_clone``, in any case."""
    names = _all_calls()
    folded = fold_syscall(word) or ""
    for candidate in (word, word.lower(), folded.partition("sys_")[2]):
        key = candidate
        for prefix in ("__nr_", "__arm_nr_", "sys_"):
            if key.lower().startswith(prefix) and key not in names:
                key = key[len(prefix):]
        if key in names:
            return key
    return None


def _syscall(word: str, arch: Arch) -> Decoded | None:
    from taskscope.abi.syscalls import call_of_name, call_of_number, table

    number = number_of(word)
    if number is not None:
        call = call_of_number(arch, number)
    else:
        name = _plain_call(word)
        call = call_of_name(arch, name) if name else None
        if call is None:
            # sys_newuname is the function behind uname.
            folded = fold_syscall(word)
            call = next((c for c in table(arch).by_name.values() if folded and c.function == folded), None)
    if call is None:
        return None
    meaning = call.function or "reserved: not implemented in Linux 6.18"
    return Decoded("syscall", word, call.number, call.name, meaning + (f" ({call.abi})" if call.abi else ""), of=arch)


def _no_call(word: str, arch: Arch | None) -> UsageError:
    from taskscope.abi.syscalls import table

    if number_of(word) is not None:
        numbers = table(arch).by_number if arch else {}
        top = f"; the highest known is {max(n for n in numbers if n < 0xF0000)}" if arch else ""
        return UsageError(f"syscall: {arch or 'no architecture'} has {'no ' if arch else 'a '}call {word}{top}")
    names = table(arch).by_name if arch else _all_calls()
    return UsageError(f"syscall: {cut(word)!r} is no system call{f' of {arch}' if arch else ''}{near(word, names)}")


def errno(word: str) -> Decoded:
    """Read an error number, its name, or a return value that carries it (``-11``, ``0xfffffff5``)."""
    value = number_of(word)
    number: int | None
    if value is None:
        number = errors.errno_number(word)
        if number is None:
            raise unknown("errno", word, [*(name for name, _ in errors.ERRNO.values()), *errors.ALIASES], ("E",))
    else:
        number = value if errors.errno_name(value) else errors.errno_of_return(value)
    if number is None or errors.errno_name(number) is None:
        shown = value if number is None else number
        assert shown is not None
        return Decoded("errno", word, shown, str(shown), "no error number")
    name, message = errors.ERRNO[number]
    return Decoded("errno", word, number, name,
                   message + ("; inside the kernel only" if number >= errors.FIRST_INTERNAL else ""))


def _prio_value(word: str) -> int:
    number = number_of(word)
    if number is not None:
        return number
    head, sign, tail = word.lower().replace("=", ":").partition(":")
    level = number_of(tail) if sign else None
    if head == "nice" and level is not None and sched.MIN_NICE <= level <= sched.MAX_NICE:
        return sched.nice_to_prio(level)
    if head in ("rt", "rtprio") and level is not None and 1 <= level <= 99:
        return sched.rt_to_prio(level)
    if head == "deadline" and not sign:
        return -1
    raise UsageError(f"prio: {cut(word)!r} is no priority; give -1 to 139, nice:N (-20 to 19), rt:N (1 to 99) or "
                     "deadline")


def prio(word: str) -> Decoded:
    """Read a priority of the sched events: a number, ``nice:-5``, ``rt:50``, ``deadline``."""
    value = _prio_value(word)
    nice, rt = sched.prio_to_nice(value), sched.prio_to_rt(value)
    if nice is not None:
        text = f"nice:{nice}"
        meaning = f"fair class; ps -l shows PRI {value - 40} NI {nice}, top shows PR {value - 100}"
    elif rt == 0:
        text, meaning = "99", "real-time class, below every priority that a program can set"
    elif rt is not None:
        top = "rt" if rt == 99 else str(-1 - rt)
        text, meaning = f"rt:{rt}", f"SCHED_FIFO or SCHED_RR, rt_priority {rt}; top shows PR {top}"
    elif value == -1:
        text, meaning = "deadline", "SCHED_DEADLINE, or the task that stops a CPU"
    else:
        text, meaning = str(value), "no priority; they go from -1 to 139"
    return Decoded("prio", word, value, text, meaning)


def policy(word: str) -> Decoded:
    """Read a scheduling policy; SCHED_RESET_ON_FORK may be ORed in."""
    names = {one.name: one.value for one in sched.Policy} | {
        "SCHED_OTHER": 0, "SCHED_RESET_ON_FORK": sched.SCHED_RESET_ON_FORK}
    value = 0
    for item in split_flags(word) or [word]:
        number = number_of(item)
        if number is None:
            number = lookup(item, names, ("SCHED_",))
        if number is None:
            raise unknown("policy", item, names, ("SCHED_",))
        if number < 0:
            raise UsageError(f"policy: {cut(item)} is negative, and policies are not")
        value |= number
    base, reset = value & ~sched.SCHED_RESET_ON_FORK, value & sched.SCHED_RESET_ON_FORK
    known = base in sched.Policy._value2member_map_
    text = sched.Policy(base).name if known else str(base)
    meaning = sched.POLICY_MEANINGS[sched.Policy(base)] if known else "no policy of Linux"
    return Decoded("policy", word, value, text + ("|SCHED_RESET_ON_FORK" if reset else ""),
                   meaning + ("; children start as SCHED_NORMAL" if reset else ""))
