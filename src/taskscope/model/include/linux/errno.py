"""Error numbers inside the kernel only: include/linux/errno.h, v4.19.

The numbers that user space sees are those of the host's `errno` module: asm-generic, as on ARM and x86.
"""

from typing import Final

ERESTARTSYS: Final = 512            # restart the call if the handler has SA_RESTART, else EINTR
ERESTARTNOINTR: Final = 513         # always restart
ERESTARTNOHAND: Final = 514         # restart if no handler ran
ENOIOCTLCMD: Final = 515            # no ioctl of this driver; user space sees ENOTTY
ERESTART_RESTARTBLOCK: Final = 516  # restart by sys_restart_syscall()
