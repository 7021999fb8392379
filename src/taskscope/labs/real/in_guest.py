"""A guest's kernel as a machine for labs.

Tracing is set up inside with the recorder's own choices, pages are brought out, and the trace.dat is put together on
our side.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from taskscope.errors import TaskscopeError, UsageError
from taskscope.ftrace.record_events import Chosen, Events, choose, enable
from taskscope.ftrace.tracefs import KernelRefusedError
from taskscope.labs.guest.errors import GuestError
from taskscope.labs.guest.guest import Guest
from taskscope.labs.guest.kernel import find_kernel
from taskscope.labs.guest.qemu import Settings
from taskscope.labs.programs import build
from taskscope.labs.real import Shot, Typed

if TYPE_CHECKING:
    from taskscope.memory.kernel import KernelMemory
    from taskscope.recording import Recording
    from taskscope.snapshot.snapshot import Snapshot

#: where the labs' programs are, and scripts run
_HOME: Final = "/lab"
_TRACING: Final = "/sys/kernel/tracing"
_INSTANCE: Final = f"{_TRACING}/instances/lab"
#: KiB of ring buffer a cpu
_BUFFER_KB: Final = 8192
#: the pages of all cpus, and the texts beside them.  A read of trace_pipe_raw gives one page; one that finds nothing
#: would wait for ever, so that the kernel's own counts say how many there are: no page holds more than 4,080 bytes.
_COLLECT: Final = f"""
rm -rf /tmp/raw; mkdir -p /tmp/raw; cd {_INSTANCE}
count() {{ sed -n "s/^$1: //p" per_cpu/$2/stats; }}
for path in per_cpu/cpu*; do
  cpu=${{path##*/}}
  cat $path/stats > /tmp/raw/$cpu.stats
  exec 4<$path/trace_pipe_raw
  whole=$(($(count bytes $cpu) / 4080))
  : > /tmp/raw/$cpu.raw
  if [ $whole -gt 0 ]; then dd bs=4096 count=$whole <&4 >>/tmp/raw/$cpu.raw 2>/dev/null; fi
  while [ "$(count entries $cpu)" != 0 ]; do dd bs=4096 count=1 <&4 >>/tmp/raw/$cpu.raw 2>/dev/null; done
  exec 4<&-
done
cat {_TRACING}/saved_cmdlines > /tmp/raw/saved_cmdlines
cat {_TRACING}/saved_tgids > /tmp/raw/saved_tgids
cat {_TRACING}/printk_formats > /tmp/raw/printk_formats
cat trace_clock > /tmp/raw/trace_clock
"""


#: what a snapshot is made of, out of /proc
_COPY_PROC: Final = """
rm -rf /tmp/proc; mkdir -p /tmp/proc/sys/kernel; cd /proc
for f in stat uptime meminfo sys/kernel/pid_max sys/kernel/osrelease; do cat $f > /tmp/proc/$f; done
for d in [0-9]*; do
  for t in $d/task/*; do
    mkdir -p /tmp/proc/$t
    for f in stat status wchan schedstat children cgroup; do cat $t/$f > /tmp/proc/$t/$f 2>/dev/null; done
  done
  for f in stat status cmdline wchan schedstat cgroup; do cat $d/$f > /tmp/proc/$d/$f 2>/dev/null; done
done
true
"""


class _Knobs:
    """The knobs of the guest's instance, as `enable` writes those of an instance here.

    :param switched_on: events that are enabled at once, in one request; nothing is recorded before tracing_on
    """

    def __init__(self, guest: Guest, switched_on: Collection[str] = ()) -> None:
        self.guest = guest
        self._on = set(guest.sh(f"cd {_INSTANCE}/events; for e in {' '.join(switched_on)}; do\n"
                                "if echo 1 > $e/enable; then echo $e; fi; done").split()) if switched_on else set()

    def write(self, name: str, text: str) -> None:
        path = f"{_INSTANCE}/{name}"
        done = self.guest.run(f"printf %s {shlex.quote(text)} > {path}")
        if done.status:
            raise KernelRefusedError(f"the guest's kernel does not take {text!r} for {name}: {done.text.strip()}")

    def try_write(self, name: str, text: str) -> bool:
        if text == "1" and name.removeprefix("events/").removesuffix("/enable") in self._on:
            return True
        try:
            self.write(name, text)
        except KernelRefusedError:
            return False
        return True

    def read(self, name: str) -> bytes:
        done = self.guest.run(f"cat {_INSTANCE}/{name}")
        return b"" if done.status else done.output


class InGuest:
    """A guest's kernel."""

    shell = "sh"

    def __init__(self, kernel: str = "6.1", say: Callable[[str], None] = lambda _: None, append: str = "") -> None:
        """Boot it.

        :param kernel: as `taskscope.labs.guest.kernel.find_kernel` takes it
        :param append: more words of the kernel's command line
        :raises GuestError: it cannot be had here
        """
        self.place = f"guest:{kernel}"
        self._kernel, self._say = kernel, say
        self._folder = tempfile.TemporaryDirectory(prefix="taskscope-qmp-")
        self._qmp = Path(self._folder.name) / "qmp"
        try:
            self.guest = Guest.boot(find_kernel(kernel, say), Settings(append=append, qmp=self._qmp), say=say)
        except BaseException:
            self._folder.cleanup()
            raise
        self.guest.sh(f"mkdir -p {_HOME}")
        self.release = self.guest.release
        self.machine = self.guest.kernel.machine
        self._texts: dict[str, bytes] = {}
        self._programs: set[str] = set()
        self._events: Events | None = None
        self._functions: set[str] | None = None

    def type(self, script: str, seconds: float = 60.0) -> Typed:
        """See `Real.type`."""
        done = self.guest.run(f"cd {_HOME}\n{script}", seconds=seconds)
        return Typed(done.status, done.text)

    @contextlib.contextmanager
    def hold(self, script: str, seconds: float = 30.0) -> Iterator[str]:
        """See `Real.hold`."""
        self.guest.put("/tmp/held.sh", script.encode())
        done = self.guest.run(
            # What an earlier script said must not be taken for this one's.
            f"cd {_HOME}; rm -f /tmp/held; : > /tmp/held\n"
            "setsid sh /tmp/held.sh > /tmp/held 2>&1 </dev/null & echo $! > /tmp/held.pid\n"
            f"n=0; while ! grep -q '^ready$' /tmp/held && [ $n -lt {int(seconds * 10)} ]; do\n"
            "n=$((n + 1)); sleep 0.1; done\n"
            "cat /tmp/held; grep -q '^ready$' /tmp/held", seconds=seconds + 30)
        try:
            if done.status:
                raise GuestError(f"{script.strip().splitlines()[0]!r} does not say ready in the guest: "
                                 f"{done.text.strip()[-400:]}")
            yield done.text
        finally:
            if self.guest.qemu.alive():
                # Whoever is of its session.
                self.guest.run("leader=$(cat /tmp/held.pid); for p in /proc/[0-9]*; do\n"
                               "set -- $(sed 's/.*) //' $p/stat); [ \"$4\" = $leader ] && kill -9 ${p##*/}; done; "
                               "kill -9 $leader")

    def proc(self) -> Snapshot:
        """See `Real.proc`: the files are copied out, and read here."""
        from taskscope.procfs.snapshot import snapshot

        self.guest.sh(_COPY_PROC, seconds=120)
        files = self.guest.get_folder("/tmp/proc")
        self.guest.run("rm -rf /tmp/proc")
        with tempfile.TemporaryDirectory(prefix="taskscope-proc-") as folder:
            for name, data in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            return snapshot(folder)

    @contextlib.contextmanager
    def memory(self) -> Iterator[KernelMemory]:
        """See `Real.memory`."""
        from taskscope.memory.guest import open_guest
        from taskscope.memory.kernel import KernelMemory

        if self.machine.startswith("arm"):
            raise UsageError("32-bit ARM: its QEMU does not say where the kernel is; look at a dump of it, "
                             "--on dump:FILE")
        try:
            image = open_guest(self._qmp)
        except TaskscopeError as error:
            raise UsageError(f"the guest's kernel memory cannot be read: {error}") from None
        with image:
            yield KernelMemory(image)

    def program(self, name: str) -> str:
        """See `Real.program`."""
        path = f"{_HOME}/{name}"
        if name not in self._programs:
            self.guest.put(path, build(name, self.machine), 0o755)
            self._programs.add(name)
        return path

    def traces_functions(self) -> str:
        """See `Real.traces_functions`."""
        has = self.guest.run(f"grep -qw function {_TRACING}/available_tracers").status == 0
        return "" if has else "this kernel was built without it"

    def traceable(self, names: Sequence[str]) -> list[str]:
        """See `Real.traceable`."""
        if self._functions is None:
            text = self.guest.sh(f"cat {_TRACING}/available_filter_functions")
            self._functions = {line.split(" ")[0] for line in text.splitlines()}
        return [name for name in names if name in self._functions]

    # ---- recording -------------------------------------------------------------------------------------------

    def record(self, script: str, *, events: Sequence[str] = (), irq: bool = False, triggers: Sequence[str] = (),
               functions: Sequence[str] = (), everything: bool = False, seconds: float = 60.0) -> Shot:
        """See `Real.record`; the guest does little else, so everything is recorded in any case."""
        del everything
        guest = self.guest
        if self._events is None:
            self._events = Events(guest.sh(f"cat {_TRACING}/available_events").split())
        chosen = choose(self._events, self.machine, events, irq=irq, triggers=triggers)
        guest.sh(f"mkdir -p {_INSTANCE}; echo 0 > {_INSTANCE}/tracing_on")
        try:
            self._set_up(chosen, functions)
            guest.put("/tmp/lab.sh", script.encode())
            done = guest.run(f"cd {_HOME}; echo 1 > {_INSTANCE}/tracing_on\nsh /tmp/lab.sh\nstatus=$?\nsleep 0.3\n"
                             f"echo 0 > {_INSTANCE}/tracing_on\nexit $status", seconds=seconds)
            guest.sh(_COLLECT, seconds=120)
            raw = guest.get_folder("/tmp/raw")
        finally:
            if guest.qemu.alive():
                guest.run(f"echo 0 > {_INSTANCE}/tracing_on; echo nop > {_INSTANCE}/current_tracer; rmdir {_INSTANCE}; "
                          "rm -rf /tmp/raw")
        return Shot(self._recording(raw, chosen), Typed(done.status, done.text))

    def _set_up(self, chosen: Chosen, functions: Sequence[str]) -> None:
        knobs = _Knobs(self.guest, chosen.events)
        knobs.write("trace_clock", "mono")
        knobs.write("buffer_size_kb", str(_BUFFER_KB))
        knobs.try_write("options/record-tgid", "1")
        enable(knobs, chosen)
        if functions:
            why = self.traces_functions()
            if why:
                raise UsageError(f"the function tracer does not work there: {why}")
            for name in functions:
                self.guest.sh(f"echo {shlex.quote(name)} >> {_INSTANCE}/set_ftrace_filter")
            knobs.write("current_tracer", "function")
            knobs.write("options/func_stack_trace", "1")

    def _text(self, path: str) -> bytes:
        if path not in self._texts:
            self._texts[path] = self.guest.get(path)
        return self._texts[path]

    def _symbols(self) -> bytes:
        """Return /proc/kallsyms, read again when a module has come or gone."""
        modules = self.guest.get("/proc/modules")
        if modules != self._texts.get("/proc/modules"):
            self._texts.pop("/proc/kallsyms", None)
            self._texts["/proc/modules"] = modules
        return self._text("/proc/kallsyms")

    def _recording(self, raw: dict[str, bytes], chosen: Chosen) -> Recording:
        from taskscope.ftrace.datwrite import write_dat
        from taskscope.ftrace.datwriteparts import DatBuffer, DatFile
        from taskscope.recording import Recording

        wanted = [*self.guest.sh(f"cd {_TRACING}/events; ls ftrace/*/format").split(),
                  *(f"{event}/format" for event in chosen.events)]
        missing = [name for name in wanted if name not in self._texts]
        if missing:
            # One request for all: a mark stands between the texts.
            texts = self.guest.sh(f"cd {_TRACING}/events; for f in {' '.join(missing)}; do cat $f; echo '===='; done")
            self._texts |= {name: text.lstrip("\n").encode() for name, text in
                            zip(missing, texts.split("====\n"), strict=False)}
        cpus = {int(m[1]): data for name, data in raw.items() if (m := re.fullmatch(r"cpu(\d+)\.raw", name))}
        stats = {cpu: raw[f"cpu{cpu}.stats"] for cpu in cpus}
        header = self._text(f"{_TRACING}/events/header_page")
        long_size = re.search(rb"\bcommit;\s*offset:\d+;\s*size:([48]);", header)
        dat = DatFile(
            header_page=header, header_event=self._text(f"{_TRACING}/events/header_event"),
            formats=[(name.split("/")[0], self._texts[name]) for name in dict.fromkeys(wanted)],
            kallsyms=self._symbols(), printk_formats=raw["printk_formats"],
            cmdlines=raw["saved_cmdlines"], tgids=raw["saved_tgids"],
            buffers=[DatBuffer("", raw["trace_clock"].decode(), 4096, cpus, stats)], cpu_count=max(cpus) + 1,
            long_size=int(long_size[1]) if long_size else 8,
            uname=f"Linux guest {self.release} {self.machine}")
        with tempfile.TemporaryDirectory(prefix="taskscope-") as folder:
            path = Path(folder) / "trace.dat"
            write_dat(path, dat)
            recording = Recording.open(path)
        recording.source.path = self.place
        return recording

    @contextlib.contextmanager
    def booted_with(self, words: str) -> Iterator[InGuest]:
        """See `Real.booted_with`."""
        again = InGuest(self._kernel, self._say, words)
        try:
            yield again
        finally:
            again.close()

    def close(self) -> None:
        """See `Real.close`."""
        self.guest.close()
        self._folder.cleanup()
