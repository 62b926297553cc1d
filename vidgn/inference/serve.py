"""A page on this machine that names what happens in a video: `vidgn serve`.

A job is one upload with one answer. Uploads travel as the plain body of a POST, so there is no form to parse and no
file name or path from the browser. They come side by side; one video is scored at a time, and a few more wait.
"""

import base64
import errno
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from importlib.resources import files
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from vidgn.data.readers.types import VideoDecodeError
from vidgn.data.video import open_video
from vidgn.files.temporary import temporary_folder
from vidgn.inference.model import ScoringModel, open_model
from vidgn.inference.network.server import LimitedHandler, LimitedServer, Limits, TooSlow
from vidgn.inference.windows import moment

_WAITING = 8  # whole uploads that may wait; more are told to come later
_TOP = 5
_INK = "#7d8590"  # of the strip's text, to be read on a light and on a dark page


def run_serve(*, ckpt: str, host: str, port: int, limit_mb: int, out: TextIO, device: str = "auto") -> int:
    """Serve until interrupted.

    Raises:
        ValueError, OSError: the checkpoint, the address or the limit cannot be used; one sentence.
    """
    if limit_mb < 1:
        raise ValueError(f"--limit ({limit_mb}) must be at least 1 MB.")
    with temporary_folder() as folder:  # in the main thread, which hears SIGTERM
        model = open_model(ckpt, device=device)
        server = make_server(model, host=host, port=port, limit=limit_mb * 1_000_000, folder=folder)
        if host not in ("127.0.0.1", "localhost", "::1"):
            print(f"note: {host} is reachable from other machines, without a password", file=out)
        shown = f"[{host}]" if ":" in host else host
        print(describe_model(model), file=out)
        print(f"http://{shown}:{server.server_address[1]}/ (stop with Ctrl-C)", file=out, flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped", file=out)
        finally:
            server.server_close()
    return 0


def make_server(model: ScoringModel, *, host: str, port: int, limit: int, folder: Path | None = None) -> LimitedServer:
    """Bind a server to an address.

    Args:
        model: scores the videos.
        host: the address.
        port: 0 takes a free one.
        limit: the largest upload in bytes.
        folder: for uploads; None: the system's temporary one.
    """

    class BoundHandler(_Handler):
        """The handler of this server."""

    BoundHandler.desk, BoundHandler.folder = Desk(lambda path: answer(path, model)), folder
    BoundHandler.about = {"model": describe_model(model)}
    return LimitedServer(host, port, BoundHandler, limits=Limits(body=limit))


def describe_model(model: ScoringModel) -> str:
    """Return the name of a model: its net, norm, clip, number of classes and file."""
    described = model.description
    net = f"{described.net_name} with {described.norm['name']}"
    return f"{net}, {described.clip_len} frames, {len(model.classes)} classes ({model.path.name})"


class Busy(Exception):
    """Too many uploads wait already."""


class Gone(Exception):
    """The client left while it waited."""


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

    def serve(self, path: Path, *, is_gone: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """Wait for the turn and do the job.

        Raises:
            Gone: the client no longer waits for it.
        """
        while not self._turn.acquire(timeout=0.5):
            if is_gone():
                raise Gone("the client left while it waited")
        try:
            if is_gone():
                raise Gone("the client left while it waited")
            return self._job(path)
        finally:
            self._turn.release()


def answer(path: Path, model: ScoringModel) -> dict[str, Any]:
    """Return what the page shows of a video: top classes, scores over time, frames and film with their heat.

    A film is written beside `path`.

    Raises:
        VideoDecodeError: the upload is not a whole video.
    """
    from vidgn.inference.explain import explain_video, overlay, strip_png, write_film
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
    explanation = explain_video(str(path), model, name=shown[0])
    heated = overlay(explanation)
    picture = strip_png(explanation, heated, stride=model.clip.stride, paper="none", ink=_INK)
    film = path.with_name("film.mp4")
    write_film(film, explanation, heated, stride=model.clip.stride)
    return {
        "top": [{"class": name, "score": score} for name, score in said.top(model.classes, _TOP)],
        "model": describe_model(model),
        "views": test.num_views,
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
        "explained": explanation.name,
        "strip": f"data:image/png;base64,{base64.b64encode(picture).decode()}",
        "film": f"data:video/mp4;base64,{base64.b64encode(film.read_bytes()).decode()}",
    }


def _middle(start: int, end: int, seconds: NDArray[np.float64]) -> float | None:
    """Return the second in the middle of a window; None where the file states no times."""
    first, last = moment(start, seconds), moment(end, seconds)
    return None if first is None or last is None else round((first + last) / 2, 3)


class _Handler(LimitedHandler):
    desk: Desk
    folder: Path | None
    about: dict[str, str]

    def get(self) -> None:
        if self.path == "/queue":
            self.say(HTTPStatus.OK, taken=self.desk.taken)
        elif self.path == "/about":
            self.say(HTTPStatus.OK, **self.about)
        elif self.path == "/":
            page = files("vidgn.inference").joinpath("static/serve.html").read_bytes()
            self.send(HTTPStatus.OK, page, "text/html; charset=utf-8")
        else:
            self.say(HTTPStatus.NOT_FOUND, error="there is one page, /")

    def post(self, length: int) -> None:
        refusal = self._refusal(length)
        if refusal is not None:
            self.say(refusal[0], error=refusal[1])
            return
        try:
            with tempfile.TemporaryDirectory(prefix="vidgn-", dir=self.folder, ignore_cleanup_errors=True) as made:
                self._score(length, Path(made) / "upload.mp4")  # a fixed name; the content tells the format
        except TooSlow as err:
            self.say(HTTPStatus.REQUEST_TIMEOUT, error=str(err))
        except (Gone, ConnectionError):
            return
        except Busy as err:
            self.say(HTTPStatus.SERVICE_UNAVAILABLE, error=str(err))
        except OSError as err:
            full = err.errno in (errno.ENOSPC, errno.EDQUOT)
            said = "the disk of the server is full" if full else f"the server cannot keep the upload ({err.strerror})"
            self.say(HTTPStatus.INSUFFICIENT_STORAGE, error=f"{said}; set TMPDIR to a larger folder")

    def _refusal(self, length: int) -> tuple[HTTPStatus, str] | None:
        """Return why an upload is not taken: from another site, of another kind, or too large."""
        if self.headers.get("Origin") not in (None, f"http://{self.headers.get('Host', '')}"):
            return HTTPStatus.FORBIDDEN, "uploads come from this page only"
        if self.path != "/predict":
            return HTTPStatus.NOT_FOUND, "uploads go to /predict"
        kind = self.headers.get("Content-Type", "")
        if not (kind.startswith("video/") or kind == "application/octet-stream"):
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{kind or 'this'} is not a video; choose a video file"
        most = self.server.limits.body
        if length > most:
            sizes = f"the video has {length / 1e6:.0f} MB and the limit is {most / 1e6:.0f} MB"
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{sizes}; restart with a larger --limit"
        return None

    def _score(self, length: int, path: Path) -> None:
        with path.open("wb") as file:
            self.receive(length, file)
        with self.desk.place():
            try:
                content = self.desk.serve(path, is_gone=self.is_gone)
            except VideoDecodeError as err:
                reason = err.reason.replace(str(path), "the upload")
                self.say(HTTPStatus.UNPROCESSABLE_ENTITY, error=reason)
                return
            except (Gone, OSError):
                raise
            except Exception as err:  # whatever a video or a net does, the browser gets a sentence
                reason = str(err).partition("\n")[0].replace(str(path), "the upload")[:300]
                self.say(HTTPStatus.INTERNAL_SERVER_ERROR, error=f"it could not be scored ({reason})")
                return
        try:
            self.say(HTTPStatus.OK, **content)
        except ValueError:  # NaN has no place in JSON
            self.say(HTTPStatus.INTERNAL_SERVER_ERROR, error="the scores are not finite; serve another checkpoint")
