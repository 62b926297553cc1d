"""Servers on this machine: http with ranges of bytes, listings and faults; an S3 in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import quote, unquote

import pytest


class FileServer(ThreadingHTTPServer):
    """Serves a folder; `bytes_sent` counts bodies, `faults` answers so many requests with 503 first."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.lock = Lock()
        self.bytes_sent = 0
        self.gets = 0
        self.faults = 0
        self.ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = self.server.root / unquote(self.path).lstrip("/")
        with self.server.lock:
            self.server.gets += body
            fails = self.server.faults > 0 and body
            self.server.faults -= fails
        if fails or not path.exists():
            self._send(503 if fails else 404, b"", {})
            return
        if path.is_dir():
            names = sorted(f"{quote(p.name)}{'/' * p.is_dir()}" for p in path.iterdir())
            text = "".join(f'<a href="{name}">{name}</a>\n' for name in names)
            self._send(200, text.encode() if body else b"", {"Content-Type": "text/html"})
            return
        data, wanted = path.read_bytes(), self.headers.get("Range")
        if wanted and self.server.ranges:
            first, last = wanted.removeprefix("bytes=").split("-")
            part = data[int(first) : int(last or len(data)) + 1]
            self._send(206, part, {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"})
        else:
            headers = {"Accept-Ranges": "bytes", "Content-Length": str(len(data))}
            self._send(200, data if body else b"", headers)

    def _send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        with self.server.lock:
            self.server.bytes_sent += len(data) if status == 206 else 0
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(root: Path) -> Iterator[FileServer]:
    server = FileServer(root)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 whose buckets lie in the memory of this process; botocore is told its address."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()  # it remembers the address of the server before
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    words = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
             "AWS_DEFAULT_REGION": "us-east-1"}  # fmt: skip
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    try:
        yield words["AWS_ENDPOINT_URL"]
    finally:
        server.stop()
