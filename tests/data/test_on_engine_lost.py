"""--stage-on-engine in bad hands: a host is cut off, its program or the driver killed, while files are on their way to or from S3."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler

import pytest
from data.conftest import Bucket, Far, manifest, moved
from data.test_on_engine import BY_URL, proxy
from harness import until
from staging.proxy import Asked, Proxy

__all__ = ["proxy"]  # a fixture that is written elsewhere

DATA = os.urandom(20_000_000)  # three parts


class Stalled:
    """A proxy that holds back: `GET` the second half of the object's first part, `PUT` its second part."""

    def __init__(self, far: Far, proxy: Proxy) -> None:
        self._hosts = dict(zip(far.hosts.addresses, (1, 2, 3), strict=True))
        self._over = threading.Event()
        self._held: list[int] = []
        self.what = ""
        proxy.trouble = self

    def __call__(self, asked: Asked) -> threading.Event | None:
        if asked.method != self.what or asked.peer not in self._hosts:
            return None
        if self.what == "GET" and "/in/big?" in asked.path and asked.headers["range"].startswith("bytes=0-"):
            self._held.append(self._hosts[asked.peer])
            return self._over
        if self.what == "PUT" and "partNumber=2" in asked.path:
            self._held.append(self._hosts[asked.peer])
            self._over.wait(60)
        return None

    def host(self) -> int:
        """The next host that waits in vain."""
        until(lambda: self._held, 30, f"a host whose {self.what} is on its way")
        return self._held.pop(0)

    def end(self) -> None:
        self.what = ""
        self._over.set()


def uploads(bucket: Bucket) -> set[str]:
    return {one["UploadId"] for one in bucket.client.list_multipart_uploads(Bucket="genomes").get("Uploads", ())}


def movers(far: Far, host: int) -> list[int]:
    return [pid for pid, line in far.hosts.processes(host).items() if line == BY_URL]


@pytest.mark.long
@pytest.mark.timeout(150)
def test_whatever_ends_in_the_middle(far: Far, bucket: Bucket, proxy: Proxy) -> None:
    """Cut off while it fetches; its program killed, then the driver, while it sends; cut off while it sends; at last all goes well."""
    far.folder(3).mkdir(parents=True)
    bucket.client.upload_fileobj(io.BytesIO(DATA), "genomes", "in/big")  # in parts: its ETag is no md5, and nobody has noted a sha256
    stalled = Stalled(far, proxy)
    text = (
        "#TASKRUN STAGE-IN TASK s3://genomes/in/big in/\n#TASKRUN STAGE-OUT TASK out/big s3://genomes/out/\n"
        "mkdir -p out; cp in/big out/big; hostname > ran\n"
    )
    flags = ("--stage-on-engine", "--lost-after", "4", "--no-retire")
    running = far.start(text, *flags, where="host1:1,host2:1,host3:1")

    stalled.what = "GET"
    first = stalled.host()
    assert not (far.folder(first) / "in/big").exists()  # half of it is there, under another name
    far.hosts.cut_host(first)
    stalled.what = "PUT"
    until(lambda: not movers(far, first), 20, "the end of what moves files on the host that was cut off")
    assert not (far.folder(first) / "in/big").exists()

    second = stalled.host()
    before = uploads(bucket)
    assert len(before) == 1
    for pid in movers(far, second):
        os.kill(pid, signal.SIGKILL)
    assert stalled.host() == second  # its driver tries it again there
    assert not before & uploads(bucket)

    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    until(lambda: not movers(far, second) and not uploads(bucket), 20, "the end of what moves files whose driver was killed")
    assert bucket.keys("out/") == set()

    far.hosts.mend_host(first)
    resumed = far.start(text, "-r", "run_status.txt", *flags, where="host1:1,host2:1,host3:1", prefix="again")
    third = stalled.host()
    far.hosts.cut_host(third)
    until(lambda: not movers(far, third), 20, "the end of what moves files on the host that was cut off while it sent")
    stalled.end()
    result = resumed.finish(60)
    assert result.code == 0, result.err
    (record,) = result.records()
    assert (record["ReturnCode"], record["Node"] == f"host{third}") == (0, False)
    assert [each["cause"] for each in result.events("attempt")] == ["engine-lost", "ok"]
    assert moved(result, "out") == ["s3://genomes/out/big"]
    assert sum(asked.method == "POST" and "uploadId" in asked.path for asked in proxy.asked) == 1  # it came to an end once
    (given,) = [each for each in manifest(result)["inputs"] if each["dest"].startswith(f"engine://{record['Node']}/")]
    assert (given["source_sha256"], given["size"]) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert given["by"] == (record["Node"] if given["how"] == "moved" else "driver"), "on the second host it is known from the first run"
    (output,) = manifest(result)["outputs"]
    assert (output["verified"], output["by"], output["size"]) == ("md5", record["Node"], len(DATA))
    assert bucket.keys() == {"in/big", "out/big"}
    assert bucket.get("out/big") == DATA
    assert uploads(bucket) == set()
    for host in (first, third):
        far.hosts.forgive(host)  # sshd of a connection that was cut waits for its other end


@pytest.mark.timeout(120)  # where it is the first, hosts and the S3 server start with it
def test_what_is_late_replaces_nothing(far: Far, bucket: Bucket, proxy: Proxy) -> None:
    """A small file is on its way when its host is cut off, and arrives when the task has run elsewhere."""
    over, held, passed = threading.Event(), list[str](), list[str]()

    def trouble(asked: Asked) -> None:
        if asked.method == "PUT" and "/out/" in asked.path and not held:
            held.append(asked.peer)
            over.wait(60)

    class Noting(Proxy):
        def handle(self, request: BaseHTTPRequestHandler) -> None:
            super().handle(request)
            passed.append(f"{request.command} {request.client_address[0]}")

    proxy.trouble, proxy.__class__ = trouble, Noting
    text = "#TASKRUN STAGE-OUT TASK out s3://genomes/out/x\nhostname > out\n"
    running = far.start(text, "--stage-on-engine", "--lost-after", "3", "--no-retire", where="host1:1,host2:1")
    until(lambda: held, 30, "a file on its way")
    first = far.hosts.addresses.index(held[0]) + 1
    far.hosts.cut_host(first)
    result = running.finish(60)
    assert result.code == 0, result.err
    (record,) = result.records()
    assert record["Node"] == f"host{3 - first}"
    assert f"PUT {held[0]}" not in passed
    over.set()
    until(lambda: f"PUT {held[0]}" in passed, 30, "the late request")
    far.hosts.mend_host(first)
    far.hosts.forgive(first)
    assert bucket.get("out/x") == f"host{3 - first}\n".encode()
    assert uploads(bucket) == set()
