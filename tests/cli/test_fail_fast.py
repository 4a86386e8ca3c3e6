"""--fail-fast: at the first failure nothing new starts, what runs is ended, exit 1."""

from __future__ import annotations

import re
import signal
import time

import pytest
from harness import Taskrun

FAILS = "until test -e begun; do sleep 0.02; done; exit 3"
LISTENS = "trap 'touch told; exit 99' TERM; sh -c 'touch begun; exec sleep 30' & wait"
TEXT = f"{FAILS}\n{LISTENS}\n#TASKRUN REPEAT 50 touch late_$TASKRUN_TASKID\n"


@pytest.mark.parametrize("flag", ["-f", "--fail-fast"])
def test_the_first_failure_ends_the_run(taskrun: Taskrun, flag: str) -> None:
    began = time.monotonic()
    result = taskrun("tasks.txt", "-s", "localhost:2", flag, "-p", "run", files={"tasks.txt": TEXT})
    assert time.monotonic() - began < 5
    assert result.code == 1
    assert (taskrun.folder / "told").exists()
    assert not list(taskrun.folder.glob("late_*"))
    assert [(each["TaskID"], each["Flags"], each["ReturnCode"]) for each in result.records()] == [(0, "R   ", 3)]
    assert sorted((each["id"], each["cause"]) for each in result.events("attempt")) == [(0, "exit"), (1, "cancelled")]
    assert re.search(r"1 failed, 51 not run in ", result.err)
    assert f"line 1, task 0, exit 3: {FAILS}" in result.err
    assert not taskrun.processes()


def test_tasks_that_do_not_listen_are_killed(taskrun: Taskrun) -> None:
    text = "sleep 0.3; exit 3\ntrap '' TERM; sleep 30\n"
    began = time.monotonic()
    result = taskrun("tasks.txt", "-s", "localhost:2", "-f", "--grace", "1", "-p", "run", files={"tasks.txt": text})
    assert 1.2 < time.monotonic() - began < 6
    assert result.code == 1
    assert len(result.records()) == 1


def test_a_crash_is_a_failure(taskrun: Taskrun) -> None:
    text = "kill -11 $$\n#TASKRUN REPEAT 200 true\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-f", "-p", "run", files={"tasks.txt": text})
    assert result.code == 1
    assert [each["ReturnCode"] for each in result.records()] == [-signal.SIGSEGV]


def test_without_a_failure(taskrun: Taskrun) -> None:
    assert taskrun("tasks.txt", "-s", "localhost:2", "-f", "-p", "run", files={"tasks.txt": "true\n" * 9}).code == 0


def test_it_can_be_carried_on(taskrun: Taskrun) -> None:
    text = "test -e now || exit 3\ntouch second\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-f", "-p", "run", files={"tasks.txt": text})
    assert (result.code, (taskrun.folder / "second").exists()) == (1, False)
    (taskrun.folder / "now").touch()
    again = taskrun("-r", "run_status.txt", "-R", "-p", "two")
    assert (again.code, (taskrun.folder / "second").exists()) == (0, True)
    assert sorted(each["TaskID"] for each in again.records()) == [0, 1]
