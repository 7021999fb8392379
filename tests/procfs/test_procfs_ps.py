"""``taskscope ps`` beside procps' ps: byte for byte, on tasks that hold still and on the host's kernel threads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from conftest import ROOT
from procfs_ns import Namespace, environment

pytestmark = [
    pytest.mark.skipif(shutil.which("ps") is None, reason="there is no ps (procps) here"),
    pytest.mark.real,
]
FORMS = (
    "-ely", "-ejH", "axjf", "-eLf", "-ef", "-el", "-eF", "aux", "axl", "axs", "auxf",
    "-eo pid,ppid,pgid,sid,tpgid,tty,stat,comm",
    "-eo pid,lstart,start,stime,bsdstart,time,times,bsdtime,args",
    "-eo uid,euid,ruid,suid,fuid,gid,egid,rgid,user,ruser,group,rgroup,pid",
    "-eo pri,opri,priority,pri_foo,pri_bar,pri_baz,pri_api,ni,cls,class,policy,sched,rtprio,nlwp,pid",
    "-eo rss,vsz,sz,pmem,minflt,maj_flt,pid,wchan,fname,ucmd", "-eo pending,tsig,blocked,ignored,caught,pid",
    "-eo pidns,mntns,netns,userns,utsns,ipcns,cgroupns,pid", "-eo cgroup,pid",
    "-eo pid=NUMBER,stat=,user:3,comm:20,cmd",
    "-eo pid= -o comm=", "-e --sort -pid -o pid,comm", "-e --sort ppid,-comm -o pid,ppid,comm", "-eo pid,f,flags,addr",
    "-eLo pid,lwp,comm,stat,psr",
)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """A PID namespace of tasks that hold still."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a PID namespace needs root and unshare")
    namespace = Namespace(tmp_path_factory.mktemp("ns"))
    yield namespace
    namespace.close()


def ours() -> list[str]:
    """Return the command line of taskscope as this interpreter runs it."""
    return ["env", f"PYTHONPATH={ROOT / 'src'}", sys.executable, "-m", "taskscope.cli.main", "ps", "-q"]


def others(lines: list[str], newest: int = 1) -> list[str]:
    """Leave out who does not hold still: the newest processes, which wrote the table, and init, which made them."""
    names = lines[0].split()
    at = next((names.index(name) for name in ("PID", "NUMBER") if name in names), None)
    head, rest = ([], lines) if at is None else (lines[:1], lines[1:])
    pids = [int(line.split()[at or 0]) for line in rest]
    return head + [line for line, pid in zip(rest, pids, strict=True) if pid not in (1, *sorted(set(pids))[-newest:])]


@pytest.mark.parametrize("form", FORMS)
def test_a_quiet_namespace(form: str, quiet: Namespace) -> None:
    """Each form prints of tasks that hold still what ps prints, headers, blanks and all."""
    for _ in range(3):
        expected = others(quiet.run("ps", *form.split()))
        shown = others(quiet.run(*ours(), *form.split()))
        if shown == expected:
            return
    assert shown == expected
    assert len(expected) > 15


@pytest.mark.parametrize("form", ["-ely", "-ejH", "axjf", "-eLf", "-eo pid,wchan,cls,rtprio,psr,stat,lstart,comm"])
def test_the_kernel_threads_of_this_host(form: str) -> None:
    """Kernel threads that do not work just now stand in the table of this host as ps has them."""
    def table(*command: str) -> list[str]:
        ran = subprocess.run([*command, *form.split()], capture_output=True, text=True, timeout=60, check=True,
                             env=environment())
        return [line for line in ran.stdout.splitlines() if "kworker/u" not in line and "rcu" not in line]

    for _ in range(4):
        before, shown, after = table("ps"), table(*ours()), table("ps")
        still = [line for line in before if line in after]
        names = ("kthreadd", "migration", "cpuhp", "ksoftirqd")
        kernel = [line for line in still if any(name in line for name in names)]
        assert len(kernel) > 4
        missing = [line for line in kernel if line not in shown]
        if not missing:
            return
    assert missing == []


def test_a_terminal_of_80_cells(quiet: Namespace) -> None:
    """On a terminal lines are cut where ps cuts them; columns that 80 cells are too few for take a second row."""
    for form in ("axjf", "-eLf", "-ely", "-eo pid,lstart,args,lstart,lstart,cmd"):
        script = ("import os,pty,sys\n"
                  "def go(*command):\n"
                  "    def read(fd):\n"
                  "        data = os.read(fd, 4096)\n"
                  "        return data.replace(b'\\r', b'')\n"
                  "    pty.spawn(command, read)\n"
                  "go(*sys.argv[1:])\n")
        path = quiet.folder / "spawn.py"
        path.write_text(script)
        spawn, options = (sys.executable, str(path)), ("--no-pager", "--color", "never")
        expected = others(quiet.run(*spawn, "ps", *form.split()), 2)
        shown = others(quiet.run(*spawn, *ours(), *options, *form.split()), 2)
        assert shown == expected
