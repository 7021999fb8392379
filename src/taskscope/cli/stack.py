"""``taskscope stack``: see `taskscope.cli.task`."""

from taskscope.cli.task import stack as command

__all__ = ["command"]
