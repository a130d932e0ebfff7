"""The image index from the backup, so that an archive of a terabyte is not listed again."""

from __future__ import annotations

import logging

from imagenet_etl.aws.s3_layout import BackupPlace, backup_place
from imagenet_etl.errors import (
    BackupIncomplete,
    CloudError,
    CloudUnavailable,
    SchemaTooNew,
    SourceError,
    SourceUnavailable,
)
from imagenet_etl.manifest import ManifestFile
from imagenet_etl.receipts import Receipt
from imagenet_etl.stage import Place, Result

log = logging.getLogger(__name__)
_RECEIPT = "receipt.json"
_NOT_FROM_BACKUP = (CloudError, CloudUnavailable, SourceError, SourceUnavailable, SchemaTooNew)


def index_from_backup(place: Place) -> Result | None:
    """Return the stage's result as the backup has it, its files published; None if it has none.

    Its key is the stage digest, so it was made by this very stage from these very archives. Why
    it cannot be had is told in the log: the archive is read then.

    Args:
        place: The place of the stage ``untar``.
    """
    settings = place.build.settings
    if not (settings.s3_uri and settings.from_backup):
        return None
    where = backup_place(settings.s3_uri, place.build.facts.name)
    try:
        return _taken(place, where)
    except _NOT_FROM_BACKUP as error:
        log.info("untar: no index from the backup, so the archives are read: %s", error)
        return None


def _taken(place: Place, where: BackupPlace) -> Result | None:
    from imagenet_etl.aws.s3_restore_file import (  # noqa: PLC0415 - slow to import
        Restorer,
        read_small,
    )

    build, client = place.build, place.build.client("s3")
    prefix = where.index(place.digest)
    key = f"{prefix}/{_RECEIPT}"
    found = read_small(client, where.bucket, key)
    if found is None:
        log.info("untar: %s is not there, so the archives are read", where.uri(prefix))
        return None
    receipt = Receipt.from_json(found.data, where.uri(key))
    if receipt is None or (receipt.stage, receipt.stage_digest) != ("untar", place.digest):
        raise BackupIncomplete(
            f"{where.uri(key)} is not the receipt of this index",
            expected=f"stage digest {place.digest}",
            found=receipt.stage_digest if receipt else "none",
        )
    lacking = receipt.counts.get("bad_classes", 0) + receipt.counts.get("missing_classes", 0)
    if lacking > build.settings.max_bad_classes:
        return None  # the stage itself says what is wrong
    restorer = Restorer(
        build, client, where.bucket, prefix, build.storage.staging(), build.settings.connections
    )
    outputs = []
    for item in receipt.outputs:
        path = place.scratch()
        restorer.restore(ManifestFile(item.name, item.size, item.sha256), path)
        outputs.append(place.publish(item.name, path))
    log.info("untar: the index comes from the backup, %s", where.uri(prefix))
    return Result(
        counts=receipt.counts,
        outputs=tuple(outputs),
        facts=receipt.facts,
        quarantined=receipt.quarantined,
        identity=receipt.identity,
    )
