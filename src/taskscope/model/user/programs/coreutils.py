"""The small programs of /bin.

Whoami, cat, sleep, true, false, kill, echo, ls, cp, mv, mkdir, rm, chmod, id, uname, yes, head, grep, wc.
"""

from __future__ import annotations

import os
from stat import S_ISDIR

from taskscope.abi.signal import signal_number
from taskscope.model.user.libc import Sys


def whoami(sys: Sys, argv: list[str]) -> int:
    """Print the effective user's name, from /etc/passwd."""
    del argv
    uid = sys.geteuid()
    for line in sys.slurp("/etc/passwd").decode().splitlines():
        fields = line.split(":")
        if len(fields) > 2 and fields[2] == str(uid):
            sys.puts(fields[0])
            return 0
    sys.perror(f"whoami: cannot find name for user ID {uid}")
    return 1


def cat(sys: Sys, argv: list[str]) -> int:
    """Copy files, or standard input, to standard output."""
    status = 0
    for name in argv[1:] or ["-"]:
        try:
            fd = 0 if name == "-" else sys.open(name)
            while data := sys.read(fd, 131072):
                sys.write_all(1, data)
            if fd:
                sys.close(fd)
        except OSError as error:
            sys.perror(f"cat: {name}: {error.strerror}")
            status = 1
    return status


def sleep(sys: Sys, argv: list[str]) -> int:
    """Sleep so many seconds."""
    try:
        seconds = sum(float(arg) for arg in argv[1:])
    except ValueError:
        sys.perror(f"sleep: invalid time interval '{argv[1]}'")
        return 1
    if len(argv) < 2:
        sys.perror("sleep: missing operand")
        return 1
    sys.nanosleep(round(seconds * 1_000_000_000))
    return 0


def true(sys: Sys, argv: list[str]) -> int:
    """Succeed."""
    del sys, argv
    return 0


def false(sys: Sys, argv: list[str]) -> int:
    """Fail."""
    del sys, argv
    return 1


def kill(sys: Sys, argv: list[str]) -> int:
    """Send a signal: kill [-SIG] PID…."""
    sig = 15
    args = argv[1:]
    if args and args[0].startswith("-"):
        name = args.pop(0)[1:]
        number = int(name) if name.isdigit() else signal_number(name)
        if number is None:
            sys.perror(f"kill: unknown signal {name}")
            return 1
        sig = number
    status = 0
    for arg in args:
        try:
            sys.kill(int(arg), sig)
        except OSError as error:
            sys.perror(f"kill: sending signal to {arg} failed: {error.strerror}")
            status = 1
        except ValueError:
            sys.perror(f"kill: failed to parse argument: '{arg}'")
            status = 1
    return status


def echo(sys: Sys, argv: list[str]) -> int:
    """Print the arguments."""
    args = argv[1:]
    newline = not (args and args[0] == "-n")
    sys.printf("%s", " ".join(args if newline else args[1:]) + ("\n" if newline else ""))
    return 0


def ls(sys: Sys, argv: list[str]) -> int:
    """List directories, one name a line."""
    names = [arg for arg in argv[1:] if not arg.startswith("-")] or ["."]
    status = 0
    for name in names:
        try:
            found = sorted(sys.listdir(name)) if S_ISDIR(sys.stat(name).st_mode) else [name]
        except OSError as error:
            sys.perror(f"ls: cannot access '{name}': {error.strerror}")
            status = 2
            continue
        for one in found:
            sys.puts(one)
    return status


def _into(sys: Sys, source: str, target: str) -> str:
    """Return where a file goes: into `target` if that is a folder."""
    try:
        if S_ISDIR(sys.stat(target).st_mode):
            return target.rstrip("/") + "/" + source.rpartition("/")[2]
    except OSError:
        pass
    return target


def cp(sys: Sys, argv: list[str]) -> int:
    """Copy one file."""
    args = [arg for arg in argv[1:] if not arg.startswith("-")]
    if len(args) != 2:
        sys.perror("cp: usage: cp SOURCE TARGET")
        return 1
    try:
        source = sys.open(args[0])
        target = sys.open(_into(sys, *args), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, sys.fstat(source).st_mode & 0o777)
        while data := sys.read(source, 131072):
            sys.write_all(target, data)
    except OSError as error:
        sys.perror(f"cp: cannot copy '{args[0]}' to '{args[1]}': {error.strerror}")
        return 1
    return 0


