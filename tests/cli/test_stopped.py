"""A task that is told to end, keeps what it has done and exits with 0 is not done: it runs again on resume."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from harness import Record, Result, Running, Taskrun, until

#: Goes from where it was stopped to 2 when `go` is there; told to end it needs a moment, by a program of its own in bash's case.
BASH = """
at=$(cat bash.at 2>/dev/null || echo 0)
trap 'sleep 0.2 && echo $((at + 1)) > bash.at; exit 0' TERM
echo "bash from $at" >> notes
until [ -e go ]; do sleep 0.05 & wait; done
"""
PYTHON = """
import os, signal, sys, time

at = int(open("python.at").read()) if os.path.exists("python.at") else 0

def stop(*_):
    time.sleep(0.2)
    open("python.at", "w").write(str(at + 1))
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
open("notes", "a").write(f"python from {at}\\n")
while not os.path.exists("go"):
    time.sleep(0.05)
"""
PROGRAMS = {"task.sh": BASH, "task.py": PYTHON}
TRAPS = f"bash task.sh\n{sys.executable} task.py\n"


def begin(
    taskrun: Taskrun, text: str, *flags: str, slots: int = 2, env: dict[str, str] | None = None, programs: Mapping[str, str] = PROGRAMS
) -> Running:
    """A run whose tasks have made two notes."""
    files = {"tasks.txt": text, **programs}
    running = taskrun.start("tasks.txt", "-s", f"localhost:{slots}", "-p", "run", *flags, files=files, env=env)
    until(lambda: len(notes(taskrun)) >= 2, what="the tasks to start")
    return running


def notes(taskrun: Taskrun) -> list[str]:
    path = taskrun.folder / "notes"
    return sorted(path.read_text().splitlines()) if path.exists() else []


def causes(result: Result) -> list[tuple[int, str, int]]:
    return sorted((each["id"], each["cause"], each["code"]) for each in result.events("attempt"))


def codes(records: list[Record]) -> list[tuple[int, int]]:
    return sorted((each["TaskID"], each["ReturnCode"]) for each in records)


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def family(taskrun: Taskrun) -> tuple[int, int, int]:
    """(agent, slot, task) of a run with one slot that runs something."""
    (found,) = [(pid, children(pid)) for pid, line in taskrun.processes().items() if "slot.pyc" in line and children(pid)]
    (agent,) = [pid for pid, line in taskrun.processes().items() if "taskrun" in line and "agent" in line and "slot.pyc" not in line]
    return agent, found[0], found[1][0]


def goes_on(taskrun: Taskrun, *flags: str) -> Result:
    """The resume carries each on from where it was stopped, and it is recorded as done, once."""
    (taskrun.folder / "go").touch()
    result = taskrun("-r", "run_status.txt", "-p", "two", *flags)
    assert result.code == 0, result.err
    assert notes(taskrun) == ["bash from 0", "bash from 1", "python from 0", "python from 1"]
    assert [each for each in codes(result.records("two")) if each[0] < 2] == [(0, 0), (1, 0)]
    return result


@pytest.mark.parametrize(
    ("signals", "cause", "code"),
    [
        ([signal.SIGTERM], "preempted", 3),
        ([signal.SIGHUP], "preempted", 3),
        ([signal.SIGUSR1], "preempted", 3),
        ([signal.SIGINT, signal.SIGINT], "cancelled", 130),
    ],
    ids=["TERM", "HUP", "USR1", "INT INT"],
)
def test_a_checkpoint_is_no_end(taskrun: Taskrun, signals: list[int], cause: str, code: int) -> None:
    running = begin(taskrun, TRAPS)
    for number in signals:
        running.send(number)
        until(lambda number=number: signal.Signals(number).name in (taskrun.folder / "run_events.jsonl").read_text())  # type: ignore[misc]
    result = running.finish()
    assert result.code == code, result.err
    assert causes(result) == [(0, cause, 0), (1, cause, 0)]
    assert result.records() == []
    assert "0 tasks done, none failed, 2 not run" in result.err
    assert not taskrun.processes()
    goes_on(taskrun)


def test_nor_when_another_task_has_failed(taskrun: Taskrun) -> None:
    running = begin(taskrun, f"{TRAPS}until test -e fail; do sleep 0.05; done; exit $(cat fail)\n", "--fail-fast", slots=3)
    (taskrun.folder / "fail.new").write_text("3")
    (taskrun.folder / "fail.new").rename(taskrun.folder / "fail")
    result = running.finish()
    assert result.code == 1
    assert causes(result) == [(0, "cancelled", 0), (1, "cancelled", 0), (2, "exit", 3)]
    assert codes(result.records()) == [(2, 3)]
    (taskrun.folder / "fail").write_text("0")
    goes_on(taskrun, "-R")


def test_it_is_one_with_stopped_ok(taskrun: Taskrun) -> None:
    """A resume takes the option over."""
    running = begin(taskrun, f"{TRAPS}until test -e went; do sleep 0.05; done\n", "--stopped-ok", slots=3)
    running.send(signal.SIGTERM)
    result = running.finish()
    assert result.code == 3
    assert codes(result.records()) == [(0, 0), (1, 0)]
    assert [each for each in causes(result) if each[0] < 2] == [(0, "ok", 0), (1, "ok", 0)]
    (taskrun.folder / "went").touch()
    again = taskrun("-r", "run_status.txt", "-p", "two")
    assert again.code == 0
    assert again.sidecar("two")["options"]["stopped_ok"] == {"value": True, "origin": "inherited"}
    assert notes(taskrun) == ["bash from 0", "python from 0"]


def test_what_has_ended_before_it_could_be_told_is_done(taskrun: Taskrun) -> None:
    """Without a handler, 0 means that the work was done."""
    running = begin(taskrun, "echo 1 >> notes; echo 1 >> notes; until test -e go; do sleep 0.05; done\n", slots=1)
    _, slot, task = family(taskrun)
    os.kill(slot, signal.SIGSTOP)
    (taskrun.folder / "go").touch()
    until(lambda: state_of(task) == "Z", what="the task to end")
    running.send(signal.SIGTERM)
    until(lambda: '"told"' in (taskrun.folder / "run_events.jsonl").read_text())
    os.kill(slot, signal.SIGCONT)
    result = running.finish()
    assert (result.code, codes(result.records()), causes(result)) == (0, [(0, 0)], [(0, "ok", 0)])


OUTLIVES = """
import os, signal

