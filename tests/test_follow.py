"""Following a recording as its pages come must tell what the lives of the whole recording tell."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import taskscope
from lives_json import readable
from replay import at_once, follower_of, in_rounds, pages_of, rounds, source_of
from taskscope.lives.happenings import Execed, Exited, Forked, Happening, Killed, Lost, OfTask
from taskscope.lives.judge import HANDED_OVER
from taskscope.lives.life import Life
from taskscope.views.follow import json_line, line
from taskscope.views.times import Times

DATA = Path(__file__).parent / "data"
PAGES = sorted([*DATA.glob("d*.dat"), *DATA.glob("d*.dat.xz"),
                *(p for p in DATA.glob("d*") if (p / "header_page").exists())])
#: of every kind: bits, byte order, page size, losses, exec from a thread, oom, pid reuse
CUT = [p for p in PAGES if p.name.startswith(("d08", "d12", "d19", "d32", "d37", "d51", "d53", "d61", "d62", "d70"))]


def _id(path: Path) -> str:
    return path.name.split(".")[0]


each = pytest.mark.parametrize("path", PAGES, ids=_id)


@cache
def lives_of_pages(path: Path) -> tuple[Life, ...]:
    """Return the lives of the buffer that is followed."""
    return tuple(taskscope.open(readable(path), buffer=source_of(path).buffers[0]).lives)


@cache
def followed(path: Path, threads: bool = True) -> tuple[Happening, ...]:
    """Return what the follower tells of a recording."""
    return tuple(at_once(path, threads=threads))


def _recorded(path: Path, event: str) -> bool:
    source = source_of(path)
    numbers = [t.index for t in source.types if t.name == event]
    return bool(np.isin(source.index.type, numbers).any())


def _same_tgid(life: Life, told: OfTask) -> bool:
    # Where lives infer it, the follower leaves it open.
    return told.tgid == life.tgid or (told.tgid is None and any("tgid" in i for i in life.inferred))


def test_there_are_recordings_to_follow() -> None:
    """The tests below run over recordings of every kind."""
    assert len(PAGES) >= 25
    assert len(CUT) == 10


@each
def test_births_are_those_of_the_lives(path: Path) -> None:
    """Every birth that the lives know is told once, with the same time, creator, flags and kind of creation."""
    born = {(x.born.at, x.pid): x for x in lives_of_pages(path) if x.born is not None}
    told = [h for h in followed(path) if isinstance(h, Forked)]
    assert sorted((h.at, h.pid) for h in told) == sorted(born)
    for h in told:
        life = born[h.at, h.pid]
        assert life.born is not None
        assert (h.how, h.clone_flags, h.by.pid if h.by else None) == (
            life.born.how, life.born.clone_flags, life.born.by.pid if life.born.by else None)
        assert _same_tgid(life, h)


@each
def test_execs_are_those_of_the_lives(path: Path) -> None:
    """Every exec is told once, with the program and the names before and after."""
    lives = lives_of_pages(path)
    expected = sorted((e.at, x.pid, e.filename, e.old_pid) for x in lives for e in x.execs)
    told = [h for h in followed(path) if isinstance(h, Execed)]
    assert sorted((h.at, h.pid, h.filename, h.old_pid) for h in told) == expected
    for h in told:
        life = next(x for x in lives if x.pid == h.pid and any(e.at == h.at for e in x.execs))
        if _recorded(path, "task_rename"):
            assert h.comm == [c for c in life.comms if c.at <= h.at][-1].comm
        else:
            # The kernel names it after the program, but nothing recorded says so.
            assert h.comm is None


@each
def test_deaths_are_those_of_the_lives(path: Path) -> None:
    """Every death is told once, with the code, signal, core flag, cause and killer that the lives conclude."""
    told = [h for h in followed(path) if isinstance(h, Exited)]
    for life in lives_of_pages(path):
        end = life.exit
        if end is None:
            continue
        # A process ends with its last thread, a life with its own exit.  A thread that called execve gave its pid up
        # somewhat before sched_process_exec.
        mine = [h for h in told if h.pid == life.pid and (
            h.at == end.at or (h.at > end.at and (h.kind == "process" or HANDED_OVER in h.inferred)))]
        assert mine, f"the death of {life.pid} at {end.at} is not told"
        h = min(mine, key=lambda x: x.at)
        told.remove(h)
        assert (h.code, h.signal, h.core, h.cause, h.killer.pid if h.killer else None) == (
            end.code, end.signal, end.core, end.cause, end.killer.pid if end.killer else None)
        if life.born is not None:
            assert h.lived == h.at - life.born.at
    assert not told


@each
def test_signals_are_those_of_the_lives(path: Path) -> None:
    """Every signal that a task sent another on purpose is told, but those that are ignored."""
    expected = sorted((s.at, x.pid, s.sig, s.sender.pid if s.sender else None) for x in lives_of_pages(path)
                      for s in x.signals if s.code <= 0 and (s.result != 1 or s.sig == 18))
    assert sorted((h.at, h.pid, h.sig, h.sender.pid if h.sender else None)
                  for h in followed(path) if isinstance(h, Killed)) == expected


@each
def test_only_processes_are_told_unless_threads_are_asked_for(path: Path) -> None:
    """Without threads, what is told is the same less the births and deaths of threads."""
    fewer = [h for h in followed(path) if not (isinstance(h, Forked | Exited) and h.kind == "thread")]
    assert list(followed(path, threads=False)) == fewer


@each
def test_time_goes_on(path: Path) -> None:
    """Happenings come in order of time, and nothing is late where all pages came at once."""
    times = [h.at for h in followed(path)]
    assert times == sorted(times)
    assert not any(h.late for h in followed(path))


def test_losses_are_told_with_their_count() -> None:
    """Where pages say that events were lost, how many and on which cpu is told."""
    path = next(p for p in PAGES if p.name.startswith("d12"))
    expected = [(g.end, g.cpu, g.count) for g in source_of(path).gaps]
    assert [(h.at, h.cpu, h.count) for h in followed(path) if isinstance(h, Lost)] == expected
    assert expected


@pytest.mark.parametrize("path", CUT, ids=_id)
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_how_it_is_read_does_not_matter(path: Path, data: st.DataObject) -> None:
    """Reading at any moments, pages partly filled, cpus in any order: what is told is the same, in the same order."""
    ts = source_of(path).index.ts
    some = data.draw(st.lists(st.integers(int(ts.min()), int(ts.max())), max_size=12))
    seed = Random(data.draw(st.integers(0, 1 << 32)))
    told = in_rounds(path, rounds(path, some), lambda chunks: _mixed(chunks, seed), threads=True)
    assert told == list(followed(path))


def _mixed(chunks: list[tuple[int, bytes]], seed: Random) -> list[tuple[int, bytes]]:
    """Put the pages of several cpus into another order that keeps that of each cpu."""
    turns = [cpu for cpu, _ in chunks]
    seed.shuffle(turns)
    of = {cpu: iter([page for c, page in chunks if c == cpu]) for cpu in set(turns)}
    return [(cpu, next(of[cpu])) for cpu in turns]


def test_what_was_fed_is_told_two_rounds_later() -> None:
    """A record is held until a round has read every cpu past it, and not longer."""
    path = next(p for p in PAGES if p.name.startswith("d19"))
    follower = follower_of(path)
    for cpu, pages in pages_of(path).items():
        follower.feed(cpu, b"".join(pages))
    assert follower.take() == []
    follower.tick(0.0)
    assert follower.take() == []
    follower.tick(0.1)
    told = follower.take()
    follower.tick(1.0)
    # The very last death waits for a signal to the parent that might come.
    told += follower.take()
    assert told == list(followed(path, threads=False))
    assert follower.end() == []


def test_a_late_page_is_marked() -> None:
    """Records of a cpu that was not read before a tick said so come behind later ones, and say that they do."""
    path = next(p for p in PAGES if p.name.startswith("d19"))
    pages = pages_of(path)
    first, last = min(pages), max(pages)
    assert first != last
    follower = follower_of(path, threads=True)
    follower.feed(first, b"".join(pages[first]))
    follower.tick(0.0)
    follower.tick(0.1)
    early = follower.take()
    follower.feed(last, b"".join(pages[last]))
    late = follower.end()
    index = source_of(path).index
    until = int(index.ts[index.cpu == first].max())
    assert not any(h.late for h in early)
    assert all(h.late == (h.cpu == last and h.at < until) for h in late)
    assert any(h.late for h in late)


@pytest.mark.parametrize("path", CUT, ids=_id)
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_damaged_pages_are_survived(path: Path, data: st.DataObject) -> None:
    """Whatever is wrong in the pages, following goes on, and what it tells can be shown in both forms."""
    follower = follower_of(path, threads=True)
    seed = Random(data.draw(st.integers(0, 1 << 32)))
    rate = data.draw(st.sampled_from([0.0005, 0.005, 0.05]))
    for cpu, pages in pages_of(path).items():
        for page in pages[:30]:
            # The header stays: else most pages are refused as a whole.
            spoilt = bytearray(page)
            for _ in range(int(rate * len(page)) + 1):
                spoilt[seed.randrange(16, len(page))] = seed.choice((0, 1, 9, 0x7F, 0x80, 0xFF, seed.randrange(256)))
            follower.feed(cpu, spoilt)
            if seed.random() < 0.1:
                follower.tick(0.0)
    for happening in [*follower.take(), *follower.end()]:
        assert line(happening, Times()).isprintable()
        assert json.loads(json_line(happening))["event"] == happening.event
