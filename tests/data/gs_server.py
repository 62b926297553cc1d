"""A Google Cloud Storage of this machine: as much of its JSON interface as is needed to list and to read."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from threading import Lock, Thread
from types import SimpleNamespace
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

_OBJECT = re.compile(r"(?:/download)?/storage/v1/b/([^/]+)/o(?:/(.+))?")
_WHEN = {"updated": "2026-01-01T00:00:00Z", "timeCreated": "2026-01-01T00:00:00Z", "generation": "1"}


class Bucket(ThreadingHTTPServer):
    """Serves one bucket; `ranges` lists what was asked for of contents, `faults` answers so many of them with 503."""

    daemon_threads = True

    def __init__(self, name: str, objects: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.objects = name, objects
        self.lock = Lock()
        self.ranges: list[tuple[int, int]] = []  # first and last byte
        self.faults = 0


class _Handler(BaseHTTPRequestHandler):
    server: Bucket

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        words = {key: values[0] for key, values in parse_qs(address.query).items()}
        found = _OBJECT.fullmatch(address.path)
        name = unquote(found[2]) if found and found[2] else ""
        if not found or found[1] != self.server.name or (name and name not in self.server.objects):
            self._send(404, b"")
        elif not name:
            self._say(self._list(words.get("prefix", ""), words.get("delimiter", "")))
        elif words.get("alt") == "media":
            self._read(self.server.objects[name])
        else:
            self._say(self._about(name))

    def _about(self, name: str) -> dict[str, str]:
        return {"name": name, "bucket": self.server.name, "size": str(len(self.server.objects[name])), **_WHEN}

    def _list(self, prefix: str, delimiter: str) -> dict[str, list[object]]:
        below = [name for name in self.server.objects if name.startswith(prefix)]
        deeper = {name for name in below if delimiter and delimiter in name[len(prefix) :]}
        folders = {prefix + name[len(prefix) :].split(delimiter)[0] + delimiter for name in deeper}
        return {"items": [self._about(name) for name in below if name not in deeper], "prefixes": sorted(folders)}

    def _read(self, data: bytes) -> None:
        with self.server.lock:
            fails = self.server.faults > 0
            self.server.faults -= fails
        if fails:
            self._send(503, b"try again")
            return
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        with self.server.lock:
            self.server.ranges.append((first, last))
        self._send(206, data[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def _say(self, what: object) -> None:
        self._send(200, json.dumps(what).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def gs(objects: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket named `bucket`; gcsfs is told its address, to ask for no account, and not to wait between its tries."""
    pytest.importorskip("gcsfs")
    import fsspec
    from gcsfs import core, retry

    async def at_once(seconds: float) -> None: ...

    server = Bucket("bucket", objects)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    place = {"token": "anon", "endpoint_url": f"http://127.0.0.1:{server.server_address[1]}"}
    monkeypatch.setitem(fsspec.config.conf, "gs", place)
    # gcsfs's other class asks Google what kind of bucket it is.
    monkeypatch.setitem(import_module("fsspec.registry")._registry, "gs", core.GCSFileSystem)
    monkeypatch.setattr(retry, "asyncio", SimpleNamespace(sleep=at_once))
    core.GCSFileSystem.clear_instance_cache()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
