"""Miniature archives in the exact layout of the official ones, for trying out and for tests."""

from imagenet_etl.samples.ilsvrc2012 import LAYOUTS, build_ilsvrc2012
from imagenet_etl.samples.images import SampleSize
from imagenet_etl.samples.tiny_imagenet import build_tiny_imagenet

SAMPLES = {"tiny_imagenet": build_tiny_imagenet, "ilsvrc2012": build_ilsvrc2012}

__all__ = ["LAYOUTS", "SAMPLES", "SampleSize"]
