"""The one rule on loose files, for the budget before a run and for the stage that writes them."""

from __future__ import annotations

from imagenet_etl.config import MAX_LOOSE_FILES, Settings
from imagenet_etl.errors import ConfigError


def check_loose_files(settings: Settings, files: int) -> None:
    """Refuse to write more loose files than anybody wants by accident.

    Args:
        settings: The run's settings.
        files: How many loose files it will write.

    Raises:
        ConfigError: They are more than ``MAX_LOOSE_FILES``, and nobody has allowed that.
    """
    if files > MAX_LOOSE_FILES and not settings.allow_loose_files:
        raise ConfigError(
            f"imagefolder would write {files:,} loose files",
            expected=f"at most {MAX_LOOSE_FILES:,}",
            remedy="Choose a format of shards, or set allow_loose_files (--allow-loose-files)",
        )
