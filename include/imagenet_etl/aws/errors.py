"""Turn botocore's errors into this project's, naming the action and the thing."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as AwsConnectionError,
)
from urllib3.exceptions import HTTPError as TransportError

from imagenet_etl.errors import (
    AccessDenied,
    ClockSkewed,
    CloudError,
    CloudNotFound,
    CloudUnavailable,
    EtlError,
    ObjectArchived,
)

_DENIED = {
    "403", "AccessDenied", "UnauthorizedOperation", "InvalidAccessKeyId", "AuthFailure",
    "SignatureDoesNotMatch", "InvalidClientTokenId", "AccessDeniedException",
    "UnrecognizedClientException",
}  # fmt: skip
_STALE = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
_ARCHIVED = "InvalidObjectState"
_MISSING = {
    "404", "NotFound", "NoSuchBucket", "NoSuchKey", "InvalidVolume.NotFound",
    "InvalidSnapshot.NotFound", "InvalidInstanceID.NotFound", "NotFoundException",
}  # fmt: skip
_SKEWED = {"RequestTimeTooSkewed", "RequestExpired"}
_BUSY = {
    "503", "SlowDown", "InternalError", "ServiceUnavailable", "RequestLimitExceeded", "Throttling",
    "ThrottlingException", "RequestTimeout", "OperationAborted", "ConditionalRequestConflict",
    "SnapshotCreationPerVolumeRateExceeded", "ConcurrentSnapshotLimitExceeded",
    "BadDigest", "XAmzContentSHA256Mismatch",  # the body was damaged on its way
}  # fmt: skip
# botocore lets urllib3's own errors through while a body is read, such as that of a TLS record.
_NO_ANSWER = (AwsConnectionError, HTTPClientError, IncompleteReadError, CredentialRetrievalError,
              FlexibleChecksumError, TransportError)  # fmt: skip
_TOO_MANY, _SERVER_ERROR = 429, 500


def code_of(error: ClientError) -> str:
    """Return what AWS calls the error."""
    code: str = error.response.get("Error", {}).get("Code", "")
    return code


@contextmanager
def typed_aws_errors(action: str, thing: str, passing: Collection[str] = ()) -> Iterator[None]:
    """Raise ``CloudError`` or ``CloudUnavailable`` for what botocore raises in the block.

    Args:
        action: The API call, for example ``PutObject``.
        thing: The bucket, volume or snapshot it is about.
        passing: Error codes that the caller answers itself; their ``ClientError`` passes through.

    Raises:
        AccessDenied, CloudNotFound, ClockSkewed, ObjectArchived, CloudError: A retry would fail
            again.
        CloudUnavailable: A retry may succeed.
    """
    try:
        yield
    except ClientError as error:
        code = code_of(error)
        if code in passing:
            raise
        raise _typed(code, action, thing, error) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise AccessDenied(
            f"{action} on {thing} has no AWS credentials",
            remedy="Fill the AWS connection, or the environment variables of the AWS SDK",
        ) from error
    except _NO_ANSWER as error:
        raise CloudUnavailable(
            f"{action} on {thing} got no answer",
            found=type(error).__name__,
            remedy="Check the region, the endpoint and the network",
        ) from error
    except BotoCoreError as error:
        raise CloudError(
            f"{action} on {thing} could not be sent",
            found=f"{type(error).__name__}: {error}",
            remedy="Check the AWS connection: region, endpoint, profile",
        ) from error


def _typed(code: str, action: str, thing: str, error: ClientError) -> EtlError:
    message = error.response.get("Error", {}).get("Message", "")
    found = f"{code} ({message})" if message else code
    if code in _DENIED | _STALE:
        return AccessDenied(
            f"{action} on {thing} was denied",
            found=found,
            remedy="Renew the credentials, and run again"
            if code in _STALE
            else "Check the role's IAM policy",
        )
    if code == _ARCHIVED:
        return ObjectArchived(
            f"{action} on {thing} is refused: the object is archived",
            found=found,
            remedy="Restore it (aws s3api restore-object) and run again when that is done; let the "
            "bucket's rules that archive objects leave this prefix out",
        )
    if code in _MISSING:
        if code == "NoSuchBucket":
            thing = "/".join(thing.split("/")[:3])  # of an object's URI, the bucket
        return CloudNotFound(
            f"{thing} does not exist",
            found=f"{found} from {action}",
            remedy="Check its name and region, or create it first",
        )
    if code in _SKEWED:
        return ClockSkewed(
            f"{action} on {thing}: this machine's clock is wrong",
            found=found,
            remedy="Synchronise the clock (NTP) and run again",
        )
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    # A HEAD has no body, so its error's code is the status.
    busy = code in _BUSY or status == _TOO_MANY or status >= _SERVER_ERROR
    what = f"{action} on {thing} failed"
    if busy:
        return CloudUnavailable(what, found=found, remedy="Run again later")
    remedy = f"See what AWS's reference says of this code for {action}, mend it, and run again"
    return CloudError(what, found=found, remedy=remedy)
