"""Several digests of a large file are taken at once."""

import hashlib

import pytest

from imagenet_etl import files

DATA = bytes(range(256)) * 400


@pytest.mark.parametrize("size", [101, 4095, 4096, 4097, 8192, 12_288, len(DATA)])
def test_every_digest_is_that_of_the_whole_file(tmp_path, monkeypatch, size):
    monkeypatch.setattr(files, "_BLOCK_BYTES", 4096)
    monkeypatch.setattr(files, "_THREADED_BYTES", 100)
    path = tmp_path / "file"
    path.write_bytes(DATA[:size])
    names = ("md5", "sha256", "sha1")
    expected = {name: hashlib.new(name, DATA[:size]).hexdigest() for name in names}
    assert files.hash_file(path, *names) == expected


def test_only_a_large_file_with_several_digests_is_worth_threads(tmp_path, monkeypatch):
    used = []
    real = files._hash_in_threads
    monkeypatch.setattr(files, "_THREADED_BYTES", 100)
    monkeypatch.setattr(
        files, "_hash_in_threads", lambda file, hashes: used.append(hashes) or real(file, hashes)
    )
    path = tmp_path / "file"
    path.write_bytes(DATA[:101])
    files.hash_file(path, "sha256")
    path.write_bytes(DATA[:100])
    files.hash_file(path, "md5", "sha256")
    assert used == []
    path.write_bytes(DATA[:101])
    files.hash_file(path, "md5", "sha256")
    assert len(used) == 1
