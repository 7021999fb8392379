"""The Perfetto trace says what the lives say: tracks, states, who ran where, flows; and the Perfetto UI opens it."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from browser import perfetto_ui
from lives_json import readable
from taskscope.errors import UsageError
from taskscope.lives.life import Life, State
from taskscope.recording import Recording
from taskscope.views.perfetto import write_perfetto
from taskscope.views.who import end_text

#: threads, signals and stops, reused pids, lost events, an exec by a thread, an orphan with a subreaper, text
RECORDINGS = ("d06-threads.dat", "d08-signals.dat", "d19-storm.dat", "d12-overrun.dat", "d32-execthread-612.dat",
              "d10-subreaper.dat", "d15-text-stack.trace.txt")


@dataclass
class Track:
    """One track as its packets tell it."""

    name: str
    parent: int
    pid: int | None = None
    tid: int | None = None
    slices: list[tuple[int, int, str, str, dict[str, Any]]] = field(default_factory=list)
    instants: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)


@dataclass
class Decoded:
    """A trace, decoded."""

    tracks: dict[int, Track]
    flows: dict[int, list[tuple[int, int, str, bool]]]     # number -> (track, time, name, whether it ends there)

    def thread(self, life: Life) -> list[Track]:
        """Return the tracks of a pid, in the order in which they were made."""
        return [t for t in self.tracks.values() if t.tid == life.pid]


def decode(data: bytes) -> Decoded:
    """Decode a trace with Perfetto's own messages, apart from the code that wrote it."""
    proto = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="perfetto is not installed")
    trace = proto.Trace()
    trace.ParseFromString(data)
    tracks: dict[int, Track] = {}
    flows: dict[int, list[tuple[int, int, str, bool]]] = {}
    names: dict[int, str] = {}
    categories: dict[int, str] = {}
    open_: dict[int, list[tuple[int, str, str, dict[str, Any]]]] = {}
    for packet in trace.packet:
        names.update({n.iid: n.name for n in packet.interned_data.event_names})
        categories.update({n.iid: n.name for n in packet.interned_data.event_categories})
        if packet.HasField("track_descriptor"):
            d = packet.track_descriptor
            if d.HasField("thread"):
                tracks[d.uuid] = Track(d.thread.thread_name, d.parent_uuid, d.thread.pid, d.thread.tid)
            elif d.HasField("process"):
                tracks[d.uuid] = Track(d.process.process_name, 0, d.process.pid)
            else:
                tracks[d.uuid] = Track(d.name, d.parent_uuid)
        if not packet.HasField("track_event"):
            continue
        event = packet.track_event
        track, at = tracks[event.track_uuid], packet.timestamp
        if event.type == event.TYPE_SLICE_END:
            begin, name, category, notes = open_[event.track_uuid].pop()
            track.slices.append((begin, at, name, category, notes))
            continue
        name, category = names[event.name_iid], categories[event.category_iids[0]]
        notes = {a.name: _value(a) for a in event.debug_annotations}
        for number in event.flow_ids:
            flows.setdefault(number, []).append((event.track_uuid, at, name, False))
        for number in event.terminating_flow_ids:
            flows.setdefault(number, []).append((event.track_uuid, at, name, True))
        if event.type == event.TYPE_SLICE_BEGIN:
            open_.setdefault(event.track_uuid, []).append((at, name, category, notes))
        else:
            track.instants.append((at, name, notes))
    assert not any(open_.values()), "every slice ends"
    return Decoded(tracks, flows)


def _value(note: Any) -> Any:
    kind = note.WhichOneof("value")
    return [a.string_value for a in note.array_values] if kind is None else getattr(note, kind)


def export(trace: Recording, **part: Any) -> Decoded:
    """Write a trace and decode it."""
    pytest.importorskip("perfetto", reason="perfetto is not installed")
    out = io.BytesIO()
    write_perfetto(trace.lives, out, **part)
    return decode(out.getvalue())


@pytest.fixture(scope="module", params=RECORDINGS)
def both(data: Path, request: pytest.FixtureRequest) -> tuple[Recording, Decoded]:
    """A recording, and its trace."""
    trace = Recording.open(readable(data / request.param))
    return trace, export(trace)


