"""Credentials: what programs with set-user-id give, limits; what the host shows, too, is in labs/truth/rules/ids.py."""

from __future__ import annotations

from typing import Any

import pytest

from bare import ALL, error, play
from taskscope.model import machine
from taskscope.model.user import programs

CLONE_FS = 0x200
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
LAST_CAP = {"4.19-arm": 37, "6.1-x86_64": 40, "6.18-x86_64": 40}


def told(sys: Any, argv: list[str]) -> int:
    """Say who one is after an execve()."""
    task = machine.cur.cpu.curr
    effective, permitted, _ = sys.capget()
    sys.write(int(argv[1]), repr((sys.getresuid(), sys.getresgid(), bool(effective), bool(permitted), task.mm.dumpable,
                                  task.pdeath_signal)).encode())
    return 0


def program(mode: int, uid: int, gid: int) -> str:
    """Put a program with owner and mode into the machine's /bin."""
    programs.install_program("/bin/owned", told)
    inode = machine.cur.init_fs.root.inode.i_children["bin"].i_children["owned"]
    inode.i_mode = inode.i_mode & ~0o7777 | mode
    inode.i_uid, inode.i_gid = uid, gid
    return "/bin/owned"


def executes(sys: Any, path: str, write: int, uid: int, prepare: Any) -> None:
    if prepare is not None:
        prepare(sys)
    sys.setresgid(uid, uid, uid)
    sys.setresuid(uid, uid, uid)
    sys.prctl(PR_SET_DUMPABLE, 1)
    sys.prctl(PR_SET_PDEATHSIG, 10)
    sys.execve(path, ["owned", str(write)])


def after_exec(mode: int, owner: tuple[int, int], uid: int, prepare: Any = None, flags: int = 17) -> Any:
    """Return what `told` says when user `uid` has executed a program of that mode and owner."""

    def scenario(sys: Any) -> Any:
        read, write = sys.pipe()
        pid = sys.clone(executes, program(mode, *owner), write, uid, prepare, flags=flags)
        sys.waitpid(pid)
        return eval(sys.read(read, 1000))

    return play(scenario)


def test_set_user_id() -> None:
    """A set-user-id program of root gives root's effective and saved id and all capabilities.

    It is not dumpable, and the signal for the parent's death is forgotten.
    """
    assert after_exec(0o4755, (0, 0), 1000) == ((1000, 0, 0), (1000, 1000, 1000), True, True, 0, 0)


def test_set_user_id_of_others() -> None:
    """A set-user-id program of another user gives that id and no capability."""
    assert after_exec(0o4755, (1001, 0), 1000) == ((1000, 1001, 1001), (1000, 1000, 1000), False, False, 0, 0)


def test_set_user_id_from_root() -> None:
    """Root that executes another user's set-user-id program has permitted capabilities and no effective ones."""
    assert after_exec(0o4755, (1001, 0), 0) == ((0, 1001, 1001), (0, 0, 0), False, True, 0, 0)


def test_set_group_id() -> None:
    """A set-group-id program gives its group if the group may execute it, else the bit means nothing."""
    assert after_exec(0o2755, (0, 50), 1000) == ((1000, 1000, 1000), (1000, 50, 50), False, False, 0, 0)
    assert after_exec(0o2705, (0, 50), 1000) == ((1000, 1000, 1000), (1000, 1000, 1000), False, False, 1, 10)


def test_without_the_bit() -> None:
    """A program without such bits leaves ids, dumpability and the death signal as they are."""
    assert after_exec(0o755, (0, 0), 1000) == ((1000, 1000, 1000), (1000, 1000, 1000), False, False, 1, 10)


def test_no_new_privileges() -> None:
    """With PR_SET_NO_NEW_PRIVS the bits mean nothing, for children too."""

    def prepare(sys: Any) -> None:
        sys.prctl(PR_SET_NO_NEW_PRIVS, 1)

    assert after_exec(0o6755, (0, 50), 1000, prepare) == (
        (1000, 1000, 1000), (1000, 1000, 1000), False, False, 1, 10)


def test_shared_directory() -> None:
    """Who shares root and working directory with another process gets no other ids by execve()."""
    assert after_exec(0o6755, (0, 50), 1000, flags=17 | CLONE_FS)[:4] == (
        (1000, 1000, 1000), (1000, 1000, 1000), False, False)


