"""Data of engines that do not share the driver's folder: two real hosts."""

from __future__ import annotations

import contextlib
import os
import re
import signal

import pytest
from data.conftest import Bucket, Far, manifest, moved
from harness import Taskrun, until


def test_every_scope(far: Far, bucket: Bucket) -> None:
    for number in range(6):
        bucket.put(f"in/{number}", b"%d" % number)
    bucket.put("ref/a", b"ref")
    text = (
        "#TASKRUN STAGE-IN ENGINE s3://genomes/ref/ ref/\n"
        "#TASKRUN STAGE-OUT all/* s3://genomes/all/\n"
        "#TASKRUN STAGE-IN TASK s3://genomes/in/$TASKRUN_REPEAT_INDEX work/\n"
        "#TASKRUN STAGE-OUT TASK out/$TASKRUN_REPEAT_INDEX.txt s3://genomes/out/\n"
        "#TASKRUN REPEAT 6 n=$TASKRUN_REPEAT_INDEX; mkdir -p out all; sleep 0.3; cat ref/a work/$n > out/$n.txt; hostname > all/$n\n"
        "#TASKRUN BARRIER\n#TASKRUN STAGE-IN TASK OFF\n#TASKRUN STAGE-OUT TASK OFF\ntrue\n"
    )
    result = far(text)
    assert result.code == 0, result.err
    assert {each["ReturnCode"] for each in result.records()} == {0}
    assert bucket.keys("out/") == {f"out/{number}.txt" for number in range(6)}
    assert {bucket.get(f"out/{number}.txt") for number in range(6)} == {b"ref%d" % number for number in range(6)}
    assert {bucket.get(f"all/{number}") for number in range(6)} == {b"host1\n", b"host2\n"}
    assert sorted(os.listdir(far.taskrun.folder)) == sorted({"tasks.txt", *(path.name for path in far.taskrun.folder.glob("run*"))})
    found = manifest(result)
    assert {each["dest"] for each in found["inputs"]} >= {"engine://host1/~/ref/a", "engine://host2/~/ref/a"}
    assert {each["verified"] for each in found["inputs"]} == {"sha256"}
    barrier = result.events("barrier")[0]["t"]
    assert all(each["t"] <= barrier for each in result.events("transfer") if each["id"] is not None)
    assert [each["what"] for each in result.events("place")].count("swept") == 2
    again = far(text, "-r", "run_status.txt", prefix="again")
    assert again.code == 0
    assert (moved(again, "in"), moved(again, "out")) == ([], [])
    assert len(manifest(again)["outputs"]) == 12


