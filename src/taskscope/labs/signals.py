"""Lab ``signals``: what each signal does, and the ways in which a process and a kernel thread meet one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskscope.abi import signal as abi
from taskscope.labs.evidence import family
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

if TYPE_CHECKING:
    from taskscope.recording import Recording

KILL, CHLD, CONT, STOP, USR1, TERM, RT = 9, 17, 18, 19, 10, 15, 34
WUNTRACED = 2
CLD_KILLED, CLD_STOPPED, CLD_CONTINUED = 2, 5, 6


def scenario(run: Run) -> None:
    """Send each signal to a process of its own, then look closer at a few."""
    k = run.boot()
    k.trace()
    exits: list[tuple[str, int]] = []

    def leaves(code: int, *_: Any) -> None:
        exits.append((k.running().comm, code))

    with k.probe("do_exit", leaves):
        p = k.spawn(each, name="each")
        p.wait()
        seen_by_default(run, p.text)
        killed(run, k, exits)
    kernel_thread(run, k)
    q = k.spawn(plays, name="plays")
    q.wait()
    recording = k.recording()
    seen_of_plays(run, recording, q.text, q.pid or 0)
    keep(run, recording, p.pid or 0, q.pid or 0)


def keep(run: Run, recording: Recording, first: int, second: int) -> None:
    """Keep what `each` and `plays` do for the comparison: their pids."""
    run.keep(recording, family(recording, first, "each") | family(recording, second, "plays"))


def killed(run: Run, k: Any, exits: list[tuple[str, int]]) -> None:
    """A shell kills a program; its exit code is the signal's number."""
    terminal = k.terminal()
    terminal.type("sleep 1000 &")
    k.run(s=0.1)
    pid = k.pids("sleep")[0]
    exits.clear()
    run.typed(f"kill -9 {pid}", terminal.type(f"kill -9 {pid}"))
    k.run(s=0.1)
    run.check("do_exit() is called with 9: the signal's number, and no exit code", ("sleep", KILL) in exits, exits)
    seen_of_killed(run, k.recording(), pid)


def kernel_thread(run: Run, k: Any) -> None:
    """A kernel thread ignores every signal: kill -9 does nothing to kthreadd."""
    terminal = k.terminal()
    run.typed("kill -9 2", terminal.type("kill -9 2"))
    k.run(s=0.1)
    seen_of_kthreadd(run, k.recording(), k.read("/proc/2/status").decode())
    run.check("a kernel thread ends only when its function returns", k.find(2) is not None)


def on_real(run: Run) -> None:
    """Run the same programs, in C, and the shell's kill."""
    one, two = run.real.program("each"), run.real.program("plays")
    shot = run.record(f"mkdir -p cores; cd cores; {one} > ../each.txt; cd ..; rm -rf cores\n{two} > plays.txt\n"
                      "sleep 1000 &\necho \"pid $!\"; sleep 0.3; kill -9 $!; wait $!; echo \"status $?\"\n"
                      "grep -q kthreadd /proc/2/comm && kill -9 2; sleep 0.1; cat /proc/2/status\n")
    recording, said = shot.recording, shot.typed.output
    read = run.real.type("cat each.txt; echo =; cat plays.txt").output.split("=\n")
    seen_by_default(run, read[0])
    seen_of_killed(run, recording, int(next(line for line in said.splitlines() if line.startswith("pid ")).split()[1]))
    run.check("a shell says 137: 128 and the signal's number", "status 137" in said, said)
    seen_of_kthreadd(run, recording, said)
    playing = run.program(recording, "plays").pid
    seen_of_plays(run, recording, read[1], playing)
    keep(run, recording, run.program(recording, "each").pid, playing)


def seen_by_default(run: Run, text: str) -> None:
    """What the 31 signals and the others do to who has no handler.

    :param text: what `each` wrote
    """
    seen = {int(number): word for number, word in (line.split() for line in text.splitlines())}
    run.show(table(seen), "what each signal does by default, as seen")
    wrong = {sig: word for sig, word in seen.items() if word != expected(sig)}
    run.check("each of the 64 signals does what signal(7) says", set(seen) == set(range(1, 65)) and not wrong, wrong)
    run.equal("SIGKILL is 9, SIGCHLD 17", (abi.signal_number("KILL"), abi.signal_number("CHLD")), (KILL, CHLD))
    run.equal(
        "real-time signals begin at 32 for the kernel, at 34 for programs: glibc keeps two for its threads",
        (abi.SIGRTMIN_KERNEL, abi.SIGRTMIN, abi.signal_name(32), abi.signal_name(34)),
        (32, 34, "32", "SIGRTMIN"),
    )


