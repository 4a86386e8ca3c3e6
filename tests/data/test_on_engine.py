"""--stage-on-engine: hosts that have rclone move their files themselves, told by the driver, and nobody else learns how."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from data.conftest import Bucket, Far, Keys, manifest, moved
from harness import need, until
from staging.proxy import Asked, Proxy
from staging.test_encryption import LAB

from taskrun.engines import bootstrap

SECRET = "SECRET-c41f-of-a-store"
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


def errands(far: Far) -> set[int]:
    return {pid for k in (1, 2) for pid, line in far.hosts.processes(k).items() if line.startswith("/usr/bin/rclone ")}


def watched(far: Far, over: threading.Event, seen: list[str]) -> None:
    while not over.wait(0.05):
        for k in (1, 2):
            seen += [line for line in far.hosts.processes(k).values() if SECRET in line or "rclone" in line]


def test_every_scope(far: Far, bucket: Bucket, proxy: Proxy, gnupg: Keys, tmp_path: Path) -> None:
    config = tmp_path / "rclone.conf"
    config.write_text(
        f"[cloud]\ntype = s3\nprovider = Other\nendpoint = {proxy.endpoint}\naccess_key_id = a\nsecret_access_key = {SECRET}\n"
        f"region = us-east-1\n\n[disk]\ntype = alias\nremote = {tmp_path}\n"
    )
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
    assert not [line for line in seen if SECRET in line]
    assert not [path for path in far.taskrun.folder.glob("run*") if SECRET in path.read_text("utf-8", "replace")]
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
        until(lambda: len(errands(far)) == 2, 30, "rclone on both hosts")
        if number:
            running.send(number)
            running.process.wait(20)
            until(lambda: not errands(far), 20, "the end of rclone")
            previous = ["-r", f"run{turn}_status.txt"]
    for mark in (base64.b64encode(bootstrap.program("errand").encode()), hashlib.sha256(bootstrap.archive()).hexdigest().encode()):
        until(lambda: len(errands(far)) == 2, 30, "rclone on both hosts, again")
        before = errands(far)
        for k in (1, 2):
            for pid, line in far.hosts.processes(k).items():
                if mark.decode() in line:
                    os.kill(pid, signal.SIGKILL)
        until(lambda before=before: not before & errands(far), 20, "the end of rclone")
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


def test_the_driver_moves_what_a_host_cannot(far: Far, bucket: Bucket, proxy: Proxy) -> None:
    """host1 has no rclone, host2 is refused by the store."""
    far.hosts.exec(1, "mount", "--bind", "/dev/null", "/usr/bin/rclone")
    try:
        proxy.trouble = lambda asked: (403, "AccessDenied") if asked.peer == far.hosts.addresses[1] else None
        bucket.put("in/a", b"a")
        text = "#TASKRUN STAGE-IN ENGINE s3://genomes/in/ in/\n#TASKRUN STAGE-OUT TASK out s3://genomes/out/$TASKRUN_REPEAT_INDEX\n"
        text += "#TASKRUN REPEAT 6 sleep 0.3; cat in/a > out\n"
        result = far(text, "--stage-on-engine", where="host1:1,host2:1")
    finally:
        far.hosts.exec(1, "umount", "/usr/bin/rclone")
    assert result.code == 0, result.err
    assert result.err.count("the driver moves what goes between host1 and all stores: it has no rclone") == 1
    assert {each["by"] for way in ("inputs", "outputs") for each in manifest(result)[way]} == {"driver"}
    assert bucket.keys("out/") == {f"out/{number}" for number in range(6)}
