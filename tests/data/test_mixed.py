"""Data together with the rest of the language and of the options: limits, barriers, files, losses, people who change their minds."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from data.conftest import Bucket, Far, Keys, manifest, moved
from harness import Taskrun, until
from keyring import LAB

HERE = ("-s", "localhost:2", "-p", "run", "--settle", "0.2")


def test_foreach_and_barrier_and_variables(taskrun: Taskrun, bucket: Bucket) -> None:
    """The file's name stands for itself; the barrier waits for what is delivered."""
    names = ["a b", "c[1]", "-d"]
    for name in names:
        bucket.put(f"in/{name}.bam", name.encode())
    text = (
        '#TASKRUN STAGE-IN TASK "s3://genomes/in/${TASKRUN_FILE}.bam" in\\ ${TASKRUN_REPEAT_INDEX_ZP}/\n'
        "#TASKRUN STAGE-OUT TASK out/${TASKRUN_FILE} s3://genomes/out/$TASKRUN_JOBID/\n"
        "#TASKRUN FOREACH * test ! -d {} && cp in\\ */{}.bam out/; mv out/{}.bam out/{}\n"
    )
    folder = taskrun.folder / "w"
    taskrun.write({f"w/{name}": "" for name in names})
    (folder / "out").mkdir()
    text = text.replace("FOREACH *", "FOREACH [a-c-]*").replace("cp in", "cp -- in").replace("mv out", "mv -- out")
    text += "#TASKRUN BARRIER\n#TASKRUN STAGE-IN TASK OFF\n#TASKRUN STAGE-OUT TASK OFF\ntrue\n"
    result = taskrun("../tasks.txt", *HERE, files={"tasks.txt": text}, cwd=folder)
    assert result.code == 0, result.err
    assert [(each["ReturnCode"], each["ErrorSnippet"]) for each in result.records() if each["ReturnCode"]] == []
    assert {key: bucket.get(key).decode() for key in bucket.keys("out/")} == {f"out/run/{name}": name for name in names}
    barrier = result.events("barrier")[0]["t"]
    assert all(each["t"] <= barrier for each in result.events("transfer"))


def test_fail_fast_when_data_is_missing(taskrun: Taskrun, bucket: Bucket) -> None:
    text = "#TASKRUN STAGE-IN TASK s3://genomes/none/$TASKRUN_TASKID in/\n#TASKRUN REPEAT 50 sleep 5\n"
    result = taskrun("tasks.txt", *HERE, "-f", files={"tasks.txt": text})
    assert result.code == 1, result.err
    assert len(result.records()) < 50
    text = "#TASKRUN STAGE-OUT TASK none in/\ntrue\n#TASKRUN BARRIER CHECK\ntouch never\n"
    checked = taskrun("tasks.txt", *HERE[:2], "-p", "two", files={"tasks.txt": text})
    assert checked.code == 1
    assert not (taskrun.folder / "never").exists()


