"""What AWS says, told as this project's errors: who must act, and whether waiting helps."""

from __future__ import annotations

import botocore.exceptions as aws
import pytest

from imagenet_etl.aws.errors import typed_aws_errors
from imagenet_etl.aws.s3_uri import parse_s3_uri
from imagenet_etl.errors import (
    AccessDenied,
    ClockSkewed,
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    ConfigError,
    ObjectArchived,
)


def answer(code: str, status: int = 400, message: str = "") -> aws.ClientError:
    error = {"Code": code, "Message": message}
    reply = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    return aws.ClientError(reply, "PutObject")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (answer("AccessDenied", 403), AccessDenied),
        (answer("403", 403), AccessDenied),
        (answer("ExpiredToken"), AccessDenied),
        (answer("ExpiredTokenException", 403), AccessDenied),
        (answer("InvalidToken"), AccessDenied),
        (answer("InvalidObjectState", 403), ObjectArchived),
        (answer("XAmzContentSHA256Mismatch"), CloudUnavailable),
        (answer("NoSuchBucket", 404), CloudNotFound),
        (answer("404", 404), CloudNotFound),
        (answer("InvalidVolume.NotFound"), CloudNotFound),
        (answer("RequestTimeTooSkewed", 403), ClockSkewed),
        (answer("SlowDown", 503), CloudUnavailable),
        (answer("RequestLimitExceeded"), CloudUnavailable),
        (answer("ConcurrentSnapshotLimitExceeded"), CloudUnavailable),
        (answer("OperationAborted", 409), CloudUnavailable),
        (answer("500", 500), CloudUnavailable),
        (answer("NeverHeardOfIt", 502), CloudUnavailable),
        (answer("NeverHeardOfIt", 429), CloudUnavailable),
        (answer("NeverHeardOfIt"), CloudError),
        (answer("EntityTooLarge"), CloudError),
        (aws.NoCredentialsError(), AccessDenied),
        (aws.PartialCredentialsError(provider="env", cred_var="x"), AccessDenied),
        (aws.EndpointConnectionError(endpoint_url="http://x"), CloudUnavailable),
        (aws.ReadTimeoutError(endpoint_url="http://x"), CloudUnavailable),
        (aws.IncompleteReadError(actual_bytes=1, expected_bytes=2), CloudUnavailable),
        (aws.NoRegionError(), CloudError),
        (aws.ParamValidationError(report="Tags is no list"), CloudError),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, Exception) else value.__name__,
)
def test_an_answer_becomes_an_error_that_names_action_and_thing(error, kind):
    with pytest.raises(kind) as caught, typed_aws_errors("PutObject", "s3://bucket"):
        raise error
    assert type(caught.value) is kind
    assert "s3://bucket" in str(caught.value)
    assert "PutObject" in str(caught.value)
    assert caught.value.remedy
    assert caught.value.__cause__ is error


def test_a_code_that_the_caller_answers_passes_untouched():
    error = answer("NoSuchKey", 404)
    with (
        pytest.raises(aws.ClientError) as caught,
        typed_aws_errors("GetObject", "s3://bucket", passing={"NoSuchKey"}),
    ):
        raise error
    assert caught.value is error


def test_what_is_no_answer_of_aws_passes_untouched():
    with pytest.raises(KeyError), typed_aws_errors("GetObject", "s3://bucket"):
        raise KeyError


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/a/b/", ("bucket", "a/b")),
        ("s3://my.bucket-1//a", ("my.bucket-1", "a")),
        ("s3://bucket/a..b", ("bucket", "a..b")),
    ],
)
def test_a_uri_is_taken_apart(uri, parts):
    assert parse_s3_uri(uri) == parts


@pytest.mark.parametrize(
    "uri",
    ["", "bucket", "s3:/bucket", "S3://bucket", "s3://", "s3://ab", "s3://Bucket", "s3://a..b",
     "s3://-bucket", "s3://bucket-", f"s3://{'a' * 64}", "s3://user:key@bucket/x"],
)  # fmt: skip
def test_what_is_no_s3_uri_is_refused(uri):
    with pytest.raises(ConfigError, match="is not an S3 URI"):
        parse_s3_uri(uri)
