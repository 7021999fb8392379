"""The line discipline: what is typed becomes lines and signals: drivers/tty/n_tty.c, v4.19.

Without ICANON each byte can be read at once.  Not modelled: VTIME, VLNEXT, VWERASE, flow control, echo buffers.
"""

from __future__ import annotations

from errno import EAGAIN
from typing import TYPE_CHECKING, Final

import taskscope.model.drivers.tty.tty_io as tty_io
import taskscope.model.drivers.tty.tty_jobctrl as jobctrl
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as sched_wait
import taskscope.model.kernel.signal.kill as signal_kill
from taskscope.model import machine
from taskscope.model.include.linux.errno import ERESTARTSYS
from taskscope.model.include.linux.fs import O_NONBLOCK, File
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.wait import DEFINE_WAIT, wake_up_interruptible
from taskscope.model.include.uapi.asm_generic.termbits import (
    ECHO,
    ICANON,
    ICRNL,
    ISIG,
    NOFLSH,
    POSIX_VDISABLE,
    TOSTOP,
    VEOF,
    VERASE,
    VINTR,
    VKILL,
    VMIN,
    VQUIT,
    VSUSP,
)

if TYPE_CHECKING:
    from taskscope.model.drivers.tty.tty_io import TtyStruct

SIGINT, SIGQUIT, SIGTTIN, SIGTSTP = 2, 3, 21, 20
_SIGNALS: Final = ((VINTR, SIGINT), (VQUIT, SIGQUIT), (VSUSP, SIGTSTP))


def input_available(tty: TtyStruct) -> bool:
    """Tell whether a read has something to return: a line, or without ICANON at least VMIN bytes."""
    if tty.termios.c_lflag & ICANON or tty.lines:
        return bool(tty.lines)
    return len(tty.line) >= tty.termios.c_cc[VMIN] and (bool(tty.line) or not tty.termios.c_cc[VMIN])


def take_input(tty: TtyStruct, count: int) -> bytes:
    """Take what a read returns."""
    if not tty.lines:
        ret, tty.line = tty.line[:count], tty.line[count:]
        return ret
    line = tty.lines[0]
    if len(line) > count:
        tty.lines[0] = line[count:]
    else:
        del tty.lines[0]
    return line[:count]


def n_tty_read(tty: TtyStruct, f: File, count: int) -> bytes | int:
    """Read a line, waiting for it; b"" is an end of file (^D on an empty line)."""
    current = machine.cur.cpu.curr
    # job_control()
    error = jobctrl.__tty_check_change(tty, SIGTTIN)
    if error:
        return error
    wait = DEFINE_WAIT()
    ret: bytes | int
    while True:
        sched_wait.prepare_to_wait(tty.read_wait, wait, TASK_INTERRUPTIBLE)
        if input_available(tty):
            ret = take_input(tty, count)
            break
        if tty.hung_up:
            ret = b""
            break
        if f.f_flags & O_NONBLOCK:
            ret = -EAGAIN
            break
        if signal_pending(current):
            ret = -ERESTARTSYS
            break
        sched_core.schedule()
    sched_wait.finish_wait(tty.read_wait, wait)
    return ret


def n_tty_write(tty: TtyStruct, data: bytes) -> int:
    """Show bytes.  A background group may, unless TOSTOP is set."""
    # Job control check -- must be done at start (POSIX.1 7.1.1.4).
    if tty.termios.c_lflag & TOSTOP:
        error = jobctrl.tty_check_change(tty)
        if error:
            return error
    tty_io.tty_show(tty, data)
    return len(data)


def n_tty_receive_buf(tty: TtyStruct, data: bytes) -> None:
    """Take what was typed: edit the line, send signals, complete lines.

    Context: a worker, see `tty_buffer.flush_to_ldisc`.
    """
    for char in data:
        n_tty_receive_char(tty, char)
    if input_available(tty):
        wake_up_interruptible(tty.read_wait)


def n_tty_receive_char(tty: TtyStruct, char: int) -> None:
    """Take one byte."""
    termios = tty.termios
    cc = termios.c_cc
    if termios.c_lflag & ISIG and char != POSIX_VDISABLE:
        for index, sig in _SIGNALS:
            if char == cc[index]:
                isig(tty, sig, bytes((94, char + 64)))
                return
    if char == 13 and termios.c_iflag & ICRNL:
        char = 10
    if not termios.c_lflag & ICANON:
        tty.line += bytes((char,))
        if termios.c_lflag & ECHO:
            tty_io.tty_show(tty, bytes((char,)))
        return
    if char != POSIX_VDISABLE:
        if char == cc[VEOF]:
            tty.lines.append(tty.line)      # ^D: what is there, without a newline; nothing is an end of file
            tty.line = b""
            return
        if char in (8, cc[VERASE]):
            tty.line = tty.line[:-1]
            return
        if char == cc[VKILL]:
            tty.line = b""
            return
    tty.line += bytes((char,))
    if termios.c_lflag & ECHO:
        tty_io.tty_show(tty, tty.line[-1:])
    if char == 10:
        tty.lines.append(tty.line)
        tty.line = b""


def isig(tty: TtyStruct, sig: int, shown: bytes) -> None:
    """Send a signal to the foreground group and, unless NOFLSH, forget what was typed."""
    # __isig()
    if tty.pgrp is not None:
        signal_kill.kill_pgrp(tty.pgrp, sig, True)
    if not tty.termios.c_lflag & NOFLSH:
        n_tty_flush_buffer(tty)
    if tty.termios.c_lflag & ECHO:
        tty_io.tty_show(tty, shown + b"\n")


def n_tty_flush_buffer(tty: TtyStruct) -> None:
    """Forget what was typed and not read."""
    tty.line = b""
    tty.lines.clear()
