"""Pipes: who waits for whom, ends, SIGPIPE, what fits.  fs/pipe.c, pipe(7)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import differs, varies
from taskscope.labs.truth.rules.kit import Gate, asleep, attempt, comes_to, dead, kill, sleeper, started, wait

SIGPIPE, SIGKILL, SIGUSR1 = 13, 9, 10
SA_RESTART = 0x10000000
O_NONBLOCK, O_CLOEXEC = 0o4000, 0o2000000
F_GETFL, F_SETFL = 3, 4
CAPACITY = 65536


# ---- reading --------------------------------------------------------------------------------------------

def bytes_in_order(sys: Any, say: Any) -> None:
    """What is written is read in order, without borders between writes."""
    read, write = sys.pipe()
    for data in (b"one", b"two", b"three"):
        say(sys.write(write, data))
    say(sys.read(read, 4), sys.read(read, 100))


def read_waits(sys: Any, say: Any) -> None:
    """A reader of an empty pipe sleeps until something is written."""
    read, write = sys.pipe()
    pid = sys.clone(_writes_when_asleep, sys.getpid(), write, b"late")
    say(sys.read(read, 100), wait(sys, say, pid))


def _writes_when_asleep(sys: Any, pid: int, fd: int, data: bytes) -> None:
    asleep(sys, pid)
    sys.write(fd, data)


def end_of_file(sys: Any, say: Any) -> None:
    """When no writer is left a reader gets what is in the pipe, and then nothing, as often as it asks."""
    read, write = sys.pipe()
    sys.write(write, b"rest")
    sys.close(write)
    say(sys.read(read, 2), sys.read(read, 100), sys.read(read, 100), sys.read(read, 100))


def last_writer_counts(sys: Any, say: Any) -> None:
    """The end comes when the last descriptor of the writing end is closed, in whatever process."""
    read, write = sys.pipe()
    gate = Gate(sys)
    pid = sys.clone(_ends_when_reader_sleeps, sys.getpid(), gate)
    sys.close(write)
    gate.open(sys)
    say(sys.read(read, 100), wait(sys, say, pid))


def _ends_when_reader_sleeps(sys: Any, reader: int, gate: Gate) -> None:
    gate.wait(sys)
    asleep(sys, reader)


def writer_that_is_killed(sys: Any, say: Any) -> None:
    """A reader that sleeps gets the end when the last writer is killed."""
    read, write = sys.pipe()
    pid = started(sys)
    sys.close(write)
    sys.clone(_kills_when_asleep, sys.getpid(), pid, read)
    say(sys.read(read, 100), wait(sys, say, pid))


def _kills_when_asleep(sys: Any, reader: int, pid: int, fd: int) -> None:
    sys.close(fd)
    asleep(sys, reader)
    sys.kill(pid, SIGKILL)


def read_of_nothing(sys: Any, say: Any) -> None:
    """A read of 0 bytes returns at once, whatever is in the pipe."""
    read, write = sys.pipe()
    say(sys.read(read, 0))
    sys.write(write, b"x")
    say(sys.read(read, 0), sys.read(read, 1))


def nonblocking_read(sys: Any, say: Any) -> None:
    """With O_NONBLOCK a read of an empty pipe gives EAGAIN, without a writer the end."""
    read, write = sys.pipe2(O_NONBLOCK)
    say(attempt(sys.read, read, 1))
    sys.write(write, b"ab")
    say(sys.read(read, 1), sys.read(read, 1), attempt(sys.read, read, 1))
    sys.close(write)
    say(attempt(sys.read, read, 1))


def read_interrupted(sys: Any, say: Any) -> None:
    """A handler without SA_RESTART ends a read with EINTR, with SA_RESTART it goes on."""
    read, write = sys.pipe()

    def handler(sys: Any, signal: int, info: Any) -> None:
        del info
        say("handler", signal)
        sys.write(write, b"from the handler")

    def quiet(sys: Any, signal: int, info: Any) -> None:
        del sys, info
        say("handler", signal)

    sys.sigaction(SIGUSR1, quiet)
    sys.clone(_signals_when_asleep, sys.getpid())
    say(attempt(sys.read, read, 100), wait(sys, say))
    sys.sigaction(SIGUSR1, handler, SA_RESTART)
    sys.clone(_signals_when_asleep, sys.getpid())
    say(attempt(sys.read, read, 100), wait(sys, say))


def _signals_when_asleep(sys: Any, pid: int) -> None:
    asleep(sys, pid)
    sys.kill(pid, SIGUSR1)


def one_reader_gets_it(sys: Any, say: Any) -> None:
    """Of two readers that sleep each gets one of two bytes."""
    read, write = sys.pipe()
    pids = [started(sys, _reads_one, read) for _ in range(2)]
    sys.write(write, b"x")
    sys.write(write, b"x")
    say([wait(sys, say, pid) for pid in pids])


def _reads_one(sys: Any, fd: int) -> int:
    return len(sys.read(fd, 1))


@varies('before v5.6 (0ddad21d3e99, "pipe: use exclusive waits when reading or writing") all readers are woken',
        "4.19-arm")
def first_reader_first(sys: Any, say: Any) -> None:
    """Of two readers that sleep the one that came first gets what is written first."""
    read, write = sys.pipe()
    pids = [started(sys, _exits_with_what_it_reads, read) for _ in range(2)]
    sys.write(write, b"\1")
    say(wait(sys, say, pids[0]))
    sys.write(write, b"\2")
    say(wait(sys, say, pids[1]))


def _exits_with_what_it_reads(sys: Any, fd: int) -> int:
    return int(sys.read(fd, 1)[0])


# ---- writing --------------------------------------------------------------------------------------------

def no_reader_is_deadly(sys: Any, say: Any) -> None:
    """A write without a reader kills by SIGPIPE."""
    say(wait(sys, say, sys.clone(_writes_to_nobody)))


def _writes_to_nobody(sys: Any) -> None:
    read, write = sys.pipe()
    sys.close(read)
    sys.write(write, b"x")


def no_reader_is_an_error(sys: Any, say: Any) -> None:
    """Where SIGPIPE is ignored, handled or blocked a write without a reader gives EPIPE."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        say("handler", signal, info.si_code, info.si_pid == sys.getpid())

    read, write = sys.pipe()
    sys.close(read)
    sys.sigaction(SIGPIPE, sys.SIG_IGN)
    say(attempt(sys.write, write, b"x"))
    sys.sigaction(SIGPIPE, handler)
    say(attempt(sys.write, write, b"x"))
    sys.sigprocmask(0, 1 << SIGPIPE - 1)
    say(attempt(sys.write, write, b"x"), hex(sys.sigpending()))


