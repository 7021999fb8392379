"""Lab ``raspbian-exit``: the same program ends by exit()."""

from __future__ import annotations

from taskscope.labs.evidence import function_stack, log_of, ordered
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.labs.stages import SIGCHLD, record_function_stacks, stage_one, stage_two
from taskscope.lives.life import Life
from taskscope.recording import Recording


def scenario(run: Run) -> None:
    """Run the program that ends by exit(EXIT_SUCCESS) and look at its end."""
    k = run.boot()
    record_function_stacks(run, k)
    terminal = k.terminal()
    run.typed("raspbian_exit", terminal.type("raspbian_exit"))
    run.typed("echo $?", terminal.type("echo $?"))
    shell = terminal.process.pid or 0
    recording = k.recording()
    life = next(x for x in recording.lives if x.comm == "raspbian_exit")
    run.story(life)
    run.show(
        log_of(recording, ("do_exit", f"comm=raspbian_exit pid={life.pid}", "signal_generate: sig=17")),
        "lines of the log",
    )
    run.keep(recording, {"proc": life.pid}, {"shell": shell})
    seen(run, recording, life, shell)
    run.check("the shell's $? is 0", terminal.text.rstrip().splitlines()[-2].strip() == "0", terminal.text[-60:])


def on_real(run: Run) -> None:
    """Let a shell run the notes' C program that ends by exit(EXIT_SUCCESS)."""
    shot = run.record(f"{run.real.program('raspbian_exit')}\necho $?\n")
    life = run.life(shot.recording, "raspbian_exit")
    run.story(life)
    assert life.born is not None
    assert life.born.by is not None
    run.keep(shot.recording, {"proc": life.pid}, {"shell": life.born.by.pid})
    seen(run, shot.recording, life, life.born.by.pid)
    run.equal("the shell's $? is 0", shot.typed.output.split()[-1:], ["0"])


def seen(run: Run, recording: Recording, life: Life, shell: int) -> None:
    """Check its end, on whatever machine it was recorded."""
    stage_one(run, life, shell)
    stage_two(run, recording, life, 3)
    assert life.exit is not None
    run.equal("it ended by itself, by no signal", life.exit.signal, run.expect(None, SIGCHLD))
    run.check("nobody sent it a signal", not [s for s in life.signals if s.sig != SIGCHLD], life.signals)
    stack = list(life.exit.stack or function_stack(recording, life.pid, "do_exit"))
    run.show(stack, "how it came to do_exit(), innermost first")
    run.check(
        f"the way: do_exit <- do_group_exit <- {run.name('sys_exit_group')}",
        ordered(stack, ["do_exit", "do_group_exit", run.name("sys_exit_group")]),
        stack,
    )
    run.check(
        "SIGCHLD (17) goes to its parent",
        life.exit.notified_sig == SIGCHLD and life.exit.notified is not None and life.exit.notified.pid == shell,
        life.exit,
    )


LAB = Lab(
    name="raspbian-exit",
    title="the same program ends by exit()",
    question="What is different when the program ends by itself instead of being killed?",
    look="the stack of do_exit(): it comes from a system call, not from a signal",
    answer=(
        "exit(EXIT_SUCCESS) becomes the system call exit_group: sys_exit_group -> do_group_exit -> do_exit.  From "
        "do_exit() on nothing is different, SIGCHLD to the parent included; only the exit code is 0 in the "
        "upper byte of the wait status instead of a signal in the lower."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "sched_process_exit does not carry the status: it is known from the argument of exit_group, which is "
        "recorded as well."
    ),
    needs=("events",),
    mutant=Mutant(
        "exit_group() ends as by a signal",
        "kernel.exit:sys_exit_group",
        "(error_code & 0xFF) << 8",
        "(error_code & 0xFF) | 1",
    ),
)
