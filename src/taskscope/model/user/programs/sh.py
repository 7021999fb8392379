"""The machine's shell, installed as bash and sh: what the labs are typed on.

It forks with ``sys.clone(fn, …)``, so that a loop of a thousand commands costs a thousand times one.  With a terminal
it does job control as bash does: each job is a process group, the foreground one has the terminal, SIGCHLD is handled.
`kill`, `echo`, `test` and a few more are built in, as in bash.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Final

from taskscope.abi.signal import signal_name
from taskscope.model.user.libc import SIG_BLOCK, SIG_IGN, SIG_SETMASK, Sys
from taskscope.model.user.programs import sh_child
from taskscope.model.user.programs import sh_parse as p

SIGINT, SIGQUIT, SIGCHLD, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT = 2, 3, 17, 20, 21, 22, 18
JOB_SIGNALS = (SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU)
_SA_RESTART = 0x10000000
#: what glibc's strsignal() calls them
_SIGNAL_TEXTS: Final = MappingProxyType(
    {
        1: "Hangup",
        2: "Interrupt",
        3: "Quit",
        4: "Illegal instruction",
        6: "Aborted",
        8: "Floating point exception",
        9: "Killed",
        10: "User defined signal 1",
        11: "Segmentation fault",
        12: "User defined signal 2",
        13: "Broken pipe",
        14: "Alarm clock",
        15: "Terminated",
    }
)


@dataclass(slots=True)
class Job:
    """A pipeline that was started: its processes and what is known of each."""

    number: int
    pgid: int
    pids: list[int]
    text: str
    statuses: dict[int, int] = field(default_factory=dict)
    stopped: int = 0
    background: bool = False

    @property
    def done(self) -> bool:
        """Whether all its processes have been reaped."""
        return len(self.statuses) == len(self.pids)


@dataclass(slots=True)
class State:
    """The shell's variables."""

    name: str
    args: list[str]
    variables: dict[str, str]
    exported: set[str]
    interactive: bool = False
    pid: int = 0
    status: int = 0
    last_background: int = 0
    jobs: list[Job] = field(default_factory=list)
    subshell: bool = False
    errexit: bool = False
    xtrace: bool = False


