"""The shape of a recording: columnar event tables, clock, cpus, lost events; no file format knows more."""

from taskscope.trace.source import Clock, EventType, Field, Gap, Index, Kernel, Source
from taskscope.trace.trace import Trace

__all__ = ["Clock", "EventType", "Field", "Gap", "Index", "Kernel", "Source", "Trace"]
