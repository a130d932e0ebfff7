"""FAULT 22: a full disk, an I/O error or a short write at every write call in turn.

One call in ``IMAGENET_WRITE_FAULT_STEP`` here; all of them in ``scripts/bench write-faults``.
"""

import os
from pathlib import Path

import pytest
from tests.support.archives import build_of, run_stages, tiny_zip
from tests.support.write_faults import SETTINGS, every_write_fails_once

TYPED = {"full": {"NotEnoughSpace"}, "broken": {"NotWritable"}, "short": set()}
STEP = int(os.environ.get("IMAGENET_WRITE_FAULT_STEP", "53"))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", TYPED)
def test_22_a_fault_at_any_write_is_a_typed_error_and_the_rerun_gives_the_same_bytes(
    tmp_path: Path, kind: str
) -> None:
    (tmp_path / "site").mkdir()
    build = build_of(tmp_path, tiny_zip(tmp_path / "site"), **SETTINGS)
    run_stages(build, "plan_shards")
    told = every_write_fails_once(tmp_path, kind, STEP)
    cases = [case for case in told if "error" in case]
    results = [case["after"] for case in told if "after" in case]
    assert len(cases) == len(results) > 9
    strange = [case for case in cases if case["error"] not in TYPED[kind] | {None}]
    assert not strange, strange[0]
    assert [case for case in cases if case["staging"]] == [], "staging is freed"
    for result in results:
        assert result == results[0]
