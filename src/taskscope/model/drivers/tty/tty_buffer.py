"""From a terminal's interrupt to its line discipline: drivers/tty/tty_buffer.c, v4.19.

The interrupt puts what was typed into the flip buffer of the port and queues a work on system_unbound_wq; the worker
gives it to the line discipline, where echoing, signals and waking readers are done in process context.

Not modelled: the buffers' memory and limits (all that came is one list), flow control.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import taskscope.model.drivers.tty.n_tty as n_tty
import taskscope.model.kernel.workqueue as workqueue
from taskscope.model import machine
from taskscope.model.include.linux.workqueue import WorkStruct

if TYPE_CHECKING:
    from taskscope.model.drivers.tty.tty_io import TtyStruct


class TtyBufhead:
    """struct tty_bufhead of a port: what has come and was not yet given to the line discipline."""

    __slots__ = ("data", "tty", "work")

    def __init__(self, tty: TtyStruct) -> None:
        self.tty = tty
        self.data: list[bytes] = []
        self.work = WorkStruct(flush_to_ldisc, self)


def tty_insert_flip_string(buf: TtyBufhead, chars: bytes) -> int:
    """Put characters into the flip buffer; return how many.

    Context: interrupt.
    """
    buf.data.append(chars)
    return len(chars)


def tty_flip_buffer_push(buf: TtyBufhead) -> None:
    """Let a worker give the flip buffer to the line discipline.

    Context: interrupt.
    """
    m = machine.cur
    if m.wq_online:
        workqueue.queue_work(m.system_unbound_wq, buf.work)
    else:
        # A machine that was booted bare has no workers: the interrupt does it, as with low_latency until v3.12.
        flush_to_ldisc(buf.work)


def flush_to_ldisc(work: WorkStruct) -> None:
    """Give what has come to the line discipline, in the order in which it came.

    Context: a worker; may sleep.
    """
    buf: TtyBufhead = work.owner
    while buf.data:
        receive_buf(buf, buf.data.pop(0))


def receive_buf(buf: TtyBufhead, chars: bytes) -> int:
    """Give characters to the line discipline; return how many it took."""
    n_tty.n_tty_receive_buf(buf.tty, chars)
    return len(chars)
