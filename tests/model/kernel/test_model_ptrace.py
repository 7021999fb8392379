"""Tracing: what programs cannot see of it, and what this host cannot show.  The rest is in the conformance rules."""

from __future__ import annotations

from typing import Any

import pytest

from bare import ALL, accounts, error, play, world
from taskscope.abi.ptrace import PtraceOption as O
from taskscope.abi.ptrace import PtraceRequest as R
from taskscope.labs.truth.invariants import Watch
from taskscope.model import machine
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register, tracepoint_probe_unregister
from taskscope.model.include.linux.uaccess import Word
from taskscope.model.kernel import pid as pid_
from taskscope.model.kernel import task_work

SIGUSR1, SIGTRAP, SIGCHLD, SIGCONT, SIGSTOP = 10, 5, 17, 18, 19
WALL = 0x40000000
NEW = [name for name in ALL if name != "4.19-arm"]


def asleep(sys: Any) -> None:
    while True:
        sys.pause()


def child_of(sys: Any, fn: Any = asleep, *args: Any) -> int:
    """Return a child that has run until it sleeps."""
    pid = sys.clone(fn, *args)
    sys.nanosleep(5_000_000)
    return int(pid)


def task(pid: int) -> Any:
    return pid_.find_task_by_vpid(pid)


# ---- lists, references, permissions ---------------------------------------------------------------------

@pytest.mark.parametrize("flavour", ALL)
def test_everything_is_given_back(flavour: str) -> None:
    """After attaching, following births, letting go and dying in every order nothing is left that was not before."""

    def family(sys: Any) -> None:
        for _ in range(2):
            sys.waitpid(sys.clone(asleep_for, 1_000_000))

    def asleep_for(sys: Any, ns: int) -> None:
        sys.nanosleep(ns)

    def follower(sys: Any, pid: int, ends: bool) -> None:
        sys.ptrace(R.PTRACE_SEIZE, pid, 0, O.PTRACE_O_TRACEFORK | O.PTRACE_O_TRACEEXIT)
        for _ in range(1 if ends else 5):
            got, status = sys.waitpid(-1, WALL)
            if status & 0xFF == 0x7F and not ends:
                sys.ptrace(R.PTRACE_CONT, got)

    def scenario(sys: Any) -> None:
        watch = Watch(machine.cur)
        for ends in (False, True):
            pid = sys.clone(family)
            tracer = sys.clone(follower, pid, ends)
            watch.check()
            sys.waitpid(tracer)
            watch.check()
            sys.waitpid(pid)
            watch.check()
        watch.close()

    with world(flavour, 2) as one:
        before: dict[str, Any] = {}

        def around(sys: Any) -> None:
            scenario(sys)                           # what the first time allocates for good
            sys.nanosleep(100_000_000)
            before.update(accounts())
            scenario(sys)
            sys.nanosleep(100_000_000)

        one.run(around)
        with one.current():
            assert accounts() == before


def test_credentials_of_the_tracer_are_held() -> None:
    """A traced task holds its tracer's credentials as they were, and gives them back when it is let go."""

    def scenario(sys: Any) -> Any:
        pid = child_of(sys)
        mine = machine.cur.cpu.curr.cred
        usage = mine.usage
        sys.ptrace(R.PTRACE_ATTACH, pid)
        held = task(pid).ptracer_cred is mine, mine.usage - usage
        sys.waitpid(pid)
        sys.ptrace(R.PTRACE_DETACH, pid)
        return held, task(pid).ptracer_cred, mine.usage - usage

    assert play(scenario) == ((True, 1), None, 0)


@pytest.mark.parametrize("flavour", ALL)
def test_kernel_threads_are_not_traced(flavour: str) -> None:
    """PTRACE_ATTACH and PTRACE_SEIZE of a kernel thread fail with EPERM, for root too."""

    def scenario(sys: Any) -> Any:
        return error(sys.ptrace, R.PTRACE_ATTACH, 2), error(sys.ptrace, R.PTRACE_SEIZE, 2)

    assert play(scenario, flavour) == ("EPERM", "EPERM")


