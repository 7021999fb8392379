"""Block devices as files: fs/block_dev.c, and of mm/filemap.c and fs/mpage.c what reads a page and waits for it, v4.19.

A page that is not there is read by the device; who wants it sleeps in state D until the interrupt has brought it.  Not
modelled: readahead; writing back later: a write returns when the device has it, as with O_SYNC.
"""

from __future__ import annotations

from errno import EINTR, EIO, ENOSPC
from stat import S_IFBLK
from typing import Any, Final

import taskscope.model.block.blk_mq as blk_mq
import taskscope.model.fs.super as super_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.wait as sched_wait
from taskscope.model import machine
from taskscope.model.include.linux.blkdev import REQ_OP_READ, REQ_OP_WRITE, Bio, BlockDevice
from taskscope.model.include.linux.fs import File, FileOperations, Inode
from taskscope.model.include.linux.sched import TASK_KILLABLE, TASK_UNINTERRUPTIBLE, signal_pending_state
from taskscope.model.include.linux.wait import DEFINE_WAIT, WaitQueueHead, wake_up_all

PAGE_SIZE: Final = 4096
PAGE_SECTORS: Final = PAGE_SIZE // 512
SEEK_SET, SEEK_CUR, SEEK_END = 0, 1, 2


class Page:
    """struct page of a device's page cache, with its wait queue."""

    __slots__ = ("data", "error", "index", "locked", "uptodate", "wait")

    def __init__(self, index: int) -> None:
        self.index = index
        self.data = bytes(PAGE_SIZE)
        self.locked = True              # PG_locked: the device reads or writes it
        self.uptodate = False           # PG_uptodate
        self.error = False              # PG_error
        self.wait = WaitQueueHead("page.wait")


def bd_add(path: str, bdev: BlockDevice) -> Inode:
    """Put a block device at an absolute path (devtmpfs)."""
    inode = super_.new_inode(S_IFBLK | 0o660, def_blk_fops)
    inode.i_rdev = bdev.bd_dev
    inode.i_private = bdev
    return super_.kern_add(path, inode)


# ---- mm/filemap.c ------------------------------------------------------------------------------------------


def unlock_page(page: Page) -> None:
    """Let the page be used, and wake who waits for that."""
    page.locked = False
    wake_up_all(page.wait)


def wait_on_page_bit_common(page: Page, state: int) -> int:
    """Sleep until the page is not locked: 0, or -EINTR if a fatal signal came first.

    Context: process context; sleeps.
    """
    ret = 0
    wait = DEFINE_WAIT()
    while True:
        sched_wait.prepare_to_wait(page.wait, wait, state)
        if not page.locked:
            break
        if signal_pending_state(state, machine.cur.cpu.curr):
            ret = -EINTR
            break
        sched_core.io_schedule()
    sched_wait.finish_wait(page.wait, wait)
    return ret


def wait_on_page_locked_killable(page: Page) -> int:
    """Wait for a page; a fatal signal ends the wait."""
    sched_core.might_resched()                              # might_sleep()
    return wait_on_page_bit_common(page, TASK_KILLABLE) if page.locked else 0


def end_page_io(bio: Bio) -> None:
    """Take what the device has brought (mpage_end_io()).

    Context: softirq, mostly.
    """
    page: Page = bio.bi_private
    if bio.bi_status:
        page.error = True
    else:
        if bio.bi_op == REQ_OP_READ:
            page.data = bio.data
        page.uptodate = True
    unlock_page(page)


def blkdev_readpage(bdev: BlockDevice, page: Page) -> None:
    """Have the device read a page; it is unlocked when it is there."""
    blk_mq.submit_bio(
        bdev.bd_queue, Bio(REQ_OP_READ, page.index * PAGE_SECTORS, PAGE_SIZE, b"", end_page_io, page))


def blkdev_writepage(bdev: BlockDevice, page: Page) -> None:
    """Have the device write a page; it is unlocked when that is done."""
    page.locked = True
    blk_mq.submit_bio(
        bdev.bd_queue, Bio(REQ_OP_WRITE, page.index * PAGE_SECTORS, PAGE_SIZE, page.data, end_page_io, page))


def read_mapping_page(bdev: BlockDevice, index: int) -> Page | int:
    """Return a page with what is on the device, or a negative errno.

    Context: process context; sleeps.
    """
    page: Page | None = bdev.pages.get(index)
    if page is None:
        page = bdev.pages[index] = Page(index)              # add_to_page_cache_lru()
        blkdev_readpage(bdev, page)
    elif not page.locked and not page.uptodate:
        page.locked = True                                  # read it again: the last time was an error
        page.error = False
        blkdev_readpage(bdev, page)
    if wait_on_page_locked_killable(page):
        return -EINTR
    return page if page.uptodate else -EIO


# ---- the file ----------------------------------------------------------------------------------------------


def blkdev_read_iter(f: File, count: int) -> bytes | int:
    """Read, page by page."""
    bdev: BlockDevice = f.f_inode.i_private
    out = bytearray()
    count = min(count, bdev.bd_size - f.f_pos)
    while count > len(out):
        at = f.f_pos + len(out)
        page = read_mapping_page(bdev, at // PAGE_SIZE)
        if isinstance(page, int):
            if not out:
                return page
            break
        start = at % PAGE_SIZE
        out += page.data[start : start + count - len(out)]
        sched_core._cond_resched()
    f.f_pos += len(out)
    return bytes(out)


def blkdev_write_iter(f: File, data: bytes) -> int:
    """Write, page by page, each to the device."""
    bdev: BlockDevice = f.f_inode.i_private
    done = 0
    if f.f_pos >= bdev.bd_size and data:
        return -ENOSPC
    data = data[: bdev.bd_size - f.f_pos]
    while done < len(data):
        at = f.f_pos + done
        index, start = divmod(at, PAGE_SIZE)
        part = data[done : done + PAGE_SIZE - start]
        page = bdev.pages.get(index)
        if len(part) < PAGE_SIZE or page is None or page.locked:
            # What is not written must be there; a whole page is only taken from others.
            page = read_mapping_page(bdev, index)
            if isinstance(page, int):
                if not done:
                    return page
                break
        page.data = page.data[:start] + part + page.data[start + len(part) :]
        blkdev_writepage(bdev, page)
        wait_on_page_bit_common(page, TASK_UNINTERRUPTIBLE)  # wait_on_page_writeback()
        if page.error:
            page.error = False
            if not done:
                return -EIO
            break
        done += len(part)
        sched_core._cond_resched()
    f.f_pos += done
    return done


def block_llseek(f: File, offset: int, whence: int) -> int:
    """Seek; the end is the device's."""
    bdev: BlockDevice = f.f_inode.i_private
    base = {SEEK_SET: 0, SEEK_CUR: f.f_pos, SEEK_END: bdev.bd_size}.get(whence)
    if base is None or not 0 <= base + offset <= bdev.bd_size:
        return -22                                          # EINVAL
    f.f_pos = base + offset
    return f.f_pos


def blkdev_ioctl(f: File, cmd: int, arg: Any) -> int:
    """Know no command: BLKGETSIZE64 and others are not modelled."""
    del f, cmd, arg
    return -25                                              # ENOTTY


def_blk_fops: Final = FileOperations(
    read=blkdev_read_iter, write=blkdev_write_iter, llseek=block_llseek, unlocked_ioctl=blkdev_ioctl)
