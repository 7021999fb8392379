"""The packets of a Perfetto trace: tracks, slices, instants with flows; nothing here knows of lives.

Follows protos/perfetto/trace/trace_packet.proto and track_event/*.proto of Perfetto v59.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

#: what an annotation may be: shown beside a slice
Notes = dict[str, "str | int | bool | tuple[str, ...]"]

#: all packets are of one sequence, whose names are numbered (interned)
_SEQUENCE = 1


class Writer:
    """Writes packets one by one.

    :raises ImportError: the package perfetto, or what it needs, is not installed
    """

    def __init__(self, out: IO[bytes]) -> None:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto
        from perfetto.trace_builder.proto_builder import StreamingTraceProtoBuilder

        self._builder = StreamingTraceProtoBuilder(out)
        self._event, self._packet, self._track = proto.TrackEvent, proto.TracePacket, proto.TrackDescriptor
        self._names: dict[str, int] = {}
        self._categories: dict[str, int] = {}
        self._tracks = 0
        packet = self._new(None)
        packet.sequence_flags = self._packet.SEQ_INCREMENTAL_STATE_CLEARED
        self._builder.write_packet(packet)

    def _new(self, at: int | None) -> Any:
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        if at is not None:
            # Perfetto knows no time before zero, which only damage gives.
            packet.timestamp = max(at, 0)
        return packet

    def system(self, release: str | None, machine: str | None) -> None:
        """Say which kernel was recorded."""
        packet = self._new(None)
        packet.system_info.utsname.sysname = "Linux"
        if release is not None:
            packet.system_info.utsname.release = release
        if machine is not None:
            packet.system_info.utsname.machine = machine
        self._builder.write_packet(packet)

    # ---- tracks -----------------------------------------------------------------------------------------------------

    def _descriptor(self, at: int | None = None) -> tuple[Any, Any, int]:
        self._tracks += 1
        packet = self._new(at)
        packet.track_descriptor.uuid = self._tracks
        return packet, packet.track_descriptor, self._tracks

    def track(self, name: str, parent: int | None = None, rank: int = 0) -> int:
        """Make a track and return its number.

        :param rank: its place among those of the same parent
        """
        packet, track, number = self._descriptor()
        track.name = name
        if parent is None:
            track.child_ordering = self._track.EXPLICIT
        else:
            track.parent_uuid = parent
            track.sibling_order_rank = rank
        self._builder.write_packet(packet)
        return number

    def process(self, at: int, pid: int, name: str) -> int:
        """Make the track of a process and return its number.

        :param at: when it was first seen: where pids are reused, the reader goes by the order of these times
        """
        packet, track, number = self._descriptor(at)
        track.process.pid = pid
        track.process.process_name = name
        self._builder.write_packet(packet)
        return number

    def thread(self, at: int, process: int, pid: int, tid: int, name: str) -> int:
        """Make the track of a task and return its number.

        :param at: as of a process
        :param process: the track of its process
        :param pid: the process's
        """
        packet, track, number = self._descriptor(at)
        track.parent_uuid = process
        track.thread.pid = pid
        track.thread.tid = tid
        track.thread.thread_name = name
        self._builder.write_packet(packet)
        return number

    # ---- events -----------------------------------------------------------------------------------------------------

    def slice(self, track: int, at: int, end: int, name: str, category: str, notes: Notes,
              ends: int | None = None) -> None:
        """Write something that lasts.

        :param ends: the flow that ends where it begins
        """
        self._emit(track, at, self._event.TYPE_SLICE_BEGIN, name, category, notes, None, ends)
        packet = self._new(end)
        packet.track_event.type = self._event.TYPE_SLICE_END
        packet.track_event.track_uuid = track
        self._builder.write_packet(packet)

    def instant(self, track: int, at: int, name: str, category: str, notes: Notes, begins: int | None = None,
                ends: int | None = None) -> None:
        """Write something that happens at once.

        :param begins: the flow that leaves from it; `ends`: the flow that arrives
        """
        self._emit(track, at, self._event.TYPE_INSTANT, name, category, notes, begins, ends)

    def _emit(self, track: int, at: int, kind: int, name: str, category: str, notes: Mapping[str, Any],
              begins: int | None, ends: int | None) -> None:
        packet = self._new(at)
        packet.sequence_flags = self._packet.SEQ_NEEDS_INCREMENTAL_STATE
        event = packet.track_event
        event.type = kind
        event.track_uuid = track
        event.name_iid = self._number(self._names, name, packet.interned_data.event_names)
        event.category_iids.append(self._number(self._categories, category, packet.interned_data.event_categories))
        if begins is not None:
            event.flow_ids.append(begins)
        if ends is not None:
            event.terminating_flow_ids.append(ends)
        for key, value in notes.items():
            _annotate(event.debug_annotations.add(), key, value)
        self._builder.write_packet(packet)

    @staticmethod
    def _number(known: dict[str, int], text: str, new: Any) -> int:
        number = known.get(text)
        if number is None:
            number = known[text] = len(known) + 1
            one = new.add()
            one.iid, one.name = number, text
        return number


def _annotate(note: Any, key: str, value: str | int | bool | tuple[str, ...]) -> None:
    note.name = key
    if isinstance(value, bool):
        note.bool_value = value
    elif isinstance(value, int):
        note.int_value = value
    elif isinstance(value, str):
        note.string_value = value
    else:
        for one in value:
            note.array_values.add().string_value = one
