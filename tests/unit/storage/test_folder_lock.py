"""The kernel's lock on a folder: others wait for it, not for ever, and not where there is none."""

import errno
import fcntl
import os
import threading
from pathlib import Path
from unittest.mock import Mock

import pytest

from imagenet_etl.storage.folder_lock import alone_in


def test_others_wait_until_it_is_given_back(tmp_path: Path) -> None:
    order: list[str] = []
    asked = threading.Event()

    def second() -> None:
        asked.set()
        with alone_in(tmp_path):
            order.append("second")

    with alone_in(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        asked.wait(10)
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_nobody_waits_where_there_are_no_locks(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=OSError(code, os.strerror(code))))
    with alone_in(tmp_path), alone_in(tmp_path):
        assert fcntl.flock.call_count == 2


def test_any_other_trouble_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trouble = OSError(errno.EIO, os.strerror(errno.EIO))
    monkeypatch.setattr(fcntl, "flock", Mock(side_effect=trouble))
    with pytest.raises(OSError, match="Input/output error"), alone_in(tmp_path):
        pytest.fail("it went on")
