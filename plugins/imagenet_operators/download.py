"""Fetch and verify the publisher's archives."""

from __future__ import annotations

from imagenet_operators.stage import StageOperator


class DownloadOperator(StageOperator):
    """Downloads what is missing, resuming where an earlier try stopped, and checks size and digest.

    As the first task of a run it also resolves the settings and freezes them for all others.
    """

    stage = "download"
    is_first = True
