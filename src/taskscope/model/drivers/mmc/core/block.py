"""Block requests to a card: drivers/mmc/core/{block,queue,core}.c, v4.19.

A request becomes a command to the card's controller, one at a time; when the controller's driver is done with it,
`mmc_request_done` hands it back to the block layer.

Not modelled: CMD23, errors that are tried again, and the detour through kblockd's work that hosts without
MMC_CAP_DONE_COMPLETE take at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import taskscope.model.block.blk_mq as blk_mq
import taskscope.model.fs.block_dev as block_dev
from taskscope.model.include.linux.blkdev import (
    BLK_STS_IOERR,
    BLK_STS_OK,
    BLK_STS_RESOURCE,
    BLK_STS_TIMEOUT,
    REQ_OP_WRITE,
    BlkMqOps,
    BlockDevice,
    Request,
    RequestQueue,
)

MMC_BLOCK_MAJOR: Final = 179
ETIMEDOUT: Final = 110


class MmcRequest:
    """struct mmc_request: a command with its data."""

    __slots__ = ("bytes_xfered", "count", "data", "done", "error", "req", "sector", "write")

    def __init__(self, req: Request, done: Callable[[MmcRequest], None]) -> None:
        bio = req.bio
        self.req = req
        self.done = done
        self.sector = bio.bi_sector
        self.count = bio.bi_size
        self.write = bio.bi_op == REQ_OP_WRITE
        self.data = bio.data
        self.bytes_xfered = 0
        self.error = 0


class MmcHost:
    """struct mmc_host: a controller as the core knows it; ``request(private, mrq)`` begins a command."""

    __slots__ = ("mrq", "private", "queue", "request")

    def __init__(self, request: Callable[[Any, MmcRequest], None], private: Any) -> None:
        self.request = request
        self.private = private
        self.mrq: MmcRequest | None = None      # what it works on
        self.queue: RequestQueue | None = None


def mmc_mq_queue_rq(req: Request) -> int:
    """Start a request, if the card has nothing else to do."""
    host: MmcHost = req.q.queuedata
    if host.mrq is not None:
        return BLK_STS_RESOURCE
    mmc_start_request(host, MmcRequest(req, mmc_blk_mq_req_done))
    return BLK_STS_OK


def mmc_start_request(host: MmcHost, mrq: MmcRequest) -> None:
    """Let the controller's driver begin."""
    host.mrq = mrq
    host.request(host.private, mrq)


def mmc_request_done(host: MmcHost, mrq: MmcRequest) -> None:
    """Take a request back from the controller's driver.

    Context: softirq (its tasklet).
    """
    host.mrq = None
    mrq.done(mrq)


def mmc_blk_mq_req_done(mrq: MmcRequest) -> None:
    """Hand a request back to the block layer."""
    req = mrq.req
    if mrq.error:
        req.status = BLK_STS_TIMEOUT if mrq.error == -ETIMEDOUT else BLK_STS_IOERR
    elif not mrq.write:
        req.bio.data = mrq.data
    blk_mq.blk_mq_complete_request(req)


def mmc_blk_mq_complete(req: Request) -> None:
    """End a request.

    Context: softirq.
    """
    blk_mq.blk_mq_end_request(req, req.status)


def mmc_blk_probe(host: MmcHost, index: int, size: int) -> BlockDevice:
    """Make the card a block device, /dev/mmcblkN."""
    host.queue = blk_mq.blk_mq_init_queue(mmc_mq_ops, host)
    bdev = BlockDevice(MMC_BLOCK_MAJOR << 8 | index * 8, host.queue, size)
    block_dev.bd_add(f"/dev/mmcblk{index}", bdev)
    return bdev


mmc_mq_ops: Final = BlkMqOps(mmc_mq_queue_rq, mmc_blk_mq_complete)
