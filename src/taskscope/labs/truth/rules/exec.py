"""execve(2): what a process keeps and what it loses, and why a program is refused.  fs/exec.c, execve(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import root
from taskscope.labs.truth.rules.kit import PROGRAM, Gate, attempt, dead, ends, execute, field, sig, sleeper, stat, wait

SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD = 1, 10, 12, 15, 17
BLOCK, SETMASK = 0, 2
CLONE_FS, CLONE_VFORK = 0x200, 0x4000
O_WRONLY, O_CREAT = 1, 0o100


def _child(sys: Any, say: Any, fn: Any, *args: str) -> None:
    """Let a child execute a program, and say how that ended."""
    say(wait(sys, say, sys.clone(_executes, fn, *args)))


def _executes(sys: Any, fn: Any, *args: str) -> None:
    execute(sys, fn, *args)


# ---- what stays -----------------------------------------------------------------------------------------

def keeps_pid(sys: Any, say: Any) -> None:
    """A process that executes a program keeps its pid and its parent, which waits for it as before."""
    pid = sys.clone(_executes_own_pid)
    say(wait(sys, say, pid))


def _executes_own_pid(sys: Any) -> None:
    execute(sys, _says_pid, str(sys.getpid()), str(sys.getppid()))


def _says_pid(sys: Any, say: Any, pid: str, parent: str) -> int:
    say("program", sys.getpid() == int(pid), sys.gettid() == int(pid), sys.getppid() == int(parent))
    return 7


def twice(sys: Any, say: Any) -> None:
    """A program can execute another, in the same process."""
    pid = sys.clone(_executes_first)
    say(wait(sys, say, pid))


def _executes_first(sys: Any) -> None:
    execute(sys, _executes_second, str(sys.getpid()))


def _executes_second(sys: Any, say: Any, pid: str) -> None:
    say("first", sys.getpid() == int(pid))
    execute(sys, _says_pid, pid, str(sys.getppid()))


def arguments(sys: Any, say: Any) -> None:
    """A program gets its arguments as they were given, empty ones too."""
    _child(sys, say, _says_arguments, "one", "", "with space", "-x")


def _says_arguments(sys: Any, say: Any, *args: str) -> None:
    del sys
    say(len(args), [repr(arg) for arg in args])


def keeps_group_and_session(sys: Any, say: Any) -> None:
    """A program is in the process group and session that its process was in."""
    pid = sys.clone(_groups_and_executes)
    say(wait(sys, say, pid))


def _groups_and_executes(sys: Any) -> None:
    sys.setpgid(0, 0)
    execute(sys, _says_group, str(sys.getsid(0)))


def _says_group(sys: Any, say: Any, session: str) -> None:
    say("program", sys.getpgid(0) == sys.getpid(), sys.getsid(0) == int(session))


def keeps_surroundings(sys: Any, say: Any) -> None:
    """Umask, directory, nice value and limits stay over an exec."""
    sys.umask(0o57)
    sys.chdir("/mnt")
    sys.setpriority(0, 0, 3)
    sys.setrlimit(7, (950, 1000))
    _child(sys, say, _says_surroundings)


def _says_surroundings(sys: Any, say: Any) -> None:
    say(oct(sys.umask(0)), sys.getcwd(), sys.getpriority(0, 0), sys.getrlimit(7))


def keeps_mask_and_pending(sys: Any, say: Any) -> None:
    """Blocked signals stay blocked over an exec, pending ones pending, for the thread and for the process."""
    pid = sys.clone(_blocks_and_executes)
    say(wait(sys, say, pid))


def _blocks_and_executes(sys: Any) -> None:
    sys.sigprocmask(SETMASK, sig(SIGUSR1, SIGUSR2, SIGTERM))
    sys.kill(sys.getpid(), SIGUSR1)
    sys.raise_(SIGTERM)
    execute(sys, _says_mask)


def _says_mask(sys: Any, say: Any) -> None:
    me = sys.getpid()
    say(hex(sys.sigprocmask(BLOCK, 0)), hex(sys.sigpending()), field(sys, me, "SigPnd"), field(sys, me, "ShdPnd"))


def pending_is_delivered_after(sys: Any, say: Any) -> None:
    """A signal that was pending at an exec kills the program when that unblocks it."""
    pid = sys.clone(_blocks_and_executes_more)
    say(wait(sys, say, pid))


def _blocks_and_executes_more(sys: Any) -> None:
    sys.sigprocmask(SETMASK, sig(SIGTERM))
    sys.kill(sys.getpid(), SIGTERM)
    execute(sys, _unblocks)


def _unblocks(sys: Any, say: Any) -> None:
    say("program", hex(sys.sigpending()))
    sys.sigprocmask(SETMASK, 0)
    say("not reached")


def keeps_children(sys: Any, say: Any) -> None:
    """Children of a process are children of the program that it executes."""
    pid = sys.clone(_forks_and_executes)
    say(wait(sys, say, pid))


def _forks_and_executes(sys: Any) -> None:
    execute(sys, _waits_for_child, str(dead(sys, 5)))


def _waits_for_child(sys: Any, say: Any, pid: str) -> None:
    say("program", wait(sys, say, int(pid)), wait(sys, say))


def keeps_prctl(sys: Any, say: Any) -> None:
    """no_new_privs, the parent-death signal and being a subreaper stay over an exec."""
    pid = sys.clone(_sets_and_executes)
    say(wait(sys, say, pid))


def _sets_and_executes(sys: Any) -> None:
    sys.prctl(38, 1, 0, 0, 0)
    sys.prctl(1, SIGUSR1)
    sys.prctl(36, 1)
    execute(sys, _says_prctl)


def _says_prctl(sys: Any, say: Any) -> None:
    say(sys.prctl(39, 0, 0, 0, 0), sys.prctl_get(2), sys.prctl_get(37))


def shares_directory_on(sys: Any, say: Any) -> None:
    """A process that shares its directory with another (CLONE_FS) does so after an exec, too."""
    pid = sys.clone(_executes, _changes_directory, flags=SIGCHLD | CLONE_FS)
    say(wait(sys, say, pid), sys.getcwd(), oct(sys.umask(0o22)))


def _changes_directory(sys: Any, say: Any) -> None:
    sys.chdir("/mnt")
    sys.umask(0o77)
    say("program", sys.getcwd())


# ---- what goes ------------------------------------------------------------------------------------------

def handlers_go(sys: Any, say: Any) -> None:
    """Handled signals have the default action after an exec, ignored ones stay ignored; flags and masks are gone."""
    sys.sigaction(SIGUSR1, _nothing, 0x50000000, sig(SIGHUP))
    sys.sigaction(SIGUSR2, sys.SIG_IGN, 0x10000000, sig(SIGHUP))
    _child(sys, say, _says_actions)
    say("parent", sys.sigaction(SIGUSR1)[1:])


def _nothing(sys: Any, signal: int, info: Any) -> None:
    del sys, signal, info


def _says_actions(sys: Any, say: Any) -> None:
    for signal in (SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD):
        say(signal, sys.sigaction(signal))


def ignored_sigchld_stays(sys: Any, say: Any) -> None:
    """SIGCHLD that is ignored stays so over an exec: the program's children leave no zombies."""
    sys.sigaction(SIGCHLD, sys.SIG_IGN)
    pid = sys.clone(_executes, _forks_and_waits)
    say(wait(sys, say, pid))


