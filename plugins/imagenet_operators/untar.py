"""List what the archives hold."""

from __future__ import annotations

from imagenet_operators.stage import SLICE_S, StageOperator


class UntarOperator(StageOperator):
    """Reads an archive's directory into the image index; no image is unpacked to disk.

    That of a tar of class tars may take hours on a slow disk: then the task makes way now and then
    and goes on where it was, which counts as no failure.
    """

    stage = "untar"
    slice_s = SLICE_S
