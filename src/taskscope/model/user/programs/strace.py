"""strace: print the system calls and signals of a command, or of a process, by ptrace(2).

``strace [-f] [-p PID | COMMAND…]``; -f follows forks.  Lines are those of strace(1), on descriptor 2; a pointer
is ``?``, as what a program in Python hands over has no address.
"""

from __future__ import annotations

from typing import Final

from taskscope.abi.errno import errno_message, errno_name
from taskscope.abi.ptrace import PtraceEvent, PtraceOption, PtraceRequest
from taskscope.abi.signal import signal_name
from taskscope.abi.syscalls import table
from taskscope.model.kernel.trace.syscalls_metadata import SyscallMetadata, syscalls_metadata
from taskscope.model.user.libc import Sys

SIGTRAP, SIGCONT, SIGSTOP = 5, 18, 19
WUNTRACED, WALL = 2, 0x40000000
_ECHILD = 10
#: of the registers in struct user, in bytes: the number of the call, its arguments, its result
_REGISTERS: Final = {"arm": (28, (0, 4, 8, 12, 16, 20), 0), "x86_64": (120, (112, 104, 96, 56, 72, 64), 80)}
#: what results of calls that a signal interrupts are called (include/linux/errno.h)
_RESTART: Final = {512: "ERESTARTSYS", 513: "ERESTARTNOINTR", 514: "ERESTARTNOHAND", 516: "ERESTART_RESTARTBLOCK"}
_SIGNED = frozenset({"int", "long", "pid_t"})


class _Trace:
    """What is being traced, and the line that is being written."""

    def __init__(self, sys: Sys) -> None:
        machine = sys.uname()[4]
        self.sys = sys
        self.bits = 64 if machine == "x86_64" else 32
        self.calls = table(machine).by_number
        self.registers = _REGISTERS["x86_64" if machine == "x86_64" else "arm"]
        self.metadata: dict[str, SyscallMetadata] = {one.name: one for one in syscalls_metadata()}
        #: by pid: the call that it is in, None outside of one
        self.inside: dict[int, str | None] = {}
        #: whose line is not at its end
        self.open: int | None = None
        #: the command: nothing is shown of it before its execve()
        self.hidden: int | None = None

    def write(self, text: str) -> None:
        self.sys.write_all(2, text.encode())

    def line(self, pid: int, text: str) -> None:
        """Begin a line about a task; what another's line still lacks comes later."""
        if self.open is not None:
            self.write(" <unfinished ...>\n")
            self.open = None
        self.write((f"[pid {pid:5d}] " if len(self.inside) > 1 else "") + text)

    def argument(self, c_type: str, word: int) -> str:
        if c_type.endswith("*"):
            return f"{word:#x}" if word else "?"
        if c_type in _SIGNED:
            bits = self.bits if c_type == "long" else 32
            word &= (1 << bits) - 1
            return str(word - (1 << bits) if word >> (bits - 1) else word)
        return f"{word:#x}" if word > 9 else str(word)

    def syscall(self, pid: int) -> None:
        """Print the half of a call at which a task stopped."""
        at_number, at_args, at_result = self.registers
        name = self.inside.get(pid)
        if name is None:
            call = self.calls.get(self.sys.ptrace_get(PtraceRequest.PTRACE_PEEKUSR, pid, at_number))
            name = "syscall" if call is None else call.name
            self.inside[pid] = name
            if self.hidden == pid and name == "execve":
                self.hidden = None
            if self.hidden == pid:
                return
            # 32-bit ARM has the newer of two calls under a name with 32 or 64 behind it.
            known = self.metadata.get(name) or self.metadata.get(name.removesuffix("32").removesuffix("64"))
            args = [
                self.argument(c_type, self.sys.ptrace_get(PtraceRequest.PTRACE_PEEKUSR, pid, at))
                for c_type, at in zip(known.types if known else (), at_args, strict=False)
            ]
            self.line(pid, f"{name}({', '.join(args)}")
            self.open = pid
            return
        self.inside[pid] = None
        if self.hidden == pid:
            return
        if self.open != pid:
            self.line(pid, f"<... {name} resumed>")
        self.open = None
        self.write(f") = {self.result(self.sys.ptrace_get(PtraceRequest.PTRACE_PEEKUSR, pid, at_result))}\n")

    def result(self, word: int) -> str:
        value = word - (1 << self.bits) if word >> (self.bits - 1) else word
        if -value in _RESTART:
            return f"? {_RESTART[-value]} (To be restarted)"
        if -4095 <= value < 0:
            return f"-1 {errno_name(-value)} ({errno_message(-value)})"
        return str(value) if value < 1 << 31 else f"{value:#x}"

    def ended(self, pid: int, text: str) -> None:
        """Print the end of a task."""
        if self.open == pid:
            self.write(") = ?\n")
            self.open = None
        self.line(pid, f"+++ {text} +++\n")
        del self.inside[pid]

    def stopped(self, pid: int, status: int) -> None:
        """Print what a stop is about, and let the task go on."""
        sys = self.sys
        event, sig = status >> 16, status >> 8 & 0xFF
        if event == PtraceEvent.PTRACE_EVENT_STOP and sig != SIGTRAP:
            if self.hidden != pid:
                self.line(pid, f"--- stopped by {signal_name(sig)} ---\n")
            sys.ptrace(PtraceRequest.PTRACE_LISTEN, pid)
            return
        pass_on = 0
        if sig == SIGTRAP | 0x80:
            self.syscall(pid)
        elif not event:
            if self.hidden != pid:
                info = sys.ptrace_get(PtraceRequest.PTRACE_GETSIGINFO, pid)
                name = signal_name(sig)
                self.line(pid, f"--- {name} {{si_signo={name}, si_code={info.si_code}, si_pid={info.si_pid}}} ---\n")
            pass_on = sig
        sys.ptrace(PtraceRequest.PTRACE_SYSCALL, pid, 0, pass_on)

    def run(self) -> None:
        """Print what the tasks do until there is none left."""
        sys = self.sys
        while self.inside:
            try:
                pid, status = sys.waitpid(-1, WALL)
            except OSError as error:
                if error.errno == _ECHILD:
                    return
                continue
            self.inside.setdefault(pid, None)
            if status & 0xFF == 0x7F:
                try:
                    self.stopped(pid, status)
                except OSError:
                    # It was killed meanwhile: the next wait tells.
                    continue
            elif sys.WIFSIGNALED(status):
                self.ended(pid, f"killed by {signal_name(sys.WTERMSIG(status))}")
            else:
                self.ended(pid, f"exited with {sys.WEXITSTATUS(status)}")


