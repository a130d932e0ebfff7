"""SIGKILL at every change that a prune makes: no half version, and the next one finishes."""

from __future__ import annotations

from pathlib import Path

from tests.support.children import python
from tests.unit.datastore.helpers import NAME, Site

from imagenet_etl.pruning import prune_versions

_PRUNE = """
    import os, shutil, signal, sys
    from pathlib import Path
    from tests.unit.datastore.helpers import Site
    from imagenet_etl.pruning import prune_versions

    site, left = Site(Path(sys.argv[1])), int(sys.argv[2])

    def counted(change):
        def run(*args, **options):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return change(*args, **options)
        return run

    for name in ("put", "create", "delete", "remove", "publish_tree"):
        setattr(site.storage, name, counted(getattr(site.storage, name)))
    shutil.rmtree = counted(shutil.rmtree)
    print(*prune_versions(site.store, 1, really=True).versions, left)
"""


def test_prune_that_is_killed_anywhere_leaves_no_half_version(tmp_path: Path) -> None:
    killed, done = 0, False
    while not done:
        data = tmp_path / str(killed)
        site = Site(data)
        site.on_disk("old", at=1)
        site.on_disk("new", at=2)
        with python(_PRUNE, data, killed) as child:
            done = child.communicate()[0].startswith("old")
        old = data / f"datasets/{NAME}/old"
        assert (old / "manifest.json").exists() == old.exists()
        assert site.registered().latest == "new"
        if old.exists() is False and not done:
            entry = site.registered().versions.get("old", {"removing": True})
            assert entry["removing"], "what is gone is not taken for a version"
        prune_versions(site.store, 1, really=True)
        assert site.versions() == list(site.registered().versions) == ["new"]
        assert {path.parts[-4] for path in data.rglob("*.rec")} == {"new"}
        site.storage.close_staging()
        killed += 1
    assert killed > 8
