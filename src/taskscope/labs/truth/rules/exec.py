"""execve(2): what a process keeps and what it loses.  fs/exec.c, execve(2)."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules.kit import Gate, attempt, comes_to, dead, execute, sig, stat, wait

SIGUSR1, SIGUSR2, SIGALRM, SIGCHLD, SIGTERM, SIGRTMIN = 10, 12, 14, 17, 15, 34
SIG_DFL, SIG_IGN, SIG_BLOCK = 0, 1, 0
WNOHANG, WCLONE = 1, 0x8000_0000
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE, PR_SET_NAME, PR_GET_NAME = 1, 2, 3, 4, 15, 16
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS = 36, 37, 38, 39


def _handler(sys: Any, number: int, info: Any) -> None:
    """Do nothing."""


# ---- the process ------------------------------------------------------------------------------------------

def _tells(sys: Any, say: Any, pid: str) -> int:
    say("same pid", sys.getpid() == int(pid))
    return 7


def _executes(sys: Any) -> None:
    execute(sys, _tells, str(sys.getpid()))


def keeps_pid(sys: Any, say: Any) -> None:
    """A process that executes a program keeps its pid, and its parent waits for it as before."""
    pid = sys.clone(_executes)
    say(wait(sys, say, pid))


def _tells_ids(sys: Any, say: Any) -> None:
    say(say.who(sys.getppid()), say.who(sys.getpgrp()), say.who(sys.getsid(0)))


def _executes_in_group(sys: Any) -> None:
    sys.setpgid(0, 0)
    execute(sys, _tells_ids)


def keeps_parent_group_session(sys: Any, say: Any) -> None:
    """Parent, process group and session stay what they were."""
    say(wait(sys, say, sys.clone(_executes_in_group)))


def _waits_for_all(sys: Any, say: Any) -> None:
    for _ in range(3):
        say(wait(sys, say))


def _executes_with_children(sys: Any, code: int) -> None:
    dead(sys, code)
    dead(sys, code + 1)
    execute(sys, _waits_for_all)


def keeps_children(sys: Any, say: Any) -> None:
    """Children from before, zombies too, are the new program's to wait for."""
    say(wait(sys, say, sys.clone(_executes_with_children, 3)))


def _tells_thread(sys: Any, say: Any, pid: str) -> None:
    say(sys.getpid() == int(pid), sys.gettid() == int(pid), "threads", stat(sys, sys.getpid())[19])


def _executes_from_thread(sys: Any) -> None:
    execute(sys, _tells_thread, str(sys.getpid()))


def _has_threads(sys: Any) -> None:
    gate = Gate(sys)
    sys.pthread_create(_sleeps, gate)
    sys.pthread_create(_executes_from_thread)
    gate.wait(sys)


def _sleeps(sys: Any, gate: Gate) -> None:
    gate.wait(sys)


def thread_becomes_the_process(sys: Any, say: Any) -> None:
    """A thread that executes a program takes over the process's pid; all other threads are gone."""
    say(wait(sys, say, sys.clone(_has_threads)))


def _ends_with_nine(sys: Any, say: Any) -> None:
    say("ends")
    sys.exit(9)


def _executes_with_signal(sys: Any, gate: Gate) -> None:
    gate.wait(sys)
    execute(sys, _ends_with_nine)


def exit_signal_becomes_sigchld(sys: Any, say: Any) -> None:
    """A child with another exit signal is hidden from a plain wait until it executes a program, then it is not."""
    gate = Gate(sys)
    sys.sigprocmask(SIG_BLOCK, sig(SIGCHLD, SIGUSR1))
    pid = sys.clone(_executes_with_signal, gate, flags=SIGUSR1)
    say(wait(sys, say, pid, WNOHANG), wait(sys, say, pid, WNOHANG | WCLONE))
    gate.open(sys)
    comes_to(sys, pid, "Z")
    say(wait(sys, say, pid, WNOHANG | WCLONE), wait(sys, say, pid), sys.sigpending() == sig(SIGCHLD))


# ---- signals ------------------------------------------------------------------------------------------------

def _tells_actions(sys: Any, say: Any) -> None:
    for number in (SIGUSR1, SIGUSR2, SIGTERM, SIGCHLD, SIGRTMIN):
        handler, flags, mask = sys.sigaction(number)
        say(number, handler, flags, mask)


def _executes_with_actions(sys: Any) -> None:
    sys.sigaction(SIGUSR1, _handler, 0x4000_0000, sig(SIGUSR2))
    sys.sigaction(SIGUSR2, SIG_IGN)
    sys.sigaction(SIGRTMIN, _handler)
    execute(sys, _tells_actions)


