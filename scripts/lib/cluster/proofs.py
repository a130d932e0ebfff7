"""``scripts/cluster --test``: what is killed, and what is proven by it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.guard import say
from cluster.killed_worker import killed_worker
from cluster.processes import ClusterError
from cluster.sample import VERSION, Reference, build_archives, conf_of, files_of, versions_of
from cluster.topology import Cluster
from cluster.zombies import zombies

Proof = Callable[[Cluster, dict[str, Any]], list[str]]


def prove(folder: Path) -> int:
    """Run all proofs on one cluster and print a report.

    Raises:
        ClusterError: Something is not as it has to be.
    """
    began = time.monotonic()
    archives = folder / "archives"
    build_archives(archives)
    reference_conf = conf_of(archives, folder / "reference" / "data")
    cluster = Cluster(folder, str(folder / "data"), impatient=True)
    with _timed("start, and a run by dag.test() for comparison"):
        reference = Reference(folder / "reference", reference_conf)
        cluster.start()
        reference.wait()
    expected = files_of(Path(reference_conf["data_dir"]))
    say(f"  expected: {len(expected)} files, among them manifest.json")
    _prove(cluster, "a worker is killed with its tasks", killed_worker, expected)
    _prove(cluster, "a worker is killed, its tasks live on", zombies, expected)
    say(f"all proven in {time.monotonic() - began:.0f} s")
    return 0


def _prove(cluster: Cluster, title: str, proof: Proof, expected: dict[str, str]) -> None:
    data = cluster.folder / f"data-{proof.__name__}"
    cluster.share(str(data))
    with _timed(title):
        lines = proof(cluster, conf_of(cluster.folder / "archives", data))
        lines.append(_compared(data, expected))
    for line in lines:
        say(f"  {line}")


def _compared(data: Path, expected: dict[str, str]) -> str:
    """Compare a published version with the reference.

    Raises:
        ClusterError: They differ.
    """
    found = files_of(data)
    if found != expected:
        differing = sorted(dict(set(found.items()) ^ set(expected.items())))
        raise ClusterError(f"files that differ from those of dag.test(): {differing}")
    versions = versions_of(data)
    if versions != [VERSION]:
        raise ClusterError(f"the registry holds {versions}")
    return f"{len(found)} files, each byte as by dag.test(); one entry in the registry"


@contextmanager
def _timed(title: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    say(f"{title}: {time.monotonic() - began:.0f} s")
