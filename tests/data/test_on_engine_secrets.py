"""--stage-on-engine with a host that is not to be trusted: no key of an S3 store reaches it, and what does reach it is good for little."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from data.conftest import Bucket, Far, manifest
from data.spying import Spy
from data.test_on_engine import SECRET, proxy
from staging.proxy import Proxy

__all__ = ["proxy"]  # a fixture that is written elsewhere

DATA = bytes(range(256)) * 40_000  # two parts


def signature(method: str, path: str, url: str, headers: Mapping[str, str]) -> str:
    """The signature, version 4, that allows this method about this path with the rest of the URL. Written apart from boto3, on purpose."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query.pop("X-Amz-Signature")
    given = {"host": parts.netloc, **headers}
    names = query["X-Amz-SignedHeaders"].split(";")
    _, date, region, service, _ = scope = query["X-Amz-Credential"].split("/")
    request = "\n".join(
        (
            method,
            path,
            "&".join(f"{quote(name, '~')}={quote(value, '~')}" for name, value in sorted(query.items())),
            *(f"{name}:{given[name]}" for name in names),
            "",
            ";".join(names),
            "UNSIGNED-PAYLOAD",
        )
    )
    text = "\n".join(("AWS4-HMAC-SHA256", query["X-Amz-Date"], "/".join(scope[1:]), hashlib.sha256(request.encode()).hexdigest()))
    key = f"AWS4{SECRET}".encode()
    for word in (date, region, service, "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def allowed(message: Mapping[str, object]) -> set[tuple[str, str]]:
    """(method, key) that a URL which a host was given allows, of those it may have use for."""
    url, headers = str(message["url"]), message["headers"]
    assert isinstance(headers, dict)
    query = dict(parse_qsl(urlsplit(url).query))
    assert int(query["X-Amz-Expires"]) <= 3600
    own = urlsplit(url).path
    ways = [(method, path) for method in ("GET", "HEAD", "PUT", "DELETE", "POST") for path in {own, "/genomes/in/a", "/genomes/other"}]
    return {way for way in ways if signature(*way, url, headers) == query["X-Amz-Signature"]}


@pytest.mark.timeout(120)  # where it is the first, hosts and the S3 server start with it
def test_a_host_that_notes_all_it_is_given(far: Far, bucket: Bucket, proxy: Proxy) -> None:
    spy = Spy(far.hosts, 1)
    bucket.put("in/a", b"a" * 1000)
    bucket.put("in/big", DATA)
    text = (
        "#TASKRUN STAGE-IN ENGINE s3://genomes/in/ in/\n#TASKRUN STAGE-OUT TASK out/* s3://genomes/out/\n"
        "mkdir out; cp in/a out/small; cp in/big out/big; : > out/empty\n"
    )
    result = far(text, "--stage-on-engine", where="host1:1")
    assert result.code == 0, result.err
    found = manifest(result)
    assert {each["by"] for each in [*found["inputs"], *found["outputs"]]} == {"host1"}
    assert (bucket.get("out/big"), bucket.get("out/small"), bucket.get("out/empty")) == (DATA, b"a" * 1000, b"")

    assert len(spy.noted("input")) > 5, "the agent, and what moves five files"
    assert SECRET.encode() not in spy.everything()
    given = [message for message in spy.messages() if "url" in message]
    reading = [message for message in given if "if-match" in message["headers"]]
    assert {way for message in reading for way in allowed(message)} == {("GET", "/genomes/in/a"), ("GET", "/genomes/in/big")}
    assert all(len(allowed(message)) == 1 for message in given)
    writing = [message for message in given if message not in reading]
    assert {way for message in writing for way in allowed(message)} == {("PUT", f"/genomes/out/{name}") for name in ("big", "small")}
    assert all("uploadId=" in message["url"] for message in writing), "parts, which come to nothing without the driver"
    for message in writing:  # of one content alone
        assert {"content-length", "x-amz-checksum-sha256"} <= set(message["headers"])
    undo = [message["undo"] for message in spy.messages() if "undo" in message]
    assert {way for message in undo for way in allowed(message)} == {("DELETE", f"/genomes/out/{name}") for name in ("big", "small")}
    assert all("uploadId=" in message["url"] for message in undo), "the parts of one upload, and never the object"
    for path in far.taskrun.folder.glob("run*"):
        assert "X-Amz-" not in path.read_text("utf-8", "replace")
    assert "X-Amz-" not in result.err + result.out


def test_a_signature_is_in_no_error_message(far: Far, bucket: Bucket, proxy: Proxy) -> None:
    """A store that sends it back, and one that answers nothing."""
    bucket.put("in/a", b"a")

    def trouble(asked: object) -> tuple[int, str] | str | None:
        if not isinstance(asked, tuple) or asked[3] != far.hosts.addresses[0]:
            return None
        return "cut" if "/out/" in asked[1] else (403, f"http://x{asked[1]}")

    proxy.trouble = trouble
    text = "#TASKRUN STAGE-IN ENGINE s3://genomes/in/ in/\n#TASKRUN STAGE-OUT TASK out s3://genomes/out/\ncp in/a out\n"
    result = far(text, "--stage-on-engine", where="host1:1")
    assert result.code == 0, result.err
    assert bucket.get("out/out") == b"a"
    assert "--stage-on-engine: the driver moves what goes between host1 and s3://genomes/" in result.err
    assert "X-Amz-" not in result.err + result.path("driver.log").read_text() + result.path("events.jsonl").read_text()