def test_a_limit_and_per_engine_commands(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("ref", b"r")
    text = (
        "#TASKRUN PERENGINE START cp ref started\n#TASKRUN STAGE-IN ENGINE s3://genomes/ref ref\n"
        "#TASKRUN STAGE-OUT TASK out.$TASKRUN_TASKID s3://genomes/out/\n#TASKRUN REPEAT 6 touch out.$TASKRUN_TASKID\n"
    )
    result = taskrun("tasks.txt", *HERE, "-C", "2", files={"tasks.txt": text})
    assert result.code == 3, result.err
    assert (taskrun.folder / "started").read_text() == "r"
    assert len(bucket.keys("out/")) == 2
    rest = taskrun("-r", "run_status.txt", "-p", "rest")
    assert len(bucket.keys("out/")) == 4, rest.err


def test_a_task_whose_slot_dies_leaves_its_data_to_the_next_attempt(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in", b"x")
    text = (
        "#TASKRUN STAGE-IN TASK s3://genomes/in in.$TASKRUN_TASKID\n#TASKRUN STAGE-OUT TASK out s3://genomes/out\n"
        "if [ ! -e once ]; then touch once; kill -9 $PPID; sleep 20; fi; cp in.0 out\n"
    )
    result = taskrun("tasks.txt", *HERE, files={"tasks.txt": text})
    assert result.code == 0, result.err
    assert bucket.get("out") == b"x"
    assert moved(result, "in") == ["in.0"]
    assert [each["how"] for each in result.events("transfer") if each["way"] == "in"] == ["moved", "known"]


def test_encrypted_outputs_are_not_moved_again(taskrun: Taskrun, bucket: Bucket, gnupg: Keys) -> None:
    """The driver is killed in the middle: what it had delivered is known from its events file alone."""
    text = (
        f"#TASKRUN ENCRYPT {LAB}\n#TASKRUN STAGE-OUT out/* s3://genomes/out/\n"
        "mkdir -p out; for n in 1 2 3; do echo $n > out/$n; done\nuntil [ -e go ]; do sleep 0.1; done; echo 4 > out/4\n"
    )
    running = taskrun.start("tasks.txt", *HERE, files={"tasks.txt": text})
    events = taskrun.folder / "run_events.jsonl"
    until(lambda: events.exists() and events.read_bytes().count(b'"kind":"transfer"') == 3, 20, "three deliveries")
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    before = {key: bucket.get(key) for key in bucket.keys("out/")}
    assert set(before) == {f"out/{number}.gpg" for number in (1, 2, 3)}
    left = list(Path(taskrun.env["TMPDIR"]).glob("taskrun-spool-*"))
    assert len(left) == 1
    assert [path.name for path in left[0].iterdir()] == ["owner"]
    (taskrun.folder / "go").touch()
    result = taskrun("-r", "run_status.txt", "-p", "again", "--settle", "0.2")
    assert result.code == 0, result.err
    assert moved(result, "out") == ["s3://genomes/out/4.gpg"]
    assert {key: bucket.get(key) for key in before} == before
    assert len(manifest(result)["outputs"]) == 4
    assert "1 file delivered (3 were there already)" in result.err
    assert list(Path(taskrun.env["TMPDIR"]).glob("taskrun-spool-*")) == []


def test_the_end_is_waited_for_and_can_be_cut_short(taskrun: Taskrun, bucket: Bucket) -> None:
    """A server that fails for a while: delivering goes on after the last task, is shown, and a second signal ends it, resumable."""
    text = "#TASKRUN STAGE-OUT out s3://not-yet/\nhead -c 3000000 /dev/zero > out\n"
    env = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    running = taskrun.start("tasks.txt", *HERE, files={"tasks.txt": text}, env=env)
    status = taskrun.folder / "run_status.txt"
    until(lambda: status.exists() and status.stat().st_size, 20, "the record")
    until(lambda: "tried again" in (taskrun.folder / "run_driver.log").read_text(), 20, "a second try")
    running.send(signal.SIGINT)  # "end what runs": delivering is no task
    time.sleep(1.0)
    assert running.process.poll() is None
    running.send(signal.SIGINT)
    result = running.finish()
    assert result.code == 3, result.err
    bucket.client.create_bucket(Bucket="not-yet")
    again = taskrun("-r", "run_status.txt", "-p", "again", "--settle", "0.2")
    assert again.code == 0, again.err
    assert moved(again, "out") == ["s3://not-yet/out"]


def test_two_runs_at_once_with_one_destination(taskrun: Taskrun, tmp_path: Path) -> None:
    """Neither publishes the other's half."""
    files = {"a.txt": b"a" * 30_000_000, "b.txt": b"b" * 30_000_000}
    taskrun.write(files)
    text = "#TASKRUN STAGE-OUT TASK in/$TASKRUN_JOBID.txt dest/\nmkdir -p in; cp $TASKRUN_JOBID.txt in/\n"
    runs = [taskrun.start("tasks.txt", "-s", "localhost:1", "-p", name, files={"tasks.txt": text}) for name in ("a", "b")]
    assert [each.finish().code for each in runs] == [0, 0]
    same = [
        taskrun.start(name, "-s", "localhost:1", "-p", f"same-{name[0]}", files={name: f"#TASKRUN STAGE-IN {name[0]}.txt one\ntrue\n"})
        for name in ("a.tasks", "b.tasks")
    ]
    assert [each.finish().code for each in same] == [0, 0]
    assert (tmp_path / "one").read_bytes() in files.values()
    assert not list(tmp_path.rglob(".taskrun-*"))


@pytest.mark.timeout(90)
def test_an_engine_that_is_detached_is_swept_before_it_goes(far: Far, bucket: Bucket) -> None:
    text = "#TASKRUN STAGE-OUT all/* s3://genomes/all/\n"
    text += "#TASKRUN REPEAT 2 mkdir -p all; touch all/$(hostname); until [ -e /srv/go ]; do sleep 0.1; done\n"
    running = far.start(text, "--settle", "60", where="host1:1,host2:1")
    until(lambda: (far.folder(1) / "all/host1").exists() and (far.folder(2) / "all/host2").exists(), 30, "both tasks")
    detached = far.taskrun("detach", "run", "host2_1")
    assert detached.code == 0, detached.err
    far.hosts.path(2, "/srv/go").touch()
    until(lambda: bucket.keys("all/") == {"all/host2"}, 30, "what the detached engine has made")
    until(lambda: not far.hosts.processes(2), 10, "the end of its connection")
    far.hosts.path(1, "/srv/go").touch()
    result = running.finish(40)
    assert result.code == 0, result.err
    assert bucket.keys("all/") == {"all/host1", "all/host2"}


def test_inputs_come_while_other_tasks_run(taskrun: Taskrun, bucket: Bucket) -> None:
    for number in range(4):
        bucket.put(f"in/{number}", b"x" * 1_000_000)
    text = "#TASKRUN STAGE-IN TASK s3://genomes/in/$TASKRUN_TASKID in/\n#TASKRUN REPEAT 4 sleep 1\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    assert result.code == 0, result.err
    ends = sorted(each["t"] for each in result.events("attempt"))
    came = sorted(each["t"] for each in result.events("transfer"))
    assert came[1] < ends[0]  # the second task's, while the first one ran
    assert "4 files fetched, 3.8 MiB" in result.err
