"""Check every file of a version, and that there is no other."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from functools import partial

from imagenet_etl.check.checked import Checked
from imagenet_etl.check.loose import check_loose, check_nothing_else, total_bytes
from imagenet_etl.check.records import check_database, check_shard
from imagenet_etl.check.run import Job, Run
from imagenet_etl.check.sample import Sample, draw_sample
from imagenet_etl.check.table import NAME, RecordFile, RecordTable
from imagenet_etl.check.tree import Tree
from imagenet_etl.manifest import MANIFEST, Manifest, ManifestFile
from imagenet_etl.progress import metered
from imagenet_etl.records import lmdb
from imagenet_etl.records.formats import DATABASE, FORMATS, LOOSE_FORMATS, loose_table
from imagenet_etl.tables import open_parquet


def check_tree(
    tree: Tree,
    manifest: Manifest,
    checked: Checked | None = None,
    go_on: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Read every file once and compare it with what was recorded; decode a seeded sample.

    Memory: some row groups of ``records.parquet`` and a few MiB a core, 8 bytes a loose file.

    Args:
        tree: The version's folder.
        manifest: What it should hold.
        checked: What earlier goes have done of this check, and how long this one may take; None
            for all in one go.
        go_on: Raises what ends the check; called all the time.

    Returns:
        How many files, records and bytes were read, and how many images were decoded, in all goes.

    Raises:
        DatasetDamaged: A file is missing, differs, or holds other records than its table says.
        StillPending: The slice is over; the next go passes over what is noted as checked.
    """
    try:
        with metered("verify", sum(file.size for file in manifest.files), "B") as meter:
            return _check_tree(Run(tree, meter, Sample({}), checked, go_on), manifest)
    finally:
        if checked is not None:
            checked.save()


def _check_tree(first: Run, manifest: Manifest) -> dict[str, int]:
    tree, meter = first.tree, first.meter
    _check_tables_known(tree, manifest)
    record_files = [file for file in manifest.files if _holds_records(file.name)]
    record_files.sort(key=lambda file: -file.size)  # nothing can be done beside the last one's end
    others = [file for file in manifest.files if not _holds_records(file.name)]
    loose = [name for name in manifest.settings["outputs"] if name in LOOSE_FORMATS]
    first.do(
        partial(first.once, file.name, [file], partial(first.check_file, file)) for file in others
    )
    # Only now can records.parquet and files.parquet be trusted.
    with open_parquet(tree.storage, tree.key(NAME)) as parquet:
        table = RecordTable(tree, parquet)
        _check_counts(tree, table, manifest)
        _check_files_known(tree, table, manifest)
        meter.total += sum(total_bytes(tree, output) for output in loose)
        run = replace(first, sample=draw_sample(tree, manifest.settings["seed"]))
        # Closed at once after an error, whose traceback would keep it and what it has open.
        with closing(_jobs(run, record_files, table, loose)) as jobs:
            run.do(jobs)
    check_nothing_else(tree, manifest, loose)
    return {
        "files": len(manifest.files) + sum(table.counts[name] for name in loose),
        "records": table.counts.total(),
        "bytes": meter.items,
        "decoded": run.sample.decoded,
    }


def _holds_records(name: str) -> bool:
    item = FORMATS.get(name.partition("/")[0])
    if item is None or item.writer is None:
        return False
    return name.endswith(f"/{lmdb.DATABASE}" if item.kind == DATABASE else item.writer.suffixes[0])


def _jobs(
    run: Run, record_files: list[ManifestFile], table: RecordTable, loose: list[str]
) -> Generator[Job, None, None]:
    of_file = {of.name: of for of in table.files}
    for file in record_files:
        # Where all images were quarantined, the table tells of none.
        of = of_file.get(file.name) or _empty(file)
        check = check_database if of.item.kind == DATABASE else check_shard
        yield partial(run.once, file.name, [file], partial(check, run, file, table, of))
    for output in loose:
        yield from check_loose(run, output, table.counts[output])


def _empty(file: ManifestFile) -> RecordFile:
    output, folder, shard = file.name.split("/")
    item = FORMATS[output]
    return RecordFile(item, folder.removesuffix(item.folder.removeprefix("{}")), shard, ())


def _check_tables_known(tree: Tree, manifest: Manifest) -> None:
    """Refuse a manifest without the tables that everything else is compared with."""
    tables = [NAME, *(loose_table(o) for o in manifest.settings["outputs"] if o in LOOSE_FORMATS)]
    for name in tables:
        if name not in {file.name for file in manifest.files}:
            raise tree.damaged(MANIFEST, f"{name} among its files", "nothing")


def _check_counts(tree: Tree, table: RecordTable, manifest: Manifest) -> None:
    packed = manifest.counts["packed"]
    for output in {*manifest.settings["outputs"], *table.counts}:
        if table.counts[output] != packed:
            expected = f"{packed:,} records of {output}"
            raise tree.damaged(NAME, expected, f"{table.counts[output]:,}")


def _check_files_known(tree: Tree, table: RecordTable, manifest: Manifest) -> None:
    """Refuse records in files that the manifest does not have, which nobody would look at."""
    known = {file.name for file in manifest.files}
    for of in table.files:
        if of.name not in known:
            raise tree.damaged(NAME, "records in files of the manifest", of.name)
