"""Lab ``fork``: fork() from the library to _do_fork(), and its two results."""

from __future__ import annotations

from taskscope.labs.evidence import family, ordered, plain, table
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID, SIGCHLD = 0x0100_0000, 0x0020_0000, 17


def scenario(run: Run) -> None:
    """Stop in _do_fork() and look at the stack and the flags; then compare results and errors."""
    k = run.boot()
    k.trace()
    stacks: list[list[str]] = []
    flags: list[int] = []

    def entered(clone_flags: int, *_: object) -> None:
        flags.append(clone_flags)
        stacks.append(k.running_stack())

    with k.probe(run.name("_do_fork"), entered, when=lambda *args: k.running().comm == "forker"):
        p = k.spawn(forker, name="forker")
        p.wait()
    run.show(stacks[0], "stack when the library's fork() reaches " + run.name("_do_fork"))
    run.show(p.text.splitlines(), "what the program printed")
    inner = plain(stacks[0])
    run.check(
        f"the way is {run.name('sys_clone')} -> {run.name('_do_fork')}",
        run.name("sys_clone") in inner and inner.index(run.name("_do_fork")) < inner.index(run.name("sys_clone")),
        inner,
    )
    run.equal(
        "flags of fork() in the C library: 0x01200011", flags[0], CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD
    )
    if not run.new or len(flags) > 1:
        run.equal("fork(2) itself asks for SIGCHLD alone", flags[1], SIGCHLD)
    text = dict(line.split(": ", 1) for line in p.text.splitlines())
    child = int(text["parent got"])
    run.check("the parent gets the child's pid, the child 0", text["child got"] == "0" and child > 0, text)
    run.equal("the pid is that of the child", text["child is"], str(child))
    run.equal("the child's parent is the caller", text["child's parent"], text["parent is"])
    run.equal(
        "with RLIMIT_NPROC used up a user's fork fails: EAGAIN, a negative errno in the kernel",
        text["at the limit"],
        "EAGAIN",
    )
    recording = k.recording()
    run.keep(recording, family(recording, p.pid or 0, "forker"))
    life = run.life(recording, child)
    assert life.born is not None
    run.equal("the recording shows who created it", life.born.by and life.born.by.pid, int(text["parent is"]))


def on_real(run: Run) -> None:
    """Let a C program fork by the library, by the system call itself, and against its limit."""
    shot = run.record(run.real.program("forker"))
    recording = shot.recording
    text = table(shot.typed.output)
    child, parent = int(text["parent got"]), int(text["parent is"])
    run.check("the parent gets the child's pid, the child 0", text["child got"] == "0" and child > 0, text)
    run.equal("the pid is that of the child", text["child is"], str(child))
    run.equal("the child's parent is the caller", text["child's parent"], text["parent is"])
    run.equal("with RLIMIT_NPROC used up a user's fork fails: EAGAIN", text["at the limit"],
              run.expect("EAGAIN", "ENOMEM"))
    born = run.life(recording, child).born
    assert born is not None
    stack = list(born.stack or ())
    run.show(stack, f"how the child was created: the stack at task_newtask in {run.name('_do_fork')}, innermost first")
    run.check(
        f"the way is {run.name('sys_clone')} -> {run.name('_do_fork')} -> copy_process",
        ordered(stack, ["copy_process", run.name("_do_fork"), run.name("sys_clone")]),
        stack,
    )
    run.equal(
        "flags of fork() in the C library: 0x01200000 and SIGCHLD",
        (born.clone_flags, born.exit_signal),
        (CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, SIGCHLD),
    )
    run.equal("the recording shows who created it", born.by and born.by.pid, parent)
    run.keep(recording, family(recording, parent, "forker"))


def forker(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Fork in the ways there are, and print both results."""
    read_end, write_end = sys.pipe()
    pid = sys.fork()
    if pid == 0:
        sys.write(write_end, f"child got: 0\nchild is: {sys.getpid()}\nchild's parent: {sys.getppid()}\n".encode())
        sys._exit(0)
    sys.waitpid(pid)
    sys.printf("%s", sys.read(read_end, 4096).decode())
    sys.puts(f"parent got: {pid}")
    sys.puts(f"parent is: {sys.getpid()}")
    again = sys.sys_fork()
    if again == 0:
        sys._exit(0)
    sys.waitpid(again)
    third = sys.fork()
    if third == 0:
        sys.setrlimit(6, (0, 0))
        sys.setuid(1000)
        try:
            sys.sys_fork()
            result = "no error"
        except OSError as error:
            result = {11: "EAGAIN"}.get(error.errno or 0, str(error.errno))
        sys.write(write_end, f"at the limit: {result}\n".encode())
        sys._exit(0)
    sys.waitpid(third)
    sys.printf("%s", sys.read(read_end, 4096).decode())


LAB = Lab(
    name="fork",
    title="fork() from the library to _do_fork(), and both results",
    question="Which way does fork() take into the kernel, and how can one call return twice?",
    look="the stack, innermost first, and the two results",
    answer=(
        "The C library's fork() makes the system call clone with CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | "
        "SIGCHLD (0x01200011); sys_clone, sys_fork and sys_vfork "
        "all end in _do_fork() (kernel_clone() since 5.10), which calls copy_process() and wake_up_new_task() and "
        "returns the child's pid, or a negative errno.  "
        "The child never calls anything: copy_thread() gives it the parent's registers with 0 in the result "
        "register, and "
        "ret_from_fork() returns to user mode with them."
    ),
    scenario=scenario,
    real=on_real,
    real_note=(
        "The system call is reached through __do_sys_clone(), and _do_fork() is kernel_clone() since 5.10.  "
        "What refuses the fork at the limit is RLIMIT_NPROC."
    ),
    needs=("events",),
    mutant=Mutant(
        "the result is not the child's pid", "kernel.fork:_do_fork", "    nr = pid_.pid_vnr(pid)\n",
        "    nr = pid_.pid_vnr(pid) + 1\n"
    ),
)
