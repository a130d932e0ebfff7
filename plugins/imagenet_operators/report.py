"""Say what was made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagenet_operators.stage import StageOperator

if TYPE_CHECKING:
    from imagenet_etl.stage import Outcome


class ReportOperator(StageOperator):
    """Writes a summary of the version into the log and beside the receipts."""

    stage = "report"

    def summary(self, outcome: Outcome) -> dict[str, Any]:
        """Return the text as well."""
        text = outcome.receipt.facts["text"]
        self.log.info("\n%s", text)
        return super().summary(outcome) | {"text": text}
