"""Pid namespaces; what the host shows, too, is in labs/truth/rules/namespaces.py."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bare import ALL, accounts, error, play, world
from taskscope.labs.truth.invariants import Watch
from taskscope.model import machine
from taskscope.model.include.linux.pid import MAX_PID_NS_LEVEL
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register
from taskscope.model.kernel import pid as pid_
from taskscope.model.kernel import pid_namespace
from taskscope.model.kernel.kallsyms import sprint_symbol
from taskscope.model.kernel.stacktrace import save_stack_trace_tsk

NEWPID = 0x2000_0000
SIGCHLD = 17


def asleep(sys: Any) -> None:
    while True:
        sys.pause()


def task_of(pid: int) -> Any:
    return machine.cur.init_pid_ns.idr[pid].tasks[0].next.owner


@pytest.mark.parametrize("flavour", ALL)
def test_numbers_of_each_level(flavour: str) -> None:
    """A struct pid has one number for each level, found in each namespace; pids of a level have their own cache."""

    def nested(sys: Any, levels: int, write: int) -> int:
        pid = machine.cur.cpu.curr.thread_pid
        assert [upid.ns.level for upid in pid.numbers] == list(range(pid.level + 1))
        assert all(upid.ns.idr[upid.nr] is pid for upid in pid.numbers)
        assert pid_.ns_of_pid(pid).child_reaper is machine.cur.cpu.curr
        assert pid_.ns_of_pid(pid).pid_cachep.name == f"pid_{pid.level + 1}"
        sys.write(write, f"{[upid.nr for upid in pid.numbers]}".encode())
        if levels:
            sys.waitpid(sys.clone(nested, levels - 1, write, flags=NEWPID | SIGCHLD))
        return 0

    def scenario(sys: Any) -> Any:
        read, write = sys.pipe()
        sys.waitpid(sys.clone(nested, 2, write, flags=NEWPID | SIGCHLD))
        return sys.read(read, 1000)

    assert play(scenario, flavour) == b"[3, 1][4, 2, 1][5, 3, 2, 1]"


def test_deepest_level() -> None:
    """A namespace of level 32 is the deepest: ENOSPC below."""

    def nested(sys: Any, write: int) -> int:
        try:
            sys.waitpid(sys.clone(nested, write, flags=NEWPID | SIGCHLD))
        except OSError as failed:
            sys.write(write, f"{machine.cur.cpu.curr.thread_pid.level} {failed.errno}".encode())
        return 0

    def scenario(sys: Any) -> Any:
        read, write = sys.pipe()
        sys.waitpid(sys.clone(nested, write, flags=NEWPID | SIGCHLD))
        return sys.read(read, 100)

    assert play(scenario) == f"{MAX_PID_NS_LEVEL} 28".encode()


@pytest.mark.parametrize("flavour", ALL)
def test_nothing_is_left(flavour: str) -> None:
    """A namespace goes with its last process, its pids, and who wanted children there; nothing is left of it."""

    def has_family(sys: Any) -> int:
        sys.clone(asleep)
        sys.clone(asleep, flags=NEWPID | SIGCHLD)
        return 3

    def unshares(sys: Any) -> int:
        sys.unshare(NEWPID)
        sys.waitpid(sys.clone(has_family))
        return 0 if error(sys.clone, asleep) == "ENOMEM" else 1

    def enters(sys: Any, pid: int) -> int:
        sys.setns(sys.open(f"/proc/{pid}/ns/pid"), NEWPID)
        sys.waitpid(sys.clone(has_family))
        return 0

    def scenario(sys: Any) -> Any:
        found = None
        for _ in range(3):
            statuses = [sys.waitpid(sys.clone(has_family, flags=NEWPID | SIGCHLD))[1], sys.waitpid(
                sys.clone(unshares))[1]]
            pid = sys.clone(asleep, flags=NEWPID | SIGCHLD)
            statuses.append(sys.waitpid(sys.clone(enters, pid))[1])
            sys.kill(pid, 9)
            statuses.append(sys.waitpid(pid)[1])
            while error(sys.waitpid, -1) != "ECHILD":
                pass
            sys.nanosleep(2_000_000_000)
            before, found = found, accounts()
        return statuses, before == found or {
            name: (one, found[name]) for name, one in before.items() if one != found[name]}

    assert play(scenario, flavour, 2) == ([0x300, 0, 0, 9], True)


def test_init_waits_for_who_was_sent_in() -> None:
    """An init that has died waits in zap_pid_ns_processes() while a zombie is there whose parent is outside."""

    def outer(sys: Any, pid: int, read: int) -> int:
        sys.setns(sys.open(f"/proc/{pid}/ns/pid"), NEWPID)
        child = sys.clone(asleep)
        sys.read(read, 1)
        return int(sys.waitpid(child)[1])

    def scenario(sys: Any) -> Any:
        read, write = sys.pipe()
        pid = sys.clone(asleep, flags=NEWPID | SIGCHLD)
        other = sys.clone(outer, pid, read)
        sys.nanosleep(5_000_000)
        sys.kill(pid, 9)
        sys.nanosleep(5_000_000)
        m = machine.cur
        stack = [sprint_symbol(m, one).partition("+")[0] for one in save_stack_trace_tsk(m, task_of(pid))]
        found = "zap_pid_ns_processes" in stack, error(sys.waitpid, pid, 1)
        sys.write(write, b"g")
        return found, sys.waitpid(pid)[1], sys.waitpid(other)[1]

    assert play(scenario) == ((True, "(0, 0)"), 9, 0x900)


@pytest.mark.parametrize(("flavour", "inside"), [("4.19-arm", 32768), ("6.1-x86_64", 32768), ("6.18-x86_64", 4194304)])
def test_pid_max(flavour: str, inside: int) -> None:
    """kernel.pid_max is one for all until v6.14; since then a namespace begins with the greatest, and has its own."""

    def shows(sys: Any, write: int) -> None:
        sys.write(write, sys.slurp("/proc/sys/kernel/pid_max").strip() + b" ")
        fd = sys.open("/proc/sys/kernel/pid_max", 1)
        sys.write(fd, b"5000")
        sys.write(write, sys.slurp("/proc/sys/kernel/pid_max"))

    def scenario(sys: Any) -> Any:
        read, write = sys.pipe()
        sys.waitpid(sys.clone(shows, write, flags=NEWPID | SIGCHLD))
        return sys.read(read, 100), int(sys.slurp("/proc/sys/kernel/pid_max"))

    assert play(scenario, flavour) == (f"{inside} 5000\n".encode(), 5000 if inside == 32768 else 32768)


def test_last_pid() -> None:
    """kernel.ns_last_pid is that of the namespace of who asks; writing it needs CAP_SYS_ADMIN."""

    def sets(sys: Any, write: int) -> None:
        before = int(sys.slurp("/proc/sys/kernel/ns_last_pid"))
        fd = sys.open("/proc/sys/kernel/ns_last_pid", 2)
        sys.write(fd, b"99")
        pid = sys.clone(lambda sys: 0)
        sys.setresuid(1000, 1000, 1000)
        sys.write(write, repr((before, pid, error(sys.write, fd, b"50"))).encode())

    def scenario(sys: Any) -> Any:
        read, write = sys.pipe()
        sys.waitpid(sys.clone(sets, write, flags=NEWPID | SIGCHLD))
        return sys.read(read, 100), int(sys.slurp("/proc/sys/kernel/ns_last_pid"))

    assert play(scenario) == (b"(1, 100, 'EPERM')", 4)


def test_full_namespace() -> None:
    """When a namespace has no number left fork() is EAGAIN, and the numbers above that were taken are given back."""

    def fills(sys: Any, write: int) -> int:
        pid_.task_active_pid_ns(machine.cur.cpu.curr).pid_max = 4
        pids = [sys.clone(lambda sys: 0) for _ in range(2)]
        above = len(machine.cur.init_pid_ns.idr)
        sys.write(write, repr((pids, error(sys.clone, asleep), len(machine.cur.init_pid_ns.idr) - above)).encode())
        return 0

    def scenario(sys: Any) -> Any:
        read, write = sys.pipe()
        sys.waitpid(sys.clone(fills, write, flags=NEWPID | SIGCHLD))
        return sys.read(read, 100)

    assert play(scenario, "6.18-x86_64") == b"([2, 3], 'EAGAIN', 0)"


def test_first_birth_that_fails() -> None:
    """If the first birth into a namespace fails for a number above, the next one is still number 1."""

    def scenario(sys: Any) -> Any:
        sys.unshare(NEWPID)
        m = machine.cur
        before, m.init_pid_ns.pid_max = m.init_pid_ns.pid_max, 3
        failed = error(sys.clone, asleep)
        m.init_pid_ns.pid_max = before
        read, write = sys.pipe()
        sys.waitpid(sys.clone(lambda sys: sys.write(write, str(sys.getpid()).encode()) and 0))
        return failed, sys.read(read, 10)

    assert play(scenario, "6.18-x86_64") == ("EAGAIN", b"1")


def test_events_have_global_numbers() -> None:
    """Trace events name tasks by their global pids, inside a namespace, too."""
    seen: list[tuple[int, int]] = []

    def probe(data: Any, parent: Any, child: Any) -> None:
        del data
        seen.append((parent.pid, child.pid))

    def has_child(sys: Any) -> None:
        assert sys.clone(lambda sys: 0) == 2
        sys.wait()

    def scenario(sys: Any) -> Any:
        tracepoint_probe_register(machine.cur.tp, "sched_process_fork", probe, None)
        pid = sys.clone(has_child, flags=NEWPID | SIGCHLD)
        sys.waitpid(pid)
        return pid

    pid = play(scenario)
    assert seen == [(1, pid), (pid, pid + 1)]


def test_entering_keeps_one_nsproxy_each() -> None:
    """unshare() and setns() give the caller an nsproxy of its own; others keep theirs, and threads have their own."""

    def thread(sys: Any, at: Any) -> None:
        sys.unshare(NEWPID)
        sys.store(at, machine.cur.cpu.curr.nsproxy.pid_ns_for_children.level)

    def scenario(sys: Any) -> Any:
        at = sys.new_word()
        sys.pthread_join(sys.pthread_create(thread, at))
        return sys.load(at), machine.cur.cpu.curr.nsproxy.pid_ns_for_children.level

    assert play(scenario) == (1, 0)


def test_other_namespaces_are_refused() -> None:
    """Of the kinds only pid namespaces are there: all others are EINVAL, as without them in the kernel."""

    def scenario(sys: Any) -> Any:
        kinds = (0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x4000_0000)
        return ([error(sys.unshare, kind) for kind in kinds],
                [error(lambda kind=kind: sys.clone(asleep, flags=kind | SIGCHLD)) for kind in kinds])

    assert play(scenario) == (["EINVAL"] * 6, ["EINVAL"] * 6)


def test_proc_ns() -> None:
    """/proc/PID/ns/pid has the number of the namespace, pid_for_children that of the children, once it has an init."""

    def scenario(sys: Any) -> Any:
        pid = sys.clone(asleep, flags=NEWPID | SIGCHLD)
        other = sys.clone(lambda sys: (sys.unshare(NEWPID), asleep(sys)))
        sys.nanosleep(5_000_000)
        inode = [sys.stat(f"/proc/{one}/ns/pid").st_ino for one in (1, pid, other)]
        return ([ino - pid_namespace.PROC_PID_INIT_INO for ino in inode], sys.listdir("/proc/1/ns"),
                error(sys.open, f"/proc/{other}/ns/pid_for_children"), error(sys.open, "/proc/1/ns/net"))

    assert play(scenario) == ([0, 4, 0], ["pid", "pid_for_children"], "ESRCH", "ENOENT")


STEPS = st.lists(st.tuples(st.sampled_from(["fork", "new", "unshare", "exit", "kill", "orphan"]), st.integers(0, 7)),
                 max_size=14)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, seed=st.integers(0, 1000), flavour=st.sampled_from(ALL), cpus=st.integers(1, 2))
def test_families_in_namespaces(
    steps: list[tuple[str, int]], seed: int, flavour: str, cpus: int
) -> None:
    """Births, deaths, new namespaces and their ends in any order leave all lists as they must be, and nothing over."""

    def lives(sys: Any, rest: list[tuple[str, int]]) -> int:
        for n, (what, arg) in enumerate(rest):
            after = rest[n + 1:]
            if what in ("fork", "new", "orphan"):
                flags = NEWPID | SIGCHLD if what == "new" else SIGCHLD
                try:
                    pid = sys.clone(lives, after[: arg], flags=flags)
                except OSError as failed:
                    if failed.errno not in (12, 22):
                        raise
                    continue
                if what == "fork" and arg % 2:
                    error(sys.waitpid, pid)
            elif what == "unshare":
                error(sys.unshare, NEWPID)
            elif what == "kill":
                error(sys.kill, -1 if arg == 7 else arg + 1, 9 if arg % 2 else 15)
            elif arg < 4:
                return arg
            sys.run_for(1000)
        return 0

    with world(flavour, cpus, seed) as one:
        def scenario(sys: Any) -> Any:
            watch = Watch(machine.cur)
            sys.waitpid(sys.clone(lives, steps, flags=NEWPID | SIGCHLD))
            while error(sys.waitpid, -1) != "ECHILD":
                pass
            sys.nanosleep(1_000_000_000)
            before = accounts()
            sys.waitpid(sys.clone(lives, steps, flags=NEWPID | SIGCHLD))
            watch.check()
            while error(sys.waitpid, -1) != "ECHILD":
                pass
            sys.nanosleep(1_000_000_000)
            watch.check()
            watch.close()
            after = accounts()
            return {name: (was, after[name]) for name, was in before.items()
                    if was != after[name] and name not in ("free pages", "slab pages", "vmap")}

        assert one.run(scenario) == {}
