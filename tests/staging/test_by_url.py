"""The program that moves a file by presigned URLs, run here as it runs on a host, with the store that tells it: real bytes, real S3."""

from __future__ import annotations

import base64
import hashlib
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cloud import Cloud
from pythons import chosen
from staging.proxy import Asked, Proxy

from taskrun.engines.bootstrap import python_words
from taskrun.engines.streams import ProgramStream
from taskrun.staging.errands import By, Errands, Order, Remote, Sent, Unable
from taskrun.staging.locations import Target
from taskrun.staging.s3 import S3Store
from taskrun.staging.s3_signed import Putting
from taskrun.staging.store import Entry, Permanent, Transient

MIB = 1 << 20
PART = 5 * MIB  # S3 takes no shorter ones
DATA = os.urandom(2 * PART + 1)  # three parts
SHA256 = hashlib.sha256(DATA).hexdigest()
TARGET = Target("", "base/x")
REMOTE = Remote("by_url", "s3://one/", {"ca": ""})


def nothing() -> None:
    pass


class Here:
    """This machine as a host. `python`: another interpreter than the usual one."""

    def __init__(self, python: Path | None = None) -> None:
        self.said: list[str] = []
        self._python = python
        self.errands = Errands("here", self.begin, self.said.append, (), 20)

    def begin(self, by: By) -> ProgramStream:
        words = python_words(by)
        if self._python is not None:
            words = [str(self._python), "-I", "-S", "-E", "-c", *words[-2:]]
        return ProgramStream(words, by, 20)

    def send(self, path: Path, still: Callable[[], None] = nothing) -> Callable[[Order], Sent]:
        return lambda order: self.errands.run(order, os.fsencode(path), lambda _: None, still)


@pytest.fixture
def here() -> Here:
    return Here()


@pytest.fixture
def s3(buckets: Cloud) -> Any:
    client = buckets.client()
    client.create_bucket(Bucket="one")
    return client


