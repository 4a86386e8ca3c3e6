"""Presigned URLs of S3 for hosts, each for one request about one object, signed here when the host asks for it.

A URL for reading holds for the version of the object that was found; one for writing takes the very bytes whose sha256 the host has said.
Files go into uploads in parts, small ones too, that are begun, completed and aborted here: what a host sends appears only when the driver
has agreed to it. A plain PUT could arrive minutes after its host was lost, in place of what the task has made elsewhere.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from taskrun.staging.errands import Order, Remote, Sent, Unable
from taskrun.staging.s3_sums import as_part, verified_by
from taskrun.staging.s3_words import meaning
from taskrun.staging.store import Entry, StoreError, Transient

#: Seconds for which a URL is valid, less where temporary credentials end before: clocks may differ by a quarter of an hour.
VALID_SECONDS = 3600

_HEADERS = {"IfMatch": "if-match", "ChecksumSHA256": "x-amz-checksum-sha256", "ContentLength": "content-length"}
_SHA256 = re.compile("[0-9a-f]{64}")

#: Makes what boto3 raises a StoreError about a key.
Explained = Callable[[str], AbstractContextManager[None]]


def signed(client: Any, operation: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a URL for one operation of boto3's client with these parameters, and the headers that have to be sent with it.

    Raises Unable where the signature does not hold for all of them: that of version 2 does not.
    """
    url = client.generate_presigned_url(operation, Params=asked, ExpiresIn=VALID_SECONDS)
    headers = {_HEADERS[name]: str(value) for name, value in asked.items() if name in _HEADERS}
    headers.update({f"x-amz-meta-{name}": value for name, value in asked.get("Metadata", {}).items()})
    names = parse_qs(urlsplit(url).query).get("X-Amz-SignedHeaders", [""])[0]
    if set(names.split(";")) != {"host", *headers}:
        raise Unable(
            f"s3://{asked['Bucket']}/", "its settings allow no URLs that are limited to one request: they need signature version 4"
        )
    return {"url": url, "headers": headers}


def keep_version_4(signature_version: str, **_: Any) -> str | None:
    """Return the signature of presigned URLs, for the client's event choose-signer.s3: where it may boto3 takes an older one."""
    return "s3v4-query" if signature_version in ("v4-query", "s3v4-query") else None


class _Web(Order):
    """Carried out by a host with URLs. `part`: bytes of a part."""

    def __init__(self, remote: Remote, client: Any, explained: Explained, key: str, size: int, part: int, way: str) -> None:
        self.bucket = remote.where.removeprefix("s3://").rstrip("/")
        wanted = {"way": way, "size": size, "length": part, "ca": remote.settings.get("ca", ""), "sums": ["sha256", "md5"]}
        super().__init__(remote, f"{remote.where}{key}", wanted)
        self.key = key
        self.size = size
        self.length = part
        self._client = client
        self._explained = explained

    def sign(self, operation: str, **more: Any) -> dict[str, Any]:
        """Return a URL and its headers. Raises StoreError."""
        with self._explained(self.key):
            return signed(self._client, operation, {"Bucket": self.bucket, "Key": self.key, **more})

    def failure(self, host: str, answer: Mapping[str, Any]) -> StoreError:
        said = re.sub(r"\?\S*", "", str(answer.get("said", "")))  # of a host that is not to be believed
        status = int(answer["end"])
        if status < 0:
            return Transient(f"{self.place}, moved by {host}: {said}")
        found = meaning(self.place, str(answer.get("code", "")), status, said)
        return type(found)(f"{found} (said to {host})")


class Getting(_Web):
    """An object that a host fetches."""

    def __init__(self, remote: Remote, client: Any, explained: Explained, entry: Entry, part: int) -> None:
        super().__init__(remote, client, explained, entry.name, entry.size, part, "get")
        self._same = {"IfMatch": entry.version} if entry.version else {}

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        del question
        return self.sign("get_object", **self._same)


