import http.server
import io
import json
import re
import socket
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from vidgn.cli.main import main
from vidgn.data.synthetic.motions import write_video
from vidgn.inference import fetch as fetch_module
from vidgn.inference.fetch import fetch, local_videos
from vidgn.inference.network import client as watched_http
from vidgn.inference.network.client import Watch


class Shelf(http.server.BaseHTTPRequestHandler):
    """Hands out `files`: by path (status, headers, body)."""

    files = {}  # noqa: RUF012 - of the test

    def do_GET(self):
        status, headers, body = self.files.get(self.path, (404, {}, b"nothing here"))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def shelf(monkeypatch, tmp_path):
    """Return (address of a server on this machine, what it hands out)."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(Shelf, "files", {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", Shelf.files
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def movie(tmp_path):
    path = tmp_path / "noise.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8))
    return path


def test_an_address_is_scored_like_its_file_and_leaves_nothing(shelf, movie, trained, capsys, tmp_path):
    address, files = shelf
    content = movie.read_bytes()
    files["/a/clip%20one.mp4?key=1"] = (
        200,
        {"Content-Type": "video/mp4", "Content-Length": str(len(content))},
        content,
    )
    files["/cut.mp4"] = (200, {}, content[:500])  # what is there ends early, and no length is told
    words = [f"{address}/a/clip%20one.mp4?key=1", f"{address}/cut.mp4", str(movie), "--ckpt", str(trained), "--json"]
    with pytest.raises(SystemExit, match="1"):
        main(["predict", *words, "--num-clips", "1"])
    whole, cut, local = json.loads(capsys.readouterr().out)["videos"]
    assert (whole["video"], cut["video"], local["video"]) == (words[0], words[1], words[2])
    assert whole["top"] == local["top"] != []
    assert cut["error"].startswith(f"{address}/cut.mp4: ")  # named as it was given
    assert not list(tmp_path.glob("vidgn-*"))


def test_redirects_are_followed_and_the_name_is_that_of_the_end(shelf, tmp_path):
    address, files = shelf
    files["/old"] = (302, {"Location": "/new.mp4"}, b"")
    files["/new.mp4"] = (200, {}, b"film")
    path = fetch(f"{address}/old", tmp_path / "f")
    assert (path.name, path.read_bytes()) == ("new.mp4", b"film")


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ((404, {}, b""), OSError, r"could not be fetched: the server answers 404 \(Not Found\); open the address"),
        ((503, {}, b""), OSError, r"the server answers 503 \(Service Unavailable\)"),
        ((200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>"), ValueError, "is text/html, not a video; give"),
        ((200, {"Content-Length": "1001"}, b""), ValueError, r"has 0 MB or more and the limit is 0 MB; download it"),
        ((200, {}, b"x" * 1001), ValueError, r"has 0 MB or more and the limit is 0 MB"),  # no length is told
        ((200, {"Content-Length": "900"}, b"x" * 10), OSError, r"ended after 10 of 900 bytes|IncompleteRead"),
        ((302, {"Location": "ftp://127.0.0.1/a"}, b""), OSError, r"unknown url type: ftp"),
        ((302, {"Location": "file:///etc/passwd"}, b""), OSError, r"is not allowed|unknown url type"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(shelf, tmp_path, answer, kind, said):
    address, files = shelf
    files["/a.mp4"] = answer
    with pytest.raises(kind, match=said) as error:
        fetch(f"{address}/a.mp4", tmp_path / "f", limit=1000)
    assert f"{address}/a.mp4" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_server_that_is_not_there_is_told(shelf, tmp_path):
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:1/a\.mp4 could not be fetched: .*refused; check the"):
        fetch("http://127.0.0.1:1/a.mp4", tmp_path)


def test_a_server_that_falls_silent_is_told(shelf, tmp_path, monkeypatch):
    address, _ = shelf
    monkeypatch.setattr(fetch_module, "_SECONDS", 0.05)
    monkeypatch.setattr(Shelf, "do_GET", lambda self: self.rfile.read(1))  # waits for what never comes
    with pytest.raises(OSError, match=r"could not be fetched: timed out; check the address"):
        fetch(f"{address}/a.mp4", tmp_path)


def test_a_full_disk_is_told_before(shelf, tmp_path, monkeypatch):
    address, files = shelf
    files["/a.mp4"] = (200, {"Content-Length": "5000000"}, b"")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(OSError, match=r"has 5 MB and .* has 1 MB free; set TMPDIR to a larger folder"):
        fetch(f"{address}/a.mp4", tmp_path / "f")


def test_files_alone_need_no_folder(movie):
    with local_videos([str(movie)]) as given:
        assert given.paths == [str(movie)]
        assert given.name(str(movie)) == str(movie)


def test_a_web_page_is_a_sentence_on_the_command_line(shelf, trained, capsys):
    address, files = shelf
    files["/watch"] = (200, {"Content-Type": "text/html"}, b"<html>")
    with pytest.raises(SystemExit, match="2"):
        main(["explain", f"{address}/watch", "--ckpt", str(trained)])
    err = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "error: " in err
    assert "is text/html, not a video" in err


def test_a_server_that_drips_is_given_up(shelf, tmp_path, monkeypatch):
    """The deadline is for the whole, not for each byte: the server never falls silent for long."""
    address, _ = shelf
    ended = threading.Event()

    def drip(self):
        self.send_response(200)
        self.end_headers()
        try:
            while not ended.wait(0.01):
                self.wfile.write(b"x")
        except OSError:
            ended.set()  # the client hung up

    monkeypatch.setattr(fetch_module, "_DEADLINE", 0.3)
    monkeypatch.setattr(Shelf, "do_GET", drip)
    with pytest.raises(OSError, match=r"it took longer than 0 s as a whole; download it yourself"):
        fetch(f"{address}/a.mp4", tmp_path / "f")
    ended.set()


def test_headers_that_drip_are_given_up(shelf, tmp_path, monkeypatch):
    address, _ = shelf
    ended = threading.Event()

    def drip(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
        try:
            while not ended.wait(0.01):
                self.wfile.write(b"x")
        except OSError:
            ended.set()

    monkeypatch.setattr(fetch_module, "_DEADLINE", 0.3)
    monkeypatch.setattr(Shelf, "do_GET", drip)
    with pytest.raises(OSError, match="took longer than 0 s as a whole"):
        fetch(f"{address}/a.mp4", tmp_path / "f")
    ended.set()


def test_a_slow_server_is_named_with_its_rate(shelf, tmp_path, monkeypatch):
    address, files = shelf
    files["/a.mp4"] = (200, {}, b"x" * 100)
    monkeypatch.setattr(fetch_module, "_SLOW", (0.0, 10**12))
    with pytest.raises(OSError, match=r"sends [\d,]+ bytes per second; download it yourself"):
        fetch(f"{address}/a.mp4", tmp_path / "f")


@pytest.mark.parametrize("target", ["http://localhost:PORT/new.mp4", "http://[::1]:1/a", "http://10.0.0.1/a"])
def test_a_redirect_does_not_lead_into_the_local_network(shelf, tmp_path, monkeypatch, target):
    address, files = shelf
    files["/old"] = (302, {"Location": target.replace("PORT", address.rpartition(":")[2])}, b"")
    files["/new.mp4"] = (200, {}, b"private")
    local = watched_http.is_local
    monkeypatch.setattr(watched_http, "is_local", lambda host: host != "127.0.0.1" and local(host))  # as if far away
    with pytest.raises(OSError, match=r"it is redirected to .*, inside the local network; give that address itself"):
        fetch(f"{address}/old", tmp_path / "f")
    assert not list((tmp_path / "f").iterdir())


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "is_followed"), [("y\n", True), ("\n", False), ("no\n", False)])
def test_a_redirect_into_the_local_network_is_asked_about_on_a_terminal(
    shelf, tmp_path, monkeypatch, answer, is_followed
):
    address, files = shelf
    files["/old"] = (302, {"Location": f"http://localhost:{address.rpartition(':')[2]}/new.mp4"}, b"")
    files["/new.mp4"] = (200, {}, b"film")
    local = watched_http.is_local
    monkeypatch.setattr(watched_http, "is_local", lambda host: host == "localhost" and local(host))
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr", Terminal())
    if is_followed:
        assert fetch(f"{address}/old", tmp_path / "f").read_bytes() == b"film"
    else:
        with pytest.raises(OSError, match=r"redirected to localhost, inside the local network; give that address"):
            fetch(f"{address}/old", tmp_path / "f")
    assert "is redirected to localhost, inside the local network; follow it? [y/N]" in sys.stderr.getvalue()


def test_a_name_that_turns_out_to_be_local_is_refused():
    """What the name says is one thing, where the connection ends another."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        watch = Watch("http://8.8.8.8/a.mp4", seconds=60)
        with pytest.raises(OSError, match=r"redirected to 127\.0\.0\.1 \(127\.0\.0\.1\), inside"):
            watch.connect(server.getsockname())


