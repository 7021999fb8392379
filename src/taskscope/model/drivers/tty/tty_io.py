"""Terminals: drivers/tty/tty_io.c, tty_ioctl.c, v4.19.  The line discipline is in n_tty.py.

What a terminal shows goes to ``screen``; what is typed comes in by an interrupt, which leaves it to a worker
(tty_buffer.py) to be cooked into lines.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EFAULT, EINVAL, EIO, ENOTTY, ENXIO
from typing import Any, Final

import taskscope.model.arch.x86.kernel.apic.io_apic as io_apic
import taskscope.model.drivers.irqchip.irq_bcm2835 as irq_bcm2835
import taskscope.model.drivers.tty.n_tty as n_tty
import taskscope.model.drivers.tty.tty_buffer as tty_buffer
import taskscope.model.drivers.tty.tty_jobctrl as jobctrl
import taskscope.model.fs.super as super_
import taskscope.model.kernel.irq.manage as irq_manage
import taskscope.model.kernel.pid as pid_
import taskscope.model.kernel.signal.kill as signal_kill
from taskscope.model import machine
from taskscope.model.include.linux.errno import ENOIOCTLCMD
from taskscope.model.include.linux.fs import O_NOCTTY, File, FileOperations, Inode
from taskscope.model.include.linux.interrupt import IRQ_HANDLED, IRQ_NONE, IRQF_SHARED
from taskscope.model.include.linux.pid import Pid
from taskscope.model.include.linux.uaccess import put_user
from taskscope.model.include.linux.wait import WaitQueueHead, wake_up_interruptible
from taskscope.model.include.uapi.asm_generic.termbits import (
    STD_TERMIOS,
    TCFLSH,
    TCGETS,
    TCIFLUSH,
    TCIOFLUSH,
    TCSBRK,
    TCSETS,
    TCSETSF,
    TCSETSW,
    TIOCGPGRP,
    TIOCGSID,
    TIOCGWINSZ,
    TIOCNOTTY,
    TIOCSCTTY,
    TIOCSPGRP,
    TIOCSWINSZ,
    Termios,
)

SIGWINCH: Final = 28

TTYAUX_MAJOR: Final = 5
TTY_MAJOR: Final = 4
UNIX98_PTY_SLAVE_MAJOR: Final = 136


class TtyStruct:
    """struct tty_struct, with its line discipline."""

    __slots__ = (
        "dev",
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
        "termios",
        "winsize",
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
        self.termios = STD_TERMIOS
        self.winsize = (0, 0, 0, 0)  # rows, columns, pixels of a row and of a column
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
    """Read: see `n_tty.n_tty_read`."""
    tty: TtyStruct = f.private_data
    return n_tty.n_tty_read(tty, f, count)


def tty_write(f: File, data: bytes) -> int:
    """Write: see `n_tty.n_tty_write`."""
    tty: TtyStruct = f.private_data
    return -EIO if tty.hung_up else n_tty.n_tty_write(tty, data)


def tty_show(tty: TtyStruct, data: bytes) -> None:
    """Put bytes on the screen.  ONLCR is left to whoever shows them."""
    tty.screen.append((machine.cur.now, data))
    if tty.sink is not None:
        tty.sink(data)


def tty_vhangup(tty: TtyStruct) -> None:
    """Hang a terminal up: its window was closed (the master of a pty went away).

    Its session's leader is sent SIGHUP; the foreground group hears of it when the leader dies (disassociate_ctty()).
    """
    tty.hung_up = True
    # __tty_hangup()
    jobctrl.tty_signal_session_leader(tty, 0)
    pid_.put_pid(tty.session)
    pid_.put_pid(tty.pgrp)
    tty.session = tty.pgrp = None
    wake_up_interruptible(tty.read_wait)


def tty_ioctl(f: File, cmd: int, arg: Any) -> int:
    """ioctl(2) of terminals."""
    tty: TtyStruct = f.private_data
    if tty.hung_up:
        return -ENOTTY if cmd == TIOCSPGRP else -EIO            # hung_up_tty_ioctl()
    if cmd in (TCSBRK, TCFLSH):
        return tty_drain(tty, cmd, arg)
    if cmd in (TCSETS, TCSETSW, TCSETSF):
        return set_termios(tty, arg, cmd == TCSETSF)
    if cmd == TCGETS:
        return put_user(tty.termios, arg)
    if cmd == TIOCGWINSZ:
        return put_user(tty.winsize, arg)
    if cmd == TIOCSWINSZ:
        return tty_do_resize(tty, arg)
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
            return -ENOTTY
        jobctrl.no_tty()
        return 0
    return -ENOIOCTLCMD


def tty_drain(tty: TtyStruct, cmd: int, arg: Any) -> int:
    """Wait until all is shown (it always is), or forget what is typed: tcdrain(3), tcflush(3)."""
    retval = jobctrl.tty_check_change(tty)
    if retval or cmd != TCFLSH:
        return retval
    if arg not in range(3):
        return -EINVAL
    if arg in (TCIFLUSH, TCIOFLUSH):
        n_tty.n_tty_flush_buffer(tty)
    return 0


def set_termios(tty: TtyStruct, arg: Any, flush: bool) -> int:
    """Change a terminal's settings; a group in the background is stopped: tcsetattr(3)."""
    retval = jobctrl.tty_check_change(tty)
    if retval:
        return retval
    if not isinstance(arg, Termios):
        return -EFAULT
    if flush:
        n_tty.n_tty_flush_buffer(tty)
    tty.termios = arg
    return 0


def tty_do_resize(tty: TtyStruct, ws: Any) -> int:
    """Change a window's size; the foreground group hears of it: SIGWINCH."""
    if not isinstance(ws, tuple) or len(ws) != 4:
        return -EFAULT
    if ws == tty.winsize:
        return 0
    if tty.pgrp is not None:
        signal_kill.kill_pgrp(tty.pgrp, SIGWINCH, True)
    tty.winsize = ws
    return 0


tty_fops: Final = FileOperations(read=tty_read, write=tty_write, open=tty_open, unlocked_ioctl=tty_ioctl)
