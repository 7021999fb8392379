"""do_exit(), reparenting, orphaned process groups, and the wait calls."""

from __future__ import annotations

from typing import Any

import pytest

from bare import ALL, accounts, error, play, world
from taskscope.model import machine
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.include.uapi.linux import sched as c
from taskscope.model.kernel import exit as x

SIGCHLD = 17


def asleep(sys: Any) -> None:
    while True:
        sys.pause()


def task_of(pid: int) -> Any:
    return machine.cur.init_pid_ns.idr[pid].tasks[0].next.owner


def trace(one: Any, *names: str) -> list[tuple[str, int]]:
    """Note (tracepoint, pid of who runs) as they come."""
    seen: list[tuple[str, int]] = []

    def probe(data: Any, *args: Any) -> None:
        seen.append((data, machine.cur.cpu.curr.pid))

    for name in names:
        tracepoint_probe_register(one.m.tp, name, probe, name)
    return seen


# ---- wait statuses --------------------------------------------------------------------------------------

@pytest.mark.parametrize("flavour", ALL)
def test_statuses(flavour: str) -> None:
    """exit(3) is 0x300, SIGKILL 9, SIGTERM 15, SIGSEGV 11 without a core, and only the low byte of exit() counts."""

    def scenario(sys: Any) -> Any:
        def ends(code: int) -> Any:
            pid = sys.clone(lambda sys: sys.exit(code))
            return sys.waitpid(pid)[1]

        def killed(sig: int) -> Any:
            pid = sys.clone(asleep)
            sys.nanosleep(1000)
            sys.kill(pid, sig)
            return sys.waitpid(pid)[1]

        return ends(3), ends(0x1FF), killed(9), killed(15), killed(11)

    assert play(scenario, flavour) == (0x300, 0xFF00, 9, 15, 11)


def test_wait_options_and_errors() -> None:
    """WNOHANG returns 0, WUNTRACED and WCONTINUED report once, wrong options are EINVAL, no such child is ECHILD."""

    def scenario(sys: Any) -> Any:
        pid = sys.clone(asleep)
        sys.nanosleep(1_000_000)
        got = [
            sys.waitpid(pid, x.WNOHANG),
            error(sys.waitpid, pid, 0x10),
            error(sys.waitpid, 4242),
            error(sys.waitpid, -4242),
            error(sys.waitpid, -(1 << 31)),
        ]
        sys.kill(pid, 19)
        got.append(sys.waitpid(pid, x.WUNTRACED)[1])
        got.append(sys.waitpid(pid, x.WUNTRACED | x.WNOHANG))
        sys.kill(pid, 18)
        got.append(sys.waitpid(pid, x.WCONTINUED)[1])
        got.append(sys.waitpid(pid, x.WCONTINUED | x.WNOHANG))
        sys.kill(pid, 9)
        got.append(sys.waitpid(pid)[1])
        got.append(error(sys.waitpid, pid))
        return got

    assert play(scenario) == [
        (0, 0),
        "EINVAL",
        "ECHILD",
        "ECHILD",
        "ESRCH",
        0x137F,
        (0, 0),
        0xFFFF,
        (0, 0),
        9,
        "ECHILD",
    ]


@pytest.mark.parametrize("flavour", ALL)
def test_waitid(flavour: str) -> None:
    """waitid() fills siginfo; WNOWAIT leaves the zombie; no event option is EINVAL; WNOHANG without news is all 0."""

    def scenario(sys: Any) -> Any:
        pid = sys.clone(asleep)
        sys.nanosleep(1_000_000)
        none = sys.waitid(1, pid, x.WEXITED | x.WNOHANG)
        wrong = [error(sys.waitid, 1, pid, 0), error(sys.waitid, 1, pid, x.WNOHANG), error(sys.waitid, 1, 0, x.WEXITED),
                 error(sys.waitid, 9, pid, x.WEXITED), error(sys.waitid, 2, 0, x.WEXITED | x.WNOHANG)]
        sys.kill(pid, 19)
        stopped = sys.waitid(1, pid, x.WSTOPPED)
        sys.kill(pid, 18)
        continued = sys.waitid(1, pid, x.WCONTINUED)
        sys.kill(pid, 15)
        left = sys.waitid(1, pid, x.WEXITED | x.WNOWAIT)
        zombie = task_of(pid).exit_state
        taken = sys.waitid(0, 0, x.WEXITED)
        gone = error(sys.waitid, 1, pid, x.WEXITED)
        return (
            none,
            wrong,
            *((i.si_signo, i.si_code, i.si_status, i.si_pid == pid) for i in (stopped, continued, left, taken)),
            zombie,
            gone,
        )

    none, wrong, stopped, continued, left, taken, zombie, gone = play(scenario, flavour)
    assert none is None or none.si_pid == 0
    # P_PGID with 0 is the caller's own group since v5.4
    own = "EINVAL" if flavour == "4.19-arm" else None
    assert wrong[:4] == ["EINVAL"] * 4
    assert (wrong[4] == own) if own else wrong[4] != "EINVAL"
    assert (stopped, continued) == ((17, 5, 19, True), (17, 6, 18, True))
    assert left == taken == (17, 2, 15, True)
    assert (zombie, gone) == (0x20, "ECHILD")


