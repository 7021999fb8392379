"""How fast the timeline page is: opening it and drawing a frame, at each zoom, with two million slices.

    python bench/timeline.py [SLICES]
    python bench/timeline.py --serve [SLICES]        # 20 million, by a page that asks its server for what it shows

The browser is a headless Chromium without a graphics card; times are taken inside the page (performance.now).  The peer
is the naive way, in the same page: every slice of the window drawn, whatever its width.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests/views")]

from browser import browser  # type: ignore[import-not-found]  # noqa: E402, I001
from test_timeline_page import PANEL, many, show  # type: ignore[import-not-found]  # noqa: E402

NAIVE = """((levels, panel, part) => {
    const canvas = document.querySelector('.lanes canvas'), g = canvas.getContext('2d'), width = canvas.clientWidth;
    const began = performance.now(), { at, code, bounds } = levels[0];
    for (let lane = 0; lane + 1 < bounds.length; lane++)
        for (let k = bounds[lane]; k < bounds[lane + 1] - 1; k++) {
            if (at[k + 1] < panel.win.from || at[k] > panel.win.to) continue;
            g.fillStyle = panel.paint.state(g, code[k]);
            const x = panel.win.x(at[k], width);
            g.fillRect(x, lane * 18, Math.max(panel.win.x(at[k + 1], width) - x, .7), 14);
        }
    return performance.now() - began;
})"""


def serve(slices: int) -> None:
    """Measure a page that is served."""
    import test_timeline_server as served  # type: ignore[import-not-found]

    served.SLICES, served.TASKS = slices, 64
    began = time.monotonic()
    recording = served.Many()
    print(f"{slices:,} slices in 64 lanes; levels made in {time.monotonic() - began:.1f} s")
    with served.served(recording) as server, browser() as chromium:
        began = time.monotonic()
        served.visit(chromium, server)
        print(f"page of {len(server.page) / 1e6:.1f} MB, shown in {time.monotonic() - began:.2f} s")
        print(f"{'window':>10} {'frame ms':>9} {'s until all is there':>21} {'MB fetched':>11}")
        for part in (1, 0.1, 0.01, 0.001, 1e-5):
            began = time.monotonic()
            chromium.run(f"{PANEL}.win.show({PANEL}.recording.length * .4, {PANEL}.recording.length * (.4 + {part}));"
                         f"{PANEL}.move()")
            count = -1
            while count != (count := served.fetched(chromium)[0]):
                time.sleep(0.15)
            there = max(time.monotonic() - began - 0.15, 0)
            frame = min(chromium.run(f"{PANEL}.now()") for _ in range(7))
            print(f"{part:>10} {frame:>9.2f} {there:>21.2f} {served.fetched(chromium)[1] / 1e6:>11.1f}")


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--serve"]:
        serve(int(sys.argv[2]) if len(sys.argv) > 2 else 20_000_000)
        return
    slices = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        path = Path(folder) / "many.html"
        packed = many(slices, 64)
        began = time.monotonic()
        show(chromium, path, [packed])
        opened = time.monotonic() - began
        print(f"{slices:,} slices in 64 lanes, {path.stat().st_size / 1e6:.1f} MB of HTML "
              f"({path.stat().st_size / slices:.1f} bytes a slice); written and shown in {opened:.2f} s")
        painted = chromium.run("performance.getEntriesByType('paint').map(e => e.startTime).at(0)")
        print(f"first paint {painted / 1000:.2f} s after the page was asked for")
        print(f"{'window':>10} {'frame ms':>9} {'naive ms':>9}")
        for part in (1, 0.3, 0.1, 0.01, 0.001, 1e-5):
            chromium.run(f"{PANEL}.win.show({PANEL}.recording.length * .4, {PANEL}.recording.length * (.4 + {part}))")
            chromium.run(f"{PANEL}.now()")
            ours = min(chromium.run(f"{PANEL}.now()") for _ in range(7))
            naive = min(chromium.run(f"{NAIVE}({PANEL}.recording.taskLevels, {PANEL}, {part})") for _ in range(3))
            print(f"{part:>10} {ours:>9.2f} {naive:>9.1f}")


if __name__ == "__main__":
    main()
