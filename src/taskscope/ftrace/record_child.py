"""The command that is recorded: forked, held until the recorder is ready, then exec'd as the user who called.

Between fork and exec it waits in one read of a pipe, so its pid is known to the kernel's filters before anything of
its program happens.  If the recorder dies meanwhile the pipe closes, and the child ends without running anything.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from taskscope.errors import TaskscopeError, UsageError


class CommandError(TaskscopeError):
    """The command could not be started: exit code 127 if it was not found, 126 else, as shells have it."""

    def __init__(self, command: str, code: int) -> None:
        if code == errno.ENOENT:
            what = "is not found; check the name, or give its path"
        elif code == errno.ENOEXEC:
            what = "is no program (neither ELF nor a #! script); run it by its interpreter"
        else:
            what = f"cannot be run: {os.strerror(code)}"
        super().__init__(f"{command}: {what}")
        self.exit_code = 127 if code == errno.ENOENT else 126


@dataclass(frozen=True, slots=True)
class User:
    """Whom a command runs as."""

    name: str
    uid: int
    gid: int
    home: str | None = None
    shell: str | None = None


def calling_user(environ: Mapping[str, str]) -> User | None:
    """Return who called sudo, None where nobody did: then nothing changes.

    Follows sudo(8): SUDO_UID, SUDO_GID and SUDO_USER are set for the command.
    """
    if os.geteuid() != 0:
        return None
    uid, gid = environ.get("SUDO_UID", ""), environ.get("SUDO_GID", "")
    if not (uid.isascii() and uid.isdigit()) or int(uid) == 0 or int(uid) >= 1 << 32:
        return None
    import pwd

    try:
        entry = pwd.getpwuid(int(uid))
    except KeyError:
        group = int(gid) if gid.isascii() and gid.isdigit() and int(gid) < 1 << 32 else int(uid)
        return User(environ.get("SUDO_USER", uid), int(uid), group)
    group = int(gid) if gid.isascii() and gid.isdigit() and int(gid) < 1 << 32 else entry.pw_gid
    return User(entry.pw_name, entry.pw_uid, group, entry.pw_dir, entry.pw_shell)


def named_user(name: str) -> User:
    """Return the user of ``--user NAME`` (a name or a number).

    :raises UsageError: there is none, or this process may not become him
    """
    import pwd

    try:
        entry = pwd.getpwuid(int(name)) if name.isascii() and name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError, ValueError):
        raise UsageError(f"--user {name!r}: there is no such user here; `getent passwd` lists them") from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise UsageError(f"--user {name}: only root may run the command as somebody else")
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def environment(user: User | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that the command gets: the user's own names in it, and no trace of sudo."""
    env = dict(environ)
    if user is None:
        return env
    for key in ("SUDO_USER", "SUDO_UID", "SUDO_GID", "SUDO_COMMAND", "SUDO_HOME", "MAIL"):
        env.pop(key, None)
    env["USER"] = env["LOGNAME"] = user.name
    if user.home is not None:
        env["HOME"] = user.home
    if user.shell:
        env["SHELL"] = user.shell
    return env