def test_wclone_wall_and_exit_signal() -> None:
    """A child with another exit signal than SIGCHLD is waited for by __WCLONE and __WALL only."""

    def scenario(sys: Any) -> Any:
        def child(sys: Any) -> int:
            return 7

        sys.sigaction(10, 1)
        one = sys.clone(child, flags=10)
        two = sys.clone(child, flags=0)
        sys.nanosleep(1_000_000)
        return (error(sys.waitpid, one), sys.waitpid(one, x.__WCLONE)[1], sys.waitpid(two, x.__WALL)[1],
                error(sys.waitpid, -1, x.__WALL))

    assert play(scenario) == ("ECHILD", 0x700, 0x700, "ECHILD")


def test_wait_by_group() -> None:
    """wait4(0) and wait4(-pgid) look at children of one process group."""

    def scenario(sys: Any) -> Any:
        a, b = sys.clone(asleep), sys.clone(asleep)
        sys.setpgid(a, a)
        sys.setpgid(b, a)
        sys.nanosleep(1_000_000)
        own = error(sys.waitpid, 0)
        sys.killpg(a, 15)
        first, second = sys.waitpid(-a)[0], sys.waitpid(-a)[0]
        return own, {first, second} == {a, b}, error(sys.waitpid, -a)

    assert play(scenario) == ("ECHILD", True, "ECHILD")


def test_a_signal_interrupts_wait() -> None:
    """wait4() is EINTR when a handler without SA_RESTART runs, and goes on when it has SA_RESTART."""

    def scenario(sys: Any) -> Any:
        pid = sys.clone(asleep)
        hits = []
        sys.sigaction(10, lambda sys, sig, info: hits.append(sig))
        me = sys.getpid()

        def poke(sys: Any) -> None:
            sys.nanosleep(5_000_000)
            sys.kill(me, 10)
            sys.nanosleep(5_000_000)
            sys.kill(pid, 9)

        poker = sys.clone(poke)
        interrupted = error(sys.waitpid, pid)
        done = sys.waitpid(pid)[1]
        sys.waitpid(poker)
        return interrupted, hits, done

    assert play(scenario) == ("EINTR", [10], 9)


# ---- autoreap -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["ignored", "nocldwait"])
def test_children_nobody_waits_for_release_themselves(how: str) -> None:
    """With SIGCHLD ignored, or SA_NOCLDWAIT, there are no zombies; wait4() sleeps for the last and is ECHILD."""

    def scenario(sys: Any) -> Any:
        got = []
        if how == "ignored":
            sys.sigaction(SIGCHLD, 1)
        else:
            sys.sigaction(SIGCHLD, lambda sys, sig, info: got.append(sig), 2)
        pid = sys.clone(lambda sys: sys.nanosleep(3_000_000))
        begun = machine.cur.now
        failed = error(sys.waitpid, pid)
        if failed == "EINTR":
            failed = error(sys.waitpid, pid)
        waited = machine.cur.now - begun
        # the parent is woken before the child has released itself
        sys.nanosleep(1_000_000)
        return failed, waited >= 3_000_000, pid in machine.cur.init_pid_ns.idr, got

    assert play(scenario) == ("ECHILD", True, False, [] if how == "ignored" else [17])


# ---- who takes the children -----------------------------------------------------------------------------

