"""The harness speaks to an API server that may be away, and that may refuse it for good."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest
from cluster.api import Api


class Server(ThreadingHTTPServer):
    """Gives tokens, and takes those that it is told to take."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.given = 0
        self.takes = ""
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/auth/token":
            self.server.given += 1
            self.answer(201, {"access_token": f"token-{self.server.given}"})
        elif self.headers["Authorization"] == f"Bearer {self.server.takes}":
            self.answer(200, {"is": "here"})
        else:
            self.answer(401, {"detail": "refused"})

    def answer(self, code: int, reply: dict[str, str]) -> None:
        body = json.dumps(reply).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_it_logs_in_when_its_token_is_not_taken(server: Server) -> None:
    api = Api(server.url)
    for server.takes in ("token-1", "token-2"):
        assert api.get("pools") == {"is": "here"}
    assert server.given == 2


@pytest.mark.timeout(10)
def test_a_new_token_that_is_refused_as_well_is_an_error(server: Server) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        Api(server.url).get("pools")
    assert server.given == 1


def test_a_stranger_at_its_port_is_not_healthy(server: Server) -> None:
    assert Api(server.url).health() == {}
