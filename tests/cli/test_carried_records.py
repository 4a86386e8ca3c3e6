"""A resume that is killed or stopped early: the next one, from its file alone, runs nothing that any of them has on record."""

from __future__ import annotations

import signal
import subprocess

from harness import Taskrun, until

TASKS = "#TASKRUN REPEAT 20 echo $TASKRUN_TASKID >> ran\n#TASKRUN BARRIER\nsleep 30\n#TASKRUN BARRIER\n#TASKRUN REPEAT 5 echo late >> ran\n"


def skipped(taskrun: Taskrun, status: str) -> int:
    return sum(line.startswith("skip\t") for line in taskrun("-r", status, "--dry-run").out.splitlines())


def test_a_resume_begins_with_every_record_it_takes_over(taskrun: Taskrun) -> None:
    first = taskrun.start("tasks.txt", "-s", "localhost:2", "-p", "one", files={"tasks.txt": TASKS})
    one, two = taskrun.folder / "one_status.txt", taskrun.folder / "two_status.txt"
    until(lambda: one.exists() and one.read_bytes().count(b"\n") >= 21, 20, "the first barrier")
    first.send(signal.SIGTERM)
    assert first.finish().code == 3
    second = taskrun.start("-r", "one_status.txt", "-p", "two")
    until(two.exists, 10, "the second status file")
    carried = two.read_bytes().count(b"\n")
    second.send(signal.SIGKILL)
    second.finish()
    assert carried >= 20, "all are there as soon as the file is"
    assert skipped(taskrun, "two_status.txt") == 20
    assert not list(taskrun.folder.glob("*.part"))


def test_records_behind_the_place_where_a_resume_stopped_are_not_lost(taskrun: Taskrun) -> None:
    tasks = "test -e good\n#TASKRUN BARRIER\n#TASKRUN REPEAT 5 echo $TASKRUN_TASKID >> ran\n"
    assert taskrun("tasks.txt", "-s", "localhost:2", "-p", "one", files={"tasks.txt": tasks}).code == 0
    assert taskrun("-r", "one_status.txt", "-R", "-f", "-p", "two").code == 1  # it stops before the barrier
    assert skipped(taskrun, "two_status.txt") == 6


def test_a_stream_that_is_stopped_early_follows_what_it_was_resumed_from(taskrun: Taskrun) -> None:
    text = b"".join(b"echo %d >> ran\n" % n for n in range(10))
    assert taskrun("-", "-s", "localhost:2", "-p", "one", stdin=text).code == 0
    second = taskrun.start("-", "-s", "localhost:2", "-r", "one_status.txt", "-p", "two", stdin=subprocess.PIPE)
    until((taskrun.folder / "two_status.txt").exists, 10, "the second status file")
    second.send(signal.SIGTERM)
    assert second.finish().code == 3
    third = taskrun("-", "-s", "localhost:2", "-r", "two_status.txt", "-p", "three", stdin=text)
    assert third.code == 0, third.err
    assert sorted((taskrun.folder / "ran").read_text().split(), key=int) == [str(n) for n in range(10)]
