"""Files that were at a destination: replaced with a warning and a record, or left alone with --no-replace."""

from __future__ import annotations

from data.conftest import Bucket, manifest
from harness import Taskrun

OUT = "#TASKRUN STAGE-OUT *.dat s3://genomes/out/\nfor n in 1 2 3 4 5 6 7; do echo $n > $n.dat; done\n"
FLAGS = ("-s", "localhost:1", "--settle", "0")


def test_it_is_said_and_recorded(taskrun: Taskrun, bucket: Bucket) -> None:
    for n in range(1, 7):
        bucket.put(f"out/{n}.dat", b"somebody's")
    result = taskrun("tasks.txt", *FLAGS, "-p", "run", files={"tasks.txt": OUT})
    assert result.code == 0, result.err
    assert result.err.count("was there with other content, and has been replaced from") == 5
    assert "and 1 more file was there with other content and has been replaced" in result.err
    assert {each["dest"] for each in manifest(result)["outputs"] if each["replaced"]} == {f"s3://genomes/out/{n}.dat" for n in range(1, 7)}
    again = taskrun("-r", "run_status.txt", "-p", "again", *FLAGS)
    assert "replaced" not in again.err


def test_nothing_is_replaced(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("out/3.dat", b"somebody's")
    result = taskrun("tasks.txt", *FLAGS, "-p", "run", "--no-replace", files={"tasks.txt": OUT})
    assert result.code == 3
    assert "3.dat was not delivered: s3://genomes/out/3.dat is there already, with other content" in result.err
    assert bucket.get("out/3.dat") == b"somebody's"
    assert bucket.get("out/4.dat") == b"4\n"


def test_what_the_run_itself_has_brought_may_be(taskrun: Taskrun, bucket: Bucket) -> None:
    text = OUT + "#TASKRUN BARRIER\nsleep 2; echo 8 > 1.dat\n"
    result = taskrun("tasks.txt", *FLAGS, "-p", "run", "--no-replace", files={"tasks.txt": text})
    assert result.code == 0, result.err
    assert bucket.get("out/1.dat") == b"8\n"
    assert "replaced" not in result.err


def test_an_input_that_replaced_a_file_is_not_removed(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in/a", b"theirs")
    bucket.put("in/b", b"theirs")
    text = "#TASKRUN STAGE-IN s3://genomes/in/ in/\ncat in/*\n"
    result = taskrun("tasks.txt", *FLAGS, "-p", "run", "--clean", "all", files={"tasks.txt": text, "in/a": "mine"})
    assert result.code == 0, result.err
    assert (taskrun.folder / "in/a").read_text() == "theirs"
    assert not (taskrun.folder / "in/b").exists()
    assert "in/a is kept: it has replaced another file" in result.err
    kept = taskrun("tasks.txt", *FLAGS, "-p", "kept", "--no-replace", files={"tasks.txt": text, "in/a": "mine"})
    assert kept.code == 3
    assert (taskrun.folder / "in/a").read_text() == "mine"
