import base64
import contextlib
import errno
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from vidgn.cli.main import main
from vidgn.data.synthetic.motions import write_video
from vidgn.data.video import open_video
from vidgn.inference.model import open_model
from vidgn.inference.serve import Busy, Desk, Gone, make_server, run_serve


@pytest.fixture(scope="module")
def address(trained):
    """A running server on a free port, which takes up to 1 MB."""
    server = make_server(open_model(trained, device="cpu"), host="127.0.0.1", port=0, limit=1_000_000)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_address
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "noise.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8))
    return path


def ask(address, method, path, body=None, **headers):
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        return reply, reply.read()


def test_the_page_needs_nothing_from_elsewhere(address):
    reply, page = ask(address, "GET", "/")
    assert reply.status == 200
    assert "default-src 'none'" in reply.headers["Content-Security-Policy"]
    assert b"http://" not in page
    assert b"https://" not in page


@pytest.mark.slow
def test_an_upload_is_answered_with_the_numbers_of_predict(address, video, trained, capsys, tmp_path):
    reply, content = ask(address, "POST", "/predict", video.read_bytes(), Content_Type="video/mp4")
    assert reply.status == 200, content
    told = json.loads(content)
    with pytest.raises(SystemExit, match="0"):
        main(["predict", str(video), "--ckpt", str(trained), "--device", "cpu", "--json"])
    (said,) = json.loads(capsys.readouterr().out)["videos"]
    assert [item["class"] for item in told["top"]] == [item["class"] for item in said["top"]]
    assert [round(item["score"], 6) for item in told["top"]] == [item["score"] for item in said["top"]]
    assert told["windows"][-1]["end"] == told["frames"] == 40
    assert told["strip"].startswith("data:image/png;base64,")
    assert told["explained"] == told["top"][0]["class"]
    film = tmp_path / "film.mp4"
    film.write_bytes(base64.b64decode(told["film"].removeprefix("data:video/mp4;base64,")))
    with open_video(film) as reader:
        assert len(reader) == 8  # the frames the net saw


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "said"),
    [
        ("/predict", b"\xff\xd8\xff", {"Content_Type": "image/jpeg"}, 415, "image/jpeg is not a video"),
        ("/predict", b"\xff\xd8\xff" + b"\0" * 99, {"Content_Type": "video/mp4"}, 422, "not read as a video"),
        ("/predict", b"", {"Content_Type": "video/mp4"}, 411, "the upload is empty"),
        ("/predict", b"x" * 1_000_001, {"Content_Type": "video/mp4"}, 413, "the limit is 1 MB"),
        ("/../etc/passwd", b"x", {"Content_Type": "video/mp4"}, 404, "uploads go to /predict"),
        # another site in the same browser, and a name that was made to point here
        ("/predict", b"x", {"Content_Type": "video/mp4", "Origin": "http://evil.example"}, 403, "this page only"),
        ("/predict", b"x", {"Content_Type": "video/mp4", "Host": "evil.example:80"}, 403, "this page only"),
    ],
)
def test_what_is_no_video_of_this_page_is_refused_with_a_sentence(address, path, body, headers, status, said):
    try:
        reply, content = ask(address, "POST", path, body, **headers)
    except (BrokenPipeError, ConnectionResetError):
        assert status == 413  # the server hung up before the whole body was sent
        return
    assert reply.status == status
    assert said in json.loads(content)["error"]


def test_no_file_of_this_machine_can_be_fetched(address):
    for path in ("/etc/passwd", "/../../etc/passwd", "/static/serve.html"):
        reply, content = ask(address, "GET", path)
        assert reply.status == 404
        assert json.loads(content) == {"error": "there is one page, /"}


def test_one_job_runs_at_a_time(tmp_path):
    running, most = 0, 0
    gate = threading.Barrier(3)

    def job(path):
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.monotonic()
        running -= 1
        return {}

    desk = Desk(job)

    def visit():
        gate.wait()
        for _ in range(50):
            desk.serve(tmp_path)

    threads = [threading.Thread(target=visit) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_full_queue_says_so(tmp_path):
    desk = Desk(lambda path: {})
    with contextlib.ExitStack() as places:
        for _ in range(8):
            places.enter_context(desk.place())
        assert desk.taken == 8
        with pytest.raises(Busy, match="8 videos are waiting already; try again in a minute"), desk.place():
            pass
    assert desk.taken == 0
    with desk.place():
        assert desk.taken == 1


def test_how_many_wait_is_told(address):
    reply, content = ask(address, "GET", "/queue")
    assert (reply.status, json.loads(content)) == (200, {"taken": 0})


def test_a_limit_below_one_is_refused(trained):
    with pytest.raises(ValueError, match=r"--limit \(0\) must be at least 1 MB"):
        run_serve(ckpt=str(trained), host="127.0.0.1", port=0, limit_mb=0, out=io.StringIO())


class Browser:
    """Chromium without a window, spoken to through a pipe in its DevTools protocol."""

    def __init__(self, program, folder):
        (theirs_in, self.to), (self.back, theirs_out) = os.pipe(), os.pipe()
        # The browser reads from descriptor 3 and writes to 4; the shell puts ours there.
        words = [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
                 "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
                 f"--user-data-dir={folder}"]  # fmt: skip
        script = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words], pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.count, self.buffer, self.session = 0, b"", None

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in self.buffer:
                self.buffer += os.read(self.back, 1 << 20)
            one, _, self.buffer = self.buffer.partition(b"\0")
            reply = json.loads(one)
            if reply.get("id") == self.count:
                assert "error" not in reply, reply
                return reply["result"]

    def open(self, url):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.navigate", url=url)
        self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    def until(self, condition):
        """Wait until a JavaScript expression is true."""
        poll = (
            f"new Promise(done => {{ const look = () => ({condition}) ? done(true) : setTimeout(look, 50); look(); }})"
        )
        assert self.value(poll) is True

    def value(self, expression):
        return self.call("Runtime.evaluate", expression=expression, awaitPromise=True)["result"].get("value")

    def close(self):
        self.process.terminate()
        self.process.wait()
        os.close(self.to)
        os.close(self.back)


