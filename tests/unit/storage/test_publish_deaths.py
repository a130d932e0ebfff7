"""A version whose mover dies after giving it its mark is adopted, and its tree does not stay."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.archives import STAGES, tiny_zip
from tests.support.storages import keys
from tests.unit.test_pack_in_bucket import bucket_build, downloaded

from imagenet_etl.pipeline import run_stage, run_stage_as

pytestmark = pytest.mark.usefixtures("temporary_folder")


def test_the_next_run_adopts_what_was_published_and_removes_the_tree(
    tmp_path: Any, moto: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    build, ref = bucket_build(moto, tiny_zip(tmp_path / "site"))
    fetched = downloaded(ref)(None)
    fetched.facts["digests"] = {ref.name: {"sha256": "0" * 64}}
    storage, removed = build.storage, build.storage.delete

    def die(prefix: str) -> None:
        if prefix.endswith("/tree"):
            raise KeyboardInterrupt
        removed(prefix)

    with build.locked() as held:
        run_stage_as(held, "download", lambda _: fetched)
        for name in STAGES[1 : STAGES.index("verify")]:
            run_stage(held, name)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(storage, "delete", die)
            run_stage(held, "verify")
        assert [key for key in keys(storage, "work") if "/tree/" in key]
        verified = run_stage(held, "verify").receipt
    assert verified.base.startswith("datasets/")
    assert storage.stat(f"{verified.base}/manifest.json") is not None
    assert not [key for key in keys(storage, "work") if "/tree/" in key]
