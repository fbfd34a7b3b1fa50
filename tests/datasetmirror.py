"""A mirror of datasets that counts requests, and misbehaves for files that are told to."""

from __future__ import annotations

import tarfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from smalldatasets import ADULT, write_development, write_fsl, write_schaefer


class Server:
    """HTTP server over a folder that counts requests and misbehaves for paths that end so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: Counter[str] = Counter()
        self.faults: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {}
        self.gone = threading.Event()
        self.stalled = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = outer.folder / self.path.lstrip("/").split("?")[0]
                outer.requests[path.name] += 1
                self.close_connection = True
                if not path.is_file():
                    self.send_error(404)
                    return
                fault = outer.faults.get(path.name)
                (fault or whole)(self, path.read_bytes())

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.gone.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def stall(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        """Half of it, then silence."""
        answer(handler, body[: len(body) // 2], len(body))
        self.stalled.set()
        self.gone.wait(60)


def answer(handler: BaseHTTPRequestHandler, body: bytes, length: int, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(length))
    handler.end_headers()
    handler.wfile.write(body)
    handler.wfile.flush()


def whole(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    answer(handler, body, len(body))


def truncated(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    answer(handler, body[: len(body) // 2], len(body))


def truncated_in_silence(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    """As by a proxy that lost the end and says nothing of it."""
    answer(handler, body[: len(body) // 2], len(body) // 2)


def unavailable(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    answer(handler, b"", 0, 503)


def login(handler: BaseHTTPRequestHandler, body: bytes) -> None:
    whole(handler, b"\n<!DOCTYPE html><title>Log in</title>")


def once(fault: Callable[[BaseHTTPRequestHandler, bytes], None]) -> Any:
    left = [fault]
    return lambda handler, body: (left.pop() if left else whole)(handler, body)


@contextmanager
def mirror(root: Path) -> Iterator[Server]:
    """A mirror with all datasets, below ``root``."""
    folder = root / "mirror"
    write_development(folder / "development_fmri", [ADULT, "sub-pixar001"])
    write_schaefer(folder / "schaefer_2018")
    write_schaefer(folder / "schaefer_2018", 400, 7, 1)
    with tarfile.open(folder / "HarvardOxford.tgz", "w:gz") as tar:
        tar.add(write_fsl(root / "packed") / "data", "data")
    (folder / "fsl").mkdir()
    (folder / "HarvardOxford.tgz").rename(folder / "fsl" / "HarvardOxford.tgz")
    server = Server(folder)
    try:
        yield server
    finally:
        server.close()
