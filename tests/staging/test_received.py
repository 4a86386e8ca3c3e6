"""What S3Store says of a file that another machine has sent: right content, other content, ETags that mean something else."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from unittest.mock import Mock

import pytest
from cloud import Cloud
from staging.places import Places

from taskrun.agent.errand import MIB, Parts
from taskrun.staging.errands import Sent
from taskrun.staging.locations import Target
from taskrun.staging.s3 import S3Store
from taskrun.staging.store import Transient

DATA = os.urandom(17 * MIB)
TARGET = Target("", "base/x")


@pytest.fixture
def bucket(buckets: Cloud, places: Places) -> Cloud:
    del places
    return buckets


def send(cloud: Cloud, data: bytes, part: int = 8 * MIB, *, complete: bool = True) -> Callable[[str], Sent]:
    """Sends `data` in parts, and says that it was DATA."""

    def sending(name: str) -> Sent:
        s3 = cloud.client()
        where = dict(zip(("Bucket", "Key"), name.split("/", 1), strict=True))
        sha256 = hashlib.sha256(DATA).hexdigest()
        where["UploadId"] = s3.create_multipart_upload(**where, Metadata={"sha256": sha256})["UploadId"]
        parts = []
        for number, at in enumerate(range(0, len(data), part), 1):
            tag = s3.upload_part(**where, PartNumber=number, Body=data[at : at + part])["ETag"]
            parts.append({"PartNumber": number, "ETag": tag})
        if not complete:
            raise Transient("the host was lost")
        s3.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        made = Parts(8 * MIB)
        for at in range(0, len(DATA), 1_000_003):
            made.update(DATA[at : at + 1_000_003])
        return Sent(len(DATA), {"sha256": sha256, "md5": hashlib.md5(DATA).hexdigest(), "parts": made.hexdigest()})

    return sending


def test_content_is_verified_by_the_sums_of_its_parts(bucket: Cloud) -> None:
    store = S3Store("one")
    arrived, sha256 = store.receive(send(bucket, DATA), TARGET, len(DATA))
    assert (arrived.verified, arrived.entry.size, sha256) == ("md5", len(DATA), hashlib.sha256(DATA).hexdigest())
    spoiled = DATA[:-1] + bytes([DATA[-1] ^ 1])
    with pytest.raises(Transient, match="not what was sent"):
        store.receive(send(bucket, spoiled), TARGET, len(DATA))


def test_an_etag_that_means_something_else_is_not_believed(bucket: Cloud) -> None:
    store = S3Store("one")
    assert store.receive(send(bucket, DATA, 5 * MIB), TARGET, len(DATA))[0].verified == "size"  # four parts, where three were made
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "key"}}
    bucket.client().put_bucket_encryption(Bucket="one", ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert store.receive(send(bucket, DATA[:-1] + b"x"), TARGET, len(DATA))[0].verified == "size"


def test_nothing_that_was_begun_is_left_and_nothing_of_others_is_touched(bucket: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = bucket.client()
    others = [s3.create_multipart_upload(Bucket="one", Key=key)["UploadId"] for key in ("base/x", "base/xy")]
    with pytest.raises(Transient, match="lost"):
        S3Store("one").receive(send(bucket, DATA, complete=False), TARGET, len(DATA))
    assert {one["UploadId"] for one in s3.list_multipart_uploads(Bucket="one")["Uploads"]} == set(others)
    store = S3Store("one")
    monkeypatch.setattr(store, "_uploads", Mock(side_effect=[None, others]))  # who could not look before knows of nothing that is his
    with pytest.raises(Transient, match="lost"):
        store.receive(send(bucket, DATA, complete=False), TARGET, len(DATA))
    assert {one["UploadId"] for one in s3.list_multipart_uploads(Bucket="one")["Uploads"]} >= set(others)