def tasks(trace: Recording) -> Iterator[Life]:
    """Yield the lives that have tracks."""
    return (x for x in trace.lives if x.kind != "idle")


def by_life(trace: Recording, decoded: Decoded) -> dict[tuple[int, int], Track]:
    """Find the track of each life: those of one pid come in the order of the lives."""
    found: dict[tuple[int, int], Track] = {}
    for life in tasks(trace):
        found[life.ref] = decoded.thread(life)[life.generation]
    return found


def test_each_life_has_its_states(both: tuple[Recording, Decoded]) -> None:
    """The slices of a task's track are the spans of its life, each on a track of its own also where pids are reused."""
    trace, decoded = both
    tracks = by_life(trace, decoded)
    assert len(tracks) == sum(t.tid is not None for t in decoded.tracks.values())
    for life in tasks(trace):
        spans = [(s.at, s.end, s.state.name.lower()) for s in trace.lives.spans(life.ref)]
        slices = [(at, end, name) for at, end, name, category, _ in tracks[life.ref].slices if category == "state"]
        assert slices == spans, life.ref


def test_threads_stand_under_their_process(both: tuple[Recording, Decoded]) -> None:
    """A thread's track is of its group's process, which bears the name of the leader."""
    trace, decoded = both
    tracks = by_life(trace, decoded)
    for life in tasks(trace):
        process = decoded.tracks[tracks[life.ref].parent]
        if life.kind == "kthread":
            assert (process.pid, process.name) == (2, "kernel threads")
        else:
            assert process.pid == tracks[life.ref].pid == (life.pid if life.tgid is None else life.tgid)
            if life.kind == "process":
                assert process.name == life.comm


def test_cpus_show_who_ran(both: tuple[Recording, Decoded]) -> None:
    """A cpu's track has the running spans of that cpu, one after the other."""
    trace, decoded = both
    for cpu in trace.cpus:
        ran = sorted((s.at, x.pid) for x in tasks(trace) for s in trace.lives.spans(x.ref)
                     if s.state is State.RUNNING and s.cpu == cpu)
        track = next(t for t in decoded.tracks.values() if t.name == f"cpu {cpu}")
        assert sorted((at, notes["pid"]) for at, _, _, _, notes in track.slices) == ran
        ends = [(at, end) for at, end, *_ in track.slices]
        assert all(a[1] <= b[0] for a, b in pairwise(ends))


def test_lost_events_are_shown(both: tuple[Recording, Decoded]) -> None:
    """Each loss is a slice as long as the loss, beside the cpu that lost."""
    trace, decoded = both
    shown = sorted((at, end) for t in decoded.tracks.values() for at, end, _, category, _ in t.slices
                   if category == "lost")
    assert shown == sorted((g.start or trace.start, g.end or trace.end) for g in trace.lost)


def expected_flows(trace: Recording) -> list[tuple[tuple[int, int], int, tuple[int, int], int]]:
    """Return who did something to whom, as (from, at, to, at), from the lives alone."""
    known = {x.ref for x in tasks(trace)}
    found = []
    for x in tasks(trace):
        found += [(s.waker, s.woken_at, x.ref, s.at) for s in trace.lives.spans(x.ref) if s.waker is not None]
        if x.born is not None:
            found.append((x.born.by, x.born.at, x.ref, x.born.at))
        for one in x.signals:
            if one.sender != x.ref:
                found.append((one.sender, one.at, x.ref, one.at))
            if one.delivered_at is not None:
                found.append((x.ref, one.at, x.ref, one.delivered_at))
        if x.exit is not None and x.reaped is not None and x.reaped.by != x.ref:
            found.append((x.ref, x.exit.at, x.reaped.by, x.reaped.at))
    return [f for f in found if f[0] in known and f[2] in known]


def test_flows(both: tuple[Recording, Decoded]) -> None:
    """Wakeups, creations, signals with their deliveries, and reaps are flows, from who did it to whom it befell."""
    trace, decoded = both
    ref_of = {id(track): ref for ref, track in by_life(trace, decoded).items()}
    flows = []
    for ends in decoded.flows.values():
        (start, at, _, first), (stop, arrives, _, last) = ends
        assert (first, last) == (False, True), "the beginning of a flow stands before its end"
        flows.append((ref_of[id(decoded.tracks[start])], at, ref_of[id(decoded.tracks[stop])], arrives))
    assert sorted(flows) == sorted(expected_flows(trace))
    assert flows


