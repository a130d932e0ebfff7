"""Small compressed tars, which are unpacked into memory."""

import gzip
import io
import tarfile

import pytest
from tests.support.archives import contents, ref_of

from imagenet_etl.archives import tar_gz
from imagenet_etl.archives.kinds import TAR_GZ
from imagenet_etl.errors import BadArchive, UnsafeMember

FILES = {"kit/readme.txt": b"read me", "kit/data/meta.mat": bytes(range(256)) * 40}


def packed(files=FILES):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue())


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "kit.tar.gz"
    path.write_bytes(packed())
    return path


def test_members_are_read_as_they_were_packed(archive):
    assert ref_of(archive).kind == TAR_GZ
    assert contents(archive) == FILES


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_truncated_one_is_refused(archive, kept):
    data = archive.read_bytes()
    archive.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(BadArchive, match=r"kit\.tar\.gz cannot be unpacked"):
        contents(archive)


def test_a_flipped_byte_is_noticed(archive):
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(BadArchive):
        contents(archive)


def test_what_unpacks_to_too_much_is_stopped_there(archive, monkeypatch):
    monkeypatch.setattr(tar_gz, "MAX_UNPACKED_BYTES", 5000)
    with pytest.raises(UnsafeMember, match="at most 5,000 bytes"):
        contents(archive)


def test_a_large_one_is_refused_as_what_cannot_be_read_in_place(archive, monkeypatch):
    monkeypatch.setattr("imagenet_etl.archives.kinds.MAX_PACKED_BYTES", 100)
    with pytest.raises(BadArchive, match="compressed"):
        ref_of(archive)
