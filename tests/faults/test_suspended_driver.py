"""A driver that is stopped for longer than --lost-after: what ended meanwhile counts, what was ended for want of it runs again."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from attach.meeting import Meeting
from faults.chain import children
from harness import Result, Running, Taskrun, until
from ssh.place import configure, hosts
from ssh_hosts import SshHosts

__all__ = ["hosts"]  # a fixture that is written elsewhere

#: Slots end their tasks after 1 s without the driver; it gives a silent engine up after 4 s.
FLAGS = ("--lost-after", "1.5", "--grace", "0", "-p", "run")
SILENCE = 4.0
#: Three tasks: one ends while the driver is stopped, one goes on for ever at first, one has not started.
TASKS = """\
echo "$TASKRUN_ATTEMPT" >> runs; touch there_0; until test -e stopped; do sleep 0.05; done
echo "$TASKRUN_ATTEMPT" >> runs; touch there_1; test "${TASKRUN_ATTEMPT##*.}" != 1 || sleep 300
echo "$TASKRUN_ATTEMPT" >> runs
"""


def stop_for_long(running: Running, there: Path) -> float:
    """Stops the driver until it would have taken every engine for silent; when it was stopped."""
    until(lambda: (there / "there_0").exists() and (there / "there_1").exists(), 20, "the tasks to start")
    time.sleep(0.3)  # the driver has heard that they run
    os.kill(running.pid, signal.SIGSTOP)
    stopped = time.time()
    try:
        (there / "stopped").touch()
        time.sleep(SILENCE + 0.3)
    finally:
        os.kill(running.pid, signal.SIGCONT)
    return stopped


def check(result: Result, there: Path, stopped: float) -> None:
    assert result.code == 0, result.err
    assert "taskrun: this process did not run for" in result.err
    assert "nothing was heard" not in result.err
    assert [(each["TaskID"], each["ReturnCode"]) for each in sorted(result.records(), key=lambda each: each["TaskID"])] == [
        (0, 0),
        (1, 0),
        (2, 0),
    ]
    (first,) = (each for each in result.records() if each["TaskID"] == 0)
    assert stopped < first["Finish"] < stopped + 2, "it ended while the driver was stopped"
    attempts = sorted(tuple(map(int, line.split(".")[-2:])) for line in (there / "runs").read_text().split())
    assert attempts[:1] == [(0, 1)], "what has ended does not run again"
    assert [n for task, n in attempts if task == 1] == [1, 2]
    assert sorted((each["id"], each["cause"]) for each in result.events("attempt") if each["id"] < 2) == [
        (0, "ok"),
        (1, "engine-lost"),
        (1, "ok"),
    ]


def test_here(taskrun: Taskrun) -> None:
    running = taskrun.start("tasks.txt", "-s", "localhost:2", *FLAGS, files={"tasks.txt": TASKS})
    stopped = stop_for_long(running, taskrun.folder)
    check(running.finish(), taskrun.folder, stopped)
    until(lambda: not taskrun.processes(), 5, "the run to be gone")


def test_on_a_host(taskrun: Taskrun, hosts: SshHosts) -> None:
    configure(taskrun, hosts, "Host *\n    ConnectTimeout 2\n")
    there = hosts.path(1, "/srv/run")
    there.mkdir(parents=True, exist_ok=True)
    running = taskrun.start("tasks.txt", "-s", "host1:2", *FLAGS, "--workdir", "/srv/run", files={"tasks.txt": TASKS})
    stopped = stop_for_long(running, there)
    check(running.finish(), there, stopped)
    until(lambda: not hosts.processes(1), 10, "host1 to be empty")


def test_engines_that_are_attached(taskrun: Taskrun) -> None:
    """Who attached them gives the run up meanwhile, after all that its engines had said."""
    meeting = Meeting(taskrun, TASKS, "-S", *FLAGS[:4])
    meeting.attach("-s", "localhost:2")
    stopped = stop_for_long(meeting.running, taskrun.folder)
    meeting.attach("-s", "localhost:2")
    check(meeting.running.finish(), taskrun.folder, stopped)


@pytest.mark.long
def test_who_attached_is_stopped(taskrun: Taskrun) -> None:
    """For less than the run waits for it: it is still there afterwards."""
    lines = 'touch there_$TASKRUN_TASKID; test "${TASKRUN_ATTEMPT##*.}" != 1 || sleep 300\n' * 2
    meeting = Meeting(taskrun, lines, "-S", "--lost-after", "12", "--grace", "1")
    client = meeting.attach("-s", "localhost:2")
    until(lambda: (taskrun.folder / "there_0").exists() and (taskrun.folder / "there_1").exists(), 20, "the tasks to start")
    agents = children(client.pid)
    assert agents
    os.kill(client.pid, signal.SIGSTOP)
    try:
        until(lambda: not any("slot.pyc" in line for line in taskrun.processes().values()), 20, "the slots to give up")
    finally:
        os.kill(client.pid, signal.SIGCONT)
    result = meeting.running.finish()
    assert result.code == 0, result.err
    assert [each["ReturnCode"] for each in result.records()] == [0, 0]
    assert client.finish().code == 0
