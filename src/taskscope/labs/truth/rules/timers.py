"""Timers that send signals: alarm(2), setitimer(2), timer_create(2).  kernel/time/itimer.c, posix-timers.c."""

from __future__ import annotations

from typing import Any

from taskscope.labs.truth.rules import differs
from taskscope.labs.truth.rules.kit import attempt, execute, sig, wait

SIGUSR1, SIGALRM, RT = 10, 14, 34
REAL, VIRTUAL, PROF = 0, 1, 2
REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU, COARSE, BOOTTIME = 0, 1, 2, 3, 6, 7
SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD, SIGEV_THREAD_ID = 0, 1, 2, 4
ABSTIME = 1
MS = 1_000_000
SECOND = 1_000_000_000
HOUR = 3600 * SECOND
#: why kernels before v6.13 do otherwise: the series "posix-timers: Cure the SIG_IGN mess"
_CHECKED = "since v6.13 a timer's signal is thrown away if the timer was set anew or deleted meanwhile"


def alarm_returns_what_was_left(sys: Any, say: Any) -> None:
    """alarm() returns the seconds that the last one had left, rounded to whole ones and never to 0; 0 stops it."""
    for seconds in (100, 3, 7, 0, 0):
        if seconds == 7:
            sys.setitimer(REAL, 0.2)
        say(seconds, sys.alarm(seconds))
    say(sys.getitimer(REAL))


def alarm_kills(sys: Any, say: Any) -> None:
    """SIGALRM of setitimer() ends a process that has no handler; a handler is told that the kernel sent it."""
    say(wait(sys, say, sys.clone(_alarmed)))
    sys.sigprocmask(0, sig(SIGALRM))
    sys.setitimer(REAL, 0.001)
    info = sys.sigwaitinfo(sig(SIGALRM))
    say(info.si_signo, info.si_code, sys.getitimer(REAL))


def _alarmed(sys: Any) -> None:
    sys.setitimer(REAL, 0.001)
    sys.pause()


def an_interval_goes_on(sys: Any, say: Any) -> None:
    """A timer with an interval fires again and again, until it is set to 0; its signal is pending once."""
    sys.sigprocmask(0, sig(SIGALRM))
    sys.setitimer(REAL, 0.001, 0.001)
    for _ in range(3):
        say(sys.sigwaitinfo(sig(SIGALRM)).si_signo)
    interval, left = sys.getitimer(REAL)
    say(interval, (0, 0) <= left <= (0, 1000))
    sys.nanosleep(5 * MS)
    interval, left = sys.setitimer(REAL, 0)
    pending = attempt(sys.sigtimedwait, sig(SIGALRM), 0) != "EAGAIN"
    say(interval, pending, attempt(sys.sigtimedwait, sig(SIGALRM), 3 * MS))
    say(sys.getitimer(REAL))


def bad_interval_timers(sys: Any, say: Any) -> None:
    """There are three interval timers; another is EINVAL."""
    for which in (3, -1):
        say(attempt(sys.setitimer, which, 1), attempt(sys.getitimer, which))


def fork_has_no_timers(sys: Any, say: Any) -> None:
    """A child has none of its parent's timers."""
    for which in (REAL, VIRTUAL, PROF):
        sys.setitimer(which, 100)
    timer = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, RT, 1)
    say(timer)
    say(wait(sys, say, sys.clone(_says_timers, say, timer)))


def _says_timers(sys: Any, say: Any, timer: int) -> None:
    say([sys.getitimer(which) for which in (REAL, VIRTUAL, PROF)], attempt(sys.timer_gettime, timer))


def exec_keeps_interval_timers(sys: Any, say: Any) -> None:
    """execve() keeps interval timers and deletes the others, with the signals that they have sent."""
    sys.setitimer(REAL, 100, 50)
    sys.setitimer(PROF, 100, 50)
    sys.sigprocmask(0, sig(RT, SIGUSR1))
    timer = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, RT, 1)
    sys.timer_settime(timer, 1)
    other = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 1)
    sys.kill(sys.getpid(), SIGUSR1)
    sys.timer_settime(other, 1)
    sys.nanosleep(2 * MS)
    say(f"{sys.sigpending():#x}")
    execute(sys, _after_exec, str(timer))


