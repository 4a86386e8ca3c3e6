"""Outputs that are still written when their task, or the run, has ended: waited for, else not delivered and reported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from data.conftest import Bucket
from harness import Taskrun, until

#: Leaves a process behind that holds out.txt open for writing until `go` is there.
LEAVE = "exec 3> out.txt; echo half >&3; (until [ -e go ]; do sleep 0.05; done; echo whole >&3) > /dev/null 2>&1 & exec 3>&-\n"
RUN, TASK = ("#TASKRUN STAGE-OUT out.txt s3://genomes/\n", "#TASKRUN STAGE-OUT TASK out.txt s3://genomes/\n")


@pytest.mark.parametrize("line", [RUN, TASK], ids=["run", "task"])
def test_they_are_waited_for(taskrun: Taskrun, bucket: Bucket, line: str) -> None:
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", "--settle", "0.3", files={"tasks.txt": line + LEAVE})
    if line == RUN:
        until(lambda: "still written by PID" in running.said()[1], 30, "the wait")
    else:
        until((taskrun.folder / "out.txt").exists, 30, "the output")
    assert bucket.keys() == set()
    (taskrun.folder / "go").touch()
    result = running.finish(30)
    assert result.code == 0, result.err
    assert bucket.get("out.txt") == b"half\nwhole\n"


@pytest.mark.parametrize("line", [RUN, TASK], ids=["run", "task"])
def test_they_are_not_delivered_in_the_end(taskrun: Taskrun, bucket: Bucket, line: str) -> None:
    flags = ("-s", "localhost:1", "-p", "run", "--settle", "0", "--writers-wait", "0.5", "--clean", "output")
    result = taskrun("tasks.txt", *flags, files={"tasks.txt": line + LEAVE})
    assert bucket.keys() == set()
    if line == RUN:
        assert result.code == 3, result.err
        assert "out.txt was not delivered: still written by PID " in result.err
    else:
        assert result.records()[0]["ReturnCode"] == 74
        assert "out.txt: still written by PID " in result.path("status.txt").read_text()
    assert (taskrun.folder / "out.txt").exists()
    (taskrun.folder / "go").touch()
    until(lambda: (taskrun.folder / "out.txt").read_text() == "half\nwhole\n", 30, "the rest")
    again = taskrun("-r", "run_status.txt", "-p", "again", "--settle", "0.3", *(["-R"] if line == TASK else []))
    assert again.code == 0, again.err
    assert bucket.keys() == {"out.txt"}


def test_a_signal_ends_the_wait(taskrun: Taskrun, bucket: Bucket) -> None:
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", "--settle", "0", files={"tasks.txt": RUN + LEAVE})
    until(lambda: "still written by PID" in running.said()[1], 30, "the wait")
    os.kill(running.pid, signal.SIGINT)
    result = running.finish(30)
    assert result.code == 3, result.err
    assert "out.txt was not delivered: still written by PID " in result.err
    assert bucket.keys() == set()
    (taskrun.folder / "go").touch()


def test_the_output_of_the_run_itself_is_not_waited_for(taskrun: Taskrun, bucket: Bucket) -> None:
    """The file is open as long as the run goes on, as the output file of a SLURM job is."""
    script = 'exec "$0" -m taskrun tasks.txt -s localhost:1 -p run --settle 0 > mine.log 2>&1'
    taskrun.write({"tasks.txt": "#TASKRUN STAGE-OUT mine* s3://genomes/\necho 1\n"})
    done = subprocess.run(["sh", "-c", script, sys.executable], cwd=taskrun.folder, env=taskrun.env, check=False, timeout=50)
    assert done.returncode == 0, (taskrun.folder / "mine.log").read_text()
    assert bucket.keys() == {"mine.log"}


@pytest.mark.parametrize("line", [RUN, TASK], ids=["run", "task"])
def test_a_short_wait_for_writers_does_not_cut_the_settling_short(taskrun: Taskrun, bucket: Bucket, line: str) -> None:
    flags = ("-s", "localhost:1", "-p", "run", "--settle", "1", "--writers-wait", "0")
    result = taskrun("tasks.txt", *flags, files={"tasks.txt": line + "echo 1 > out.txt\n"})
    assert result.code == 0, result.err
    assert bucket.get("out.txt") == b"1\n"


def test_a_file_that_changes_has_not_settled(taskrun: Taskrun, bucket: Bucket) -> None:
    """Each write opens the file anew: no process has it open when it is looked at."""
    text = "(for n in 1 2 3 4 5 6 7 8 9; do echo $n >> out.txt; sleep 0.2; done) > /dev/null 2>&1 & until [ -e out.txt ]; do :; done\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--settle", "1", files={"tasks.txt": TASK + text})
    assert result.code == 0, result.err
    assert bucket.get("out.txt") == b"1\n2\n3\n4\n5\n6\n7\n8\n9\n"