def test_a_host_that_was_lost_and_is_back_keeps_nothing_unfinished(far: Far) -> None:
    """The task has gone to the other host: nobody fetches the same file again where it was broken off."""
    with (far.taskrun.folder / "big").open("wb") as file:
        file.truncate(300 << 20)
    running = far.start(
        "#TASKRUN STAGE-IN TASK big in/\nuntil [ -e in/go ]; do sleep 0.1; done\n", "--lost-after", "5", where="host1:1,host2:1"
    )
    under_way = {k: far.folder(k) / "in" for k in (1, 2)}
    until(lambda: any(path.is_dir() and os.listdir(path) for path in under_way.values()), 30, "the file on its way")
    first, other = (1, 2) if under_way[1].is_dir() else (2, 1)
    for pid, line in far.hosts.processes(first).items():
        if line.startswith("sshd: root"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    until((under_way[other] / "big").exists, 40, "the file on the other host")
    events = far.taskrun.folder / "run_events.jsonl"
    until(lambda: events.read_text().count('"used"') == 3, 30, "a new agent on the first host")
    (under_way[other] / "go").touch()
    result = running.finish(30)
    assert (result.code, len(result.records())) == (0, 1), result.err
    assert (os.listdir(under_way[first]), sorted(os.listdir(under_way[other]))) == ([], ["big", "go"])


def test_a_driver_that_is_killed_leaves_nothing_undelivered(far: Far, bucket: Bucket) -> None:
    """All tasks have ended, their outputs are on the hosts alone: a resume that has nothing to run looks for them there."""
    text = "#TASKRUN STAGE-OUT all/* s3://genomes/all/\n#TASKRUN REPEAT 4 sleep 0.4; mkdir -p all; hostname > all/$TASKRUN_REPEAT_INDEX\n"
    running = far.start(text, "--settle", "60")
    status = far.taskrun.folder / "run_status.txt"
    until(lambda: status.exists() and status.read_text().count("\n") == 4, 30, "all records")
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    assert bucket.keys() == set()
    again = far(text, "-r", "run_status.txt", prefix="again")
    assert again.code == 0, again.err
    assert bucket.keys() == {f"all/{number}" for number in range(4)}
    assert {bucket.get(f"all/{number}") for number in range(4)} == {b"host1\n", b"host2\n"}
    third = far(text, "-r", "again_status.txt", prefix="third")
    assert (third.code, moved(third, "out")) == (0, [])
    assert len(manifest(third)["outputs"]) == 4


def test_an_engine_that_is_lost_while_it_ships(far: Far, bucket: Bucket) -> None:
    text = "#TASKRUN STAGE-OUT TASK big s3://genomes/out/\nhead -c 150000000 /dev/urandom > big; hostname\n"
    running = far.start(text, "--lost-after", "6", "--no-retire", where="host1:1,host2:1")
    events = far.taskrun.folder / "run_events.jsonl"
    until(lambda: any((far.folder(k) / "big").exists() and (far.folder(k) / "big").stat().st_size == 150000000 for k in (1, 2)), 30)
    first = 1 if (far.folder(1) / "big").exists() else 2
    far.hosts.kill_host(first)
    result = running.finish(50)
    assert result.code == 0, result.err
    (record,) = result.records()
    assert record["Node"] == f"host{3 - first}"
    assert len(bucket.get("out/big")) == 150000000
    assert [each["cause"] for each in result.events("attempt")] == ["engine-lost", "ok"]
    assert events.exists()


def test_what_an_engine_made_before_it_was_lost(far: Far, bucket: Bucket) -> None:
    """Its agent is killed, its host lives on: what lies there is still fetched."""
    text = (
        "#TASKRUN STAGE-OUT all/* s3://genomes/all/\n#TASKRUN REPEAT 2 mkdir -p all; hostname > all/$(hostname)\n"
        "#TASKRUN BARRIER\nwhile [ ! -e /srv/go ]; do sleep 0.1; done\n"
    )
    running = far.start(text, "--settle", "60", "--lost-after", "4", where="host1:1,host2:1")
    until(lambda: (far.folder(1) / "all/host1").exists() and (far.folder(2) / "all/host2").exists(), 30, "both outputs")
    far.hosts.kill_host(2)
    until(lambda: "host2: the engine is lost" in running.said()[1], 30, "the loss")
    far.hosts.revive_host(2)
    for k in (1, 2):
        far.hosts.path(k, "/srv/go").touch()
    result = running.finish(50)
    assert result.code == 0, result.err
    assert bucket.keys() == {"all/host1", "all/host2"}


def test_a_host_that_falls_silent_while_it_is_fetched_from(far: Far, taskrun: Taskrun) -> None:
    """Its agent has left, nobody tells us: the silence is noticed, and the rest is fetched through a new connection."""
    text = "#TASKRUN STAGE-OUT big out/\ntruncate -s 300M big; echo end >> big\n"
    running = far.start(text, "--settle", "60", "--lost-after", "4", where="host1:1")

    def begun() -> bool:
        return any(path.stat().st_size for path in taskrun.folder.glob("out/.taskrun-*~"))

    until(begun, 30, "a file on its way")
    far.hosts.cut_host(1)
    log = taskrun.folder / "run_driver.log"
    until(lambda: "tried again" in log.read_text(), 30, "a look at the clock")
    far.hosts.mend_host(1)
    result = running.finish(50)
    assert result.code == 0, result.err
    (output,) = manifest(result)["outputs"]
    assert (output["tries"] > 1, output["size"], output["by"]) == (True, (300 << 20) + 4, "driver")


@pytest.mark.timeout(120)  # where it is the first, hosts and the S3 server start with it: 40 s on a machine under load
def test_a_host_that_cannot_be_looked_at_any_more_is_said(far: Far, bucket: Bucket) -> None:
    text = "#TASKRUN STAGE-OUT all/* s3://genomes/all/\n"
    text += "#TASKRUN REPEAT 2 mkdir -p all; hostname > all/$(hostname); until [ -e /srv/go ]; do sleep 0.1; done\n"
    running = far.start(text, "--settle", "60", "--lost-after", "4", where="host1:1,host2:1")
    until(lambda: (far.folder(1) / "all/host1").exists() and (far.folder(2) / "all/host2").exists(), 30, "both outputs")
    status = far.taskrun.folder / "run_status.txt"
    far.hosts.path(2, "/srv/go").touch()
    until(lambda: status.exists() and status.read_text().count("\n") == 1, 30, "the record of host2")
    far.hosts.kill_sshd(2)
    for pid in far.hosts.processes(2):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    far.hosts.path(1, "/srv/go").touch()
    result = running.finish(50)
    assert result.code == 3
    assert "all/* on host2 was not delivered" in result.err
    far.hosts.revive_host(2)
    again = far(text, "-r", "run_status.txt", prefix="again")
    assert again.code == 0, again.err
    assert bucket.keys() == {"all/host1", "all/host2"}
    far.hosts.forgive(2)  # a killed agent leaves its folder


def test_stopped_while_fetching_and_while_shipping(far: Far, bucket: Bucket) -> None:
    bucket.put("in/big", os.urandom(16_000_000))
    text = (
        "#TASKRUN STAGE-IN TASK s3://genomes/in/big $TASKRUN_TASKID/\n#TASKRUN STAGE-OUT TASK $TASKRUN_TASKID/big s3://genomes/out/$TASKRUN_TASKID/\n"
        "#TASKRUN REPEAT 4 touch ran.$TASKRUN_TASKID\n"
    )
    previous: list[str] = []
    prefix = ""
    for turn, number in enumerate((signal.SIGTERM, signal.SIGTERM, signal.SIGINT)):
        prefix = f"run{turn}"
        running = far.start(text, *previous, "--transfers", "2", prefix=prefix)
        if turn == 0:
            until(lambda: [*far.folder(1).rglob(".taskrun-*~"), *far.folder(2).rglob(".taskrun-*~")], 30, "a file on its way")
        else:
            events = far.taskrun.folder / f"{prefix}_events.jsonl"
            until(lambda events=events: events.exists() and re.search(rb'"kind":"transfer".*"cause":"ok"', events.read_bytes()), 30)
        running.send(number)
        result = running.finish(50)
        assert result.code in (0, 3), result.err
        previous = ["-r", f"{prefix}_status.txt"]
        for k in (1, 2):
            assert not list(far.folder(k).rglob(".taskrun-*")), result.err
            assert all(path.stat().st_size == 16_000_000 for path in far.folder(k).rglob("big"))
        assert all(bucket.client.head_object(Bucket="genomes", Key=key)["ContentLength"] == 16_000_000 for key in bucket.keys("out/"))
        for each in result.records():
            assert each["ReturnCode"] == 0
            assert {f"out/{each['TaskID']}/big"} <= bucket.keys()
    result = far(text, *previous, prefix="last")
    assert result.code == 0, result.err
    assert bucket.keys("out/") == {f"out/{number}/big" for number in range(4)}


def test_a_location_that_is_a_host(taskrun: Taskrun, far: Far) -> None:
    there = far.hosts.path(3, "/srv/in data")
    there.mkdir(parents=True)
    (there / "a%20b").write_text("x")
    text = "#TASKRUN STAGE-IN 'sftp://host3/srv/in data/' in/\n#TASKRUN STAGE-OUT TASK out sftp://host3/srv/out/new\ncat in/* > out\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    assert result.code == 0, result.err
    assert far.hosts.path(3, "/srv/out/new").read_text() == "x"
    again = taskrun("tasks.txt", "-s", "localhost:1", "-p", "again")
    assert again.code == 0, again.err
    assert {each["how"] for each in manifest(again)["inputs"]} == {"identical"}
