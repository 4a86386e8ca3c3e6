"""`--clean all` and `encrypted`: what the run made and nothing else, and nothing at all of a run that is not complete."""

from __future__ import annotations

import os
from pathlib import Path

from data.conftest import Bucket
from harness import Taskrun, until

WAIT = "until [ -e go ]; do sleep 0.05; done\n"
FLAGS = ("-s", "localhost:1", "-p", "run", "--settle", "0", "--clean", "all")


def test_a_pattern_that_matches_nothing(taskrun: Taskrun, bucket: Bucket) -> None:
    text = "#TASKRUN STAGE-OUT reslts/*.txt s3://genomes/out/\nmkdir results; echo precious > results/x.txt\n"
    result = taskrun("tasks.txt", *FLAGS, files={"tasks.txt": text})
    assert (taskrun.folder / "results/x.txt").exists()
    assert "--clean all: nothing was removed: no file matches reslts/*.txt of line 1" in result.err


def test_a_task_that_failed(taskrun: Taskrun, bucket: Bucket) -> None:
    text = "#TASKRUN STAGE-OUT x.txt s3://genomes/out/\necho 1 > x.txt\necho half > checkpoint; exit 1\n"
    result = taskrun("tasks.txt", *FLAGS, files={"tasks.txt": text})
    assert (taskrun.folder / "checkpoint").exists()
    assert (taskrun.folder / "x.txt").exists()
    assert "--clean all: nothing was removed: a task failed" in result.err
    again = taskrun("-r", "run_status.txt", "-p", "again", "--settle", "0")  # what failed is not run again: still not complete
    assert (taskrun.folder / "checkpoint").exists()
    assert "--clean all: nothing was removed: a task failed" in again.err


def test_what_was_there_before_stays(taskrun: Taskrun, bucket: Bucket) -> None:
    """A script that is edited meanwhile, by an editor that renames, a file that a task renames, and directories."""
    text = "#TASKRUN STAGE-OUT x.txt s3://genomes/out/\nmkdir -p new/deep old/deep; echo 1 | tee x.txt made new/deep/y; mv log log.1\n"
    text += WAIT
    taskrun.write({"script.sh": "echo 1", "log": "l", "old/keep": "", "go.not": ""})
    running = taskrun.start("tasks.txt", *FLAGS, files={"tasks.txt": text})
    until((taskrun.folder / "log.1").exists, 30, "the task")
    (taskrun.folder / "script.new").write_text("echo 2")
    (taskrun.folder / "script.new").rename(taskrun.folder / "script.sh")
    (taskrun.folder / "go.not").rename(taskrun.folder / "go")
    result = running.finish(30)
    assert result.code == 0, result.err
    left = {str(path.relative_to(taskrun.folder)) for path in taskrun.folder.rglob("*")}
    assert {name for name in left if not name.startswith("run_")} == {"tasks.txt", "script.sh", "log.1", "old", "old/keep", "go"}
    assert "3 directories removed" in result.path("driver.log").read_text()


def test_a_run_that_goes_on_here(taskrun: Taskrun, bucket: Bucket) -> None:
    other = taskrun.start("other.txt", "-s", "localhost:1", "-p", "other", files={"other.txt": WAIT})
    until((taskrun.folder / "other_run.json").exists, 30, "the other run")
    text = "#TASKRUN STAGE-OUT x.txt s3://genomes/out/\necho 1 | tee x.txt made\n"
    result = taskrun("tasks.txt", *FLAGS, files={"tasks.txt": text})
    assert result.code == 0, result.err
    assert "--clean: nothing was removed: the run other goes on in this directory" in result.err
    assert (taskrun.folder / "made").exists()
    (taskrun.folder / "go").touch()
    assert other.finish(30).code == 0


def test_what_an_earlier_run_without_clean_made_stays(taskrun: Taskrun, bucket: Bucket) -> None:
    text = "#TASKRUN STAGE-OUT x.txt s3://genomes/out/\necho 1 | tee x.txt made\n"
    flags = ("-s", "localhost:1", "-p", "run", "--settle", "0")
    assert taskrun("tasks.txt", *flags, files={"tasks.txt": text}).code == 0
    again = taskrun("-r", "run_status.txt", "-p", "again", "--clean", "all", "--settle", "0")
    assert again.code == 0, again.err
    assert (taskrun.folder / "made").exists()
    assert not (taskrun.folder / "x.txt").exists()


def test_an_open_file_stays(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in/a", b"a")
    text = "#TASKRUN STAGE-IN s3://genomes/in/a in/\n#TASKRUN STAGE-OUT x.txt s3://genomes/out/\necho 1 | tee x.txt made\n"
    text += "setsid sleep 60 < in/a > /dev/null 2>&1 & echo $! > /tmp/pid.$$; mv /tmp/pid.$$ pid\n"
    result = taskrun("tasks.txt", *FLAGS, files={"tasks.txt": text})
    pid = int((taskrun.folder / "pid").read_text()) if (taskrun.folder / "pid").exists() else 0
    try:
        assert result.code == 0, result.err
        assert f"in/a is kept: it is open in PID {pid} (sleep)" in result.err or "in/a is kept: it is open in PID" in result.err
        assert (taskrun.folder / "in/a").exists()
        assert not (taskrun.folder / "made").exists()
    finally:
        for path in Path("/proc").glob("[0-9]*"):
            if os.environ and _is_ours(path, taskrun.folder):
                os.kill(int(path.name), 9)


def _is_ours(process: Path, folder: Path) -> bool:
    try:
        return (process / "fd/0").readlink() == folder / "in/a"
    except OSError:
        return False
