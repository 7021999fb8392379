"""A life as a story: every line true, at its time, with its evidence; readable at 80 columns whatever happened."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lives_json import readable
from taskscope.recording import Recording
from taskscope.views.evidence import Evidence
from taskscope.views.story import story_text
from taskscope.views.text import width
from world import IDLE0, IDLE1, THREAD, Task, World

Make = Callable[..., World]
SH: Task = ("bash", 911)
PROG: Task = ("prog", 2042)

#: ``TIME CPU  WORD text [event]``
LINE = re.compile(r"^ *(\d+\.\d{6}) +(\d+)? +([A-Z…]+) +(.*?)(?: *\[([\w()]+)\])?$")


def killed(w: World) -> World:
    """A shell forks, the child execs, sleeps by a timer four times, is killed, reaped and freed."""
    w.switch(0, 0, "R", SH)
    w.fork(10, 0, ("bash", 2042))
    w.switch(73, 1, "R", ("bash", 2042), prev=IDLE1)
    w.exec(400, 1, "/bin/prog", "prog")
    for k in range(4):
        at = 500 + 3000 * k
        w.switch(at, 1, "S", IDLE1)
        w.waking(at + 2900, 1, PROG, flags="d.h2.", target=1)
        w.wakeup(at + 2901, 1, PROG, flags="dNh3.", target=1)
        w.switch(at + 2950, 1, "R", PROG)
    w.switch(12500, 1, "S", IDLE1)
    w.waking(13400, 0, PROG, target=1)
    w.wakeup(13401, 0, PROG, target=1)
    w.generate(13402, 0, 9, PROG)
    w.switch(13420, 1, "R", PROG)
    w.deliver(13425, 1, 9)
    w.exit(13460, 1)
    w.generate(13480, 1, 17, SH, code=2, result=1)
    w.switch(13490, 1, "Z", IDLE1)
    w.free(15000, 0, PROG)
    return w


def tell(w: World, task: str | int, **options: bool | int) -> str:
    """Open a world and tell one life."""
    trace = w.open()
    return story_text(trace.life(task), trace, **options)  # type: ignore[arg-type]


def entries(text: str) -> dict[str, str]:
    """Return the text of each entry by its word (of several equal ones the last), whitespace made single."""
    found: dict[str, str] = {}
    word = ""
    for line in text.splitlines():
        match = re.match(r"^ *[\d.?]+(?: +\d+)? +([A-Z…]+) +(.*)$", line)
        if match:
            word = match[1]
            found[word] = match[2]
        elif line.startswith(" " * 20) and word:
            found[word] += " " + line.strip()
        elif not line.strip():
            word = ""
    return {w: re.sub(r"\s+", " ", t) for w, t in found.items()}


def test_the_story_of_a_killed_process(world: Make) -> None:
    """Created, ran, exec, rhythm, signal, exit, zombie, freed: in order, with who, how long and by what."""
    text = tell(killed(world()), 2042)
    lines = text.splitlines()
    assert lines[0] == "prog 2042   lived 13.450 ms   killed by bash 911 with SIGKILL"
    assert lines[1] == "kernel not recorded, 2 cpus, 33 events, 0 lost, stamps of 1 us"
    words = [m[3] for m in map(LINE.match, lines) if m]
    assert words == ["CREATED", "RAN", "RHYTHM", "EXEC", "SIGNAL", "EXIT", "ZOMBIE", "REAPED", "FREED"]
    told = entries(text)
    assert told["CREATED"].startswith("by bash 911: fork [task_newtask] CHILD_CLEARTID|CHILD_SETTID")
    assert told["RAN"] == "first time, after waiting 61 us [sched_switch]"
    assert told["EXEC"] == "/bin/prog bash → prog [sched_process_exec]"
    assert "woken 5 times: 4 by an interrupt, every 3.000 ms; 1 by bash 911 [sched_waking]" in told["RHYTHM"]
    assert "× cut short by the signal" in told["RHYTHM"]
    assert "· sleeping (S) 12.505 ms, 5 times" in told["RHYTHM"]
    assert told["SIGNAL"].startswith("SIGKILL from bash 911: SI_USER [signal_generate]")
    assert told["SIGNAL"].endswith("delivered after 23 us, SIG_DFL [signal_deliver]")
    assert told["EXIT"].startswith("SIGKILL from bash 911 [sched_process_exit] wait status 0x0009: signal 9, no core")
    assert told["ZOMBIE"].startswith("sends SIGCHLD to bash 911 [signal_generate]")
    assert told["FREED"].startswith("in softirq [sched_process_free]")


def test_times_are_those_of_report(world: Make) -> None:
    """Each line stands at the stamp, and on the cpu, of a record that report shows."""
    w = killed(world())
    text = tell(w, 2042)
    recorded = w.text()
    checked = 0
    for line in text.splitlines():
        match = LINE.match(line)
        if match and match[5]:
            assert re.search(rf"\[{int(match[2]):03d}\] \S+ +{match[1]}: {match[5]}:", recorded), line
            checked += 1
    assert checked >= 7


@pytest.mark.limit(300)
@pytest.mark.parametrize(
    "name",
    [
        "d02-exit0-v6.dat",
        "d04-orphan-v6.dat",
        "d06-threads.dat",
        "d08-signals.dat",
        "d10-subreaper.dat",
        "d11-oom.dat",
        "d13-clones.dat",
        "d15-text-stack.trace.txt",
        "d18-raw4k",
        "d31-shellexec-612.dat",
        "d32-execthread-612.dat",
        "d34-tsc-612.dat",
        "d50-signals-be64.dat",
    ],
)
def test_every_story_of_a_recording(data: Path, name: str) -> None:
    """In every life of real recordings: lines fit 80 columns, and each event that is named stands in the recording."""
    trace = Recording.open(readable(data / name))
    evidence = Evidence(trace)
    stamps = {}
    for row, ts in enumerate(trace.source.index.ts.tolist()):
        shown = str(ts) if trace.clock.unit == "cycles" else f"{(ts + 500) // 1000 / 1e6:.6f}"
        stamps.setdefault(shown, []).append(row)
    line = re.compile(r"^ *(\d+(?:\.\d{6})?) +(\d+)? +([A-Z…]+) +(.*?)(?: *\[([\w()]+)\])?$")
    for life in trace.lives:
        text = story_text(life, trace)
        for one in text.splitlines():
            if not one.startswith(("Next:", "      taskscope")):
                assert width(one) <= 80, one
            match = line.match(one)
            if match and match[5]:
                rows = [r for r in stamps[match[1]] if match[2] is None or trace.source.index.cpu[r] == int(match[2])]
                assert match[5] in {evidence.name(r) for r in rows}, one


def test_verbose_shows_the_records(world: Make) -> None:
    """-v puts the record beneath its line, and nothing that the short story says is lost."""
    w = killed(world())
    text = tell(w, 2042, verbose=True)
    assert "| prog-2042    [001] ....." in text
    assert "signal_generate: sig=9 errno=0 code=0 comm=prog pid=2042 grp=1 res=0" in text


def test_colour_adds_nothing_but_colour(world: Make) -> None:
    """With colour the text is the same."""
    w = killed(world())
    plain = tell(w, 2042)
    coloured = tell(w, 2042, color=True)
    assert coloured != plain
    assert re.sub(r"\x1b\[[0-9]*m", "", coloured) == plain


@pytest.mark.parametrize("columns", [60, 100, 120])
def test_other_widths(world: Make, columns: int) -> None:
    """A story keeps to the width it is given."""
    text = tell(killed(world()), 2042, width=columns)
    assert all(width(x) <= columns for x in text.splitlines() if "taskscope" not in x)


def test_korean_names_line_up(world: Make) -> None:
    """Wide names are counted in cells: evidence still ends in column 80."""
    w = world()
    w.switch(0, 0, "R", ("셸", 911))
    w.fork(10, 0, ("셸", 2042))
    w.switch(73, 1, "R", ("셸", 2042), prev=IDLE1)
    w.exec(400, 1, "/usr/bin/한글", "한글")
    w.die(500, 1, ("셸", 911))
    text = tell(w, "한글")
    assert text.startswith("한글 2042   lived 490 us")
    tagged = [x for x in text.splitlines() if x.endswith("]")]
    assert len(tagged) > 5
    assert {width(x) for x in tagged} == {80}
    assert "셸 → 한글" in text


def test_hostile_names_are_escaped(world: Make) -> None:
    """Escape sequences and bidi overrides in names and file names do not reach the terminal."""
    w = world()
    w.switch(0, 0, "R", SH)
    w.fork(10, 0, ("bash", 2042))
    w.switch(73, 1, "R", ("bash", 2042), prev=IDLE1)
    w.exec(400, 1, "/tmp/\x1b[2J\u202e", "\x1b[31m\u202eevil")
    w.die(500, 1, SH)
    text = tell(w, 2042)
    assert "\\x1b[31m\\u202eevil" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_a_task_found_running_says_so(world: Make) -> None:
    """What was there before the recording has no birth: FOUND, and 'seen for', not 'lived'."""
    w = world()
    w.switch(10, 1, "S", IDLE1, prev=("daemon", 50))
    w.waking(500, 0, ("daemon", 50), target=1)
    w.wakeup(501, 0, ("daemon", 50), target=1)
    w.switch(520, 1, "R", ("daemon", 50))
    w.switch(900, 1, "S", IDLE1)
    text = tell(w, "daemon")
    assert text.startswith("daemon 50   seen for ")
    assert "alive when the recording ended" in text
    told = entries(text)
    assert told["FOUND"].startswith("was there before the recording [sched_switch]")
    assert told["END"] == "of the recording; the task is still there, in state S"
    assert "CREATED" not in told
    assert "EXIT" not in told


def test_stop_and_continue(world: Make) -> None:
    """SIGSTOP and SIGCONT: stopped for how long, and when it went on."""
    w = world()
    prog = ("prog", 2042)
    w.switch(0, 0, "R", SH)
    w.switch(1, 1, "R", prog, prev=IDLE1)
    w.generate(100, 0, 19, prog)
    w.deliver(110, 1, 19)
    w.switch(120, 1, "T", IDLE1)
    w.waking(2000, 0, prog, target=1)
    w.wakeup(2001, 0, prog, target=1)
    w.generate(2002, 0, 18, prog, result=1)
    w.switch(2010, 1, "R", prog)
    w.switch(2500, 1, "S", IDLE1)
    told = entries(tell(w, 2042))
    assert told["STOPPED"].startswith("state T, for 1.8")
    assert "[sched_switch]" in told["STOPPED"]
    assert told["CONTINUED"].startswith("runnable again [sched_wak")
    assert (
        told["SIGNAL"]
        == "SIGCONT from bash 911: SI_USER [signal_generate] ignored; SIGCONT continues a stopped task even so"
    )


def test_lost_events_are_told(world: Make) -> None:
    """Where the kernel lost events, a line says so, and the time is unknown rather than slept."""
    w = world()
    prog = ("prog", 2042)
    w.switch(0, 1, "R", prog, prev=IDLE1)
    w.switch(10, 0, "R", SH)
    w.waking(500, 1, SH)
    w.lose(1, 37)
    w.switch(5000, 1, "S", IDLE1, prev=prog)
    w.switch(5100, 0, "S", IDLE0)
    text = tell(w, 2042)
    told = entries(text)
    assert told["LOST"].startswith("37 events of cpu 1 up to 100.005000")
    assert "? unknown" in told["RHYTHM"]


def test_threads_and_children_are_listed(world: Make) -> None:
    """The leader's story ends in its threads, the creator's in its children; a thread says whose it is."""
    w = world()
    w.switch(0, 0, "R", SH)
    for k in range(15):
        w.fork(10 + 10 * k, 0, ("bash", 1000 + k))
    for k in range(3):
        w.fork(500 + 10 * k, 0, ("bash", 3000 + k), THREAD)
    text = tell(w, 911)
    assert re.search(r"^Threads  3: bash 3000, bash 3001, bash 3002$", text, re.MULTILINE)
    assert "Children 15: bash 1000," in text
    assert "and 3 more (-v)" in text
    assert "and 3 more" not in tell(w, 911, verbose=True)
    thread = tell(w, 3001)
    assert thread.startswith("{bash} 3001")
    assert entries(thread)["CREATED"].startswith("by bash 911: a thread of group 911 [task_newtask]")
    assert "SYSVSEM" in thread


def test_hundreds_of_signals_and_execs_stay_readable(world: Make) -> None:
    """Many alike are folded into one entry that counts them; -v shows all."""
    w = world()
    w.switch(0, 0, "R", SH)
    w.switch(1, 1, "R", ("prog", 2042), prev=IDLE1)
    for k in range(300):
        w.generate(100 + 10 * k, 0, 10, ("prog", 2042))
        w.deliver(103 + 10 * k, 1, 10, handler=0x400123)
        w.exec(105 + 10 * k, 1, f"/bin/p{k}", "prog")
    for k in range(30):
        w.generate(4000 + 10 * k, 0, 17, ("prog", 2042), code=1, result=1)
    text = tell(w, 2042)
    assert text.count("\n") < 50
    assert "and 299 more like it" in text
    assert "and 29 more like it" in text
    assert "295 more programs, up to" in text
    whole = tell(w, 2042, verbose=True)
    assert whole.count("SIGUSR1 from bash 911") == 300
    assert whole.count("EXEC") == 300
    assert "more" not in whole.split("Next")[0]


def test_a_thread_that_execs(data: Path) -> None:
    """After execve by another thread, the story of the pid says which thread took it over."""
    trace = Recording.open(data / "d32-execthread-612.dat")
    text = story_text(trace.life(208), trace)
    assert "execve by thread 211, which takes over pid 208" in text


def test_inferences_are_marked(data: Path) -> None:
    """What was concluded says so in the line below it."""
    trace = Recording.open(data / "d05-zombie.dat")
    life = trace.life(158)
    assert life.reaped is not None
    assert life.reaped.inferred
    text = story_text(life, trace)
    assert "(inferred: " in text


def test_python_prints_the_same(data: Path) -> None:
    """``print(life)`` gives the text that the command gives."""
    trace = Recording.open(data / "d05-zombie.dat")
    life = trace.life(159)
    assert str(life) == story_text(life, trace)
