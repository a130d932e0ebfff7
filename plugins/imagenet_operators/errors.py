"""The library's errors in Airflow's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from imagenet_etl.errors import (
    Cancelled,
    NothingToDo,
    StillPending,
    TerminalError,
    TransientError,
)


@contextmanager
def airflow_errors() -> Iterator[None]:
    """Skip what was not asked for, fail at once on terminal errors, let transient ones be retried.

    ``StillPending`` passes: only the operator knows when to look again.
    """
    try:
        yield
    except StillPending:
        raise
    except NothingToDo as reason:
        raise AirflowSkipException(f"Skipped: {reason}") from None
    except TerminalError as error:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from None
    except (TransientError, Cancelled) as error:
        raise AirflowException(f"{type(error).__name__}: {error}") from None
