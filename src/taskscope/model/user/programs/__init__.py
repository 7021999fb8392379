"""What runs on the machine: the programs in its /bin, put there by `install`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Program = Callable[..., Any]


def programs() -> dict[str, Program]:
    """Return the programs by their paths."""
    from taskscope.model.user.programs import coreutils as c
    from taskscope.model.user.programs import init, kmod, ps, raspbian, sh, strace

    in_bin = {
        "bash": sh.main,
        "sh": sh.main,
        "ps": ps.main,
        "whoami": c.whoami,
        "cat": c.cat,
        "sleep": c.sleep,
        "true": c.true,
        "false": c.false,
        "kill": c.kill,
        "echo": c.echo,
        "ls": c.ls,
        "cp": c.cp,
        "mv": c.mv,
        "mkdir": c.mkdir,
        "rm": c.rm,
        "chmod": c.chmod,
        "id": c.id_,
        "uname": c.uname,
        "yes": c.yes,
        "head": c.head,
        "grep": c.grep,
        "wc": c.wc,
        "insmod": kmod.insmod,
        "lsmod": kmod.lsmod,
        "strace": strace.main,
        "raspbian_proc": raspbian.raspbian_proc,
        "raspbian_exit": raspbian.raspbian_exit,
        "raspbian_fork": raspbian.raspbian_fork,
    }
    return {"/sbin/init": init.main, **{f"/bin/{name}": program for name, program in in_bin.items()}}


def install() -> None:
    """Put the programs and what they read into the root file system; called when it has been mounted.

    A program's file has the function that the loader runs; reading it gives its source text (fs/ramfs/inode.py).
    """
    import taskscope.model.fs.super as super_

    for path, program in programs().items():
        install_program(path, program)
    super_.kern_file("/etc/passwd", b"root:x:0:0:root:/root:/bin/bash\npi:x:1000:1000:pi:/home/pi:/bin/bash\n")
    super_.kern_mkdir("/home/pi")
    super_.kern_mkdir("/usr/bin")


def install_program(path: str, program: Program) -> None:
    """Put one program in."""
    import taskscope.model.fs.super as super_

    inode = super_.kern_file(path, b"", 0o755)
    inode.i_program = program
