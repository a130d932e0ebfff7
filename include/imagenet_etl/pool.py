"""A supervised pool of worker processes that never waits forever and never leaves one behind.

Workers are exec'd, not forked, so they can be started from threads and from Celery's daemonic
processes. Jobs and answers are lines of JSON over pipes. A worker ends when its parent's pipe
closes, whatever way the parent dies; the parent notices a dead worker when the worker's pipe
closes, and a silent one by its heartbeat.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from imagenet_etl.errors import EtlError, WorkerDied, WorkerStalled

log = logging.getLogger(__name__)
_STOP_GRACE_S = 3.0
_TICK_S = 1.0
Job = dict[str, Any]
"""A JSON-ready job; its ``name`` stands in errors."""


@dataclass
class _Worker:
    process: subprocess.Popen[str]
    job: Job | None = None
    heard: float = 0.0
    has_ended: bool = False

    def send(self, message: Any) -> None:
        pipe = self.process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps(message) + "\n")
            pipe.flush()
        except BrokenPipeError:
            return  # its reader thread reports the death, with the exit code


_READY: dict[str, list[subprocess.Popen[str]]] = {}


@contextmanager
def workers_ready(module: str, count: int) -> Iterator[None]:
    """Start worker processes for a pool of the block, so that they import while others work."""
    processes = _READY.setdefault(module, [])
    try:
        for _ in range(count):
            processes.append(_start_process(module))
        yield
    finally:
        del _READY[module]
        for process in processes:
            process.kill()
        for process in processes:
            process.communicate()


def _start_process(module: str) -> subprocess.Popen[str]:
    # The worker imports just what is imported here, and nothing from where it is started.
    path = os.pathsep.join(place or str(Path.cwd()) for place in sys.path)
    return subprocess.Popen(
        [sys.executable, "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"},
    )


class WorkerPool:
    """Runs jobs in ``python -m <module>`` processes; a context manager that stops them all.

    Args:
        module: The worker's module; it calls ``serve``.
        workers: How many processes.
        init: Sent to each worker first.
        stall_s: A worker that is silent for longer has stalled.
    """

    def __init__(self, module: str, workers: int, init: Job, stall_s: float = 300.0) -> None:
        self._module = module
        self._count = workers
        self._init = init
        self._stall_s = stall_s
        self._workers: list[_Worker] = []
        self._inbox: queue.Queue[tuple[_Worker, dict[str, Any] | None]] = queue.Queue()

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers]

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                self._start()
        except BaseException:
            self._stop_all(at_once=True)
            raise
        return self

    def _start(self) -> None:
        ready = _READY.get(self._module)
        worker = _Worker(ready.pop() if ready else _start_process(self._module))
        self._workers.append(worker)
        threading.Thread(target=self._listen, args=(worker,), daemon=True).start()
        worker.send(self._init)

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for line in lines:
                try:
                    message = json.loads(line)
                except ValueError:
                    # The last words of a killed worker, or something that wrote to its stdout.
                    log.warning("worker %d said %.200r", worker.process.pid, line)
                    continue
                worker.heard = time.monotonic()
                self._inbox.put((worker, message))
        self._inbox.put((worker, None))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop_all(at_once=kind is not None)

    def _stop_all(self, *, at_once: bool) -> None:
        for worker in self._workers:
            if at_once:
                worker.process.kill()
            assert worker.process.stdin is not None
            with suppress(BrokenPipeError):
                worker.process.stdin.close()
        deadline = time.monotonic() + _STOP_GRACE_S
        for worker in self._workers:
            _wait_or_kill(worker.process, deadline - time.monotonic())

    def run(
        self,
        jobs: Iterable[Job],
        on_progress: Callable[[Job, dict[str, Any]], None],
        on_tick: Callable[[], None],
    ) -> Iterator[tuple[Job, dict[str, Any]]]:
        """Yield each job with its result, in the order in which they finish.

        Args:
            jobs: Taken one by one as workers become free.
            on_progress: Called with what a worker tells in between.
            on_tick: Called at least once a second; it may raise to stop everything.

        Raises:
            WorkerDied: A worker ended without an answer.
            WorkerStalled: A worker has been silent for too long.
            EtlError: What the job itself raised, rebuilt here.
        """
        waiting = iter(jobs)
        for worker in self._workers:
            self._hand_out(worker, waiting)
        while any(worker.job is not None for worker in self._workers):
            on_tick()
            if self._inbox.empty():  # who has answered is not silent, even if we were
                self._check_stalled()
            try:
                worker, message = self._inbox.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            worker.has_ended = message is None
            if worker.job is None:
                continue
            if message is None:
                raise _death(worker)
            if "error" in message:
                raise EtlError.from_dict(message["error"])
            if "progress" in message:
                on_progress(worker.job, message["progress"])
                continue
            job = worker.job
            self._hand_out(worker, waiting)
            yield job, message["result"]

    def _hand_out(self, worker: _Worker, waiting: Iterator[Job]) -> None:
        worker.job = next(waiting, None)
        worker.heard = time.monotonic()
        if worker.job is not None:
            if worker.has_ended:
                raise _death(worker)
            worker.send(worker.job)

    def _check_stalled(self) -> None:
        for worker in self._workers:
            silent = time.monotonic() - worker.heard
            if worker.job is not None and silent > self._stall_s:
                raise WorkerStalled(
                    f"the worker of {worker.job['name']} (pid {worker.process.pid}) is stuck",
                    found=f"no sign of life for {silent:.0f} s",
                    remedy="Finished segments are kept: run again",
                )


def _death(worker: _Worker) -> WorkerDied:
    assert worker.job is not None
    code = _wait_or_kill(worker.process, _STOP_GRACE_S)
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    hint = " (out of memory?)" if code == -9 else ""
    return WorkerDied(
        f"the worker of {worker.job['name']} (pid {worker.process.pid}) died",
        found=how + hint,
        remedy="Finished segments are kept: run again",
    )


def _wait_or_kill(process: subprocess.Popen[str], timeout_s: float) -> int:
    try:
        return process.wait(max(0.0, timeout_s))
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


Tell = Callable[[dict[str, Any]], None]
Handler = Callable[[Job, Tell], dict[str, Any]]


def serve(start: Callable[[Job], Handler]) -> None:
    """Be a worker: read the init and the jobs from stdin, answer on stdout.

    Args:
        start: Gets the pool's ``init`` and returns the function that does one job; that function
            gets the job and a function to tell progress with.
    """
    # Whatever else prints must not disturb the protocol.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    jobs: queue.Queue[Job] = queue.Queue()
    threading.Thread(target=_read_jobs, args=(sys.stdin, jobs), daemon=True).start()

    def answer(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")

    try:
        handler = start(jobs.get())
        while True:
            answer(result=handler(jobs.get(), lambda told: answer(progress=told)))
    except EtlError as error:
        answer(error=error.to_dict())


def _read_jobs(stdin: IO[str], jobs: queue.Queue[Job]) -> None:
    for line in stdin:
        jobs.put(json.loads(line))
    # The parent is gone or wants an end: nothing that is still under way can be of use.
    os._exit(0)