def test_a_traced_program_gains_no_rights() -> None:
    """A set-user-id program that a tracer without CAP_SYS_PTRACE watches keeps the ids of who executes it."""

    def program(sys: Any, argv: list[str]) -> int:
        del argv
        return int(sys.geteuid()) & 0xFF

    def executes(sys: Any, traced: bool) -> None:
        if traced:
            sys.ptrace(R.PTRACE_TRACEME)
        sys.execve("/bin/gains", ["gains"])

    def user(sys: Any, traced: bool) -> int:
        sys.setuid(77)
        pid = sys.clone(executes, traced)
        status = sys.waitpid(pid)[1]
        while status & 0xFF == 0x7F:
            sys.ptrace(R.PTRACE_CONT, pid)
            status = sys.waitpid(pid)[1]
        return int(status) >> 8

    def scenario(sys: Any) -> Any:
        from taskscope.model.user import programs

        programs.install_program("/bin/gains", program)
        sys.chmod("/bin/gains", 0o4755)
        return [sys.waitpid(sys.clone(user, traced))[1] >> 8 for traced in (False, True)]

    assert play(scenario) == [0, 77]


# ---- what a stopped task looks like ---------------------------------------------------------------------

@pytest.mark.parametrize("flavour", ALL)
def test_stack_of_a_stop(flavour: str) -> None:
    """A task that is stopped before a signal stands in ptrace_stop(), called by get_signal() on the way out."""

    def scenario(sys: Any) -> Any:
        pid = child_of(sys)
        sys.ptrace(R.PTRACE_SEIZE, pid)
        sys.kill(pid, SIGUSR1)
        sys.waitpid(pid)
        stack = [line.split()[-1].split("+")[0] for line in sys.slurp(f"/proc/{pid}/stack").decode().splitlines()]
        return sys.slurp(f"/proc/{pid}/wchan"), stack[: stack.index("get_signal") + 1]

    wchan, stack = play(scenario, flavour)
    assert wchan == b"ptrace_stop"
    assert stack[-3:] == ["ptrace_stop", "ptrace_signal", "get_signal"]


@pytest.mark.parametrize("flavour", ALL)
def test_prev_state_of_a_stop(flavour: str) -> None:
    """A task that stops for its tracer leaves its CPU in state t."""

    def scenario(sys: Any) -> Any:
        states: list[int] = []
        pid = child_of(sys)
        sys.ptrace(R.PTRACE_SEIZE, pid)
        tracepoint_probe_register(
            machine.cur.tp, "sched_switch",
            lambda data, preempt, prev, *_: prev.pid == pid and states.append(prev.state), None,
        )
        sys.ptrace(R.PTRACE_INTERRUPT, pid)
        sys.waitpid(pid)
        return states[-1] & 0x8

    assert play(scenario, flavour) == 0x8


@pytest.mark.parametrize("flavour", ALL)
def test_frozen_task_outlives_sigkill(flavour: str) -> None:
    """While a request is served SIGKILL does not wake the task; it does afterwards."""
    from taskscope.model.kernel.ptrace import attach

    def scenario(sys: Any) -> Any:
        pid = child_of(sys)
        sys.ptrace(R.PTRACE_ATTACH, pid)
        sys.waitpid(pid)
        child = task(pid)
        assert attach.ptrace_freeze_traced(child)
        sys.kill(pid, 9)
        sys.nanosleep(20_000_000)
        still = attach.frozen(child) and bool(child.state & 0x8) and not child.exit_state
        attach.ptrace_unfreeze_traced(child)
        return still, sys.waitpid(pid)[1]

    assert play(scenario, flavour) == (True, 9)


@pytest.mark.parametrize(
    ("flavour", "stopped", "traced"),
    [("4.19-arm", (0x104, 0), (0x108, 0)), ("6.1-x86_64", (0x104, 1 << 26), (0x8, 1 << 27))],
)
def test_words_of_a_stop(flavour: str, stopped: tuple[int, int], traced: tuple[int, int]) -> None:
    """Since v5.19 TASK_TRACED has no TASK_WAKEKILL, and jobctl says that a task is stopped, or stopped for a tracer."""

    def words(pid: int) -> tuple[int, int]:
        return task(pid).state, task(pid).jobctl & (1 << 24 | 1 << 26 | 1 << 27)

    def scenario(sys: Any) -> Any:
        pid = child_of(sys)
        sys.kill(pid, SIGSTOP)
        sys.waitpid(pid, 2)
        out = [words(pid)]
        sys.ptrace(R.PTRACE_SEIZE, pid)
        sys.waitpid(pid)
        out.append(words(pid))
        sys.kill(pid, SIGCONT)
        sys.ptrace(R.PTRACE_DETACH, pid)
        sys.nanosleep(5_000_000)
        out.append(words(pid))
        return out

    assert play(scenario, flavour) == [stopped, traced, (1, 0)]


