"""`taskscope lives` against what the recorded workloads themselves wrote down."""

from __future__ import annotations

import lzma
import re
from itertools import pairwise
from pathlib import Path

import pytest

from conftest import DATA, sweep_folder
from facts import Evidence, disagreements, evidence_of, facts_of, parse
from lives_json import Row, cached_lives, readable, recordings

#: Recordings with the exit status in them: a kprobe on do_exit (tl:do_exit), or the exit_group system call.
CODES = {"d03-shellexec", "d04-orphan-v6", "d08-signals", "d11-oom", "d31-shellexec-612"}
#: … with the returns of wait4: a kretprobe on kernel_wait4 (tl:wait4_ret), or the system call.
REAPERS = {"d03-shellexec", "d04-orphan-v6", "d08-signals", "d11-oom", "d31-shellexec-612"}
#: The ring overwrote the first half of this one: 226 of 468 entries are left.
OVERWRITTEN = {"d15-text-stack"}
#: Two gaps of cpu 1 near the end.
LOSSY = {"d12-overrun"}
#: perf leaves a task at its exit, and did not follow interrupts: no SIGCHLD, no SIGALRM is in it.
PARTIAL = {"d80-perf-script-signals"}

SHIPPED = [p for p in recordings(DATA) if facts_of(p)]
_folder = sweep_folder()
SWEPT = [p for p in recordings(_folder) if facts_of(p) and not (DATA / p.name).exists()] if _folder else []


def stem(recording: Path) -> str:
    """Return the recording's name without its endings."""
    return recording.name.split(".")[0]


def evidence(recording: Path) -> Evidence:
    """Return what the recording can show: by name for those listed above, from its events for any other."""
    name = stem(recording)
    if recording.parent == DATA:
        whole = name not in OVERWRITTEN
        return Evidence(
            code=name in CODES, reaper=name in REAPERS, births=whole, ends=whole and name not in LOSSY | PARTIAL
        )
    import taskscope

    trace = taskscope.open(readable(recording))
    have = (event.split(":")[1] for event in trace.counts)
    return evidence_of(have, births=not trace.lost, ends=not trace.lost)


def by_pid(lives: tuple[Row, ...], pid: int, generation: int = 0) -> Row:
    """Return one life."""
    return next(r for r in lives if (r["pid"], r["generation"]) == (pid, generation))


@pytest.mark.parametrize("recording", SHIPPED + SWEPT, ids=stem)
def test_lives_agree_with_what_the_workload_wrote_down(recording: Path) -> None:
    """Creators, signals, statuses, reapers, new parents are those the workload saw; null only if allowed."""
    written = facts_of(recording)
    assert written is not None
    facts = parse(written.read_text())
    assert facts
    assert disagreements(facts, list(cached_lives(recording)), evidence(recording)) == []


def test_every_kind_of_container_is_among_the_recordings() -> None:
    """The facts are checked through trace.dat 6 and 7, raw pages, tracefs text and perf script text."""
    names = {stem(p) for p in SHIPPED}
    assert {
        "d04-orphan-v6",
        "d08-signals",
        "d06-threads",
        "d14-instances",
        "d50-signals-be64",
        "d60-signals-32",
        "d18-raw4k",
        "d37-raw16k-612",
        "d53-raw-be64",
        "d62-raw-32",
        "d71-host618-orphan",
        "d15-text-stack",
        "d16-text-tgid",
        "d17-text-latency",
        "d80-perf-script-signals",
    } <= names


# The signals workload ends five children in ways that its own log names only by role.
SIGNALS = [p for p in SHIPPED if "signals" in p.name and stem(p) not in PARTIAL]


def roles(recording: Path) -> dict[str, int]:
    """Return role -> pid of the children of a workload."""
    written = facts_of(recording)
    assert written is not None
    return {f.words["role"]: f.num("child") for f in parse(written.read_text()) if f.verb == "fork"}


@pytest.mark.parametrize("recording", SIGNALS, ids=stem)
def test_a_timer_signal_has_no_sender(recording: Path) -> None:
    """SIGALRM comes from the timer interrupt: the task that it interrupted is not the killer."""
    life = by_pid(cached_lives(recording), roles(recording)["alarm"])
    assert life["exit"]["signal"] == 14
    assert life["exit"]["killer"] is None
    assert [s["from"] for s in life["signals"] if s["sig"] == 14] == [None]


@pytest.mark.parametrize("recording", SIGNALS, ids=stem)
def test_parent_death_signal_kills_in_the_name_of_the_parent(recording: Path) -> None:
    """A child with PR_SET_PDEATHSIG is killed by its dying parent's SIGHUP, and adopted by another task."""
    role = roles(recording)
    life = by_pid(cached_lives(recording), role["pdeath_child"])
    assert life["exit"]["signal"] == 1
    assert life["exit"]["killer"]["pid"] == role["pdeath_parent"]
    adopters = {a["by"]["pid"] for a in life["adopted"] if a["by"]}
    assert role["pdeath_parent"] not in adopters


@pytest.mark.parametrize("recording", SIGNALS, ids=stem)
def test_a_fault_is_no_murder(recording: Path) -> None:
    """SIGSEGV and SIGABRT are raised by the victim itself: nobody else is the killer; no core was dumped."""
    role = roles(recording)
    for name, sig in (("segv", 11), ("abort", 6)):
        ended = by_pid(cached_lives(recording), role[name])["exit"]
        assert (ended["signal"], ended["core"], ended["cause"]) == (sig, False, "signal")
        assert ended["killer"] is None or ended["killer"]["pid"] == role[name]


