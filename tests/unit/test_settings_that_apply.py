"""What a dataset cannot do is refused before it is downloaded for days."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.builds import tiny_build
from tests.support.full import full_build

from imagenet_etl.errors import ConfigError


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"val_images_per_class": 2}, "has validation images of its own"),
        ({"max_bad_classes": 1}, "has to have all of its classes"),
    ],
)
def test_settings_of_full_imagenet_are_refused_elsewhere(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        tiny_build(tmp_path, **settings)
    full_build(tmp_path, **settings)


def test_drawn_images_and_ratios_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of the two"):
        full_build(tmp_path, val_images_per_class=2, train_ratio=0.9)
    full_build(tmp_path, train_ratio=0.9)
