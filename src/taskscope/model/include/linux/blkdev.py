"""Requests to block devices: include/linux/blkdev.h, blk_types.h, blk-mq.h, v4.19."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

REQ_OP_READ: Final = 0
REQ_OP_WRITE: Final = 1

# blk_status_t
BLK_STS_OK: Final = 0
BLK_STS_TIMEOUT: Final = 2
BLK_STS_RESOURCE: Final = 9             # the device takes no more; try again when a request is done
BLK_STS_IOERR: Final = 10


class Bio:
    """struct bio: some bytes to read or write, and what to call when that is done."""

    __slots__ = ("bi_end_io", "bi_op", "bi_private", "bi_sector", "bi_size", "bi_status", "data")

    def __init__(
        self, op: int, sector: int, size: int, data: bytes, end_io: Callable[[Bio], None], private: Any,
    ) -> None:
        self.bi_op = op
        self.bi_sector = sector
        self.bi_size = size
        self.data = data                # what is written, or has been read
        self.bi_end_io = end_io
        self.bi_private = private
        self.bi_status = BLK_STS_OK


class Request:
    """struct request: a bio on its way through a driver."""

    __slots__ = ("bio", "mq_ctx_cpu", "q", "status")

    def __init__(self, q: RequestQueue, bio: Bio, cpu: int) -> None:
        self.q = q
        self.bio = bio
        self.mq_ctx_cpu = cpu           # who has submitted it
        self.status = BLK_STS_OK


class BlkMqOps:
    """struct blk_mq_ops: what a driver does."""

    __slots__ = ("complete", "queue_rq")

    def __init__(self, queue_rq: Callable[[Request], int], complete: Callable[[Request], None]) -> None:
        self.queue_rq = queue_rq        # start it: BLK_STS_OK, or BLK_STS_RESOURCE
        self.complete = complete        # end it; in softirq context, mostly


class RequestQueue:
    """struct request_queue of a device with one hardware queue."""

    __slots__ = ("dispatch", "in_flight", "mq_ops", "queuedata")

    def __init__(self, mq_ops: BlkMqOps, queuedata: Any) -> None:
        self.mq_ops = mq_ops
        self.queuedata = queuedata
        self.dispatch: list[Request] = []       # what the driver has no room for
        self.in_flight = 0


class BlockDevice:
    """struct block_device, with its page cache."""

    __slots__ = ("bd_dev", "bd_queue", "bd_size", "pages")

    def __init__(self, dev: int, queue: RequestQueue, size: int) -> None:
        self.bd_dev = dev               # major << 8 | minor
        self.bd_queue = queue
        self.bd_size = size             # bytes
        self.pages: dict[int, Any] = {}
