"""`taskrun check` lists the transfers of a task file, and what a run would refuse in its first second."""

from __future__ import annotations

import pytest
from data.conftest import Bucket
from harness import Taskrun


def test_files_bytes_and_what_is_there(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in/a", b"12345")
    bucket.put("in/b.gpg", b"123")
    text = (
        "#TASKRUN STAGE-IN s3://genomes/in/ in/\n#TASKRUN STAGE-OUT out/* s3://genomes/out/\n"
        "#TASKRUN STAGE-IN TASK s3://genomes/${TASKRUN_TASKID}.bam work/\ntrue\n"
    )
    result = taskrun("check", "tasks.txt", files={"tasks.txt": text, "in/a": "54321", "out/1": "x"})
    assert result.code == 0, result.err
    assert "line 1: #TASKRUN STAGE-IN s3://genomes/in/ in/: 2 files, 8 B, 1 of them there with that size\n" in result.out
    assert "line 2: #TASKRUN STAGE-OUT out/* s3://genomes/out/: 1 file now\n" in result.out
    assert "line 3: #TASKRUN STAGE-IN TASK s3://genomes/${TASKRUN_TASKID}.bam work/: once for each task\n" in result.out
    assert (taskrun.folder / "in/a").read_text() == "54321"


@pytest.mark.parametrize(
    ("line", "code", "place", "said"),
    [
        ("#TASKRUN STAGE-IN s3://genomes/none in/", 2, "1:19: error", "there is no such file"),
        ("#TASKRUN STAGE-IN s3://nowhere/x in/", 2, "1:19: error", "there is no bucket nowhere"),
        ("#TASKRUN STAGE-IN none/*.txt in/", 2, "1:19: error", "nothing matches"),
        ("#TASKRUN STAGE-IN sftp://no.host.invalid/x in/", 2, "1:19: error", "there is no host of this name"),
        ("#TASKRUN STAGE-IN TASK later/x in/", 0, "1:24: warning", "there is no such file"),
        ("#TASKRUN STAGE-OUT x s3://nowhere/out/", 0, "1:22: warning", "there is no bucket nowhere"),
    ],
)
def test_what_a_run_would_refuse(taskrun: Taskrun, bucket: Bucket, line: str, code: int, place: str, said: str) -> None:
    result = taskrun("check", "tasks.txt", files={"tasks.txt": f"{line}\ntrue\n"})
    assert result.code == code, result.err
    assert f"tasks.txt:{place}: " in result.err
    assert said in result.err


def test_a_dry_run_looks_at_this_machine_alone(taskrun: Taskrun) -> None:
    text = "#TASKRUN STAGE-IN from/ in/\n#TASKRUN STAGE-IN none.txt in/\n#TASKRUN STAGE-OUT out/* s3://nowhere/\ntrue\n"
    result = taskrun("tasks.txt", "--dry-run", "-s", "localhost:1", files={"tasks.txt": text, "from/a": "12", "in/a": "21", "out/x": "x"})
    assert result.code == 0, result.err
    rows = [line.split("\t")[4] for line in result.out.splitlines()]
    assert rows[:3] == [
        "once, before the tasks below start: 1 file, 2 B, 1 of them there with that size",
        "once, before the tasks below start: none.txt: there is no such file",
        "as it is complete, and at the end: 1 file now",
    ]


def test_a_file_with_stage_in_lines_alone(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in/a", b"a")
    text = "#TASKRUN STAGE-IN s3://genomes/in/ in/\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    assert result.code == 0, result.err
    assert (taskrun.folder / "in/a").read_text() == "a"
    assert taskrun("-r", "run_status.txt").code == 0
    missing = taskrun("tasks.txt", "-s", "localhost:1", "-p", "two", files={"tasks.txt": text.replace("in/", "no/x", 1)})
    assert missing.code == 3
