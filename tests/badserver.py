"""A web server that does wrong what the path says."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = b"<!DOCTYPE html><html><title>Sign in</title></html>" * 20


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        what = self.path.split("/")[1]
        if what.isdigit():
            self._answer(int(what), b"no")
        elif what == "loop":
            self._answer(302, b"", {"Location": self.path})
        elif what == "whole":  # knows no ranges
            self._answer(200, PAGE)
        elif what == "cut":  # ends in the middle, whenever it is asked
            self._answer(*self._part(), cut=True)
        else:  # a page where data should be, in ranges even
            self._answer(*self._part())

    do_PUT = do_POST = do_GET

    def _part(self) -> tuple[int, bytes, dict[str, str]]:
        unit, _, span = self.headers.get("Range", "").partition("=")
        first, _, last = span.partition("-")
        if not unit:
            return 200, PAGE, {}
        start, stop = int(first), min(int(last or len(PAGE)), len(PAGE) - 1) + 1
        return 206, PAGE[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(PAGE)}"}

    def _answer(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(OSError):
                self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = cut


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        pass  # of clients that have gone; what it would print is taken for the command's words


@contextlib.contextmanager
def serving() -> Iterator[str]:
    """Its address, on loopback."""
    server = _Server(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