signal.signal(signal.SIGTERM, signal.SIG_DFL)
open("notes", "a").write("2\\n")
os.execvp("sleep", ["sleep", "60"])
"""


@pytest.mark.parametrize(
    ("task", "cause"),
    [
        ("trap '' TERM; echo 1 >> notes; echo 2 >> notes; until test -e go; do sleep 0.05; done", "ok"),
        (f"trap '' TERM; echo 1 >> notes; {sys.executable} outlives.py; true", "preempted"),
    ],
    ids=["all of it", "not all of it"],
)
def test_a_task_that_ignores_term(taskrun: Taskrun, task: str, cause: str) -> None:
    """It goes on, and 0 says that it has finished, unless it is a shell that goes on without what it ran."""
    running = begin(taskrun, f"{task}\n", "--grace", "20", slots=1, programs={"outlives.py": OUTLIVES})
    running.send(signal.SIGTERM)
    until(lambda: '"told"' in (taskrun.folder / "run_events.jsonl").read_text())
    (taskrun.folder / "go").touch()
    result = running.finish()
    assert causes(result) == [(0, cause, 0)]
    assert (result.code, len(result.records())) == ((0, 1) if cause == "ok" else (3, 0))


def test_a_start_command_that_was_stopped_is_not_done(taskrun: Taskrun) -> None:
    text = "#PERENGINE START echo 1 >> notes; trap 'exit 0' TERM; echo 2 >> notes; sleep 60 & wait\n#PERENGINE STOP echo 3 >> notes\ntrue\n"
    running = begin(taskrun, text, slots=1)
    running.send(signal.SIGTERM)
    result = running.finish()
    assert result.code == 3
    assert [(each["Flags"], each["Command"]) for each in result.records()] == [("   P", "echo 3 >> notes")]


def test_of_a_task_that_was_stopped_nothing_is_delivered(taskrun: Taskrun) -> None:
    text = "#TASK STAGE-OUT part out/\n" + "echo 1 >> notes; echo half > part; trap 'exit 0' TERM; echo 2 >> notes; sleep 60 & wait\n"
    running = begin(taskrun, text, slots=1)
    running.send(signal.SIGTERM)
    result = running.finish()
    assert causes(result) == [(0, "preempted", 0)]
    assert not (taskrun.folder / "out" / "part").exists()
    assert not result.events("transfer")


# told by the system


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("first", ["tasks", "slots"])
def test_all_processes_are_told(taskrun: Taskrun, number: signal.Signals, first: str) -> None:
    """By a batch system, one after the other. What a task does about it is not interrupted by a signal of ours."""
    name = number.name.removeprefix("SIG")
    own = {file: text.replace("' TERM", f"' {name}").replace(".SIGTERM", f".SIG{name}") for file, text in PROGRAMS.items()}
    running = begin(taskrun, TRAPS, env={"PBS_JOBID": "1"}, programs=own)
    lines = taskrun.processes()
    ours = [pid for pid, line in lines.items() if pid == running.pid or ("agent" in line and "slot.pyc" not in line)]
    others = sorted(set(lines) - set(ours))
    for pid in [*(others if first == "slots" else others[::-1]), *ours[::-1]]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    result = running.finish()
    assert result.code == 3, result.err
    assert causes(result) == [(0, "preempted", 0), (1, "preempted", 0)]
    assert result.records() == []
    until(lambda: not taskrun.processes(), 5, "the run to be gone")
    goes_on(taskrun)


@pytest.mark.parametrize("late", ["slot", "agent"])
def test_a_task_is_told_long_before_others(taskrun: Taskrun, late: str) -> None:
    """It has ended when its slot is told, or its result is on its way: nobody can see any more that it has a handler."""
    ends = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(0)); print('x', file=open('notes', 'a')); time.sleep(60)"
    running = begin(taskrun, f'echo 0 >> notes; exec {sys.executable} -c "{ends}"\n', slots=1, env={"PBS_JOBID": "1"})
    agent, slot, task = family(taskrun)
    os.kill(slot if late == "slot" else agent, signal.SIGSTOP)
    os.kill(task, signal.SIGTERM)
    until(lambda: state_of(task) == ("Z" if late == "slot" else ""), what="the task to end")
    time.sleep(0.1)
    for pid in (slot, agent, running.pid):
        os.kill(pid, signal.SIGTERM)
    os.kill(slot if late == "slot" else agent, signal.SIGCONT)
    result = running.finish()
    assert (result.code, result.records(), causes(result)) == (3, [], [(0, "preempted", 0)])


def test_in_a_job_that_nobody_stops_all_are_recorded(taskrun: Taskrun) -> None:
    """Results wait for a moment, but for those of brief tasks one after the other."""
    text = "true\nexit 3\n" * 99 + "sleep 0.6\nsleep 0.6; exit 3\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text}, env={"PBS_JOBID": "1"})
    assert result.code == 0
    assert sorted(each["ReturnCode"] for each in result.records()) == [0] * 100 + [3] * 100
