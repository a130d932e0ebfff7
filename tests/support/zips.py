"""Zips for tests of the listing: what the standard library makes, written and read back."""

import io
import zipfile
from contextlib import contextmanager

from tests.support import archives

from imagenet_etl.storage import open_local

MEMBERS = {"a/1.JPEG": b"first" * 40, "a/2.JPEG": b"", "wnids.txt": bytes(range(256)) * 9}


@contextmanager
def on_disk(tmp_path, data):
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    with open_local(path) as file:
        yield file


def contents(tmp_path, data):
    """List and read every member the way the stages do."""
    path = tmp_path / "x.zip"
    path.write_bytes(data)
    return archives.contents(path)


def zipped(members=MEMBERS, method=zipfile.ZIP_DEFLATED, out=None, **options):
    out = out or io.BytesIO()
    with zipfile.ZipFile(out, "w", method, **options) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


class Pipe(io.RawIOBase):
    """A sink that cannot seek, which makes zipfile stream with data descriptors."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, block):
        self.data += block
        return len(block)

    def getvalue(self):
        return bytes(self.data)


def zip64_directory(monkeypatch):
    """Let zipfile write its zip64 end records and fields for an archive of any size."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 0)
        monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
    data = out.getvalue()
    assert b"PK\6\6" in data
    assert b"PK\6\7" in data
    return data