def write_of_nothing(sys: Any, say: Any) -> None:
    """A write of 0 bytes does nothing, even without a reader."""
    read, write = sys.pipe()
    say(sys.write(write, b""))
    sys.close(read)
    say(sys.write(write, b""))


def capacity(sys: Any, say: Any) -> None:
    """A pipe takes 65,536 bytes, then a write with O_NONBLOCK gives EAGAIN."""
    read, write = sys.pipe2(O_NONBLOCK)
    say(sys.write(write, bytes(100_000)), attempt(sys.write, write, b"x"))
    say(len(sys.read(read, 4096)), sys.write(write, bytes(4096)), attempt(sys.write, write, b"x"))


def atomic_write(sys: Any, say: Any) -> None:
    """With O_NONBLOCK a write of up to PIPE_BUF bytes is taken as a whole or not at all."""
    read, write = sys.pipe2(O_NONBLOCK)
    for _ in range(15):
        sys.write(write, bytes(4096))
    sys.write(write, bytes(100))
    say(attempt(sys.write, write, bytes(4000)), attempt(sys.write, write, bytes(3900)), attempt(sys.write, write, b"x"))
    say(len(sys.read(read, 100_000)))


def full_pipe_waits(sys: Any, say: Any) -> None:
    """A writer into a full pipe sleeps until there is room."""
    read, write = sys.pipe()
    sys.write(write, bytes(CAPACITY))
    pid = started(sys, _writes_page, write)
    say(wait(sys, say, pid, 1), len(sys.read(read, 4096)))
    say(wait(sys, say, pid), attempt(sys.fcntl, read, F_SETFL, O_NONBLOCK), len(sys.read(read, 100_000)))


