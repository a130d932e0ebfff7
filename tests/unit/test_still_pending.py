"""How long to stay away is told across process boundaries."""

import json
import pickle

from imagenet_etl.errors import EtlError, StillPending


def test_time_to_stay_away_survives_json_and_pickle() -> None:
    error = StillPending("under way", found="429", retry_after_s=240.0)
    for copy in (
        EtlError.from_dict(json.loads(json.dumps(error.to_dict()))),
        pickle.loads(pickle.dumps(error)),
    ):
        assert isinstance(copy, StillPending)
        assert (copy.what, copy.found, copy.retry_after_s) == ("under way", "429", 240.0)


def test_nobody_has_to_stay_away_unless_told() -> None:
    fields = {"type": "StillPending", "what": "under way", "expected": "", "found": ""}
    error = EtlError.from_dict(fields)
    assert isinstance(error, StillPending)
    assert error.retry_after_s == 0


def test_field_that_an_older_version_does_not_know_is_no_obstacle() -> None:
    fields = StillPending("under way", retry_after_s=1.0).to_dict() | {"type": "FromTheFuture"}
    assert EtlError.from_dict(fields).what == "under way"