@pytest.fixture
def proxy(buckets: Cloud, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Between S3 and whoever wants something of it."""
    made = Proxy(buckets.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.endpoint)
    yield made
    made.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.write_bytes(DATA)
    return path


def uploads(s3: Any) -> set[str]:
    return {one["UploadId"] for one in s3.list_multipart_uploads(Bucket="one").get("Uploads", ())}


@pytest.mark.parametrize("python", chosen())
def test_there_and_back(python: Path, s3: Any, data: Path, tmp_path: Path) -> None:
    """Whatever its size, with old and new Pythons."""
    store, here = S3Store("one", part=PART), Here(python)
    back = tmp_path / "back"
    for name, size in (("empty", 0), ("a b/ü/../%41", 5), ("whole", PART), ("parts", len(DATA))):
        path = tmp_path / "file"
        path.write_bytes(DATA[:size])
        sha256 = hashlib.sha256(DATA[:size]).hexdigest()
        arrived, said = store.receive(REMOTE, here.send(path), Target("", name), size)
        assert (arrived.entry.size, said) == (size, sha256)
        assert arrived.verified in ("sha256", "md5")
        assert s3.head_object(Bucket="one", Key=name)["Metadata"] == {"sha256": sha256}
        back.write_bytes(b"")
        counted: list[int] = []
        came = here.errands.run(store.fetching(REMOTE, arrived.entry), os.fsencode(back), counted.append)
        assert back.read_bytes() == DATA[:size]
        assert (came.size, came.sums["sha256"], sum(counted)) == (size, sha256, size)
    assert uploads(s3) == set()
    store.close()


def test_nothing_appears_of_a_file_that_changed_and_nothing_of_others_is_touched(s3: Any, here: Here, data: Path) -> None:
    others = {s3.create_multipart_upload(Bucket="one", Key=key)["UploadId"] for key in ("base/x", "base/xy")}
    store = S3Store("one", part=PART)

    def changed() -> None:
        raise Transient("it changed")

    with pytest.raises(Transient, match="it changed"):
        store.receive(REMOTE, here.send(data, changed), TARGET, len(DATA))
    for size in (len(DATA) - 1, len(DATA) + 1):  # another one than was found
        with pytest.raises(Transient, match="changed while it was read"):
            store.receive(REMOTE, here.send(data), TARGET, size)
    assert uploads(s3) == others
    assert "Contents" not in s3.list_objects_v2(Bucket="one")
    store.close()


def test_bad_days_of_the_store(s3: Any, here: Here, data: Path, proxy: Proxy, tmp_path: Path) -> None:
    """Each request is tried three times; what is counted is what has gone."""
    store = S3Store("one", part=PART)
    proxy.burst(2, (503, "SlowDown"), lambda asked: asked.method == "PUT")
    entry = store.receive(REMOTE, here.send(data), TARGET, len(DATA))[0].entry
    for trouble in ("cut", "half"):
        (back := tmp_path / "back").write_bytes(b"")
        proxy.burst(2, trouble, lambda asked: asked.method == "GET")
        counted: list[int] = []
        here.errands.run(store.fetching(REMOTE, entry), os.fsencode(back), counted.append)
        assert (back.read_bytes() == DATA, sum(counted)) == (True, len(DATA))
    proxy.trouble = lambda asked: (403, "AccessDenied") if "partNumber=2" in asked.path else None
    with pytest.raises(Permanent, match="accessdenied"):
        store.receive(REMOTE, here.send(data), TARGET, len(DATA))
    assert uploads(s3) == set()
    store.close()


def test_an_object_that_is_another_one_by_now(s3: Any, here: Here, proxy: Proxy, tmp_path: Path) -> None:
    """A URL holds for the version that was found."""
    del s3
    asked: list[Asked] = []
    proxy.trouble = lambda one: (412, "PreconditionFailed") if one.headers.get("if-match") == '"old"' and not asked.append(one) else None
    (back := tmp_path / "back").write_bytes(b"")
    store = S3Store("one", part=PART)
    with pytest.raises(Transient, match="PreconditionFailed"):
        here.errands.run(store.fetching(REMOTE, Entry("base/x", 5, '"old"')), os.fsencode(back), lambda _: None)
    assert asked
    store.close()


@pytest.mark.parametrize(
    ("told", "verified"),
    [
        ({"checksum": "{base64}"}, "sha256"),
        ({"checksum": "AAAA"}, None),
        ({"etag": '"{md5}"'}, "md5"),
        ({"etag": '"' + "0" * 32 + '"'}, None),
        ({"etag": '"{md5}"', "md5": ""}, "size"),
        ({"etag": '"' + "0" * 32 + '"', "sse": "aws:kms"}, "size"),
        ({"etag": '"something-else"'}, "size"),
        ({"etag": ""}, None),
    ],
)
def test_what_the_store_has_said_of_a_part(s3: Any, told: dict[str, str], verified: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sha256 counts, else an ETag that is an md5; other content is never completed."""
    store = S3Store("one", part=PART)
    completed: list[Any] = []
    monkeypatch.setattr(store._s3, "complete_multipart_upload", lambda **asked: completed.append(asked["MultipartUpload"]["Parts"]))
    order = Putting(REMOTE, store._s3, store._explained, "base/x", 4, 8, set())
    for number in (0, 1):
        order.answer({"number": number, "sha256": hashlib.sha256(b"data").hexdigest()})
    words = {"base64": base64.b64encode(hashlib.sha256(b"data").digest()).decode(), "md5": hashlib.md5(b"data").hexdigest()}
    said = {"part": 1, "etag": '"something"', "checksum": "", "sse": "", "md5": words["md5"], **told}
    said = {name: value.format(**words) if isinstance(value, str) else value for name, value in said.items()}
    if verified is None:
        with pytest.raises(Transient, match="something else arrived"):
            order.part(said)
        order.abort()
        return
    order.part(said)
    order.finish(Sent(4, {}))
    assert (order.verified, len(completed)) == (verified, 1)


@pytest.mark.parametrize(
    "question", [{"number": 0}, {"number": 4}, {"number": -1}, {"number": 1, "sha256": "x"}, {}, {"number": "x"}, {"number": []}]
)
def test_a_host_may_ask_only_for_what_it_is_to_send(s3: Any, question: dict[str, Any]) -> None:
    store = S3Store("one", part=PART)
    begun: set[tuple[str, str]] = set()
    order = Putting(REMOTE, store._s3, store._explained, "base/x", 20, 8, begun)
    with pytest.raises((ValueError, KeyError, TypeError)):
        order.answer({"number": 1, "sha256": SHA256})  # before the upload has begun
    order.answer({"number": 0, "sha256": SHA256})
    with pytest.raises((ValueError, KeyError, TypeError)):
        order.answer({"sha256": SHA256, **question} if question else question)
    with pytest.raises(KeyError):
        order.part({"part": 2, "etag": "x", "checksum": "", "sse": "", "md5": ""})
    with pytest.raises(Transient, match="were sent"):
        order.finish(Sent(20, {}))
    assert len(begun) == 1
    order.abort()
    assert (begun, uploads(s3)) == (set(), set())


def test_nobody_asks_for_a_part_of_an_empty_file(s3: Any) -> None:
    store = S3Store("one", part=PART)
    order = Putting(REMOTE, store._s3, store._explained, "base/x", 0, 8, set())
    for number in (0, 1):
        with pytest.raises(ValueError, match="it has asked for part"):
            order.answer({"number": number, "sha256": SHA256})
    assert uploads(s3) == set()


def test_without_the_driver_the_upload_goes(s3: Any, data: Path, proxy: Proxy) -> None:
    """The stream ends in the middle, as when the driver is killed: the program takes away what it has sent."""
    sent, over = threading.Event(), threading.Event()

    def trouble(asked: Asked) -> None:
        if "partNumber=3" in asked.path:
            sent.set()
            over.wait(20)

    proxy.trouble = trouble
    streams: list[ProgramStream] = []
    here = Here()

    def begin(by: By) -> ProgramStream:
        streams.append(here.begin(by))
        return streams[-1]

    store = S3Store("one", part=PART)
    errands = Errands("here", begin, here.said.append, (), 20)
    order = Putting(REMOTE, store._s3, store._explained, "base/x", len(DATA), PART, set())
    problems: list[Exception] = []

    def run() -> None:
        try:
            errands.run(order, os.fsencode(data), lambda _: None)
        except Exception as error:  # noqa: BLE001 - looked at below
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert sent.wait(20)
    assert len(uploads(s3)) == 1
    streams[0]._sock.shutdown(2)
    thread.join(20)
    streams[0]._process.wait(20)
    over.set()
    assert [type(problem) for problem in problems] == [Transient]
    assert uploads(s3) == set()


class Answers(Order):
    """One URL."""

    def __init__(self, url: str, ca: str = "") -> None:
        super().__init__(REMOTE, "s3://one/x", {"way": "get", "size": 4, "length": 8, "ca": ca, "sums": ["sha256"]})
        self._url = url

    def answer(self, question: Any) -> dict[str, Any]:
        return {"url": self._url, "headers": {}}


class Server:
    """Answers `data` to all; notes what it was asked for. `identity`: a file with key and certificate."""

    def __init__(self, identity: Path | None = None) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers.items())))
                self.send_response(206)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"data")

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who does not trust it hangs up
        if identity is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(identity)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def identity(folder: Path) -> tuple[Path, str]:
    """(key and certificate of localhost, the certificate)."""
    given = ["-keyout", "key", "-out", "cert", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *given],
        cwd=folder,
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    (folder / "both").write_text((folder / "key").read_text() + (folder / "cert").read_text())
    return folder / "both", (folder / "cert").read_text()


