"""HTTP connections that end at a deadline, and that a redirect cannot lead into the local network unasked."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPMessage, HTTPResponse, HTTPSConnection
from ipaddress import ip_address
from typing import IO, Any
from urllib import request
from urllib.parse import urlsplit


class Watch:
    """What one download may do: for how long, and with which hosts.

    Args:
        address: where it begins; its host, as it is found first, and those of the proxies may be anywhere.
        seconds: after them its connections are closed.
        allow: asked about a host inside the local network that a redirect leads to; by default none is allowed.
    """

    def __init__(self, address: str, *, seconds: float, allow: Callable[[str], bool] = lambda host: False) -> None:
        self.expired = False
        self._seconds = seconds
        self._allow = allow
        self._sockets: list[socket.socket] = []
        proxies = [urlsplit(proxy if "://" in proxy else f"//{proxy}") for proxy in request.getproxies().values()]
        self._proxies = {part.hostname for part in proxies}
        self._first = urlsplit(address).hostname or ""
        self._allowed: set[str] = set()
        self._has_begun = False
        self._is_inside = is_local(self._first)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Close the connections when the time is over."""
        timer = threading.Timer(self._seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            self._sockets.clear()

    def check_redirect(self, address: str) -> None:
        """Refuse an address whose name says that it is inside the local network.

        Raises:
            OSError: it is, and the first one was not.
        """
        host = urlsplit(address).hostname or ""
        if not self._is_inside and is_local(host):
            self._require_allowed(host, shown=host)

    def connect(self, address: tuple[str, int], *args: Any, **options: Any) -> socket.socket:
        """Connect, and refuse a host that turns out to be inside the local network.

        Raises:
            OSError: there is no connection, or it was a redirect that led there.
        """
        connection = socket.create_connection(address, *args, **options)
        host, peer = address[0], str(connection.getpeername()[0])
        is_first = host == self._first and not self._has_begun  # later its name may lead elsewhere
        self._is_inside |= is_first and is_local(peer)
        self._has_begun |= host == self._first
        if host not in self._proxies and is_local(peer) and not self._is_inside:
            try:
                self._require_allowed(host, shown=f"{host} ({peer})")
            except OSError:
                connection.close()
                raise
        self._sockets.append(connection)
        return connection

    def opener(self) -> request.OpenerDirector:
        """Return what follows http and https, through the proxy of the environment, and nothing else."""
        opener = request.OpenerDirector()
        for handler in (
            request.ProxyHandler(), _Handler(self), _TLSHandler(self), request.HTTPDefaultErrorHandler(),
            _Redirects(self), request.HTTPErrorProcessor(), request.UnknownHandler(),
        ):  # fmt: skip
            opener.add_handler(handler)
        return opener

    def _require_allowed(self, host: str, *, shown: str) -> None:
        if host not in self._allowed and not self._allow(shown):
            raise OSError(_leads_inside(shown))
        self._allowed.add(host)

    def _end(self) -> None:
        self.expired = True
        for connection in list(self._sockets):
            try:
                connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads
            except OSError:
                continue  # it is closed already


def is_local(host: str) -> bool:
    """Tell whether a host is this machine or in a local network, as far as its name or number says.

    >>> [is_local(host) for host in ("127.0.0.1", "10.1.2.3", "fe80::1%eth0", "localhost", "8.8.8.8", "x.org")]
    [True, True, True, True, False, False]
    """
    try:
        return not ip_address(host.partition("%")[0].strip("[]")).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".lan"))


def _leads_inside(host: str) -> str:
    return f"it is redirected to {host}, inside the local network; give that address itself if you mean it"


class _Handler(request.HTTPHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: request.Request) -> HTTPResponse:
        return self.do_open(_connection(HTTPConnection, self._watch), req)


class _TLSHandler(request.HTTPSHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def https_open(self, req: request.Request) -> HTTPResponse:
        return self.do_open(_connection(HTTPSConnection, self._watch), req)


class _Redirects(request.HTTPRedirectHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def redirect_request(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> request.Request | None:
        self._watch.check_redirect(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _connection(kind: type[HTTPConnection], watch: Watch) -> Any:
    def make(host: str, **options: Any) -> HTTPConnection:
        connection = kind(host, **options)
        connection._create_connection = watch.connect  # type: ignore[attr-defined]  # before the TLS handshake
        return connection

    return make
