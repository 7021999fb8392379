"""Terminals: drivers/tty/tty_io.c, n_tty.c (canonical mode), v4.19.

What a terminal shows goes to ``screen``; what is typed comes in by an interrupt, which leaves it to a worker
(tty_buffer.py) to be cooked into lines.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EAGAIN, EIO, ENXIO
from typing import Any, Final

import taskscope.model.arch.x86.kernel.apic.io_apic as io_apic
import taskscope.model.drivers.irqchip.irq_bcm2835 as irq_bcm2835
import taskscope.model.drivers.tty.tty_buffer as tty_buffer
import taskscope.model.drivers.tty.tty_jobctrl as jobctrl
import taskscope.model.fs.super as super_
import taskscope.model.kernel.irq.manage as irq_manage
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as sched_wait
import taskscope.model.kernel.signal.send as signal_send
from taskscope.model import machine
from taskscope.model.include.linux.errno import ENOIOCTLCMD, ERESTARTSYS
from taskscope.model.include.linux.fs import O_NOCTTY, O_NONBLOCK, File, FileOperations, Inode
from taskscope.model.include.linux.interrupt import IRQ_HANDLED, IRQ_NONE, IRQF_SHARED
from taskscope.model.include.linux.pid import Pid
from taskscope.model.include.linux.sched import TASK_INTERRUPTIBLE
from taskscope.model.include.linux.thread_info import signal_pending
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead, wake_up_interruptible

TCGETS: Final = 0x5401
TIOCSCTTY: Final = 0x540E
TIOCGPGRP: Final = 0x540F
TIOCSPGRP: Final = 0x5410
TIOCNOTTY: Final = 0x5422
TIOCGSID: Final = 0x5429
SIGINT, SIGQUIT, SIGHUP, SIGTTIN, SIGTTOU, SIGTSTP = 2, 3, 1, 21, 22, 20

TTYAUX_MAJOR: Final = 5
TTY_MAJOR: Final = 4
UNIX98_PTY_SLAVE_MAJOR: Final = 136


class TtyStruct:
    """struct tty_struct, with its line discipline."""

    __slots__ = (
        "dev",
        "echo",
        "hung_up",
        "index",
        "line",
        "lines",
        "name",
        "pgrp",
        "port",
        "read_wait",
        "screen",
        "session",
        "sink",
        "tostop",
    )

    def __init__(self, name: str, dev: int) -> None:
        self.name = name
        self.dev = dev  # as st_rdev: major << 8 | minor
        self.index = dev & 0xFF
        # ctrl_lock:
        self.session: Pid | None = None
        self.pgrp: Pid | None = None  # the foreground group
        # ldisc:
        self.line = b""  # what is typed and not yet a line
        self.lines: list[bytes] = []  # complete lines; b"" is an end of file
        self.read_wait = WaitQueueHead("tty.read_wait")
        self.echo = True
        self.tostop = False
        self.hung_up = False
        #: what has been shown: (time, bytes)
        self.screen: list[tuple[int, bytes]] = []
        #: also given what is shown, as it comes
        self.sink: Callable[[bytes], None] | None = None
        self.port = tty_buffer.TtyBufhead(self)  # struct tty_port: of it, the flip buffer

    @property
    def is_pty(self) -> bool:
        """Whether it is a pseudo terminal, whose other side is a terminal emulator."""
        return self.dev >> 8 == UNIX98_PTY_SLAVE_MAJOR

    @property
    def text(self) -> str:
        """All that has been shown."""
        return b"".join(data for _, data in self.screen).decode(errors="replace")


def tty_init() -> None:
    """Make the console and /dev/tty."""
    m = machine.cur
    console = TtyStruct("tty1", TTY_MAJOR << 8 | 1)
    m.ttys = [console]
    m.console_tty = console
    m.uart_fifo = []
    m.irq_uart = irq_bcm2835.irq_create_mapping(89) if m.flavour.arch == "arm" else io_apic.mp_map_pin_to_irq(4)
    super_.kern_device("/dev/console", TTYAUX_MAJOR << 8 | 1, tty_fops, console, 0o600)
    super_.kern_device("/dev/tty1", console.dev, tty_fops, console, 0o620)
    super_.kern_device("/dev/tty", TTYAUX_MAJOR << 8, tty_fops, None)


def uart_startup() -> int:
    """Ask for the controller's interrupt, as the first open of a serial port does (drivers/tty/serial/amba-pl011.c)."""
    m = machine.cur
    name = "uart-pl011" if m.flavour.arch == "arm" else "ttyS0"
    return irq_manage.request_irq(m.irq_uart.irq, uart_interrupt, IRQF_SHARED, name, m.irq_uart)


def uart_interrupt(irq: int, dev_id: Any) -> int:
    """Take what was typed out of the controller (drivers/tty/serial/amba-pl011.c).

    Context: hard interrupt.
    """
    del irq, dev_id
    fifo = machine.cur.uart_fifo
    if not fifo:
        return IRQ_NONE
    while fifo:
        tty, data = fifo.pop(0)
        if data is None:
            tty_vhangup(tty)
        else:
            tty_buffer.tty_insert_flip_string(tty.port, data)
            tty_buffer.tty_flip_buffer_push(tty.port)
    return IRQ_HANDLED