@pytest.mark.parametrize("flavour", ALL)
def test_attach_waits_until_a_stopped_task_is_trapped(flavour: str) -> None:
    """PTRACE_ATTACH of a task that job control has stopped returns when that has stopped for the tracer."""

    def scenario(sys: Any) -> Any:
        pid = child_of(sys)
        sys.kill(pid, SIGSTOP)
        sys.waitpid(pid, 2)
        slept = machine.cur.cpu.curr.nvcsw
        sys.ptrace(R.PTRACE_ATTACH, pid)
        return bool(task(pid).state & 0x8), machine.cur.cpu.curr.nvcsw > slept, task(pid).jobctl & 1 << 21

    assert play(scenario, flavour) == (True, True, 0)


# ---- memory and registers -------------------------------------------------------------------------------

@pytest.mark.parametrize("flavour", ALL)
def test_words_of_memory(flavour: str) -> None:
    """PTRACE_PEEKDATA and POKEDATA reach the words that system calls have stored; elsewhere nothing is mapped."""

    def tidy(sys: Any) -> int:
        sys.clone_flags(0x01000000 | SIGCHLD, 0, Word(0x4000)) or sys.exit(0)       # CLONE_CHILD_SETTID
        sys.wait()
        return 0

    def keeps(sys: Any) -> None:
        Word(0x5000).put(41)
        asleep(sys)

    def scenario(sys: Any) -> Any:
        assert sys.waitpid(sys.clone(tidy))[1] == 0
        pid = child_of(sys, keeps)
        sys.ptrace(R.PTRACE_ATTACH, pid)
        sys.waitpid(pid)
        first = sys.ptrace_get(R.PTRACE_PEEKDATA, pid, 0x5000)
        sys.ptrace(R.PTRACE_POKEDATA, pid, 0x5000, 42)
        elsewhere = [error(sys.ptrace_get, R.PTRACE_PEEKDATA, pid, 0x5008)]
        elsewhere.append(error(sys.ptrace, R.PTRACE_POKEDATA, pid, 0, 1))
        return first, sys.ptrace_get(R.PTRACE_PEEKTEXT, pid, 0x5000), *elsewhere

    assert play(scenario, flavour) == (41, 42, "EIO", "EIO")


@pytest.mark.parametrize("flavour", ALL)
def test_single_steps_are_refused(flavour: str) -> None:
    """A program in Python has no instructions to step: EIO, as on 32-bit ARM, and the task stays stopped."""

    def scenario(sys: Any) -> Any:
        pid = child_of(sys)
        sys.ptrace(R.PTRACE_ATTACH, pid)
        sys.waitpid(pid)
        return error(sys.ptrace, R.PTRACE_SINGLESTEP, pid), bool(task(pid).state & 0x8)

    assert play(scenario, flavour) == ("EIO", True)


