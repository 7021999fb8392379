"""What a task says of its futexes: include/linux/futex.h, v5.5."""

from __future__ import annotations

from typing import Final

FUTEX_STATE_OK: Final = 0
FUTEX_STATE_EXITING: Final = 1
FUTEX_STATE_DEAD: Final = 2
