"""Lab ``clone-flags``: what each clone flag shares, and which combinations are refused."""

from __future__ import annotations

from taskscope.labs.evidence import table
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.model.user.libc import Sys

VM, FS, FILES, SIGHAND, PARENT, THREAD, NEWNS, SYSVSEM = 0x100, 0x200, 0x400, 0x800, 0x8000, 0x10000, 0x20000, 0x40000
NEWUSER, NEWPID = 0x1000_0000, 0x2000_0000
SIGCHLD = 17
#: flag name -> (flags, the member of task_struct that it shares)
SHARING = {
    "CLONE_VM": (VM, "mm"),
    "CLONE_FS": (FS, "fs"),
    "CLONE_FILES": (FILES, "files"),
    "CLONE_SIGHAND": (VM | SIGHAND, "sighand"),
    "CLONE_THREAD": (VM | SIGHAND | THREAD, "signal"),
}
REFUSED = {
    "CLONE_THREAD without CLONE_SIGHAND": THREAD | VM,
    "CLONE_SIGHAND without CLONE_VM": SIGHAND,
    "CLONE_NEWNS with CLONE_FS": NEWNS | FS,
    "CLONE_NEWUSER with CLONE_FS": NEWUSER | FS,
    "CLONE_NEWPID with CLONE_THREAD": NEWPID | THREAD | SIGHAND | VM,
}
MEMBERS = ("mm", "fs", "files", "sighand", "signal")
COUNTS = {"mm": "mm_users", "fs": "users", "files": "count", "sighand": "count", "signal": "nr_threads"}


def scenario(run: Run) -> None:
    """Clone with one flag after the other and compare the members of the two task_structs; then try what must fail."""
    k = run.boot()
    cells = {}
    for name, (flags, _) in {"none": (0, ""), **SHARING}.items():
        p = k.spawn(sharing, f"{flags | (0 if flags & THREAD else SIGCHLD):#x}", name="sharing")
        k.run(until=lambda p=p: p.pid is not None and "child" in p.text)
        parent = k.find(p.pid)
        child_pid = int(p.text.split()[1])
        child = k.find(child_pid)
        assert parent is not None
        assert child is not None
        shared = tuple(m for m in MEMBERS if getattr(parent, m) is getattr(child, m))
        counts = {m: getattr(getattr(parent, m), COUNTS[m]) for m in MEMBERS}
        cells[name] = (shared, counts)
        k.run(s=0.2)
    base = cells["none"][1]
    run.show(
        [
            f"{name:<14} shares {', '.join(shared) or 'nothing'};  counts {counts}"
            for name, (shared, counts) in cells.items()
        ],
        "who has what",
    )
    run.equal("fork() (no flag) copies everything", cells["none"][0], ())
    for name, (_, member) in SHARING.items():
        shared, counts = cells[name]
        run.check(f"{name} shares {member}: both task_structs point to one", member in shared, shared)
        run.check(
            f"and raises its count by one ({COUNTS[member]})",
            counts[member] == base[member] + 1,
            (base[member], counts[member]),
        )
    run.equal("CLONE_FILES shares the table and nothing else", cells["CLONE_FILES"][0], ("files",))
    run.equal("CLONE_FS shares root, working directory and umask only", cells["CLONE_FS"][0], ("fs",))
    p = k.spawn(effects, name="effects")
    p.wait()
    seen = dict(line.split(": ", 1) for line in p.text.splitlines() if line.startswith("after "))
    run.show(
        [f"{name}: {value}" for name, value in seen.items()],
        "what the parent sees after the child has opened a file and changed its directory",
    )
    run.equal(
        "with CLONE_FILES the child's descriptor is the parent's too, without it is not",
        (seen["after CLONE_FILES, fd"], seen["after nothing, fd"]),
        ("open", "EBADF"),
    )
    run.equal(
        "with CLONE_FS the child's chdir() moves the parent, without it does not",
        (seen["after CLONE_FS, cwd"], seen["after nothing, cwd"]),
        ("/tmp", "/root"),
    )
    p = k.spawn(refused, name="refused")
    p.wait()
    results = dict(line.split(": ", 1) for line in p.text.splitlines() if line.startswith("CLONE_"))
    for name in REFUSED:
        run.equal(f"{name} is refused", results.get(name), "EINVAL")