def _after_exec(sys: Any, say: Any, timer: str) -> None:
    for which in (REAL, PROF):
        interval, left = sys.getitimer(which)
        say(interval, (90, 0) < left <= (100, 20_000))
    say(f"{sys.sigpending():#x}", attempt(sys.timer_gettime, int(timer)))


def cpu_time_signals(sys: Any, say: Any) -> None:
    """ITIMER_VIRTUAL fires when the process has computed so long, ITIMER_PROF likewise; by default they are fatal."""
    for which in (VIRTUAL, PROF):
        say(wait(sys, say, sys.clone(_computes, which)))


def _computes(sys: Any, which: int) -> None:
    sys.setitimer(which, 0.002)
    for _ in range(200):
        sys.run_for(5 * MS)


def cpu_time_stands_still_asleep(sys: Any, say: Any) -> None:
    """ITIMER_VIRTUAL and ITIMER_PROF do not run while the process sleeps."""
    for which in (VIRTUAL, PROF):
        sys.setitimer(which, 0.005, 7)
    sys.nanosleep(30 * MS)
    for which in (VIRTUAL, PROF):
        interval, left = sys.setitimer(which, 0)
        say(interval, left > (0, 0), sys.getitimer(which))


# ---- timer_create() -------------------------------------------------------------------------------------

def timers_have_numbers(sys: Any, say: Any) -> None:
    """Timers of a process are numbered from 0, and numbers of deleted ones are not used again at once."""
    say([sys.timer_create(clock, SIGEV_NONE, 0, 0) for clock in (REALTIME, MONOTONIC, BOOTTIME)])
    say(attempt(sys.timer_delete, 1), attempt(sys.timer_delete, 1), sys.timer_create(MONOTONIC, SIGEV_NONE, 0, 0))
    say(attempt(sys.timer_gettime, 77), attempt(sys.timer_getoverrun, -1), attempt(sys.timer_settime, 9, SECOND))


def clocks_of_timers(sys: Any, say: Any) -> None:
    """There are timers on the wall clock, on time since boot and on CPU time; on a coarse clock there are none."""
    for clock in (REALTIME, MONOTONIC, BOOTTIME, PROCESS_CPU, THREAD_CPU, COARSE, 5, 4, 99):
        say(clock, attempt(sys.timer_create, clock, SIGEV_NONE, 0, 0))


def bad_events(sys: Any, say: Any) -> None:
    """A timer needs a signal from 1 to 64, a known way to notify, and a thread of the own process."""
    for notify, number, tid in (
        (SIGEV_SIGNAL, 0, 0), (SIGEV_SIGNAL, 65, 0), (SIGEV_SIGNAL, -1, 0), (SIGEV_NONE, 0, 0), (SIGEV_THREAD, RT, 0),
        (SIGEV_THREAD, 0, 0), (SIGEV_THREAD_ID, RT, sys.getpid()), (SIGEV_THREAD_ID, RT, 1), (SIGEV_THREAD_ID, RT, 0),
        (SIGEV_THREAD_ID | SIGEV_NONE, RT, sys.getpid()), (3, RT, 0), (8, RT, 0),
    ):
        say(notify, number, attempt(sys.timer_create, MONOTONIC, notify, number, 0, tid) != "EINVAL")


def what_a_timer_sends(sys: Any, say: Any) -> None:
    """A timer's signal has SI_TIMER, the timer's number, its value, and how often it expired unheard."""
    sys.sigprocmask(0, sig(RT, SIGALRM))
    for number in (4711, None):
        timer = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, RT, number)
        sys.timer_settime(timer, 1)
        info = sys.sigwaitinfo(sig(RT, SIGALRM))
        say(info.si_signo, info.si_code, info.si_tid == timer, info.si_value, info.si_overrun)
        say(sys.timer_gettime(timer), sys.timer_getoverrun(timer), sys.sigpending())


