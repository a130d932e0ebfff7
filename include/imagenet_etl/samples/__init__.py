"""Miniature archives in the exact layout of the official ones, for trying out and for tests."""

from collections.abc import Callable
from typing import Any

from imagenet_etl.samples.ilsvrc2012 import LAYOUTS, build_ilsvrc2012
from imagenet_etl.samples.imagenet_full import (
    FALL11_LAYOUTS,
    WINTER21_LAYOUTS,
    build_fall11,
    build_imagenet_full,
    build_winter21,
)
from imagenet_etl.samples.images import SampleSize
from imagenet_etl.samples.tiny_imagenet import build_tiny_imagenet

SAMPLES: dict[str, Callable[..., Any]] = {
    "tiny_imagenet": build_tiny_imagenet,
    "ilsvrc2012": build_ilsvrc2012,
    "imagenet_fall11": build_fall11,
    "imagenet_winter21": build_winter21,
}

__all__ = [
    "FALL11_LAYOUTS",
    "LAYOUTS",
    "SAMPLES",
    "WINTER21_LAYOUTS",
    "SampleSize",
    "build_imagenet_full",
]
