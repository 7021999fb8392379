"""Lab ``raspbian-proc``: a program sleeps, prints, and is killed: the four stages of the notes."""

from __future__ import annotations

from taskscope.labs.evidence import function_stack, log_of, ordered
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.labs.stages import SIGCHLD, SIGKILL, record_function_stacks, stage_one, stage_two
from taskscope.lives.life import Life
from taskscope.recording import Recording


def scenario(run: Run) -> None:
    """Type the notes' lines: start it in the background, look, kill it."""
    k = run.boot()
    record_function_stacks(run, k)
    terminal = k.terminal()
    run.typed("raspbian_proc &", terminal.type("raspbian_proc &"))
    proc = k.appears("raspbian_proc")
    shell = terminal.process.pid or 0
    k.run(s=10)
    run.typed(
        "ps -ely",
        "\n".join(
            line
            for line in terminal.type("ps -ely").splitlines()
            if "raspbian" in line or "CMD" in line or "bash" in line
        ),
    )
    run.equal(
        "it waits in nanosleep: S, WCHAN hrtime(r_nanosleep)",
        (k.task(proc).row.state, k.task(proc).row.wchan),
        ("S", "hrtimer_nanosleep"),
    )
    run.typed(f"kill -9 {proc}", terminal.type(f"kill -9 {proc}"))
    k.run(s=0.3)
    run.typed("", terminal.type(""))
    recording = k.recording()
    life = run.life(recording, proc)
    run.story(life)
    run.show(
        log_of(recording, ("do_exit", "signal_generate: sig=9", "signal_generate: sig=17", f"child_pid={proc}")),
        "lines of the log",
    )

    run.keep(recording, {"proc": proc}, {"shell": shell})
    seen(run, recording, life, shell)
    run.check("the shell says so", "Killed" in terminal.text, terminal.text[-200:])


def on_real(run: Run) -> None:
    """Let a shell start the notes' C program in the background, and kill it in its third round."""
    shot = run.record(f"""{run.real.program("raspbian_proc")} &
pid=$!
sleep 7
kill -9 $pid
wait $pid
echo "status $?"
""")
    life = run.life(shot.recording, "raspbian_proc")
    run.story(life)
    assert life.born is not None
    assert life.born.by is not None
    shell = life.born.by.pid
    run.keep(shot.recording, {"proc": life.pid}, {"shell": shell})
    seen(run, shot.recording, life, shell)
    run.check("the shell sees 128 + 9", "status 137" in shot.typed.output, shot.typed.output)


def seen(run: Run, recording: Recording, life: Life, shell: int) -> None:
    """Check the four stages, on whatever machine they were recorded."""
    stage_one(run, life, shell)
    stage_two(run, recording, life, 3)
    kills = [s for s in life.signals if s.sig == SIGKILL]
    run.check(
        "stage 3: signal 9 is generated once, by the shell (its kill is a builtin)",
        len(kills) == 1 and kills[0].sender is not None and kills[0].sender.pid == shell,
        kills,
    )
    assert life.exit is not None
    run.equal(
        "stage 3: it dies by signal 9: wait status 9",
        (life.exit.signal, life.exit.code, life.exit.killer and life.exit.killer.pid),
        (run.expect(SIGKILL, 15), None, shell),
    )
    stack = list(life.exit.stack or function_stack(recording, life.pid, "do_exit"))
    run.show(stack, "how it came to do_exit(), innermost first")
    wanted = ["do_group_exit", "get_signal", run.name("do_signal")]
    run.check(
        f"stage 3: through do_exit <- {' <- '.join(wanted)}: the killed task itself",
        ordered(stack, ["do_exit", *wanted]),
        stack,
    )
    run.check(
        "stage 4: SIGCHLD (17) goes to its parent",
        life.exit.notified_sig == SIGCHLD and life.exit.notified is not None and life.exit.notified.pid == shell,
        life.exit,
    )
    run.check(
        "stage 4: the parent reaps it, then its task_struct is freed",
        life.reaped is not None
        and life.reaped.by is not None
        and life.reaped.by.pid == shell
        and life.freed is not None,
        (life.reaped, life.freed),
    )
    born = life.born.stack if life.born is not None else None
    fork_stack = list(born or function_stack(recording, shell, run.name("copy_process")))
    run.check(
        f"copy_process() was called by {run.name('_do_fork')}, that by {run.name('sys_clone')}",
        ordered(fork_stack, [run.name("_do_fork"), run.name("sys_clone")]),
        fork_stack,
    )


LAB = Lab(
    name="raspbian-proc",
    title="a program sleeps, prints, and is killed: four stages",
    question="Who created raspbian_proc, what does it do all the time, who killed it, and who was told?",
    look="the life of raspbian_proc; each line names the event that shows it",
    answer=(
        "1 bash forks (sys_clone -> _do_fork -> copy_process); the child bears the name bash until it execs.  2 It "
        "prints, sleeps in hrtimer_nanosleep() for 3 s, is woken by its timer, and so on.  3 kill -9 generates "
        "signal 9; the target takes it on its way to user space (do_signal -> get_signal -> do_group_exit -> "
        "do_exit): it dies by its own hand, with 9 as exit code.  4 exit_notify() sends SIGCHLD (17) to the "
        "parent, which waits for "
        "it (wait4 -> release_task) and gets wait status 9."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "Times are not round: woken, it waits a little for its CPU.  Whose shell it is says the name before "
        "the exec: bash on the host, busybox's sh in the guest."
    ),
    needs=("events",),
    mutant=Mutant(
        "a fatal signal ends the process with exit code 0",
        "kernel.signal.send:complete_signal",
        "signal.group_exit_code = sig",
        "signal.group_exit_code = 0",
    ),
)
