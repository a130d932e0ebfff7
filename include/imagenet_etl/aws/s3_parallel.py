"""Work for many files in a few threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from imagenet_etl.aws.s3_bucket import LocalFile


def in_parallel(
    files: Iterable[LocalFile],
    threads: int,
    work: Callable[[LocalFile], object],
    stop: Callable[[BaseException], object] = lambda _error: None,
) -> None:
    """Do some work for each file in several threads, which take the next when they are ready.

    Args:
        files: What there is to do, taken in turn.
        threads: How many threads.
        work: Does it for one file.
        stop: Told of the first failure at once, to end what the others have under way.

    Raises:
        Exception: What the first failing call raised, once those under way have ended.
    """
    todo, turn, failures = iter(files), threading.Lock(), list[BaseException]()

    def run() -> None:
        while not failures:
            with turn:
                file = next(todo, None)
            if file is None:
                return
            try:
                work(file)
            except BaseException as error:
                failures.append(error)
                stop(error)
                raise

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(run) for _ in range(threads)]
        try:
            for each in running:
                each.result()
        except BaseException as error:
            if error not in failures:  # we are cancelled
                failures.append(error)
                stop(error)
                raise
            raise failures[0] from None
