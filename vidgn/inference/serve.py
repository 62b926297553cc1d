"""A page on this machine that names what happens in a video: `vidgn serve`.

The server is the standard library's: nothing to install, and a job is one upload with one answer. Uploads travel as
the plain body of a POST, so there is no form to parse and no file name or path from the browser. One video is scored
at a time; a few more wait their turn.
"""

import base64
import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video
from vidgn.inference.model import Model, open_model
from vidgn.inference.windows import moment

_WAITING = 8  # uploads that may wait; more are told to come later
_CHUNK = 1 << 20
_TOP = 5
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; media-src blob: data:; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def run_serve(*, ckpt: str, host: str, port: int, limit_mb: int, out: TextIO, device: str = "auto") -> int:
    """Serve until interrupted.

    Raises:
        ValueError, OSError: the checkpoint, the address or the limit cannot be used; one sentence.
    """
    if limit_mb < 1:
        raise ValueError(f"--limit ({limit_mb}) must be at least 1 MB.")
    server = make_server(open_model(ckpt, device=device), host=host, port=port, limit=limit_mb * 1_000_000)
    if host not in ("127.0.0.1", "localhost", "::1"):
        print(f"note: {host} is reachable from other machines, without a password", file=out)
    print(f"http://{host}:{server.server_address[1]}/ (stop with Ctrl-C)", file=out, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("stopped", file=out)
    finally:
        server.server_close()
    return 0


def make_server(model: Model, *, host: str, port: int, limit: int) -> ThreadingHTTPServer:
    """Bind a server to an address; port 0 takes a free one, `limit` is the largest upload in bytes."""
    desk = Desk(lambda path: answer(path, model))

    class BoundHandler(_Handler):
        """The handler of this server."""

    BoundHandler.desk, BoundHandler.limit, BoundHandler.host = desk, limit, host
    server = ThreadingHTTPServer((host, port), BoundHandler)
    server.daemon_threads = True
    return server


class Busy(Exception):
    """Too many uploads wait already."""


class Desk:
    """Lets one job run at a time and a few wait."""

    def __init__(self, job: Callable[[Path], dict[str, Any]]) -> None:
        self._job = job
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """Places that are taken: the job that runs and those that wait."""
        return self._taken

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue.

        Raises:
            Busy: none is free.
        """
        with self._count:
            if self._taken == _WAITING:
                raise Busy(f"{_WAITING} videos are waiting already; try again in a minute.")
            self._taken += 1
        try:
            yield
        finally:
            with self._count:
                self._taken -= 1

    def serve(self, path: Path) -> dict[str, Any]:
        """Wait for the turn and do the job."""
        with self._turn:
            return self._job(path)


def answer(path: Path, model: Model) -> dict[str, Any]:
    """Return what the page shows of a video: top classes, scores over time, frames and film with their heat.

    A film is written beside `path`.

    Raises:
        VideoDecodeError: the upload is no whole video.
    """
    from vidgn.inference.explain import explain, overlay, strip_png, write_film
    from vidgn.inference.predict import choose_test, predict, protocol_of, timeline

    test = choose_test(model)
    (said,) = predict([str(path)], model, test=test, num_workers=0)
    if said.error is not None:
        raise VideoDecodeError(str(path), said.error.removeprefix(f"{path}: "))
    with open_video(path) as reader:
        fps, length, seconds = reader.fps, len(reader), reader.seconds()
    windows = list(timeline(str(path), model, stride=max(1, model.clip.span // 2)))
    shown = [name for name, _ in said.top(model.classes, _TOP)]
    index = [model.classes.index(name) for name in shown]
    found = explain(str(path), model, name=shown[0])
    heated = overlay(found)
    picture = strip_png(found, heated, stride=model.clip.stride)
    film = path.with_name("film.mp4")
    write_film(film, found, heated, stride=model.clip.stride)
    return {
        "top": [{"class": name, "score": score} for name, score in said.top(model.classes, _TOP)],
        "protocol": protocol_of(model, test),
        "frames": length,
        "fps": fps,
        "seconds": moment(length, seconds),
        "classes": shown,
        "windows": [
            {
                "start": item.start,
                "end": item.end,
                "middle": _middle(item.start, item.end, seconds),
                "scores": [round(item.scores[label], 4) for label in index],
            }
            for item in windows
        ],
        "explained": found.name,
        "strip": f"data:image/png;base64,{base64.b64encode(picture).decode()}",
        "film": f"data:video/mp4;base64,{base64.b64encode(film.read_bytes()).decode()}",
    }


def _middle(start: int, end: int, seconds: NDArray[np.float64]) -> float | None:
    """Return the second in the middle of a window; None where the file states no times."""
    first, last = moment(start, seconds), moment(end, seconds)
    return None if first is None or last is None else round((first + last) / 2, 3)


class _Handler(BaseHTTPRequestHandler):
    desk: Desk
    limit: int
    host: str
    timeout = 30  # seconds without a byte

    def do_GET(self) -> None:
        if self.path == "/queue":
            self._say(HTTPStatus.OK, {"taken": self.desk.taken})
            return
        if self.path != "/":
            self._say(HTTPStatus.NOT_FOUND, {"error": "there is one page, /"})
            return
        page = files("vidgn.inference").joinpath("static/serve.html").read_bytes()
        self._send(HTTPStatus.OK, page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        refusal = self._refusal(length)
        if refusal is not None:
            self.close_connection = True  # the body stays unread
            self._say(*refusal)
            return
        try:
            with self.desk.place():
                self._score(int(length))
        except Busy as err:
            self.close_connection = True
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, {"error": str(err)})

    def _refusal(self, length: str) -> tuple[HTTPStatus, dict[str, str]] | None:
        """Return why an upload is not taken: from another site, of another kind, without or beyond a length."""
        origin, host = self.headers.get("Origin"), self.headers.get("Host", "")
        known = {self.host, "127.0.0.1", "localhost", "[::1]"}
        if (self.host == "127.0.0.1" and host.rpartition(":")[0] not in known) or origin not in (
            None,
            f"http://{host}",
        ):
            return HTTPStatus.FORBIDDEN, {"error": "uploads come from this page only"}
        if self.path != "/predict":
            return HTTPStatus.NOT_FOUND, {"error": "uploads go to /predict"}
        kind = self.headers.get("Content-Type", "")
        if not (kind.startswith("video/") or kind == "application/octet-stream"):
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, {"error": f"{kind or 'this'} is no video; choose a video file"}
        if not length.isdecimal() or not int(length):
            return HTTPStatus.LENGTH_REQUIRED, {"error": "the upload is empty"}
        if int(length) > self.limit:
            size, most = int(length) / 1e6, self.limit / 1e6
            told = f"the video has {size:.0f} MB and the limit is {most:.0f} MB; restart with a larger --limit"
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": told}
        return None

    def _score(self, length: int) -> None:
        with tempfile.TemporaryDirectory(prefix="vidgn-") as folder:
            path = Path(folder) / "upload.mp4"  # a name of ours; the content tells the format
            with path.open("wb") as file:
                left = length
                while left:
                    chunk = self.rfile.read(min(_CHUNK, left))
                    if not chunk:
                        self.close_connection = True
                        return  # the browser went away
                    file.write(chunk)
                    left -= len(chunk)
            try:
                self._say(HTTPStatus.OK, self.desk.serve(path))
            except VideoDecodeError as err:
                self._say(HTTPStatus.UNPROCESSABLE_ENTITY, {"error": err.reason.replace(str(path), "the upload")})

    def _say(self, status: HTTPStatus, told: dict[str, Any]) -> None:
        self._send(status, json.dumps(told).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in {**_SECURITY, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the page says what went wrong."""
