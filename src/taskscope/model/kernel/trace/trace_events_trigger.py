"""Triggers: what an event sets off beside its record (kernel/trace/trace_events_trigger.c, v4.19).

``stacktrace[:N] [if FILTER]`` writes the call stack behind the record, ``traceon`` and ``traceoff`` switch recording,
``enable_event:SYSTEM:EVENT[:N]`` and ``disable_event`` another event.  An event that is off still fires its triggers.
"""

from __future__ import annotations

import errno
from typing import Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.trace_events import EVENT_FILE_FL_TRIGGER, TraceEventFile
from taskscope.model.kernel.trace import trace, trace_events, trace_events_filter

COMMANDS: Final = ("traceon", "traceoff", "stacktrace", "enable_event", "disable_event")
#: commands that run when the record is in the buffer
_POST: Final = frozenset({"stacktrace"})


class EventTriggerData:
    """struct event_trigger_data."""

    __slots__ = ("command", "count", "event", "filter")

    def __init__(
        self,
        command: str,
        count: int | None,
        event: TraceEventFile | None,
        event_filter: trace_events_filter.EventFilter | None,
    ) -> None:
        self.command = command
        self.count = count  # times that it still fires; None: always
        self.event = event  # what enable_event is about
        self.filter = event_filter

    def text(self) -> str:
        """Return the line that the event's ``trigger`` file shows."""
        about = f":{self.event.event_call.system}:{self.event.event_call.name}" if self.event is not None else ""
        times = ":unlimited" if self.count is None else f":count={self.count}"
        condition = f" if {self.filter.text}" if self.filter is not None else ""
        return f"{self.command}{about}{times}{condition}"


def event_triggers_call(file: TraceEventFile, record: tuple[Any, ...]) -> list[EventTriggerData]:
    """Run the triggers that come before the record; return those that come after it."""
    post = []
    for data in file.triggers:
        if data.filter is not None and not trace_events_filter.filter_match_preds(data.filter, record):
            continue
        if data.command in _POST:
            post.append(data)
        else:
            _run(file, data)
    return post


def event_triggers_post_call(file: TraceEventFile, post: list[EventTriggerData], record: tuple[Any, ...]) -> None:
    """Run the triggers that come after the record."""
    del record
    for data in post:
        _run(file, data)


def _run(file: TraceEventFile, data: EventTriggerData) -> None:
    if data.count is not None:
        if data.count == 0:
            return
        data.count -= 1
    tr = file.tr
    if data.command == "stacktrace":
        trace.ftrace_trace_stack(machine.cur, tr)
    elif data.command in ("traceon", "traceoff"):
        trace.tracing_set_on(tr, data.command == "traceon")
    elif data.event is not None:
        # The other event's probe has been there all the time; its records are let through or not.
        trace_events.set_soft_disabled(data.event, data.command == "disable_event")


def event_trigger_write(file: TraceEventFile, line: str) -> int:
    """Set a trigger, or with ``!`` in front take it away; return 0 or a negative errno."""
    remove = line.startswith("!")
    command, _, condition = line.removeprefix("!").strip().partition(" if ")
    words = [word.strip() for word in command.strip().split(":")]
    if words[0] not in COMMANDS:
        # Not modelled: snapshot and hist.
        return -errno.EINVAL
    event = None
    if words[0] in ("enable_event", "disable_event"):
        event = file.tr.events.get((words[1], words[2])) if len(words) > 2 else None
        if event is None:
            return -errno.EINVAL
        words = [words[0], *words[3:]]
    elif condition == "" and " " in command.strip():
        return -errno.EINVAL
    if remove:
        return _unregister(file, words[0], event)
    if len(words) > 2 or (len(words) == 2 and not words[1].isdigit()):
        return -errno.EINVAL
    count = int(words[1]) if len(words) == 2 else None
    if any(t.command == words[0] and t.event is event for t in file.triggers):
        return -errno.EEXIST
    event_filter = None
    if condition.strip():
        try:
            event_filter = trace_events_filter.create_filter(file.event_call, condition.strip())
        except trace_events_filter.FilterError as error:
            return -error.errno
    file.triggers.append(EventTriggerData(words[0], count, event, event_filter))
    trace_events.event_file_set_flag(file, EVENT_FILE_FL_TRIGGER, True)
    file.soft_mode += 1
    trace_events.update_event_file(file)
    if event is not None:
        event.soft_mode += 1
        trace_events.update_event_file(event)
    return 0


def _unregister(file: TraceEventFile, command: str, event: TraceEventFile | None) -> int:
    data = next((t for t in file.triggers if t.command == command and t.event is event), None)
    if data is None:
        return -errno.ENOENT
    file.triggers.remove(data)
    trace_events.event_file_set_flag(file, EVENT_FILE_FL_TRIGGER, bool(file.triggers))
    file.soft_mode -= 1
    trace_events.update_event_file(file)
    if event is not None:
        event.soft_mode -= 1
        trace_events.update_event_file(event)
    return 0


def clear_event_triggers(file: TraceEventFile) -> None:
    """Take all triggers of an event away."""
    for data in list(file.triggers):
        _unregister(file, data.command, data.event)


def triggers_text(file: TraceEventFile) -> str:
    """Return what the event's ``trigger`` file shows."""
    if not file.triggers:
        return "# Available triggers:\n# " + " ".join(COMMANDS) + "\n"
    return "".join(data.text() + "\n" for data in file.triggers)