def caught_signals_are_reset(sys: Any, say: Any) -> None:
    """Signals that were caught have their default action again, without flags and mask; ignored ones stay ignored."""
    say(wait(sys, say, sys.clone(_executes_with_actions)))


def _reaps_itself(sys: Any, say: Any) -> None:
    sys.clone(_ends, 5)
    say(wait(sys, say))


def _ends(sys: Any, code: int) -> None:
    sys.exit(code)


def _executes_ignoring_sigchld(sys: Any) -> None:
    sys.sigaction(SIGCHLD, SIG_IGN)
    execute(sys, _reaps_itself)


def ignored_sigchld_stays_ignored(sys: Any, say: Any) -> None:
    """Where SIGCHLD was ignored, children of the new program reap themselves."""
    say(wait(sys, say, sys.clone(_executes_ignoring_sigchld)))


def _tells_masks(sys: Any, say: Any) -> None:
    wanted = sig(SIGUSR1, SIGUSR2, SIGRTMIN)
    say("blocked", sys.sigprocmask(SIG_BLOCK, 0) & wanted == wanted, "pending", sys.sigpending() == sig(SIGUSR1))


def _executes_masked(sys: Any) -> None:
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1, SIGUSR2, SIGRTMIN))
    sys.kill(sys.getpid(), SIGUSR1)
    execute(sys, _tells_masks)


def mask_and_pending_signals_stay(sys: Any, say: Any) -> None:
    """Blocked signals stay blocked, and those that are pending stay pending."""
    say(wait(sys, say, sys.clone(_executes_masked)))


def _unblocks(sys: Any, say: Any) -> None:
    say("unblocks")
    sys.sigprocmask(1, sig(SIGUSR1))
    say("lives")


def _executes_doomed(sys: Any) -> None:
    sys.sigaction(SIGUSR1, _handler)
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR1))
    sys.kill(sys.getpid(), SIGUSR1)
    execute(sys, _unblocks)


def pending_signal_finds_the_new_action(sys: Any, say: Any) -> None:
    """A pending signal that had a handler kills the new program when it is unblocked: the handler is gone."""
    say(wait(sys, say, sys.clone(_executes_doomed)))


def _tells_thread_pending(sys: Any, say: Any) -> None:
    say("pending", sys.sigpending() == sig(SIGUSR2))


def _sends_itself_and_executes(sys: Any) -> None:
    sys.sigprocmask(SIG_BLOCK, sig(SIGUSR2))
    sys.tgkill(sys.getpid(), sys.gettid(), SIGUSR2)
    execute(sys, _tells_thread_pending)


def signal_for_the_thread_stays_pending(sys: Any, say: Any) -> None:
    """A signal that is pending for the thread alone stays so, too."""
    say(wait(sys, say, sys.clone(_sends_itself_and_executes)))


def _tells_alarm(sys: Any, say: Any) -> None:
    say("left", 90 <= sys.alarm(0) <= 100)


def _executes_with_alarm(sys: Any) -> None:
    sys.alarm(100)
    execute(sys, _tells_alarm)


def alarm_goes_on(sys: Any, say: Any) -> None:
    """An alarm goes on in the new program."""
    say(wait(sys, say, sys.clone(_executes_with_alarm)))


# ---- attributes ---------------------------------------------------------------------------------------------

def _tells_attributes(sys: Any, say: Any) -> None:
    say("pdeathsig", sys.prctl_get(PR_GET_PDEATHSIG), "subreaper", sys.prctl_get(PR_GET_CHILD_SUBREAPER))
    say("no_new_privs", sys.prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), "nice", sys.getpriority(0, 0))
    say("policy", sys.sched_getscheduler(0), "umask", sys.umask(0o22))


def _executes_with_attributes(sys: Any) -> None:
    sys.prctl(PR_SET_PDEATHSIG, SIGUSR1, 0, 0, 0)
    sys.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sys.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    sys.setpriority(0, 0, 7)
    sys.sched_setscheduler(0, 3, 0)
    sys.umask(0o27)
    execute(sys, _tells_attributes)


def attributes_stay(sys: Any, say: Any) -> None:
    """The parent-death signal, the subreaper's mark, no_new_privs, nice, the policy and the umask are kept."""
    say(wait(sys, say, sys.clone(_executes_with_attributes)))


def _tells_name(sys: Any, say: Any) -> None:
    say(sys.prctl_get(PR_GET_NAME))


def _executes_named(sys: Any) -> None:
    sys.prctl(PR_SET_NAME, b"before", 0, 0, 0)
    execute(sys, _tells_name)


