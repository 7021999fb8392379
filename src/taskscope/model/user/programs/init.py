"""Pid 1: starts what it is told to, gives it a session and a terminal, and reaps orphans.

What to start comes through /dev/hostctl, a device that stands for everything outside of the machine that starts
programs: its driver is drivers/char/hostctl.py.
"""

from __future__ import annotations

import os
from typing import Any

from taskscope.model.user.libc import SIG_DFL, Sys

SIGCHLD = 17
HOSTCTL_STARTED, HOSTCTL_ENDED, HOSTCTL_NEXT = 0, 1, 2
#: the descriptor of /dev/hostctl: the first that init opens, unless the console has taken 0, 1 and 2
CONTROL = 3


def main(sys: Sys, argv: list[str]) -> int:
    """Be init."""
    del argv
    # What it forks must not come before the handler.
    sys.sigaction(SIGCHLD, reap)
    control = sys.open("/dev/hostctl", os.O_RDWR | os.O_CLOEXEC)
    if control != CONTROL:
        sys.dup2(control, CONTROL)
        sys.fcntl(CONTROL, 2, 1)
        control = CONTROL
    sys.environ = {"PATH": "/usr/local/bin:/bin:/usr/bin", "HOME": "/root", "USER": "root", "TERM": "linux"}
    while True:
        try:
            request = sys.ioctl_get(control, HOSTCTL_NEXT)
        except OSError as error:
            if error.errno != 4:
                raise
            continue
        start(sys, control, request)


def reap(sys: Sys, sig: int, info: Any) -> None:
    """Reap every child that has died, and tell the outside."""
    del sig, info
    while True:
        try:
            pid, status = sys.waitpid(-1, os.WNOHANG)
        except OSError:
            return
        if pid == 0:
            return
        sys.ioctl(CONTROL, HOSTCTL_ENDED, (pid, status))


def start(sys: Sys, control: int, request: Any) -> None:
    """Start one program; the driver is told its pid."""
    number, path, argv, environ, tty, controlling, cwd, uid = request
    pid = sys.clone(child, path, argv, {**sys.environ, **environ}, tty, controlling, cwd, uid)
    sys.ioctl(control, HOSTCTL_STARTED, (number, pid))


def child(
    sys: Sys, path: str, argv: list[str], environ: dict[str, str], tty: str, controlling: bool, cwd: str, uid: int
) -> int:
    """Be the child: a session of its own, the terminal as standard input, output and error, then the program."""
    sys.sigaction(SIGCHLD, SIG_DFL)
    sys.setsid()
    fd = sys.open(tty, os.O_RDWR | (0 if controlling else os.O_NOCTTY))
    for n in range(3):
        if fd != n:
            sys.dup2(fd, n)
    if fd > 2:
        sys.close(fd)
    sys.chdir(cwd)
    if uid:
        sys.setgid(uid)
        sys.setuid(uid)
    try:
        sys.execve(path, argv, environ)
    except OSError as error:
        sys.perror(f"{path}: {error.strerror}")
        return 127 if error.errno == 2 else 126
