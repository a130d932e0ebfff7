"""Leave classes out."""

from __future__ import annotations

from imagenet_operators.stage import StageOperator


class FilterClassesOperator(StageOperator):
    """Keeps the classes that were asked for; skipped when that is all of them."""

    stage = "filter_classes"
