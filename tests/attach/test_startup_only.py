"""`--startup-only`: a run without engines of its own waits for contexts, between them too, and is ended by nothing but its work."""

from __future__ import annotations

import signal
from collections import Counter

from attach.meeting import Meeting
from harness import Taskrun, read_status, until


def test_it_says_how_and_waits(taskrun: Taskrun) -> None:
    meeting = Meeting(taskrun, "#TASKRUN PERENGINE START true\n" + "echo $TASKRUN_ENGINE_RANK >> ran\n" * 3, "-S")
    until(lambda: "taskrun attach run -s localhost:4" in meeting.running.said()[1], 10, "it to say how")
    assert "run_dbUtil.sh" in meeting.running.said()[1]
    assert meeting.picture()["waiting"] == "waiting for an engine"
    guest = meeting.attach("-s", "localhost:2")
    result = meeting.running.finish()
    assert (result.code, guest.finish().code) == (0, 0)
    assert result.sidecar()["contexts"][0]["label"] == "SSH0"
    assert len(read_status(meeting.path("status.txt"))) == 4


def test_a_limit_that_is_reached_ends_nothing(taskrun: Taskrun) -> None:
    meeting = Meeting(taskrun, "echo $TASKRUN_ENGINE_RANK >> ran\n" * 5, "-S")
    first = meeting.attach("-s", "localhost:1", "-C", "2").finish()
    assert first.err.endswith("its limit is reached\n")
    until(lambda: meeting.picture()["waiting"] == "waiting for an engine", 10, "the run to wait again")
    second = meeting.attach("-s", "localhost:1")
    assert [meeting.running.finish().code, second.finish().code] == [0, 0]
    assert Counter((meeting.folder / "ran").read_text().split()) == {"0": 2, "1": 3}


def test_a_context_that_is_killed_is_not_the_end(taskrun: Taskrun) -> None:
    meeting = Meeting(
        taskrun, "[ $TASKRUN_ENGINE_RANK = 0 ] && touch here && sleep 60; echo $TASKRUN_ENGINE_RANK >> ran\n", "-S", "--grace", "1"
    )
    first = meeting.attach("-s", "localhost:1")
    until((taskrun.folder / "here").exists, 15, "the task to run")
    first.send(signal.SIGKILL)
    until(lambda: "who attached it has gone" in meeting.running.said()[1], 10, "the run to see it")
    second = meeting.attach("-s", "localhost:1")
    assert [meeting.running.finish().code, second.finish().code] == [0, 0]
    assert (taskrun.folder / "ran").read_text() == "1\n"


def test_it_waits_no_longer_than_it_is_told(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-p", "run", "-S", "--wait-for-engines", "1", files={"tasks.txt": "true\n"})
    assert result.code == 3
    assert "no engine is left" in result.err


def test_ctrl_c_ends_it(taskrun: Taskrun) -> None:
    meeting = Meeting(taskrun, "true\n", "-S")
    meeting.running.send(signal.SIGINT)
    assert meeting.running.finish().code == 3


def test_a_resume_does_not_inherit_it(taskrun: Taskrun) -> None:
    meeting = Meeting(taskrun, "true\n", "-S")
    meeting.running.send(signal.SIGTERM)
    assert meeting.running.finish().code == 3
    result = taskrun("-r", "run_status.txt", "-s", "localhost:1")
    assert result.code == 0
