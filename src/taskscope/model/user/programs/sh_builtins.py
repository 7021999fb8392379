"""What the shell does itself.

Cd, kill, wait, echo, test and the rest of bash's builtins that scripts of the notes need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from stat import S_ISDIR, S_ISREG
from types import MappingProxyType
from typing import Final

from taskscope.abi.signal import signal_name, signal_number
from taskscope.model.user.programs.sh import Exit, Shell, _LoopControl
from taskscope.model.user.programs.sh_child import execute


def true(shell: Shell, words: list[str]) -> int:
    """``true``, ``:``."""
    del shell, words
    return 0


def false(shell: Shell, words: list[str]) -> int:
    """``false``."""
    del shell, words
    return 1


def echo(shell: Shell, words: list[str]) -> int:
    """``echo [-n] [-e] WORD…``."""
    args = words[1:]
    newline = True
    while args and args[0] in ("-n", "-e"):
        newline = newline and args[0] != "-n"
        if args[0] == "-e":
            args = [args[0], *(a.replace("\\n", "\n").replace("\\t", "\t") for a in args[1:])]
        args = args[1:]
    shell.sys.write_all(1, (" ".join(args) + ("\n" if newline else "")).encode())
    return 0


def printf(shell: Shell, words: list[str]) -> int:
    """``printf FORMAT ARG…`` with %s, %d, %x."""
    if len(words) < 2:
        shell.complain("printf: usage: printf format [arguments]")
        return 2
    fmt = words[1].replace("\\n", "\n").replace("\\t", "\t").replace("%%", "\0")
    args = words[2:]
    out, *pieces = fmt.split("%")
    while True:
        for piece in pieces:
            value = args.pop(0) if args else ""
            k = next((i for i, c in enumerate(piece) if c.isalpha()), 0)
            if piece[k : k + 1] in ("d", "i", "x", "X", "o", "u"):
                out += f"%{piece[: k + 1]}" % int(value or "0", 0)
            else:
                out += f"%{piece[: k + 1]}" % value
            out += piece[k + 1 :]
        shell.sys.write_all(1, out.replace("\0", "%").encode())
        if not args or not pieces:
            return 0
        out = fmt.partition("%")[0]


def cd(shell: Shell, words: list[str]) -> int:
    """``cd [DIR]``."""
    target = words[1] if len(words) > 1 else shell.value("HOME") or "/"
    try:
        shell.sys.chdir(target)
    except OSError as error:
        shell.complain(f"cd: {target}: {error.strerror}")
        return 1
    return 0


def pwd(shell: Shell, words: list[str]) -> int:
    """``pwd``."""
    del words
    shell.sys.write_all(1, f"{shell.sys.getcwd()}\n".encode())
    return 0


def exit_(shell: Shell, words: list[str]) -> int:
    """``exit [STATUS]``."""
    raise Exit(int(words[1]) & 255 if len(words) > 1 and words[1].lstrip("-").isdigit() else shell.state.status)


def break_(shell: Shell, words: list[str]) -> int:
    """``break``, ``continue``."""
    del shell
    raise _LoopControl(words[0] == "continue")


def export(shell: Shell, words: list[str]) -> int:
    """``export NAME[=VALUE]…``."""
    for word in words[1:]:
        name, eq, value = word.partition("=")
        shell.state.exported.add(name)
        if eq:
            shell.state.variables[name] = value
    return 0


def unset(shell: Shell, words: list[str]) -> int:
    """``unset NAME…``."""
    for name in words[1:]:
        shell.state.variables.pop(name, None)
        shell.state.exported.discard(name)
    return 0


def set_(shell: Shell, words: list[str]) -> int:
    """``set -e|-x|+e|+x`` and ``set -- ARG…``."""
    for k, word in enumerate(words[1:], 1):
        if word == "--":
            shell.state.args = words[k + 1 :]
            break
        if word[1:] == "e":
            shell.state.errexit = word[0] == "-"
        elif word[1:] == "x":
            shell.state.xtrace = word[0] == "-"
    return 0


def shift(shell: Shell, words: list[str]) -> int:
    """``shift``."""
    del words
    shell.state.args = shell.state.args[1:]
    return 0


def kill(shell: Shell, words: list[str]) -> int:
    """``kill [-SIG] PID|%JOB…``, ``kill -l``."""
    args = words[1:]
    sig = 15
    if args and args[0] == "-l":
        shell.sys.write_all(1, (" ".join(signal_name(n)[3:] for n in range(1, 32)) + "\n").encode())
        return 0
    if args and args[0] == "-s" and len(args) > 1:
        args = ["-" + args[1], *args[2:]]
    if args and args[0].startswith("-") and args[0] != "--":
        name = args[0][1:]
        number = int(name) if name.isdigit() else signal_number(name)
        if number is None or number > 64:
            shell.complain(f"kill: {name}: invalid signal specification")
            return 1
        sig = number
        args = args[1:]
    if args and args[0] == "--":
        args = args[1:]
    if not args:
        shell.complain("kill: usage: kill [-s sigspec | -n signum | -sigspec] pid | jobspec ... or kill -l [sigspec]")
        return 2
    status = 0
    for arg in args:
        job = shell.find_job(arg) if arg.startswith("%") else None
        if job is not None:
            pid = -job.pgid if shell.state.interactive else job.pids[0]
        elif arg.lstrip("-").isdigit():
            pid = int(arg)
        else:
            shell.complain(f"kill: {arg}: arguments must be process or job IDs")
            status = 1
            continue
        try:
            shell.sys.kill(pid, sig)
        except OSError as error:
            shell.complain(f"kill: ({arg}) - {error.strerror}")
            status = 1
    return status


def wait(shell: Shell, words: list[str]) -> int:
    """``wait [PID|%JOB…]``."""
    chosen = [shell.find_job(word) for word in words[1:]] if len(words) > 1 else list(shell.state.jobs)
    status = 0
    for job, word in zip(chosen, words[1:] or [""] * len(chosen), strict=True):
        if job is None:
            shell.complain(f"wait: pid {word} is not a child of this shell")
            status = 127
            continue
        while not job.done and not job.stopped:
            if not shell.reap(0):
                break
        if job.done:
            shell.state.jobs.remove(job)
            status = shell.sys.system_status(job.statuses[job.pids[-1]])
    return status if len(words) > 1 else 0


def jobs(shell: Shell, words: list[str]) -> int:
    """``jobs``."""
    del words
    shell.reap(os.WNOHANG)
    for job in list(shell.state.jobs):
        what = "Stopped" if job.stopped else shell.ended(job.statuses[job.pids[-1]]) if job.done else "Running"
        shell.sys.write_all(
            1, f"[{job.number}]+  {what:<22}  {job.text}{'' if job.done or job.stopped else ' &'}\n".encode()
        )
        if job.done:
            shell.state.jobs.remove(job)
    return 0


def fg(shell: Shell, words: list[str]) -> int:
    """``fg [%JOB]``, ``bg [%JOB]``."""
    job = shell.find_job(words[1] if len(words) > 1 else "%%")
    if job is None:
        shell.complain(f"{words[0]}: no such job")
        return 1
    foreground = words[0] == "fg"
    shell.sys.write_all(1, f"{job.text}{'' if foreground else ' &'}\n".encode())
    if foreground and shell.state.interactive:
        shell.sys.tcsetpgrp(0, job.pgid)
    job.background = not foreground
    if job.stopped:
        job.stopped = 0
        shell.sys.kill(-job.pgid, 18)
    return shell.wait_foreground(job) if foreground else 0


def exec_(shell: Shell, words: list[str]) -> int:
    """``exec [COMMAND…]``."""
    if len(words) == 1:
        return 0
    raise Exit(execute(shell, words[1:]))


def read(shell: Shell, words: list[str]) -> int:
    """``read NAME…``."""
    line = shell.read_line()
    fields = line.rstrip("\n").split(None, max(0, len(words) - 2))
    for k, name in enumerate(words[1:]):
        shell.state.variables[name] = fields[k] if k < len(fields) else ""
    return 0 if line else 1


def source(shell: Shell, words: list[str]) -> int:
    """``. FILE``."""
    from taskscope.model.user.programs import sh_parse

    text = shell.sys.slurp(words[1]).decode(errors="replace")
    shell.lines(sh_parse.parse(text))
    return shell.state.status


def test(shell: Shell, words: list[str]) -> int:
    """``test EXPR``, ``[ EXPR ]``."""
    args = words[1:]
    if words[0] == "[":
        if not args or args[-1] != "]":
            shell.complain("[: missing `]'")
            return 2
        args = args[:-1]
    negate = bool(args) and args[0] == "!"
    if negate:
        args = args[1:]
    if len(args) == 3:
        left, op, right = args
        if op in ("=", "==", "!="):
            result = (left == right) != (op == "!=")
        elif op in ("-eq", "-ne", "-lt", "-le", "-gt", "-ge"):
            try:
                a, b = int(left), int(right)
            except ValueError:
                shell.complain(f"{words[0]}: integer expression expected")
                return 2
            result = {"-eq": a == b, "-ne": a != b, "-lt": a < b, "-le": a <= b, "-gt": a > b, "-ge": a >= b}[op]
        else:
            shell.complain(f"{words[0]}: {op}: binary operator expected")
            return 2
    elif len(args) == 2:
        op, value = args
        if op in ("-n", "-z"):
            result = bool(value) == (op == "-n")
        else:
            try:
                mode = shell.sys.stat(value).st_mode
            except OSError:
                result = False
            else:
                result = {
                    "-e": True,
                    "-f": S_ISREG(mode),
                    "-d": S_ISDIR(mode),
                    "-x": bool(mode & 0o111),
                    "-r": True,
                    "-w": True,
                    "-s": True,
                }.get(op, False)
    else:
        result = bool(args and args[0])
    return int(result == negate)


def umask(shell: Shell, words: list[str]) -> int:
    """``umask [MODE]``."""
    if len(words) > 1:
        shell.sys.umask(int(words[1], 8))
        return 0
    old = shell.sys.umask(0o22)
    shell.sys.umask(old)
    shell.sys.write_all(1, f"{old:04o}\n".encode())
    return 0


def ulimit(shell: Shell, words: list[str]) -> int:
    """``ulimit -u [N]`` (processes), ``ulimit -n [N]`` (descriptors)."""
    resource = {"-u": 6, "-n": 7}.get(words[1] if len(words) > 1 else "")
    if resource is None:
        shell.complain("ulimit: only -u and -n are known here")
        return 2
    soft, _ = shell.sys.getrlimit(resource)
    if len(words) > 2:
        value = int(words[2])
        shell.sys.setrlimit(resource, (value, value))
    else:
        shell.sys.write_all(1, f"{soft if soft < 1 << 31 else 'unlimited'}\n".encode())
    return 0


BUILTINS: Final[Mapping[str, Callable[[Shell, list[str]], int]]] = MappingProxyType(
    {
        ":": true,
        "true": true,
        "false": false,
        "echo": echo,
        "printf": printf,
        "cd": cd,
        "pwd": pwd,
        "exit": exit_,
        "break": break_,
        "continue": break_,
        "export": export,
        "unset": unset,
        "set": set_,
        "shift": shift,
        "kill": kill,
        "wait": wait,
        "jobs": jobs,
        "fg": fg,
        "bg": fg,
        "exec": exec_,
        "read": read,
        ".": source,
        "source": source,
        "test": test,
        "[": test,
        "umask": umask,
        "ulimit": ulimit,
    }
)