def seen_of_killed(run: Run, recording: Recording, pid: int) -> None:
    """What the recording says of who was killed by kill -9."""
    life = run.life(recording, pid)
    run.story(life)
    run.check("it dies by signal 9", life.exit is not None and life.exit.signal == KILL, life.exit)
    (sent,) = run.events(recording, "signal_generate", pid=pid, sig=KILL)
    run.equal("it was sent by kill(2) (code 0) to the process (grp 1) and queued (res 0)",
              (sent["code"], sent["group"], sent["result"]), (0, 1, 0))
    told = next((event for event in run.events(recording, "signal_generate", sig=CHLD, code=CLD_KILLED)
                 if life.exit is not None and event["ts"] >= life.exit.at), None)
    run.check("its parent is told by SIGCHLD with CLD_KILLED", told is not None and told["pid"] != pid, told)


def seen_of_kthreadd(run: Run, recording: Recording, text: str) -> None:
    """What came of kill -9 2.

    :param text: with the lines of /proc/2/status after it
    """
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    run.show(f"Name {status['Name']}, SigIgn {status['SigIgn']}, State {status['State']}", "/proc/2/status")
    run.equal("kthreadd ignores all 64 signals", status["SigIgn"], "f" * 16)
    sent = run.events(recording, "signal_generate", pid=2, sig=KILL)
    run.equal("the signal was ignored: res=1, and kthreadd is alive",
              ([event["result"] for event in sent], status["Name"]), ([1], "kthreadd"))


def seen_of_plays(run: Run, recording: Recording, text: str, pid: int) -> None:
    """Handler, ignored, blocked, queued, stopped and continued.

    :param text: what `plays` wrote
    :param pid: its pid
    """
    run.show(text, "a program that handles, ignores, blocks, and is stopped")
    lines = text.splitlines()
    run.check("a handler is told who sent the signal", f"handler 10 code 0 from {pid}" in lines, lines)
    run.check("while it runs its own signal is blocked", "blocked meanwhile 10" in lines, lines)
    run.check("an ignored signal does nothing", "ignored 15: alive" in lines, lines)
    run.check("a blocked signal is pending until it is let in", "blocked 10: pending 10, then handled" in lines, lines)
    run.check("three times sent, a standard signal is handled once", "standard 10: handled 1 time" in lines, lines)
    run.check("three times sent, a real-time signal is handled three times",
              "real-time 34: handled 3 times, values 1 2 3" in lines, lines)
    run.check("SIGSTOP stops, and the parent is told", "stopped: status 0x137f, state T" in lines, lines)
    run.check("SIGTERM waits while it is stopped", "SIGTERM meanwhile: state T" in lines, lines)
    run.check("SIGCONT lets it go on, and then it dies of SIGTERM", "continued: ended 0x000f" in lines, lines)
    told = [event["code"] for event in run.events(recording, "signal_generate", sig=CHLD, pid=pid)]
    run.equal("SIGCHLD says CLD_STOPPED, CLD_CONTINUED, CLD_KILLED", told, [CLD_STOPPED, CLD_CONTINUED, CLD_KILLED])
    again = [event["result"] for event in run.events(recording, "signal_generate", sig=USR1, pid=pid)]
    run.equal("the second and third of a standard signal are not queued: res=2", again,
              run.expect([0, 0, 2, 2], [0, 0, 0, 0]))


def expected(sig: int) -> str:
    """Return what a signal does by default, as `each` writes it down."""
    return abi.default_action(sig).value if sig != CONT else "Ign"


def table(seen: dict[int, str]) -> list[str]:
    """Return the signals by what they do."""
    lines = []
    for word in ("Term", "Core", "Stop", "Ign"):
        names = [abi.signal_name(sig).removeprefix("SIG") for sig, what in seen.items() if what == word and sig < 32]
        lines.append(f"{word:<5} {' '.join(names)}")
    late = {what for sig, what in seen.items() if sig >= 32}
    return [*lines, f"32-64 {' '.join(sorted(late))}"]


# ---- programs of the machine ----------------------------------------------------------------------------

