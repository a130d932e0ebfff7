"""A worker whose jobs say what it is to do; it stands in for the packer in the pool's tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

from imagenet_etl.errors import BadArchive
from imagenet_etl.pool import Handler, Job, Tell, serve

if os.environ.get("ECHO_NOISE_AT_IMPORT"):
    os.write(1, b"a library greets its users\n")


def start(init: Job) -> Handler:
    def handle(job: Job, tell: Tell) -> dict[str, Any]:
        return _DEEDS[job["do"]](init, job, tell)

    return handle


def _echo(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    return {"init": init, "said": job.get("say"), "pid": os.getpid(), "path": sys.path}


def _count(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    for number in range(job["to"]):
        tell({"number": number})
    return {"counted": job["to"]}


def _refuse(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    raise BadArchive("train.tar is cut off", expected="10 bytes", found="9", remedy="Get it again")


def _crash(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    raise ValueError("a defect")


def _exit(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    os._exit(job["code"])


def _hang(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    tell({"pid": os.getpid()})
    time.sleep(3600)
    return {}


def _freeze(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    tell({"pid": os.getpid()})
    os.kill(os.getpid(), signal.SIGSTOP)
    return {}


def _chatter(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    while True:
        tell({"pid": os.getpid()})
        time.sleep(0.02)


def _print(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    print('{"result": "no answer of mine"}', flush=True)
    subprocess.run(["echo", "nor of my child"], check=True)
    return {"said": "the answer"}


def _die_in_mid_word(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    """Write half an answer, as a worker that is killed while it writes a long one does."""
    for fd in range(3, 20):
        try:
            os.write(fd, b'{"result": {"half')
        except OSError:
            continue
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def _close_stdout(init: Job, job: Job, tell: Tell) -> dict[str, Any]:
    os.closerange(3, 20)
    time.sleep(3600)
    return {}


_DEEDS = {
    "echo": _echo,
    "count": _count,
    "refuse": _refuse,
    "crash": _crash,
    "exit": _exit,
    "hang": _hang,
    "freeze": _freeze,
    "chatter": _chatter,
    "print": _print,
    "die in mid-word": _die_in_mid_word,
    "close stdout": _close_stdout,
}

if __name__ == "__main__":
    serve(start)
