"""Verifying a version on an instance, by Python's standard library alone."""

import ast
import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.stub_instance import run_as_file

from imagenet_etl.aws import instance_check
from imagenet_etl.aws.scripts import verify_script
from imagenet_etl.build import Build


@pytest.fixture
def version(packed: Build, tmp_path: Path) -> Path:
    source = Path(packed.settings.data_dir, packed.published, "v1")
    return Path(shutil.copytree(source, tmp_path / "v1"))


def verify(version: Path, full: bool, digest: str = "") -> subprocess.CompletedProcess[str]:
    digest = digest or hashlib.sha256((version / "manifest.json").read_bytes()).hexdigest()
    script = verify_script(folder=str(version), manifest_sha256=digest, full=full)
    return run_as_file(version.parent, script, {"PATH": "/usr/bin:/bin"})


def listed(version: Path) -> list[dict[str, object]]:
    files: list[dict[str, object]] = json.loads((version / "manifest.json").read_text())["files"]
    return files


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(("full", "how"), [(False, "size"), (True, "content")])
def test_a_version_as_it_was_published_is_right(version: Path, full: bool, how: str) -> None:
    done = verify(version, full)
    assert done.returncode == 0, done.stderr
    assert f"{len(listed(version))} files are right, by {how}" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_loose_images_are_told_of(version: Path) -> None:
    images = sum(1 for path in (version / "imagefolder").rglob("*.[jJ]*") if path.is_file())
    assert f"; {images} loose images were counted, not compared" in verify(version, False).stdout
    assert f"; {images} loose images were read, not compared" in verify(version, True).stdout


def test_another_manifest_is_told(version: Path) -> None:
    done = verify(version, False, "0" * 64)
    assert done.returncode == instance_check.OTHER_MANIFEST
    assert "0" * 64 in done.stderr


def test_a_missing_manifest_is_told(version: Path) -> None:
    (version / "manifest.json").rename(version / "other.json")
    assert verify(version, False, "0" * 64).returncode == instance_check.NO_MANIFEST


def test_a_cut_file_is_named_by_the_fast_check(version: Path) -> None:
    name = str(listed(version)[0]["name"])
    path = version / name
    path.write_bytes(path.read_bytes()[:-1])
    done = verify(version, False)
    assert done.returncode == instance_check.MISSING
    assert name in done.stderr


def test_a_flipped_bit_is_found_by_the_full_check_alone(version: Path) -> None:
    name = next(str(file["name"]) for file in listed(version) if str(file["name"]).endswith(".rec"))
    flip(version / name)
    assert verify(version, False).returncode == 0
    done = verify(version, True)
    assert done.returncode == instance_check.DIFFERENT
    assert name in done.stderr


def test_a_manifest_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[]")
    done = verify(tmp_path, True)
    assert done.returncode == instance_check.UNREADABLE
    assert len(done.stderr.splitlines()) == 1


def test_a_few_names_stand_for_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [{"name": f"f{number}", "size": 1, "sha256": ""} for number in range(9)]
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    digest = instance_check.sha256_of(tmp_path / "manifest.json")
    assert instance_check.check(tmp_path, digest, False) == instance_check.MISSING
    assert "9 of 9 files (f0, f1, f2, ...)" in capsys.readouterr().err


def test_the_text_keeps_to_python_37_and_the_standard_library() -> None:
    tree = ast.parse(Path(instance_check.__file__).read_text(), feature_version=(3, 7))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {
        a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names
    }
    known = {"__future__", "concurrent.futures", "hashlib", "itertools", "json", "os", "pathlib",
             "sys", "typing"}  # fmt: skip
    assert modules <= known