@pytest.fixture
def peers(monkeypatch):
    """Return a list of the machines that the next connections end at; no proxy is set."""
    waiting = []

    def connect(*arguments, **options):
        peer = waiting.pop(0)
        return SimpleNamespace(getpeername=lambda: (peer, 80), close=lambda: None)

    monkeypatch.setattr(watched_http.socket, "create_connection", connect)
    monkeypatch.setattr(watched_http.request, "getproxies", dict)
    return waiting


def test_a_name_that_leads_elsewhere_the_second_time_is_refused(peers):
    peers += ["8.8.8.8", "8.8.4.4", "10.0.0.7"]
    watch = Watch("http://far.example/a.mp4", seconds=60)
    watch.connect(("far.example", 80))
    watch.connect(("far.example", 80))
    with pytest.raises(OSError, match=r"redirected to far\.example \(10\.0\.0\.7\), inside the local network"):
        watch.connect(("far.example", 80))


def test_a_name_that_is_local_from_the_first_may_be_asked_again(peers):
    peers += ["10.0.0.7", "10.0.0.8"]
    watch = Watch("http://nas/a.mp4", seconds=60)
    for _ in range(2):
        watch.connect(("nas", 80))
    watch.check_redirect("http://10.0.0.9/b.mp4")


def test_a_proxy_in_the_local_network_opens_it_to_no_redirect(peers, monkeypatch):
    monkeypatch.setattr(watched_http.request, "getproxies", lambda: {"http": "http://10.0.0.1:3128"})
    peers += ["10.0.0.1"]
    watch = Watch("http://far.example/a.mp4", seconds=60)
    watch.connect(("10.0.0.1", 3128))
    for host in ("10.0.0.9", "10.0.0.1", "localhost"):
        with pytest.raises(OSError, match=rf"redirected to {host}, inside the local network; give that address itself"):
            watch.check_redirect(f"http://{host}/private.mp4")


def test_a_local_address_may_lead_to_another(shelf, tmp_path):
    address, files = shelf
    files["/old"] = (302, {"Location": f"http://localhost:{address.rpartition(':')[2]}/new.mp4"}, b"")
    files["/new.mp4"] = (200, {}, b"film")
    assert fetch(f"{address}/old", tmp_path / "f").read_bytes() == b"film"
