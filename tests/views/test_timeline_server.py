"""A timeline that is served: the page asks for what it shows, and nobody else gets anything."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from test_timeline_page import PANEL, lanes, many

from browser import Browser, browser
from conftest import DATA, ROOT
from taskscope.recording import Recording
from taskscope.views.timeline.pack import PIECE, Pages, has
from taskscope.views.timeline.server import TimelineServer

RECORDING = ROOT / "examples/recordings/raspbian_proc.dat"
SLICES, TASKS = 1_500_000, 4


class Many(Pages):
    """A recording of many slices, which nobody has recorded."""

    def __init__(self) -> None:
        self.levels = lanes(SLICES, TASKS)
        self.asked: list[int] = []
        self.gone = False

    def outline(self) -> dict[str, Any]:
        """See `Pages.outline`."""
        return many(SLICES, TASKS, self.levels)

    def story(self, task: int) -> list[list[Any]]:
        """See `Pages.story`."""
        self.asked.append(task)
        if self.gone:
            raise IndexError(task)
        return [[5, 0, "RAN", [[f"the story of {task}", None]]]]

    def having(self, event: str, seconds: float = 3.0) -> tuple[list[int], bool]:  # noqa: ARG002
        """See `Pages.having`."""
        return [], True

    def wakes(self, task: int, after: int, before: int) -> list[list[int]]:
        """See `Pages.wakes`."""
        return [[(after + before) // 2, task, (task + 1) % TASKS]]


@contextmanager
def served(*recordings: Pages) -> Iterator[TimelineServer]:
    """Serve recordings meanwhile."""
    with TimelineServer(recordings) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


@pytest.fixture(scope="module")
def small() -> Iterator[TimelineServer]:
    """Serve the demo's recording."""
    with served(Pages(Recording.open(RECORDING).lives, "raspbian_proc.dat")) as server:
        yield server


def ask(server: TimelineServer, path: str, host: str | None = None) -> tuple[int, bytes]:
    """Return status and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        connection.request("GET", path, headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(("path", "status"), [
    ("/", 200), ("/index.html", 200), ("/level/0/task/0/0", 200), ("/story/0/0", 200), ("/wakes/0/3/0/9999999", 200),
    ("/level/1/task/0/0", 404), ("/level/0/disk/0/0", 404), ("/level/0/task/99/0", 404), ("/level/0/task/0/9999", 404),
    ("/story/0/99999", 404), ("/story/0", 404), ("/etc/passwd", 404), ("/../../etc/passwd", 404), ("/favicon.ico", 404),
    ("/level/0/task/-1/0", 400), ("/level/0/task/0/1e3", 400), ("/story/0/٣", 400), ("/story/0/" + "9" * 40, 400),
    ("/wakes/0/0/x/1", 400),
])
def test_what_is_answered(small: TimelineServer, path: str, status: int) -> None:
    """What there is is given; what there is not is 404, and what is no number 400: nothing else is read."""
    from urllib.parse import quote

    assert ask(small, quote(path))[0] == status


def test_a_browser_that_goes_away_is_no_news(small: TimelineServer, capfd: pytest.CaptureFixture[str]) -> None:
    """Who hangs up in the middle of an answer is not talked about, and the next one is answered."""
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", small.port)) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{small.port}\r\n\r\n".encode())
            one.recv(10)
    assert ask(small, "/")[0] == 200
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "",
                                  "[::1]:{port}"])
def test_only_its_own_name_is_answered(small: TimelineServer, host: str) -> None:
    """Who asks by another name gets nothing: a page from elsewhere could lead its name here (DNS rebinding)."""
    assert ask(small, "/", host.format(port=small.port))[0] == 403
    assert ask(small, "/", f"localhost:{small.port}")[0] == 200


def test_a_port_that_is_taken(small: TimelineServer) -> None:
    """A port that is taken is said."""
    with pytest.raises(OSError, match="in use"):
        TimelineServer(small.recordings, small.port)


def test_pieces_are_the_level(small: TimelineServer) -> None:
    """The pieces of a level, put together, are its columns."""
    levels = lanes(200_000, 3)
    for kind, wide in (("task", 1), ("cpu", 4)):
        for level, lane in enumerate(levels[kind].levels):
            at, code = [], []
            for number in range(max((len(lane.at) + PIECE - 1) // PIECE, 1)):
                data = levels[kind].piece(level, number)
                n = len(data) // (6 + wide)
                low, high = np.frombuffer(data, "<u4", n), np.frombuffer(data, "<u2", n, 4 * n)
                at.append(low.astype(np.int64) | high.astype(np.int64) << 32)
                code.append(np.frombuffer(data, "u1" if wide == 1 else "<u4", n, 6 * n))
            assert (np.concatenate(at) == lane.at).all()
            assert (np.concatenate(code) == lane.code).all()


def test_stories_and_wakeups_are_those_of_the_page_on_disk(small: TimelineServer) -> None:
    """Each story and each wakeup that a page on disk holds is what the server tells."""
    whole = small.recordings[0].whole()
    for task, story in whole["stories"].items():
        assert json.loads(ask(small, f"/story/0/{task}")[1]) == json.loads(json.dumps(story))
    ends = f"0/{whole['length']}"
    told = {tuple(row) for task in range(len(whole["tasks"]))
            for row in json.loads(ask(small, f"/wakes/0/{task}/{ends}")[1])}
    assert len(told) == whole["arrows"]["n"] - len(whole["arrows"]["texts"])
    for task in range(len(whole["tasks"])):     # the idle ones too, which nobody can choose
        assert ask(small, f"/story/0/{task}")[0] == 200
    (at, waker, _), *_ = sorted(told)
    assert json.loads(ask(small, f"/wakes/0/{waker}/{at}/{at}")[1])
    assert json.loads(ask(small, f"/wakes/0/{waker}/0/{at - 1}")[1]) == []


def test_the_command_serves_until_it_is_interrupted() -> None:
    """`timeline --serve` says where it serves, serves, and ends by Ctrl-C."""
    command = [sys.executable, "-m", "taskscope.cli.main", "timeline", "-i", str(RECORDING), "--serve"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
            assert found is not None, line
            with urllib.request.urlopen(found[0], timeout=20) as answer:
                assert b"raspbian_proc.dat" in answer.read()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()


# ---- in a browser --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser."""
    with browser() as found:
        yield found


