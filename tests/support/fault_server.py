"""A real HTTP(S) server of one file that misbehaves on demand.

It answers GET with ETag, Last-Modified, Range and If-Range as RFC 9110 has them. ``script`` holds
one ``Answer`` for each request to come; when it is used up, ``answers`` chooses, or ``always``
answers. Who comes while ``bears`` others are served gets ``refusal``. Every request is kept in
``requests``, with its headers and the number of body bytes that were sent. HEAD is answered
by ``head`` and kept in ``heads``. Whom ``admits`` does not let in gets 401::

    with FaultServer(content) as server:
        server.script = [Answer(drop_at=1000)]       # the first connection breaks, the second works
        ...
        assert server.requests[1].headers["Range"] == "bytes=1000-"
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import select
import socket
import ssl
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Self

import trustme

LAST_MODIFIED = "Tue, 10 Feb 2015 08:00:00 GMT"
LOGIN_PAGE = b"<!DOCTYPE html><html><body><form>Please log in</form></body></html>"
_BLOCK = 64 << 10


@dataclass(frozen=True)
class Answer:
    """What the server does with one request; the default serves the file well.

    Attributes:
        status: The status to send in place of 200 and 206; without ``body`` it comes with none.
        headers: Headers to add or replace; None as a value leaves one out.
        body: Content to serve in place of the file.
        ignore_range: Send the whole file with status 200 whatever was asked.
        ignore_if_range: Send the range that was asked for even if the file changed.
        chunked: Send it in chunks, so that the client does not learn its length.
        drop_at: Reset the connection after that many bytes of the body.
        cut_at: Close the connection in an orderly way after that many bytes of the body.
        stall_at: Pause after that many bytes of the body until ``server.resumed`` is set.
        redirect: Answer with 302 and this Location.
        pause_s: Sleep so long after every 64 KiB.
        drip_s: Send single bytes, so long apart.
    """

    status: int | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    ignore_range: bool = False
    ignore_if_range: bool = False
    chunked: bool = False
    drop_at: int | None = None
    cut_at: int | None = None
    stall_at: int | None = None
    redirect: str = ""
    pause_s: float = 0.0
    drip_s: float = 0.0


@dataclass
class Request:
    """A request that was received, when, how many bytes of the body went out, if it was served."""

    path: str
    headers: Message
    at: float = field(default_factory=time.time)
    sent: int = 0
    is_served: bool = False


class FaultServer:
    """Serve ``content`` on an ephemeral port of 127.0.0.1 until the block ends.

    Args:
        content: The file.
        path: Its path on the server.
        tls: Serve HTTPS; ``write_ca`` gives what a client has to trust.
    """

    def __init__(self, content: bytes = b"", path: str = "/archive", *, tls: bool = False) -> None:
        self.content = content
        self.path = path
        self.script: list[Answer] = []
        self.always = Answer()
        self.answers: Callable[[Request], Answer] = lambda _: self.always
        self.bears = 1000
        self.refusal = Answer(status=503)
        self.most_at_once = 0
        self._under_way: list[tuple[Request, socket.socket]] = []
        self.requests: list[Request] = []
        self.head = Answer()
        self.heads: list[Request] = []
        self.admits: Callable[[Request], bool] = lambda _: True
        self.resumed = threading.Event()
        self.closing = threading.Event()
        self._scheme = "https" if tls else "http"
        self._guard = threading.Lock()
        handler = type("Handler", (_Handler,), {"faults": self})
        self._http = _QuietServer(("127.0.0.1", 0), handler)
        if tls:
            self._ca = trustme.CA()
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._ca.issue_cert("127.0.0.1", "localhost").configure_cert(context)
            self._http.socket = context.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        # The poll interval is what closing costs.
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        """The port."""
        return int(self._http.server_address[1])

    @property
    def url(self) -> str:
        """The file's URL."""
        return self.url_at("127.0.0.1")

    def url_at(self, authority: str) -> str:
        """Return the file's URL with another name for this host, or with a user before it."""
        return f"{self._scheme}://{authority}:{self.port}{self.path}"

    @property
    def sent(self) -> int:
        """Body bytes sent in all."""
        return sum(request.sent for request in self.requests)

    def write_ca(self, path: Path) -> Path:
        """Write the authority's certificate, for SSL_CERT_FILE."""
        self._ca.cert_pem.write_to_path(str(path))
        return path

    def next_answer(self, request: Request, connection: socket.socket) -> Answer:
        """Note a request and return the answer it gets."""
        with self._guard:
            self.requests.append(request)
            if not self.admits(request):
                return Answer(status=401)
            # A client that has turned away is noticed only by the next write, which may come late.
            self._under_way = [pair for pair in self._under_way if not _is_left(pair[1])]
            if len(self._under_way) >= self.bears:
                return self.refusal
            request.is_served = True
            self._under_way.append((request, connection))
            self.most_at_once = max(self.most_at_once, len(self._under_way))
            return self.script.pop(0) if self.script else self.answers(request)

    def end_of(self, request: Request) -> None:
        """Note that a request was answered."""
        with self._guard:
            self._under_way = [pair for pair in self._under_way if pair[0] is not request]

    def head_answer(self, request: Request) -> Answer:
        """Note a HEAD and return the answer it gets."""
        self.heads.append(request)
        return self.head if self.admits(request) else Answer(status=401)


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Clients that go away in mid-answer are what this server is for."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: FaultServer

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        request = Request(self.path, self.headers)
        answer = self.faults.next_answer(request, self.connection)
        try:
            self._give(request, answer)
        finally:
            self.faults.end_of(request)

    def _give(self, request: Request, answer: Answer) -> None:
        whole = self.faults.content if answer.body is None else answer.body
        if answer.redirect:
            self._start(answer, 302, {"Location": answer.redirect}, 0)
        elif answer.status is not None and answer.body is None:
            self._start(answer, answer.status, {}, 0)
        else:
            status, headers, body = self._select(answer, whole)
            self._start(answer, answer.status or status, headers, len(body))
            self._send(answer, body, request)

    def do_HEAD(self) -> None:
        answer = self.faults.head_answer(Request(self.path, self.headers))
        whole = self.faults.content if answer.body is None else answer.body
        if answer.redirect:
            self._start(answer, 302, {"Location": answer.redirect}, 0)
        elif answer.status is not None:
            self._start(answer, answer.status, {}, 0)
        else:
            _, headers, body = self._select(answer, whole)
            self._start(answer, 200, headers, len(body))

    def _select(self, answer: Answer, whole: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body by Range and If-Range (RFC 9110, sections 13 and 14)."""
        headers = {"ETag": _etag(whole), "Last-Modified": LAST_MODIFIED, "Accept-Ranges": "bytes",
                   "Content-Type": "application/octet-stream"}  # fmt: skip
        now = headers | answer.headers
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        fits = (
            answer.ignore_if_range
            or condition is None
            or condition in (now["ETag"], now["Last-Modified"])
        )
        if not match or not fits or answer.ignore_range:
            return 200, headers, whole
        start = int(match[1])
        if start >= len(whole):
            return 416, headers | {"Content-Range": f"bytes */{len(whole)}"}, b""
        end = min(int(match[2]) + 1, len(whole)) if match[2] else len(whole)
        span = f"bytes {start}-{end - 1}/{len(whole)}"
        return 206, headers | {"Content-Range": span}, whole[start:end]

    def _start(self, answer: Answer, status: int, headers: dict[str, str], length: int) -> None:
        self.send_response(status)
        framing = {"Transfer-Encoding": "chunked"} if answer.chunked else {}
        known = framing or {"Content-Length": str(length)}
        for name, value in (known | headers | answer.headers).items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()

    def _send(self, answer: Answer, body: bytes, request: Request) -> None:
        ends = [at for at in (answer.drop_at, answer.cut_at) if at is not None]
        step = 1 if answer.drip_s else _BLOCK
        for data in _blocks(body[: min(ends, default=None)], answer.stall_at, step):
            if request.sent == answer.stall_at and not self._stalled():
                break
            if request.sent + len(data) == len(body) and not answer.chunked:
                self.faults.end_of(request)  # with these bytes the client may ask for others
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if answer.chunked else data)
            request.sent += len(data)
            time.sleep(answer.drip_s or answer.pause_s)
        if answer.drop_at is not None:
            self._reset()
        elif answer.cut_at is not None:
            self.close_connection = True
        elif answer.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _stalled(self) -> bool:
        """Wait for ``resumed``; return False when the client or the server goes before."""
        self.connection.settimeout(0.02)
        while not self.faults.resumed.is_set():
            try:
                gone = not self.connection.recv(1)
            except TimeoutError:
                gone = False
            except OSError:
                gone = True
            if gone or self.faults.closing.is_set():
                self.close_connection = True
                return False
        self.connection.settimeout(None)
        return True

    def _reset(self) -> None:
        # A reset throws away what the client's kernel has not acknowledged; waiting for that makes
        # the byte at which the client sees the break a matter of the test and not of luck.
        for _ in range(1000):
            if not _unacknowledged(self.connection):
                break
            time.sleep(0.001)
        with suppress(OSError):
            linger_off = struct.pack("ii", 1, 0)  # close with RST in place of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
        self.connection.close()
        self.close_connection = True


@lru_cache(maxsize=8)
def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _blocks(body: bytes, border: int | None, step: int) -> Iterator[bytes]:
    """Cut a body into blocks, with a cut at ``border``."""
    cuts = sorted({*range(0, len(body), step), len(body), min(border or 0, len(body))})
    yield from (body[start:end] for start, end in pairwise(cuts))


def _is_left(connection: socket.socket) -> bool:
    """Return whether the other side has closed a connection."""
    poll = select.poll()
    try:
        poll.register(connection.fileno(), select.POLLIN)
        # Of a TLS connection, too, the end is what the plain socket tells.
        return bool(poll.poll(0)) and not socket.socket.recv(connection, 1, socket.MSG_PEEK)
    except (OSError, ValueError):  # reset by the other side, or closed by this one
        return True


def _unacknowledged(connection: socket.socket) -> int:
    """Return how many bytes the other side's kernel has not got (tcp(7), SIOCOUTQ)."""
    count = fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return int.from_bytes(count, sys.byteorder)
