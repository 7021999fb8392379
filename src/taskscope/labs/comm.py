"""Lab ``comm``: the name of a task."""

from __future__ import annotations

from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

PR_SET_NAME, PR_GET_NAME = 15, 16


def scenario(run: Run) -> None:
    """Watch the name across fork, exec and prctl."""
    k = run.boot()
    k.trace("sched:*", "task:*", "signal:*")
    terminal = k.terminal()
    out = terminal.type("whoami")
    run.typed("whoami", out)
    naming = k.spawn(rename, name="a_name_of_more_than_15_bytes")
    naming.wait()
    run.show(naming.text.splitlines(), "a program names itself")
    recording = k.recording()
    who = next(life for life in recording.lives if any(e.filename == "/bin/whoami" for e in life.execs))
    run.show([f"{c.at / 1e9:.6f}  {c.comm}" for c in who.comms], f"names of {who.pid}")
    run.equal("the child bears its parent's name until exec", [c.comm for c in who.comms], ["bash", "whoami"])
    forks = run.events(recording, "sched_process_fork", child_pid=who.pid)
    run.check(
        "sched_process_fork shows the parent's name for both",
        [(f["parent_comm"], f["child_comm"]) for f in forks] == [("bash", "bash")],
        forks,
    )
    renames = run.events(recording, "task_rename", newcomm="whoami")
    names = [(row["oldcomm"], row["newcomm"]) for row in renames]
    run.check("exec renames: task_rename bash -> whoami", ("bash", "whoami") in names, names)
    ts_rename = renames[0]["ts"]
    ts_exec = run.events(recording, "sched_process_exec", filename="/bin/whoami")[0]["ts"]
    run.check("task_rename comes before sched_process_exec", ts_rename <= ts_exec, (ts_rename, ts_exec))
    run.check(
        "comm holds 15 bytes and a NUL: the rest of a long name is cut",
        "before: a_name_of_more_" in naming.text and "after: twelve_by_15_b" in naming.text,
        naming.text,
    )
    run.keep(recording, {"whoami": who.pid}, {"shell": terminal.process.pid or 0})
    detail = k.task(1)
    run.equal("comm stands in the task_struct", detail.members["comm"], "init")


def on_real(run: Run) -> None:
    """Watch the name across fork, exec and prctl on a real kernel."""
    program = run.real.program("namer")
    shot = run.record(f"/bin/whoami\ncp {program} a_name_of_more_than_15_bytes\n./a_name_of_more_than_15_bytes\n")
    recording = shot.recording
    who = next(life for life in recording.lives if any(e.filename == "/bin/whoami" for e in life.execs))
    run.show([f"{c.at / 1e9:.6f}  {c.comm}" for c in who.comms], f"names of {who.pid}")
    shell = run.real.shell
    run.equal("the child bears its parent's name until exec", [c.comm for c in who.comms],
              [shell, run.expect("whoami", shell)])
    forks = run.events(recording, "sched_process_fork", child_pid=who.pid)
    run.check(
        "sched_process_fork shows the parent's name for both",
        [(f["parent_comm"], f["child_comm"]) for f in forks] == [(shell, shell)],
        forks,
    )
    renames = run.events(recording, "task_rename", newcomm="whoami")
    run.equal("exec renames", [(row["oldcomm"], row["newcomm"]) for row in renames], [(shell, "whoami")])
    ts_exec = run.events(recording, "sched_process_exec", filename="/bin/whoami")[0]["ts"]
    run.check("task_rename comes before sched_process_exec", renames[0]["ts"] <= ts_exec, (renames, ts_exec))
    run.check(
        "comm holds 15 bytes and a NUL: the rest of a long name is cut",
        "before: a_name_of_more_" in shot.typed.output and "after: twelve_by_15_by" in shot.typed.output,
        shot.typed.output,
    )
    assert who.parent is not None
    run.keep(recording, {"whoami": who.pid}, {"shell": who.parent.pid})


def rename(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Print the name, change it, print it again."""
    sys.puts(f"before: {sys.prctl_get(PR_GET_NAME)}")
    sys.prctl(PR_SET_NAME, "twelve_by_15_bytes")
    sys.puts(f"after: {sys.prctl_get(PR_GET_NAME)}")
    sys.puts(f"/proc/self/comm: {sys.slurp('/proc/self/comm').decode().strip()}")


LAB = Lab(
    name="comm",
    title="the name of a task: inherited, changed by exec and prctl",
    question="Why does the log of a fork show bash twice, and when does the child get its own name?",
    look="the names of the whoami process with their times, and the program that names itself",
    answer=(
        "comm is copied with the task_struct, so a child bears its parent's name until it execs: begin_new_exec "
        "(4.19: flush_old_exec) calls "
        "__set_task_comm() with the last component of the file's name, which fires task_rename, and only later "
        "comes sched_process_exec.  "
        "prctl(PR_SET_NAME) and writing /proc/self/comm do the same.  TASK_COMM_LEN is 16: 15 bytes and a NUL; "
        "longer names are cut."
    ),
    scenario=scenario,
    real=on_real,
    real_note="The name of a program's file is cut at exec as prctl(PR_SET_NAME) cuts a name: both to 15 bytes.",
    needs=("events",),
    mutant=Mutant("names are cut a byte earlier", "fs.exec:__set_task_comm", "TASK_COMM_LEN - 1", "TASK_COMM_LEN - 2"),
)