def _forks_and_waits(sys: Any, say: Any) -> None:
    say("program", sys.sigaction(SIGCHLD)[0], wait(sys, say, sys.clone(ends, 3)))


def handled_signal_kills_after(sys: Any, say: Any) -> None:
    """A signal that had a handler kills the program that was executed."""
    sys.sigaction(SIGUSR1, _nothing)
    _child(sys, say, _kills_itself)


def _kills_itself(sys: Any, say: Any) -> None:
    say("program")
    sys.kill(sys.getpid(), SIGUSR1)


def name_changes(sys: Any, say: Any) -> None:
    """A process is called as the file that it executes, whatever it was called before and whatever argv[0] says."""
    sys.prctl(15, b"old name")
    _child(sys, say, _says_name)
    say("parent", stat(sys, sys.getpid())[1])


def _says_name(sys: Any, say: Any) -> None:
    say(stat(sys, sys.getpid())[1], sys.prctl_get(16))


def dumpable_again(sys: Any, say: Any) -> None:
    """A process that has made itself not dumpable is dumpable again after an exec."""
    say(sys.prctl(4, 0), sys.prctl(3))
    _child(sys, say, _says_dumpable)


def _says_dumpable(sys: Any, say: Any) -> None:
    say("program", sys.prctl(3))


def vfork_parent_goes_on(sys: Any, say: Any) -> None:
    """The exec of a vfork()ed child lets the parent go on, and later its end is told as usual."""
    gate = Gate(sys)
    pid = sys.clone(_executes, _reads_and_ends, str(gate.read), flags=SIGCHLD | CLONE_VFORK)
    say("parent")
    gate.open(sys)
    say(wait(sys, say, pid))


def _reads_and_ends(sys: Any, say: Any, fd: str) -> int:
    sys.read(int(fd), 1)
    say("program")
    return 9


# ---- threads --------------------------------------------------------------------------------------------

def ends_other_threads(sys: Any, say: Any) -> None:
    """An exec by the first thread ends all others."""
    pid = sys.clone(_threads_and_executes)
    say(wait(sys, say, pid))


