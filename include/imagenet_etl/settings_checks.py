"""What each kind of setting may be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.errors import ConfigError

_TEXTS = ("dataset", "data_dir", "version", "resize", "subsampling", "expect", "label_order",
          "shuffle", "keep_archives", "s3_uri", "s3_storage_class", "s3_kms_key", "ebs_volume_id",
          "snapshot_kms_key")  # fmt: skip
_SWITCHES = ("upscale", "center_crop", "png", "im2rec_compat", "allow_loose_files", "hardlink",
             "from_backup", "freeze", "accept_licence", "prune")  # fmt: skip
_LISTS = ("formats", "splits", "keep_classes", "drop_classes", "back_up", "snapshot_regions",
          "share_with")  # fmt: skip
_DICTS = ("sources", "s3_tags")
RATIOS = ("train_ratio", "test_ratio")
_VOLUME = re.compile(r"vol-[0-9a-f]{8,17}")
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]")
_ACCOUNT = re.compile(r"[0-9]{12}")
_MAX_TAGS = 10  # Amazon S3 User Guide, "Categorizing your objects using tags"


def check_types(settings: Any, numbers: Iterable[str]) -> None:
    """Refuse what a form, a JSON file or the environment may give: "90", "false", null.

    Args:
        settings: The settings.
        numbers: Those of them that are whole numbers.

    Raises:
        ConfigError: One is of another kind.
    """
    for name in numbers:
        value = getattr(settings, name)
        require(type(value) is int, name, value, "a whole number")
    for name in _TEXTS:
        value = getattr(settings, name)
        require(isinstance(value, str), name, value, "text")
    for name in _SWITCHES:
        value = getattr(settings, name)
        require(isinstance(value, bool), name, value, "true or false")
    for name in RATIOS:
        value = getattr(settings, name)
        require(type(value) in (int, float), name, value, "a number")
    for name in _LISTS:
        value = getattr(settings, name)
        ok = isinstance(value, tuple | list) and all(isinstance(text, str) for text in value)
        require(ok, name, value, "a list of texts")
    for name in _DICTS:
        value = getattr(settings, name)
        ok = isinstance(value, dict) and all(
            isinstance(text, str) for pair in value.items() for text in pair
        )
        require(ok, name, value, "a text for each name")


def check_cloud(settings: Any, backups: tuple[str, ...]) -> None:
    """Check what the cloud stages read, and give lists one order.

    Args:
        settings: The settings.
        backups: What may be backed up.

    Raises:
        ConfigError: A value cannot be used.
    """
    ok = not settings.ebs_volume_id or bool(_VOLUME.fullmatch(settings.ebs_volume_id))
    require(ok, "ebs_volume_id", settings.ebs_volume_id, "vol- and hex digits")
    ok = not settings.s3_uri or _is_s3_uri(settings.s3_uri)
    require(ok, "s3_uri", settings.s3_uri, "s3://bucket/prefix")
    if settings.is_in_bucket:
        place = settings.data_dir
        require(_is_s3_uri(place), "data_dir", place, "an absolute path or s3://bucket/prefix")
        volume = settings.ebs_volume_id
        require(not volume, "ebs_volume_id", volume, "none, since the data folder is in a bucket")
    ok = len(settings.s3_tags) <= _MAX_TAGS
    require(ok, "s3_tags", f"{len(settings.s3_tags)} tags", f"at most {_MAX_TAGS}")
    for name, allowed, expected in (
        ("back_up", "|".join(backups), " or ".join(backups)),
        ("snapshot_regions", _REGION.pattern, "regions such as eu-central-1"),
        ("share_with", _ACCOUNT.pattern, "account ids of 12 digits; never all"),
    ):
        values = tuple(sorted(set(getattr(settings, name))))
        object.__setattr__(settings, name, values)
        for value in values:
            require(re.fullmatch(allowed, value) is not None, name, value, expected)


def require(ok: bool, name: str, value: object, expected: str) -> None:
    """Refuse a setting that is not what was expected.

    Raises:
        ConfigError: It is not ``ok``.
    """
    if not ok:
        raise ConfigError(f"setting {name}", expected=expected, found=repr(value))


def _is_s3_uri(text: str) -> bool:
    try:
        parse_s3_uri(text)
    except ConfigError:
        return False
    return True
