"""The exceptions that taskscope raises for mistakes of its input or its caller.

Every message says what is wrong, where (file and place), and what to do next.
Failures *of the kernel that is looked at* are data, never exceptions.
"""

from __future__ import annotations


class TaskscopeError(Exception):
    """Base class; ``exit_code`` is what the command line returns for it."""

    exit_code = 1


class UsageError(TaskscopeError):
    """The caller asked for something that cannot be (unknown event, time, option)."""

    exit_code = 2


class AmbiguousTaskError(UsageError):
    """A task name fits more than one life; ``candidates`` lists them as text lines."""

    def __init__(self, message: str, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.candidates = candidates


class NoSuchTaskError(UsageError):
    """No life in the recording fits the name or pid."""


class NoSuchEventError(UsageError):
    """The recording has no event type of that name."""


class ScheduleError(TaskscopeError):
    """A choice log does not fit the run that it is to repeat, or cannot be read."""


class TraceError(TaskscopeError):
    """The input cannot be read as a recording.

    :param message: what is wrong and what to do next
    :param path: the file or folder
    :param offset: byte offset (or line number for text) of the place, if there is one
    """

    exit_code = 3

    def __init__(self, message: str, path: str | None = None, offset: int | None = None,
                 unit: str = "byte") -> None:
        where = ""
        if path is not None:
            where = f"{path}: "
            if offset is not None:
                where = f"{path}: at {unit} {offset:,}: "
        super().__init__(where + message)
        self.path = path
        self.offset = offset
        self.unit = unit


class PermissionRefusedError(TraceError):
    """The kernel or the file system refuses what was asked."""

    exit_code = 77
