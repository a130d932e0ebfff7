"""The summary of a version."""

import json
from pathlib import Path

from tests.support.archives import build_of, run_stages, tiny_zip

from imagenet_etl.readers import RecordIoReader
from imagenet_etl.report import LISTED
from imagenet_etl.samples import SampleSize


def test_report_tells_what_was_made_of_what(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    build = build_of(tmp_path, tiny_zip(tmp_path / "site"), formats=("recordio:q80", "imagefolder"))
    receipts = run_stages(build, "report")
    receipt = receipts["report"]
    text = (build.storage.read(receipt.key_of("report.txt")) or b"").decode()
    assert text == receipt.facts["text"]
    version = Path(receipts["verify"].facts["path"])
    manifest = json.loads((version / "manifest.json").read_text())
    assert version.name in text.splitlines()[0]
    assert receipts["verify"].facts["manifest_sha256"] in text
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert "12 images in 3 classes, 4 a class" in lines["train"]
    assert "6 images in 3 classes, 2 a class" in lines["val"]
    assert lines["copied"].split()[1] == str(manifest["counts"]["copied"])
    assert lines["recordio"].endswith("none q80 420 jpeg")
    files = (version / "imagefolder").rglob("*.*")
    size = sum(path.stat().st_size for path in files)
    assert f"{size / 1e9:.3f} GB" in lines["imagefolder"]
    assert len(RecordIoReader(version / "recordio/train/train_00000.rec")) == 12
    assert set(receipts) - {"report"} <= lines.keys()


def test_a_report_of_many_bad_classes_stays_short(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    size = SampleSize(classes=30, train=2, val=1, test=0)
    names = [f"train/n{c:08d}/images/n{c:08d}_0.JPEG" for c in range(1, 31)]
    build = build_of(
        tmp_path, tiny_zip(tmp_path / "site", dict.fromkeys(names, b""), size), max_bad=30
    )
    text = run_stages(build, "report")["report"].facts["text"]
    named = [line for line in text.splitlines() if line.startswith("  n0")]
    assert len(named) == LISTED
    assert f"in {30 - LISTED} more classes, all of them in quarantine.tsv" in text
