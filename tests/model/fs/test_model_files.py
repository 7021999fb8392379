"""Descriptors, names, files in memory, pipes: what programs see, with the errno that Linux gives."""

from __future__ import annotations

import errno
import os

import pytest


def result(call, *args):
    """Return the result of a call, or the name of its error."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def names(sys, argv):
    p = sys.puts
    p(str(result(sys.open, "/nosuch")))
    p(str(result(sys.open, "")))
    p(str(result(sys.open, "/etc/passwd/x")))
    p(str(result(sys.open, "/etc", os.O_WRONLY)))
    p(str(result(sys.open, "/etc/passwd", os.O_CREAT | os.O_EXCL)))
    p(str(result(sys.open, "/" + "x" * 300)))
    p(str(result(sys.mkdir, "/etc")))
    p(str(result(sys.chdir, "/etc/passwd")))
    p(str(result(sys.rename, "/nosuch", "/tmp/x")))
    p(str(result(sys.unlink, "/tmp")))
    p(str(result(sys.close, 99)))
    p(str(result(sys.dup2, 99, 3)))
    p(str(result(sys.read, 1, 0) if False else result(sys.lseek, 0, 0)))
    fd = sys.open("/tmp/file", os.O_WRONLY | os.O_CREAT)
    p(str(result(sys.read, fd, 1)))
    p(str(result(sys.listdir, "/tmp")))


def test_errors_of_names(ran):
    """Calls on names and descriptors fail as on Linux."""
    assert ran(names)[1].split("\n")[:-1] == [
        "ENOENT",
        "ENOENT",
        "ENOTDIR",
        "EISDIR",
        "EEXIST",
        "ENAMETOOLONG",
        "EEXIST",
        "ENOTDIR",
        "ENOENT",
        "EISDIR",
        "EBADF",
        "EBADF",
        "ESPIPE",
        "EBADF",
        "['file']",
    ]


def users(sys, argv):
    sys.chmod("/etc/passwd", 0o600)
    sys.setuid(1000)
    sys.puts(str(result(sys.open, "/etc/passwd")))
    sys.puts(str(result(sys.open, "/etc/new", os.O_CREAT | os.O_WRONLY)))
    sys.puts(str(result(sys.open, "/tmp/new", os.O_CREAT | os.O_WRONLY)))
    sys.puts(str(result(sys.chmod, "/bin/sh", 0o777)))


def test_permissions(ran):
    """Who is not root is held to the mode bits."""
    assert ran(users)[1] == "EACCES\nEACCES\n3\nEPERM\n"


def descriptors(sys, argv):
    fd = sys.open("/tmp/f", os.O_RDWR | os.O_CREAT)
    other = sys.dup(fd)
    sys.write(fd, b"hello")
    sys.puts(str(sys.lseek(other, 0, 1)))  # one position
    sys.lseek(fd, 0)
    sys.puts(sys.read(other, 10).decode())
    third = sys.open("/tmp/f", os.O_RDONLY | os.O_CLOEXEC)
    sys.puts(str(sys.read(third, 2).decode()))  # a position of its own
    sys.puts(f"{sys.fcntl(fd, 1)} {sys.fcntl(third, 1)}")
    sys.fcntl(third, 1030, 9)  # F_DUPFD_CLOEXEC
    sys.close(fd)
    sys.puts(str(sys.open("/dev/null") == fd))  # the lowest free number
    if sys.fork() == 0:
        sys.lseek(other, 1)
        sys.exit(0)
    sys.wait()
    sys.puts(str(sys.lseek(other, 0, 1)))  # shared with the child
    sys.execv("/bin/ls", ["ls", "/proc/self/fd"])


def test_descriptors(ran):
    """dup() and fork() share one open file; close-on-exec closes at exec; the lowest free number is given out."""
    assert ran(descriptors)[1] == "5\nhello\nhe\n0 1\nTrue\n1\n0\n1\n2\n3\n4\n5\n"


def piping(sys, argv):
    read_end, write_end = sys.pipe()
    if sys.fork() == 0:
        sys.close(read_end)
        for n in range(3):
            sys.nanosleep(1_000_000)
            sys.write(write_end, b"%d" % n)
        sys.exit(0)
    sys.close(write_end)
    while data := sys.read(read_end, 100):
        sys.puts(data.decode())
    sys.puts("end")


def test_pipe_blocks_and_ends(ran):
    """A reader waits for a writer, and sees the end when the last writer has closed."""
    assert ran(piping)[1] == "0\n1\n2\nend\n"


def full(sys, argv):
    read_end, write_end = sys.pipe()
    sys.fcntl(write_end, 4, os.O_NONBLOCK)
    total = 0
    while True:
        got = result(sys.write, write_end, b"x" * 4096)
        if got == "EAGAIN":
            break
        total += got
    sys.puts(str(total))
    sys.puts(str(result(sys.read, read_end, 5)))
    sys.fcntl(read_end, 4, os.O_NONBLOCK)
    while result(sys.read, read_end, 65536) not in ("EAGAIN", b""):
        pass
    sys.puts(str(result(sys.read, read_end, 5)))


def test_pipe_holds_64_kib(ran):
    """A pipe takes 16 pages; then a writer that does not wait gets EAGAIN, and so does a reader of an empty one."""
    assert ran(full)[1] == "65536\nb'xxxxx'\nEAGAIN\n"


def broken(sys, argv):
    read_end, write_end = sys.pipe()
    sys.close(read_end)
    sys.sigaction(13, 1)
    sys.puts(str(result(sys.write, write_end, b"x")))
    sys.sigaction(13, 0)
    sys.write(write_end, b"x")


def test_broken_pipe(ran):
    """A writer without readers gets SIGPIPE, or EPIPE if it ignores that."""
    assert ran(broken) == (-13, "EPIPE\n")


def many(sys, argv):
    sys.setrlimit(7, (10, 10))
    fds = []
    while True:
        fd = result(sys.open, "/dev/null")
        if isinstance(fd, str):
            sys.puts(f"{fds} {fd}")
            break
        fds.append(fd)
    sys.puts(str(result(sys.pipe)))


def test_descriptor_limit(ran):
    """RLIMIT_NOFILE is the number of the first descriptor that is refused: EMFILE."""
    assert ran(many)[1] == "[3, 4, 5, 6, 7, 8, 9] EMFILE\nEMFILE\n"


def test_files_of_the_dead_are_closed(k):
    """When every process that had a pipe open has died, nothing of it is left."""
    process = k.spawn(piping)
    process.wait()
    k.run(s=0.2)
    assert all(f.f_count > 0 for t in k.machine_tasks() if t.files is not None for f in t.files.fd if f is not None)


@pytest.mark.parametrize(
    "path", ["stat", "status", "comm", "cmdline", "wchan", "stack", "schedstat", "statm", "oom_score_adj"]
)
def test_proc_of_every_task(k, path: str):
    """Each file of /proc/PID can be read for each task."""
    k.spawn("sleep", "5")
    k.run(s=0.1)
    for task in k.machine_tasks():
        k.read(f"/proc/{task.pid}/{path}")


def test_proc_stat(k):
    """/proc/PID/stat has the 52 fields of proc(5), in the state and with the ids that the task has."""
    process = k.spawn("sleep", "5")
    k.run(s=0.1)
    line = k.read(f"/proc/{process.pid}/stat").decode()
    fields = line.rsplit(") ", 1)[1].split()
    assert line.startswith(f"{process.pid} (sleep) S 1 ")
    assert len(fields) == 50
    assert int(fields[1]) == 1
    assert int(fields[17]) == 1  # num_threads
    assert int(fields[35]) == 17  # exit_signal


def test_proc_of_the_reaped(k):
    """A directory of /proc goes with its task."""
    process = k.spawn("true")
    process.wait()
    with pytest.raises(FileNotFoundError):
        k.read(f"/proc/{process.pid}/stat")


def test_proc_wchan(k):
    """Wchan and stack are read off the stack of the sleeping task."""
    process = k.spawn("sleep", "5")
    k.run(s=0.1)
    assert k.read(f"/proc/{process.pid}/wchan") == b"hrtimer_nanosleep"
    stack = k.read(f"/proc/{process.pid}/stack").decode()
    assert "hrtimer_nanosleep+0x" in stack
    assert "sys_nanosleep+0x" in stack


def test_comm_can_be_written(ran):
    """A thread names itself by /proc/self/comm."""
    assert ran("bash", "-c", "echo renamed > /proc/self/comm; cat /proc/$$/comm")[1] == "renamed\n"


def test_proc_children(k):
    """/proc/PID/task/TID/children lists those that the thread created."""
    process = k.spawn("bash", "-c", "sleep 5 & sleep 6 & wait")
    k.run(s=0.1)
    assert list(map(int, k.read(f"/proc/{process.pid}/task/{process.pid}/children").split())) == k.pids("sleep")


def test_interrupts(k):
    """/proc/interrupts counts what each CPU took."""
    k.run(s=0.5)
    lines = k.read("/proc/interrupts").decode().splitlines()
    timer = next(line for line in lines if "timer" in line.lower())
    assert int(timer.split()[1]) > 0
