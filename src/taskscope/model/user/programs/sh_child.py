"""What a child of the shell does: take its place in the pipeline, then run its command or become its program.

Entered from `sh` through ``sys.clone(fn, …)``; the state is the child's own copy.
"""

from __future__ import annotations

import os

import taskscope.model.user.programs.sh as sh
from taskscope.model.user.libc import SIG_DFL, SIG_IGN, SIG_SETMASK, Sys
from taskscope.model.user.programs import sh_parse as p


def child(
    sys: Sys,
    state: sh.State,
    command: p.Command,
    pgid: int,
    background: bool,
    source: int,
    sink: int,
    other: int,
    mask: int,
) -> int:
    """Be the child that runs one command of a pipeline."""
    shell = sh.Shell(sys, state)
    if state.interactive:
        sys.setpgid(0, pgid)
        if not background:
            sys.tcsetpgrp(0, pgid or sys.getpid())
        for sig in (*sh.JOB_SIGNALS, sh.SIGCHLD):
            sys.sigaction(sig, SIG_DFL)
        sys.sigprocmask(SIG_SETMASK, mask)
    elif background:
        # Without job control a background command does not hear ^C and ^\, nor read what the shell reads.
        sys.sigaction(sh.SIGINT, SIG_IGN)
        sys.sigaction(sh.SIGQUIT, SIG_IGN)
        if source < 0:
            source = sys.open("/dev/null", os.O_RDONLY)
    state.interactive, state.subshell = False, True
    state.jobs = []
    for fd, target in ((source, 0), (sink, 1)):
        if fd >= 0:
            sys.dup2(fd, target)
            sys.close(fd)
    if other >= 0:
        sys.close(other)
    try:
        if isinstance(command, p.Simple):
            return in_child(shell, command)
        if isinstance(command, p.Group) and command.subshell:
            if shell.redirect(command.redirects, False) is None:
                return 1
            shell.lines(command.body)
            return state.status
        return shell.command(command, "")
    except sh.Exit as stop:
        return stop.status


def in_child(shell: sh.Shell, command: p.Simple) -> int:
    """Become the program of a simple command."""
    from taskscope.model.user.programs.sh_builtins import BUILTINS

    state = shell.state
    words = [w for word in command.words for w in shell.expand(word)]
    if not words or words[0] in BUILTINS:
        return shell.simple(command, command.text)
    if shell.redirect(command.redirects, False) is None:
        return 1
    for name, value in command.assigns:
        state.variables[name] = shell.expand_one(value)
        state.exported.add(name)
    return execute(shell, words)


def execute(shell: sh.Shell, words: list[str]) -> int:
    """Exec a program, looking for it in PATH; return the status if that fails."""
    sys, state = shell.sys, shell.state
    sys.environ = {name: state.variables[name] for name in state.exported if name in state.variables}
    try:
        sys.execvp(words[0], words)
    except OSError as error:
        if error.errno == 8:  # ENOEXEC: a script without #!
            sys.execve("/bin/bash", ["bash", words[0], *words[1:]])
        if error.errno == 2 and "/" not in words[0]:
            shell.complain(f"{words[0]}: command not found")
            return 127
        shell.complain(f"{words[0]}: {error.strerror}")
        return 127 if error.errno == 2 else 126


def substituted(sys: Sys, state: sh.State, text: str, read_end: int, write_end: int) -> int:
    """Be the child of $(…)."""
    state.interactive, state.subshell, state.jobs = False, True, []
    for sig in (*sh.JOB_SIGNALS, sh.SIGCHLD):
        sys.sigaction(sig, SIG_DFL)
    sys.close(read_end)
    sys.dup2(write_end, 1)
    sys.close(write_end)
    return sh.Shell(sys, state).run_text(text)
