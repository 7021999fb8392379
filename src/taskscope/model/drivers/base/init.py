"""The driver core: drivers/base/init.c, v4.19."""

from __future__ import annotations

import taskscope.model.drivers.base.devtmpfs as devtmpfs


def driver_init() -> None:
    """Set up the driver core: of it, the file system of device nodes has a thread."""
    devtmpfs.devtmpfs_init()
