"""Lab ``fork-gdb``: a debugger stops fork() right before the instruction that enters the kernel."""

from __future__ import annotations

import shlex
import shutil
import socket
import tempfile
from pathlib import Path
from typing import Any

from taskscope.abi.decode import decode
from taskscope.abi.ptrace import PtraceOption, PtraceRequest
from taskscope.abi.syscalls import table as syscalls_of
from taskscope.errors import UsageError
from taskscope.labs.evidence import ordered, table
from taskscope.labs.lab import Lab, Run
from taskscope.labs.mutant import Mutant
from taskscope.labs.programs import SOURCES, build
from taskscope.model.user.libc import Sys

FLAGS = 0x0120_0011
#: by machine: the register of the call's number, of its first argument, of its result, and where each is in struct user
_REGISTERS = {"arm": (("r7", 28), ("r0", 0), ("r0", 0)), "x86_64": (("rax", 120), ("rdi", 112), ("rax", 80))}
#: by gdb's name of a machine: clone's number there, the registers, and the instruction
_MACHINES = {"i386:x86-64": (56, "rax", "rdi", "syscall"), "aarch64": (220, "x8", "x0", "svc #0x0"),
             "arm": (120, "r7", "r0", "svc 0")}
_ON_ARM = ("gdb-multiarch", "qemu-arm", "arm-linux-gnueabihf-gcc")
_SIGTRAP, _SIGSTOP = 5, 19
_WALL = 0x4000_0000


def scenario(run: Run) -> None:
    """Trace the notes' program by ptrace(2), as gdb does, and stop it where clone() enters the kernel."""
    k = run.boot()
    k.trace()
    number = 56 if run.new else 120
    entry = "do_syscall_64" if run.new else "vector_swi"
    entered: list[tuple[int, tuple[Any, ...]]] = []
    stacks: list[list[str]] = []
    with (
        k.probe(entry, lambda nr, args: entered.append((nr, args)),
                lambda nr, args: nr == number and k.running().comm == "raspbian_fork"),
        k.probe(run.name("_do_fork"), lambda *_: stacks.append(k.running_stack()),
                lambda *_: k.running().comm == "raspbian_fork"),
    ):
        p = k.spawn(debugger, str(number), name="gdb")
        p.wait()
    seen = table(p.text)
    run.show(seen_lines(seen), "in the debugger")
    (number_in, first_in, result_in) = _REGISTERS["x86_64" if run.new else "arm"]
    run.equal(f"{number_in[0]} holds the number of clone in this architecture's table", seen.get("number"),
              f"{number_in[0]} {number}")
    told = int(seen.get("number", "x 0").split()[1])
    call = syscalls_of("x86_64" if run.new else "arm").by_number.get(told)
    run.equal("that is sys_clone", call and call.name, "clone")
    run.equal(f"{first_in[0]} holds the flags of the C library's fork()", seen.get("flags"),
              f"{first_in[0]} {FLAGS:#010x}")
    flags = int(seen.get("flags", "x 0").split()[1], 0)
    run.equal("they are CLONE_CHILD_SETTID, CLONE_CHILD_CLEARTID and SIGCHLD", clone_text(flags),
              "CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD")
    run.show(stacks[0] if stacks else [], f"the kernel's stack at {run.name('_do_fork')}")
    run.check(f"the instruction enters the kernel in {entry}(), with the number and these arguments",
              [(nr, args[0]) for nr, args in entered] == [(number, FLAGS)], entered)
    way = [run.name("_do_fork"), run.name("sys_clone")]
    run.check(f"which calls {way[1]}() through the table, and that {way[0]}()",
              ordered(stacks[0] if stacks else [], way), stacks)
    child = seen.get("result", "").rpartition(" ")[2]
    run.check(f"behind it {result_in[0]} is the child's pid, and 0 in the child",
              child.isdigit() and seen.get("child") == f"{child} finds {result_in[0]} 0", seen)


def debugger(sys: Sys, argv: list[str]) -> None:
    """Run raspbian_fork as gdb would; say what its registers are at clone(), and behind it in both."""
    wanted = int(argv[1])
    number, first, result = _REGISTERS["x86_64" if sys.uname()[4] == "x86_64" else "arm"]
    pid = sys.clone(traced)
    sys.waitpid(pid)
    sys.ptrace(PtraceRequest.PTRACE_SETOPTIONS, pid, 0,
               PtraceOption.PTRACE_O_TRACESYSGOOD | PtraceOption.PTRACE_O_TRACEFORK)
    inside, found, child = False, False, 0
    sys.ptrace(PtraceRequest.PTRACE_SYSCALL, pid)
    while True:
        who, status = sys.waitpid(-1, _WALL)
        if status & 0xFF != 0x7F:
            if who == pid:
                return
            continue
        sig = status >> 8 & 0xFF
        if who != pid:
            # The child, where it first would run.
            child = who
            continue
        if sig == _SIGTRAP | 0x80:
            inside = not inside
            found = found or (inside and sys.ptrace_get(PtraceRequest.PTRACE_PEEKUSR, pid, number[1]) == wanted)
            if found:
                told = sys.ptrace_get(PtraceRequest.PTRACE_PEEKUSR, pid, (number if inside else result)[1])
                if inside:
                    sys.puts(f"number: {number[0]} {told}")
                    sys.puts(f"flags: {first[0]} {sys.ptrace_get(PtraceRequest.PTRACE_PEEKUSR, pid, first[1]):#010x}")
                else:
                    sys.puts(f"result: {result[0]} {told}")
                    break
        sys.ptrace(PtraceRequest.PTRACE_SYSCALL, who)
    while not child:
        child, _ = sys.waitpid(-1, _WALL)
    at = sys.ptrace_get(PtraceRequest.PTRACE_PEEKUSR, child, result[1])
    sys.puts(f"child: {child} finds {result[0]} {at}")
    for one in (pid, child):
        sys.kill(one, 9)
        sys.waitpid(one, _WALL)


