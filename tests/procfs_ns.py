"""A PID namespace of its own for tests: tasks that hold still in it, whose table nobody else changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

SLEEPERS = r"""
import ctypes, os, signal, sys, threading, time
libc = ctypes.CDLL(None)
def child(name, then=lambda: signal.pause(), before=lambda: None):
    pid = os.fork()
    if pid:
        return pid
    libc.prctl(15, name.encode("utf-8", "surrogateescape"), 0, 0, 0)
    before()
    try:
        then()
    finally:
        os._exit(0)
libc.prctl(15, b"init", 0, 0, 0)
child("plain")
child("nice", before=lambda: os.nice(7))
child("fifo", before=lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5)))
child("batch", before=lambda: os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0)))
child("user", before=lambda: (os.setresgid(7, 7, 7), os.setresuid(65534, 65534, 65534)))
child("a) R 1 (b")
child("locked", before=lambda: libc.mlockall(3))
child("session", before=os.setsid)
child("signals", before=lambda: (signal.signal(signal.SIGUSR1, lambda *_: None), signal.signal(30, signal.SIG_IGN),
                                signal.pthread_sigmask(signal.SIG_BLOCK, {12, 40}), os.kill(os.getpid(), 12)))
def terminal():
    os.setsid()
    master, slave = os.openpty()
    import fcntl, termios
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
child("tty", before=terminal)
def family():
    child("grandchild", then=lambda: (child("great"), signal.pause()))
    child("second")
    signal.pause()
child("family", then=family)
child("orphan-maker", then=lambda: child("orphan"))
def threads():
    for n in range(3):
        threading.Thread(target=signal.pause, daemon=True).start()
    signal.pause()
child("threads", then=threads)
stopped = child("stopped")
dead = child("zombie", then=lambda: os._exit(3))
time.sleep(0.3)
os.kill(stopped, signal.SIGSTOP)
sys.stdout.write("ready\n")
sys.stdout.flush()
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        out = os.open(line.split()[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.execvp(line.split()[1], line.split()[1:])
    os.waitpid(pid, 0)
    sys.stdout.write("done\n")
    sys.stdout.flush()
"""


def environment() -> dict[str, str]:
    """Return an environment in which ps writes whole lines: it obeys COLUMNS on pipes too."""
    known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "PS_FORMAT")}
    return {**known, "TZ": "UTC", "LC_ALL": "C.UTF-8"}


class Namespace:
    """Tasks in all the ways of holding still; commands run in their namespace, with its own /proc."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # unshare's child is init there: only what follows is in the new namespace.
        program = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-c", SLEEPERS]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                         env=environment())
        assert self._read() == "ready", "the tasks did not come up"

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def run(self, *command: str) -> list[str]:
        """Run a command there; its lines, without those of itself."""
        assert self._process.stdin is not None
        out = self.folder / "out"
        self._process.stdin.write(" ".join([str(out), *command]) + "\n")
        self._process.stdin.flush()
        assert self._read() == "done"
        return out.read_text("utf-8", "surrogateescape").splitlines()

    def close(self) -> None:
        """End all of them."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