@pytest.mark.parametrize("flavour", ALL)
def test_orphans_go_to_a_thread_a_subreaper_or_init(flavour: str) -> None:
    """A dead parent's children go to a thread of it, the nearest subreaper above, or init; both fields change."""

    def middle(sys: Any) -> None:
        pid = sys.clone(asleep)
        sys.write(1, f"{pid} ".encode())
        sys.pause()

    def subreaper(sys: Any) -> None:
        sys.prctl(36, 1)
        sys.write(1, f"{sys.clone(middle)} ".encode())
        while True:
            sys.pause()

    def threaded(sys: Any) -> None:
        sys.pthread_create(asleep)
        sys.write(1, f"{sys.clone(asleep)} ".encode())
        sys.thread_exit(0) if hasattr(sys, "thread_exit") else sys._exit_thread(0)

    def scenario(sys: Any) -> Any:
        m = machine.cur
        # init
        pid = sys.clone(middle)
        sys.nanosleep(10_000_000)
        orphan = int(m.console_tty.text.split()[-1])
        before = task_of(orphan).real_parent.pid
        sys.kill(pid, 9)
        sys.waitpid(pid)
        to_init = (before == pid, task_of(orphan).real_parent.pid, task_of(orphan).parent.pid)
        sys.kill(orphan, 9)
        sys.waitpid(orphan)
        # subreaper
        reaper = sys.clone(subreaper)
        sys.nanosleep(10_000_000)
        orphan, between = sorted((int(n) for n in m.console_tty.text.split()[-2:]), reverse=True)
        sys.kill(between, 9)
        sys.nanosleep(10_000_000)
        to_reaper = (task_of(orphan).real_parent.pid == reaper, task_of(orphan).parent.pid == reaper)
        sys.kill(reaper, 9)
        sys.waitpid(reaper)
        sys.nanosleep(10_000_000)
        afterwards = task_of(orphan).real_parent.pid
        return to_init, to_reaper, afterwards

    assert play(scenario, flavour) == ((True, 1, 1), (True, True), 1)


def test_orphans_go_to_another_thread_first() -> None:
    """When one thread ends, its children become those of another thread of the process, and nobody is told."""
    def thread(sys: Any, out: list[int]) -> None:
        out.append(sys.clone(asleep))
        sys.nanosleep(2_000_000)

    def scenario(sys: Any) -> Any:
        out: list[int] = []
        tid = sys.pthread_create(thread, out)
        sys.nanosleep(1_000_000)
        child = task_of(out[0])
        before = child.real_parent.pid == tid
        sys.nanosleep(10_000_000)
        return (
            before,
            child.real_parent is machine.cur.cpu.curr,
            child.parent is machine.cur.cpu.curr,
            tid in machine.cur.init_pid_ns.idr,
        )

    assert play(scenario) == (True, True, True, False)


def test_pdeath_signal() -> None:
    """PR_SET_PDEATHSIG sends its signal when the parent dies, and a fork clears it."""

    def child(sys: Any) -> None:
        sys.prctl(1, 15)
        sys.pause()

    def parent(sys: Any) -> None:
        sys.write(1, f"{sys.clone(child)} ".encode())
        sys.nanosleep(5_000_000)

    def scenario(sys: Any) -> Any:
        pid = sys.clone(parent)
        sys.waitpid(pid)
        orphan = int(machine.cur.console_tty.text.split()[-1])
        return sys.waitpid(orphan)[1]

    assert play(scenario) == 15


def test_zombie_child_of_a_dead_parent_is_reaped_by_init() -> None:
    """A zombie whose parent dies first is announced to init, which reaps it."""

    def parent(sys: Any) -> None:
        sys.write(1, f"{sys.clone(lambda sys: 5)} ".encode())
        sys.nanosleep(5_000_000)

    def scenario(sys: Any) -> Any:
        pid = sys.clone(parent)
        sys.nanosleep(2_000_000)
        zombie = int(machine.cur.console_tty.text.split()[-1])
        state = task_of(zombie).exit_state
        ends = dict([sys.waitpid(-1), sys.waitpid(-1)])
        return state, ends == {pid: 0, zombie: 0x500}

    assert play(scenario) == (0x20, True)


# ---- orphaned process groups ----------------------------------------------------------------------------