def traced(sys: Sys) -> None:
    """Become raspbian_fork, traced."""
    sys.ptrace(PtraceRequest.PTRACE_TRACEME)
    sys.execve("/bin/raspbian_fork", ["raspbian_fork", "1"])


def clone_text(flags: int) -> str:
    """Write the first argument of clone: flags, and the signal of the end in the low byte."""
    return decode("clone", [str(flags)])[0].text


def seen_lines(seen: dict[str, str]) -> list[str]:
    """Write what a debugger saw, the flags taken apart."""
    return [f"{name + ':':<13}{text}" + (f" = {clone_text(int(text.split()[1], 16))}" if name == "flags" else "")
            for name, text in seen.items()]


def on_real(run: Run) -> None:
    """Let gdb step the C program to the instruction, on this machine, and on ARM in qemu-arm where that is here."""
    if shutil.which("gdb") is None:
        raise UsageError("lab fork-gdb needs gdb: sudo apt-get install gdb")
    script = shlex.quote(str(SOURCES / "fork.gdb"))
    program = run.real.program("raspbian_fork")
    looked(run, "gdb, on this machine", run.real.type(f"gdb -nx -batch -q -x {script} --args {program} 1").output)
    missing = [name for name in _ON_ARM if shutil.which(name) is None]
    if missing:
        run.show(f"not looked at on ARM, for which {', '.join(missing)} is not here: sudo apt-get install "
                 "gdb-multiarch qemu-user gcc-arm-linux-gnueabihf libc6-dev-armhf-cross")
        return
    with tempfile.TemporaryDirectory(prefix="taskscope-gdb-") as folder:
        path = Path(folder) / "raspbian_fork"
        path.write_bytes(build("raspbian_fork", "armv7l"))
        path.chmod(0o755)
        quoted, port = shlex.quote(str(path)), free_port()
        typed = run.real.type(f"qemu-arm -g {port} {quoted} 1 & sleep 0.5; gdb-multiarch -nx -batch -q -ex "
                              f"'target remote :{port}' -x {script} {quoted}; kill $! 2>/dev/null; wait")
    looked(run, "gdb, on 32-bit ARM in qemu-arm", typed.output)


def free_port() -> int:
    """Return a port of the loopback device that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def looked(run: Run, title: str, output: str) -> None:
    """Check what a debugger saw."""
    seen = table("\n".join(line[5:] for line in output.splitlines() if line.startswith("seen ")))
    run.show(seen_lines(seen) if seen else output, title)
    name = seen.get("machine", "")
    number, numbered, first, instruction = _MACHINES.get(name, (0, "?", "?", "?"))
    run.equal(f"{name}: the library's fork() comes to an instruction that enters the kernel", seen.get("instruction"),
              instruction)
    run.check(f"{name}: on the way main() -> fork() -> _Fork()", ordered(seen.get("way", "").split(" <- "),
                                                                       ["_Fork", "fork", "main"]), seen)
    run.equal(f"{name}: {numbered} holds the number of clone", seen.get("number"), f"{numbered} {number}")
    run.equal(f"{name}: {first} holds CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD", seen.get("flags"),
              f"{first} {run.expect(FLAGS, 17):#010x}")
    result = seen.get("result", "0").rpartition(" ")[2]
    run.check(f"{name}: behind it the parent has the child's pid", result.isdigit() and int(result) > 1, result)


LAB = Lab(
    name="fork-gdb",
    title="fork() in a debugger, up to the instruction that enters the kernel",
    question="What stands in the registers when fork() enters the kernel, and by which instruction does it?",
    look="the number of the call, its flags, the instruction, and the result behind it",
    answer=(
        "The C library's fork() ends in a system call.  On 32-bit ARM it puts the number into r7 (120, 0x78: "
        "sys_clone) and the arguments into r0 and following, and executes svc 0: a supervisor call, which the CPU "
        "takes through the vector table to vector_swi, in supervisor mode, on the task's kernel stack. "
        " vector_swi looks r7 up in sys_call_table.  On x86-64 the number is 56, in rax, the instruction is "
        "syscall, and it enters at entry_SYSCALL_64, which calls do_syscall_64().  The first argument, "
        "0x01200011, is CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD: the notes read the same number out "
        "of the library's code.  There is one instruction and one call, and it returns twice: with the child's "
        "pid, and with 0 in the child."
    ),
    scenario=scenario,
    real=on_real,
    places=("host",),
    real_note=(
        "gdb steps the C program from fork() on, instruction by instruction, until the next one enters the "
        "kernel.  The same on 32-bit ARM, in qemu-arm, where gdb-multiarch and a compiler for it are installed: "
        "r7 is 120 there."
    ),
    mutant=Mutant(
        "a tracer is shown the wrong register",
        "arch.arm.kernel.ptrace:ptrace_read_user",
        "        return put_user(words[n], data)\n",
        "        return put_user(words[n ^ 1], data)\n",
    ),
    later=Mutant(
        "a tracer is shown the wrong register",
        "arch.x86.kernel.ptrace:getreg",
        "        return put_user(regs.words()[_ARGS.index(n)], data)\n",
        "        return put_user(regs.words()[_ARGS.index(n) ^ 1], data)\n",
    ),
)