def each(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Send each signal to a child of its own, and say what became of it."""
    for sig in range(1, 65):
        pid = sys.clone(raises, sig)
        _, status = sys.waitpid(pid, WUNTRACED)
        if sys.WIFSTOPPED(status):
            word = "Stop"
            sys.kill(pid, KILL)
            sys.waitpid(pid)
        elif sys.WIFSIGNALED(status):
            word = "Core" if sys.WCOREDUMP(status) else "Term"
        else:
            word = "Ign"
        sys.puts(f"{sig} {word}")


def raises(sys: Sys, sig: int) -> int:
    """Send oneself a signal, with room for a core, as leader of a group whose parent can continue it."""
    sys.chdir("/tmp")
    sys.setrlimit(4, (1 << 20, 1 << 20))
    sys.setpgid(0, 0)
    sys.raise_(sig)
    return 0


def plays(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Meet signals in every way."""
    count: list[int] = []

    def handler(sys: Sys, sig: int, info: Any) -> None:
        count.append(info.si_value)
        if len(count) == 1:
            sys.puts(f"handler {sig} code {info.si_code} from {info.si_pid}")
            sys.puts(f"blocked meanwhile {' '.join(map(str, abi.sigset(sys.sigprocmask(0, 0))))}")

    me = sys.getpid()
    sys.sigaction(USR1, handler, 4)
    sys.sigaction(RT, handler, 4)
    sys.kill(me, USR1)
    sys.sigaction(TERM, sys.SIG_IGN)
    sys.kill(me, TERM)
    sys.puts("ignored 15: alive")
    sys.sigaction(TERM, sys.SIG_DFL)
    both = 1 << USR1 - 1 | 1 << RT - 1
    sys.sigprocmask(0, both)
    count.clear()
    count.append(0)
    sys.kill(me, USR1)
    pending = abi.sigset(sys.sigpending())
    for _ in range(2):
        sys.kill(me, USR1)
    sys.sigprocmask(1, both)
    sys.puts(f"blocked 10: pending {' '.join(map(str, pending))}, then handled")
    sys.puts(f"standard 10: handled {len(count) - 1} time{'s' * (len(count) != 2)}")
    sys.sigprocmask(0, both)
    count[1:] = []
    for value in (1, 2, 3):
        sys.sigqueue(me, RT, value)
    taken = []
    while sys.sigpending():
        taken.append(sys.sigtimedwait(both, 0).si_value)
    sys.puts(f"real-time 34: handled {len(taken)} times, values {' '.join(map(str, taken))}")
    sys.sigprocmask(1, both)
    stops(sys)


def stops(sys: Sys) -> None:
    """Stop a child, send it what it cannot take, let it go on."""
    pid = sys.clone(sleeps)
    sys.nanosleep(5_000_000)
    sys.kill(pid, STOP)
    _, status = sys.waitpid(pid, WUNTRACED)
    sys.puts(f"stopped: status {status:#06x}, state {state(sys, pid)}")
    sys.kill(pid, TERM)
    sys.nanosleep(5_000_000)
    sys.puts(f"SIGTERM meanwhile: state {state(sys, pid)}")
    sys.kill(pid, CONT)
    _, end = sys.waitpid(pid)
    sys.puts(f"continued: ended {end:#06x}")
    # alive when the child is freed: that tells that it was reaped
    sys.nanosleep(50_000_000)


def state(sys: Sys, pid: int) -> str:
    """Return the letter of a process's state."""
    text = sys.slurp(f"/proc/{pid}/stat").decode()
    return text[text.rindex(")") + 2]


def sleeps(sys: Sys) -> None:
    """Sleep until a signal ends it."""
    while True:
        sys.nanosleep(10**12)


LAB = Lab(
    name="signals",
    title="what each signal does, and to whom",
    question="What does a signal do to who has no handler, what else can be done with it, and why is no kernel thread "
    "killed?",
    look="the table of default actions; the code that do_exit() gets; res= in signal_generate",
    answer=(
        "Each signal has a default action: most end the process, ten dump core as well, four stop it, four do nothing; "
        "SIGCONT continues in any case.  Who dies of a signal calls do_exit() with its number, 9 for SIGKILL, where an "
        "exit() has its code in the second byte; the parent is told by SIGCHLD, 17, with CLD_KILLED.  A process can "
        "handle a signal, ignore it, or block it, which leaves it pending; SIGKILL and SIGSTOP it cannot.  A standard "
        "signal is pending once, a real-time signal (from 32, for programs from 34) as often as it was sent.  Kernel "
        "threads ignore everything (ignore_signals() in kthreadd): they end when their function returns."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "A C program tries all 64.  kill -9 of kthreadd does nothing: a kernel thread takes no signal that it "
        "has not asked for."
    ),
    needs=("events", "/proc"),
    mutant=Mutant(
        "a real-time signal is pending once, too",
        "kernel.signal.send:legacy_queue",
        "sig < SIGRTMIN and ",
        "sig and ",
    ),
)