def a_timer_for_a_thread(sys: Any, say: Any) -> None:
    """With SIGEV_THREAD_ID the signal is for that thread, else for the process."""
    sys.sigprocmask(0, sig(RT, SIGUSR1))
    private = sys.timer_create(MONOTONIC, SIGEV_THREAD_ID, RT, 0, sys.gettid())
    shared = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 0)
    for timer in (private, shared):
        sys.timer_settime(timer, 1)
    sys.nanosleep(2 * MS)
    text = sys.slurp("/proc/self/status").decode()
    say([line.split()[1] for line in text.splitlines() if line[:6] in ("SigPnd", "ShdPnd")])


def settings_are_told(sys: Any, say: Any) -> None:
    """timer_settime() returns what was set; a timer that does not run has 0 left, and its interval is forgotten."""
    timer = sys.timer_create(MONOTONIC, SIGEV_NONE, 0, 0)
    say(sys.timer_gettime(timer))
    say(sys.timer_settime(timer, HOUR, SECOND))
    left, interval = sys.timer_gettime(timer)
    say(HOUR - SECOND < left <= HOUR, interval)
    left, interval = sys.timer_settime(timer, 0, SECOND)
    say(HOUR - SECOND < left <= HOUR, interval, sys.timer_gettime(timer)[1])
    timer = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, RT, 0)
    sys.timer_settime(timer, HOUR, SECOND)
    left, interval = sys.timer_settime(timer, 0, SECOND)
    say(HOUR - SECOND < left <= HOUR, interval, sys.timer_gettime(timer), sys.timer_settime(timer, 0))


def bad_settings(sys: Any, say: Any) -> None:
    """Times below 0 are EINVAL, and the timer stays as it was."""
    timer = sys.timer_create(MONOTONIC, SIGEV_NONE, 0, 0)
    sys.timer_settime(timer, HOUR)
    for first, interval in ((-1, 0), (-SECOND, 0), (SECOND, -1)):
        say(attempt(sys.timer_settime, timer, first, interval), sys.timer_gettime(timer)[0] > HOUR - SECOND)


def a_time_that_is_over(sys: Any, say: Any) -> None:
    """A timer set to a time that is over expires at once, and counts the intervals since."""
    sys.sigprocmask(0, sig(RT))
    for clock in (MONOTONIC, REALTIME):
        timer = sys.timer_create(clock, SIGEV_SIGNAL, RT, 0)
        sys.timer_settime(timer, 1, 0, ABSTIME)
        say(sys.sigwaitinfo(sig(RT)).si_overrun, sys.timer_gettime(timer))
    sys.timer_settime(timer, sys.clock_gettime_ns(REALTIME) - 10 * SECOND, 4 * SECOND, ABSTIME)
    info = sys.sigwaitinfo(sig(RT))
    left, interval = sys.timer_gettime(timer)
    say(info.si_overrun, sys.timer_getoverrun(timer), 0 < left <= 2 * SECOND, interval)


def overruns_are_counted(sys: Any, say: Any) -> None:
    """While a timer's signal is pending it is not sent again: expiries are counted and told when it is taken."""
    sys.sigprocmask(0, sig(RT))
    timer = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, RT, 0)
    sys.timer_settime(timer, MS, MS)
    sys.nanosleep(12 * MS)
    info = sys.sigtimedwait(sig(RT), 0)
    say(10 <= info.si_overrun < 1000, info.si_overrun == sys.timer_getoverrun(timer))
    info = sys.sigwaitinfo(sig(RT))
    say(info.si_overrun < 1000, info.si_overrun == sys.timer_getoverrun(timer))
    sys.timer_settime(timer, 0)
    say(sys.timer_getoverrun(timer))


@differs(_CHECKED, "4.19-arm", "6.1-x86_64")
def a_deleted_timers_signal(sys: Any, say: Any) -> None:
    """The pending signal of a timer that is deleted is not delivered."""
    sys.sigprocmask(0, sig(RT))
    timer = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, RT, 0)
    sys.timer_settime(timer, 1)
    sys.nanosleep(2 * MS)
    say(f"{sys.sigpending():#x}")
    sys.timer_delete(timer)
    say(f"{sys.sigpending():#x}", attempt(_takes, sys))


