"""Reaching a server: verified TLS, finite waits, and what a failed connection means.

Everything here happens before a message is handed over, so every error from here says that nothing has left.
"""

from __future__ import annotations

import http.client
import io
import logging
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any

from .errors import ConnectionRefused, TransportTimeout, TransportUnavailable

if TYPE_CHECKING:
    import requests

# X509_V_ERR_… of OpenSSL, as ssl.SSLCertVerificationError.verify_code reports them.
_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = {62, 64}
# OpenSSL's words for "that was not a TLS greeting". Which one depends on what the other side said first.
_NOT_TLS = {
    "WRONG_VERSION_NUMBER",
    "UNKNOWN_PROTOCOL",
    "HTTP_REQUEST",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
}


@lru_cache(maxsize=8)
def tls_context(ca_file: str = "") -> ssl.SSLContext:
    """The one way this package does TLS: certificate and name verified, TLS 1.2 or newer.

    `ca_file` adds authorities to those the system trusts. Built once for each file: reading a bundle of authorities
    costs about 20 ms.
    """
    return _context(ca_file)


@lru_cache(maxsize=8)
def _https_context(ca_file: str) -> ssl.SSLContext:
    # One of its own: urllib3 sets ALPN to http/1.1 on what it is given, and a mail server may hang up on that.
    return _context(ca_file)


def _context(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


def connect(host: str, port: int, *, timeout_s: float, address: str = "") -> socket.socket:
    """An open TCP connection; each address of the host is tried in turn, or only `address`.

    Raises:
        TransportUnavailable: and its kinds; the code says which step failed.
    """
    try:
        sock = socket.create_connection((address or host, port), timeout=timeout_s)
    except (OSError, UnicodeError) as exc:
        raise unavailable(exc, host, port) from exc
    # Small commands and replies alternate; Nagle's algorithm would hold each one back for a delayed ACK.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def unavailable(exc: BaseException, host: str, port: int, *, transport: str = "") -> TransportUnavailable:
    """The typed error for a connection that could not be made or secured. Its code is a key of the remedies."""
    root = _root(exc)
    where = f"{host}:{port}"
    facts: dict[str, Any] = {"transport": transport, "detail": _reason(root)}
    if isinstance(root, ssl.SSLCertVerificationError):
        code, words = _certificate_fault(root)
        return TransportUnavailable(f"{where}: {words}", code=code, retryable=False, **facts)
    if isinstance(root, ssl.SSLError) and getattr(root, "reason", "") in _NOT_TLS:
        words = "this port does not begin with TLS"
        return TransportUnavailable(f"{where}: {words}", code="tls_wrong_kind", retryable=False, **facts)
    if isinstance(root, ssl.SSLError):
        return TransportUnavailable(f"{where}: the TLS handshake failed", code="tls_failed", **facts)
    if isinstance(root, (socket.gaierror, UnicodeError)):
        again = getattr(root, "errno", None) == getattr(socket, "EAI_AGAIN", None)
        code = "dns_no_answer" if again else "dns_not_found"
        # With the name, by which the remedies tell Microsoft's hosts from others.
        facts["detail"] = f"{host}: {facts['detail']}"
        return TransportUnavailable(f"the name {host!r} cannot be found", code=code, retryable=again, **facts)
    if isinstance(root, ConnectionRefusedError):
        return ConnectionRefused(f"nothing listens at {where}", code="port_closed", **facts)
    if isinstance(root, TimeoutError):
        return TransportTimeout(f"no answer from {where} in time", code="no_answer", **facts)
    return TransportUnavailable(f"{where} cannot be reached", code="unreachable", **facts)


def _certificate_fault(exc: ssl.SSLCertVerificationError) -> tuple[str, str]:
    if exc.verify_code == _EXPIRED:
        return "tls_expired", "the server's certificate has expired"
    if exc.verify_code == _NOT_YET_VALID:
        return "tls_not_yet_valid", "the server's certificate is not valid yet"
    if exc.verify_code in _WRONG_NAME:
        return "tls_wrong_name", "the server's certificate is for another name"
    return "tls_untrusted", "the server's certificate is not from a trusted authority"


def _reason(exc: BaseException) -> str:
    verify_message = getattr(exc, "verify_message", "")
    return str(verify_message or getattr(exc, "strerror", "") or exc)[:300]


def _root(exc: BaseException) -> BaseException:
    """The socket's own error below what an HTTP library wrapped round it."""
    seen: set[int] = set()
    queue: list[Any] = [exc]
    kinds = (ssl.SSLError, socket.gaierror, ConnectionRefusedError, TimeoutError, UnicodeError)
    while queue:
        one = queue.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, kinds) and not hasattr(one, "request"):
            return one
        queue += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return exc


