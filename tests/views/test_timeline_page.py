"""The timeline page in a headless Chromium, from disk: zoom, search, choose, follow, themes, millions of slices."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import Browser, browser
from conftest import DATA, ROOT
from taskscope.recording import Recording
from taskscope.views.timeline.mips import Lanes, levels
from taskscope.views.timeline.pack import Column, pack
from taskscope.views.timeline.page import page

RECORDING = ROOT / "examples/recordings/raspbian_proc.dat"
PANEL = "taskscope.panels[0]"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser."""
    with browser() as found:
        yield found


def show(chromium: Browser, path: Path, recordings: list[dict[str, Any]]) -> None:
    """Open a page from disk and wait until it has drawn itself."""
    path.write_text(page(recordings))
    chromium.call("Page.navigate", url="about:blank")
    chromium.call("Page.navigate", url=f"file://{path}")
    chromium.until("document.documentElement?.dataset.ready === '1'")


@pytest.fixture(scope="module")
def lives(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Browser:
    """The page of the demo's recording."""
    trace = Recording.open(RECORDING)
    show(chromium, tmp_path_factory.mktemp("page") / "lives.html", [pack(trace.lives, "raspbian_proc.dat")])
    return chromium


def key(chromium: Browser, name: str) -> None:
    """Press a key."""
    for kind in ("keyDown", "keyUp"):
        chromium.call("Input.dispatchKeyEvent", type=kind, key=name, text=name if len(name) == 1 else "")


def chosen(chromium: Browser) -> str:
    """Return the name and pid of the chosen task."""
    return str(chromium.run(f"(p => p.chosen < 0 ? '' : p.recording.tasks[p.chosen].name + ' ' + "
                            f"p.recording.tasks[p.chosen].label)({PANEL})"))


def test_it_begins_with_who_was_killed(lives: Browser) -> None:
    """The page opens from disk and tells the story of a task that was killed."""
    assert chosen(lives) == "raspbian_proc 157"
    story = lives.run("document.getElementById('story').textContent")
    assert "CREATED" in story
    assert "SIGKILL from bash 156" in story
    assert lives.run("document.querySelectorAll('[role=treeitem]').length") == 18
    assert lives.run("document.querySelector('[aria-selected=true]').getAttribute('aria-label')").startswith(
        "raspbian_proc 157, process, SIGKILL")


def test_a_lane_ends_where_its_task_was_reaped(lives: Browser) -> None:
    """A task's lane goes from its birth to its reaping, and the page says how long that was."""
    life = Recording.open(RECORDING).life("raspbian_proc")
    assert life.born is not None
    assert life.reaped is not None
    begin, end = lives.run(f"(t => [t.from, t.to])({PANEL}.recording.tasks.find(t => t.label === '157'))")
    start = lives.run(f"{PANEL}.recording.start")
    assert (begin + start, end + start) == (life.born.at, life.reaped.at)
    assert f"seen for {(end - begin) / 1e9:.6f} s" in lives.run("document.getElementById('story').textContent")


def test_zoom_by_keys_and_wheel(lives: Browser) -> None:
    """W and s zoom around the middle, a and d move, 0 shows all, a wheel with Ctrl zooms where the pointer is."""
    whole = lives.run(f"{PANEL}.win.span")
    key(lives, "0")
    key(lives, "w")
    assert lives.run(f"{PANEL}.win.span") == pytest.approx(whole * 0.7)
    before = lives.run(f"{PANEL}.win.from")
    key(lives, "d")
    assert lives.run(f"{PANEL}.win.from") > before
    key(lives, "0")
    assert lives.run(f"{PANEL}.win.span") == whole
    lives.call("Input.dispatchMouseEvent", type="mouseWheel", x=600, y=300, deltaX=0, deltaY=-400, modifiers=2)
    lives.until(f"{PANEL}.win.span < {whole * 0.8}")
    key(lives, "0")


def test_search_and_choose(lives: Browser) -> None:
    """A name, a pid or an event finds tasks; arrow keys choose the next; a click on a lane chooses its task."""
    lives.run("document.getElementById('find').focus()")
    lives.call("Input.insertText", text="whoami")
    lives.until("document.getElementById('found').textContent === '1 found'")
    key(lives, "Enter")
    assert chosen(lives) == "whoami 158"
    key(lives, "Escape")
    key(lives, "ArrowDown")
    assert chosen(lives) == "sleep 159"
    lives.run("taskscope.find('sched_process_exec')")
    assert int(lives.run("document.getElementById('found').textContent.split(' ')[0]")) >= 3
    box = lives.run(f"(r => [r.y, {PANEL}.rows.rowOf({PANEL}.recording.tasks.findIndex(t => t.label === '157')).y])"
                    "(document.querySelector('.lanes').getBoundingClientRect())")
    for kind in ("mousePressed", "mouseReleased"):
        lives.call("Input.dispatchMouseEvent", type=kind, x=600, y=box[0] + box[1] + 8, button="left", clickCount=1)
    assert chosen(lives) == "raspbian_proc 157"


def test_a_story_and_an_arrow_lead_to_their_moment(lives: Browser) -> None:
    """A line of the story brings its moment into the middle; hovering an arrow there tells who did what to whom."""
    at = lives.run("""(() => {
        const item = [...document.querySelectorAll('#story li')].find(one => one.textContent.includes('CREATED'));
        item.click();
        return Number(item.querySelector('time').textContent.slice(1)) * 1e9;
    })()""")
    middle = lives.run(f"({PANEL}.win.from + {PANEL}.win.to) / 2")
    span = lives.run(f"{PANEL}.win.span")
    assert abs(middle - at) <= span / 2 + 1000
    assert lives.run(f"{PANEL}.win.from") <= at <= lives.run(f"{PANEL}.win.to") + 1000
    told = lives.run(f"""(() => {{
        {PANEL}.now();
        const mine = {PANEL}.drawn.find(one => {PANEL}.recording.arrows.kind[one.k] === 0);
        return {PANEL}.about(mine.x, (mine.y1 + mine.y2) / 2);
    }})()""")
    assert told.startswith("fork: bash 156 → raspbian_proc 157")
    assert "CHILD_CLEARTID" in told
    assert "copy_process" in told
    assert re.fullmatch(r"#0,\d+,\d+,157", lives.run("location.hash"))
    key(lives, "]")
    assert lives.run(f"({PANEL}.win.from + {PANEL}.win.to) / 2") > middle
    key(lives, "0")


def test_a_link_leads_to_a_moment(lives: Browser) -> None:
    """What stands behind # in the address brings back the window and the task."""
    lives.run("location.hash = '#0,1000000000,2000000000,158'")
    lives.until(f"{PANEL}.win.from === 1000000000")
    assert lives.run(f"{PANEL}.win.to") == 2000000000
    assert chosen(lives) == "whoami 158"
    key(lives, "0")


def test_folding(lives: Browser) -> None:
    """A parent's children fold away and come back, by keys too; the list says so to screen readers."""
    lives.run(f"{PANEL}.choose({PANEL}.recording.tasks.findIndex(t => t.label === '156'))")
    rows = lives.run(f"{PANEL}.rows.rows.length")
    key(lives, "ArrowLeft")
    assert lives.run(f"{PANEL}.rows.rows.length") == rows - 3
    lives.run(f"{PANEL}.now()")
    assert lives.run("document.querySelector('[aria-expanded=false]') !== null")
    key(lives, "ArrowRight")
    assert lives.run(f"{PANEL}.rows.rows.length") == rows


def test_dark_and_light(lives: Browser) -> None:
    """T turns the page dark and light; both can be read: text against its ground has a contrast of 7 and more."""
    script = """(() => {
        const of = (name) => getComputedStyle(document.body)[name].match(/\\d+/g).slice(0, 3).map(Number);
        const light = (rgb) => rgb.map(c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4 })
            .reduce((sum, c, k) => sum + c * [.2126, .7152, .0722][k], 0);
        const [a, b] = [light(of('color')), light(of('backgroundColor'))].sort((x, y) => y - x);
        return [document.documentElement.dataset.theme, (a + .05) / (b + .05)];
    })()"""
    first, contrast = lives.run(script)
    key(lives, "t")
    second, other = lives.run(script)
    assert {first, second} == {"dark", "light"}
    assert min(contrast, other) > 7
    key(lives, "t")


def test_hostile_names_are_text(chromium: Browser, tmp_path: Path) -> None:
    """HTML, escape sequences and right-to-left marks in names are shown, and do nothing."""
    trace = Recording.open(DATA / "d05-zombie.dat")
    packed = pack(trace.lives, "<img src=x onerror=alert(1)>")
    for row in packed["tasks"]:
        row[3] = "<b onmouseover=alert(1)>\\x1b[31m\\u202e"
    show(chromium, tmp_path / "hostile.html", [packed])
    assert chromium.run("document.querySelectorAll('img, b[onmouseover]').length") == 0
    assert "<b onmouseover" in chromium.run("document.querySelector('[role=treeitem]').textContent")
    assert chromium.run("document.getElementById('title').textContent") == "<img src=x onerror=alert(1)>"


def test_lost_events_and_two_recordings(chromium: Browser, tmp_path: Path) -> None:
    """Lost events are told where they are; of two recordings both are shown, and zoomed alike."""
    one, two = (Recording.open(DATA / name) for name in ("d12-overrun.dat", "d08-signals.dat"))
    show(chromium, tmp_path / "two.html", [pack(one.lives, "one"), pack(two.lives, "two")])
    assert chromium.run("taskscope.panels.length") == 2
    assert "events lost in" in chromium.run("document.getElementById('about').textContent")
    lost = chromium.run(f"""(() => {{
        const [from, to] = {PANEL}.recording.lost[0];
        const box = document.querySelector('.lanes').clientWidth;
        {PANEL}.win.show(from - 1000, to + 1000);
        {PANEL}.now();
        return {PANEL}.about({PANEL}.win.x((from + to) / 2, box), 60);
    }})()""")
    assert "events were lost here" in lost
    chromium.run(f"{PANEL}.win.show(0, 1e8); {PANEL}.move()")
    assert chromium.run("taskscope.panels[1].win.span") == chromium.run(f"{PANEL}.win.span")


def test_two_million_slices(chromium: Browser, tmp_path: Path) -> None:
    """A page of two million slices opens, and draws itself at every zoom; how long a frame takes is measured in it."""
    packed = many(2_000_000, 64)
    packed["arrows"]["left"] = 7
    show(chromium, tmp_path / "many.html", [packed])
    frames = chromium.run(f"""(() => {{
        const found = [];
        for (const part of [1, .3, .1, .01, .001, 1e-5]) {{
            {PANEL}.win.show({PANEL}.recording.length * .4, {PANEL}.recording.length * (.4 + part));
            {PANEL}.now();
            found.push(Math.min({PANEL}.now(), {PANEL}.now(), {PANEL}.now()));
        }}
        return found;
    }})()""")
    assert "7 later wakeups are not in this page" in chromium.run("document.getElementById('about').textContent")
    # On a machine without a graphics card; bench/timeline.py tells the figures. Here it must only be usable.
    assert max(frames) < 100, frames


def lanes(slices: int, tasks: int) -> dict[str, Column]:
    """Return the lanes of a recording with so many slices, on all levels."""
    rng = np.random.default_rng(1)
    each = slices // tasks
    at = np.concatenate([np.append(0, np.cumsum(rng.integers(1000, 200_000, each))) for _ in range(tasks)])
    code = rng.integers(0, 4, len(at)).astype(np.uint8)
    bounds = np.arange(tasks + 1, dtype=np.int64) * (each + 1)
    code[bounds[1:] - 1] = 10
    length = int(at.max())
    cpu = Lanes(np.array([0, length], np.int64), np.full(2, 0xFFFFFFFF, np.uint32), np.array([0, 2], np.int64))
    return {"task": Column(levels(Lanes(at.astype(np.int64), code, bounds)), "u1"),
            "cpu": Column(levels(cpu), "<u4")}


def many(slices: int, tasks: int, columns: dict[str, Column] | None = None) -> dict[str, Any]:
    """Return the packed data of a recording with so many slices; the outline of lanes that are given."""
    made = columns or lanes(slices, tasks)
    length = int(made["cpu"].levels[0].at[1])
    empty = base64.b64encode(zlib.compress(b"")).decode()
    none = {"n": 0, "lo": empty, "hi": empty}
    return {
        "title": "many", "lab": None, "start": 0, "length": length, "cpus": [0], "kernel": "", "events": slices,
        "tasks": [[k + 1, str(k + 1), "process", f"task{k}", 0, -1, 0, length, False, False, "", False, []]
                  for k in range(tasks)],
        "lost": [], **{f"{name}Levels": column.whole() if columns is None else column.outline()
                       for name, column in made.items()},
        "irqs": none | {"cpu": empty, "dur": empty, "name": empty, "soft": empty, "names": []},
        "arrows": none | {"kind": empty, "by": empty, "to": empty, "texts": [], "left": 0}, "stories": {}, "notes": [],
    }


def test_a_lab_stands_beside_its_recording(chromium: Browser, tmp_path: Path) -> None:
    """The question of a lab and what was checked stand beside the lanes of its run."""
    trace = Recording.open(DATA / "d05-zombie.dat")
    lab = {"question": "Who reaps?", "look": "the end", "answer": "The parent.",
           "checks": [["it is a zombie", True, ""], ["nobody reaps it", False, "bash"]]}
    show(chromium, tmp_path / "lab.html", [pack(trace.lives, "zombie", lab=lab)])
    assert chromium.run("document.querySelectorAll('#lab .ok').length") == 1
    assert "nobody reaps it" in chromium.run("document.querySelector('#lab .bad').textContent")
    assert json.loads(chromium.run("JSON.stringify(document.getElementById('lab').hidden)")) is False