def test_exit_causes_are_annotated(both: tuple[Recording, Decoded]) -> None:
    """The end of a life is an instant that says how, with status, signal, cause and killer."""
    trace, decoded = both
    for life, track in ((x, by_life(trace, decoded)[x.ref]) for x in tasks(trace)):
        ends = [(at, notes) for at, name, notes in track.instants if name.startswith("exits: ")]
        if life.exit is None:
            assert not ends
            continue
        [(at, notes)] = ends
        assert (at, notes["exit"]) == (life.exit.at, end_text(life))
        assert notes.get("code") == life.exit.code
        assert notes.get("cause") == life.exit.cause
        assert ("signal" in notes) == (life.exit.signal is not None)
        assert ("killer" in notes) == (life.exit.killer is not None)


def test_a_part_has_only_its_part(data: Path) -> None:
    """Of chosen tasks and a time, there are their tracks alone, nothing outside of it, and no flow with one end."""
    trace = Recording.open(data / "d08-signals.dat")
    chosen = trace.lives.choose([195, 201])
    after, before = trace.time("97.03", "first"), trace.time("97.31", "last")
    decoded = export(trace, chosen=chosen, after=after, before=before)
    assert {t.tid for t in decoded.tracks.values() if t.tid is not None} == {195, 201}
    times = [at for t in decoded.tracks.values() for s in t.slices for at in s[:2]]
    times += [i[0] for t in decoded.tracks.values() for i in t.instants]
    assert after <= min(times)
    assert max(times) <= before
    assert all(len(ends) == 2 for ends in decoded.flows.values())
    names = {ends[0][2] for ends in decoded.flows.values()}
    assert {"sends SIGKILL to wl 201", "wakes wl 201", "exits: SIGKILL by 195"} <= names


def test_without_perfetto_it_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is missing, the message names the extra that brings it."""
    for module in ["perfetto", *(m for m in sys.modules if m.startswith("perfetto."))]:
        monkeypatch.setitem(sys.modules, module, None)
    trace = Recording.open(data / "d05-zombie.dat")
    with pytest.raises(UsageError, match=r"pip install 'taskscope\[export\]'"):
        write_perfetto(trace.lives, io.BytesIO())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["d08-signals.dat", "d19-storm.dat", "d12-overrun.dat"])
def test_the_perfetto_ui_opens_it(data: Path, tmp_path: Path, name: str) -> None:
    """The UI imports it without any complaint, and its trace_processor finds every task, slice and flow."""
    pytest.importorskip("perfetto", reason="perfetto is not installed")
    trace = Recording.open(data / name)
    file = tmp_path / "x.pftrace"
    with file.open("wb") as out:
        write_perfetto(trace.lives, out)
    decoded = decode(file.read_bytes())
    with perfetto_ui(file) as ui:
        assert ui.errors() == {}
        count = {what: ui.query(f"select count(*) n from {what}")[0]["n"] for what in ("slice", "flow")}
        assert count["slice"] == sum(len(t.slices) + len(t.instants) for t in decoded.tracks.values())
        assert count["flow"] == len(decoded.flows)
        threads = ui.query("select t.tid, t.name, p.pid, p.name process from thread_track k "
                           "join thread t using(utid) join process p using(upid)")
        expected = [(t.tid, t.name, t.pid, decoded.tracks[t.parent].name)
                    for t in decoded.tracks.values() if t.tid is not None]
        assert sorted(tuple(r.values()) for r in threads) == sorted(expected)
        ui.page.until("document.body.innerText.includes('cpus')", 20)
        if name == "d08-signals.dat":
            wakes = ui.query("select count(*) n from flow f join slice a on f.slice_out = a.id join slice b on "
                             "f.slice_in = b.id where a.name glob 'wakes *' and b.name = 'runnable' and a.ts <= b.ts")
            assert wakes[0]["n"] == sum(s.waker in {x.ref for x in tasks(trace)} for x in tasks(trace)
                                        for s in trace.lives.spans(x.ref))