def visit(chromium: Browser, server: TimelineServer) -> None:
    """Open the served page and wait until it has drawn itself."""
    chromium.call("Page.navigate", url="about:blank")
    chromium.call("Page.navigate", url=f"http://127.0.0.1:{server.port}/")
    chromium.until("document.documentElement?.dataset.ready === '1'")


def fetched(chromium: Browser) -> tuple[int, int]:
    """Return how often the page has asked, and how many bytes it got."""
    found = chromium.run("performance.getEntriesByType('resource').filter(e => e.initiatorType === 'fetch')"
                         ".map(e => e.transferSize)")
    return len(found), sum(found)


def test_a_served_page_tells_what_one_on_disk_tells(chromium: Browser, small: TimelineServer) -> None:
    """The story of the chosen task comes, its wakeups come as arrows, and nothing is said to be left out."""
    visit(chromium, small)
    chromium.until("document.getElementById('story').textContent.includes('SIGKILL from bash 156')")
    chromium.until(f"{PANEL}.recording.arrows.at.length > {PANEL}.recording.arrows.texts.length")
    wakes = small.recordings[0].wakes(chromium.run(f"{PANEL}.chosen"), 0, 1 << 60)
    assert chromium.run(f"{PANEL}.recording.touching[{PANEL}.chosen].filter("
                        f"k => {PANEL}.recording.arrows.kind[k] === 1).length") == len(wakes)
    assert "not in this page" not in chromium.run("document.querySelector('header').textContent")
    first = chromium.run("document.getElementById('story').textContent")
    chromium.run(f"{PANEL}.step(1)")
    chromium.until(f"document.querySelector('#story h2').textContent !== {json.dumps(first[:20])} && "
                   "document.querySelectorAll('#story li').length > 2")


def test_an_event_is_searched_by_the_server(chromium: Browser, small: TimelineServer) -> None:
    """An event finds the tasks whose stories have it, whether these were fetched or not."""
    whole = small.recordings[0].whole()
    having = [int(task) for task, story in whole["stories"].items() if has(story, "sched_process_exec")]
    assert len(having) >= 3
    assert json.loads(ask(small, "/find/0/sched_process_exec")[1]) == [having, True]
    assert small.recordings[0].having("sched_process_exec", -1.0) == ([], False)
    visit(chromium, small)
    chromium.run("document.getElementById('find').focus()")
    chromium.call("Input.insertText", text="sched_process_exec")
    chromium.until(f"document.getElementById('found').textContent === '{len(having)} found'")


def test_a_large_recording_is_fetched_where_one_looks(chromium: Browser) -> None:
    """Zoomed in, a lane's slices are those of the recording to the ns, and little more than these was fetched."""
    recording = Many()
    with served(recording) as server:
        visit(chromium, server)
        assert len(recording.levels["task"].levels[0].at) > 20 * PIECE
        page = len(server.page)
        assert page < 3_000_000
        task = recording.levels["task"].levels[0]
        for lane in (0, 1, 3):
            first = int(task.bounds[lane]) + 40_000
            begin, end = int(task.at[first]), int(task.at[first + 30])
            chromium.run(f"{PANEL}.win.show({begin}, {end}); {PANEL}.move()")
            look = f"taskscope.visible({PANEL}.recording.taskLevels, {lane}, {begin}, {end}, 1000)"
            chromium.until(f"{look}[0] === {PANEL}.recording.taskLevels[0]")
            told = chromium.run(f"(([l, a, b]) => [[...l.at.subarray(a, b)], [...l.code.subarray(a, b)]])({look})")
            assert told[0] == task.at[first : first + 31].tolist()
            assert told[1] == task.code[first : first + 31].tolist()
        count, size = fetched(chromium)
        assert 0 < count < 200
        assert size < 8 * SLICES / 2
        chromium.run(f"{PANEL}.choose(3)")
        chromium.until("document.getElementById('story').textContent.includes('the story of 3')")
        assert 3 in recording.asked
        chromium.run("taskscope.find('task2')")
        assert chromium.run("document.getElementById('found').textContent") == "1 found"
        recording.gone = True
        chromium.run(f"{PANEL}.choose(1)")
        chromium.until("document.getElementById('found').textContent.includes('does not answer')")


def test_hostile_names_are_text_in_a_served_page(chromium: Browser) -> None:
    """Names are text there too; the page may ask its own server only."""
    pages = Pages(Recording.open(DATA / "d05-zombie.dat").lives, "<img src=x onerror=alert(1)>")
    with served(pages) as server:
        visit(chromium, server)
        assert chromium.run("document.querySelectorAll('img').length") == 0
        assert chromium.run("document.getElementById('title').textContent") == "<img src=x onerror=alert(1)>"
        assert chromium.run("fetch('http://127.0.0.1:1/').then(() => 'let', e => 'refused')") == "refused"
        policy = chromium.run("document.querySelector('meta[http-equiv]').content")
        assert "connect-src 'self'" in policy
        assert "default-src 'none'" in policy