class Command:
    """One command: held by `__init__`, started by `start`, awaited through `pidfd`.

    :param argv: program and arguments; no shell is involved
    :param user: whom to become, None to stay
    :param ignores: it ignores the signals that were ignored when this process began
    """

    def __init__(self, argv: Sequence[str], user: User | None = None, *, ignores: bool = True) -> None:
        self.argv = list(argv)
        self._ignored = _ignored if ignores else frozenset()
        self.status: int | None = None            # wait status, None while it lives
        self._env = environment(user, os.environ)
        go_read, self._go = os.pipe2(os.O_CLOEXEC)
        self._failed, failed_write = os.pipe2(os.O_CLOEXEC)
        with warnings.catch_warnings():
            # Python warns of a fork beside threads of a library; this child does nothing but wait and exec.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go)
            os.close(self._failed)
            self._run(go_read, failed_write, user)
        os.close(go_read)
        os.close(failed_write)
        self.pidfd = os.pidfd_open(self.pid)

    def _run(self, go: int, failed: int, user: User | None) -> NoReturn:
        """Wait for the word in the child, then become the command; never returns."""
        code = errno.EINVAL
        try:
            # What Python set for itself, and the recorder for its own end, is not the command's.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE,
                           signal.SIGXFSZ, signal.SIGCHLD):
                if number not in self._ignored:
                    signal.signal(number, signal.SIG_DFL)
            if os.read(go, 1) != b"x":
                os._exit(127)
            signal.pthread_sigmask(signal.SIG_SETMASK, _mask)
            if user is not None and os.geteuid() == 0:
                os.initgroups(user.name, user.gid) if _known(user) else os.setgroups([user.gid])
                os.setresgid(user.gid, user.gid, user.gid)
                os.setresuid(user.uid, user.uid, user.uid)
            os.execvpe(self.argv[0], self.argv, self._env)
        except OSError as e:
            code = e.errno or errno.EINVAL
        except BaseException:
            code = errno.EINVAL
        with contextlib.suppress(OSError):
            os.write(failed, struct.pack("i", code))
        os._exit(127)

    def start(self) -> None:
        """Let the command run; return when its exec is done.

        :raises CommandError: it cannot be run
        """
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, b"x")
        self._close_go()
        answer = os.read(self._failed, 4)
        os.close(self._failed)
        self._failed = -1
        if len(answer) == 4:
            self.reap()
            raise CommandError(self.argv[0], struct.unpack("i", answer)[0])

    def reap(self) -> int:
        """Wait for the end of the command; return its wait status."""
        while self.status is None:
            try:
                self.status = os.waitpid(self.pid, 0)[1]
            except ChildProcessError:             # SIGCHLD is ignored: the kernel has reaped it
                self.status = 0
        return self.status

    def ended(self) -> bool:
        """Reap the command if it has ended; tell whether it has."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self.status = status
        return self.status is not None

    def send(self, number: int) -> None:
        """Send the command a signal, if it lives still."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self.pidfd, number)

    def exit_code(self) -> int | None:
        """Return its exit status as shells do: 128 and the signal for one that was killed; None while it lives."""
        if self.status is None:
            return None
        code = os.waitstatus_to_exitcode(self.status)
        return 128 - code if code < 0 else code

    def drop(self) -> None:
        """End a command that was never started, and let go of one that runs."""
        self._close_go()
        if self._failed >= 0:                     # not started: it reads the end of the pipe and exits
            os.close(self._failed)
            self._failed = -1
            self.reap()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def _close_go(self) -> None:
        if self._go >= 0:
            os.close(self._go)
            self._go = -1


#: signals that were ignored when this process began (nohup), and its mask then: the command inherits both
_ignored = frozenset(n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
                     if signal.getsignal(n) is signal.SIG_IGN)
_mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())


def _known(user: User) -> bool:
    import pwd

    try:
        pwd.getpwnam(user.name)
    except KeyError:
        return False
    return True


def tasks_of(pid: int) -> list[int]:
    """Return the threads of a process (of any thread of it), or the thread alone.

    :raises UsageError: there is no such process
    """
    try:
        return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208  names, not paths
    except OSError:
        raise UsageError(f"-p {pid}: there is no process with that pid") from None


def comm_of(tid: int) -> bytes | None:
    """Return the name of a task that runs now, None if it is gone."""
    try:
        return Path(f"/proc/{tid}/comm").read_bytes().removesuffix(b"\n")
    except OSError:
        return None


@contextlib.contextmanager
def awaited(pids: Sequence[int]) -> Iterator[list[int]]:
    """Give descriptors that tell the ends of processes."""
    fds: list[int] = []
    try:
        for pid in pids:
            with contextlib.suppress(OSError):
                m = re.search(rb"^Tgid:\s*(\d+)", Path(f"/proc/{pid}/status").read_bytes(), re.MULTILINE)
                fds.append(os.pidfd_open(int(m[1]) if m else pid))
        yield fds
    finally:
        for fd in fds:
            os.close(fd)
