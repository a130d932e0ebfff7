"""How the harness ends: in time, with an exit code, and after a failure with its logs' ends."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from cluster.processes import ClusterError

_TAIL, _WIDTH = 30, 240
_AGAIN_S = 0.5
"""An error that is raised in the wrong moment, as in ``__del__``, would be lost: raise another."""


def guarded(harness: Callable[[], int], folder: Path, within_s: float = 0) -> int:
    """Run the harness in this process; whatever it fails with, the ends of all logs are printed.

    Args:
        harness: What to run.
        folder: The cluster's; the logs lie in its folders.
        within_s: What it may take as a whole, in seconds; 0 for as long as it likes.

    Returns:
        The harness' exit code, 1 if it failed or took too long, 130 after Ctrl-C.
    """

    def too_late(*_: object) -> None:
        raise ClusterError(f"not at its end within {within_s:g} s")

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGALRM, too_late)
    signal.setitimer(signal.ITIMER_REAL, within_s, _AGAIN_S)
    try:
        return harness()
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - a bug of the harness needs its logs all the more
        signal.setitimer(signal.ITIMER_REAL, 0)
        _tell(error, folder)
        return 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _tell(error: Exception, folder: Path) -> None:
    for log in sorted(folder.glob("*/*.log")):
        say(_tail(log))
    if not isinstance(error, ClusterError):
        say("".join(traceback.format_exception(error)).rstrip())
    say(f"FAILED: {error}")


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([f"--- {log.name}", *(line[:_WIDTH] for line in lines[-_TAIL:])])


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
