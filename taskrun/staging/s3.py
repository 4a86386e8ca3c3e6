"""Amazon S3 and whatever speaks its protocol. Endpoint, region, profile, addressing style and credentials: the usual AWS settings.

Large files go up in parts, side by side, and appear when the last is there. Parts that an interrupted upload of the same file left behind
are used again if their checksums fit. The sha256 of a file is kept as its metadata; each part is verified on arrival by its own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

from taskrun.staging.errands import Order, Remote, Send, Unable
from taskrun.staging.locations import Pattern, Target
from taskrun.staging.s3_signed import Getting, Putting, abort, keep_version_4, signed
from taskrun.staging.s3_sums import as_part, digest_of, fits, sha256_base64, verified_by
from taskrun.staging.s3_words import meaning
from taskrun.staging.store import (
    CHUNK,
    Arrived,
    Cancelled,
    Denied,
    Entry,
    Listing,
    Missing,
    Over,
    Permanent,
    PinnedStore,
    Progress,
    Raced,
    Range,
    Said,
    StoreError,
    Transient,
)

_MOST_PARTS = 10_000
_MOST_BYTES = 64 << 20  # of one file in memory


#: What comes of a part: bytes, then None, or what went wrong.
_Came: TypeAlias = "SimpleQueue[bytes | Exception | None]"


class Client:
    """The client of boto3 that all buckets of a run share, with its connections. Importing boto3 takes long: it is made when needed."""

    def __init__(self, connections: int = 28) -> None:
        self._connections = connections
        self._lock = threading.Lock()
        self._made: Any = None

    def get(self) -> Any:
        with self._lock:
            if self._made is None:
                self._made = _client(self._connections)
            return self._made

    def close(self) -> None:
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()


class S3Store(PinnedStore):
    """One bucket. `part`: bytes of a part; `side_by_side`: parts of one file under way, each in memory once."""

    def __init__(self, bucket: str, client: Client | None = None, *, part: int = 8 << 20, side_by_side: int = 6) -> None:
        self._bucket = bucket
        self._shared = client or Client()
        self._part = part
        self._side_by_side = side_by_side
        self._counting = threading.Lock()
        self._open: set[tuple[str, str]] = set()  # (key, upload) that are not complete
        self._small = 0  # objects that were written in one request
        self._refuses: bool | None = None  # whether the server refuses a write whose condition does not hold; None: not known yet
        self._met = False  # an object was where none was expected

    @property
    def _s3(self) -> Any:
        return self._shared.get()

    def find(self, pattern: Pattern, listing: Listing | None = None) -> Iterator[Entry]:
        if pattern.plain is not None:
            entry = self.stat(pattern.plain)
            if entry is not None:
                yield entry
            return
        listing, place = listing or Listing(), f"s3://{self._bucket}/{pattern.base}"
        with self._explained(pattern.base):
            asked = {"Bucket": self._bucket, "Prefix": pattern.base, **({} if pattern.levels != 0 else {"Delimiter": "/"})}
            for page in self._s3.get_paginator("list_objects_v2").paginate(**asked):
                listing.found(place, "")  # pages may be empty, and their tokens go round in a circle
                for found in page.get("Contents", ()):
                    listing.found(place, found["Key"])
                    if pattern.relative(found["Key"]) is not None:
                        yield Entry(found["Key"], found["Size"], found["ETag"])

    def stat(self, name: str) -> Entry | None:
        try:
            found = self._head(name)
        except Missing as error:
            if "bucket" in str(error):
                raise
            return None
        return Entry(name, found["ContentLength"], found["ETag"])

    def digest(self, entry: Entry, algorithm: str) -> str | None:
        return digest_of(self._head(entry.name), algorithm)

    def read(self, entry: Entry, offset: int = 0) -> Iterator[bytes]:
        return self.read_pinned(entry, lambda _, __: None, offset)

    def read_pinned(self, entry: Entry, said: Said, offset: int = 0) -> Iterator[bytes]:
        """A large file in several parts at a time: one stream from S3 is slower than most networks."""
        with self._explained(entry.name):
            if entry.size - offset <= self._part:
                yield from self._read_part(entry, offset, entry.size, said)
                return
            over = threading.Event()

            def fetch(start: int, came: _Came) -> None:
                try:
                    for data in self._read_part(entry, start, min(start + self._part, entry.size), told):
                        came.put(data)
                        if over.is_set():
                            return
                    came.put(None)
                except Exception as error:  # noqa: BLE001 - raised where it is waited for
                    came.put(error)

            first: SimpleQueue[tuple[str, str]] = SimpleQueue()
            told = lambda algorithm, value: first.put((algorithm, value))  # noqa: E731
            ahead: deque[_Came] = deque()
            with ThreadPoolExecutor(self._side_by_side, "s3-part") as pool:
                try:
                    for start in range(offset, entry.size, self._part):
                        ahead.append(SimpleQueue())
                        pool.submit(fetch, start, ahead[-1])
                        if len(ahead) == self._side_by_side:
                            yield from self._in_order(ahead.popleft(), first, said)
                    while ahead:
                        yield from self._in_order(ahead.popleft(), first, said)
                finally:
                    over.set()
                    pool.shutdown(cancel_futures=True)

    @staticmethod
    def _in_order(came: _Came, first: SimpleQueue[tuple[str, str]], said: Said) -> Iterator[bytes]:
        for data in _all_of(came):
            while not first.empty():  # told in this thread, before the first bytes
                said(*first.get())
            yield data

    def fetch(self, entry: Entry, ranges: list[Range], write: Callable[[int, bytes], None], said: Said) -> None:
        over = threading.Event()
        failed: list[Exception] = []

        def bring(one: Range) -> None:
            for data in self._read_part(entry, one.next, one.end, said):
                write(one.next, data)
                one.next += len(data)
                if over.is_set():
                    return

        with self._explained(entry.name), ThreadPoolExecutor(len(ranges), "s3-range") as pool:
            for future in as_completed([pool.submit(bring, one) for one in ranges]):
                try:
                    future.result()
                except Exception as error:  # noqa: BLE001 - raised when the others have come: what they bring is good
                    failed.append(error)
                    if isinstance(error, Cancelled):
                        over.set()
            if failed:
                raise next((each for each in failed if isinstance(each, Cancelled)), failed[0])

    def _read_part(self, entry: Entry, start: int, end: int, said: Said) -> Iterator[bytes]:
        if start >= end:
            return
        asked: dict[str, Any] = {"IfMatch": entry.version} if entry.version else {}
        if (start, end) != (0, entry.size):
            asked["Range"] = f"bytes={start}-{end - 1}"
        answer = self._s3.get_object(Bucket=self._bucket, Key=entry.name, **asked)
        for algorithm in ("sha256", "md5"):
            if value := digest_of(answer, algorithm):
                said(algorithm, value)
                break
        left = end - start
        with contextlib.closing(answer["Body"]) as body:
            while left and (data := body.read(min(CHUNK, left))):
                left -= len(data)
                yield data
        if left:
            raise Transient(f"s3://{self._bucket}/{entry.name}: the connection ended {left} bytes early")

    @property
    def is_new(self) -> bool:
        return self._refuses is True and not self._met

    def put(
        self, path: Path, target: Target, sha256: str, progress: Progress, *, executable: bool = False, over: Over = "anything"
    ) -> Arrived:
        del executable  # objects have no modes
        name = target.path
        with self._explained(name), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > self._part:
                verified = self._put_parts(file.fileno(), size, name, sha256, progress, over)
                return Arrived(self._arrived(name, size, sha256), verified)
            data = file.read()
            if hashlib.sha256(data).hexdigest() != sha256:
                raise Transient(f"{path} changed while it was read")
            sums = {"ChecksumSHA256": sha256_base64(data), "Metadata": {"sha256": sha256}}
            asked: dict[str, Any] = {"Bucket": self._bucket, "Key": name, "Body": data, **sums}
            answer = self._written("put_object", asked, over)
            verified = self._same(name, data, answer)
            self._see_whether_it_refuses(asked)
            progress(size)
            if verified == "size" or not answer.get("ETag"):
                return Arrived(self._arrived(name, size, sha256), verified)
            return Arrived(Entry(name, size, answer["ETag"]), verified)

    def _written(self, operation: str, asked: dict[str, Any], over: Over) -> Any:
        """Return the answer to a write that depends on what is in its place. Raises Raced where that is something else."""
        from botocore.exceptions import ClientError

        write = getattr(self._s3, operation)
        condition: dict[str, str] = {}
        if over != "anything" and self._refuses is not False and _takes_conditions(self._s3, operation):
            condition = {"IfNoneMatch": "*"} if isinstance(over, str) else {"IfMatch": over.version}
        try:
            return write(**asked, **condition)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if condition and code in ("PreconditionFailed", "412", "ConditionalRequestConflict", "NoSuchKey", "404"):
                self._met = True
                raise Raced(f"s3://{self._bucket}/{asked['Key']} was written by somebody else meanwhile") from error
            if not condition or code not in ("NotImplemented", "501", "InvalidArgument", "InvalidRequest"):
                raise
        self._refuses = False  # a server that knows no conditions
        return write(**asked)

    def _see_whether_it_refuses(self, asked: dict[str, Any]) -> None:
        """Write a small object, the second one of this run, once more, if it is not there: older servers do so although it is.

        Where it is refused further files need no look at whether they are there: that would double the requests.
        """
        with self._counting:
            self._small += 1
            if self._small != 2 or self._refuses is not None:
                return
        try:
            self._written("put_object", asked, "nothing")
        except Raced:
            self._refuses, self._met = True, False
        else:
            self._refuses = False

    def _arrived(self, name: str, size: int, sha256: str) -> Entry:
        """Return the object as it is now. Raises StoreError if it is another one."""
        found = self._head(name)
        if found["ContentLength"] != size or found.get("Metadata", {}).get("sha256", sha256) != sha256:
            raise Transient(f"s3://{self._bucket}/{name} is not what was sent")
        return Entry(name, size, found["ETag"])

    def _part_of(self, size: int) -> int:
        """Bytes of a part of so large a file."""
        return max(self._part, -(-size // _MOST_PARTS))

    def remote(self) -> Remote:
        where = f"s3://{self._bucket}/"
        with self._explained(""):
            endpoint = self._s3.meta.endpoint_url
            if re.search(r"//(localhost|127\.|\[::1)", endpoint):
                raise Unable(where, f"only this machine reaches {endpoint}")
            signed(self._s3, "get_object", {"Bucket": self._bucket, "Key": "any"})  # raises Unable; nothing is sent
            return Remote("by_url", where, {"ca": _certificates() if endpoint.startswith("https:") else ""})

    def fetching(self, remote: Remote, entry: Entry) -> Order:
        return Getting(remote, self._s3, self._explained, entry, self._part)

    def receive(self, remote: Remote, send: Send, target: Target, size: int, over: Over = "anything") -> tuple[Arrived, str]:
        name = target.path
        order = Putting(
            remote, self._s3, self._explained, name, size, self._part_of(size), self._open, functools.partial(self._written, over=over)
        )
        try:
            sha256 = send(order).sums["sha256"]
        except BaseException:
            order.abort()
            raise
        return Arrived(self._arrived(name, size, sha256), order.verified), sha256

    def _uploads(self, name: str) -> list[str] | None:
        """Those of a name that are not complete, the latest first; None where that cannot be found out."""
        from botocore.exceptions import BotoCoreError, ClientError

        with contextlib.suppress(BotoCoreError, ClientError):  # not allowed to look, or the server cannot
            found = self._s3.list_multipart_uploads(Bucket=self._bucket, Prefix=name).get("Uploads", ())
            ours = sorted((one for one in found if one["Key"] == name), key=lambda one: str(one.get("Initiated")), reverse=True)
            return [str(one["UploadId"]) for one in ours]
        return None

    def free(self, target: Target) -> int | None:
        del target
        return None

    def close(self) -> None:
        for key, upload in list(self._open):
            abort(self._s3, self._bucket, key, upload)
        self._open.clear()

    def _put_parts(self, fd: int, size: int, name: str, sha256: str, progress: Progress, over: Over) -> str:
        length = self._part_of(size)
        upload, there = self._resumable(fd, size, length, name)
        if upload is None:
            asked = {"Bucket": self._bucket, "Key": name, "Metadata": {"sha256": sha256}, "ChecksumAlgorithm": "SHA256"}
            upload = str(self._s3.create_multipart_upload(**asked)["UploadId"])
            there = {}
        self._open.add((name, upload))
        parts = dict(there)
        digest = hashlib.sha256()
        side_by_side = max(1, min(self._side_by_side, _MOST_BYTES // length))
        with ThreadPoolExecutor(side_by_side, "s3-part") as pool:
            running: set[Future[tuple[int, dict[str, Any], int]]] = set()
            try:
                for number in range(1, -(-size // length) + 1):
                    data = os.pread(fd, length, (number - 1) * length)
                    digest.update(data)
                    if number in there:
                        progress(len(data))
                        continue
                    running.add(pool.submit(self._put_part, data, name, upload, number))
                    if len(running) == side_by_side:
                        running = _gather(running, FIRST_COMPLETED, parts, progress)
                _gather(running, ALL_COMPLETED, parts, progress)
            except BaseException:
                for future in running:
                    future.cancel()
                raise
        if digest.hexdigest() != sha256:
            raise Transient(f"s3://{self._bucket}/{name}: the file changed while it was sent")
        ordered = [{"PartNumber": number, **parts[number]} for number in sorted(parts)]
        asked = {"Bucket": self._bucket, "Key": name, "UploadId": upload, "MultipartUpload": {"Parts": ordered}}
        self._written("complete_multipart_upload", asked, over)
        self._open.discard((name, upload))
        return "sha256" if all("ChecksumSHA256" in part for part in parts.values()) else "md5"

    def _put_part(self, data: bytes, name: str, upload: str, number: int) -> tuple[int, dict[str, Any], int]:
        asked = {"Bucket": self._bucket, "Key": name, "UploadId": upload, "PartNumber": number}
        answer = self._s3.upload_part(Body=data, ChecksumSHA256=sha256_base64(data), **asked)
        self._same(name, data, answer)
        return number, as_part(answer), len(data)

    def _resumable(self, fd: int, size: int, length: int, name: str) -> tuple[str | None, dict[int, dict[str, Any]]]:
        """An upload of this very file that was interrupted, and its parts; those of other content are left alone."""
        from botocore.exceptions import ClientError

        for upload in self._uploads(name) or ():
            with contextlib.suppress(ClientError):  # not allowed to look, or the server cannot: start anew
                asked = {"Bucket": self._bucket, "Key": name, "UploadId": upload}
                parts = [part for page in self._s3.get_paginator("list_parts").paginate(**asked) for part in page.get("Parts", ())]
                if parts and all(fits(fd, size, length, part) for part in parts):
                    return upload, {part["PartNumber"]: as_part(part) for part in parts}
        return None, {}

    def _same(self, name: str, data: bytes, answer: dict[str, Any]) -> str:
        """By what the server says that this has arrived."""
        verified = verified_by(answer, sha256_base64(data), lambda: hashlib.md5(data, usedforsecurity=False).hexdigest())
        if not verified:
            raise Transient(f"s3://{self._bucket}/{name}: something else arrived than was sent")
        return verified

    def _head(self, name: str) -> Any:
        with self._explained(name):
            return self._s3.head_object(Bucket=self._bucket, Key=name, ChecksumMode="ENABLED")

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore import exceptions as aws
        from botocore.parsers import ResponseParserError

        place = f"s3://{self._bucket}/{name}"
        try:
            yield
        except aws.ClientError as error:
            raise self._meaning(place, error) from error
        except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.ProfileNotFound, aws.TokenRetrievalError) as error:
            raise Denied(f"{place}: {str(error).lower()}; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
        except (aws.HTTPClientError, aws.ConnectionError, aws.IncompleteReadError, aws.FlexibleChecksumError, ResponseParserError) as error:
            raise Transient(f"{place}: {error}") from error
        except UnicodeEncodeError as error:
            raise Permanent(f"{place!r}: S3 takes only names that are UTF-8, and this one is not: rename it") from error
        except (aws.BotoCoreError, Boto3Error) as error:
            raise Permanent(f"{place}: {error}") from error
        except OSError as error:  # of the local file
            raise Transient(f"{place}: {error.strerror or error}") from error

    def _meaning(self, place: str, error: Any) -> StoreError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        found = meaning(place, code, status, error.response.get("Error", {}).get("Message", ""))
        if isinstance(found, Missing) and error.operation_name == "HeadObject" and not self._bucket_is_there():
            return Missing(f"{place}: there is no bucket {self._bucket}")
        return found

    def _bucket_is_there(self) -> bool:
        """A missing object and a missing bucket look the same to HEAD, but one of them is a mistake in the task file."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._s3.head_bucket(Bucket=self._bucket)
        except ClientError as error:
            return str(error.response.get("Error", {}).get("Code")) not in ("404", "NoSuchBucket")
        except BotoCoreError:
            pass
        return True


