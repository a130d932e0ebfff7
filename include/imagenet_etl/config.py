"""The frozen settings of a run, checked once, and what each of them may be."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import PurePath
from typing import Any

from imagenet_etl.datasets.base import WNID
from imagenet_etl.errors import ConfigError
from imagenet_etl.images.geometry import parse_resize
from imagenet_etl.images.spec import SUBSAMPLINGS, ImageSpec, parse_image_spec
from imagenet_etl.processes import cores
from imagenet_etl.settings_checks import RATIOS, check_cloud, check_types, require

FORMATS = ("recordio", "lmdb", "webdataset", "imagefolder")
EXPECTATIONS = ("published", "any")
LABEL_ORDERS = ("wnid", "devkit")
KEEP_ARCHIVES = ("always", "after_backup", "never")
SHUFFLES = ("global", "blocks", "none")
BACKUPS = ("dataset", "archives")
STORAGE_CLASSES = ("STANDARD", "INTELLIGENT_TIERING", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR")
"""Those that answer a GET at once: a restore must not wait for hours."""

SEGMENT_RECORDS = 4096
"""The most records in a segment, the unit of work and of retry, that is no shard of some size."""

MAX_LOOSE_FILES = 250_000
"""More files than this are slow to copy, list and delete: the user must want them."""

BOUNDS: dict[str, tuple[int, int]] = {
    "quality": (1, 100),
    "shards": (0, 100_000),
    "shard_mib": (0, 1 << 20),
    "val_shards": (0, 10_000),
    "seed": (0, 2**63 - 1),
    "workers": (0, 512),
    "connections": (1, 64),
    "min_images_per_class": (0, 1_000_000),
    "val_images_per_class": (0, 1_000_000),
    "max_bad_classes": (0, 100_000),
    "s3_mib_per_s": (0, 100_000),
    "s3_connections": (1, 64),
    "keep_versions": (0, 1000),
}
"""Inclusive bounds of the whole-number settings; the form and the command line show them too."""

# These names stand beside the versions, on disk or in the bucket.
_VERSION = re.compile(
    r"(?!(?:registry\.json|catalog\.json|archives)$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
)
_CHOICES = {"expect": EXPECTATIONS, "label_order": LABEL_ORDERS, "keep_archives": KEEP_ARCHIVES,
            "shuffle": SHUFFLES, "subsampling": SUBSAMPLINGS,
            "s3_storage_class": STORAGE_CLASSES}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What one run is asked to do.

    Attributes:
        dataset: Name of the dataset.
        data_dir: Folder, or ``s3://`` prefix, that holds ``archives/``, ``work/`` and
            ``datasets/``.
        version: Name of the published version; empty for the pack digest's first eight digits.
        sources: Path or URL by archive name, in place of the publisher's URL.
        splits: The splits to prepare; empty for all, or for those of the archives in ``sources``.
        label_order: What counts the labels: sorted ``wnid`` or the ids of the ``devkit``.
        keep_classes: Classes to keep, by wnid; empty for all.
        drop_classes: Classes to leave out.
        min_images_per_class: Classes with fewer training images are left out.
        val_images_per_class: How many of a class's training images become validation images, where
            the dataset has none of its own.
        formats: Output formats, each of ``FORMATS``, alone or with what differs in its images
            from the settings below: ``lmdb:squash:224x224:q90``.
        resize: A mode and its size in pixels, such as ``short_edge:480``; see ``geometry.MODES``.
        upscale: Whether images smaller than that are enlarged.
        quality: JPEG quality of re-encoded images, 1 to 100.
        subsampling: Chroma subsampling of re-encoded JPEGs, of ``SUBSAMPLINGS``.
        center_crop: Whether the middle square is cut out first, as ``im2rec --center-crop`` does.
        png: Whether images are stored as PNG.
        im2rec_compat: Whether images are drawn as im2rec draws them, aliasing included.
        shards: Number of training shards; 0 leaves it to ``shard_mib``.
        val_shards: Number of validation shards; 0 leaves it to ``shard_mib``.
        shard_mib: Target size of a shard in MiB of images as they are in the archive; 0 gives one
            shard for each segment.
        shuffle: ``global`` as im2rec; ``blocks`` of neighbours, for disks that seek; or ``none``.
        seed: Seed of the shuffle; 100 is im2rec's.
        train_ratio: Share of each training chunk that stays training data; im2rec's option.
        test_ratio: Share of it that becomes the split ``test``; the rest becomes ``val``.
        max_bad: Images that may be quarantined; None for 0.01 % of them and at least one.
        max_bad_classes: Class tars that may be missing, empty or damaged.
        expect: ``published`` demands the published counts and digests, ``any`` takes samples.
        workers: Packing processes; 0 for one a core.
        connections: Ranges of one archive that are fetched at once, where the server allows it.
        allow_loose_files: Whether a format may write more loose files than ``MAX_LOOSE_FILES``.
        hardlink: Whether loose files that equal those of an unpacked source become links to them.
        keep_archives: What becomes of fetched archives: kept ``always``, ``after_backup`` of them
            deleted, or ``never`` kept once the version is verified.
        s3_uri: Where to back up, and where archives are looked for first; empty for nowhere.
        back_up: What is backed up, of ``BACKUPS``.
        from_backup: Whether archives that the backup holds are fetched from there.
        s3_storage_class: Storage class of what is backed up, of ``STORAGE_CLASSES``.
        s3_kms_key: KMS key that encrypts the backup; empty for the bucket's default.
        s3_tags: Tags of the backup's objects, at most ten.
        s3_mib_per_s: Most MiB a second that a backup sends; 0 for as many as go.
        s3_connections: Requests of a backup that are under way at once.
        ebs_volume_id: The volume to snapshot; empty for none.
        freeze: Whether the volume's file system is frozen while its snapshot begins; needs root.
        snapshot_regions: Regions that get a copy of the snapshot.
        snapshot_kms_key: KMS key, or alias in each region, that encrypts the copies; empty for the
            encryption that the snapshot has.
        share_with: Account ids that may use the snapshot and its copies.
        accept_licence: Whether somebody says that those accounts may have the data.
        keep_versions: How many of the newest versions ``prune`` keeps; 0 for all.
        prune: Whether ``prune`` deletes; else it only says what it would delete.

    Raises:
        ConfigError: A value is out of its bounds.
    """

    dataset: str
    data_dir: str
    version: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    splits: tuple[str, ...] = ()
    label_order: str = "wnid"
    keep_classes: tuple[str, ...] = ()
    drop_classes: tuple[str, ...] = ()
    min_images_per_class: int = 0
    val_images_per_class: int = 0
    formats: tuple[str, ...] = ("recordio",)
    resize: str = "none"
    upscale: bool = False
    quality: int = 90
    subsampling: str = "420"
    center_crop: bool = False
    png: bool = False
    im2rec_compat: bool = False
    shards: int = 0
    val_shards: int = 1
    shard_mib: int = 0
    shuffle: str = "global"
    seed: int = 100
    train_ratio: float = 1.0
    test_ratio: float = 0.0
    max_bad: int | None = None
    max_bad_classes: int = 0
    expect: str = "published"
    workers: int = 0
    connections: int = 4
    allow_loose_files: bool = False
    hardlink: bool = False
    keep_archives: str = "always"
    s3_uri: str = ""
    back_up: tuple[str, ...] = ("dataset",)
    from_backup: bool = True
    s3_storage_class: str = "STANDARD"
    s3_kms_key: str = ""
    s3_tags: dict[str, str] = field(default_factory=dict)
    s3_mib_per_s: int = 0
    s3_connections: int = 10
    ebs_volume_id: str = ""
    freeze: bool = False
    snapshot_regions: tuple[str, ...] = ()
    snapshot_kms_key: str = ""
    share_with: tuple[str, ...] = ()
    accept_licence: bool = False
    keep_versions: int = 0
    prune: bool = False

    def __post_init__(self) -> None:
        check_types(self, (*BOUNDS, *(["max_bad"] if self.max_bad is not None else [])))
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            require(low <= value <= high, name, value, f"{low} to {high}")
        require(_is_place(self.data_dir), "data_dir", self.data_dir, "an absolute path")
        for archive, place in self.sources.items():
            # Relative to what? Tasks and their retries run on different machines.
            require(_is_place(place), f"sources[{archive}]", place, "an absolute path or a URL")
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            require(value in allowed, name, value, " or ".join(allowed))
        self._check_images()
        self._check_ratios()
        self._check_classes()
        ok = not self.version or bool(_VERSION.fullmatch(self.version))
        require(
            ok, "version", self.version, "letters, digits, dot, dash, underscore; no name of ours"
        )
        if self.max_bad is not None:
            require(self.max_bad >= 0, "max_bad", self.max_bad, "0 or more")
        check_cloud(self, BACKUPS)

    def _check_images(self) -> None:
        parse_resize(self.resize)
        require(bool(self.formats), "formats", self.formats, "at least one format")
        formats = list(dict.fromkeys(self.formats))
        names = [text.partition(":")[0] for text in formats]
        for text, name in zip(formats, names, strict=True):
            require(name in FORMATS, "formats", name, " or ".join(FORMATS))
            require(not text.endswith(":"), "formats", text, "something after the colon")
            require(names.count(name) == 1, "formats", name, "each format once")
        formats.sort(key=lambda text: FORMATS.index(text.partition(":")[0]))
        object.__setattr__(self, "formats", tuple(formats))
        _ = self.outputs

    def _check_classes(self) -> None:
        for name in ("splits", "keep_classes", "drop_classes"):
            values = tuple(sorted(set(getattr(self, name))))  # one digest, however they are listed
            object.__setattr__(self, name, values)
            for wnid in values if name != "splits" else ():
                require(WNID.fullmatch(wnid) is not None, name, wnid, "wnids such as n02510455")
        both = sorted(set(self.keep_classes) & set(self.drop_classes))
        require(not both, "drop_classes", ", ".join(both), "no class that is to be kept")

    def _check_ratios(self) -> None:
        for name in RATIOS:
            value = getattr(self, name)
            require(0 <= value <= 1, name, value, "0 to 1")
            object.__setattr__(self, name, float(value))  # 1 and 1.0 have one digest
        total = self.train_ratio + self.test_ratio
        require(total <= 1, "test_ratio", self.test_ratio, "at most 1 less train_ratio")

    @cached_property
    def outputs(self) -> dict[str, ImageSpec]:
        """What each format's images become, in the order of ``FORMATS``.

        Raises:
            ConfigError: What a format says of its images is wrong.
        """
        common = ImageSpec(
            resize=parse_resize(self.resize),
            upscale=self.upscale,
            quality=self.quality,
            subsampling=self.subsampling,
            encoding="png" if self.png else "jpeg",
            center_crop=self.center_crop,
            im2rec_compat=self.im2rec_compat,
        )
        given = dict(text.partition(":")[::2] for text in self.formats)
        return {
            name: parse_image_spec(given[name], common) if given[name] else common
            for name in FORMATS
            if name in given
        }

    def select(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Return the named settings, JSON-ready: what a stage's digest is taken over.

        ``outputs`` stands for all that decides the images: whichever way the same is said, and in
        whichever order, the digest is the same.
        """
        values = asdict(self)
        values["outputs"] = {name: spec.canonical() for name, spec in self.outputs.items()}
        return {name: values[name] for name in names}

    @property
    def is_in_bucket(self) -> bool:
        """Whether the data folder is a bucket's, so that nothing needs a disk of its own."""
        return "://" in self.data_dir

    def worker_count(self) -> int:
        """Return the number of packing processes to start."""
        return self.workers or cores()

    def max_bad_of(self, expected: int) -> int:
        """Return how many of ``expected`` images may be quarantined."""
        return self.max_bad if self.max_bad is not None else max(1, expected // 10_000)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return asdict(self)

    @staticmethod
    def from_json(text: str | bytes) -> Settings:
        """Read what ``to_json`` gave; unknown names are refused.

        Raises:
            ConfigError: A name is unknown or missing.
        """
        values = json.loads(text)
        missing = sorted({"dataset", "data_dir"} - set(values))
        if missing:
            raise ConfigError(f"missing settings: {', '.join(missing)}")
        unknown = sorted(set(values) - {item.name for item in fields(Settings)})
        if unknown:
            raise ConfigError(f"unknown settings: {', '.join(unknown)}")
        return Settings(**values)


def _is_place(text: str) -> bool:
    return "://" in text or PurePath(text).is_absolute()
