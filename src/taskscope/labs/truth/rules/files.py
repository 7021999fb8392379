"""Descriptors: numbers, copies, flags; what exec closes.  fs/file.c, fs/fcntl.c, dup(2), fcntl(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import attempt, execute, raw, wait

F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC = 0, 1, 2, 3, 4, 1030
O_WRONLY, O_RDWR, O_CREAT, O_EXCL, O_TRUNC, O_APPEND = 1, 2, 0o100, 0o200, 0o1000, 0o2000
O_NONBLOCK, O_DIRECTORY, O_CLOEXEC = 0o4000, 0o200000, 0o2000000
CLOEXEC = 1


def lowest_free(sys: Any, say: Any) -> None:
    """open() and dup() take the lowest free number."""
    say([sys.dup(0) for _ in range(4)])
    sys.close(4)
    sys.close(3)
    say(sys.open("/dev/null"), sys.dup(0), sys.dup(0))


def dup2_to_number(sys: Any, say: Any) -> None:
    """dup2() closes what the number was, and copies without FD_CLOEXEC."""
    read, write = sys.pipe2(O_CLOEXEC)
    say(sys.dup2(write, 40), sys.fcntl(40, F_GETFD), sys.fcntl(write, F_GETFD))
    sys.close(write)
    sys.write(40, b"x")
    say(sys.read(read, 10), sys.dup2(0, 40), sys.read(read, 10))


def dup2_to_itself(sys: Any, say: Any) -> None:
    """dup2() of a descriptor to itself returns it and leaves its flags; of a closed one it gives EBADF."""
    read, _ = sys.pipe2(O_CLOEXEC)
    say(sys.dup2(read, read) == read, sys.fcntl(read, F_GETFD), attempt(sys.dup2, 50, 50))


def dup3_to_itself(sys: Any, say: Any) -> None:
    """dup3() of a descriptor to itself gives EINVAL, and so do flags that it does not have."""
    say(raw(sys, "dup3", 0, 0, 0), raw(sys, "dup3", 0, 10, 1), raw(sys, "dup3", 0, 10, O_CLOEXEC),
        sys.fcntl(10, F_GETFD))


def bad_descriptors(sys: Any, say: Any) -> None:
    """Numbers that are no descriptor give EBADF."""
    for fd in (20, -1, 100_000):
        say(fd, attempt(sys.close, fd), attempt(sys.dup, fd), attempt(sys.fcntl, fd, F_GETFD), attempt(sys.read, fd, 1),
            attempt(sys.write, fd, b""), attempt(sys.dup2, fd, 3), attempt(sys.lseek, fd, 0))


def dup2_bad_target(sys: Any, say: Any) -> None:
    """dup2() to a negative number, or to one that the limit does not allow, gives EBADF."""
    sys.setrlimit(7, (30, 30))
    say(attempt(sys.dup2, 0, -1), attempt(sys.dup2, 0, 30), attempt(sys.dup2, 0, 29))


def dupfd_from(sys: Any, say: Any) -> None:
    """F_DUPFD takes the lowest free number from the given one on; F_DUPFD_CLOEXEC sets FD_CLOEXEC."""
    say(sys.fcntl(0, F_DUPFD, 10), sys.fcntl(0, F_DUPFD, 10), sys.fcntl(0, F_DUPFD_CLOEXEC, 10))
    say([sys.fcntl(fd, F_GETFD) for fd in (10, 11, 12)])
    sys.close(10)
    say(sys.fcntl(0, F_DUPFD, 3), sys.fcntl(0, F_DUPFD, 10))


def dupfd_beyond_limit(sys: Any, say: Any) -> None:
    """F_DUPFD from a number at or above the limit, or a negative one, gives EINVAL; without a free number EMFILE."""
    sys.setrlimit(7, (8, 8))
    say(attempt(sys.fcntl, 0, F_DUPFD, 8), attempt(sys.fcntl, 0, F_DUPFD, -1), attempt(sys.fcntl, 0, F_DUPFD, 7),
        attempt(sys.fcntl, 0, F_DUPFD, 7))


def flags_of_descriptor_and_file(sys: Any, say: Any) -> None:
    """FD_CLOEXEC is the descriptor's, O_APPEND and O_NONBLOCK are the open file's: copies share these."""
    fd = sys.open("/mnt/flags", O_RDWR | O_CREAT)
    copy = sys.dup(fd)
    sys.fcntl(fd, F_SETFD, CLOEXEC)
    sys.fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK)
    say(sys.fcntl(copy, F_GETFD), oct(sys.fcntl(copy, F_GETFL) & (O_APPEND | O_NONBLOCK)))


def setfl_keeps_access_mode(sys: Any, say: Any) -> None:
    """F_SETFL does not change how a file was opened."""
    fd = sys.open("/mnt/mode", O_WRONLY | O_CREAT)
    sys.fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK | O_CREAT | O_TRUNC)
    say(oct(sys.fcntl(fd, F_GETFL) & (3 | O_NONBLOCK | O_CREAT | O_TRUNC)), attempt(sys.read, fd, 1))


def offset_of_copies(sys: Any, say: Any) -> None:
    """Copies of a descriptor share the offset, a second open() has its own."""
    fd = sys.open("/mnt/offset", O_RDWR | O_CREAT)
    copy, other = sys.dup(fd), sys.open("/mnt/offset", O_RDWR)
    sys.write(fd, b"abcdef")
    say(sys.lseek(copy, 0, 1), sys.lseek(other, 0, 1), sys.read(other, 3), sys.lseek(copy, 1), sys.read(fd, 10))


def append(sys: Any, say: Any) -> None:
    """With O_APPEND every write goes to the end, wherever the offset is."""
    fd = sys.open("/mnt/append", O_RDWR | O_CREAT | O_APPEND)
    sys.write(fd, b"one")
    sys.lseek(fd, 0)
    sys.write(fd, b"two")
    say(sys.lseek(fd, 0, 1))
    sys.lseek(fd, 0)
    say(sys.read(fd, 100))


def truncate_on_open(sys: Any, say: Any) -> None:
    """O_TRUNC empties a file, O_EXCL refuses one that is there."""
    fd = sys.open("/mnt/trunc", O_RDWR | O_CREAT | O_EXCL)
    sys.write(fd, b"data")
    say(attempt(sys.open, "/mnt/trunc", O_RDWR | O_CREAT | O_EXCL))
    sys.open("/mnt/trunc", O_RDWR | O_TRUNC)
    sys.lseek(fd, 0)
    say(sys.read(fd, 10))


def seek_modes(sys: Any, say: Any) -> None:
    """lseek() counts from the start, from here, from the end; before the start it gives EINVAL."""
    fd = sys.open("/mnt/seek", O_RDWR | O_CREAT)
    sys.write(fd, b"0123456789")
    say(sys.lseek(fd, 3), sys.lseek(fd, 2, 1), sys.lseek(fd, -1, 2), attempt(sys.lseek, fd, -1), sys.lseek(fd, 20))
    say(sys.read(fd, 5), sys.write(fd, b"x"), sys.lseek(fd, 0, 2), sys.lseek(fd, 9), sys.read(fd, 4))


def unlinked_file_lives(sys: Any, say: Any) -> None:
    """A file without a name lives as long as it is open."""
    fd = sys.open("/mnt/gone", O_RDWR | O_CREAT)
    sys.write(fd, b"still here")
    sys.unlink("/mnt/gone")
    sys.lseek(fd, 0)
    say(attempt(sys.open, "/mnt/gone"), sys.read(fd, 100))


def open_errors(sys: Any, say: Any) -> None:
    """open() tells what is wrong: ENOENT, ENOTDIR, EISDIR, EEXIST."""
    sys.open("/mnt/plain", O_RDWR | O_CREAT)
    for path, flags in (
        ("/mnt/none", 0), ("/mnt/plain/x", 0), ("/mnt/plain", O_DIRECTORY), ("/mnt", O_WRONLY), ("", 0),
        ("/mnt", O_WRONLY | O_CREAT), ("/mnt/plain", O_CREAT | O_EXCL), ("/none/x", O_CREAT),
    ):
        say(path or "(empty)", oct(flags), attempt(sys.open, path, flags))


def umask_of_new_files(sys: Any, say: Any) -> None:
    """The umask takes permissions away from new files, and umask() returns the one before, nine bits of it."""
    say(oct(sys.umask(0o27)), oct(sys.umask(0o7777)), oct(sys.umask(0o27)))
    sys.open("/mnt/masked", O_CREAT | O_WRONLY, 0o666)
    say(oct(sys.stat("/mnt/masked").st_mode))


def exec_closes(sys: Any, say: Any) -> None:
    """An exec closes descriptors with FD_CLOEXEC and keeps the others, with their offsets."""
    fd = sys.open("/mnt/kept", O_RDWR | O_CREAT)
    sys.write(fd, b"abc")
    sys.dup2(fd, 20)
    sys.dup2(fd, 21)
    sys.fcntl(20, F_SETFD, CLOEXEC)
    say(wait(sys, say, sys.clone(_executes)))
    say([sys.fcntl(n, F_GETFD) for n in (20, 21)])


def _executes(sys: Any) -> None:
    execute(sys, _says_open)


def _says_open(sys: Any, say: Any) -> None:
    say([attempt(sys.fcntl, n, F_GETFD) for n in (0, 1, 2, 20, 21)], sys.lseek(21, 0, 1))


def exec_that_fails_closes_nothing(sys: Any, say: Any) -> None:
    """An exec that fails leaves descriptors with FD_CLOEXEC open."""
    read, _ = sys.pipe2(O_CLOEXEC)
    say(attempt(sys.execve, "/mnt/none", ["none"], {}), sys.fcntl(read, F_GETFD))


def exec_unshares(sys: Any, say: Any) -> None:
    """A process that shares descriptors with another has its own after exec."""
    read, write = sys.pipe()
    sys.dup2(read, 30)
    pid = sys.clone(_executes_and_closes, flags=17 | 0x400)
    say(wait(sys, say, pid), [attempt(sys.fcntl, n, F_GETFD) for n in (read, write, 30)])


def _executes_and_closes(sys: Any) -> None:
    execute(sys, _closes_thirty)


def _closes_thirty(sys: Any, say: Any) -> None:
    say("program", attempt(sys.close, 30), attempt(sys.close, 30))


def directory(sys: Any, say: Any) -> None:
    """chdir() and getcwd() agree; chdir() to what is no directory gives ENOTDIR, to nothing ENOENT."""
    sys.mkdir("/mnt/room")
    sys.open("/mnt/room/file", O_CREAT | O_WRONLY)
    sys.chdir("/mnt/room")
    say(sys.getcwd(), attempt(sys.chdir, "file"), attempt(sys.chdir, "none"), attempt(sys.chdir, ".."), sys.getcwd())
    say(attempt(sys.mkdir, "/mnt/room"), sorted(sys.listdir("/mnt/room")))