def _takes(sys: Any) -> int:
    return int(sys.sigtimedwait(sig(RT), 0).si_signo)


@differs(_CHECKED, "4.19-arm", "6.1-x86_64")
def a_timer_set_anew(sys: Any, say: Any) -> None:
    """The pending signal of a timer that is set anew is not delivered."""
    sys.sigprocmask(0, sig(RT))
    timer = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, RT, 0)
    sys.timer_settime(timer, 1)
    sys.nanosleep(2 * MS)
    sys.timer_settime(timer, HOUR)
    say(f"{sys.sigpending():#x}", attempt(_takes, sys))


def an_ignored_timer_comes_back(sys: Any, say: Any) -> None:
    """A timer with an interval whose signal was ignored sends it again when it is not ignored any more."""
    sys.sigaction(RT, 1)
    timer = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, RT, 0)
    sys.timer_settime(timer, MS, MS)
    sys.nanosleep(5 * MS)
    sys.sigprocmask(0, sig(RT))
    sys.sigaction(RT, 0)
    say(sys.sigtimedwait(sig(RT), SECOND).si_code)
    sys.timer_delete(timer)


@differs(_CHECKED, "4.19-arm", "6.1-x86_64")
def ignoring_a_pending_timer(sys: Any, say: Any) -> None:
    """To ignore the pending signal of a timer with an interval does not stop it: it goes on when it is not ignored."""
    sys.sigprocmask(0, sig(RT))
    timer = sys.timer_create(MONOTONIC, SIGEV_SIGNAL, RT, 0)
    sys.timer_settime(timer, MS, MS)
    sys.nanosleep(3 * MS)
    sys.sigaction(RT, 1)
    say(f"{sys.sigpending():#x}")
    sys.sigaction(RT, 0)
    say(attempt(_waits, sys))
    sys.timer_delete(timer)


def _waits(sys: Any) -> int:
    return int(sys.sigtimedwait(sig(RT), 5 * MS).si_code)


def timers_on_cpu_time(sys: Any, say: Any) -> None:
    """A timer on CPU time expires when the process, or the thread, has run so long, and not while it sleeps."""
    sys.sigprocmask(0, sig(RT))
    for clock in (PROCESS_CPU, THREAD_CPU):
        timer = sys.timer_create(clock, SIGEV_SIGNAL, RT, clock)
        sys.timer_settime(timer, 10 * MS)
        sys.nanosleep(30 * MS)
        say(f"{sys.sigpending():#x}", 0 < sys.timer_gettime(timer)[0] <= 10 * MS)
        for _ in range(1000):
            if not sys.sigpending():
                sys.run_for(MS)
        info = sys.sigtimedwait(sig(RT), 0)
        say(info.si_code, info.si_value, info.si_tid == timer, sys.timer_gettime(timer))
        sys.timer_delete(timer)


def a_full_queue_has_no_room_for_timers(sys: Any, say: Any) -> None:
    """A timer needs a place in the queue of signals: beyond RLIMIT_SIGPENDING it is EAGAIN."""
    sys.setrlimit(11, (0, 0))
    say(attempt(sys.timer_create, MONOTONIC, SIGEV_SIGNAL, RT, 0), attempt(sys.timer_create, MONOTONIC))


# ---- sleeping -------------------------------------------------------------------------------------------

def bad_sleeps(sys: Any, say: Any) -> None:
    """To sleep less than nothing is EINVAL, as is an unknown clock; on a thread's CPU time, too."""
    say(attempt(sys.nanosleep, -1), attempt(sys.nanosleep, -SECOND), attempt(sys.nanosleep, 0))
    for clock in (REALTIME, MONOTONIC, THREAD_CPU, 99):
        say(clock, attempt(sys.clock_nanosleep, clock, 1), attempt(sys.clock_nanosleep, clock, -1))


def sleeping_until(sys: Any, say: Any) -> None:
    """clock_nanosleep() until a time that is over does not sleep."""
    for clock in (REALTIME, MONOTONIC):
        soon = sys.clock_gettime_ns(clock) + MS
        say(sys.clock_nanosleep(clock, 0, ABSTIME), sys.clock_nanosleep(clock, soon, ABSTIME))
