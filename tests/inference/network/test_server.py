"""No client holds the server: what is slow, too large, too much or for another name is closed or refused."""

import contextlib
import http.client
import io
import json
import socket
import threading
from http import HTTPStatus

import pytest

from vidgn.inference.network.server import METHODS, LimitedHandler, LimitedServer, Limits, TooSlow, is_own_host


class Echo(LimitedHandler):
    def get(self):
        self.say(HTTPStatus.OK, path=self.path)

    def post(self, length):
        if self.path == "/fail":
            raise RuntimeError("a fault of ours\x1b[2J")
        file = io.BytesIO()
        try:
            self.receive(length, file)
        except TooSlow as err:
            self.say(HTTPStatus.REQUEST_TIMEOUT, error=str(err))
            return
        self.say(HTTPStatus.OK, size=len(file.getvalue()), gone=self.is_gone())


@pytest.fixture
def start():
    """Start a server with limits and return its address."""
    with contextlib.ExitStack() as stack:

        def begin(**limits):
            server = LimitedServer("127.0.0.1", 0, Echo, limits=Limits(body=1000, **limits))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server.server_address

        yield begin


def ask(address, method, path="/", body=None, **headers):
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as connection:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = connection.getresponse()
        return reply, reply.read()


def raw(address, data):
    """Send bytes as they are and return all that comes back."""
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                answer += part
        return answer


def test_what_a_browser_asks_is_answered(start):
    address = start()
    reply, body = ask(address, "GET", "/a")
    assert (reply.status, json.loads(body)) == (200, {"path": "/a"})
    assert reply.headers["Server"] == "vidgn"
    head, nothing = ask(address, "HEAD", "/a")
    assert (head.status, nothing, head.headers["Content-Length"]) == (200, b"", str(len(body)))
    options, _ = ask(address, "OPTIONS", "/a")
    assert (options.status, options.headers["Allow"]) == (204, METHODS)
    reply, body = ask(address, "POST", "/", b"x" * 999)
    assert (reply.status, json.loads(body)) == (200, {"size": 999, "gone": False})


@pytest.mark.parametrize("method", ["PUT", "DELETE", "TRACE", "PATCH", "X" * 100])
def test_other_methods_are_not_allowed(start, method):
    reply, body = ask(start(), method)
    assert (reply.status, reply.headers["Allow"]) == (405, METHODS)
    assert "use GET, HEAD, POST, OPTIONS" in json.loads(body)["error"]
    assert reply.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "length",
    ["9" * 5_000, "-1", "1.0", "0x10", "", "\u0661", "1, 1", "+5"],
    ids=range(8),  # the sixth is a digit, too
)
def test_a_length_that_is_none_is_refused(start, length):
    address = start()
    host = f"127.0.0.1:{address[1]}"
    answer = raw(address, f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.0 411 ")


def test_chunks_are_refused(start):
    address = start()
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{address[1]}\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
    assert b" 411 " in raw(address, head.encode())


@pytest.mark.parametrize("data", [b"\0\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9.9\r\n\r\n", b"GET /" + b"a" * 70_000])
def test_what_is_no_request_is_an_answer_and_no_traceback(start, capsys, data):
    answer = raw(start(), data)
    assert answer == b"" or b'{"error": "' in answer
    assert "Traceback" not in capsys.readouterr().err


def test_headers_that_do_not_come_end_the_connection(start):
    address = start(head_seconds=0.2)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(b"GET / HT")
        assert connection.recv(100) == b""


def test_headers_that_drip_end_the_connection(start):
    """The deadline is for all headers: a byte now and then does not move it."""
    address = start(head_seconds=0.3, idle_seconds=60)
    with socket.create_connection(address, timeout=60) as connection:
        ended = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                while not ended.wait(0.02):
                    connection.sendall(b"x")

        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        thread = threading.Thread(target=drip)
        thread.start()
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
        ended.set()
        thread.join()


def upload(address, sent=b"x" * 10):
    connection = socket.create_connection(address, timeout=60)
    head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{address[1]}\r\nContent-Length: 999\r\n\r\n"
    connection.sendall(head.encode() + sent)
    return connection


def test_an_upload_that_stops_is_given_up(start):
    with upload(start(idle_seconds=0.2)) as connection:
        assert b" 408 " in connection.recv(65536)


def test_an_upload_that_drips_is_given_up(start):
    address = start(slow=(0.1, 10**9))
    with upload(address) as connection:
        ended = threading.Event()

        def drip():
            with contextlib.suppress(OSError):
                while not ended.wait(0.02):
                    connection.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        assert b" 408 " in connection.recv(65536)
        ended.set()
        thread.join()


def test_eight_slow_clients_shut_nobody_out(start):
    address = start()
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(upload(address))
        assert ask(address, "GET", "/queue")[0].status == 200


@pytest.mark.parametrize("limits", [{"connections": 2}, {"per_client": 2}])
def test_one_client_does_not_take_all_connections(start, limits):
    address = start(**limits)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(upload(address))
        assert raw(address, b"GET / HTTP/1.0\r\n\r\n") == b""  # the third is closed at once


def test_a_fault_of_ours_is_one_line_without_escapes(start, capsys):
    address = start()
    with contextlib.suppress(http.client.RemoteDisconnected):
        ask(address, "POST", "/fail", b"x")
    for _ in range(500):  # until its thread has printed
        err = capsys.readouterr().err
        if err:
            break
        threading.Event().wait(0.01)
    assert err == "error: RuntimeError: a fault of ours\\x1b[2J\n"


HOSTS = [  # Host, the address that was bound, whether it is answered
    ("127.0.0.1:8000", "127.0.0.1", True),
    ("localhost:8000", "127.0.0.1", True),
    ("[::1]:8000", "localhost", True),
    ("127.9.9.9:8000", "localhost", True),
    ("LOCALHOST:8000", "localhost", True),
    ("localhost:8001", "localhost", False),
    ("localhost", "localhost", False),
    ("evil.example:8000", "localhost", False),
    ("evil.example:8000", "127.0.0.1", False),
    ("evil.example:8000", "::1", False),
    ("10.0.0.5:8000", "localhost", False),
    ("localhost.evil.example:8000", "localhost", False),
    ("evil@localhost:8000", "localhost", False),
    ("localhost:8000/x", "localhost", False),
    ("localhost:99999", "localhost", False),
    ("[::1:8000", "localhost", False),
    ("", "localhost", False),
    ("evil.example:8000", "0.0.0.0", False),
    ("192.168.1.5:8000", "0.0.0.0", True),
    ("box.example:8000", "box.example", True),
]


@pytest.mark.parametrize(("header", "bound", "known"), HOSTS)
def test_a_name_that_was_made_to_point_here_is_not_answered(header, bound, known):
    assert is_own_host(header, bound=bound, port=8000) is known


def test_a_foreign_host_gets_a_sentence(start):
    reply, body = ask(start(), "GET", "/", Host="evil.example")
    assert reply.status == 403
    assert "open the address that vidgn printed" in json.loads(body)["error"]
