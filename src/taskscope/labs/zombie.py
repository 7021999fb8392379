"""Lab ``zombie``: a child that nobody has waited for yet."""

from __future__ import annotations

from typing import Any

from taskscope.labs.evidence import family
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

EXIT_ZOMBIE, EXIT_DEAD = 0x20, 0x10
WAIT_NS = 2_000_000_000


def scenario(run: Run) -> None:
    """A parent sleeps for 2 s before it waits for a child that ended at once."""
    k = run.boot()
    k.trace()
    released: list[tuple[int, str, int]] = []

    def release(p: Any, *_: Any) -> None:
        released.append((p.pid, k.running().comm, p.exit_state))

    with k.probe("release_task", release):
        p = k.spawn(late, name="late")
        k.run(s=1)
        zombie = next((t for t in k.ps().tasks if t.state == "Z"), None)
        if zombie is None:
            run.check("there is a task in state Z", False, ", ".join(f"{t.comm} {t.state}" for t in k.ps().tasks))
            return
        detail = k.task(zombie.pid)
        terminal = k.terminal()
        table = terminal.type("ps -e")
        p.wait()
    run.typed("ps -e", "\n".join(line for line in table.splitlines() if "defunct" in line or "CMD" in line))
    run.show(
        f"exit_state {detail.members['exit_state']:#x}, exit_code {detail.members['exit_code']:#x}, mm "
        f"{detail.members['mm']}, files {detail.members['files']}",
        "what is left of it",
    )
    run.check("ps shows it as <defunct>", f"{zombie.pid}" in table and "<defunct>" in table, table)
    run.check(
        "all but the task_struct is gone: no memory, no files", not detail.members["mm"] and not detail.members["files"]
    )
    run.equal(
        "exit_state is EXIT_ZOMBIE, exit_code keeps the wait status 7 << 8",
        (detail.members["exit_state"], detail.members["exit_code"]),
        (EXIT_ZOMBIE, 0x700),
    )
    recording = k.recording()
    life = run.life(recording, zombie.pid)
    run.story(life)
    run.keep(recording, family(recording, p.pid or 0, "late"))
    as_zombie = life.time.get("zombie", 0)
    run.check("it was a zombie for about 2 s", abs(as_zombie - WAIT_NS) < 20_000_000, as_zombie)
    run.check(
        "its parent was told by SIGCHLD at once",
        life.exit is not None
        and life.exit.notified_sig == 17
        and life.exit.notified_at is not None
        and life.exit.notified_at - life.exit.at < 5_000_000,
        life.exit,
    )
    run.check(
        "the parent's wait4() released it: EXIT_DEAD, release_task() in the parent",
        (zombie.pid, "late", EXIT_DEAD) in released,
        released,
    )
    run.check("the parent got its status: exit code 7", "status 0x700" in p.text, p.text)
    run.check("after that its pid is gone", k.find(zombie.pid) is None)


def on_real(run: Run) -> None:
    """Look at a child of a C program that waits for it two seconds late."""
    program = run.real.program("late")
    shot = run.record(f"{program} > out &\nsleep 1\nread word child < out\ncat /proc/$child/stat\n"
                      "ls /proc/$child/fd | wc -l\ncat /proc/$child/maps | wc -l\nwait\ncat out\n")
    recording = shot.recording
    roles = family(recording, run.program(recording, "late").pid, "late")
    life = run.life(recording, roles["late.1"])
    run.story(life)
    lines = shot.typed.output.splitlines()
    run.check("/proc shows it in state Z", any(f"{life.pid} (late) Z" in line for line in lines), lines)
    at = next(n for n, line in enumerate(lines) if "(late) Z" in line)
    run.equal("all but the task_struct is gone: no files, no memory", lines[at + 1 : at + 3], ["0", "0"])
    as_zombie = life.time.get("zombie", 0)
    run.check("it was a zombie for about 2 s", abs(as_zombie - WAIT_NS) < run.slack(20), as_zombie)
    run.check(
        "its parent was told by SIGCHLD at once",
        life.exit is not None and life.exit.notified_sig == run.expect(17, 18) and life.exit.notified_at is not None
        and life.exit.notified_at - life.exit.at < run.slack(5),
        life.exit,
    )
    run.check("the parent's wait4() released it", life.reaped is not None and life.reaped.by is not None
              and life.reaped.by.pid == roles["late"], life.reaped)
    run.check("the parent got its status: exit code 7", "status 0x700" in shot.typed.output, shot.typed.output)
    run.keep(recording, roles)


def late(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Wait for a child 2 s after its end."""
    pid = sys.clone(seven)
    sys.nanosleep(WAIT_NS)
    _, status = sys.waitpid(pid)
    sys.puts(f"status {status:#x}")


def seven(sys: Sys) -> int:  # noqa: ARG001
    """End with exit code 7."""
    return 7


LAB = Lab(
    name="zombie",
    title="a child that nobody has waited for yet",
    question="Why does a process stay in the table after its end, and what removes it?",
    look="the <defunct> line, and the zombie stretch of its life",
    answer=(
        "do_exit() gives up everything but the task_struct, which holds the exit code for the parent: "
        "exit_notify() sets EXIT_ZOMBIE and sends SIGCHLD.  The zombie goes when the parent calls wait4(): "
        "wait_task_zombie() takes the status, sets EXIT_DEAD and calls release_task().  A parent that ignores "
        "SIGCHLD, or "
        "init after the parent's death, has the same effect."
    ),
    scenario=scenario,
    real=on_real,
    real_note="/proc has the zombie's stat, in state Z; its fd and maps are empty.",
    needs=("events", "/proc"),
    mutant=Mutant(
        "every child is reaped by itself",
        "kernel.exit:exit_notify",
        "    set_exit_state(tsk, EXIT_DEAD if autoreap else EXIT_ZOMBIE)\n",
        "    set_exit_state(tsk, EXIT_DEAD)\n",
    ),
)