def test_orphaned_group_with_stopped_jobs_gets_hup_and_cont() -> None:
    """When its last link to another group of the session goes, a group with a stopped member gets HUP, then CONT."""

    def job(sys: Any) -> None:
        while True:
            sys.pause()

    def shell(sys: Any) -> None:
        sys.setsid()
        pid = sys.clone(job)
        sys.setpgid(pid, pid)
        sys.write(1, f"{pid} ".encode())
        sys.pause()

    def scenario(sys: Any) -> Any:
        leader = sys.clone(shell)
        sys.nanosleep(2_000_000)
        pid = int(machine.cur.console_tty.text.split()[-1])
        stopped = task_of(pid)
        sys.kill(pid, 19)
        sys.nanosleep(2_000_000)
        state = stopped.state
        sent: list[int] = []
        tracepoint_probe_register(
            machine.cur.tp,
            "signal_generate",
            lambda data, sig, info, task, group, result: sent.append((sig, task.pid == pid)),
            None,
        )
        sys.kill(leader, 9)
        sys.waitpid(leader)
        status = sys.waitpid(pid)[1]
        return state & 4, [sig for sig, mine in sent if mine], status

    assert play(scenario) == (4, [1, 18], 1)


def test_terminal_stops_are_ignored_in_orphaned_groups() -> None:
    """SIGTSTP, SIGTTIN and SIGTTOU do nothing to a process of an orphaned group; SIGSTOP does."""

    def lonely(sys: Any) -> None:
        sys.setsid()
        while True:
            sys.pause()

    def scenario(sys: Any) -> Any:
        pid = sys.clone(lonely)
        sys.nanosleep(1_000_000)
        states = []
        for sig in (20, 21, 22, 19):
            sys.kill(pid, sig)
            sys.nanosleep(1_000_000)
            states.append(task_of(pid).state & 4)
        return states

    assert play(scenario) == [0, 0, 0, 4]


# ---- do_exit() ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flavour", ALL)
def test_order_of_a_death(flavour: str) -> None:
    """The exit event stands before or behind the end of mm by flavour; SIGCHLD comes before the last switch."""
    with world(flavour) as one:
        marks: list[str] = []

        def scenario(sys: Any) -> Any:
            def exited(data: Any, p: Any, group_dead: bool = False) -> None:
                marks.append(f"exit mm={p.mm is not None} files={p.files is not None} state={p.exit_state}")

            def signalled(data: Any, sig: int, info: Any, task: Any, group: int, result: int) -> None:
                p = machine.cur.cpu.curr
                if sig == SIGCHLD:
                    marks.append(
                        f"sigchld mm={p.mm is not None} files={p.files is not None} state={p.exit_state} "
                        f"code={info.si_code}"
                    )

            def switched(data: Any, preempt: bool, prev: Any, next: Any) -> None:
                if prev.state == 0x80:
                    marks.append(f"dead state={prev.exit_state} flags={prev.flags & 0xC}")

            tracepoint_probe_register(one.m.tp, "sched_process_exit", exited, None)
            tracepoint_probe_register(one.m.tp, "signal_generate", signalled, None)
            tracepoint_probe_register(one.m.tp, "sched_switch", switched, None)
            pid = sys.clone(lambda sys: 3)
            sys.nanosleep(5_000_000)
            return sys.waitpid(pid)[1]

        assert one.run(scenario) == 0x300
        assert marks[0] == f"exit mm={flavour == '6.18-x86_64'} files=True state=0"
        assert marks[1] == "sigchld mm=False files=False state=0 code=1"
        # PF_EXITPIDONE is a flag of kernels before 5.5
        assert marks[2] == f"dead state=32 flags={0xC if flavour == '4.19-arm' else 0x4}"


def test_recursion_is_caught() -> None:
    """A task that calls do_exit() inside do_exit() sleeps for ever, and the log says that a reboot is needed."""
    with world() as one:
        def scenario(sys: Any) -> Any:
            def fault(data: Any, p: Any, group_dead: bool = False) -> None:
                if p.comm == "init" and p.pid > 2:
                    x.do_exit(11)

            tracepoint_probe_register(one.m.tp, "sched_process_exit", fault, None)
            pid = sys.clone(lambda sys: 0)
            sys.nanosleep(5_000_000)
            task = task_of(pid)
            return task.state, task.flags & 0xC, task.exit_state

        assert one.run(scenario) == (2, 0xC, 0)
        with one.current():
            from taskscope.model.kernel import printk

            assert "Fixing recursive fault but reboot is needed!" in printk.dmesg()