@pytest.mark.parametrize("python", chosen())
def test_whom_it_trusts(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom its host trusts, and whom the driver was told to trust."""
    for name in ("https_proxy", "HTTPS_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    both, certificate = identity(tmp_path)
    server, here = Server(both), Here(python)
    (file := tmp_path / "file").write_bytes(b"")
    try:
        url = f"https://localhost:{server.port}/x?X-Amz-Signature=1"
        here.errands.run(Answers(url, certificate), os.fsencode(file), lambda _: None)
        assert file.read_bytes() == b"data"
        with pytest.raises(Unable, match="does not trust the store's certificate"):
            here.errands.run(Answers(url), os.fsencode(file), lambda _: None)
        (said,) = here.said
        assert "between here and s3://one/: it does not trust" in said
        assert "Signature" not in said
    finally:
        server.close()


def test_the_proxy_of_a_host(here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server()
    monkeypatch.setenv("http_proxy", f"http://me:pass@127.0.0.1:{server.port}")
    (file := tmp_path / "file").write_bytes(b"")
    try:
        here.errands.run(Answers("http://store.invalid/x?X-Amz-Signature=1"), os.fsencode(file), lambda _: None)
    finally:
        server.close()
    ((path, headers),) = server.asked
    assert path == "http://store.invalid/x?X-Amz-Signature=1"
    assert (headers["Host"], headers["Proxy-Authorization"]) == ("store.invalid", "Basic bWU6cGFzcw==")
    assert file.read_bytes() == b"data"


def test_settings_without_urls_for_one_request(buckets: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is another machine over there; signature version 2, which boto3 prefers, says nothing of lengths."""
    with pytest.raises(Unable, match="only this machine reaches"):
        S3Store("one").remote()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.invalid:9000")
    assert S3Store("one").remote() == REMOTE
    monkeypatch.setattr("taskrun.staging.s3.keep_version_4", lambda **_: None)
    with pytest.raises(Unable, match="they need signature version 4"):
        S3Store("one").remote()


def test_the_certificates_that_the_driver_trusts_go_along(buckets: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (bundle := tmp_path / "ca.pem").write_text(
        Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt").read_text()
    )
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://store.invalid")
    assert S3Store("one").remote().settings == {"ca": bundle.read_text()}