class Exit(Exception):  # noqa: N818
    """The exit builtin."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _LoopControl(Exception):  # noqa: N818
    """break or continue."""

    def __init__(self, again: bool) -> None:
        super().__init__(again)
        self.again = again


def main(sys: Sys, argv: list[str]) -> int:
    """Run ``sh [-c LINE [NAME ARG…] | FILE ARG… | -s]``; without arguments commands come from standard input."""
    name = argv[0].rpartition("/")[2].lstrip("-")
    variables = {"PATH": "/bin:/usr/bin", "HOME": "/root", **sys.environ}
    state = State(name, argv[1:], variables, set(variables), pid=sys.getpid())
    shell = Shell(sys, state)
    args = argv[1:]
    while args and args[0] in ("-l", "-i", "-e", "-x", "-s"):
        state.interactive = state.interactive or args[0] == "-i"
        state.errexit = state.errexit or args[0] == "-e"
        state.xtrace = state.xtrace or args[0] == "-x"
        args = args[1:]
    if args and args[0] == "-c":
        if len(args) < 2:
            sys.perror(f"{name}: -c: option requires an argument")
            return 2
        if len(args) > 2:
            state.name = args[2]
        state.args = args[3:]
        return shell.run_text(args[1])
    if args:
        try:
            text = sys.slurp(args[0]).decode(errors="replace")
        except OSError as error:
            sys.perror(f"{name}: {args[0]}: {error.strerror}")
            return 127
        state.name, state.args = args[0], args[1:]
        return shell.run_text(text)
    state.args = []
    if not state.interactive and sys.isatty(0):
        state.interactive = True
    return shell.read_lines()


class Shell:
    """One shell process."""

    def __init__(self, sys: Sys, state: State) -> None:
        self.sys = sys
        self.state = state

    # ---- reading -------------------------------------------------------------------------------------

    def run_text(self, text: str) -> int:
        """Run a text to its end; return the exit status."""
        try:
            self.lines(p.parse(text))
        except p.ShellSyntaxError as error:
            self.complain(str(error))
            self.state.status = 2
        except Exit as stop:
            self.state.status = stop.status
        except _LoopControl:
            pass
        return self.state.status

    def read_lines(self) -> int:
        """Read commands from standard input, with a prompt and job control on a terminal."""
        sys, state = self.sys, self.state
        if state.interactive:
            self.start_job_control()
        pending = ""
        while True:
            if state.interactive:
                self.notify()
                sys.write_all(2, f"{self.prompt() if not pending else '> '}".encode())
            line = self.read_line()
            if line == "":
                if state.interactive and not pending:
                    sys.write_all(2, b"exit\n")
                return state.status
            pending += line
            try:
                tree = p.parse(pending)
            except p.ShellSyntaxError as error:
                if error.more:
                    continue
                self.complain(str(error))
                state.status, pending = 2, ""
                continue
            pending = ""
            try:
                self.lines(tree)
            except Exit as stop:
                return stop.status
            except _LoopControl:
                pass

    def read_line(self) -> str:
        """Read one line; "" at the end."""
        data = b""
        while not data.endswith(b"\n"):
            try:
                # A terminal gives a line; elsewhere what follows the line must be left for the commands that run.
                some = self.sys.read(0, 4096 if self.state.interactive else 1)
            except OSError as error:
                if error.errno == 4:
                    continue
                raise
            if not some:
                break
            data += some
        return data.decode(errors="replace")

    def prompt(self) -> str:
        """Return PS1."""
        return self.state.variables.get("PS1", "$ ")

    def complain(self, text: str) -> None:
        """Say what is wrong."""
        self.sys.perror(f"{self.state.name}: {text}")

    # ---- job control ---------------------------------------------------------------------------------

    def start_job_control(self) -> None:
        """Become a process group of one's own with the terminal, deaf to what the terminal sends."""
        sys = self.sys
        for sig in JOB_SIGNALS:
            sys.sigaction(sig, SIG_IGN)
        sys.sigaction(SIGCHLD, self.on_sigchld, _SA_RESTART)
        if sys.getpgrp() != self.state.pid:
            sys.setpgid(0, 0)
        sys.tcsetpgrp(0, self.state.pid)

    def on_sigchld(self, sys: Sys, sig: int, info: Any) -> None:
        """Reap whoever has died, or note that they stopped."""
        del sys, sig, info
        self.reap(os.WNOHANG)

    def reap(self, options: int) -> bool:
        """Take the news of children; return whether there were any."""
        any_news = False
        while True:
            try:
                pid, status = self.sys.waitpid(-1, options | os.WUNTRACED | os.WCONTINUED)
            except OSError:
                return any_news
            if pid == 0:
                return any_news
            any_news = True
            self.news(pid, status)
            if not options & os.WNOHANG:
                return True

    def news(self, pid: int, status: int) -> None:
        """Note what became of a child."""
        for job in self.state.jobs:
            if pid in job.pids:
                if os.WIFSTOPPED(status):
                    job.stopped = os.WSTOPSIG(status)
                elif os.WIFCONTINUED(status):
                    job.stopped = 0
                else:
                    job.statuses[pid] = status

    def notify(self) -> None:
        """Tell of background jobs that have ended since the last prompt."""
        for job in list(self.state.jobs):
            if job.done and job.background:
                self.state.jobs.remove(job)
                status = job.statuses[job.pids[-1]]
                self.sys.write_all(2, f"[{job.number}]+  {self.ended(status):<22}  {job.text}\n".encode())

    def ended(self, status: int) -> str:
        """Say how a job ended, as bash does."""
        if os.WIFSIGNALED(status):
            return _SIGNAL_TEXTS.get(os.WTERMSIG(status), signal_name(os.WTERMSIG(status)))
        return "Done" if os.WEXITSTATUS(status) == 0 else f"Exit {os.WEXITSTATUS(status)}"

    def wait_foreground(self, job: Job) -> int:
        """Wait until a foreground job ends or stops; return its status."""
        sys, state = self.sys, self.state
        before = sys.sigprocmask(SIG_BLOCK, 1 << (SIGCHLD - 1)) if state.interactive else 0
        while not job.done and not job.stopped:
            try:
                pid, status = sys.waitpid(-1, os.WUNTRACED if state.interactive else 0)
            except OSError as error:
                if error.errno == 4:
                    continue
                break
            self.news(pid, status)
        if state.interactive:
            sys.tcsetpgrp(0, state.pid)
            sys.sigprocmask(SIG_SETMASK, before)
        if job.stopped:
            job.background = True
            sys.write_all(2, f"\n[{job.number}]+  Stopped                 {job.text}\n".encode())
            return 128 + job.stopped
        state.jobs.remove(job)
        status = job.statuses.get(job.pids[-1], 0)
        if state.interactive and os.WIFSIGNALED(status) and os.WTERMSIG(status) not in (SIGINT, 13):
            sys.write_all(2, (_SIGNAL_TEXTS.get(os.WTERMSIG(status), signal_name(os.WTERMSIG(status))) + "\n").encode())
        elif state.interactive and os.WIFSIGNALED(status) and os.WTERMSIG(status) == SIGINT:
            sys.write_all(2, b"\n")
        return sys.system_status(status)

    def find_job(self, spec: str) -> Job | None:
        """Return the job of ``%N``, ``%%`` or a pid."""
        if spec.startswith("%"):
            if spec in ("%", "%%", "%+"):
                return self.state.jobs[-1] if self.state.jobs else None
            return next((j for j in self.state.jobs if spec == f"%{j.number}"), None)
        return next((j for j in self.state.jobs if spec.isdigit() and int(spec) in j.pids), None)

    # ---- running -------------------------------------------------------------------------------------

    def lines(self, tree: p.Lines) -> None:
        """Run a list."""
        for item in tree.items:
            if item.background:
                self.background(item)
                continue
            tested = False
            for op, pipeline in item.parts:
                if (op == "&&" and self.state.status) or (op == "||" and not self.state.status):
                    continue
                self.state.status = self.pipeline(pipeline, item.text)
                tested = pipeline.negated or pipeline is not item.parts[-1][1]
            if self.state.errexit and self.state.status and not tested:
                raise Exit(self.state.status)

    def background(self, item: p.AndOr) -> None:
        """Start a list and go on."""
        if len(item.parts) == 1 and not item.parts[0][1].negated:
            commands = item.parts[0][1].commands
        else:
            commands = [p.Group(p.Lines([p.AndOr(item.parts, False, item.text)]), False)]
        job = self.start(commands, item.text, True)
        self.state.last_background = job.pids[-1]
        self.state.status = 0
        if self.state.interactive:
            self.sys.write_all(2, f"[{job.number}] {job.pids[-1]}\n".encode())

    def pipeline(self, pipeline: p.Pipeline, text: str) -> int:
        """Run a pipeline in the foreground; return its status."""
        commands = pipeline.commands
        if len(commands) == 1:
            status = self.command(commands[0], text)
        else:
            status = self.wait_foreground(self.start(commands, text, False))
        return int(not status) if pipeline.negated else status

    def command(self, command: p.Command, text: str) -> int:
        """Run one command; return its status."""
        if isinstance(command, p.Simple):
            return self.simple(command, text)
        if isinstance(command, p.Group) and command.subshell:
            return self.wait_foreground(self.start([command], text, False))
        saved = self.redirect(command.redirects, True)
        if saved is None:
            return 1
        try:
            return self.compound(command)
        finally:
            self.restore(saved)

    def compound(self, command: p.Group | p.If | p.Loop | p.For) -> int:
        """Run a compound command in this shell."""
        state = self.state
        if isinstance(command, p.Group):
            self.lines(command.body)
        elif isinstance(command, p.If):
            state.status = 0
            for test, body in command.branches:
                self.quietly(test)
                if state.status == 0:
                    self.lines(body)
                    return state.status
            state.status = 0
            if command.otherwise is not None:
                self.lines(command.otherwise)
        elif isinstance(command, p.Loop):
            last = 0
            while True:
                self.quietly(command.test)
                if (state.status == 0) == command.until:
                    break
                if not self.loop_body(command.body):
                    break
                last = state.status
            state.status = last
        else:
            words = state.args if command.words is None else [w for word in command.words for w in self.expand(word)]
            state.status = 0
            for word in list(words):
                state.variables[command.name] = word
                if not self.loop_body(command.body):
                    break
        return state.status

    def loop_body(self, body: p.Lines) -> bool:
        """Run a loop's body; return False to leave the loop."""
        try:
            self.lines(body)
        except _LoopControl as control:
            return control.again
        return True

    def quietly(self, test: p.Lines) -> None:
        """Run a condition: errexit does not look at it."""
        before, self.state.errexit = self.state.errexit, False
        self.lines(test)
        self.state.errexit = before

    def simple(self, command: p.Simple, text: str) -> int:
        """Run a simple command: assignments, a builtin here, or a program in a child."""
        words = [w for word in command.words for w in self.expand(word)]
        if self.state.xtrace and words:
            self.sys.perror("+ " + " ".join(words))
        if not words:
            status = self.state.status if any(part.kind == "cmd" for _, w in command.assigns for part in w) else 0
            for name, value in command.assigns:
                self.state.variables[name] = self.expand_one(value)
            saved = self.redirect(command.redirects, True)
            if saved is None:
                return 1
            self.restore(saved)
            return status
        from taskscope.model.user.programs.sh_builtins import BUILTINS

        builtin = BUILTINS.get(words[0])
        if builtin is None:
            return self.wait_foreground(self.start([command], text, False))
        saved = self.redirect(command.redirects, words[0] != "exec" or len(words) > 1)
        if saved is None:
            return 1
        before = {name: self.state.variables.get(name) for name, _ in command.assigns}
        for name, value in command.assigns:
            self.state.variables[name] = self.expand_one(value)
        try:
            return builtin(self, words)
        except OSError as error:
            self.complain(f"{words[0]}: {error.strerror}")
            return 1
        finally:
            self.sys.fflush()
            self.restore(saved)
            for name, old in before.items():
                if old is None:
                    self.state.variables.pop(name, None)
                else:
                    self.state.variables[name] = old

    def start(self, commands: list[p.Command], text: str, background: bool) -> Job:
        """Start each command of a pipeline in a child of its own."""
        sys, state = self.sys, self.state
        number = max((job.number for job in state.jobs), default=0) + 1
        job = Job(number, 0, [], text, background=background)
        source = -1
        # The children must be known before the first can be reaped by the handler.
        before = sys.sigprocmask(SIG_BLOCK, 1 << (SIGCHLD - 1)) if state.interactive else 0
        for n, command in enumerate(commands):
            read_end, write_end = sys.pipe() if n + 1 < len(commands) else (-1, -1)
            pid = sys.clone(sh_child.child, state, command, job.pgid, background, source, write_end, read_end, before)
            job.pgid = job.pgid or pid
            job.pids.append(pid)
            if state.interactive:
                try:
                    sys.setpgid(pid, job.pgid)
                except OSError as error:
                    if error.errno not in (3, 13):  # it is gone or has exec'ed: then it did so itself
                        raise
            for fd in (source, write_end):
                if fd >= 0:
                    sys.close(fd)
            source = read_end
        state.jobs.append(job)
        if state.interactive:
            if not background:
                sys.tcsetpgrp(0, job.pgid)
            sys.sigprocmask(SIG_SETMASK, before)
        return job

    # ---- redirections --------------------------------------------------------------------------------

    def redirect(self, redirects: list[p.Redirect], keep: bool) -> list[tuple[int, int]] | None:
        """Make redirections; return what `restore` needs, None if one failed (which was said).

        :param keep: False: for good
        """
        sys = self.sys
        saved: list[tuple[int, int]] = []
        for r in redirects:
            target = self.expand_one(r.target)
            try:
                if r.op in (">&", "<&"):
                    if target == "-":
                        fd = -1
                    elif target.isdigit():
                        fd = int(target)
                    else:
                        fd = sys.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                else:
                    flags = {
                        "<": os.O_RDONLY,
                        ">": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                        ">>": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                    }[r.op]
                    fd = sys.open(target, flags)
                if keep:
                    try:
                        saved.append((r.fd, sys.fcntl(r.fd, 1030, 10)))  # F_DUPFD_CLOEXEC
                    except OSError:
                        saved.append((r.fd, -1))
                if fd < 0:
                    sys.close(r.fd)
                elif fd != r.fd:
                    sys.dup2(fd, r.fd)
                    if r.op not in (">&", "<&") or not target.isdigit():
                        sys.close(fd)
            except OSError as error:
                self.complain(f"{target}: {error.strerror}")
                self.restore(saved)
                return None
        return saved

    def restore(self, saved: list[tuple[int, int]]) -> None:
        """Undo redirections."""
        for fd, kept in reversed(saved):
            if kept >= 0:
                self.sys.dup2(kept, fd)
                self.sys.close(kept)
            else:
                self.sys.close(fd)

    # ---- expansion -----------------------------------------------------------------------------------

    def value(self, name: str) -> str:
        """Return the value of a variable."""
        state = self.state
        if name == "?":
            return str(state.status)
        if name == "!":
            return str(state.last_background) if state.last_background else ""
        if name == "$":
            return str(state.pid)
        if name == "#":
            return str(len(state.args))
        if name in ("@", "*"):
            return " ".join(state.args)
        if name == "0":
            return state.name
        if name.isdigit():
            return state.args[int(name) - 1] if int(name) <= len(state.args) else ""
        return state.variables.get(name, "")

    def substitute(self, text: str) -> str:
        """Return what a command prints: $(…)."""
        sys = self.sys
        read_end, write_end = sys.pipe()
        job = Job(0, 0, [], text)
        job.pids.append(sys.clone(sh_child.substituted, self.state, text, read_end, write_end))
        self.state.jobs.append(job)
        sys.close(write_end)
        output = sys.read_all(read_end).decode(errors="replace")
        sys.close(read_end)
        while not job.done:
            try:
                self.news(*sys.waitpid(job.pids[0], 0))
            except OSError as error:
                if error.errno != 4:
                    break
        self.state.jobs.remove(job)
        self.state.status = sys.system_status(job.statuses.get(job.pids[0], 0))
        return output.rstrip("\n")

    def expand(self, word: p.Word) -> list[str]:
        """Expand a word to any number of fields: variables, commands, field splitting, names of files."""
        fields: list[str] = [""]
        pattern = False
        some = False
        for part in word:
            if part.kind == "text":
                fields[-1] += part.text
                some = some or part.quoted or bool(part.text)
                pattern = pattern or (not part.quoted and any(c in part.text for c in "*?["))
                continue
            if part.kind == "var" and part.text == "@" and part.quoted:
                values = list(self.state.args)
                if values:
                    some = True
                    fields[-1] += values[0]
                    fields += values[1:]
                continue
            value = self.value(part.text) if part.kind == "var" else self.substitute(part.text)
            if part.quoted:
                fields[-1] += value
                some = True
                continue
            pieces = value.split()
            if not pieces:
                continue
            some = True
            if value[:1].isspace() and fields[-1]:
                fields.append("")
            fields[-1] += pieces[0]
            fields += pieces[1:]
            if value[-1:].isspace():
                fields.append("")
        if not some:
            return []
        if len(fields) > 1 and not fields[-1]:
            fields.pop()
        return [name for one in fields for name in self.glob(one)] if pattern else fields

    def expand_one(self, word: p.Word) -> str:
        """Expand a word to one string."""
        return "".join(
            part.text
            if part.kind == "text"
            else self.value(part.text)
            if part.kind == "var"
            else self.substitute(part.text)
            for part in word
        )

    def glob(self, pattern: str) -> list[str]:
        """Return the files that a pattern fits, or the pattern: for patterns in the last component."""
        folder, slash, last = pattern.rpartition("/")
        try:
            names = self.sys.listdir(folder or (slash or "."))
        except OSError:
            return [pattern]
        found = sorted(n for n in names if fnmatchcase(n, last) and (last.startswith(".") or not n.startswith(".")))
        return [folder + slash + n for n in found] or [pattern]