def test_the_end_of_init_is_a_panic() -> None:
    """When pid 1 exits the machine stops with "Attempted to kill init!"."""
    with world() as one:
        with pytest.raises(AssertionError, match="Attempted to kill init! exitcode=0x00000300"):
            one.run(lambda sys: sys.exit(3))
        assert one.m.panicked is not None


def test_init_ignores_what_it_has_no_handler_for() -> None:
    """Kill -9 1 does nothing, from anybody."""

    def scenario(sys: Any) -> Any:
        sys.waitpid(sys.clone(lambda sys: sys.kill(1, 9)))
        sys.kill(1, 15)
        return "alive"

    assert play(scenario) == "alive"


def test_exit_group_ends_all_threads_and_tells_the_parent_once() -> None:
    """exit_group() in one thread ends the others; the zombie waits for the last; one SIGCHLD is sent."""

    def process(sys: Any) -> None:
        for _ in range(3):
            sys.pthread_create(asleep)
        sys.pthread_create(lambda sys: sys.exit(6))
        asleep(sys)

    def scenario(sys: Any) -> Any:
        count: list[int] = []
        tracepoint_probe_register(
            machine.cur.tp,
            "signal_generate",
            lambda data, sig, info, task, group, result: count.append(sig) if sig == SIGCHLD else None,
            None,
        )
        before = machine.cur.nr_threads
        pid = sys.clone(process)
        status = sys.waitpid(pid)[1]
        return status, count, machine.cur.nr_threads == before

    assert play(scenario) == (0x600, [17], True)


def test_a_dead_leader_waits_for_its_threads() -> None:
    """A dead leader is a zombie that nobody can reap until its last thread is gone; the status is the leader's."""

    def process(sys: Any) -> None:
        sys.pthread_create(lambda sys: sys.nanosleep(20_000_000))
        sys._call("exit", 9)

    def scenario(sys: Any) -> Any:
        pid = sys.clone(process)
        sys.nanosleep(5_000_000)
        early = (task_of(pid).exit_state, sys.waitpid(pid, x.WNOHANG))
        return early, sys.waitpid(pid)[1]

    assert play(scenario) == ((0x20, (0, 0)), 0x900)


@pytest.mark.parametrize("flavour", ALL)
def test_nothing_is_left_of_a_crowd(flavour: str) -> None:
    """After processes with threads, files and signals have come and gone, every count is what it was."""

    def busy(sys: Any) -> None:
        sys.pthread_create(asleep)
        for _ in range(2):
            sys.clone(asleep)
        sys.pause()

    def scenario(sys: Any) -> Any:
        def round_() -> None:
            pids = [sys.clone(busy) for _ in range(4)]
            sys.nanosleep(20_000_000)
            for pid in pids:
                sys.kill(pid, 9)
            sys.nanosleep(5_000_000)
            sys.kill(-1, 9)
            while error(sys.waitpid, -1) != "ECHILD":
                pass
            sys.nanosleep(1_000_000_000)

        round_()
        before = accounts()
        round_()
        after = accounts()
        return {k: (before[k], after[k]) for k in before if before[k] != after[k]}

    assert play(scenario, flavour, cpus=2) == {}


def test_clone_parent_makes_a_sibling() -> None:
    """CLONE_PARENT gives the child the caller's parent and the caller's exit signal."""

    def middle(sys: Any) -> None:
        sys.clone(asleep, flags=c.CLONE_PARENT)
        sys.pause()

    def scenario(sys: Any) -> Any:
        pid = sys.clone(middle, flags=10)
        sys.sigaction(10, lambda sys, sig, info: None)
        sys.nanosleep(1_000_000)
        sibling = next(child.owner for child in nodes(machine.cur.cpu.curr.children) if child.owner.pid != pid)
        return sibling.real_parent.pid, sibling.exit_signal

    def nodes(head: Any) -> list[Any]:
        found, node = [], head.next
        while node is not head:
            found.append(node)
            node = node.next
        return found

    # init may not: its siblings would have nobody to reap them
    assert play(scenario) == (1, 10)
