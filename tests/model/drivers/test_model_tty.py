"""Terminals: lines, job control, hanging up."""

from __future__ import annotations


def test_prompt_and_echo(k):
    """What is typed is shown, what programs print too, and the prompt comes when the shell waits."""
    terminal = k.terminal()
    assert terminal.type("echo hello") == "echo hello\nhello\n$ "


def test_background_job(k):
    """A job in the background has a process group of its own; its end is told at the next prompt."""
    terminal = k.terminal()
    out = terminal.type("sleep 1 &")
    assert "[1] " in out
    sleeper = k.pids("sleep")[0]
    rows = {t.pid: t for t in k.ps().tasks}
    assert rows[sleeper].pgid == sleeper
    assert rows[sleeper].tpgid == terminal.process.pid
    k.run(s=2)
    assert "[1]+  Done" in terminal.type("")


def test_interrupt_key(k):
    """^C kills the foreground group and leaves the shell and the background alone."""
    terminal = k.terminal()
    terminal.type("sleep 100 &")
    terminal.type("sleep 200", s=0.1)
    assert len(k.pids("sleep")) == 2
    terminal.keys("\x03")
    assert len(k.pids("sleep")) == 1
    assert terminal.idle()
    assert terminal.type("echo $?").splitlines()[1] == "130"


def test_stop_and_continue(k):
    """^Z stops the foreground group (T); fg lets it go on, with the terminal."""
    terminal = k.terminal()
    terminal.type("sleep 5", s=0.1)
    assert "Stopped" in terminal.keys("\x1a", s=0.1)
    sleeper = k.pids("sleep")[0]
    assert k.task(sleeper).row.state == "T"
    terminal.type("fg", s=0.1)
    assert k.task(sleeper).row.state == "S"
    assert k.task(sleeper).row.tpgid == sleeper
    k.run(s=6)
    assert terminal.idle()


def test_background_read_stops(k):
    """A background job that reads the terminal is stopped by SIGTTIN."""
    terminal = k.terminal()
    terminal.type("cat &")
    k.run(s=0.1)
    reader = k.pids("cat")[0]
    assert k.task(reader).row.state == "T"


def test_end_of_file(k):
    """^D on an empty line is an end of file: the shell exits."""
    terminal = k.terminal()
    terminal.keys("\x04", s=0.5)
    assert k.find(terminal.process.pid) is None
    assert "exit" in terminal.text


def test_hangup(k):
    """When the terminal goes, its session leader and the foreground group get SIGHUP."""
    terminal = k.terminal()
    terminal.type("sleep 100", s=0.1)
    terminal.close()
    k.run(s=0.5)
    assert k.pids("sleep") == []
    assert k.find(terminal.process.pid) is None


def owner(sys, argv):
    sys.puts(f"{sys.isatty(0)} {sys.getsid() == sys.getpid()}")
    try:
        sys.open("/dev/tty")
        sys.puts("has a controlling terminal")
    except OSError as error:
        sys.puts(f"errno {error.errno}")


def test_daemons_have_no_controlling_terminal(k, ran):
    """Who opens a terminal with O_NOCTTY does not get it as controlling terminal: /dev/tty is ENXIO."""
    assert ran(owner) == (0, "True True\nerrno 6\n")
    from taskscope.model.drivers.tty import tty_io

    with k.current():
        tty = tty_io.pty_open()
    process = k.spawn(owner, name="owner2", tty=tty)
    process.wait()
    assert process.text == "True True\nhas a controlling terminal\n"
