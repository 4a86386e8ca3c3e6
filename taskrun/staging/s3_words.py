"""Errors of S3 as errors of ours. Pure."""

from __future__ import annotations

from taskrun.staging.store import Denied, Missing, Permanent, StoreError, Transient

_MISSING = {"NoSuchKey", "NoSuchBucket", "NotFound", "404", "NoSuchUpload"}
_DENIED = {"AccessDenied", "Forbidden", "403", "401", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken",
           "RequestTimeTooSkewed", "AllAccessDisabled", "AccountProblem"}  # fmt: skip
_PASSING = {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "TooManyRequests", "OperationAborted", "BadDigest",
            "IncompleteBody", "PreconditionFailed", "412", "NoSuchUpload", "RequestLimitExceeded", "BandwidthLimitExceeded"}  # fmt: skip


def meaning(place: str, code: str, status: int, said: str) -> StoreError:
    """Return how a request about `place` failed. `code`: S3's word for it, '' if it said none; `status`: of HTTP, 0 or less for none."""
    bucket = place.removeprefix("s3://").partition("/")[0]
    said = said or code
    if code == "NoSuchBucket":
        return Missing(f"{place}: there is no bucket {bucket}")
    if code in _PASSING or "Throttl" in code or status in (408, 412, 429) or status >= 500:
        return Transient(f"{place}: {code} {said}".rstrip())
    if code in _MISSING:
        return Missing(f"{place}: there is no such object")
    return (Denied if code in _DENIED else Permanent)(f"{place}: {said.lower()}")
