"""Give the validation images their classes."""

from __future__ import annotations

from imagenet_operators.stage import StageOperator


class RestructureValOperator(StageOperator):
    """Fills the class of every validation image into the index, from the publisher's labels."""

    stage = "restructure_val"
