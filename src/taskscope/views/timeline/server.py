"""Serves a timeline on the loopback device, and what its page asks for as one looks: `TimelineServer`.

    /                        the page, with the outline of each recording
    /level/R/KIND/L/N        piece N of level L of recording R; KIND is task or cpu
    /story/R/T               the story of task T, as JSON
    /wakes/R/T/FROM/TO       wakeups by and of task T between two times (ns), as JSON
    /find/R/EVENT            the tasks whose stories have an event, and whether all were looked at, as JSON

Nothing else is answered, no file is read, and only who names this very server gets an answer: a page from elsewhere in
the same browser cannot (DNS rebinding).
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from taskscope.views.timeline.pack import Pages
from taskscope.views.timeline.page import page

_HOSTS = ("127.0.0.1", "localhost")
#: what there is to ask for, and of how many parts it is
_PARTS = {"level": 4, "story": 2, "wakes": 4, "find": 2}
#: digits that a number in an address may have
_DIGITS = 18


class TimelineServer(ThreadingHTTPServer):
    """A server of recordings on 127.0.0.1.

    :param recordings: those that stand below each other
    :param port: 0 for any that is free
    :raises OSError: the port is taken
    """

    daemon_threads = True

    def __init__(self, recordings: Sequence[Pages], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.recordings = recordings
        self.page = page([one.outline() for one in recordings], served=True).encode("utf-8")
        # What tells stories is not made for threads.
        self.lock = threading.Lock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be silent about a browser that goes away in the middle of an answer."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    server: TimelineServer
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        name, _, port = self.headers.get("Host", "").partition(":")
        if name not in _HOSTS or port != str(self.server.port):
            self.send_error(HTTPStatus.FORBIDDEN, "this server is asked by its own name only")
            return
        words = self.path.strip("/").split("/")
        try:
            kind, data = self._found(words)
        except ValueError:
            self.send_error(HTTPStatus.BAD_REQUEST)
        except (KeyError, IndexError):
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(data)

    def _found(self, words: list[str]) -> tuple[str, bytes]:
        """Return the type and the bytes of an answer.

        :raises ValueError: a number is none
        :raises LookupError: there is no such thing
        """
        if words in ([""], ["index.html"]):
            return "text/html; charset=utf-8", self.server.page
        what, *rest = words
        if len(rest) != _PARTS[what]:
            raise KeyError(what)
        recording = self.server.recordings[_number(rest[0])]
        if what == "level":
            return "application/octet-stream", recording.levels[rest[1]].piece(_number(rest[2]), _number(rest[3]))
        with self.server.lock:
            found: object = recording.having(unquote(rest[1])) if what == "find" else \
                recording.story(_number(rest[1])) if what == "story" else recording.wakes(*map(_number, rest[1:]))
        return "application/json", json.dumps(found, separators=(",", ":")).encode()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > _DIGITS:
        raise ValueError(text)
    return int(text)