@pytest.mark.parametrize("flavour", ALL)
def test_capabilities_of_the_kernel(flavour: str) -> None:
    """Each kernel has its capabilities: 38 in 4.19, 41 since 5.9; init has them all, and /proc shows them."""

    def scenario(sys: Any) -> Any:
        shown = {line.split(":")[0]: line.split()[1] for line in sys.slurp("/proc/1/status").decode().splitlines()
                 if line.startswith(("Cap", "NoNew"))}
        return sys.capget(), shown, error(sys.prctl, 23, LAST_CAP[flavour]), error(sys.prctl, 23, LAST_CAP[flavour] + 1)

    full = (2 << LAST_CAP[flavour]) - 1
    text = f"{full:016x}"
    assert play(scenario, flavour) == (
        (full, full, 0), {"CapInh": "0" * 16, "CapPrm": text, "CapEff": text, "CapBnd": text, "CapAmb": "0" * 16,
                          "NoNewPrivs": "0"}, "1", "EINVAL")


def test_capget_versions() -> None:
    """capget() of an unknown version is EINVAL, or asks for the version if there is no data; version 1 has 32 bits."""

    def scenario(sys: Any) -> Any:
        from taskscope.model.include.linux.uaccess import Cell

        cell = Cell()
        return (error(sys._call, "capget", (1, 0), cell), error(sys._call, "capget", (1, 0), None),
                error(sys._call, "capget", (0x19980330, 0), cell), cell.value[1] == 0xFFFF_FFFF,
                error(sys._call, "capget", (0x20080522, 0), None), error(sys._call, "capget", 5, cell))

    assert play(scenario) == ("EINVAL", "0", "0", True, "EINVAL", "EFAULT")


def test_files_are_opened_with_groups_and_capabilities() -> None:
    """A file's group may be a supplementary one; without CAP_DAC_OVERRIDE user 0 is like others."""

    def tries(sys: Any, fd: int, uid: int, groups: list[int], cap: bool) -> None:
        if not cap:
            full = sys.capget()[1] & ~0b110
            sys.capset(full, full, 0)
        sys.setgroups(groups)
        if uid:
            sys.setresuid(uid, uid, uid)
        sys.write(fd, (error(sys.open, "/tmp/secret") + " ").encode())

    def scenario(sys: Any) -> Any:
        fd = sys.open("/tmp/secret", 0o101, 0o640)
        sys.close(fd)
        inode = machine.cur.init_fs.root.inode.i_children["tmp"].i_children["secret"]
        inode.i_uid, inode.i_gid = 7, 50
        read, write = sys.pipe()
        for uid, groups, cap in (
                (0, [], True), (0, [], False), (1000, [], True), (1000, [49, 50], True), (7, [], True)):
            sys.waitpid(sys.clone(tries, write, uid, groups, cap))
        return [found.isdigit() or found for found in sys.read(read, 1000).decode().split()]

    assert play(scenario) == [True, "EACCES", "EACCES", True, True]


def test_nice_and_realtime_limits() -> None:
    """RLIMIT_NICE allows nice values down to 20 less it, RLIMIT_RTPRIO realtime priorities up to it."""

    def tries(sys: Any, fd: int, nice: int, rtprio: int) -> None:
        sys.setrlimit(13, (nice, nice))
        sys.setrlimit(14, (rtprio, rtprio))
        sys.setresuid(1000, 1000, 1000)
        found = [error(sys.setpriority, 0, 0, value) for value in (0, -5, -6)]
        found += [error(sys.sched_setscheduler, 0, 1, value) for value in (rtprio, rtprio + 1, 1)]
        sys.write(fd, (" ".join(found) + "\n").encode())

    def scenario(sys: Any) -> Any:
        read, write = sys.pipe()
        sys.waitpid(sys.clone(tries, write, 25, 5))
        return sys.read(read, 1000).decode().split()

    assert play(scenario) == ["None", "None", "EACCES", "None", "EPERM", "None"]


def test_users_are_counted() -> None:
    """Processes are counted with the user of their real id, threads too, and come back at their end."""

    def becomes(sys: Any, fd: int) -> None:
        sys.setresuid(1000, -1, -1)
        sys.pthread_create(lambda sys: sys.pause())
        sys.nanosleep(1_000_000)
        users = machine.cur.uidhash
        sys.write(fd, f"{users[1000].processes} {users[0].processes}".encode())

    def scenario(sys: Any) -> Any:
        read, write = sys.pipe()
        before = machine.cur.root_user.processes
        sys.waitpid(sys.clone(becomes, write))
        sys.nanosleep(1_000_000_000)
        user, root = map(int, sys.read(read, 100).split())
        return user, root - before, machine.cur.root_user.processes - before, 1000 in machine.cur.uidhash

    assert play(scenario) == (2, 0, 0, False)
