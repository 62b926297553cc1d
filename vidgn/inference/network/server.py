"""An HTTP server for one page that no client can hold: deadlines, largest sizes, and a Host that is checked.

The requests are read by the standard library; one request comes on each connection. What this adds: headers must
come within seconds, a body must come at a rate, a client has a few connections, and a name that was made to point at
this machine (DNS rebinding) is not answered.
"""

import io
import json
import socket
import sys
import threading
import time
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from vidgn.terminal.escape import printable

SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; media-src blob: data:; connect-src 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
METHODS = "GET, HEAD, POST, OPTIONS"
_CHUNK = 1 << 16


class Limits(NamedTuple):
    """What a client may take.

    Attributes:
        body: bytes of an upload.
        head_seconds: for a request and its headers.
        idle_seconds: without a byte.
        slow: (seconds after which, bytes per second below which) an upload is given up.
        connections: at a time; more are closed at once.
        per_client: of those, from one address.
    """

    body: int
    head_seconds: float = 15.0
    idle_seconds: float = 30.0
    slow: tuple[float, int] = (20.0, 10_000)
    connections: int = 64
    per_client: int = 16


class TooSlow(Exception):
    """An upload comes too slowly, or has stopped."""


class LimitedServer(ThreadingHTTPServer):
    """Runs a handler in a thread for each connection, of which there are not too many.

    Args:
        host: the address to listen at; with a colon it is of IPv6.
        port: 0 takes a free one.
        handler: a subclass of `LimitedHandler`.
        limits: of its clients.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, handler: type["LimitedHandler"], *, limits: Limits) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.host, self.limits = host, limits
        self._open: Counter[str] = Counter()
        self._count = threading.Lock()
        super().__init__((host, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or close at once where there are too many."""
        with self._count:
            full = self._open.total() >= self.limits.connections
            if full or self._open[client_address[0]] >= self.limits.per_client:
                self.shutdown_request(request)
                return
            self._open[client_address[0]] += 1
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and count the connection as closed."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._count:
                self._open[client_address[0]] -= 1
                self._open += Counter()  # forgets addresses without a connection

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line what went wrong; a client that went away is nothing to speak of."""
        err = sys.exception()
        if not isinstance(err, OSError):
            print(printable(f"error: {type(err).__name__}: {err}")[:500], file=sys.stderr)


class LimitedHandler(BaseHTTPRequestHandler):
    """Reads one request within the limits; subclasses answer `get` and `post`."""

    server: LimitedServer

    def setup(self) -> None:
        """Read through a clock."""
        super().setup()
        self._clock = _TimedReader(self.connection, idle=self.server.limits.idle_seconds)
        self._clock.deadline = time.monotonic() + self.server.limits.head_seconds
        self.rfile.close()
        self.rfile = io.BufferedReader(self._clock)

    def get(self) -> None:
        """Answer GET and HEAD."""
        raise NotImplementedError

    def post(self, length: int) -> None:
        """Answer POST with a body of a known length, which `receive` reads."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answer GET, if it is for this server."""
        if self._is_known():
            self.get()

    def do_HEAD(self) -> None:
        """Answer HEAD as GET, without the body."""
        self.do_GET()

    def do_OPTIONS(self) -> None:
        """Name the methods."""
        if self._is_known():
            self.send(HTTPStatus.NO_CONTENT, b"", "text/plain", Allow=METHODS)

    def do_POST(self) -> None:
        """Answer POST, if it is for this server and tells how long its body is."""
        if not self._is_known():
            return
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdecimal()) or len(length) > 15:
            self.say(HTTPStatus.LENGTH_REQUIRED, error="the upload must tell its length")
        elif not int(length):
            self.say(HTTPStatus.LENGTH_REQUIRED, error="the upload is empty")
        else:
            self.post(int(length))

    def receive(self, length: int, file: BinaryIO) -> None:
        """Write the body to a file.

        Raises:
            TooSlow: it comes too slowly.
            ConnectionError: the client went away.
            OSError: the file cannot be written.
        """
        began, left = time.monotonic(), length
        while left:
            self._clock.deadline = time.monotonic() + self.server.limits.idle_seconds
            try:
                chunk = self.rfile.read1(min(_CHUNK, left))
            except TimeoutError as err:
                raise TooSlow("the upload has stopped") from err
            if not chunk:
                raise ConnectionError("the client went away")
            file.write(chunk)
            left -= len(chunk)
            took, (after, rate) = time.monotonic() - began, self.server.limits.slow
            if took > after and length - left < took * rate:
                raise TooSlow(f"the upload comes with less than {rate:,} bytes per second")

    def is_gone(self) -> bool:
        """Tell whether the client has closed the connection."""
        try:
            self.connection.settimeout(0)
            return not self.connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, TimeoutError):
            return False
        except OSError:
            return True

    def say(self, status: HTTPStatus, **content: Any) -> None:
        """Answer with a JSON object."""
        self.send(status, json.dumps(content, allow_nan=False).encode(), "application/json")

    def send(self, status: HTTPStatus, body: bytes, kind: str, **headers: str) -> None:
        """Answer with bytes of a kind; HEAD gets the headers alone."""
        self.connection.settimeout(self.server.limits.idle_seconds)
        self.send_response(status)
        sent = {**SECURITY, "Content-Type": kind, "Content-Length": str(len(body)), **headers}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that the standard library refuses; a method that is not known is not allowed."""
        unknown = code == HTTPStatus.NOT_IMPLEMENTED
        status = HTTPStatus.METHOD_NOT_ALLOWED if unknown else HTTPStatus(code)
        body = json.dumps({"error": f"{status.phrase.lower()}; use {METHODS}"}).encode()
        self.send(status, body, "application/json", **({"Allow": METHODS} if unknown else {}))

    def version_string(self) -> str:
        """Name no versions."""
        return "vidgn"

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the page says what went wrong."""

    def _is_known(self) -> bool:
        """Answer a request for another name than this server's with a refusal."""
        port = int(self.server.server_address[1])
        if is_own_host(self.headers.get("Host", ""), bound=self.server.host, port=port):
            return True
        self.say(HTTPStatus.FORBIDDEN, error="requests come from this page only: open the address that vidgn printed")
        return False


def is_own_host(header: str, *, bound: str, port: int) -> bool:
    """Tell whether the Host of a request names a server.

    At an address of this machine alone it is one of its names; else a number or the machine's own name, as another
    name may have been made to point here.

    >>> [is_own_host(host, bound="localhost", port=8000) for host in ("localhost:8000", "[::1]:8000", "evil.org:8000")]
    [True, True, False]
    """
    try:
        given = urlsplit(f"//{header}")
        name, given_port = given.hostname or "", given.port or 80
    except ValueError:
        return False
    if given_port != port or given.username is not None or given.path:
        return False
    number = _number(name)
    if bound == "localhost" or (_number(bound) is not None and ip_address(bound).is_loopback):
        return name in ("localhost", bound) or (number is not None and ip_address(number).is_loopback)
    own = socket.gethostname().lower()
    return number is not None or name in (bound, "localhost", own, f"{own}.local", socket.getfqdn().lower())


def _number(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


class _TimedReader(io.RawIOBase):
    """The bytes of a connection until a moment; what comes later is a TimeoutError."""

    def __init__(self, connection: socket.socket, *, idle: float) -> None:
        self.deadline = 0.0
        self._connection = connection
        self._idle = idle

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time for this part of the request is over")
        self._connection.settimeout(min(self._idle, left))
        return self._connection.recv_into(buffer)
