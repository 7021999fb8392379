"""``export --to perfetto``: lives as a trace that the Perfetto UI and trace_processor open.

One track a task, under its process, with its states as slices and what happened to it as instants; one track a cpu,
with who ran.  Flows lead from a waker to the wakeup, from a creator to its child, from a sender to its target and on to
the delivery, from a death to the reaper.  Track events only: each life has a track of its own, also where pids were
reused, which the kernel's own events could not tell.

Follows protos/perfetto/trace/track_event of Perfetto v59.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO

from taskscope.errors import UsageError
from taskscope.lives.life import Life, Span, State, TaskRef
from taskscope.lives.lives import Lives
from taskscope.views.perfetto_marks import Marks, exit_notes, identity, task_name
from taskscope.views.perfetto_writer import Notes, Writer
from taskscope.views.tree import KTHREADD, leader_of
from taskscope.views.who import comm_at, decorated, end_text, pid_text


def write_perfetto(lives: Lives, out: IO[bytes], chosen: Sequence[Life] | None = None, after: int | None = None,
                   before: int | None = None) -> None:
    """Write a Perfetto trace (protobuf).

    Times are ns of the recording's clock (cycles where it counts these), which Perfetto calls boot time.

    :param chosen: the lives that get tracks; all by default
    :param after: ns; what is over by then is left out, `before`: what has not begun
    :raises UsageError: the package perfetto is not installed
    """
    try:
        writer = Writer(out)
    except ImportError as error:
        raise UsageError(
            f"--to perfetto needs the package perfetto ({error}): pip install 'taskscope[export]'"
        ) from None
    _Export(lives, writer, list(lives) if chosen is None else chosen, after, before).write()


class _Export:
    """One trace in the making."""

    def __init__(self, lives: Lives, writer: Writer, chosen: Sequence[Life], after: int | None,
                 before: int | None) -> None:
        self.lives, self.writer = lives, writer
        # An idle task is one a cpu and has no life; where nobody runs the track of the cpu is empty.
        self.chosen = [x for x in chosen if x.kind != "idle"]
        self.after = lives.trace.start if after is None else after
        self.before = lives.trace.end if before is None else before
        self.tracks: dict[TaskRef, int] = {}
        self.running: dict[int, list[tuple[int, int, str, Notes]]] = {}
        self.marks = Marks(lives, self.shown)

    def shown(self, ref: TaskRef | None, at: int) -> bool:
        """Tell whether a task has a track, and the trace that time."""
        return ref in self.tracks and self.after <= at <= self.before

    def write(self) -> None:
        """Write all packets.

        The beginnings of flows come first: where both ends have the same time, the order of the file decides.
        """
        self.writer.system(self.lives.trace.kernel.release, self.lives.trace.kernel.machine)
        self._tracks()
        for mark in self.marks.collect(self.chosen):
            self.writer.instant(self.tracks[mark.ref], mark.at, mark.name, "event", mark.notes, mark.begins, mark.ends)
        flows = {life.ref: self._wakers(life) for life in self.chosen}
        for life in self.chosen:
            self._states(life, flows.pop(life.ref))
        self._cpus()

    def _tracks(self) -> None:
        """Make the tracks of processes and of their tasks."""
        leaders: dict[int | None, list[Life]] = {}
        for life in self.lives:
            if life.kind != "thread":
                leaders.setdefault(life.pid, []).append(life)
        processes: dict[tuple[int, int], int] = {}
        for life in self.chosen:
            leader: Life | None = life
            group, name = life.pid, comm_at(life)
            if life.kind == "kthread":
                # As Perfetto itself shows them: under their creator.
                leader, group, name = None, KTHREADD, "kernel threads"
            elif life.kind == "thread" and life.tgid is not None:
                leader = leader_of(life, leaders.get(life.tgid, []))
                group, name = life.tgid, "" if leader is None else comm_at(leader)
            key = (group, 0 if leader is None else leader.generation)
            if key not in processes:
                processes[key] = self.writer.process(life.first if leader is None else leader.first, group, name)
                if leader is not None:
                    self._whole(processes[key], leader)
            self.tracks[life.ref] = self.writer.thread(
                life.first, processes[key], group, life.pid, decorated(life.kind, comm_at(life)))

    def _whole(self, track: int, leader: Life) -> None:
        """Write the whole life of a process onto its track, named by how it ended."""
        at = max(leader.first, self.after)
        end = min(leader.last if leader.reaped is None else max(leader.reaped.at, leader.last), self.before)
        if at <= end:
            name = f"{comm_at(leader)} {pid_text(leader.ref)}: {end_text(leader)}"
            self.writer.slice(track, at, end, name, "life", identity(leader) | exit_notes(leader, self.lives))

    def _wakers(self, life: Life) -> dict[int, int]:
        """Mark who woke a task, and return the flow that leads to each of its spans that a wakeup began."""
        flows: dict[int, int] = {}
        for k, span in enumerate(self.lives.spans(life.ref)):
            if span.waker is None or span.woken_at is None:
                continue
            flow = self.marks.flow(span.waker, span.woken_at, life.ref, span.at)
            if flow is not None:
                flows[k] = flow
                name = f"wakes {task_name(self.lives, life.ref, span.at)}"
                self.writer.instant(self.tracks[span.waker], span.woken_at, name, "wakeup", {}, begins=flow)
        return flows

    def _states(self, life: Life, flows: dict[int, int]) -> None:
        """Write the states of a task."""
        for k, span in enumerate(self.lives.spans(life.ref)):
            at, end = max(span.at, self.after), min(span.end, self.before)
            if at > end or (at == end and span.dur):
                continue
            if span.state is State.RUNNING and span.cpu is not None:
                name = f"{comm_at(life, at)} {pid_text(life.ref)}"
                self.running.setdefault(span.cpu, []).append((at, end, name, identity(life)))
            self.writer.slice(self.tracks[life.ref], at, end, span.state.name.lower(), "state",
                              self._notes(span), flows.get(k))

    def _notes(self, span: Span) -> Notes:
        notes: Notes = {} if span.cpu is None else {"cpu": span.cpu}
        if span.preempted:
            notes["preempted"] = True
        if span.irq_waker:
            notes["woken by"] = "an interrupt"
        elif span.waker is not None:
            notes["woken by"] = task_name(self.lives, span.waker, span.at)
        if span.state is State.UNKNOWN:
            notes["why"] = "not recorded, or events were lost"
        return notes

    def _cpus(self) -> None:
        """Write who ran on each cpu, and where its events were lost."""
        lost: dict[int | None, list[tuple[int, int, str, Notes]]] = {}
        for gap in self.lives.trace.lost:
            at = self.after if gap.start is None else max(gap.start, self.after)
            end = self.before if gap.end is None else min(gap.end, self.before)
            text = "events lost, how many is unknown" if gap.count is None else f"{gap.count:,} events lost"
            if at <= end:
                lost.setdefault(gap.cpu, []).append((at, end, text, {}))
        group = self.writer.track("cpus")
        cpus = sorted({*self.lives.trace.cpus, *self.running, *(c for c in lost if c is not None)})
        for cpu in cpus:
            self._row(self.writer.track(f"cpu {cpu}", group, 2 * cpu), "cpu", self.running.get(cpu, []))
            if cpu in lost:
                self._row(self.writer.track(f"cpu {cpu}: lost events", group, 2 * cpu + 1), "lost", lost[cpu])
        if None in lost:
            self._row(self.writer.track("lost events", group, -1), "lost", lost[None])

    def _row(self, track: int, category: str, slices: list[tuple[int, int, str, Notes]]) -> None:
        """Write slices of one track one after the other: where clocks disagree, one ends as the next begins."""
        slices.sort(key=lambda s: s[:2])
        for k, (at, end, name, notes) in enumerate(slices):
            stop = min(end, slices[k + 1][0]) if k + 1 < len(slices) else end
            self.writer.slice(track, at, stop, name, category, notes)
