"""Core dumps: fs/coredump.c, and the notes of elf_core_dump() in fs/binfmt_elf.c, v4.19.

get_signal() calls do_coredump() for a signal whose default action dumps core.  All other threads are killed and wait in
exit_mm() (since v5.16 at the top of do_exit()) until the dump is written; whether there is one, RLIMIT_CORE says.
The file is an ELF core with the notes of the process; a program here has neither registers nor pages of its own, so
that there are none in it.  Not modelled: core_pattern (it is "core"), helpers behind a pipe.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import taskscope.model.fs.file_table as file_table
import taskscope.model.fs.open as open_
import taskscope.model.fs.read_write as read_write
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.sched.completion as completion
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.signal.send as signal_send
from taskscope.model import machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.linux.fs import O_CREAT, O_RDWR, O_TRUNC
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.sched import (
    PF_DUMPCORE,
    PF_KTHREAD,
    PF_SIGNALED,
    TASK_RUNNING,
    TASK_UNINTERRUPTIBLE,
    Task,
)
from taskscope.model.include.linux.sched_signal import (
    JOBCTL_PENDING_MASK,
    RLIMIT_CORE,
    SIGNAL_GROUP_COREDUMP,
    SIGNAL_GROUP_EXIT,
    Siginfo,
    rlimit,
    signal_group_exit,
)
from taskscope.model.include.linux.spinlock import (
    spin_lock_irq,
    spin_lock_irqsave,
    spin_unlock_irq,
    spin_unlock_irqrestore,
)

if TYPE_CHECKING:
    from taskscope.model.include.linux.mm_types import MmStruct

CORE_PATTERN: Final = "core"
#: linux_binfmt.min_coredump: what is less is not worth a file
ELF_EXEC_PAGESIZE: Final = 4096
_SIGKILL_BIT: Final = 1 << 8

ET_CORE: Final = 4
EM_ARM, EM_X86_64 = 40, 62
PT_NOTE: Final = 4
NT_PRPSINFO: Final = 3
NT_SIGINFO: Final = 0x53494749


class CoreThread:
    """struct core_thread: a thread that waits until the core is written."""

    __slots__ = ("task",)

    def __init__(self, task: Task | None) -> None:
        self.task = task


class CoreState:
    """struct core_state: one dump in progress."""

    __slots__ = ("dumper", "nr_threads", "startup", "waiting")

    def __init__(self, dumper: Task) -> None:
        self.dumper = dumper
        self.nr_threads = 0             # that have not come to coredump_task_exit() yet
        self.startup = Completion()
        self.waiting: list[CoreThread] = []


def zap_process(start: Task, exit_code: int, core_state: CoreState) -> int:
    """Kill the threads of a process that are not the dumper; return how many there are.

    Context: siglock held.
    """
    assert start.sighand is not None
    assert start.sighand.siglock.held, "siglock"
    current = machine.cur.cpu.curr
    signal = start.signal
    signal.group_exit_code = exit_code
    signal.group_stop_count = 0
    # C asks mm->core_state (signal->core_state since v5.16); all that share the mm are marked here.
    signal.coredump = core_state
    nr = 0
    for t in signal_send.while_each_thread(start):
        signal_send.task_clear_jobctl_pending(t, JOBCTL_PENDING_MASK)
        if t is not current and t.mm is not None:
            t.pending.signal |= _SIGKILL_BIT
            signal_send.signal_wake_up(t, 1)
            nr += 1
    return nr


def zap_threads(tsk: Task, mm: MmStruct, core_state: CoreState, exit_code: int) -> int:
    """Kill all who use the address space; how many they are, -EAGAIN if the process dies already."""
    m = machine.cur
    assert tsk.sighand is not None
    spin_lock_irq(tsk.sighand.siglock)
    if signal_group_exit(tsk.signal):
        spin_unlock_irq(tsk.sighand.siglock)
        return -11
    nr = zap_process(tsk, exit_code, core_state)
    if m.flavour.switches.coredump_is_group_exit:
        tsk.signal.flags = SIGNAL_GROUP_EXIT
    else:
        tsk.signal.group_exit_task = tsk
        # ignore all signals except SIGKILL, see prepare_signal()
        tsk.signal.flags = SIGNAL_GROUP_COREDUMP
    tsk.thread_info.flags &= ~m.tif_sigpending
    spin_unlock_irq(tsk.sighand.siglock)
    tsk.flags |= PF_DUMPCORE
    if not m.flavour.switches.coredump_is_group_exit and mm.mm_users != nr + 1:
        # Processes with the same address space that are not threads of this one.
        for g in list_for_each_entry(m.init_task.tasks):
            if g is tsk.group_leader or g.flags & PF_KTHREAD:
                continue
            for p in signal_send.while_each_thread(g):
                if p.mm is not None:
                    if p.mm is mm:
                        assert p.sighand is not None
                        flags = spin_lock_irqsave(p.sighand.siglock)
                        nr += zap_process(p, exit_code, core_state)
                        p.signal.flags = SIGNAL_GROUP_EXIT
                        spin_unlock_irqrestore(p.sighand.siglock, flags)
                    break
    core_state.nr_threads = nr
    return nr


def coredump_wait(exit_code: int, core_state: CoreState) -> int:
    """Kill the other threads and wait until none of them runs any more; a negative errno if somebody else dumps."""
    tsk = core_state.dumper
    assert tsk.mm is not None
    core_waiters = -16 if tsk.signal.coredump is not None else zap_threads(tsk, tsk.mm, core_state, exit_code)
    if core_waiters > 0:
        completion.wait_for_completion(core_state.startup)
        # Not modelled: wait_task_inactive(), as there are no registers to be copied.
    return core_waiters


def coredump_task_exit(tsk: Task) -> None:
    """Wait until the core is written: a part of exit_mm() before v5.16."""
    core_state: CoreState = tsk.signal.coredump
    this = CoreThread(None)
    if tsk.flags & PF_SIGNALED:
        this.task = tsk
        core_state.waiting.insert(0, this)
    core_state.nr_threads -= 1
    if not core_state.nr_threads:
        completion.complete(core_state.startup)
    while True:
        tsk.state = TASK_UNINTERRUPTIBLE
        if this.task is None:               # see coredump_finish()
            break
        sched_core.schedule()
    tsk.state = TASK_RUNNING


def coredump_finish(core_state: CoreState, core_dumped: bool) -> None:
    """Let the threads go on dying; the wait status says whether there is a core."""
    current = core_state.dumper
    assert current.sighand is not None
    spin_lock_irq(current.sighand.siglock)
    if core_dumped and not signal_send.__fatal_signal_pending(current):
        current.signal.group_exit_code |= 0x80
    current.signal.group_exit_task = None
    current.signal.flags = SIGNAL_GROUP_EXIT
    current.signal.coredump = None
    spin_unlock_irq(current.sighand.siglock)
    for curr in core_state.waiting:
        task = curr.task
        assert task is not None
        curr.task = None
        task.signal.coredump = None
        sched_core.wake_up_process(task)


def do_coredump(siginfo: Siginfo) -> None:
    """Write a core of the running process, if it may have one."""
    current = machine.cur.cpu.curr
    mm = current.mm
    limit = rlimit(current, RLIMIT_CORE)
    if mm is None or not mm.dumpable:
        return
    core_state = CoreState(current)
    if coredump_wait(siginfo.si_signo, core_state) < 0:
        return
    core_dumped = False
    if limit >= ELF_EXEC_PAGESIZE:
        file = open_.filp_open(CORE_PATTERN, O_CREAT | O_RDWR | O_TRUNC, 0o600)
        if not isinstance(file, int):
            inode = file.f_inode
            # Don't dump core if the filesystem changed owner or mode of the file: it must be ours alone.
            if inode.i_uid == current.cred.fsuid and inode.i_mode & 0o677 == 0o600:
                core_dumped = elf_core_dump(siginfo, file, limit)
            file_table.fput(file)
    coredump_finish(core_state, core_dumped)


def elf_core_dump(siginfo: Siginfo, file: Any, limit: int) -> bool:
    """Write the core: an ELF header, the program header of the notes, and they; as much of it as `limit` allows."""
    data = elf_core(siginfo)
    read_write.vfs_write(file, data[:limit], min(len(data), limit))
    return True


def elf_core(siginfo: Siginfo) -> bytes:
    """Return the core's bytes."""
    m = machine.cur
    wide = m.flavour.long_size == 8
    notes = _note(NT_PRPSINFO, fill_psinfo(m.cpu.curr, wide)) + _note(NT_SIGINFO, fill_siginfo(siginfo, wide))
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1, 1, 0)) + bytes(8)
    if wide:
        header = struct.pack("<HHIQQQIHHHHHH", ET_CORE, EM_X86_64, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        program = struct.pack("<IIQQQQQQ", PT_NOTE, 0, 120, 0, 0, len(notes), 0, 4)
    else:
        header = struct.pack("<HHIIIIIHHHHHH", ET_CORE, EM_ARM, 1, 0, 52, 0, 0x0500_0000, 52, 32, 1, 0, 0, 0)
        program = struct.pack("<IIIIIIII", PT_NOTE, 84, 0, 0, len(notes), 0, 0, 4)
    return ident + header + program + notes


def fill_psinfo(p: Task, wide: bool) -> bytes:
    """Return struct elf_prpsinfo: who dumped."""
    assert p.mm is not None
    group, session = pid_.task_pgrp(p), pid_.task_session(p)
    parent = p.real_parent
    ids = (pid_.task_pid_vnr(p), pid_.task_pid_vnr(parent), pid_.pid_vnr(group), pid_.pid_vnr(session))
    nice = (p.static_prio - 120) & 0xFF
    args = " ".join(p.mm.argv).encode()[:79]
    words = (p.flags, p.cred.uid, p.cred.gid, *ids)
    form = "<bcbB4xQIIiiii16s80s" if wide else "<bcbBIHHiiii16s80s"
    return struct.pack(form, 0, b"R", 0, nice, *words, p.comm.encode(), args)


def fill_siginfo(info: Siginfo, wide: bool) -> bytes:
    """Return siginfo_t as far as it is known."""
    head = struct.pack("<iii", info.si_signo, info.si_errno, info.si_code)
    return (head + bytes(4 if wide else 0) + struct.pack("<iI", info.si_pid, info.si_uid)).ljust(128, b"\0")


def _note(kind: int, data: bytes) -> bytes:
    return struct.pack("<III", 5, len(data), kind) + b"CORE\0\0\0\0" + data.ljust((len(data) + 3) & ~3, b"\0")


def exit_hook(tsk: Task) -> None:
    """Wait for the dump of whoever kills this thread, if somebody does."""
    if tsk.signal.coredump is not None and tsk.signal.coredump.dumper is not tsk:
        coredump_task_exit(tsk)
