"""Run rules on the host: ``python -S -m taskscope.labs.truth.rules.worker MODE SECONDS RULE…``.

Writes a line of JSON for each rule: [name, pid of its first process, lines].  All run one after the other under one
process 1 of a PID namespace of their own: it reaps what they orphan, and ends what they leave.  One that takes longer
than SECONDS is ended and told.  MODE is "pid" (root) or "user" (a user namespace around it, where the caller is root).
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import sys as python
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, NoReturn

from taskscope.labs.truth import rules
from taskscope.labs.truth.rules import kit, native, transcript
from taskscope.labs.truth.rules.native_call import libc, syscall
from taskscope.labs.truth.worker import end, mount_proc

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x20000, 0x10000000, 0x20000000
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 1, 15, 4, 36
#: what a rule's first process is called, and its mask of permissions
NAME, UMASK = "rule", 0o22
RULES = "taskscope.labs.truth.rules."
SOURCE: Final = Path(__file__).resolve().parents[4]
#: how Python is started for `kit.execute`
LAUNCH: Final = ("-I", "-S", "-c", f"""import sys
sys.path.insert(0, {str(SOURCE)!r})
from taskscope.labs.truth.rules.worker import executed
executed(sys.argv[1:])""")


def contain(mode: str) -> None:
    """Let the next child of this process be process 1 of a new PID namespace, where it is root."""
    uid, gid = os.getuid(), os.getgid()
    syscall("unshare", CLONE_NEWPID | CLONE_NEWNS | (CLONE_NEWUSER if mode == "user" else 0))
    if mode == "user":
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)


def make_room() -> None:
    """Give a rule a directory of its own, with the program that it executes."""
    syscall("mount", "rules", kit.ROOM, "tmpfs", 0, None)
    # Where the interpreter really is: from there it finds its library.
    Path(kit.PROGRAM).symlink_to(Path(python.executable).resolve())


def first(sys: native.Native, rule: rules.Rule, log: int, errors: int) -> int:
    """Be the first process of a rule."""
    os.dup2(log, native.LOG)
    os.dup2(errors, 2)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.closerange(3, native.LOG)
    os.closerange(native.LOG + 1, 1024)
    sys.setsid()
    sys.prctl(PR_SET_NAME, NAME.encode())
    sys.chdir("/")
    os.umask(UMASK)
    sys.sigprocmask(2, 0)
    sys.launch = LAUNCH
    rule.run(sys, native.Log())
    return 0


def drain(fd: int) -> bytes:
    """Return what is in a pipe, and close it."""
    os.set_blocking(fd, False)
    parts = []
    try:
        while part := os.read(fd, 65536):
            parts.append(part)
    except BlockingIOError:
        pass
    os.close(fd)
    return b"".join(parts)


def left() -> list[str]:
    """Return what there is in the namespace, process 1 aside: for the report of a rule that hangs."""
    found = []
    for task in sorted(Path("/proc").glob("[0-9]*/task/[0-9]*"), key=lambda path: int(path.name)):
        if task.parent.parent.name == "1":
            continue
        try:
            stat = task.joinpath("stat").read_text()
            call = task.joinpath("syscall").read_text().split()[0]
        except (OSError, IndexError):
            continue
        found.append(f"{transcript.mark(int(task.name))} {stat[stat.rindex(')') + 2]} in system call {call}")
    return found


def play(sys: native.Native, rule: rules.Rule, seconds: float) -> tuple[int, list[str]]:
    """Run one rule as process 1; return the pid of its first process and what was said."""
    log, errors = os.pipe(), os.pipe()
    main = sys.clone(first, rule, log[1], errors[1])
    os.close(log[1])
    os.close(errors[1])
    deadline = time.monotonic() + seconds
    status = None
    while status is None:
        pid, word = os.waitpid(-1, os.WNOHANG)
        if pid == main:
            status = word
        elif pid == 0 and (rest := deadline - time.monotonic()) <= 0:
            break
        elif pid == 0:
            signal.sigtimedwait([signal.SIGCHLD], rest)
    hung = [] if status is not None else [f"hangs: not at its end after {seconds:g} s", *left()]
    try:
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0x40000000)
    except (ProcessLookupError, ChildProcessError):
        pass
    said = drain(log[0]).decode().splitlines()
    return main, said + hung + transcript.ending(status or 0, drain(errors[0]))


def process_one(names: list[str], seconds: float) -> None:
    """Be process 1: play the rules."""
    mount_proc()
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGCHLD])
    sys = native.Native()
    for rule in rules.load(names):
        make_room()
        main, lines = play(sys, rule, seconds)
        syscall("umount2", kit.ROOM, 2)
        os.write(1, (json.dumps([rule.name, main, lines]) + "\n").encode())


def main(mode: str, seconds: float, names: list[str]) -> None:
    """Play rules in a namespace of their own."""
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_DFL)
    # As root, the caller's nice value is not the rules'.
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    gc.disable()
    rules.load(names)
    gc.freeze()
    outer = os.fork()
    if outer == 0:
        try:
            libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
            contain(mode)
            inner = os.fork()
            if inner == 0:
                libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
                process_one(names, seconds)
            else:
                os.waitpid(inner, 0)
        except BaseException as error:       # nothing of the parent may run here
            os.write(2, f"rules: process 1: {error!r}\n".encode())
        finally:
            os._exit(0)
    end(outer, kill=False)


def executed(argv: list[str]) -> NoReturn:
    """Be the program that a rule executed."""
    module, _, name = argv[0].partition(":")
    sys = native.Native()
    sys.launch = LAUNCH
    sys.run(getattr(importlib.import_module(RULES + module), name), (native.Log(), *argv[1:]))


if __name__ == "__main__":
    main(python.argv[1], float(python.argv[2]), python.argv[3:])