@pytest.mark.parametrize("recording", SIGNALS, ids=stem)
def test_a_stopped_task_is_stopped_between_the_two_signals(recording: Path) -> None:
    """Between SIGSTOP and SIGCONT (200 ms) the task counts as stopped, and it dies by SIGKILL alone."""
    life = by_pid(cached_lives(recording), roles(recording)["stopcont"])
    assert 150_000_000 < life["time"]["stopped"] < 400_000_000
    assert [s["sig"] for s in life["signals"] if s["from"]] == [19, 18, 9]
    assert life["exit"]["signal"] == 9


def test_what_perf_did_not_record_is_unknown(data: Path) -> None:
    """A fatal signal that nobody saw being generated is delivered as 9: which it was is null, not 9."""
    recording = data / "d80-perf-script-signals.txt"
    lives, role = cached_lives(recording), roles(recording)
    ends = {name: by_pid(lives, role[name])["exit"]["signal"] for name in role}
    assert (ends["segv"], ends["abort"], ends["term_default"], ends["stopcont"]) == (11, 6, 15, 9)
    assert ends["sigpipe_writer"] == 13
    assert ends["alarm"] is None
    assert ends["pdeath_child"] is None
    assert ends["term_handler"] is None


def test_the_oom_killer_is_named(data: Path) -> None:
    """A task that oom:mark_victim names and SIGKILL ends has cause ``oom``."""
    ended = by_pid(cached_lives(data / "d11-oom.dat"), 117)["exit"]
    assert (ended["cause"], ended["signal"], ended["code"]) == ("oom", 9, None)


def test_zombie_time_is_that_of_the_workload(data: Path) -> None:
    """The child reaped after 2.5 s is a zombie for about that long, the killed one for about 0.7 s."""
    for name, first, second in (
        ("d05-zombie.dat", 158, 159),
        ("d33-zombie-612-v6.dat", 225, 226),
        ("d53-raw-be64", 144, 145),
    ):
        lives = cached_lives(data / name)
        assert 2.4e9 < by_pid(lives, first)["time"]["zombie"] < 2.9e9
        assert 0.6e9 < by_pid(lives, second)["time"]["zombie"] < 1.1e9


def test_pids_that_come_back_are_lives_of_their_own(data: Path) -> None:
    """Few pids serve the 350 children of the fork storm: each life has its own birth, exit and release."""
    lives = [r for r in cached_lives(data / "d19-storm.dat") if r["born"]]
    assert len(lives) == 350
    assert max(r["generation"] for r in lives) >= 1
    for pid in {r["pid"] for r in lives}:
        same = sorted((r for r in lives if r["pid"] == pid), key=lambda r: r["generation"])
        for old, new in pairwise(same):
            assert old["exit"] is not None
            assert old["born"]["at"] < old["exit"]["at"] < new["born"]["at"]
            if old["freed"] and new["freed"]:
                assert old["freed"]["at"] < new["freed"]["at"]


def test_every_storm_child_has_its_own_exit(data: Path) -> None:
    """Each of the 350 children exits by itself, reports to the storm, and none is taken for killed."""
    lives = [r for r in cached_lives(data / "d19-storm.dat") if r["born"]]
    assert {(r["exit"]["cause"], r["exit"]["signal"]) for r in lives} == {("exit", None)}
    assert {r["born"]["by"]["pid"] for r in lives} == {305}


def test_vfork_blocks_the_parent(data: Path) -> None:
    """While its vfork child sleeps 150 ms before exec, the parent is in uninterruptible sleep."""
    lives = cached_lives(data / "d07-vfork-v6.dat.xz")
    assert by_pid(lives, 182)["time"]["blocked"] > 140_000_000


STACKS = [p for p in SHIPPED if (DATA / f"{stem(p)}.report.txt.xz").exists()]


@pytest.mark.parametrize("recording", STACKS, ids=stem)
def test_stacks_hold_only_what_was_on_the_stack(recording: Path) -> None:
    """Each frame of a birth or an exit is a symbol that trace-cmd too shows in a stack of the same recording."""
    with lzma.open(DATA / f"{stem(recording)}.report.txt.xz", "rt", errors="surrogateescape") as text:
        shown = {m[1] for m in re.finditer(r"^ ?=> (\S+)", text.read(), re.MULTILINE)}
    for life in cached_lives(recording):
        for part in (life["born"], life["exit"]):
            strange = {frame.split("+")[0] for frame in (part and part["stack"]) or []} - shown
            assert not strange, (life["pid"], part["stack"])


def test_a_clone_flag_is_shown_as_the_event_has_it(data: Path) -> None:
    """clone_flags are those of task_newtask, without the exit signal."""
    lives = cached_lives(data / "d13-clones.dat")
    flags = {pid: by_pid(lives, pid)["born"]["clone_flags"] for pid in (275, 276, 277, 278, 279)}
    assert flags[275] == 0x20000000  # CLONE_NEWPID
    assert flags[276] == 0x1200000  # fork()
    assert flags[277] & 0x8000  # CLONE_PARENT
    assert flags[278] & 0x100  # CLONE_VM
    assert not flags[279] & 0xFF