def _command(sys: Sys, argv: list[str]) -> int:
    """Be the command: wait until it is traced, then begin."""
    sys.kill(sys.getpid(), SIGSTOP)
    try:
        sys.execvp(argv[0], argv)
    except OSError as error:
        sys.perror(f"strace: {argv[0]}: {error.strerror}")
        return 127


def main(sys: Sys, argv: list[str]) -> int:
    """Trace a command or a process."""
    words = argv[1:]
    follow = "-f" in words[:2]
    if follow:
        words.remove("-f")
    options = int(PtraceOption.PTRACE_O_TRACESYSGOOD | PtraceOption.PTRACE_O_TRACEEXEC)
    if follow:
        options |= int(
            PtraceOption.PTRACE_O_TRACEFORK | PtraceOption.PTRACE_O_TRACEVFORK | PtraceOption.PTRACE_O_TRACECLONE
        )
    trace = _Trace(sys)
    try:
        if words[:1] == ["-p"] and len(words) == 2 and words[1].isdigit():
            pid = int(words[1])
            sys.ptrace(PtraceRequest.PTRACE_SEIZE, pid, 0, options)
            sys.ptrace(PtraceRequest.PTRACE_INTERRUPT, pid)
        elif words and not words[0].startswith("-"):
            pid = sys.clone(_command, words)
            sys.waitpid(pid, WUNTRACED)
            options |= int(PtraceOption.PTRACE_O_EXITKILL)
            sys.ptrace(PtraceRequest.PTRACE_SEIZE, pid, 0, options)
            sys.kill(pid, SIGCONT)
            trace.hidden = pid
        else:
            sys.perror("usage: strace [-f] [-p PID | COMMAND...]")
            return 1
    except OSError as error:
        sys.perror(f"strace: attach: ptrace(PTRACE_SEIZE, {words[-1]}): {error.strerror}")
        return 1
    trace.inside[pid] = None
    trace.run()
    return 0
