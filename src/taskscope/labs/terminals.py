"""Lab ``terminals``: each terminal adds a shell; programs are started by programs."""

from __future__ import annotations

from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant


def on_real(run: Run) -> None:
    """Open pseudo-terminals with script(1)'s means: a session leader with a terminal of its own, twice."""
    typed = run.real.type(f"""{run.real.program("terminal")} 2""")
    run.typed("terminal 2", typed.output)
    seen = [line.split() for line in typed.output.splitlines()]
    shells = [line for line in seen if line and line[0] == "shell"]
    run.equal("each terminal has a shell", len(shells), run.expect(2, 1))
    ttys = [line[4] for line in shells]
    run.check("each has a terminal of its own", len(set(ttys)) == 2 and all(tty != "0" for tty in ttys), ttys)
    run.check("each leads a session of its own", all(line[1] == line[3] for line in shells), shells)
    children = [line for line in seen if line and line[0] == "program"]
    run.check(
        "a program does not start itself: its parent is the shell of its terminal, whose session it has",
        len(children) == 2
        and all(child[2] == shell[1] and child[3] == shell[3] and child[4] == shell[4]
                for child, shell in zip(children, shells, strict=True)),
        children,
    )
    run.check("closing a terminal sends SIGHUP: its shell ends", "closed: shell ended by signal 1" in typed.output
              or "closed: shell exited" in typed.output, typed.output)


def scenario(run: Run) -> None:
    """Count the shells before and after a terminal is opened, and follow the parents of a program."""
    k = run.boot()
    first = k.terminal()
    before = k.pids("bash")
    out = first.type("ps -ejH")
    run.typed("ps -ejH", "\n".join(line for line in out.splitlines() if "bash" in line or "ps" in line.split()[-1:]))
    second = k.terminal()
    after = k.pids("bash")
    run.check("one terminal, one bash", before == [first.process.pid], before)
    run.check("a second terminal adds one more bash", after == [first.process.pid, second.process.pid], after)
    out = second.type("ps -ejH")
    run.typed("ps -ejH", "\n".join(line for line in out.splitlines() if "bash" in line or "ps" in line.split()[-1:]))
    rows = {t.pid: t for t in k.ps().tasks}
    ttys = [rows[pid].tty for pid in after]
    run.check(
        "each has a terminal of its own", len(set(ttys)) == 2 and all(t and t.startswith("pts/") for t in ttys), ttys
    )
    run.check("each leads a session of its own", all(rows[pid].sid == pid for pid in after))
    second.type("raspbian_proc &")
    proc = k.appears("raspbian_proc")
    rows = {t.pid: t for t in k.ps().tasks}
    chain = [proc]
    while chain[-1] not in (0, 1):
        chain.append(rows[chain[-1]].ppid or 0)
    run.show(" <- ".join(f"{rows[pid].comm} ({pid})" for pid in chain), "who started whom")
    run.equal(
        "a program does not start itself: the shell forked it, init the shell",
        [rows[pid].comm for pid in chain],
        ["raspbian_proc", "bash", "init"],
    )
    run.equal(
        "it has the shell's terminal and session", (rows[proc].tty, rows[proc].sid), (rows[after[1]].tty, after[1])
    )
    second.close()
    k.run(s=0.5)
    run.check(
        "closing the terminal sends SIGHUP: its shell ends, the other stays",
        k.pids("bash") == [first.process.pid],
        k.pids("bash"),
    )


LAB = Lab(
    name="terminals",
    title="each terminal adds a shell; shells start programs",
    question="Where does the new bash come from when a terminal is opened, and who started raspbian_proc?",
    look="the two lists of shells, and the chain of parents",
    answer=(
        "A terminal is opened by a program that forks and execs a shell on it: one more bash, leader of a session "
        "whose controlling "
        "terminal it is.  What is typed there is forked by that shell, so the chain of real_parent leads from "
        "raspbian_proc over bash "
        "to init.  When the terminal goes, its session leader gets SIGHUP."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "The terminals are pseudo-terminals, each with a session leader on it.  The last column is the "
        "terminal's device number: 34816 is 136:0, pts/0."
    ),
    needs=("/proc",),
    mutant=Mutant(
        "a child does not inherit the terminal",
        "kernel.fork:copy_process",
        "p.signal.tty = current.signal.tty",
        "p.signal.tty = None",
    ),
)