@differs('until v5.5 (a28c8b9db8a1, "pipe: remove \'waiting_writers\' merging logic") it waited for sleeping writers',
         "4.19-arm")
def read_of_what_is_there(sys: Any, say: Any) -> None:
    """A read takes what is in the pipe, and does not wait for what a sleeping writer still has."""
    read, write = sys.pipe()
    sys.write(write, bytes(CAPACITY))
    pid = started(sys, _writes_page, write)
    say(len(sys.read(read, 100_000)), wait(sys, say, pid))


def _writes_page(sys: Any, fd: int) -> int:
    return int(sys.write(fd, bytes(4096)) == 4096)


def long_write_in_parts(sys: Any, say: Any) -> None:
    """A write of more than the pipe takes goes on as the reader reads, and returns all of it."""
    read, write = sys.pipe()
    pid = sys.clone(_writes_much, write)
    sys.close(write)
    total = 0
    while data := sys.read(read, 4096):
        total += len(data)
    say(total, wait(sys, say, pid))


def _writes_much(sys: Any, fd: int) -> int:
    return int(sys.write(fd, bytes(200_000)) == 200_000)


def sleeping_writer_loses_reader(sys: Any, say: Any) -> None:
    """A writer that sleeps gets SIGPIPE when the last reader goes."""
    read, write = sys.pipe()
    sys.write(write, bytes(CAPACITY))
    pid = started(sys, _closes_and_writes, read, write)
    sys.close(read)
    say(wait(sys, say, pid))


def _closes_and_writes(sys: Any, read: int, write: int) -> None:
    sys.close(read)
    sys.write(write, b"x")


def interrupted_write_tells_part(sys: Any, say: Any) -> None:
    """A write that a handler interrupts returns what was taken, EINTR if nothing was."""

    def handler(sys: Any, signal: int, info: Any) -> None:
        del sys, info
        say("handler", signal)

    _, write = sys.pipe()
    sys.sigaction(SIGUSR1, handler)
    sys.clone(_signals_when_asleep, sys.getpid())
    say(attempt(sys.write, write, bytes(100_000)), wait(sys, say))
    sys.clone(_signals_when_asleep, sys.getpid())
    say(attempt(sys.write, write, b"x"), wait(sys, say))


# ---- descriptors ----------------------------------------------------------------------------------------

def wrong_end(sys: Any, say: Any) -> None:
    """The reading end cannot be written nor the writing end read: EBADF."""
    read, write = sys.pipe()
    say(attempt(sys.write, read, b"x"), attempt(sys.read, write, 1), attempt(sys.lseek, read, 0))


def access_modes(sys: Any, say: Any) -> None:
    """F_GETFL tells a reading end, a writing end, and O_NONBLOCK."""
    for flags in (0, O_NONBLOCK, O_CLOEXEC):
        say([oct(sys.fcntl(fd, F_GETFL)) for fd in sys.pipe2(flags)])


def close_on_exec(sys: Any, say: Any) -> None:
    """pipe2() with O_CLOEXEC sets FD_CLOEXEC on both ends, pipe() does not."""
    say([sys.fcntl(fd, 1) for fd in (*sys.pipe(), *sys.pipe2(O_CLOEXEC))])


