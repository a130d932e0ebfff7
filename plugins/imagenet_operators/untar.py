"""List what the archives hold."""

from __future__ import annotations

from imagenet_operators.stage import StageOperator


class UntarOperator(StageOperator):
    """Reads an archive's directory into the image index; no image is unpacked to disk."""

    stage = "untar"