def test_registers_of_arm() -> None:
    """At a system call r7 has its number and r0 to r5 what it gets, afterwards r0 what it gave; both can be changed."""

    def calls(sys: Any, r: int) -> None:
        sys.read(r, 1)
        got = [error(sys.getpgid, 4711), error(sys.getpgid, 4711), error(sys.getpgid, 4711)]
        sys.exit(0 if got == ["0", "77", "ENOSYS"] else 9)

    def to_call(sys: Any, pid: int) -> None:
        while True:
            sys.ptrace(R.PTRACE_SYSCALL, pid)
            sys.waitpid(pid)
            if sys.ptrace_get(R.PTRACE_PEEKUSR, pid, 28) == 132:        # getpgid
                return

    def scenario(sys: Any) -> Any:
        r, w = sys.pipe()
        pid = child_of(sys, calls, r)
        sys.ptrace(R.PTRACE_SEIZE, pid)
        sys.ptrace(R.PTRACE_INTERRUPT, pid)
        sys.waitpid(pid)
        sys.write(w, b"g")
        out = [error(sys.ptrace_get, R.PTRACE_PEEKUSR, pid, 28)]         # no system call stop
        to_call(sys, pid)
        out.append([sys.ptrace_get(R.PTRACE_PEEKUSR, pid, 4 * n) for n in (0, 17)])
        sys.ptrace(R.PTRACE_POKEUSR, pid, 0, 1)                         # the group of init
        sys.ptrace(R.PTRACE_SYSCALL, pid)
        sys.waitpid(pid)
        out.append(sys.ptrace_get(R.PTRACE_PEEKUSR, pid, 0))
        to_call(sys, pid)
        sys.ptrace(R.PTRACE_SYSCALL, pid)
        sys.waitpid(pid)
        out.append(sys.ptrace_get(R.PTRACE_PEEKUSR, pid, 0) - (1 << 32))
        sys.ptrace(R.PTRACE_POKEUSR, pid, 0, 77)
        to_call(sys, pid)
        sys.ptrace(R.PTRACE_SET_SYSCALL, pid, 0, -1)
        sys.ptrace(R.PTRACE_POKEUSR, pid, 0, (1 << 32) - 38)
        out.append([error(sys.ptrace_get, R.PTRACE_PEEKUSR, pid, n) for n in (2, 32, 300)])
        sys.ptrace(R.PTRACE_DETACH, pid)
        out.append(sys.waitpid(pid)[1])
        return out

    assert play(scenario) == ["EIO", [4711, 4711], 0, -3, ["EIO"] * 3, 0]


@pytest.mark.parametrize("flavour", NEW)
def test_size_of_syscall_info(flavour: str) -> None:
    """PTRACE_GET_SYSCALL_INFO returns how much of the structure means something: 24, 80 at entry, 33 at exit."""

    def scenario(sys: Any) -> Any:
        pid = child_of(sys)
        sys.ptrace(R.PTRACE_SEIZE, pid, 0, O.PTRACE_O_TRACESYSGOOD)
        sys.ptrace(R.PTRACE_INTERRUPT, pid)
        sizes = []
        for _ in range(3):
            sys.waitpid(pid)
            sizes.append(sys.ptrace(R.PTRACE_GET_SYSCALL_INFO, pid, 0, 0))
            sys.ptrace(R.PTRACE_SYSCALL, pid)
            if len(sizes) == 2:
                sys.kill(pid, SIGCONT)
        return sizes

    assert play(scenario, flavour) == [24, 80, 33]


# ---- flags ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flavour", ALL)
def test_flag_of_system_call_tracing(flavour: str) -> None:
    """PTRACE_SYSCALL sets the flag, all other ways to go on and PTRACE_DETACH clear it, and no child inherits it."""

    def forks(sys: Any) -> None:
        sys.clone(asleep)
        asleep(sys)

    def scenario(sys: Any) -> Any:
        m = machine.cur
        bit = m.syscall_work_bits.SYSCALL_TRACE
        word = "syscall_work" if m.flavour.switches.syscall_work else "flags"
        pid = sys.clone(forks)
        sys.ptrace(R.PTRACE_SEIZE, pid)
        sys.ptrace(R.PTRACE_INTERRUPT, pid)
        sys.waitpid(pid)
        out = []

        def flag() -> bool:
            return bool(getattr(task(pid).thread_info, word) & bit)

        sys.ptrace(R.PTRACE_SYSCALL, pid)
        out.append(flag())
        sys.waitpid(pid)
        sys.ptrace(R.PTRACE_SYSCALL, pid)
        sys.waitpid(pid)
        child = next(t for t in (task(n) for n in range(pid + 1, pid + 3)) if t is not None)
        out.append(bool(getattr(child.thread_info, word) & bit))
        sys.ptrace(R.PTRACE_CONT, pid)
        out.append(flag())
        sys.ptrace(R.PTRACE_INTERRUPT, pid)
        sys.waitpid(pid)
        sys.ptrace(R.PTRACE_SYSCALL, pid)
        sys.waitpid(pid)
        sys.ptrace(R.PTRACE_DETACH, pid)
        out.append(flag())
        return out

    assert play(scenario, flavour) == [True, False, False, False]


