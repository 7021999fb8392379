"""A short life of processes that writes down what it does; run as a program while it is recorded.

Waits for a line on standard input, then forks, kills, orphans, stops, vforks and threads, and appends one
fact a line to the file that its argument names, in the form that tests/facts.py reads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_NAME = 15


def main(facts: str) -> None:
    """Run all the children, one after the other."""
    out = os.open(facts, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    libc = ctypes.CDLL(None)
    me = os.getpid()

    def say(text: str) -> None:
        os.write(out, f"{text}\n".encode())

    def fork(role: str, body: Callable[[], int]) -> int:
        # The fact of a birth is written by the parent, before the child may do anything.
        ready, go = os.pipe()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            os.close(go)
            os.read(ready, 1)
            os._exit(body())
        say(f"fork parent={parent} child={child} how=fork role={role}")
        os.close(go)
        os.close(ready)
        return child

    def reap(child: int) -> None:
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            say(f"reaped pid={child} by={os.getpid()} signal={os.WTERMSIG(status)} core={int(os.WCOREDUMP(status))}")
        else:
            say(f"reaped pid={child} by={os.getpid()} exit={os.WEXITSTATUS(status)}")

    def kill(target: int, sig: int) -> None:
        say(f"kill target={target} sig={sig} by={os.getpid()}")
        os.kill(target, sig)

    def sleep_long() -> int:
        time.sleep(30)
        return 0

    def handled() -> int:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
        return sleep_long()

    def switching() -> int:
        for _ in range(20):
            time.sleep(0.001)
            for _ in range(4):
                os.sched_yield()
            sum(range(20_000))
        with Path("/proc/self/status").open(encoding="ascii") as status:
            counts = dict(line.split(":") for line in status if "ctxt_switches" in line)
        say(
            f"switches pid={os.getpid()} voluntary={int(counts['voluntary_ctxt_switches'])} "
            f"involuntary={int(counts['nonvoluntary_ctxt_switches'])}"
        )
        return 0

    def orphaning() -> int:
        middle = os.getpid()

        def orphan() -> int:
            while os.getppid() == middle:
                time.sleep(0.002)
            say(f"orphan pid={os.getpid()} ppid_now={os.getppid()}")
            return 7

        fork("orphan", orphan)
        return 3

    def group() -> int:
        gate = threading.Event()

        def body(k: int) -> None:
            name = f"worker-{k}"
            libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
            say(f"thread tgid={os.getpid()} tid={threading.get_native_id()} name={name}")
            gate.wait()
            if k == 2:
                say(f"exit_group tgid={os.getpid()} by_tid={threading.get_native_id()} code=11")
                os._exit(11)
            time.sleep(30)

        workers = [threading.Thread(target=body, args=(k,), daemon=True) for k in range(4)]
        for worker in workers:
            worker.start()
        time.sleep(0.02)
        gate.set()
        time.sleep(30)
        return 0

    say(f"start pid={me} ppid={os.getppid()} workload=host")
    reap(fork("exits", lambda: 3))
    for role, body in (("term_default", sleep_long), ("term_handler", handled)):
        child = fork(role, body)
        time.sleep(0.05)
        kill(child, signal.SIGTERM)
        reap(child)
    child = fork("stopcont", sleep_long)
    time.sleep(0.02)
    for sig in (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
        kill(child, sig)
        time.sleep(0.03)
    reap(child)
    reap(fork("switching", switching))
    reap(fork("middle", orphaning))
    reap(fork("thread_group", group))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    child = fork("autoreap", lambda: 6)
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        say(f"autoreap parent={me} child={child}")
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.posix_spawn("/bin/true", ["true"], {})
    say(f"fork parent={me} child={child} how=vfork role=spawned")
    reap(child)
    time.sleep(0.05)
    say(f"end pid={me} exit=0")


if __name__ == "__main__":
    sys.stdin.readline()
    main(sys.argv[1])
