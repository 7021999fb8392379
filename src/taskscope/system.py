"""A machine of the executable kernel as people use it: `System`, what `taskscope.boot` returns.

Stands at the front door because it joins rooms that may not know each other: the machine (model), the decoder of task
descriptors (snapshot) and the recordings (ftrace, lives).  It looks at the machine from outside, as a debugger and a
person at the keyboard do: nothing here takes virtual time, and what it starts is started by the machine's init.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from taskscope.errors import NoSuchTaskError, UsageError
from taskscope.terminal import LONGEST, Process, Terminal

if TYPE_CHECKING:
    from os import PathLike

    from taskscope.model.drivers.tty.tty_io import TtyStruct
    from taskscope.model.include.linux.sched import Task
    from taskscope.model.machine import Machine
    from taskscope.recording import Recording
    from taskscope.snapshot.detail import TaskDetail
    from taskscope.snapshot.saved import Saved
    from taskscope.snapshot.snapshot import Snapshot

Program = Callable[..., Any]


class System:
    """A booted machine.

    >>> import taskscope
    >>> with taskscope.boot(cpus=2) as k:
    ...     hello = k.spawn(lambda sys, argv: sys.puts("hello"), name="hello")
    ...     code = hello.wait()
    ...     print(code, hello.text.strip())
    0 hello
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._requests = 0

    # ---- life of the machine ---------------------------------------------------------------------------

    def close(self) -> None:
        """Switch the machine off; nothing of it is left behind."""
        if not self.machine.closed:
            self.machine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def current(self) -> Iterator[Machine]:
        """Make this the machine that the kernel's functions mean, for looking at it from outside."""
        from taskscope.model import machine

        before, machine.cur = machine.cur, self.machine
        try:
            yield self.machine
        finally:
            machine.cur = before

    @property
    def now(self) -> int:
        """The time of its clock, in ns since power-on."""
        return self.machine.now

    # ---- starting things -------------------------------------------------------------------------------

    def install(self, program: Program, path: str) -> None:
        """Put a program ``main(sys, argv)`` into the machine's file system."""
        from taskscope.model.user.programs import install_program

        with self.current():
            install_program(path, program)

    def spawn(
        self,
        program: Program | str,
        *args: str,
        name: str | None = None,
        tty: TtyStruct | None = None,
        cwd: str = "/root",
        env: dict[str, str] | None = None,
        uid: int = 0,
    ) -> Process:
        """Have init start a program, in a session of its own; it runs when the machine runs.

        :param program: ``main(sys, argv)``, or the path or name of one that is there
        :param name: what its file is called, for a function; the function's name by default
        :param tty: its controlling terminal; without one it is a daemon that has the console open
        :raises UsageError: there is no such program
        """
        if callable(program):
            name = name or getattr(program, "__name__", "program").strip("<>")
            path = f"/usr/local/bin/{name}"
            self.install(program, path)
        else:
            path = program if "/" in program else self._which(program)
            name = path.rpartition("/")[2]
        m = self.machine
        controlling = tty is not None
        tty = m.console_tty if tty is None else tty
        self._requests += 1
        m.hostctl.requests.append(
            (self._requests, path, [name, *args], dict(env or {}), f"/dev/{tty.name}", controlling, cwd, uid)
        )
        self.interrupt(m.hostctl.irq)
        return Process(self, self._requests, name, tty)

    def _which(self, name: str) -> str:
        from taskscope.model.fs import super as super_

        with self.current():
            for folder in ("/usr/local/bin", "/bin", "/sbin"):
                if name in (super_.kern_mkdir(folder).i_children or {}):
                    return f"{folder}/{name}"
            known = ", ".join(sorted(super_.kern_mkdir("/bin").i_children or {}))
        raise UsageError(f"the machine has no program {name!r}; it has {known}")

    def terminal(self, shell: str = "bash") -> Terminal:
        """Open a terminal: a pty with a shell on it, run until its prompt is there."""
        from taskscope.model.drivers.tty import tty_io

        with self.current():
            tty = tty_io.pty_open()
        terminal = Terminal(self, self.spawn(shell, tty=tty))
        self.run(until=terminal.idle)
        return terminal

    def type(self, tty: TtyStruct, text: str) -> None:
        """Type on a terminal: the characters arrive by interrupt when the machine runs."""
        self.machine.uart_fifo.append((tty, text.encode()))
        self.interrupt(self.machine.irq_uart)

    def interrupt(self, irq: Any, cpu: int | None = None) -> None:
        """Raise an interrupt now.

        :param irq: a line (``machine.irq_descs``), which goes to the CPU that it is routed to; or an IPI, the timer
        :param cpu: the number of the CPU for the latter
        """
        m = self.machine
        line = irq.irq_data.line
        if line is None:
            m.at(m.now, _raise, (m.cpus[cpu or 0], irq))
        else:
            m.at(m.now, _pulse, line)

    # ---- running ---------------------------------------------------------------------------------------

    def run(self, s: float | None = None, *, ns: int | None = None, until: Any = None, every: int = 1_000_000) -> None:
        """Run the machine.

        :param s: for so many seconds of its time; or `ns`
        :param until: a `Process` (until it has ended), a function without arguments that is asked every `every` ns
            (until it is true), or the
            name of a kernel function or of a trace event (until that is next reached: the machine stands in it)
        :raises UsageError: what `until` waits for did not come within `s` seconds, 24 hours by default; or nothing says
            when to stop
        """
        m = self.machine
        if s is None and ns is None and until is None:
            raise UsageError("run() needs to know when to stop: s=, ns= or until=")
        began = m.now
        limit = began + (round((LONGEST if s is None else s) * 1e9) if ns is None else ns)
        if until is None:
            m.run_until(limit)
            return
        if isinstance(until, str):
            self._run_to(until, limit)
            return
        done = (lambda: until.status is not None) if isinstance(until, Process) else until
        while not done():
            if m.now >= limit:
                if isinstance(until, Process):
                    return
                raise UsageError(
                    f"what run() waits for did not come within {(limit - began) / 1e9:g} s of the machine's time"
                )
            m.run_until(min(m.now + every, limit))

    def step(self) -> None:
        """Let the machine do the next thing that is due: an interrupt, the end of a computation."""
        m = self.machine
        due = m.next_due()
        m.run_until(m.now + m.tick_nsec if due is None else max(due, m.now))

    def _run_to(self, name: str, limit: int) -> None:
        found: list[str] = []

        def stop(*_: Any) -> None:
            if not found:
                found.append(name)
                self.pause()

        with self.probe(name, stop):
            self.machine.run_until(limit)
        if not found:
            raise UsageError(f"{name}() was not reached by {limit / 1e9:.6f} of the machine's time")

    def check_schedule(self) -> None:
        """Check, where the machine repeats a run, that it has come to its end.

        :raises ScheduleError: the log has more choices than were made
        """
        from taskscope.model.schedule import Replay

        if isinstance(self.machine.schedule, Replay):
            self.machine.schedule.finish()

    def pause(self) -> None:
        """Stop the machine where it stands: for probes.  The next `run` goes on from there."""
        self.machine.pause()

    @contextmanager
    def probe(self, name: str, do: Callable[..., Any], when: Callable[..., bool] | None = None) -> Iterator[None]:
        """Call a function whenever the kernel enters one of its functions or fires a trace event.

        :param name: ``ttwu_do_wakeup``, ``sched_switch``, …
        :param do: gets the arguments of the function or of the tracepoint; none if it takes none (``dump_stack``)
        :param when: gets the same; `do` is called only if it returns true
        :raises UsageError: the kernel has neither
        """
        from taskscope.model.kernel import kprobes

        probe = kprobes.Kprobe(name, do, when)
        if kprobes.register_kprobe(self.machine, probe):
            raise UsageError(
                f"this kernel has no function and no event {name!r} (see available_filter_functions and "
                "available_events)"
            )
        try:
            yield
        finally:
            if not self.machine.closed:
                kprobes.unregister_kprobe(self.machine, probe)

    # ---- looking ---------------------------------------------------------------------------------------

    def find(self, pid: int | None) -> Task | None:
        """Return the task_struct of a pid; None if there is no such task (any more)."""
        if pid is None:
            return None
        from taskscope.model.kernel import pid as pid_

        with self.current():
            return pid_.find_task_by_pid_ns(pid, self.machine.init_pid_ns) if pid else self.machine.init_task

    def pids(self, comm: str) -> list[int]:
        """Return the pids of the tasks of that name, in order."""
        return [row.pid for row in self.ps().tasks if row.comm == comm]

    def appears(self, comm: str, s: float = 10) -> int:
        """Run until there is a task of that name, and return its pid: the newest, if there are several.

        :raises UsageError: none has appeared after `s` seconds
        """
        self.run(until=lambda: bool(self.pids(comm)), s=s)
        return max(self.pids(comm))

    def ps(self) -> Snapshot:
        """Return the process table, read from the task descriptors."""
        from taskscope.model.memory import ModelMemory
        from taskscope.snapshot.decode import snapshot

        with self.current():
            return snapshot(ModelMemory(self.machine))

    def task(self, pid: int) -> TaskDetail:
        """Return one task descriptor, member by member.

        :raises NoSuchTaskError: there is no such task
        """
        from taskscope.model.memory import ModelMemory
        from taskscope.snapshot.detail import detail_of

        task = self.find(pid)
        if task is None:
            raise NoSuchTaskError(f"no task has pid {pid} at {self.now / 1e9:.6f}")
        with self.current():
            return detail_of(ModelMemory(self.machine), task)

    def stack(self, pid: int) -> list[str]:
        """Return the kernel call stack of a task that does not run, innermost function first."""
        return list(self.task(pid).stack)

    def waits_in(self, task: Task) -> str | None:
        """Return the kernel function that a task waits in; None if it does not wait."""
        from taskscope.model.memory import ModelMemory

        return ModelMemory(self.machine).waits_in(task)

    def read(self, path: str) -> bytes:
        """Read a file of the machine from outside, /proc and tracefs too.

        :raises OSError: as open(2) or read(2) would on the machine
        """
        from taskscope.model.outside import read_file

        with self.current() as m:
            return read_file(m, path)

    def write(self, path: str, text: str | bytes, append: bool = False) -> None:
        """Write a file of the machine from outside: ``echo … > path``.

        :raises OSError: as open(2) or write(2) would on the machine
        """
        from taskscope.model.outside import write_file

        with self.current() as m:
            write_file(m, path, text.encode() if isinstance(text, str) else text, append)

    @property
    def console(self) -> str:
        """What the console shows."""
        return str(self.machine.console_tty.text)

    def running(self, cpu: int | None = None) -> Task:
        """Return the task that runs on a CPU: on the one that executes, by default; for probes."""
        m = self.machine
        found: Task = (m.cpu if cpu is None else m.cpus[cpu]).curr
        return found

    def running_stack(self) -> list[str]:
        """Return the kernel call stack of the task that runs, innermost function first; for probes."""
        import sys

        from taskscope.model.outside import running_stack

        return running_stack(self.machine, sys._getframe(1))  # noqa: SLF001  the stack is what is asked for

    def sample_sp(self) -> int:
        """Set the executing CPU's stack pointer to what it is in the kernel function that was entered; for probes."""
        import sys

        from taskscope.model.outside import sample_sp

        return sample_sp(self.machine, sys._getframe(1))  # noqa: SLF001

    def machine_tasks(self) -> list[Task]:
        """Return all task_structs but those of the idle tasks, threads too."""
        from taskscope.model.memory import ModelMemory

        memory = ModelMemory(self.machine)
        with self.current():
            return [thread for leader in memory.processes() for thread in memory.threads(leader)]

    def symbol(self, address: int) -> str:
        """Return name+offset/size of a kernel address; "" if no function is there."""
        from taskscope.model.kernel import kallsyms

        table = kallsyms.kallsyms(self.machine)
        return kallsyms.sprint_symbol(self.machine, address) if table.lookup(address) is not None else ""

    def dmesg(self) -> str:
        """Return the kernel's log."""
        from taskscope.model.kernel import printk

        with self.current():
            return printk.dmesg()

    # ---- tracing ---------------------------------------------------------------------------------------

    def trace(self, *events: str) -> None:
        """Switch trace events on: ``sched:*``, ``signal:signal_generate``, …; with none, sched, task and signal."""
        from taskscope.model.outside import switch_events_on

        with self.current() as m:
            switch_events_on(m, events)

    def recording(self) -> Recording:
        """Return what has been traced so far, as a recording of a real kernel is read."""
        import tempfile

        from taskscope.recording import Recording

        with tempfile.TemporaryDirectory(prefix="taskscope-") as folder:
            path = f"{folder}/trace.dat"
            self.save(path, tasks=False)
            recording = Recording.open(path)
            recording.source.path = f"{self.machine.flavour.name}"
            # The pages are mapped from the file: what is asked for later must not need its name.
            return recording

    def save(self, path: str | PathLike[str], tasks: bool = True) -> None:
        """Write what has been traced so far as a trace.dat, which trace-cmd opens too.

        :param tasks: keep the task descriptors of this moment behind it, for `taskscope task` and `taskscope stack`
        """
        from taskscope.ftrace.datwrite import write_dat
        from taskscope.machine_dat import dat_of_machine
        from taskscope.schedules import append_choices

        with self.current() as m:
            dat = dat_of_machine(m)
        write_dat(path, dat)
        append_choices(path, self.machine)
        if tasks:
            from taskscope.snapshot.saved import append_tasks

            append_tasks(path, self.saved())

    def saved(self) -> Saved:
        """Return all task descriptors as they are now, for keeping them."""
        from taskscope.machine_dat import tasks_of_machine

        with self.current() as m:
            return tasks_of_machine(m)


def _pulse(line: Any) -> None:
    from taskscope.model.irqline import pulse

    pulse(line)


def _raise(arg: Any) -> None:
    cpu, irq = arg
    cpu.machine.raise_irq(cpu, irq)
