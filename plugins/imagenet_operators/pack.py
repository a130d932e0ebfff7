"""Write the records."""

from __future__ import annotations

from imagenet_operators.stage import StageOperator


class PackOperator(StageOperator):
    """Packs segments in a process pool of its own; a retry goes on with the unfinished ones."""

    stage = "pack"