def _threads_and_executes(sys: Any) -> None:
    for _ in range(3):
        sys.pthread_create(sleeper)
    execute(sys, _says_threads, str(sys.getpid()))


def _says_threads(sys: Any, say: Any, pid: str) -> None:
    say(sys.getpid() == int(pid), sys.gettid() == int(pid), field(sys, sys.getpid(), "Threads"))


def by_another_thread(sys: Any, say: Any) -> None:
    """An exec by another thread than the first goes on with the pid of the process; that thread's tid is gone."""
    pid = sys.clone(_thread_executes)
    say(wait(sys, say, pid))


def _thread_executes(sys: Any) -> None:
    sys.pthread_create(_executes_as_thread, sys.getpid())
    sleeper(sys)


def _executes_as_thread(sys: Any, pid: int) -> None:
    execute(sys, _says_threads_and, str(pid), str(sys.gettid()))


def _says_threads_and(sys: Any, say: Any, pid: str, tid: str) -> None:
    _says_threads(sys, say, pid)
    say(tid == pid, attempt(sys.kill, int(tid), 0))


def that_fails_ends_no_thread(sys: Any, say: Any) -> None:
    """An exec that fails leaves threads, handlers and name as they are."""
    gate = Gate(sys)
    sys.pthread_create(_passes, gate)
    sys.sigaction(SIGUSR1, _nothing)
    sys.prctl(15, b"unchanged")
    say(attempt(sys.execve, "/mnt/none", ["none"], {}), field(sys, sys.getpid(), "Threads"),
        sys.sigaction(SIGUSR1)[0] is _nothing, sys.prctl_get(16))


def _passes(sys: Any, gate: Gate) -> None:
    gate.wait(sys)


# ---- what is refused ------------------------------------------------------------------------------------

def nothing_there(sys: Any, say: Any) -> None:
    """A path that leads nowhere gives ENOENT, one through a file ENOTDIR, one that is too long ENAMETOOLONG."""
    sys.close(sys.open("/mnt/plain", O_CREAT | O_WRONLY, 0o755))
    for path in ("/mnt/none", "", "/none/none", "/mnt/plain/x", "/mnt/" + "x" * 256, "/" * 5000):
        say(path[:12] or "(empty)", attempt(sys.execve, path, ["x"], {}))


def not_executable(sys: Any, say: Any) -> None:
    """A file without a permission to execute, and a directory, give EACCES, for root too."""
    sys.close(sys.open("/mnt/text", O_CREAT | O_WRONLY, 0o644))
    for path in ("/mnt/text", "/mnt", "/", "/dev/null"):
        say(path, attempt(sys.execve, path, ["x"], {}))


def no_format(sys: Any, say: Any) -> None:
    """An executable file that is no program gives ENOEXEC, an empty one too."""
    for name, text in (("empty", b""), ("text", b"hello\n")):
        fd = sys.open(f"/mnt/{name}", O_CREAT | O_WRONLY, 0o755)
        sys.write(fd, text)
        sys.close(fd)
        say(name, attempt(sys.execve, f"/mnt/{name}", ["x"], {}))


def script_without_interpreter(sys: Any, say: Any) -> None:
    """A script whose interpreter is not there gives ENOENT, one without a name ENOEXEC."""
    for name, text in (("lost", b"#!/mnt/none\n"), ("nameless", b"#!\n"), ("spaces", b"#!   \n")):
        fd = sys.open(f"/mnt/{name}", O_CREAT | O_WRONLY, 0o755)
        sys.write(fd, text)
        sys.close(fd)
        say(name, attempt(sys.execve, f"/mnt/{name}", ["x"], {}))


def open_for_writing(sys: Any, say: Any) -> None:
    """A program that is open for writing cannot be executed: ETXTBSY."""
    fd = sys.open("/mnt/busy", O_CREAT | O_WRONLY, 0o755)
    sys.write(fd, b"#!/mnt/none\n")
    say(attempt(sys.execve, "/mnt/busy", ["x"], {}))
    sys.close(fd)
    say(attempt(sys.execve, "/mnt/busy", ["x"], {}))


@root
def running_program(sys: Any, say: Any) -> None:
    """The file of a program that runs cannot be opened for writing: ETXTBSY."""
    gate, done = Gate(sys), Gate(sys)
    pid = sys.clone(_executes, _tells_and_waits, str(gate.write), str(done.read))
    gate.wait(sys)
    say(attempt(sys.open, PROGRAM, O_WRONLY))
    done.open(sys)
    say(wait(sys, say, pid))


def _tells_and_waits(sys: Any, say: Any, write: str, read: str) -> None:
    say("program")
    sys.write(int(write), b"x")
    sys.read(int(read), 1)
