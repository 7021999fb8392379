"""Run programs of processes on this host's kernel: ``python -S -m taskscope.labs.truth.worker MODE SECONDS UID``.

Reads batches from standard input (one line of JSON: a list of lists of scripts), and answers each with a line: for
each program [ended, pids, results].  A batch runs in a PID namespace of its own, whose process 1 is the programs'
reaper: what a program leaves behind, or a worker that is killed, ends with the namespace.  MODE says what keeps them
together: "pid" (root), "user" (a user namespace around it) or "sub" (no namespace: the reaper is a child subreaper,
and what is left is killed from outside).

Results are written to shared memory by the processes themselves: those that are killed have said what they did before.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import select
import signal
import struct
import sys as python
import time
from typing import Any

from taskscope.labs.truth import interp
from taskscope.labs.truth.hostsys import MACHINE, HostSys, Notes, check, libc

PR_SET_DUMPABLE = 4
CLONE_NEWNS = 0x20000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
CLONE_NEWUSER, CLONE_NEWPID = 0x10000000, 0x20000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
ACTORS = 64
#: done, result, how many numbers (-1: bytes), room for 32 signals of four numbers
RECORD = struct.Struct("<qqq1024s")
HEAD = 8 * (ACTORS + 1)
_CLONE = {"x86_64": 56, "aarch64": 220, "armv7l": 120, "i686": 120}


class HostLife:
    """Births on this host: clone() as it is, without what the C library does around fork(); signals."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.patience = 4_000

    def pause(self, sys: Any) -> None:
        """See `interp.Life`."""
        del sys
        time.sleep(0.0001)

    def fork(self, sys: Any, run: interp.Run, child: int, flags: int, how: str) -> tuple[int, int]:
        """See `interp.Life`; however the model does it, here is one way."""
        del how
        tid = ctypes.c_int(0)
        pid = self._clone(flags, tid)
        if pid:
            return pid, tid.value
        try:
            interp.live(sys, run, child)
        except BaseException as error:       # nothing of the parent may run here
            os.write(2, f"truth: actor {child}: {error!r}\n".encode())
        os._exit(120)

    def badclone(self, sys: Any, flags: int) -> int:
        """See `interp.Life`."""
        del sys
        pid = self._clone(flags, ctypes.c_int(0))
        if not pid:
            os._exit(121)
        return pid

    def handler(self, sys: Any) -> int:
        """See `interp.Life`."""
        del sys
        return self.notes.handler

    def caught(self, sys: Any) -> tuple[int, ...]:
        """See `interp.Life`."""
        del sys
        return self.notes.take()

    def sigwait(self, sys: Any, mask: int, timeout: int | None) -> tuple[int, int, int, int]:
        """See `interp.Life`."""
        del sys
        info = (ctypes.c_int * 32)()
        set_ = (ctypes.c_uint64 * 16)(mask)
        time_ = None if timeout is None else (ctypes.c_long * 2)(*divmod(timeout, 10**9))
        # Not by the C library, which shows SI_TKILL as SI_USER.
        number = ctypes.c_long({"x86_64": 128, "aarch64": 137}.get(MACHINE, 177))
        check(libc.syscall(number, set_, info, time_, ctypes.c_size_t(8)))
        return info[0], info[2], info[4], info[6]

    def sigqueue(self, sys: Any, pid: int, sig: int, value: int) -> None:
        """See `interp.Life`."""
        del sys
        check(libc.sigqueue(pid, sig, ctypes.c_void_p(value)))

    def _clone(self, flags: int, parent_tid: ctypes.c_int) -> int:
        zero = ctypes.c_ulong(0)
        number, asked = ctypes.c_long(_CLONE[MACHINE]), ctypes.c_ulong(flags)
        return int(check(libc.syscall(number, asked, zero, ctypes.byref(parent_tid), zero, zero)))


class SharedBoard:
    """The results of one program in memory that all its processes share."""

    def __init__(self, memory: mmap.mmap, base: int, room: int) -> None:
        self.memory = memory
        self.base = base
        self.room = room

    def pid_of(self, actor: int) -> int:
        """See `interp.Board`."""
        at = self.base + 8 * actor
        return int.from_bytes(self.memory[at : at + 8], "little")

    def born(self, actor: int, pid: int) -> None:
        """See `interp.Board`."""
        at = self.base + 8 * actor
        self.memory[at : at + 8] = pid.to_bytes(8, "little")

    def has(self, serial: int) -> bool:
        """See `interp.Board`."""
        return self.memory[self.base + HEAD + RECORD.size * serial] != 0

    def put(self, serial: int, ret: int, more: tuple[int, ...] | bytes = ()) -> None:
        """See `interp.Board`."""
        if isinstance(more, bytes):
            count, data = -1 - len(more), more
        else:
            more = more[:128]
            count, data = len(more), struct.pack(f"<{len(more)}q", *more)
        RECORD.pack_into(self.memory, self.base + HEAD + RECORD.size * serial, 1, ret, count, data)

    def finished(self) -> bool:
        """Tell whether the reaper played its script to the end and nobody was left."""
        return self.pid_of(ACTORS) == 1

    def results(self) -> list[Any]:
        """Return what `program.Raw` is, as JSON has it."""
        found: list[Any] = []
        for serial in range(self.room):
            done, ret, count, data = RECORD.unpack_from(self.memory, self.base + HEAD + RECORD.size * serial)
            if not done:
                found.append(None)
            elif count < 0:
                found.append([ret, data[: -1 - count].decode("latin-1")])
            else:
                found.append([ret, list(struct.unpack_from(f"<{count}q", data))])
        return found