def nothing_left(exc: BaseException) -> bool:
    """Whether a fault of `requests` happened while connecting, so that no byte of the request can have left."""
    import requests
    from urllib3.exceptions import NewConnectionError

    if isinstance(exc, (requests.ConnectTimeout, requests.exceptions.SSLError)):
        return True
    reasons = (getattr(one, "reason", None) for one in exc.args)
    return isinstance(exc, requests.ConnectionError) and any(isinstance(one, NewConnectionError) for one in reasons)


def http_session(ca_file: str = "", *, plain: bool = False) -> requests.Session:
    """A `requests` session that verifies TLS with our context, and never retries: a retried POST can send a mail twice.

    It knows no `http://`, whatever an answer gives as the next address, unless it is `plain`: for the machine's own
    identity. It asks for answers as they are, because a small packed one can be unpacked without an end. The read
    time-out is the time for the whole answer, not for each piece of it.
    """
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, ssl_context=_https_context(ca_file), **kwargs)
            self.poolmanager.pool_classes_by_scheme = _pools()

        def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
            manager = super().proxy_manager_for(proxy, ssl_context=_https_context(ca_file), **kwargs)
            manager.pool_classes_by_scheme = _pools()
            return manager

    session = requests.Session()
    session.headers["Accept-Encoding"] = "identity"
    session.mount("https://", Adapter(max_retries=0))
    if plain:
        session.mount("http://", Adapter(max_retries=0))
    else:
        del session.adapters["http://"]
    return session


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The `Retry-After` header in seconds, from either of its forms (RFC 9110 10.2.3); None without one."""
    value = (headers.get("Retry-After") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:10])
    moment = http_date(value)
    return None if moment is None else max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())


def http_date(value: str) -> datetime | None:
    """A date as HTTP writes it; None for what is none."""
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)


@lru_cache(maxsize=1)
def _pools() -> dict[str, Any]:
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Connection(HTTPSConnection):
        response_class = _TimedResponse

    class PlainConnection(HTTPConnection):
        response_class = _TimedResponse

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Connection

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = PlainConnection

    return {"https": Pool, "http": PlainPool}


class _TimedResponse(http.client.HTTPResponse):
    """An answer that has to be complete within the socket's time-out, and is none of those that only announce it.

    Without it, a server that sends one byte just before each time-out could keep a thread for days, and the refusal
    that a 103 seems to be would stand for a message that was accepted right after it (RFC 9110 15.2).
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_Timed(sock, self.fp.detach()))

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        # The library itself passes over a 100, and over no other of its kind.
        return version, http.client.CONTINUE if 100 <= status < 200 else status, reason


class _Timed(io.RawIOBase):
    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock, self._raw = sock, raw
        self._timeout_s = sock.gettimeout()
        self._until = monotonic() + (self._timeout_s or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._timeout_s is not None:
            left_s = self._until - monotonic()
            if left_s <= 0:
                raise TimeoutError("the answer was not complete in time")
            self._sock.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            with suppress(OSError):
                # The next request on this connection has all its time again.
                self._sock.settimeout(self._timeout_s)
            self._raw.close()
        super().close()


_quiet = threading.local()


class _Discretion(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(_quiet, "on", False)


@contextmanager
def unlogged() -> Iterator[None]:
    """While it lasts, urllib3 writes nothing of this thread's requests: it would log addresses that are secrets."""
    _hush_urllib3()
    _quiet.on = True
    try:
        yield
    finally:
        _quiet.on = False


@lru_cache(maxsize=1)
def _hush_urllib3() -> None:
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_Discretion())