def on_real(run: Run) -> None:
    """Clone with one flag after the other and ask kcmp(2); then try what must fail."""
    typed = run.real.type(run.real.program("sharer"))
    run.typed("sharer", typed.output)
    seen = table(typed.output + "\n")
    seen["none"] = next(line for line in typed.output.splitlines() if line.startswith("none:"))[5:].strip()
    run.equal("fork() (no flag) copies everything", seen["none"], "")
    for name, (_, member) in SHARING.items():
        if name != "CLONE_THREAD":                  # kcmp(2) knows no kind for signal_struct
            run.check(f"{name} shares {member}", member in seen[name].split(), seen[name])
    run.equal("CLONE_FILES shares the table and nothing else", seen["CLONE_FILES"], run.expect("files", "fs"))
    run.equal("CLONE_FS shares root, working directory and umask only", seen["CLONE_FS"], "fs")
    run.equal(
        "with CLONE_FILES the child's descriptor is the parent's too, without it is not",
        (seen["after CLONE_FILES, fd"], seen["after nothing, fd"]),
        ("open", "EBADF"),
    )
    run.equal(
        "with CLONE_FS the child's chdir() moves the parent, without it does not",
        (seen["after CLONE_FS, cwd"], seen["after nothing, cwd"]),
        ("/tmp", "/"),
    )
    for name in REFUSED:
        run.equal(f"{name} is refused", seen.get(name), "EINVAL")


def sharing(sys: Sys, argv: list[str]) -> None:
    """Clone with the given flags, say the child's pid, wait a little."""
    pid = sys.clone(resting, flags=int(argv[1], 0))
    sys.write(1, f"child {pid}\n".encode())
    sys.nanosleep(100_000_000)


def resting(sys: Sys) -> None:
    """Be there for a while."""
    sys.nanosleep(60_000_000)


def effects(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Let children open a file and change the directory, with and without sharing."""
    for name, flags in (("nothing", 0), ("CLONE_FILES", FILES), ("CLONE_FS", FS)):
        pid = sys.clone(acting, flags=flags | SIGCHLD)
        sys.waitpid(pid)
        try:
            sys.fcntl(9, 1)
            fd = "open"
        except OSError:
            fd = "EBADF"
        sys.puts(f"after {name}, fd: {fd}")
        sys.puts(f"after {name}, cwd: {sys.getcwd()}")
        if fd == "open":
            sys.close(9)


def acting(sys: Sys) -> None:
    """Open a file as descriptor 9, go to /tmp."""
    sys.dup2(sys.open("/dev/null"), 9)
    sys.chdir("/tmp")


def refused(sys: Sys, argv: list[str]) -> None:  # noqa: ARG001
    """Try what must fail."""
    for name, flags in REFUSED.items():
        try:
            sys.clone(resting, flags=flags | (0 if flags & THREAD else SIGCHLD))
            result = "no error"
        except OSError as error:
            result = {22: "EINVAL"}.get(error.errno or 0, str(error.errno))
        sys.puts(f"{name}: {result}")


LAB = Lab(
    name="clone-flags",
    title="what each clone flag shares, and which are refused",
    question="What does a child have in common with its parent, flag by flag?",
    look="which members of the two task_structs are one object, and their reference counts",
    answer=(
        "Each copy_…() of copy_process() looks at its flag.  Without it, it makes a copy of the structure; with "
        "it, it only raises the count of the parent's (CLONE_FILES: files.count) and both "
        "task_structs point to one.  Then what one does the other sees: descriptors, the working directory, signal "
        "actions, memory.  Threads share signal too.  Sharing has an order: "
        "CLONE_THREAD needs CLONE_SIGHAND, which needs CLONE_VM; anything else is EINVAL."
    ),
    scenario=scenario,
    real=on_real,
    real_note="Whether two tasks share something is asked with kcmp(2), which compares the kernel's pointers.",
    mutant=Mutant(
        "CLONE_FILES does not count", "kernel.fork:copy_files", "        oldf.count += 1\n", "        pass\n"
    ),
)
