"""Settings of a terminal: include/uapi/asm-generic/termbits.h, ioctls.h, v4.19."""

from __future__ import annotations

from typing import Final, NamedTuple

# c_cc
VINTR, VQUIT, VERASE, VKILL, VEOF, VTIME, VMIN, VSUSP = 0, 1, 2, 3, 4, 5, 6, 10
POSIX_VDISABLE: Final = 0
# c_iflag, c_oflag, c_cflag
ICRNL: Final = 0x100
IXON: Final = 0x400
OPOST: Final = 0x1
ONLCR: Final = 0x4
CS8, CREAD, HUPCL, B38400 = 0x30, 0x80, 0x400, 0xF
# c_lflag
ISIG: Final = 0x1
ICANON: Final = 0x2
ECHO: Final = 0x8
ECHOE: Final = 0x10
ECHOK: Final = 0x20
NOFLSH: Final = 0x80
TOSTOP: Final = 0x100
ECHOCTL: Final = 0x200
ECHOKE: Final = 0x800
IEXTEN: Final = 0x8000

TCGETS, TCSETS, TCSETSW, TCSETSF = 0x5401, 0x5402, 0x5403, 0x5404
TCSBRK: Final = 0x5409
TCFLSH: Final = 0x540B
TIOCSCTTY: Final = 0x540E
TIOCGPGRP: Final = 0x540F
TIOCSPGRP: Final = 0x5410
TIOCGWINSZ: Final = 0x5413
TIOCSWINSZ: Final = 0x5414
TIOCNOTTY: Final = 0x5422
TIOCGSID: Final = 0x5429
TCIFLUSH, TCOFLUSH, TCIOFLUSH = 0, 1, 2


class Termios(NamedTuple):
    """struct termios.  Never changed in place: replaced."""

    c_iflag: int
    c_oflag: int
    c_cflag: int
    c_lflag: int
    c_cc: bytes


#: tty_std_termios, with INIT_C_CC
STD_TERMIOS: Final = Termios(
    ICRNL | IXON,
    OPOST | ONLCR,
    B38400 | CS8 | CREAD | HUPCL,
    ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
    bytes((3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0)),
)