class Putting(_Web):
    """A file that a host sends, in parts of an upload of ours; of an empty one it sends nothing."""

    def __init__(
        self,
        remote: Remote,
        client: Any,
        explained: Explained,
        key: str,
        size: int,
        part: int,
        begun: set[tuple[str, str]],
        write: Callable[[str, dict[str, Any]], Any] | None = None,
    ) -> None:
        """`begun`: where the upload is noted for as long as it is not complete. `write`: the operation that makes the object appear."""
        super().__init__(remote, client, explained, key, size, part, "put")
        self.verified = ""
        self._begun = begun
        self._write = write or (lambda operation, asked: getattr(client, operation)(**asked))
        self._count = -(-size // part)
        self._upload = ""
        self._said: dict[int, str] = {}  # number of a part → its sha256, of which the host has said that it is this
        self._parts: dict[int, dict[str, Any]] = {}
        self._ways: set[str] = set()  # in which parts were verified

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        number, sha256 = int(question["number"]), str(question["sha256"])
        if not _SHA256.fullmatch(sha256) or not 0 <= number <= self._count or (number == 0) == bool(self._upload or not self._count):
            raise ValueError(f"it has asked for part {number} of {self._count}")
        if number == 0:
            return self._begin(sha256)
        self._said[number] = sha256
        first = (number - 1) * self.length
        limits = {"ContentLength": min(self.length, self.size - first), "ChecksumSHA256": _base64(sha256)}
        return {**self.sign("upload_part", UploadId=self._upload, PartNumber=number, **limits), **self._undo()}

    def _begin(self, sha256: str) -> dict[str, Any]:
        asked = {"Bucket": self.bucket, "Key": self.key, "Metadata": {"sha256": sha256}, "ChecksumAlgorithm": "SHA256"}
        with self._explained(self.key):
            self._upload = str(self._client.create_multipart_upload(**asked)["UploadId"])
        self._begun.add((self.key, self._upload))
        return self._undo()

    def _undo(self) -> dict[str, Any]:
        """For the case that the driver is killed: the host then takes away what it has sent."""
        return {"undo": self.sign("abort_multipart_upload", UploadId=self._upload)}

    def part(self, told: Mapping[str, Any]) -> None:
        number = int(told["part"])
        said = {"ETag": told["etag"], "ChecksumSHA256": told["checksum"], "ServerSideEncryption": told["sse"]}
        answer = {name: str(value) for name, value in said.items() if value}
        verified = verified_by(answer, _base64(self._said[number]), lambda: str(told["md5"]))
        if not verified or "ETag" not in answer:
            raise Transient(f"{self.place}: something else arrived than was sent")
        self._ways.add(verified)
        self._parts[number] = as_part(answer)

    def finish(self, sent: Sent) -> None:
        if sent.size != self.size or len(self._parts) != self._count:
            raise Transient(f"{self.place}: {sent.size} of {self.size} bytes were sent")
        if not self.size:
            self._put_nothing()
            return
        self.verified = next(way for way in ("size", "md5", "sha256") if way in self._ways)
        ordered = [{"PartNumber": number, **self._parts[number]} for number in sorted(self._parts)]
        asked = {"Bucket": self.bucket, "Key": self.key, "UploadId": self._upload, "MultipartUpload": {"Parts": ordered}}
        with self._explained(self.key):
            self._write("complete_multipart_upload", asked)
        self._begun.discard((self.key, self._upload))
        self._upload = ""

    def _put_nothing(self) -> None:
        """An empty object: not every server takes an upload whose one part is empty."""
        sha256 = hashlib.sha256().hexdigest()
        asked = {"Bucket": self.bucket, "Key": self.key, "Metadata": {"sha256": sha256}, "ChecksumSHA256": _base64(sha256)}
        with self._explained(self.key):
            self._write("put_object", {"Body": b"", **asked})
        self.verified = "sha256"

    def abort(self) -> None:
        """Takes away what was begun: what the host still sends comes to no end."""
        if self._upload:
            self._begun.discard((self.key, self._upload))
            abort(self._client, self.bucket, self.key, self._upload)


def abort(client: Any, bucket: str, key: str, upload: str) -> None:
    """Take away the parts of an upload. Never raises."""
    with contextlib.suppress(Exception):  # nobody is left to be told; the bucket's own rules remove it in time
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)


def _base64(sha256: str) -> str:
    """As S3 writes it."""
    return base64.b64encode(bytes.fromhex(sha256)).decode("ascii")
