"""Lab ``exec-whoami``: a shell runs whoami: fork, exec, exit, free."""

from __future__ import annotations

from taskscope.labs.evidence import function_stack, log_of, ordered
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.labs.stages import record_function_stacks
from taskscope.recording import Recording


def scenario(run: Run) -> None:
    """Type whoami and cat /proc/interrupts, and put the events of each in order."""
    k = run.boot()
    record_function_stacks(run, k, "search_binary_handler" if not run.new else "load_script*")
    terminal = k.terminal()
    who = terminal.type("whoami")
    run.typed("whoami", who)
    interrupts = terminal.type("cat /proc/interrupts")
    run.typed("cat /proc/interrupts", interrupts)
    terminal.type("")
    k.run(s=0.3)
    run.check("whoami prints root", "root" in who.splitlines(), who)
    run.check(
        "/proc/interrupts has a column a CPU and counts the timer",
        "CPU0" in interrupts and "CPU1" in interrupts,
        interrupts,
    )
    recording = k.recording()
    shell = terminal.process.pid or 0
    for program in ("whoami", "cat"):
        stages(run, recording, program, shell)
    life = next(x for x in recording.lives if any(e.filename == "/bin/whoami" for e in x.execs))
    if not run.new:
        stack = function_stack(recording, life.pid, "search_binary_handler")
        run.show(stack, "exec looks for a loader: innermost first")
        run.check(
            f"search_binary_handler() is called on the way from {run.name('sys_execve')}",
            ordered(stack, [run.name("sys_execve")]),
            stack,
        )
    run.show(log_of(recording, ("whoami",), 8), "lines of the log")
    assert life.exit is not None
    run.equal("it ends by itself", life.exit.signal, None)


def on_real(run: Run) -> None:
    """Let a shell run whoami and cat /proc/interrupts."""
    shot = run.record("/bin/whoami\n/bin/cat /proc/interrupts > interrupts.txt\nhead -n 1 interrupts.txt\n")
    run.check("whoami prints root", "root" in shot.typed.output.splitlines(), shot.typed.output)
    run.check("/proc/interrupts has a column a CPU", "CPU0" in shot.typed.output, shot.typed.output)
    shell = run.life(shot.recording, "whoami").parent
    assert shell is not None
    for program in ("whoami", "cat"):
        stages(run, shot.recording, program, shell.pid)
    end = run.life(shot.recording, "whoami").exit
    assert end is not None
    run.equal("it ends by itself", end.signal, None)


def stages(run: Run, recording: Recording, program: str, shell: int) -> None:
    """Check the five events of a program's life, on whatever machine they were recorded."""
    life = next(x for x in recording.lives if any(e.filename.rpartition("/")[2] == program for e in x.execs))
    run.check(f"{program}: the shell forked it", life.parent is not None and life.parent.pid == shell, life.parent)
    stamps = order_of(run, recording, life.pid, program)
    run.show([f"{at / 1e9:.6f}  {name}" for name, at in stamps], f"{program}, pid {life.pid}")
    names = [name for name, _ in stamps]
    expected = ["sched_process_fork", "task_rename", "sched_process_exec", "sched_process_exit", "sched_process_free"]
    if run.wrong:
        expected[1:3] = reversed(expected[1:3])
    run.equal(f"{program}: the events come in the kernel's order", names, expected)
    run.keep(recording, {"program": life.pid}, {"shell": shell})


def order_of(run: Run, recording: Recording, pid: int, program: str) -> list[tuple[str, int]]:
    """Return the events of one program's life, in the order of the log."""
    found = []
    for event, column in (
        ("sched_process_fork", "child_pid"),
        ("task_rename", "pid"),
        ("sched_process_exec", "pid"),
        ("sched_process_exit", "pid"),
        ("sched_process_free", "pid"),
    ):
        wanted = {column: pid} | ({"newcomm": program} if event == "task_rename" else {})
        found += [(event, row["ts"]) for row in run.events(recording, event, **wanted)]
    return sorted(found, key=lambda item: item[1])


LAB = Lab(
    name="exec-whoami",
    title="a shell runs whoami: fork, exec, exit, free",
    question="What happens between typing whoami and its line on the screen?",
    look="the five events of each program, with their times",
    answer=(
        "bash forks; the child, still called bash, calls execve: the kernel opens the file and asks each binary "
        "format (search_binary_handler), throws the old memory away, renames the task (task_rename), starts the "
        "new program (sched_process_exec).  "
        "It prints, exits (sched_process_exit), its parent reaps it, and after an RCU grace period the last "
        "reference goes (sched_process_free)."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "Between the end and sched_process_free lie some milliseconds: the last reference goes when an RCU "
        "grace period is over."
    ),
    needs=("events",),
    mutant=Mutant("exec does not rename the task", "fs.exec:__set_task_comm", "trace_task_rename(tsk, buf)", "pass"),
)