def room_of(scripts: list[list[list[Any]]]) -> int:
    """Return how many serial numbers a program has."""
    return 1 + max((item[0] for script in scripts for item in script), default=-1)


def reaper(batch: list[Any], boards: list[SharedBoard], progress: int) -> None:
    """Be process 1: play the reaper's part of one program after the other."""
    sys = HostSys()
    life = HostLife()
    if os.getsid(0) != os.getpid():
        sys.setsid()
    libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
    libc.prctl(15, ctypes.c_char_p(b"reaper"))
    os.umask(0o22)
    for scripts, board in zip(batch, boards, strict=True):
        pipes = [os.pipe() for _ in scripts]
        board.born(0, os.getpid())
        interp.play(sys, interp.Run(scripts, pipes, board, life), 0)
        for read, write in pipes:
            os.close(read)
            os.close(write)
        left = False
        try:
            os.waitpid(-1, os.WNOHANG | 0x40000000)
            left = True
        except ChildProcessError:
            pass
        board.born(ACTORS, 2 if left else 1)
        os.write(progress, b".")
        if left:
            return


def contain(mode: str) -> None:
    """Let the next child of this process be process 1 of a new PID namespace (not in mode "sub")."""
    if mode == "sub":
        return
    uid, gid = os.getuid(), os.getgid()
    check(libc.unshare(CLONE_NEWPID | CLONE_NEWNS | (CLONE_NEWUSER if mode == "user" else 0)))
    if mode == "user":
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            fd = os.open(f"/proc/self/{name}", os.O_WRONLY)
            os.write(fd, text.encode())
            os.close(fd)


def mount_proc() -> None:
    """Give this mount namespace the /proc of this PID namespace."""
    check(libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
    check(libc.mount(b"proc", b"/proc", b"proc", ctypes.c_ulong(0), None))


def run_batch(batch: list[Any], mode: str, seconds: float) -> list[Any]:
    """Run programs one after the other under one reaper; return what they wrote.

    :param seconds: how long one program may take; with the one that takes longer the batch ends
    """
    rooms = [room_of(scripts) for scripts in batch]
    sizes = [HEAD + RECORD.size * room for room in rooms]
    memory = mmap.mmap(-1, sum(sizes))
    boards = [SharedBoard(memory, sum(sizes[:n]), rooms[n]) for n in range(len(batch))]
    hear, progress = os.pipe()
    outer = os.fork()
    if outer == 0:
        try:
            os.close(hear)
            libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
            contain(mode)
            inner = 0 if mode == "sub" else os.fork()
            if inner == 0:
                if mode != "sub":
                    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
                    mount_proc()
                reaper(batch, boards, progress)
            else:
                os.close(progress)
                os.waitpid(inner, 0)
        except BaseException as error:       # nothing of the parent may run here
            os.write(2, f"truth: the reaper: {error!r}\n".encode())
        finally:
            os._exit(0)
    os.close(progress)
    done = 0
    deadline = time.monotonic() + seconds
    while done < len(batch):
        ready, _, _ = select.select([hear], [], [], max(0.0, deadline - time.monotonic()))
        more = len(os.read(hear, 4096)) if ready else 0
        if not more:
            break
        done += more
        deadline = time.monotonic() + seconds
    os.close(hear)
    end(outer, kill=done < len(batch))
    answer = [[board.finished(), [board.pid_of(n) for n in range(len(scripts))], board.results()]
              for scripts, board in zip(batch[: done + 1], boards, strict=False)]
    memory.close()
    return answer


def end(outer: int, *, kill: bool) -> None:
    """Let the batch's processes end, by force if need be; when this returns they are gone."""
    if kill:
        os.kill(outer, signal.SIGKILL)
    os.waitpid(outer, 0)
    # What is left (process 1 of the namespace, or what the reaper left) comes to us, a child subreaper too.
    while True:
        try:
            children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY)
            for pid in os.read(children, 65536).split():
                os.kill(int(pid), signal.SIGKILL)
            os.close(children)
            os.waitpid(-1, 0x40000000)
        except ChildProcessError:
            return


def main(mode: str, seconds: float, uid: int) -> None:
    """Answer batches until standard input ends, as the user `uid`."""
    if uid != os.getuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        libc.prctl(PR_SET_DUMPABLE, ctypes.c_ulong(1))      # else /proc/self would stay root's
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    libc.prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
    for number in range(1, 32):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    gc.disable()
    gc.freeze()
    for line in python.stdin:
        python.stdout.write(json.dumps(run_batch(json.loads(line), mode, seconds), separators=(",", ":")) + "\n")
        python.stdout.flush()


if __name__ == "__main__":
    main(python.argv[1], float(python.argv[2]), int(python.argv[3]))
