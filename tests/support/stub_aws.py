"""The AWS CLI as scripts see it: an ``aws`` on the path whose calls this process makes.

Options are read by botocore's own model of the service, so that a wrong one is refused as the CLI
refuses it, and ``--query`` runs on the real answer of the server behind the client.
"""

from __future__ import annotations

import json
import re
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import jmespath
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from jmespath.exceptions import JMESPathError

_STUB = """#!{python} -IS
import socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
link.sendall("\\0".join(sys.argv[1:]).encode())
link.shutdown(socket.SHUT_WR)
reply = b""
while data := link.recv(65536):
    reply += data
code, out, err = reply.decode().split("\\0")
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(int(code))
"""
LOST = "Connection was closed before we received a valid response"
ATTACHED = (
    "An error occurred (VolumeInUse) when calling the AttachVolume operation: "
    "vol-0123456789abcdef0 is already attached to an instance"
)
_TOKEN = re.compile(r"[^,\[\]{}=]+|[,\[\]{}=]")


@dataclass
class StubAws:
    """What was called, and what happens besides.

    Attributes:
        client: Makes a client of a service and a region.
        folder: Holds the command; to be put on the path.
        calls: ``service:Operation`` with its parameters, as they came.
        after: Called with the parameters after an operation has succeeded, by its name.
        fails: Messages of the operations that fail, by name; each fails once.
        lost: What is said instead of the next reply of an operation, by name: it is done, its
            reply lost, and so are those of all further tries, or the next try is refused.
        altered: Called with the reply of an operation before it is given, by name.
    """

    client: Callable[..., Any]
    folder: Path
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    after: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)
    fails: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    altered: dict[str, Callable[[dict[str, Any]], None]] = field(default_factory=dict)
    _made: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def grow_old(self) -> None:
        """Let what was made by a token be an hour old; the token still leads to it."""
        for reply in self._made.values():
            reply["CreateTime"] -= timedelta(hours=1)

    def answer(self, words: list[str]) -> tuple[int, str, str]:
        """Make the call of a command line; returns exit code, standard output and error."""
        given, (service, command, *options) = _global_options(words)
        client = self.client(service, region_name=given.get("--region", "us-east-1"))
        operation = client.meta.method_to_api_mapping[command.replace("-", "_")]
        parameters = _parameters(client.meta.service_model.operation_model(operation), options)
        self.calls.append((f"{service}:{operation}", parameters))
        if operation in self.fails:
            return 254, "", self.fails.pop(operation)
        token = parameters.get("ClientToken")  # moto does not look at it
        try:
            reply = self._made.get(token) or getattr(client, command.replace("-", "_"))(
                **parameters
            )
        except ClientError as error:
            return 254, "", str(error)
        if token:
            self._made[token] = reply
        self.after.get(operation, lambda _: None)(parameters)
        if operation in self.lost:
            return 255, "", self.lost.pop(operation)
        self.altered.get(operation, lambda _: None)(reply)
        # The CLI's queries see times as texts.
        reply = json.loads(json.dumps(reply, default=lambda time: time.isoformat()))
        del reply["ResponseMetadata"]
        found = jmespath.search(given["--query"], reply) if "--query" in given else reply
        if given.get("--output") == "text":
            return 0, _as_text(found), ""
        return 0, json.dumps(found, indent=4) + "\n", ""


def volumes_in_error(reply: dict[str, Any]) -> None:
    """Alter a reply of DescribeVolumes: what EC2 could not make is in this state."""
    for volume in reply["Volumes"]:
        volume["State"] = "error"


@contextmanager
def stub_aws(folder: Path, client: Callable[..., Any]) -> Iterator[StubAws]:
    """Put an ``aws`` into the folder; it works until the block ends."""
    folder.mkdir()
    stub = StubAws(client, folder)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            words = self.rfile.read().decode().split("\0")
            try:
                code, out, err = stub.answer(words)
            except (LookupError, ValueError, TypeError, BotoCoreError, JMESPathError) as error:
                code, out, err = 252, "", f"{type(error).__name__}: {error}\n"
            self.wfile.write(f"{code}\0{out}\0{err}".encode())

    address = str(folder / "socket")
    server = socketserver.ThreadingUnixStreamServer(address, Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    command = folder / "aws"
    command.write_text(_STUB.format(python=sys.executable, address=address))
    command.chmod(0o755)
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()


def _global_options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    given, rest, words = {}, [], list(words)
    while words:
        word = words.pop(0)
        if word in ("--region", "--output", "--query"):
            given[word] = words.pop(0)
        else:
            rest.append(word)
    return given, rest


def _parameters(model: Any, options: list[str]) -> dict[str, Any]:
    members = {"--" + xform_name(name, "-"): name for name in model.input_shape.members}
    values: dict[str, list[str]] = {}
    for word in options:
        if word.startswith("--"):
            values[members[word]] = current = []
        else:
            current.append(word)
    shapes = model.input_shape.members
    return {name: _value(shapes[name], words) for name, words in values.items()}


def _value(shape: Any, words: list[str]) -> Any:
    if shape.type_name == "list":
        if words[0].startswith("["):
            return json.loads(words[0])
        return [_value(shape.member, [word]) for word in words]
    if shape.type_name == "structure":
        return _shorthand(shape, _TOKEN.findall("{" + words[0] + "}"))
    if shape.type_name == "boolean":
        return True
    return int(words[0]) if shape.type_name in ("integer", "long") else words[0]


def _shorthand(shape: Any, tokens: list[str]) -> Any:
    """Read the CLI's ``a=b,c=[d,e]``; a list of one needs no brackets."""
    if shape.type_name == "structure":
        _expect(tokens, "{")
        fields = {}
        while tokens[0] != "}":
            name = tokens.pop(0)
            _expect(tokens, "=")
            fields[name] = _shorthand(shape.members[name], tokens)
            if tokens[0] == ",":
                tokens.pop(0)
        tokens.pop(0)
        return fields
    if shape.type_name != "list":
        text = ""
        while tokens[0] not in ",]}":
            text += tokens.pop(0)
        return text
    if tokens[0] != "[":
        return [_shorthand(shape.member, tokens)]
    tokens.pop(0)
    items = []
    while tokens[0] != "]":
        items.append(_shorthand(shape.member, tokens))
        if tokens[0] == ",":
            tokens.pop(0)
    tokens.pop(0)
    return items


def _expect(tokens: list[str], token: str) -> None:
    found = tokens.pop(0)
    if found != token:
        raise ValueError(f"expected {token}, found {found}")


def _as_text(found: Any) -> str:
    rows = found if isinstance(found, list) else [found]
    if not any(isinstance(row, list) for row in rows):
        rows = [rows] if rows else []
    return "".join("\t".join(str(cell) for cell in row) + "\n" for row in rows)