def pty_open() -> TtyStruct:
    """Make one more pseudo terminal, /dev/pts/N; its master is outside the machine (ptmx_open())."""
    m = machine.cur
    index = len(m.ttys) - 1
    tty = TtyStruct(f"pts/{index}", UNIX98_PTY_SLAVE_MAJOR << 8 | index)
    m.ttys.append(tty)
    super_.kern_device(f"/dev/pts/{index}", tty.dev, tty_fops, tty, 0o620)
    return tty


def tty_open(inode: Inode, f: File) -> int:
    """Open a terminal; /dev/tty is the controlling one."""
    tty: TtyStruct | None = inode.i_private
    noctty = bool(f.f_flags & O_NOCTTY)
    if tty is None:
        tty = jobctrl.get_current_tty()
        if tty is None:
            return -ENXIO
        noctty = True
    elif inode.i_rdev == TTYAUX_MAJOR << 8 | 1:
        noctty = True  # the console is nobody's controlling terminal
    if tty.hung_up:
        return -EIO
    f.private_data = tty
    if not noctty:
        jobctrl.tty_open_proc_set_tty(tty)
    return 0


def tty_read(f: File, count: int) -> bytes | int:
    """Read: see `n_tty_read`."""
    tty: TtyStruct = f.private_data
    return n_tty_read(tty, f, count)


def n_tty_read(tty: TtyStruct, f: File, count: int) -> bytes | int:
    """Read a line, waiting for it; b"" is an end of file (^D on an empty line)."""
    current = machine.cur.cpu.curr
    error = jobctrl.__tty_check_change(tty, SIGTTIN)
    if error:
        return error
    wait = DEFINE_WAIT()
    ret: bytes | int
    while True:
        sched_wait.prepare_to_wait(tty.read_wait, wait, TASK_INTERRUPTIBLE)
        if tty.lines:
            line = tty.lines[0]
            ret = line[:count]
            if len(line) > count:
                tty.lines[0] = line[count:]
            else:
                del tty.lines[0]
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


def tty_write(f: File, data: bytes) -> int:
    """Show bytes.  A background group may, unless TOSTOP is set."""
    tty: TtyStruct = f.private_data
    if tty.hung_up:
        return -EIO
    if tty.tostop:
        error = jobctrl.tty_check_change(tty)
        if error:
            return error
    tty_show(tty, data)
    return len(data)


def tty_show(tty: TtyStruct, data: bytes) -> None:
    """Put bytes on the screen.  ONLCR is left to whoever shows them."""
    tty.screen.append((machine.cur.now, data))
    if tty.sink is not None:
        tty.sink(data)


def n_tty_receive_buf(tty: TtyStruct, data: bytes) -> None:
    """Take what was typed: edit the line, send signals, complete lines.

    Context: a worker, see `tty_buffer.flush_to_ldisc`.
    """
    for char in data:
        if char == 3:
            isig(tty, SIGINT, b"^C")
        elif char == 28:
            isig(tty, SIGQUIT, b"^\\")
        elif char == 26:
            isig(tty, SIGTSTP, b"^Z")
        elif char == 4:
            tty.lines.append(tty.line)  # ^D: what is there, without a newline; nothing is an end of file
            tty.line = b""
        elif char in (8, 127):
            tty.line = tty.line[:-1]
        else:
            tty.line += bytes((10 if char == 13 else char,))
            if tty.echo:
                tty_show(tty, tty.line[-1:])
            if tty.line.endswith(b"\n"):
                tty.lines.append(tty.line)
                tty.line = b""
    if tty.lines:
        wake_up_interruptible(tty.read_wait)


def isig(tty: TtyStruct, sig: int, shown: bytes) -> None:
    """Send a signal to the foreground group and forget what was typed."""
    tty.line = b""
    tty.lines.clear()
    if tty.echo:
        tty_show(tty, shown + b"\n")
    if tty.pgrp is not None:
        signal_send.kill_pgrp(tty.pgrp, sig, True)


def tty_vhangup(tty: TtyStruct) -> None:
    """Hang a terminal up: its window was closed (the master of a pty went away)."""
    tty.hung_up = True
    jobctrl.tty_signal_session_leader(tty, 0)
    if tty.pgrp is not None:
        signal_send.kill_pgrp(tty.pgrp, SIGHUP, True)
    pid_.put_pid(tty.session)
    pid_.put_pid(tty.pgrp)
    tty.session = tty.pgrp = None
    wake_up_interruptible(tty.read_wait)


def tty_ioctl(f: File, cmd: int, arg: Any) -> int:
    """ioctl(2) of terminals."""
    tty: TtyStruct = f.private_data
    if cmd == TCGETS:
        return put_user({"c_lflag": 0x8A3B if tty.echo else 0x8A33}, arg)
    if cmd == TIOCSCTTY:
        return jobctrl.tiocsctty(tty, arg)
    if cmd == TIOCGPGRP:
        return jobctrl.tiocgpgrp(tty, arg)
    if cmd == TIOCSPGRP:
        return jobctrl.tiocspgrp(tty, arg)
    if cmd == TIOCGSID:
        return jobctrl.tiocgsid(tty, arg)
    if cmd == TIOCNOTTY:
        if machine.cur.cpu.curr.signal.tty is not tty:
            return -25
        jobctrl.no_tty()
        return 0
    return -ENOIOCTLCMD


tty_fops: Final = FileOperations(read=tty_read, write=tty_write, open=tty_open, unlocked_ioctl=tty_ioctl)
