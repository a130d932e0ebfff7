"""A proxy between boto3 and an AWS server that fails where it is told to.

What is not told to fail is handed to the server and back unchanged, so a test sees real state.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.moto_server import MotoServer

FOREVER = 1 << 30
_BAD_RECORD = b"\x17\x03\x03\x00\x40" + bytes(0x40)
"""A TLS record of data whose authentication fails."""
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


@dataclass
class Fault:
    """What happens to some calls of an action: ``times`` of them, after ``skip`` went well."""

    action: str
    skip: int = 0
    times: int = 1
    answer: tuple[int, bytes, str] | None = None
    sends: bool = True
    replies: bool = True
    spoils: bool = False
    change: Callable[[bytes], bytes] = field(default=lambda body: body)

    def meets(self, action: str) -> bool:
        """Return whether this call is one of them; counts it."""
        if action != self.action or not self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class FaultProxy(MotoServer):
    """A running proxy; its clients are those of the server behind it.

    Attributes:
        calls: The actions that came in, in their order.
    """

    def __init__(self, url: str, server: str) -> None:
        super().__init__(url)
        self.calls: list[str] = []
        self._server = urlsplit(server)
        self._faults: list[Fault] = []
        self._turn = threading.Lock()

    def answer(
        self, action: str, *, status: int, code: str, message: str = "", times: int = 1,
        skip: int = 0,
    ) -> None:  # fmt: skip
        """Answer with an error in place of the server."""
        body, kind = _error_body(action, code, message or f"{code} for a test")
        self._add(Fault(action, skip, times, answer=(status, body, kind)))

    def drop_reply(self, action: str, *, times: int = 1, skip: int = 0) -> None:
        """Let the server do it, and close the connection without its reply."""
        self._add(Fault(action, skip, times, replies=False))

    def drop_request(self, action: str, *, times: int = 1, skip: int = 0) -> None:
        """Close the connection; the server never sees the request."""
        self._add(Fault(action, skip, times, sends=False))

    def spoil(self, action: str, *, times: int = 1, skip: int = 0) -> None:
        """Damage the TLS record behind the first half of the server's body."""
        self._add(Fault(action, skip, times, spoils=True))

    def rewrite(
        self, action: str, change: Callable[[bytes], bytes], *, times: int = FOREVER, skip: int = 0
    ) -> None:
        """Change the body of the server's reply."""
        self._add(Fault(action, skip, times, change=change))

    def heal(self) -> None:
        """Forget every fault that is left."""
        with self._turn:
            self._faults.clear()

    def _add(self, fault: Fault) -> None:
        with self._turn:
            self._faults.append(fault)

    def fault_for(self, action: str) -> Fault | None:
        """Note the call and return what is to happen to it."""
        with self._turn:
            self.calls.append(action)
            return next((fault for fault in self._faults if fault.meets(action)), None)

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return the server's status, headers and body."""
        connection = HTTPConnection(self._server.hostname or "", self._server.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.getheaders(), reply.read()
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def _handle(self) -> None:
        body = self._body()
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
        action = action_of(self.command, self.path, headers, body)
        fault = self.proxy.fault_for(action)
        if fault is not None and not fault.sends:
            self.close_connection = True
            return
        if fault is not None and fault.answer is not None:
            status, reply, kind = fault.answer
            self._reply(status, [("Content-Type", kind)], reply)
            return
        status, kept, reply = self.proxy.forward(self.command, self.path, headers, body)
        if fault is not None and not fault.replies:
            self.close_connection = True
            return
        spoils = fault is not None and fault.spoils
        self._reply(status, kept, fault.change(reply) if fault is not None else reply, spoils)

    def _reply(
        self, status: int, headers: list[tuple[str, str]], body: bytes, spoils: bool = False
    ) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if spoils:
            self.wfile.write(body[: len(body) // 2])
            os.write(self.connection.fileno(), _BAD_RECORD)
            self.close_connection = True
        elif self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def fault_proxy(
    server: str, certificate: tuple[ssl.SSLContext, Path] | None = None
) -> Iterator[FaultProxy]:
    """Serve until the block ends, on a port that was free; over TLS with a certificate."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as httpd:
        httpd.daemon_threads = True
        scheme = "https" if certificate else "http"
        proxy = FaultProxy(f"{scheme}://127.0.0.1:{httpd.server_address[1]}", server)
        if certificate is not None:
            context, trusted = certificate
            proxy.trusted = str(trusted)
            httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        httpd.RequestHandlerClass = type("Handler", (_Handler,), {"proxy": proxy})
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield proxy
        finally:
            httpd.shutdown()


def action_of(method: str, path: str, headers: dict[str, str], body: bytes) -> str:
    """Return the API's name of a request, such as ``CreateSnapshot`` or ``UploadPart``."""
    lower = {name.lower(): value for name, value in headers.items()}
    if "x-amz-target" in lower:
        return lower["x-amz-target"].rpartition(".")[2]
    if "x-www-form-urlencoded" in lower.get("content-type", ""):
        return parse_qs(body.decode())["Action"][0]
    return _s3_action(method, path, lower)


def _s3_action(method: str, path: str, headers: dict[str, str]) -> str:
    url = urlsplit(path)
    has = parse_qs(url.query, keep_blank_values=True).keys()
    is_object = "/" in url.path.strip("/")
    if "uploadId" in has:
        return {"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "GET": "ListParts",
                "DELETE": "AbortMultipartUpload"}[method]  # fmt: skip
    if "uploads" in has:
        return {"POST": "CreateMultipartUpload", "GET": "ListMultipartUploads"}[method]
    if "delete" in has:
        return "DeleteObjects"
    if "tagging" in has:
        return {"GET": "GetObjectTagging", "PUT": "PutObjectTagging"}[method]
    if not is_object:
        return {"GET": "ListObjectsV2" if "list-type" in has else "ListObjects",
                "HEAD": "HeadBucket", "PUT": "CreateBucket"}.get(method, method)  # fmt: skip
    if method == "PUT" and "x-amz-copy-source" in headers:
        return "CopyObject"
    return {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject",
            "DELETE": "DeleteObject"}.get(method, method)  # fmt: skip


_S3_ACTIONS = ("Object", "Upload", "Parts", "Part", "Bucket", "Objects", "ObjectsV2", "Tagging")
_JSON_ACTIONS = ("SendCommand", "GetCommandInvocation", "ListCommands", "DescribeKey")


def _error_body(action: str, code: str, message: str) -> tuple[bytes, str]:
    if action.startswith(_JSON_ACTIONS) or action == "DescribeInstanceInformation":
        text = f'{{"__type": "{code}", "message": "{message}"}}'
        return text.encode(), "application/x-amz-json-1.1"
    if action.endswith(_S3_ACTIONS):
        error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    else:
        error = (f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message>"
                 "</Error></Errors><RequestID>test</RequestID></Response>")  # fmt: skip
    return f'<?xml version="1.0" encoding="UTF-8"?>{error}'.encode(), "application/xml"