def mv(sys: Sys, argv: list[str]) -> int:
    """Rename one file."""
    args = [arg for arg in argv[1:] if not arg.startswith("-")]
    if len(args) != 2:
        sys.perror("mv: usage: mv SOURCE TARGET")
        return 1
    try:
        sys.rename(args[0], _into(sys, *args))
    except OSError as error:
        sys.perror(f"mv: cannot move '{args[0]}' to '{args[1]}': {error.strerror}")
        return 1
    return 0


def mkdir(sys: Sys, argv: list[str]) -> int:
    """Make folders."""
    status = 0
    for name in argv[1:]:
        try:
            sys.mkdir(name)
        except OSError as error:
            sys.perror(f"mkdir: cannot create directory '{name}': {error.strerror}")
            status = 1
    return status


def rm(sys: Sys, argv: list[str]) -> int:
    """Remove files."""
    status = 0
    for name in argv[1:]:
        if name == "-f":
            continue
        try:
            sys.unlink(name)
        except OSError as error:
            if "-f" not in argv:
                sys.perror(f"rm: cannot remove '{name}': {error.strerror}")
                status = 1
    return status


def chmod(sys: Sys, argv: list[str]) -> int:
    """Set permissions: chmod MODE FILE…, MODE in octal or +x."""
    status = 0
    for name in argv[2:]:
        try:
            mode = sys.stat(name).st_mode | 0o111 if argv[1] == "+x" else int(argv[1], 8)
            sys.chmod(name, mode & 0o7777)
        except OSError as error:
            sys.perror(f"chmod: cannot access '{name}': {error.strerror}")
            status = 1
    return status


def id_(sys: Sys, argv: list[str]) -> int:
    """Print the user's and the group's number."""
    del argv
    sys.puts(f"uid={sys.getuid()} gid={sys.getgid()}")
    return 0


def uname(sys: Sys, argv: list[str]) -> int:
    """Print what kernel runs; -r its release, -m the machine, -a all."""
    sysname, nodename, release, version, machine = sys.uname()
    flags = "".join(arg[1:] for arg in argv[1:] if arg.startswith("-")) or "s"
    values = {"s": sysname, "n": nodename, "r": release, "v": version, "m": machine}
    sys.puts(" ".join(value for flag, value in values.items() if flag in flags or "a" in flags))
    return 0


def yes(sys: Sys, argv: list[str]) -> int:
    """Print y for ever."""
    line = ((" ".join(argv[1:]) or "y") + "\n").encode()
    while True:
        sys.write_all(1, line)


def head(sys: Sys, argv: list[str]) -> int:
    """Print the first lines: head [-n N | -N]."""
    count, names = 10, []
    args = argv[1:]
    while args:
        arg = args.pop(0)
        if arg == "-n" and args:
            count = int(args.pop(0))
        elif arg.startswith("-") and arg[1:].isdigit():
            count = int(arg[1:])
        else:
            names.append(arg)
    fd = sys.open(names[0]) if names else 0
    left = b""
    while count > 0 and (data := sys.read(fd, 1024)):
        left += data
        while count > 0 and b"\n" in left:
            line, _, left = left.partition(b"\n")
            sys.write_all(1, line + b"\n")
            count -= 1
    return 0


def grep(sys: Sys, argv: list[str]) -> int:
    """Print the lines that contain a fixed text: grep [-v] TEXT [FILE…]."""
    args = [arg for arg in argv[1:] if arg not in ("-v", "-F")]
    if not args:
        sys.perror("grep: usage: grep [-v] TEXT [FILE]...")
        return 2
    found = False
    for name in args[1:] or ["-"]:
        try:
            data = sys.read_all(0) if name == "-" else sys.slurp(name)
        except OSError as error:
            sys.perror(f"grep: {name}: {error.strerror}")
            return 2
        for line in data.decode(errors="replace").splitlines():
            if (args[0] in line) != ("-v" in argv):
                found = True
                sys.puts(line)
    return 0 if found else 1


def wc(sys: Sys, argv: list[str]) -> int:
    """Count lines, words and bytes; -l lines only."""
    names = [arg for arg in argv[1:] if not arg.startswith("-")]
    for name in names or ["-"]:
        data = sys.read_all(0) if name == "-" else sys.slurp(name)
        shown = f" {name}" if names else ""
        if "-l" in argv:
            sys.puts(f"{data.count(10)}{shown}")
        else:
            sys.puts(f"{data.count(10)} {len(data.split())} {len(data)}{shown}")
    return 0
