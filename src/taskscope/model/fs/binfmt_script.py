"""The format of scripts: fs/binfmt_script.c, v4.19: a file that begins with ``#!`` names the program that reads it."""

from __future__ import annotations

from errno import ENOEXEC
from typing import TYPE_CHECKING

import taskscope.model.fs.exec as exec_
import taskscope.model.fs.file_table as file_table
from taskscope.model.include.linux.fs import allow_write_access

if TYPE_CHECKING:
    from taskscope.model.fs.exec import LinuxBinprm


def load_script(bprm: LinuxBinprm) -> int:
    """Load the interpreter that the first line names, with at most one argument, in place of the script."""
    if not bprm.buf.startswith(b"#!"):
        return -ENOEXEC
    # The first line must end within the buffer.
    line, newline, _ = bprm.buf[2:].partition(b"\n")
    if not newline and len(bprm.buf) >= exec_.BINPRM_BUF_SIZE and b" " not in line.strip(b" \t"):
        return -ENOEXEC
    words = line.strip(b" \t").split(None, 1)
    if not words:
        return -ENOEXEC
    interp = words[0].decode(errors="surrogateescape")
    # OK, we've parsed out the interpreter name and (optional) argument.  Splice in (1) the interpreter's name for
    # argv[0], (2) (optional) argument to interpreter, (3) filename of shell script (replace argv[0]).
    allow_write_access(bprm.file)
    file_table.fput(bprm.file)
    bprm.file = None
    bprm.argv = [interp, *(word.decode(errors="surrogateescape") for word in words[1:]), bprm.interp, *bprm.argv[1:]]
    bprm.interp = interp
    file = exec_.do_open_execat(interp)
    if isinstance(file, int):
        return file
    bprm.file = file
    retval = exec_.prepare_binprm(bprm)
    if retval < 0:
        return retval
    return exec_.search_binary_handler(bprm)