@pytest.mark.parametrize("flavour", ALL)
def test_flag_of_system_call_events(flavour: str) -> None:
    """The first probe on sys_enter or sys_exit sets the flag in every task, new ones have it, and the last takes it."""

    def seen(data: Any, *args: Any) -> None:
        del data, args

    def scenario(sys: Any) -> Any:
        m = machine.cur
        bit = m.syscall_work_bits.SYSCALL_TRACEPOINT
        word = "syscall_work" if m.flavour.switches.syscall_work else "flags"
        out = []

        def count() -> None:
            pid = child_of(sys)
            out.append([bool(getattr(task(n).thread_info, word) & bit) for n in (1, 2, pid)])

        count()
        tracepoint_probe_register(m.tp, "sys_enter", seen, None)
        tracepoint_probe_register(m.tp, "sys_exit", seen, None)
        count()
        tracepoint_probe_unregister(m.tp, "sys_enter", seen, None)
        count()
        tracepoint_probe_unregister(m.tp, "sys_exit", seen, None)
        count()
        return out

    no, yes = [False] * 3, [True] * 3
    assert play(scenario, flavour) == [no, yes, yes, no]


# ---- task work ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flavour", ALL)
def test_task_work(flavour: str) -> None:
    """Work is done on the way to user space, the last that was added first, and what it adds itself as well."""

    def scenario(sys: Any) -> Any:
        me = machine.cur.cpu.curr
        done: list[str] = []

        def more(work: task_work.CallbackHead) -> None:
            done.append(work.data)
            task_work.task_work_add(me, task_work.CallbackHead(last, "added"), True)

        def last(work: task_work.CallbackHead) -> None:
            done.append(work.data)

        def never(work: task_work.CallbackHead) -> None:
            done.append("never")

        for func, data in ((more, "first"), (never, ""), (last, "second")):
            assert task_work.task_work_add(me, task_work.CallbackHead(func, data), True) == 0
        assert task_work.task_work_cancel(me, never) is not None
        assert task_work.task_work_cancel(me, never) is None
        assert me.thread_info.flags & machine.cur.tif.NOTIFY_RESUME
        assert not done
        sys.getpid()
        return done, me.thread_info.flags & machine.cur.tif.NOTIFY_RESUME

    assert play(scenario, flavour) == (["second", "first", "added"], 0)


def test_no_work_for_a_dead_task() -> None:
    """A task does its last work in do_exit(), before its parent hears of it, and is given none after that."""

    def scenario(sys: Any) -> Any:
        done: list[int] = []

        def note(work: task_work.CallbackHead) -> None:
            done.append(task(work.data).exit_state)

        pid = child_of(sys)
        child = task(pid)
        assert task_work.task_work_add(child, task_work.CallbackHead(note, pid), False) == 0
        sys.kill(pid, 9)
        sys.nanosleep(5_000_000)
        return done, task_work.task_work_add(child, task_work.CallbackHead(note, pid), True)

    assert play(scenario) == ([0], -3)


@pytest.mark.parametrize(("flavour", "later"), [("4.19-arm", True), ("6.1-x86_64", True), ("6.18-x86_64", False)])
def test_when_close_closes(flavour: str, later: bool) -> None:
    """close(2) has the file closed on the way out; since v6.6 it closes it itself."""

    def scenario(sys: Any) -> Any:
        seen: list[bool] = []
        r, w = sys.pipe()
        f = machine.cur.cpu.curr.files.fd[w]
        release = f.f_op.release

        def note(data: Any, args: Any, nr: int) -> None:
            del data, args, nr
            seen.append(f.f_count == 0 and machine.cur.cpu.curr.task_works is not None)

        assert release is not None
        tracepoint_probe_register(machine.cur.tp, "sys_exit", note, None)
        sys.close(w)
        tracepoint_probe_unregister(machine.cur.tp, "sys_exit", note, None)
        return seen[0], sys.read(r, 1)

    assert play(scenario, flavour) == (later, b"")
