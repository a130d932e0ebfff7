"""``manifest.json``: what a published version is, down to the digest of every file.

It holds nothing that differs between two builds of the same content: no times, hosts or run ids.
Its last field is the digest of all others, so that a flipped bit in it is noticed like one in any
other file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from imagenet_etl.build import Build
from imagenet_etl.config import Settings
from imagenet_etl.errors import DatasetDamaged, SchemaTooNew
from imagenet_etl.files import check_schema, digest_of, pretty_json
from imagenet_etl.receipts import Receipt, outputs_intact

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 4
_DIGEST = "content_sha256"
_RESTORE = "Restore it from the backup, or remove the version and build it again"


@dataclass(frozen=True)
class ManifestFile:
    """One file of the version: name below its folder, size in bytes, SHA-256 in hex."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of ``manifest.json``.

    Attributes:
        dataset: The dataset's name.
        version: The version's name.
        pack_digest: Digest of all that decides the content.
        licence: The dataset's terms in a sentence.
        terms_url: Where they stand in full.
        archives: Source archives with sizes and digests.
        settings: The settings that decided the content.
        notes: What a reader must know, such as splits that were left out.
        counts: Images expected, packed, quarantined, left out; classes; by split and treatment.
        class_counts: Packed images by split and wnid.
        short_classes: By split and wnid, how many images were ``planned`` and ``packed`` of each
            class that quarantine took some of.
        dropped_classes: How many images the archive has of each class that was left out, by wnid.
        bad_classes: Class tars that could not be read, with the reason.
        quarantined: The images that were left out as bad.
        repaired: The first thousand images that no trainer could have read as they were: CMYK,
            16 bit, or not what their name says; ``repaired.tsv`` lists all.
        tools: Versions of the codecs.
        files: Every file but this one and, for loose formats, the images themselves, which
            ``<format>/files.parquet`` lists.
    """

    dataset: str
    version: str
    pack_digest: str
    licence: str
    terms_url: str
    archives: list[dict[str, Any]]
    settings: dict[str, Any]
    notes: list[str]
    counts: dict[str, int]
    class_counts: dict[str, dict[str, int]]
    short_classes: dict[str, dict[str, dict[str, int]]]
    dropped_classes: dict[str, int]
    bad_classes: list[dict[str, Any]]
    quarantined: tuple[dict[str, Any], ...]
    repaired: list[dict[str, Any]]
    tools: dict[str, str]
    files: tuple[ManifestFile, ...]

    def to_json(self) -> bytes:
        """Encode for ``parse_manifest``."""
        fields = {"schema_version": MANIFEST_SCHEMA} | asdict(self)
        return pretty_json(fields | {_DIGEST: digest_of(fields)})


def parse_manifest(data: bytes, name: str) -> Manifest:
    """Decode a manifest; ``name`` is used in errors.

    Raises:
        DatasetDamaged: It is no manifest, or was changed after it was written.
        SchemaTooNew: A newer version of this project wrote it.
    """
    try:
        fields = json.loads(data)
        # First of all: a newer version may take the digest in another way.
        check_schema(name, fields["schema_version"], MANIFEST_SCHEMA)
        if fields["schema_version"] < MANIFEST_SCHEMA:
            raise DatasetDamaged(
                f"{name} was written by an early version of this package",
                expected=f"schema {MANIFEST_SCHEMA}",
                found=fields["schema_version"],
                remedy="Build the version again under another name",
            )
        _check_digest(fields, name)
        files = tuple(ManifestFile(**file) for file in fields.pop("files"))
        return Manifest(**fields | {"quarantined": tuple(fields["quarantined"])}, files=files)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetDamaged(f"{name} is no manifest", found=error, remedy=_RESTORE) from error


def _check_digest(fields: dict[str, Any], name: str) -> None:
    """Compare the content with its digest, and leave in ``fields`` what a ``Manifest`` has."""
    expected = fields.pop(_DIGEST)
    found = digest_of(fields)
    if found != expected:
        raise DatasetDamaged(
            f"{name} is damaged", expected=f"sha256 {expected}", found=found, remedy=_RESTORE
        )
    del fields["schema_version"]


def read_manifest(build: Build, version: str) -> Manifest | None:
    """Return the manifest of a published version, or None when there is no such version."""
    key = f"{build.published}/{version}/{MANIFEST}"
    data = build.storage.read(key)
    return None if data is None else parse_manifest(data, key)


def is_published_unnoted(build: Build, packed: Receipt) -> bool:
    """Return whether a tree has its version's name already, and its receipt does not tell yet.

    The verify that gave it the name has died, or sleeps, before it could note that.
    """
    version = version_of(build.settings, packed.stage_digest)
    if packed.base == f"{build.published}/{version}":
        return False
    try:
        published = read_manifest(build, version)
    except (DatasetDamaged, SchemaTooNew):
        return False  # pack tells of it
    return published is not None and published.pack_digest == packed.stage_digest


def tree_is_there(build: Build, packed: Receipt) -> bool:
    """Return whether what was packed is there still, under its version's name or before."""
    return outputs_intact(build, packed) or is_published_unnoted(build, packed)


def version_of(settings: Settings, pack_digest: str) -> str:
    """Return the name of the version: the user's, or the pack digest's first eight digits."""
    return settings.version or pack_digest[:8]
