"""``taskscope blocked``: see `taskscope.cli.cpus`."""

from taskscope.cli.cpus import blocked as command

__all__ = ["command"]
