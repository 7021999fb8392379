"""The shape of the tasks at one moment."""

from taskscope.snapshot.snapshot import Snapshot, TaskRow

__all__ = ["Snapshot", "TaskRow"]
