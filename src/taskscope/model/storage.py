"""Storage devices: a disk's contents, an SD card's controller, a virtio disk.

Hardware, as machine.py is.  What they do takes time and runs in the hub; they tell the kernel by their interrupt lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from taskscope.model import irqline

if TYPE_CHECKING:
    from taskscope.model.irqline import IrqLine
    from taskscope.model.machine import Machine

SECTOR: Final = 512
#: bytes of the machine's disk
DISK_SIZE: Final = 8 << 20
#: the first line of a disk
LABEL: Final = b"taskscope disk\n"
_BLOCK: Final = 4096

# What an SD controller has in its interrupt status (SDHCI).
SDHCI_INT_RESPONSE: Final = 0x0000_0001
SDHCI_INT_DATA_END: Final = 0x0000_0002
SDHCI_INT_SPACE_AVAIL: Final = 0x0000_0010
SDHCI_INT_DATA_AVAIL: Final = 0x0000_0020
SDHCI_INT_CARD_INT: Final = 0x0000_0100

# ns
_SD_RESPONSE: Final = 20_000            # from a command to its response
_SD_ACCESS: Final = 150_000             # from there to the first byte
_SD_BYTE: Final = 50                    # 20 MB/s
_VIRTIO_REQUEST: Final = 80_000         # from the notification to the message that it is done
_VIRTIO_BYTE: Final = 1


class Disk:
    """Bytes that stay; what was never written is zero, but for a line of text at the beginning."""

    __slots__ = ("blocks", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.blocks: dict[int, bytes] = {0: LABEL.ljust(_BLOCK, b"\0")}

    def read(self, sector: int, count: int) -> bytes:
        """Return the bytes from a sector on."""
        at, end = sector * SECTOR, sector * SECTOR + count
        out = bytearray()
        while at < end:
            block = self.blocks.get(at // _BLOCK, bytes(_BLOCK))
            part = block[at % _BLOCK : at % _BLOCK + end - at]
            out += part
            at += len(part)
        return bytes(out)

    def write(self, sector: int, data: bytes) -> None:
        """Store bytes from a sector on."""
        at = sector * SECTOR
        while data:
            start = at % _BLOCK
            part, data = data[: _BLOCK - start], data[_BLOCK - start :]
            old = self.blocks.get(at // _BLOCK, bytes(_BLOCK))
            self.blocks[at // _BLOCK] = old[:start] + part + old[start + len(part) :]
            at += len(part)


class SdController:
    """The registers of an SD controller: a command at a time, and a level interrupt.

    The line is active while a bit of ``int_status`` is set that ``signal_enable`` lets through.
    """

    __slots__ = (
        "card_wants", "dead", "disk", "fifo", "int_status", "line", "machine", "pending", "signal_enable",
    )

    def __init__(self, machine: Machine, disk: Disk, line: IrqLine) -> None:
        self.machine = machine
        self.disk = disk
        self.line = line
        self.int_status = 0
        self.signal_enable = 0
        self.card_wants = False             # an SDIO card pulls its interrupt
        self.fifo = b""
        self.pending: tuple[int, int, bool] | None = None       # sector, bytes, whether it writes
        self.dead = False                   # takes commands and never answers: for tests

    def command(self, sector: int, count: int, write: bool) -> None:
        """Begin a transfer (CMD17, CMD24)."""
        self.pending = (sector, count, write)
        if not self.dead:
            m = self.machine
            m.at(m.now + _SD_RESPONSE, _later, self._respond)

    def write_fifo(self, data: bytes) -> None:
        """Take the bytes of a transfer to the card."""
        assert self.pending is not None, "a transfer is under way"
        sector, count, _ = self.pending
        assert len(data) == count, "as many bytes as the command said"
        self.disk.write(sector, data)
        m = self.machine
        m.at(m.now + _SD_ACCESS + count * _SD_BYTE, _later, self._end)

    def read_fifo(self) -> bytes:
        """Give the bytes of a transfer from the card."""
        data, self.fifo = self.fifo, b""
        return data

    def clear(self, bits: int) -> None:
        """Clear bits of the interrupt status; that of the card stays as long as the card wants something."""
        self.int_status &= ~bits
        self._signal()

    def enable(self, bits: int) -> None:
        """Let these bits interrupt."""
        self.signal_enable = bits
        self._signal()

    def card_interrupt(self) -> None:
        """Pull the card's interrupt, until its driver has looked after it."""
        self.card_wants = True
        self._signal()

    def card_served(self) -> None:
        """Let the card's interrupt go."""
        self.card_wants = False
        self.int_status &= ~SDHCI_INT_CARD_INT
        self._signal()

    def _respond(self) -> None:
        assert self.pending is not None, "a command is under way"
        _, count, write = self.pending
        self.int_status |= SDHCI_INT_RESPONSE | (SDHCI_INT_SPACE_AVAIL if write else 0)
        self._signal()
        if not write:
            m = self.machine
            m.at(m.now + _SD_ACCESS + count * _SD_BYTE, _later, self._end)

    def _end(self) -> None:
        assert self.pending is not None, "a transfer is under way"
        sector, count, write = self.pending
        self.pending = None
        if not write:
            self.fifo = self.disk.read(sector, count)
            self.int_status |= SDHCI_INT_DATA_AVAIL
        self.int_status |= SDHCI_INT_DATA_END
        self._signal()

    def _signal(self) -> None:
        if self.card_wants:
            self.int_status |= SDHCI_INT_CARD_INT
        irqline.set_level(self.line, bool(self.int_status & self.signal_enable))


class VirtioDisk:
    """A virtio disk with one queue: requests in, requests out, and a message for each that is done."""

    __slots__ = ("disk", "line", "machine", "used")

    def __init__(self, machine: Machine, disk: Disk, line: IrqLine) -> None:
        self.machine = machine
        self.disk = disk
        self.line = line
        self.used: list[tuple[Any, bytes]] = []     # what is done, with the bytes that were read

    def notify(self, cookie: Any, sector: int, count: int, data: bytes | None) -> None:
        """Take a request: read `count` bytes, or write `data`."""
        m = self.machine
        m.at(m.now + _VIRTIO_REQUEST + count * _VIRTIO_BYTE, self._done, (cookie, sector, count, data))

    def _done(self, request: tuple[Any, int, int, bytes | None]) -> None:
        cookie, sector, count, data = request
        if data is not None:
            self.disk.write(sector, data)
        self.used.append((cookie, b"" if data is not None else self.disk.read(sector, count)))
        irqline.pulse(self.line)


def _later(call: Callable[[], None]) -> None:
    call()
