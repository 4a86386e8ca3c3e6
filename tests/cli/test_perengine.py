"""PERENGINE: START commands before an engine's first task, STOP commands after its last."""

from __future__ import annotations

import os
import signal

import pytest
from harness import Taskrun, until

TEXT = """\
#TASKRUN PREFIX : pre;
#TASKRUN PERENGINE START sleep 0.2; echo start0 >> notes
#TASKRUN PERENGINE START echo start1 >> notes
#TASKRUN PERENGINE STOP sleep 0.2; echo stop0 >> notes
#TASKRUN PERENGINE STOP echo stop1 >> notes
#TASKRUN PREFIX
#TASKRUN REPEAT 6 echo task >> notes
"""


@pytest.mark.parametrize("starter", ["parallel", "builtin"])
def test_order_and_records(taskrun: Taskrun, starter: str) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:3", "-p", "run", "--starter", starter, files={"tasks.txt": TEXT})
    assert result.code == 0
    assert (taskrun.folder / "notes").read_text().split() == ["start0", "start1", *["task"] * 6, "stop0", "stop1"]
    records = result.records()
    assert [(each["Flags"], each["TaskID"], each["LineNum"]) for each in records if each["Flags"][3] == "P"] == [
        ("   P", 0, 2), ("   P", 1, 3), ("   P", 0, 4), ("   P", 1, 5),
    ]  # fmt: skip
    assert records[0]["Command"] == ": pre;sleep 0.2; echo start0 >> notes"
    assert [each["TaskID"] for each in records if each["Flags"] == "    "] == [0, 1, 2, 3, 4, 5] or len(records) == 10


def test_a_failing_start_stops_nothing_but_counts(taskrun: Taskrun) -> None:
    text = "#TASKRUN PERENGINE START echo broken; exit 3\ntouch ran\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text})
    assert result.code == 0
    assert (taskrun.folder / "ran").exists()
    assert [each["Flags"] for each in result.records()] == ["RO P", "    "]
    assert "line 1, PERENGINE START 0, exit 3" in result.err
    assert taskrun("tasks.txt", "-s", "localhost:2", "-e", "-p", "two").code == 1


def test_a_failing_start_fails_the_next_check(taskrun: Taskrun) -> None:
    text = "#TASKRUN PERENGINE START exit 3\ntrue\n#TASKRUN BARRIER CHECK\ntouch after\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text})
    assert result.code == 1
    assert not (taskrun.folder / "after").exists()


def test_a_failing_start_under_fail_fast(taskrun: Taskrun) -> None:
    text = "#TASKRUN PERENGINE START exit 3\ntouch after\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-f", "-p", "run", files={"tasks.txt": text})
    assert result.code == 1
    assert not (taskrun.folder / "after").exists()


def test_a_check_that_succeeds_changes_nothing(taskrun: Taskrun) -> None:
    text = "#TASKRUN PERENGINE START CHECK echo seen > seen\ncat seen\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text})
    assert result.code == 0
    assert [(each["Flags"], each["Command"]) for each in result.records()] == [("   P", "echo seen > seen"), (" O  ", "cat seen")]


def test_no_engine_is_left_when_the_check_fails_on_the_only_one(taskrun: Taskrun) -> None:
    check = "#PERENGINE START CHECK echo no GPU >&2; test -e gpu\n"
    text = f"#PERENGINE START touch one\n{check}#PERENGINE START touch two\n#PERENGINE STOP rm one\ntouch ran\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-e", "-p", "run", files={"tasks.txt": text})
    assert result.code == 3
    assert (
        f'{os.uname().nodename}: PERENGINE START CHECK in line 2 failed there (exit 1), and it is not used; last error: "no GPU"'
        in result.err
    )
    assert "taskrun: stopped: START CHECK has failed on every host" in result.err
    assert "taskrun: 0 tasks done, none failed, 1 not run" in result.err
    assert [path.name for path in taskrun.folder.iterdir() if path.name in ("one", "two", "ran")] == []
    assert [(each["Flags"], each["ReturnCode"]) for each in result.records()] == [("   P", 0), ("R EP", 1), ("   P", 0)]
    (taskrun.folder / "gpu").touch()
    again = taskrun("-r", "run_status.txt", "-p", "again")
    assert again.code == 0, again.err
    assert (taskrun.folder / "ran").exists()


@pytest.mark.parametrize("text", ["#TASKRUN PERENGINE START touch started\n", "#TASKRUN PERENGINE STOP touch stopped\n"])
def test_without_a_task(taskrun: Taskrun, text: str) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text})
    assert result.code == 0
    assert "Traceback" not in result.err


def test_too_late(taskrun: Taskrun) -> None:
    text = "touch ran\n#TASKRUN PERENGINE START true\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text})
    assert result.code == 2
    assert result.err.startswith("tasks.txt:2:")
    assert not (taskrun.folder / "ran").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_commands_run_when_the_run_is_told_to_stop(taskrun: Taskrun, number: int) -> None:
    text = "#TASKRUN PERENGINE STOP touch stopped\ntouch running; sleep 1.5\ntrue\n"
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    until((taskrun.folder / "running").exists)
    running.send(number)
    assert running.finish().code == 3
    assert (taskrun.folder / "stopped").exists()


def test_a_start_that_hangs_can_be_interrupted(taskrun: Taskrun) -> None:
    text = "#TASKRUN PERENGINE START touch running; sleep 30\ntouch ran\n"
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    until((taskrun.folder / "running").exists)
    running.send(signal.SIGTERM)
    result = running.finish(10)
    assert result.code == 3
    assert not (taskrun.folder / "ran").exists()
    assert result.records() == []
