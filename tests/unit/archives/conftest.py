"""What tests of tars share: writing one, and having it refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.archives import listed


@pytest.fixture
def tar(tmp_path: Path) -> Callable[[bytes], Path]:
    """Write a tar and return its path."""

    def write(data: bytes) -> Path:
        path = tmp_path / "x.tar"
        path.write_bytes(data)
        return path

    return write


@pytest.fixture
def refused(tar: Callable[[bytes], Path]) -> Callable[[bytes, type[Exception]], str]:
    """List a tar that has to be refused; return the error's text, which fits one line of a log."""

    def run(data: bytes, kind: type[Exception]) -> str:
        with pytest.raises(kind) as caught:
            listed(tar(data))
        assert str(caught.value).isprintable()
        assert str(caught.value).startswith("x.tar")
        return str(caught.value)

    return run