def name_is_the_programs(sys: Any, say: Any) -> None:
    """The name becomes that of the file that was executed, whatever it was before."""
    say(wait(sys, say, sys.clone(_executes_named)))


def _tells_dumpable(sys: Any, say: Any) -> None:
    say("dumpable", sys.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))


def _executes_undumpable(sys: Any) -> None:
    sys.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    execute(sys, _tells_dumpable)


def dumpable_again(sys: Any, say: Any) -> None:
    """A process that was not dumpable is so again after execve()."""
    say(wait(sys, say, sys.clone(_executes_undumpable)))


def _tells_directory(sys: Any, say: Any) -> None:
    say(sys.getcwd())


def _executes_elsewhere(sys: Any) -> None:
    sys.mkdir("/mnt/there", 0o755)
    sys.chdir("/mnt/there")
    execute(sys, _tells_directory)


def directory_stays(sys: Any, say: Any) -> None:
    """The working directory is kept."""
    say(wait(sys, say, sys.clone(_executes_elsewhere)))


# ---- descriptors --------------------------------------------------------------------------------------------

def _writes_and_ends(sys: Any, say: Any, fd: str) -> None:
    say("written", attempt(sys.write, int(fd), b"x"))


def _executes_with_pipe(sys: Any, fd: int) -> None:
    execute(sys, _writes_and_ends, str(fd))


def descriptors_stay_open(sys: Any, say: Any) -> None:
    """A descriptor without FD_CLOEXEC is open in the new program: what it writes arrives."""
    read, write = sys.pipe()
    pid = sys.clone(_executes_with_pipe, write)
    say(wait(sys, say, pid), sys.read(read, 10).decode())


def _executes_to_tell(sys: Any, read: int, write: int, gate: Gate) -> None:
    sys.close(read)
    sys.fcntl(write, 2, 1)
    execute(sys, _waits_for_byte, str(gate.read))


def _waits_for_byte(sys: Any, say: Any, fd: str) -> None:
    del say
    sys.read(int(fd), 1)


def parent_sees_the_end(sys: Any, say: Any) -> None:
    """A pipe whose last writing end has FD_CLOEXEC tells the reader of the execve(): end of file."""
    read, write = sys.pipe()
    gate = Gate(sys)
    pid = sys.clone(_executes_to_tell, read, write, gate)
    sys.close(write)
    say("read", len(sys.read(read, 10)), wait(sys, say, pid, WNOHANG))
    gate.open(sys)
    say(wait(sys, say, pid))


# ---- failures -----------------------------------------------------------------------------------------------

def errors(sys: Any, say: Any) -> None:
    """A file that is not there, a directory, a file without x and a path through a file have their own errors."""
    fd = sys.open("/mnt/plain", 0o101, 0o644)
    sys.write(fd, b"text")
    sys.close(fd)
    for path in ("/mnt/nothing", "/mnt", "/mnt/plain", "/mnt/plain/below", ""):
        say(path, attempt(sys.execve, path, [path], {}))


def no_format(sys: Any, say: Any) -> None:
    """A file that may be executed and is nothing that the kernel knows gives ENOEXEC."""
    fd = sys.open("/mnt/noformat", 0o101, 0o755)
    sys.write(fd, b"this is no program\n")
    sys.close(fd)
    say(attempt(sys.execve, "/mnt/noformat", ["x"], {}))


def bad_interpreter(sys: Any, say: Any) -> None:
    """A script whose interpreter does not exist gives ENOENT."""
    fd = sys.open("/mnt/script", 0o101, 0o755)
    sys.write(fd, b"#!/mnt/no/such/thing\n")
    sys.close(fd)
    say(attempt(sys.execve, "/mnt/script", ["x"], {}))


def failure_changes_nothing(sys: Any, say: Any) -> None:
    """After an execve() that failed handlers, name and threads are what they were."""
    got = []

    def caught(sys: Any, number: int, info: Any) -> None:
        got.append((number, info.si_pid == sys.getpid()))

    sys.sigaction(SIGUSR1, caught, 4)
    sys.prctl(PR_SET_NAME, b"mine", 0, 0, 0)
    gate = Gate(sys)
    sys.pthread_create(_sleeps, gate)
    before = stat(sys, sys.getpid())[19]
    say(attempt(sys.execve, "/mnt/nothing", ["x"], {}))
    sys.kill(sys.getpid(), SIGUSR1)
    say(got, sys.prctl_get(PR_GET_NAME), stat(sys, sys.getpid())[19] == before)
    gate.open(sys)
