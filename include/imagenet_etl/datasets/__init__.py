"""The facts of each dataset: URLs, sizes, digests, counts, layout, licence, with their sources."""

from imagenet_etl.datasets.base import ArchiveFacts, DatasetFacts, Layout
from imagenet_etl.datasets.ilsvrc2012 import ILSVRC2012
from imagenet_etl.datasets.imagenet_full import IMAGENET_FALL11, IMAGENET_WINTER21
from imagenet_etl.datasets.tiny_imagenet import TINY_IMAGENET
from imagenet_etl.errors import ConfigError

DATASETS = {
    facts.name: facts for facts in (TINY_IMAGENET, ILSVRC2012, IMAGENET_FALL11, IMAGENET_WINTER21)
}

__all__ = [
    "DATASETS",
    "ILSVRC2012",
    "IMAGENET_FALL11",
    "IMAGENET_WINTER21",
    "TINY_IMAGENET",
    "ArchiveFacts",
    "DatasetFacts",
    "Layout",
    "facts_of",
]


def facts_of(name: str) -> DatasetFacts:
    """Return the facts of a dataset by its name.

    Raises:
        ConfigError: There is no such dataset.
    """
    if name not in DATASETS:
        raise ConfigError(f"{name!r} is not a known dataset", expected=" or ".join(DATASETS))
    return DATASETS[name]
