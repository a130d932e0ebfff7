"""Postgres and Redis from the system's packages, as throw-away processes on free ports."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from cluster.processes import ClusterError, Start, end_of, free_port, start, wait_until

_UNSAFE = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Nothing in this database outlives the cluster."""


def postgres_programs() -> Path | None:
    """Return the folder of Postgres' programs: Debian keeps them out of the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _version(initdb: Path) -> float:
    return float(initdb.parts[-3])


def missing_packages() -> list[str]:
    """Return the Debian packages that have to be installed first."""
    missing = [] if postgres_programs() else ["postgresql"]
    return missing if shutil.which("redis-server") else [*missing, "redis-server"]


def start_postgres(folder: Path, logs: Path) -> str:
    """Start Postgres with an empty database; return ``user:password@host:port/database``.

    It refuses to run as root, and then runs as the user whom its package has made.

    Raises:
        ClusterError: It could not be set up, or does not answer.
    """
    programs = postgres_programs()
    assert programs is not None
    user = "postgres" if os.geteuid() == 0 else None
    folder.mkdir(mode=0o700)
    password, port, env = secrets.token_urlsafe(16), free_port(), {"LC_ALL": "C.UTF-8"}
    given = folder / "password"
    given.write_text(password)
    if user:
        shutil.chown(folder, user, user)
        shutil.chown(given, user, user)
    log = logs / "postgres.log"
    options = ["--auth=scram-sha-256", f"--pwfile={given}", "--username=airflow", "--no-sync",
               "--encoding=UTF8"]  # fmt: skip
    made = start(Start([programs / "initdb", "-D", folder / "data", *options], log, env, user))
    if end_of(made, "initdb", 120):
        raise ClusterError(f"initdb failed ({log})")
    settings = _UNSAFE | {"port": str(port), "listen_addresses": "127.0.0.1",
                          "unix_socket_directories": "", "max_connections": "200"}  # fmt: skip
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    start(Start([programs / "postgres", "-D", folder / "data", *words], log, env, user,
                at_end=signal.SIGQUIT))  # fmt: skip
    ready: list[str | Path] = [programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    wait_until(f"Postgres is ready ({log})", lambda: not subprocess.run(ready).returncode, 60)
    return f"airflow:{password}@127.0.0.1:{port}/postgres"


def start_redis(logs: Path) -> str:
    """Start Redis, which keeps nothing on disk; return ``:password@host:port/0``.

    Raises:
        ClusterError: It does not answer.
    """
    password, port, log = secrets.token_urlsafe(16), free_port(), logs / "redis.log"
    # From its input, since anyone may read a command line.
    config = f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\nappendonly no\n'
    start(Start(["redis-server", "-"], log, dict(os.environ), stdin=config))
    wait_until(f"Redis is ready ({log})", lambda: _accepts(port), 30)
    return f":{password}@127.0.0.1:{port}/0"


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
