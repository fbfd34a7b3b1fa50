"""Real servers on loopback: HTTP with ranges, one that misbehaves on purpose, and S3 (moto)."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from daskroi.bytesource import ByteSource

# faults, each for one GET that has a body
DROP = "drop"  # the connection ends in the middle of the body
RESET = "reset"  # the connection is reset before an answer
BUSY = "busy"  # 503
SHORT = "short"  # fewer bytes than asked for, and the header says so: nothing looks wrong
SILENT = "silent"  # half of the body, and then nothing for a while


@dataclass
class Request:
    """One request as it was answered."""

    method: str
    path: str
    range: str | None
    status: int
    sent: int
    headers: Message


@dataclass
class Server:
    """A running server and what was asked of it."""

    url: str
    faults: list[str] = field(default_factory=list)
    ranges: bool = True
    forbidden: bool = False
    seconds_silent: float = 3.0
    requests: list[Request] = field(default_factory=list)

    @property
    def bytes_sent(self) -> int:
        """Of bodies."""
        return sum(r.sent for r in self.requests)

    def forget(self) -> None:
        """Count from here."""
        self.requests.clear()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: Server
    folder: Path | None = None
    upstream: str | None = None

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        status, headers, content = self._forwarded() if self.upstream else self._of_file()
        self._send(status, headers, content, body)

    def _of_file(self) -> tuple[int, dict[str, str], bytes]:
        assert self.folder is not None
        path = self.folder / unquote(urlsplit(self.path).path).lstrip("/")
        if self.state.forbidden:
            return 403, {}, b"no"
        if not path.is_file():
            return 404, {}, b"nothing here"
        content, status = path.read_bytes(), path.stat()
        headers = {
            "ETag": f'"{status.st_mtime_ns:x}-{status.st_size:x}"',
            "Last-Modified": formatdate(status.st_mtime, usegmt=True),
        }
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not (asked and self.state.ranges):
            return 200, headers, content
        first, last = int(asked[1]), int(asked[2] or len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{min(last, len(content) - 1)}/{len(content)}"
        return 206, headers, content[first : last + 1]

    def _forwarded(self) -> tuple[int, dict[str, str], bytes]:
        """What another server answers: faults for S3."""
        connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc, timeout=30)
        headers = {k: v for k, v in self.headers.items() if k.lower() != "connection"}
        length = int(self.headers.get("Content-Length") or 0)
        connection.request(self.command, self.path, self.rfile.read(length) or None, headers)
        response = connection.getresponse()
        content = response.read()
        passed = {
            k: v
            for k, v in response.getheaders()
            if k.lower() not in ("content-length", "connection", "transfer-encoding", "date")
        }
        if self.command == "HEAD":
            passed["X-Length"] = response.headers.get("Content-Length", "0")
        connection.close()
        return response.status, passed, content

    do_PUT = do_POST = do_DELETE = do_GET

    def _send(self, status: int, headers: dict[str, str], content: bytes, body: bool) -> None:
        faulty = body and content and status in (200, 206) and self.command == "GET"
        fault = self.state.faults.pop(0) if faulty and self.state.faults else ""
        if fault == RESET:
            self.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )  # no FIN: the peer sees a reset
            self._count(status, 0)
            self._end()
            return
        if fault == BUSY:
            status, headers, content = 503, {}, b"later"
        if fault == SHORT:
            content = content[: len(content) // 2]
        self.send_response(status)
        for name, value in headers.items():
            if name != "X-Length":
                self.send_header(name, value)
        self.send_header("Content-Length", headers.get("X-Length") or str(len(content)))
        self.end_headers()
        if not body:
            self._count(status, 0)
            return
        if fault in (DROP, SILENT):
            self._count(status, len(content) // 2)
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if fault == SILENT:
                time.sleep(self.state.seconds_silent)
            self._end()
            return
        self._count(status, len(content))  # before: who has the body may look at once
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(content)

    def _end(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.close()

    def _count(self, status: int, sent: int) -> None:
        said = self.headers
        request = Request(self.command, self.path, said.get("Range"), status, sent, said)
        self.state.requests.append(request)

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()


@contextlib.contextmanager
def http_server(folder: Path | None = None, upstream: str | None = None) -> Iterator[Server]:
    """Serve a folder with ranges and ETags, or pass on to another server; faults in both."""
    handler = type("Handler", (_Handler,), {"folder": folder, "upstream": upstream})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    httpd.daemon_threads = True
    handler.state = Server(f"http://127.0.0.1:{httpd.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield handler.state  # type: ignore[attr-defined]
    finally:
        httpd.shutdown()
        thread.join(10)
        httpd.server_close()


@dataclass(frozen=True)
class S3:
    """A running S3 server with one empty bucket."""

    endpoint: str
    bucket: str

    @property
    def options(self) -> dict[str, Any]:
        """``storage_options``, with credentials that must not be seen anywhere."""
        return self.options_at(self.endpoint)

    def options_at(self, endpoint: str) -> dict[str, Any]:
        """The same, by way of another endpoint."""
        return {
            "key": "daskroi-test-key",
            "secret": "daskroi-test-secret",
            "client_kwargs": {"endpoint_url": endpoint},
        }

    def url(self, path: str = "") -> str:
        """URL of a path in the bucket."""
        return f"s3://{self.bucket}/{path}"

    @property
    def filesystem(self) -> Any:
        """To put files there."""
        import s3fs

        return s3fs.S3FileSystem(**self.options)


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Start moto; its endpoint."""
    port = free_port()
    env = os.environ | {"PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=env,
    )
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                raise RuntimeError("moto did not start")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def put(path: Path, payload: bytes) -> Path:
    """A file of these bytes, gzipped if it is named so."""
    path.write_bytes(gzip.compress(payload, 1) if path.name.endswith(".gz") else payload)
    return path


def read(source: ByteSource, start: int, stop: int) -> bytes:
    """A part of a file."""
    buffer = bytearray(stop - start)
    source.read_at(start, memoryview(buffer))
    return bytes(buffer)
