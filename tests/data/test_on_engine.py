"""--stage-on-engine: hosts move their files themselves, told by the driver, and nobody else learns how."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from data.conftest import Bucket, Far, Keys, manifest, moved
from harness import need, until
from keyring import LAB
from staging.proxy import Asked, Proxy

pytestmark = pytest.mark.timeout(120)  # where one is the first, hosts and the S3 server start with it

SECRET = "SECRET-c41f-of-a-store"
SIGNED = "X-Amz-Signature"  # in each presigned URL
ODD = ["two words", "new\nline", "-rf", "ünï{0}%s", "quote'\"`$(id)"]


@pytest.fixture
def proxy(far: Far, bucket: Bucket) -> Iterator[Proxy]:
    """The S3 server as all machines reach it."""
    need("rclone")
    made = Proxy(bucket.cloud.endpoint, far.hosts.machine)
    far.taskrun.env |= {
        "AWS_ENDPOINT_URL": made.endpoint,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "NO_PROXY": far.hosts.machine,
        "no_proxy": far.hosts.machine,
    }
    yield made
    made.close()


#: What `ps` shows of the program that moves a file by URLs.
BY_URL = "taskrun by_url"


def errands(far: Far) -> set[int]:
    return {pid for k in (1, 2) for pid, line in far.hosts.processes(k).items() if line == BY_URL}


def cloud_config(proxy: Proxy) -> str:
    """A remote of rclone, `cloud:`, that is the S3 server."""
    return (
        f"[cloud]\ntype = s3\nprovider = Other\nendpoint = {proxy.endpoint}\naccess_key_id = a\nsecret_access_key = {SECRET}\n"
        "region = us-east-1\n"
    )


def watched(far: Far, over: threading.Event, seen: list[str]) -> None:
    while not over.wait(0.05):
        for k in (1, 2):
            seen += [line for line in far.hosts.processes(k).values() if any(word in line for word in (SECRET, "rclone", SIGNED))]


def test_every_scope(far: Far, bucket: Bucket, proxy: Proxy, gnupg: Keys, tmp_path: Path) -> None:
    config = tmp_path / "rclone.conf"
    config.write_text(f"{cloud_config(proxy)}\n[disk]\ntype = alias\nremote = {tmp_path}\n")
    (tmp_path / "near").write_text("near")
    for name in ODD:
        bucket.put(f"ref/{name}", name.encode())
    for number in range(4):
        bucket.put(f"in/{number}", b"%d" % number * 200_000)
    text = (
        "#TASKRUN STAGE-IN ENGINE s3://genomes/ref/ ref/\n#TASKRUN STAGE-IN ENGINE disk:near ref/\n"
        "#TASKRUN STAGE-OUT all/* cloud:genomes/all/\n"
        "#TASKRUN STAGE-IN TASK cloud:genomes/in/$TASKRUN_REPEAT_INDEX work/\n"
        "#TASKRUN STAGE-OUT TASK out/$TASKRUN_REPEAT_INDEX/* s3://genomes/out/$TASKRUN_REPEAT_INDEX/\n"
        f"#TASKRUN ENCRYPT {LAB}\n#TASKRUN STAGE-OUT TASK secret/$TASKRUN_REPEAT_INDEX s3://genomes/secret/\n"
        "#TASKRUN REPEAT 4 n=$TASKRUN_REPEAT_INDEX; mkdir -p out/$n all secret; cp ref/* out/$n; cp work/$n all; hostname > secret/$n\n"
    )
    over, seen = threading.Event(), list[str]()
    watch = threading.Thread(target=watched, args=(far, over, seen))
    watch.start()
    result = far(text, "--stage-on-engine", "--rclone-config", config)
    over.set()
    watch.join()
    assert result.code == 0, result.err
    assert bucket.keys("out/") == {f"out/{number}/{name}" for number in range(4) for name in [*ODD, "near"]}
    assert bucket.keys("all/") == {f"all/{number}" for number in range(4)}
    assert bucket.get("all/3") == b"3" * 200_000
    assert all(bucket.get(f"out/2/{name}") == name.encode() for name in ODD)
    found = manifest(result)
    for each in [*found["inputs"], *found["outputs"]]:
        ours = each["source"].startswith("disk:") or each["dest"].startswith("s3://genomes/secret/")
        assert each["by"] == "driver" if ours else each["by"] in ("host1", "host2"), each
        assert each["verified"] in ("sha256", "md5")
    data = [asked for asked in proxy.asked if asked.method in ("GET", "PUT") and re.search("/(ref|in|out|all)/", asked.path)]
    assert {asked.peer for asked in data} == set(far.hosts.addresses[:2])
    assert result.err.count("between host1 and disk:: its configuration of rclone is for this machine alone") <= 1
    assert "and disk:: its configuration" in result.err
    assert "rclone cat" in " ".join(seen)
    assert not [line for line in seen if SECRET in line or SIGNED in line]
    records = [path.read_text("utf-8", "replace") for path in far.taskrun.folder.glob("run*")]
    assert not [text for text in records if SECRET in text or SIGNED in text]
    assert result.err.count("--stage-on-engine: the settings of rclone remote `cloud`, keys included, go to 2 hosts") == 1
    assert "rclone remote `disk`" not in result.err
    assert result.path("driver.log").read_text().count("for s3:// hosts get presigned URLs") == 1
    again = far(text, "-r", "run_status.txt", "--rclone-config", config, prefix="again")
    assert (again.code, moved(again, "in"), moved(again, "out")) == (0, [], []), again.err


def test_nothing_is_left_of_it_however_the_run_ends(far: Far, bucket: Bucket, proxy: Proxy) -> None:
    """The store falls silent in the middle: cancelled, driver killed, the helper killed, the agent killed; then all goes well."""
    slow = threading.Event()

    def stall(asked: Asked) -> None:
        if asked.method in ("GET", "PUT") and "/big" in asked.path:
            slow.wait(30)

    proxy.trouble = stall
    bucket.put("in/big", os.urandom(9_000_000))
    text = (
        "#TASKRUN STAGE-IN TASK s3://genomes/in/big $TASKRUN_TASKID/\n"
        "#TASKRUN STAGE-OUT TASK $TASKRUN_TASKID/big s3://genomes/out/$TASKRUN_TASKID/\n#TASKRUN REPEAT 2 true\n"
    )
    previous: list[str] = []
    for turn, number in enumerate((signal.SIGTERM, signal.SIGKILL, 0)):
        running = far.start(text, "--stage-on-engine", "--lost-after", "4", *previous, prefix=f"run{turn}", where="host1:1,host2:1")
        until(lambda: len(errands(far)) == 2, 30, "transfers on both hosts")
        if number:
            running.send(number)
            running.process.wait(20)
            until(lambda: not errands(far), 20, "the end of transfers")
            previous = ["-r", f"run{turn}_status.txt"]
    for mark in (BY_URL, "taskrun agent "):
        until(lambda: len(errands(far)) == 2, 30, "transfers on both hosts, again")
        before = errands(far)
        for k in (1, 2):
            for pid, line in far.hosts.processes(k).items():
                if line.startswith(mark):
                    os.kill(pid, signal.SIGKILL)
        until(lambda before=before: not before & errands(far), 20, "the end of transfers")
    slow.set()
    result = running.finish(50)
    assert result.code == 0, result.err
    assert bucket.keys("out/") == {"out/0/big", "out/1/big"}
    assert all(bucket.get(key) == bucket.get("in/big") for key in bucket.keys("out/"))
    assert {each["by"] for each in manifest(result)["outputs"]} <= {"host1", "host2"}
    assert not [path for k in (1, 2) for path in far.folder(k).rglob(".taskrun-*")]


def test_through_the_user_s_own_ssh(far: Far, bucket: Bucket, proxy: Proxy) -> None:
    """What the driver moves, and what the hosts do, by processes of --ssh; outputs are still fetched when agents have left."""
    bucket.put("in/a b", b"a" * 3_000_000)
    (far.taskrun.folder / "-near\n").write_bytes(b"near" * 100_000)
    text = (
        "#TASKRUN STAGE-IN ENGINE s3://genomes/in/ in/\n#TASKRUN STAGE-IN TASK './'*near* work/\n"
        "#TASKRUN STAGE-OUT TASK out/$TASKRUN_REPEAT_INDEX s3://genomes/out/\n#TASKRUN STAGE-OUT all/* all/\n"
        "#TASKRUN REPEAT 4 n=$TASKRUN_REPEAT_INDEX; mkdir -p out all; cat in/* work/* > out/$n; cp out/$n all/; sleep 0.3\n"
    )
    result = far(text, "--stage-on-engine", "--ssh", "ssh", "--settle", "60")
    assert result.code == 0, result.err
    want = b"a" * 3_000_000 + b"near" * 100_000
    assert [bucket.get(f"out/{number}") for number in range(4)] == [want] * 4
    assert [(far.taskrun.folder / f"all/{number}").read_bytes() for number in range(4)] == [want] * 4
    found = manifest(result)
    assert {each["verified"] for each in found["inputs"]} == {"sha256"}
    for each in [*found["inputs"], *found["outputs"]]:
        assert (each["by"] == "driver") == ("s3:" not in each["source"] + each["dest"]), each
    again = far(text, "-r", "run_status.txt", "--ssh", "ssh", prefix="again")
    assert (again.code, moved(again, "in"), moved(again, "out")) == (0, [], []), again.err


def test_the_driver_moves_what_a_host_cannot(far: Far, bucket: Bucket, proxy: Proxy, tmp_path: Path) -> None:
    """host1 has no rclone, which only remotes of rclone need; host2 is refused by the store."""
    config = tmp_path / "rclone.conf"
    config.write_text(cloud_config(proxy))
    far.hosts.exec(1, "mount", "--bind", "/dev/null", "/usr/bin/rclone")
    try:
        proxy.trouble = lambda asked: (403, "AccessDenied") if asked.peer == far.hosts.addresses[1] else None
        bucket.put("in/a", b"a")
        text = "#TASKRUN STAGE-IN ENGINE s3://genomes/in/ in/\n#TASKRUN STAGE-OUT TASK out cloud:genomes/out/$TASKRUN_REPEAT_INDEX\n"
        text += "#TASKRUN REPEAT 6 sleep 0.3; cat in/a > out\n"
        result = far(text, "--stage-on-engine", "--rclone-config", config, where="host1:1,host2:1")
    finally:
        far.hosts.exec(1, "umount", "/usr/bin/rclone")
    assert result.code == 0, result.err
    assert result.err.count("the driver moves what goes between host1 and remotes of rclone: it has no rclone") == 1
    found = manifest(result)
    assert {each["by"] for each in found["outputs"]} == {"driver"}
    assert {each["by"] for each in found["inputs"]} == {"host1", "driver"}
    assert bucket.keys("out/") == {f"out/{number}" for number in range(6)}
