"""The recorder: a command and its descendants, given processes, or everything, into one trace.dat.

`Recorder.run` does it from beginning to end: an instance of tracefs, events and triggers, the command held until all is
ready, pages into the spool while it runs, and at the end the file.  Whatever happens on the way, what was made here
(instance, probes, mount, held command) is taken away again, and what was recorded stays: as the file, or as the spool.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from taskscope.errors import UsageError
from taskscope.ftrace import record_end
from taskscope.ftrace.record_child import Command, awaited, comm_of, tasks_of
from taskscope.ftrace.record_end import Result
from taskscope.ftrace.record_events import Chosen, Events, apart, choose, enable
from taskscope.ftrace.record_order import FollowSetup, Order
from taskscope.ftrace.record_probe import Probes, remove_probes
from taskscope.ftrace.record_pump import DiskFullError, Pumps
from taskscope.ftrace.record_setup import (
    in_the_way,
    kallsyms,
    page_size,
    refuse_foreign_pids,
    set_buffer,
    set_clock,
    with_later_modules,
)
from taskscope.ftrace.record_signals import Signals
from taskscope.ftrace.saved import parse_clock
from taskscope.ftrace.spool import SUFFIX, Spool, SpoolInfo
from taskscope.ftrace.tracefs import (
    Instance,
    Tracefs,
    boot_id,
    open_tracefs,
    remove_stale,
    start_time,
)

if TYPE_CHECKING:
    from taskscope.ftrace.record_follow import Both

#: seconds between two looks at the buffers, where nobody follows and where somebody does
_CALM, _FOLLOWED = 1.0, 0.1
#: percent of a buffer at which the kernel wakes the recorder in between
_PERCENT = 20
#: KiB of the second instance's ring buffer
_OUTSIDE_KB = 1024
#: seconds that releases of tasks come after their end (an RCU grace period)
SETTLE = 0.12
#: seconds that a command has to end after Ctrl-C or a signal
PATIENCE = 2.0
#: seconds for which buffers are emptied after the end, however many cpus keep filling them
_DRAIN = 20.0


class Recorder:
    """One recording.

    :param order: what to record
    :param say: takes a sentence for people while it runs
    """

    def __init__(self, order: Order, say: Callable[[str], None] = lambda _: None) -> None:
        self.order = order
        self.say = say
        self.signals = Signals()
        self.result = Result(order.output, command=order.command[0] if order.command else "")
        self._outside: Instance | None = None
        self._tids: list[int] = []
        self._wakes = False
        self._ending = ""                 # "command", "pids", "time", "signal" or "follow"
        self._began = False               # whether anything was recorded

    def run(self) -> Result:
        """Record until the end, and write the file.

        :raises UsageError: the order asks for what this kernel does not have
        :raises PermissionRefusedError: this user may not record, or the kernel refuses it
        :raises CommandError: the command cannot be run
        :raises TaskscopeError: the output is in the way, or the kernel fails
        :raises OSError: the system refuses to write
        """
        with self.signals:
            return self._run()

    def _run(self) -> Result:
        order = self.order
        with contextlib.ExitStack() as stack:
            tracefs = open_tracefs()
            stack.callback(tracefs.unmount)
            record_end.refuse_output(order.output, self.say)
            for name in remove_stale(tracefs):
                self.say(f"removed {name}, which a recorder that was killed had left")
            if not order.everything:
                refuse_foreign_pids()
            command = None
            if order.command:
                command = Command(order.command, order.user, ignores=order.ignores)
                stack.callback(command.drop)
            remove_probes(tracefs)
            probes = Probes(tracefs, self.say)
            stack.callback(probes.remove)       # after the instance: the kernel keeps a probe that is in use
            instance = Instance(tracefs)
            stack.callback(self._remove, instance)
            chosen, outside = self._set_up(instance, command, probes)
            if outside.events:
                self._outside = Instance(tracefs)
                stack.callback(self._remove, self._outside)
                self._set_up_outside(self._outside, outside)
            spool = self._spool(tracefs, instance, chosen, outside, probes)
            if command is not None and (comm := comm_of(os.getpid())) is not None:
                spool.cmdlines[os.getpid()] = comm
            stack.callback(spool.close)
            try:
                self._record(instance, spool, command)
            except BaseException:
                if not self._began:
                    spool.remove()
                else:
                    self._say_kept(spool)
                raise
            # Nothing in the kernel is needed any more.
            for one in self._instances(instance):
                self._remove(one)
            spool.close()
            try:
                record_end.write(spool.folder, spool.info, order.output, self.result, self.signals, order.owner)
            except BaseException:
                self._say_kept(spool)
                raise
            # One that came while the file was written.
            self.result.signal = self.result.signal or next(iter(self.signals.seen), None)
            return self.result

    # ---- before ----------------------------------------------------------------------------------------------

    def _set_up(self, instance: Instance, command: Command | None, probes: Probes) -> tuple[Chosen, Chosen]:
        """Set the instance up; return its events, and those of the second one."""
        order = self.order
        set_clock(instance, order.clock)
        set_buffer(instance, order.buffer_kb)
        # Before v5.0 the kernel would wake the recorder for every event.
        self._wakes = instance.try_write("buffer_percent", str(_PERCENT))
        instance.try_write("options/record-tgid", "1")
        if order.stacks == "all":
            instance.write("options/stacktrace", "1")
        if not order.everything:
            if command is not None or order.children:
                instance.write("options/event-fork", "1")
            self._choose_tasks(instance, command)
        events = Events.of(instance.tracefs.path)
        chosen = choose(events, os.uname().machine, order.events, irq=order.irq, stacks=order.stacks,
                        triggers=order.triggers)
        outside = Chosen() if order.everything else apart(chosen, order.triggers)
        for note in [*chosen.notes, *enable(instance, chosen)]:
            self.say(note)
        probes.set_up(instance, order.probes, order.functions, chosen)
        return chosen, outside

    def _choose_tasks(self, instance: Instance, command: Command | None) -> None:
        tids = [command.pid] if command is not None else []
        # Once more, for threads that were created meanwhile.
        for again in (False, True):
            try:
                tids += [tid for pid in self.order.pids for tid in tasks_of(pid) if tid not in tids]
            except UsageError:
                if not again:
                    raise
            new = [tid for tid in tids if tid not in self._tids]
            for k in range(0, len(new), 200):
                instance.write("set_event_pid", " ".join(map(str, new[k:k + 200])))
            self._tids += new

    def _set_up_outside(self, instance: Instance, chosen: Chosen) -> None:
        set_clock(instance, self.order.clock)
        set_buffer(instance, min(_OUTSIDE_KB, self.order.buffer_kb or _OUTSIDE_KB))
        instance.try_write("buffer_percent", str(_PERCENT))
        for note in enable(instance, chosen):
            self.say(note)

    def _instances(self, instance: Instance) -> list[Instance]:
        """Return the instances; what others did is read first, as `Pumps` says."""
        return [instance] if self._outside is None else [self._outside, instance]

    def _spool(self, tracefs: Tracefs, instance: Instance, chosen: Chosen, outside: Chosen, probes: Probes) -> Spool:
        order = self.order
        header = instance.read("events/header_page") or (tracefs.path / "events/header_page").read_bytes()
        m = re.search(rb"\bcommit;\s*offset:\d+;\s*size:([48]);", header)
        uname = os.uname()
        pid = os.getpid()
        info = SpoolInfo(
            pid=pid, start_time=start_time(pid) or 0, boot_id=boot_id(), instance=str(instance.path),
            tracefs=str(tracefs.path), mounted=tracefs.made, probes=probes.names(), output=order.output.name,
            file_version=order.file_version, compression=order.compression,
            clock=parse_clock(instance.read("trace_clock")) or order.clock,
            page_size=page_size(instance, header), long_size=int(m[1]) if m else 8,
            cpu_count=max(instance.cpus(), default=0) + 1,
            uname=f"{uname.sysname} {uname.nodename} {uname.release} {uname.machine}",
            trace_id=secrets.randbits(63), stacks=[] if order.stacks == "all" else probes.with_stacks(chosen),
            tasks=list(self._tids), children=bool(order.command) or order.children,
            outside=str(self._outside.path) if self._outside is not None else "", command=list(order.command),
            arguments=list(order.arguments),
            began=time.time())
        folder = order.output.with_name(order.output.name + SUFFIX)
        try:
            spool = Spool(folder, info, order.owner)
        except FileExistsError:
            raise in_the_way(folder) from None
        try:
            if self._outside is not None:
                spool.make_outside()
            self._texts(spool, tracefs, instance, [*chosen.events, *outside.events, *probes.events()], header)
        except BaseException:
            spool.remove()
            raise
        return spool

    def _texts(self, spool: Spool, tracefs: Tracefs, instance: Instance, chosen: Sequence[str], header: bytes) -> None:
        events = instance.path / "events"
        wanted = [f"ftrace/{p.parent.name}" for p in sorted((tracefs.path / "events/ftrace").glob("*/format"))]
        wanted += chosen
        formats: list[tuple[str, bytes]] = []
        for event in dict.fromkeys(wanted):
            text = instance.read(f"events/{event}/format")
            if not text:
                with contextlib.suppress(OSError):
                    text = (tracefs.path / "events" / event / "format").read_bytes()
            if text:
                formats.append((event.split("/")[0], text))
        symbols = kallsyms(self.say)
        spool.put("kallsyms", symbols)
        spool.put("header_event", instance.read("events/header_event")
                  or (events.parent.parent.parent / "events/header_event").read_bytes())
        spool.put("formats", b"".join(b"system: %s\n%s\n" % (system.encode(), text) for system, text in formats))
        with contextlib.suppress(OSError):
            spool.put("printk_formats", (tracefs.path / "printk_formats").read_bytes())
        spool.put("trace_clock", instance.read("trace_clock"))
        spool.put("subbuf_size", b"%d\n" % spool.info.page_size)
        for pid in self.order.pids:
            for tid in tasks_of(pid):
                if (comm := comm_of(tid)) is not None:
                    spool.cmdlines[tid] = comm
                spool.tgids[tid] = pid
        tgids = spool.refresh(tracefs.path)
        # The last: a folder with it can be read.
        spool.put("header_page", header)
        self._follow_setup = FollowSetup(header, formats, symbols, spool.names(), tgids,
                                         spool.info.long_size, spool.info.page_size, os.getpid(), None)

    # ---- while it runs ---------------------------------------------------------------------------------------

    def _record(self, instance: Instance, spool: Spool, command: Command | None) -> None:
        order = self.order
        follow: Both | None = None
        if order.follow is not None:
            from taskscope.ftrace.record_follow import Both

            self._follow_setup.command = command.pid if command is not None else None
            follow = Both(order.follow(self._follow_setup), self._follow_setup, spool.info)
        with contextlib.ExitStack() as stack:
            pump = Pumps(instance, self._outside, spool, follow)
            stack.callback(pump.close)
            ends = stack.enter_context(awaited(order.pids))
            if self.signals.seen:
                self.result.signal = self.signals.take()
                raise KeyboardInterrupt
            spool.info.state = "recording"
            spool.save()
            began = time.monotonic()
            for one in self._instances(instance):
                one.write("tracing_on", "1")
            try:
                if command is not None:
                    command.start()
                self._began = True
                self._watch(instance, spool, command, pump, ends, follow)
                if self._ending in ("command", "pids") or (command is not None and command.status is not None):
                    self._settle(pump, follow)
                for one in reversed(self._instances(instance)):
                    one.write("tracing_on", "0")
                pump.read(time.monotonic() + _DRAIN)
            except DiskFullError as e:
                self.result.failed = f"the recording was stopped: the disk is full ({e})"
            finally:
                for one in self._instances(instance):
                    one.try_write("tracing_on", "0")
                self.result.seconds = time.monotonic() - began
            pump.close()
            self._last_texts(instance, spool)
        if follow is not None:
            follow.end()
        if command is not None:
            self._leave(command)

    def _watch(self, instance: Instance, spool: Spool, command: Command | None, pump: Pumps, awaited: list[int],
               follow: Both | None) -> None:
        """Read the buffers until something ends the recording."""
        order = self.order
        step = _CALM if follow is None and self._wakes else _FOLLOWED
        poll = select.epoll()
        try:
            if self._wakes:
                for fd in pump.filenos():
                    poll.register(fd, select.EPOLLIN)
            poll.register(self.signals.fileno(), select.EPOLLIN)
            for fd in ([command.pidfd] if command is not None else []) + awaited:
                poll.register(fd, select.EPOLLIN)
            alive = set(awaited)
            now = time.monotonic()
            end = now + order.seconds if order.seconds is not None else None
            look = texts = now + step
            while True:
                wait = min(look, end if end is not None else look) - now
                ready = {fd for fd, _ in poll.poll(max(wait, 0))}
                now = time.monotonic()
                for fd in ready & alive:
                    alive.discard(fd)
                    poll.unregister(fd)
                if ready & pump.filenos() or now >= look or follow is not None:
                    if pump.read(now + step) and follow is not None:
                        follow.tick()
                        if follow.closed and command is None:
                            self._ending = self._ending or "follow"
                            return
                    look = time.monotonic() + step
                if now >= texts:
                    with contextlib.suppress(OSError):         # a full disk is met by the pages
                        spool.refresh(instance.tracefs.path)
                    pump.watch()
                    # At most a fiftieth of the time goes into names.
                    done = time.monotonic()
                    texts = done + max(_CALM, 50 * (done - now))
                if self.signals.seen:
                    end = self._interrupted(command)
                # Not asked before it is known: each wait4() of a recorded task is an event.
                if command is not None and command.pidfd in ready and command.ended():
                    self._ending = self._ending or "command"
                    return
                if order.pids and not alive and command is None:
                    self._ending = "pids"
                    return
                now = time.monotonic()
                if end is not None and now >= end:
                    self._ending = self._ending or "time"
                    return
        finally:
            poll.close()

    def _interrupted(self, command: Command | None) -> float:
        """Take note of a signal to the recorder; return until when its command may take to end."""
        number = self.signals.take()
        now = time.monotonic()
        if self._ending == "signal" or command is None:
            self._ending = "signal"
            self.result.signal = self.result.signal or number
            return now
        self._ending = "signal"
        self.result.signal = number
        if number != signal.SIGINT:
            # Ctrl-C reaches the command from the terminal; these do not.
            command.send(number)
        return now + PATIENCE

    def _settle(self, pump: Pumps, follow: Both | None) -> None:
        """Read on for the moment in which the kernel releases what has ended."""
        end = time.monotonic() + SETTLE
        while (now := time.monotonic()) < end and not self.signals.seen:
            select.select([self.signals.fileno()], [], [], min(end - now, 0.05))
            if follow is not None and pump.read(end):
                follow.tick()

    def _leave(self, command: Command) -> None:
        """End the command if the recording ended before it, and take its status."""
        if not command.ended() and self._ending == "time":
            command.send(signal.SIGTERM)
        end = time.monotonic() + PATIENCE
        while not command.ended() and self._ending in ("time",) and time.monotonic() < end and not self.signals.seen:
            select.select([command.pidfd, self.signals.fileno()], [], [], end - time.monotonic())
        if not command.ended():
            self.result.running = command.pid
        self.result.exit_code = 0 if self._ending == "time" else command.exit_code()

    def _last_texts(self, instance: Instance, spool: Spool) -> None:
        try:
            spool.refresh(instance.tracefs.path)
            for one in self._instances(instance):
                for cpu in one.cpus():
                    spool.put(f"cpu{cpu}.stats", one.read(f"per_cpu/cpu{cpu}/stats"), outside=one is not instance)
            if symbols := self._follow_setup.kallsyms:
                spool.put("kallsyms", with_later_modules(symbols))
            spool.info.state = "writing"
            spool.save()
        except OSError as e:
            self.result.failed = self.result.failed or f"the recording was stopped: {e.strerror or e}"

    def _say_kept(self, spool: Spool) -> None:
        self.say(f"what was recorded is kept: taskscope record --recover {record_end.quoted(spool.folder)}")

    def _remove(self, instance: Instance) -> None:
        if not instance.remove():
            self.say(f"the kernel does not let go of the tracing instance {instance.name}; the next recording "
                     "removes it")
