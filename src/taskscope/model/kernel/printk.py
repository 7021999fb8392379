"""The kernel's log: kernel/printk/printk.c, v4.19.

`printk` keeps a record in log_buf, traces it as printk:console and hands it to the consoles that are registered.
``dmesg`` reads the buffer through syslog(2).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from errno import EINVAL, EPERM
from typing import TYPE_CHECKING, Final

from taskscope.model import machine
from taskscope.model.include.trace.events.printk import trace_console

if TYPE_CHECKING:
    from taskscope.model.machine import Machine

MESSAGE_LOGLEVEL_DEFAULT: Final = 4
CONSOLE_LOGLEVEL_DEFAULT: Final = 7
#: bytes of log_buf (1 << CONFIG_LOG_BUF_SHIFT)
LOG_BUF_LEN: Final = 1 << 17
_HEADER: Final = 16  # struct printk_log

SYSLOG_ACTION_READ_ALL: Final = 3
SYSLOG_ACTION_READ_CLEAR: Final = 4
SYSLOG_ACTION_CLEAR: Final = 5
SYSLOG_ACTION_CONSOLE_LEVEL: Final = 8
SYSLOG_ACTION_SIZE_UNREAD: Final = 9
SYSLOG_ACTION_SIZE_BUFFER: Final = 10


class PrintkLog:
    """struct printk_log: one line."""

    __slots__ = ("level", "text", "ts_nsec")

    def __init__(self, ts_nsec: int, level: int, text: bytes) -> None:
        self.ts_nsec = ts_nsec
        self.level = level
        self.text = text


class LogBuf:
    """log_buf with its consoles."""

    __slots__ = ("clear_seq", "console_loglevel", "consoles", "first_seq", "records", "size")

    def __init__(self) -> None:
        self.records: deque[PrintkLog] = deque()
        self.size = 0
        self.first_seq = 0  # number of the oldest record
        self.clear_seq = 0  # what READ_CLEAR has cleared up to
        self.console_loglevel = CONSOLE_LOGLEVEL_DEFAULT
        self.consoles: list[Callable[[bytes], None]] = []


def log_buf(cur: Machine) -> LogBuf:
    """Return the log; made at the first call."""
    log = cur.log_buf
    if log is None:
        log = cur.log_buf = LogBuf()
    return log


def printk(text: str) -> int:
    """Log a text, a record for each of its lines; ``<N>`` in front of a line is its level (KERN_ERR is ``<3>``).

    :return: how many bytes it had
    """
    cur = machine.cur
    for line in text.removesuffix("\n").split("\n"):
        level = MESSAGE_LOGLEVEL_DEFAULT
        if len(line) > 2 and line[0] == "<" and line[1].isdigit() and line[2] == ">":
            level = int(line[1])
            line = line[3:]
        log_store(cur, level, line.encode())
    return len(text.encode())


def log_store(cur: Machine, level: int, text: bytes) -> None:
    """Keep a line; the oldest ones go where there is no room."""
    log = log_buf(cur)
    record = PrintkLog(cur.now, level, text)
    log.records.append(record)
    log.size += _HEADER + len(text)
    while log.size > LOG_BUF_LEN:
        log.size -= _HEADER + len(log.records.popleft().text)
        log.first_seq += 1
    line = msg_print_text(record)
    # Until v5.9 consoles, and the event with them, got the line with its time; since then the event has the bare text.
    trace_console(line if cur.flavour.version < (5, 10) else text)
    if level < log.console_loglevel:
        for write in log.consoles:
            write(line)


def msg_print_text(record: PrintkLog) -> bytes:
    """Return a line as it is printed: ``[    5.123456] text``."""
    us = record.ts_nsec // 1000
    return b"[%5d.%06d] %s\n" % (us // 1_000_000, us % 1_000_000, record.text)


def register_console(cur: Machine, write: Callable[[bytes], None]) -> None:
    """Have `write` called with each line from now on."""
    log_buf(cur).consoles.append(write)


def dmesg() -> str:
    """Return the log, as the program dmesg prints it."""
    log = log_buf(machine.cur)
    skip = max(log.clear_seq - log.first_seq, 0)
    return b"".join(msg_print_text(r) for r in list(log.records)[skip:]).decode("utf-8", "replace")


def do_syslog(type: int, length: int) -> bytes | int:
    """Read or clear the log: what syslog(2) does.

    :param type: SYSLOG_ACTION_*
    :param length: room in the caller's buffer; the last lines are given where it is short
    :return: the text, a number, or a negative errno
    """
    cur = machine.cur
    log = log_buf(cur)
    if type in (SYSLOG_ACTION_READ_CLEAR, SYSLOG_ACTION_CLEAR, SYSLOG_ACTION_CONSOLE_LEVEL) and cur.cpu.curr.cred.euid:
        return -EPERM
    if type in (SYSLOG_ACTION_READ_ALL, SYSLOG_ACTION_READ_CLEAR):
        if length < 0:
            return -EINVAL
        lines = [
            b"<%d>%s" % (r.level, msg_print_text(r)) for r in list(log.records)[max(log.clear_seq - log.first_seq, 0) :]
        ]
        while lines and sum(map(len, lines)) > length:
            lines.pop(0)
        if type == SYSLOG_ACTION_READ_CLEAR:
            log.clear_seq = log.first_seq + len(log.records)
        return b"".join(lines)
    if type == SYSLOG_ACTION_CLEAR:
        log.clear_seq = log.first_seq + len(log.records)
        return 0
    if type == SYSLOG_ACTION_CONSOLE_LEVEL:
        if not 1 <= length <= 8:
            return -EINVAL
        log.console_loglevel = length
        return 0
    if type == SYSLOG_ACTION_SIZE_BUFFER:
        return LOG_BUF_LEN
    # Not modelled: SYSLOG_ACTION_READ, which takes records one by one for klogd, and what goes with it.
    return -EINVAL
