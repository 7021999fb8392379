"""Make the pictures of the tutorial: labs' timelines, as a headless Chromium shows them, and who created whom in them.

    .venv/bin/python tools/pictures.py        # into docs/pictures: lab-NAME.png, tree-NAME.svg (by Graphviz' dot)

Each lab runs on the executable kernel, always in the same way: a picture changes only if the page or the lab does.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from browser import browser  # type: ignore[import-not-found]  # noqa: E402
from taskscope.labs.catalog import get  # noqa: E402
from taskscope.labs.lab import run_lab  # noqa: E402
from taskscope.views.dot import tree_dot  # noqa: E402
from taskscope.views.timeline.pack import pack  # noqa: E402
from taskscope.views.timeline.page import page  # noqa: E402

#: lab -> the task that is chosen, the rows that fit, and which part of the recording is shown
LABS = {
    "fork-both": ("raspbian_fork", 330, (0.0, 0.12)),
    "raspbian-proc": ("raspbian_proc", 520, (0.0, 1.0)),
    "exec-whoami": ("whoami", 420, (0.0, 0.12)),
    "zombie": ("late", 400, (0.0, 1.0)),
    "parents": ("to-init", 420, (0.0, 1.0)),
    "times": ("worker", 330, (0.0, 1.0)),
    "cpu": ("", 420, (0.0, 1.0)),
}
#: labs whose creations are drawn, and which of the recordings that they keep
TREES = {"exec-whoami": 0, "kthread-create": 0, "parents": 1}
PANEL = "taskscope.panels[0]"


def tree(name: str, which: int) -> None:
    """Draw who created and adopted whom among the tasks that a lab is about."""
    kept = run_lab(get(name), "4.19-arm").kept
    named = {pid for one in kept if one.recording is kept[which].recording
             for pid in (*one.roles.values(), *one.others.values())}
    lives = kept[which].recording.lives
    text = "\n".join(line for line in tree_dot(lives, [life for life in lives if life.pid in named])
                     if not line.startswith("  label="))
    file = ROOT / f"docs/pictures/tree-{name}.svg"
    subprocess.run(["dot", "-Tsvg", "-o", file], input=text.encode(), check=True)
    print(f"{file.relative_to(ROOT)}: {file.stat().st_size:,} bytes")


def main() -> None:
    """Make them all, or those that are named."""
    for name, which in TREES.items():
        if not sys.argv[1:] or name in sys.argv[1:]:
            tree(name, which)
    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        for name, (task, height, (first, last)) in LABS.items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            run = run_lab(get(name), "4.19-arm")
            path = Path(folder) / f"{name}.html"
            path.write_text(page([pack(run.kept[0].recording.lives, f"lab {name}")]))
            chromium.call("Emulation.setDeviceMetricsOverride", width=1180, height=height, deviceScaleFactor=1,
                          mobile=False)
            chromium.call("Page.navigate", url="about:blank")
            chromium.call("Page.navigate", url=f"file://{path}")
            chromium.until("document.documentElement?.dataset.ready === '1'")
            chromium.run(f"""(panel => {{
                const task = panel.recording.tasks.findLastIndex(t => [t.name, ...t.names].includes({task!r}));
                if (task < 0 && {task!r}) throw new Error("there is no task {task}");
                if (task >= 0) panel.choose(task);
                panel.win.show(panel.recording.length * {first}, panel.recording.length * {last});
                panel.move();
                panel.now();
            }})({PANEL})""")
            chromium.until("document.querySelectorAll('#story li').length > 1")
            data = base64.b64decode(chromium.call("Page.captureScreenshot", format="png")["data"])
            file = ROOT / f"docs/pictures/lab-{name}.png"
            file.write_bytes(data)
            print(f"{file.relative_to(ROOT)}: {len(data):,} bytes")


if __name__ == "__main__":
    main()