def bad_flags(sys: Any, say: Any) -> None:
    """pipe2() with flags that it does not have gives EINVAL."""
    for flags in (1, 2, 0o100, 0o2000):
        say(attempt(sys.pipe2, flags))


def lowest_numbers(sys: Any, say: Any) -> None:
    """pipe() takes the two lowest free descriptors, the reading end first."""
    say(sys.pipe(), sys.pipe())
    sys.close(4)
    sys.close(6)
    say(sys.pipe(), sys.pipe())


def too_many_files(sys: Any, say: Any) -> None:
    """Where RLIMIT_NOFILE leaves no two numbers pipe() gives EMFILE and takes none."""
    sys.setrlimit(7, (6, 6))
    say(attempt(sys.pipe), attempt(sys.pipe), attempt(sys.dup, 0), attempt(sys.dup, 0))
    sys.close(4)
    say(attempt(sys.pipe), attempt(sys.dup, 0))


def two_pipes_talk(sys: Any, say: Any) -> None:
    """Two processes that answer each other through two pipes take turns."""
    there, back = sys.pipe(), sys.pipe()
    pid = sys.clone(_answers, there[0], back[1])
    for n in range(5):
        sys.write(there[1], bytes((n,)))
        say(n, sys.read(back[0], 1)[0])
    say(wait(sys, say, pid))


def _answers(sys: Any, read: int, write: int) -> None:
    for _ in range(5):
        sys.write(write, bytes((sys.read(read, 1)[0] * 2,)))


def chain(sys: Any, say: Any) -> None:
    """Data passes through a chain of processes, and so does the end."""
    first = source = sys.pipe()
    pids = []
    for _ in range(4):
        sink = sys.pipe()
        pids.append(sys.clone(_adds_one, source, sink))
        if source is not first:
            sys.close(source[0])
            sys.close(source[1])
        source = sink
    sys.write(first[1], bytes((1, 10, 100)))
    sys.close(first[1])
    sys.close(first[0])
    sys.close(source[1])
    data = b""
    while part := sys.read(source[0], 10):
        data += part
    say(list(data), [wait(sys, say, pid) for pid in pids])


def _adds_one(sys: Any, source: tuple[int, int], sink: tuple[int, int]) -> None:
    for fd in range(3, 12):
        if fd not in (source[0], sink[1]):
            attempt(sys.close, fd)
    while data := sys.read(source[0], 1):
        sys.write(sink[1], bytes((data[0] + 1,)))


def survives_its_maker(sys: Any, say: Any) -> None:
    """A pipe lives as long as a process has it: what a dead writer wrote is still read."""
    read, write = sys.pipe()
    pid = sys.clone(_writes, write, b"testament")
    sys.close(write)
    comes_to(sys, pid, "Z")
    say(sys.read(read, 100), sys.read(read, 100), wait(sys, say, pid))


def _writes(sys: Any, fd: int, data: bytes) -> None:
    sys.write(fd, data)


def reader_that_is_killed(sys: Any, say: Any) -> None:
    """A write after the last reader has been killed gives EPIPE."""
    read, write = sys.pipe()
    sys.sigaction(SIGPIPE, sys.SIG_IGN)
    pid = started(sys, _reads_one, read)
    sys.close(read)
    say(sys.write(write, b""), wait(sys, say, dead(sys)))
    kill(sys, pid)
    say(attempt(sys.write, write, b"x"), attempt(sys.kill, pid, 0))


def nonblock_is_per_end(sys: Any, say: Any) -> None:
    """O_NONBLOCK set on one end is not set on the other."""
    read, write = sys.pipe()
    sys.fcntl(read, F_SETFL, O_NONBLOCK)
    say(oct(sys.fcntl(read, F_GETFL)), oct(sys.fcntl(write, F_GETFL)), attempt(sys.read, read, 1))
    sys.fcntl(read, F_SETFL, 0)
    say(oct(sys.fcntl(read, F_GETFL)))
    pid = sys.clone(sleeper)
    kill(sys, pid)