def _takes_conditions(client: Any, operation: str) -> bool:
    """Return whether this version of boto3 knows conditional writes."""
    name = client.meta.method_to_api_mapping[operation]
    return "IfNoneMatch" in client.meta.service_model.operation_model(name).input_shape.members


def _client(connections: int) -> Any:
    import boto3
    from botocore.config import Config

    config: dict[str, Any] = {
        "max_pool_connections": connections,
        "connect_timeout": 20,
        "read_timeout": 60,
        "retries": {"mode": "standard", "total_max_attempts": 2},  # a whole transfer is tried again by the mover
    }
    if "AWS_REQUEST_CHECKSUM_CALCULATION" not in os.environ:
        config["request_checksum_calculation"] = "when_required"  # ours is sent with each part; other ones older servers do not know
    if "AWS_RESPONSE_CHECKSUM_VALIDATION" not in os.environ:
        config["response_checksum_validation"] = "when_required"  # what comes is compared here
    config = {name: value for name, value in config.items() if name in Config.OPTION_DEFAULTS}  # older versions have fewer
    client = boto3.session.Session().client("s3", config=Config(**config))
    client.meta.events.register_first("choose-signer.s3", keep_version_4)
    return client


@functools.cache
def _certificates() -> str:
    """Return the certificates that the usual AWS settings (AWS_CA_BUNDLE, ca_bundle) trust."""
    import botocore.session

    bundle = botocore.session.get_session().get_config_variable("ca_bundle")
    return Path(bundle).read_text("utf-8") if bundle else ""


def _gather(
    running: set[Future[tuple[int, dict[str, Any], int]]], until: str, parts: dict[int, dict[str, Any]], progress: Progress
) -> set[Future[tuple[int, dict[str, Any], int]]]:
    """Waits for one or all of the parts under way; returns those that still are. Raises what one of them raised."""
    done, left = wait(running, return_when=until)
    for future in done:
        number, part, size = future.result()
        parts[number] = part
        progress(size)
    return left


def _all_of(came: _Came) -> Iterator[bytes]:
    while (data := came.get()) is not None:
        if isinstance(data, Exception):
            raise data
        yield data