@pytest.fixture
def browser(tmp_path):
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed: the page is not driven in a browser")
    found = Browser(program, tmp_path / "profile")
    yield found
    found.close()


@pytest.mark.slow
def test_a_person_drops_a_video_and_sees_the_answer(address, browser, video):
    browser.open("http://{}:{}/".format(*address))
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    field = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", files=[str(video)], nodeId=field)
    browser.until("document.getElementById('said').textContent === 'noise.mp4'")
    assert browser.value("document.querySelectorAll('#top tr').length") == 5
    browser.until("document.getElementById('strip').naturalWidth === 1200")
    browser.until("document.getElementById('film').readyState >= 2")  # the page's rules let the film in
    for width in (1280, 420):
        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=1500, deviceScaleFactor=1, mobile=False)
        assert browser.value("document.documentElement.scrollWidth") <= width  # nothing sticks out
        shot = base64.b64decode(browser.call("Page.captureScreenshot")["data"])
        with Image.open(io.BytesIO(shot)) as picture:
            assert picture.width == width


@pytest.mark.slow
def test_the_camera_is_recorded_and_scored(address, browser):
    """Chromium's own fake camera: a pattern with a clock."""
    browser.open("http://{}:{}/".format(*address))
    browser.value("document.getElementById('camera').click()")
    browser.until("/^(the camera|Not scored|No camera)/.test(document.getElementById('said').textContent)")
    assert browser.value("document.getElementById('said').textContent") == "the camera"
    assert browser.value("document.querySelectorAll('#top tr').length") == 5
    assert browser.value("document.getElementById('camera').disabled") is False
    assert browser.value("seconds()") == 4  # though a busy machine drops frames of it


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507, "the disk of the server is full; set TMPDIR"),
        (ValueError("$x$ is no formula"), 500, "it could not be scored ($x$ is no formula)"),
        (MemoryError("no memory"), 500, "it could not be scored (no memory)"),
    ],
)
def test_whatever_goes_wrong_the_browser_gets_a_sentence(address, video, monkeypatch, fault, status, said):
    def fail(path, model):
        raise fault

    monkeypatch.setattr("vidgn.inference.serve.answer", fail)
    reply, content = ask(address, "POST", "/predict", video.read_bytes(), Content_Type="video/mp4")
    assert reply.status == status
    assert said in json.loads(content)["error"]


def test_scores_that_are_not_finite_are_no_answer(address, video, monkeypatch):
    monkeypatch.setattr("vidgn.inference.serve.answer", lambda path, model: {"top": [float("nan")]})
    reply, content = ask(address, "POST", "/predict", video.read_bytes(), Content_Type="video/mp4")
    assert reply.status == 500
    assert "the scores are not finite" in json.loads(content)["error"]


def test_the_model_is_named(address):
    reply, content = ask(address, "GET", "/about")
    assert reply.status == 200
    assert json.loads(content)["model"].startswith("i3d_r50 with gn, 8 frames, ")


def test_a_client_that_left_does_not_hold_the_queue(tmp_path):
    held, ran = threading.Event(), []
    desk = Desk(lambda path: held.wait(60) and ran.append(path))
    first = threading.Thread(target=desk.serve, args=(tmp_path,))
    first.start()
    with pytest.raises(Gone, match="the client left"):
        desk.serve(tmp_path / "left", is_gone=lambda: True)
    held.set()
    first.join()
    assert ran == [tmp_path]


SERVER = """
import sys, time
import vidgn.inference.serve as serve
serve.open_model = lambda *args, **options: None
serve.describe_model = lambda model: "a model"
serve.run_serve(ckpt="x", host="127.0.0.1", port=0, limit_mb=1, out=sys.stdout)
"""


@pytest.mark.slow
def test_sigterm_leaves_no_upload(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True
    )
    with process.stdout:
        lines = (process.stdout.readline(), process.stdout.readline())
        port = int(lines[1].partition("127.0.0.1:")[2].partition("/")[0])
        head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: video/mp4\r\n"
        head += "Content-Length: 999\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(head.encode() + b"x" * 10)
            while not list(tmp_path.glob("vidgn-*/vidgn-*/upload.mp4")):
                time.sleep(0.01)
            process.terminate()
            assert process.wait() == 143
    assert list(tmp_path.glob("vidgn-*")) == []
