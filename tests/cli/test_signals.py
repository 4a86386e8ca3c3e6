"""Signals to the driver and to the whole run: what runs is given back or finished, and the files say so."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time

import pytest
from harness import Result, Running, Taskrun, until

#: Three tasks; the first two run for `seconds`, unless `now` is there, and note when they are told to end, with 0 or 1. What sleeps says
#: itself that it has started: bash's fork, before it has become another program, takes a TERM as bash would, and goes on.
WORK = (
    "trap 'echo told $TASKRUN_TASKID >> told; exit $TASKRUN_TASKID' TERM; "
    "test -e now || { sh -c 'touch started_$TASKRUN_TASKID; exec sleep SECONDS' & wait $!; }; echo $TASKRUN_TASKID >> ended\n"
)


def begin(taskrun: Taskrun, seconds: float, *flags: str, text: str | None = None, command: tuple[str, ...] | None = None) -> Running:
    """A run of three tasks on two slots, when the first two run."""
    line = text if text is not None else WORK.replace("SECONDS", str(seconds))
    runner = Taskrun(taskrun.folder, taskrun.env, taskrun.started, command or taskrun.command)
    running = runner.start("tasks.txt", "-s", "localhost:2", "-p", "run", *flags, files={"tasks.txt": line * 3})
    until(lambda: (taskrun.folder / "started_0").exists() and (taskrun.folder / "started_1").exists(), what="the tasks to start")
    return running


def causes(result: Result) -> list[tuple[int, str]]:
    return sorted((each["id"], each["cause"]) for each in result.events("attempt"))


def resumes(taskrun: Taskrun, *ran: str) -> None:
    """The resume runs exactly these."""
    (taskrun.folder / "ended").write_text("")
    (taskrun.folder / "now").touch()
    result = taskrun("-r", "run_status.txt", "-p", "two")
    assert result.code == 0, result.err
    assert sorted((taskrun.folder / "ended").read_text().split()) == sorted(ran)
    assert sorted((each["TaskID"], each["ReturnCode"]) for each in result.records("two")) == [(0, 0), (1, 0), (2, 0)]


def test_the_first_interrupt_lets_running_tasks_end(taskrun: Taskrun) -> None:
    running = begin(taskrun, 1)
    running.send(signal.SIGINT)
    result = running.finish(10)
    assert result.code == 3
    assert causes(result) == [(0, "ok"), (1, "ok")]
    assert sorted(each["TaskID"] for each in result.records()) == [0, 1]
    assert not (taskrun.folder / "told").exists()
    assert not (taskrun.folder / "started_2").exists()
    assert re.search(r"^taskrun: 2 tasks done, none failed, 1 not run in ", result.err, re.MULTILINE)
    assert "taskrun -r run_status.txt" in result.err
    assert [(each["signal"], each["how"]) for each in result.events("told")] == [("SIGINT", "drain")]
    assert result.sidecar()["exit_code"] == 3
    resumes(taskrun, "2")


def test_the_second_interrupt_ends_them(taskrun: Taskrun) -> None:
    running = begin(taskrun, 30)
    time.sleep(0.2)  # the agent has told what runs
    running.send(signal.SIGINT)
    time.sleep(0.3)
    running.send(signal.SIGINT)
    result = running.finish(5)
    assert result.code == 130
    first = r"^taskrun: SIGINT: nothing new starts; waiting for 2 running tasks, a second Ctrl-C ends them; the longest has run for \d s"
    assert re.search(first + r" on \S+: task [01], line [12]: trap 'echo told \$TASKRUN_TASKID >> t.*…$", result.err, re.MULTILINE)
    assert "taskrun: SIGINT: what runs is ended; waiting at most 5 s for 2 running tasks\n" in result.err
    assert causes(result) == [(0, "cancelled"), (1, "cancelled")]
    assert result.records() == []
    assert sorted((taskrun.folder / "told").read_text().split()[1::2]) == ["0", "1"]
    resumes(taskrun, "0", "1", "2")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_told_to_stop(taskrun: Taskrun, number: int) -> None:
    running = begin(taskrun, 30)
    began = time.monotonic()
    running.send(number)
    result = running.finish(5)
    assert time.monotonic() - began < 3, "as soon as the tasks are gone"
    assert result.code == 3
    assert causes(result) == [(0, "preempted"), (1, "preempted")]
    assert result.records() == []
    assert sorted((taskrun.folder / "told").read_text().split()[1::2]) == ["0", "1"]
    assert re.search(r"3 not run in .*\n", result.err)
    assert not taskrun.processes()
    resumes(taskrun, "0", "1", "2")


def test_tasks_that_do_not_listen_are_killed_after_the_grace(taskrun: Taskrun) -> None:
    running = begin(taskrun, 0, "--grace", "1", text="trap '' TERM; touch started_$TASKRUN_TASKID; test -e now || sleep 30\n")
    began = time.monotonic()
    running.send(signal.SIGTERM)
    result = running.finish(10)
    assert 0.9 < time.monotonic() - began < 4
    assert (result.code, causes(result)) == (3, [(0, "preempted"), (1, "preempted")])
    assert not taskrun.processes()


def test_children_in_sessions_of_their_own_are_ended_too(taskrun: Taskrun) -> None:
    text = "setsid sleep 31 & (env -i sleep 32 &) ; touch started_$TASKRUN_TASKID; sleep 30\n"
    running = begin(taskrun, 0, "--grace", "1", text=text)
    until(lambda: sum("sleep 31" in line for line in taskrun.processes().values()) == 2)
    running.send(signal.SIGTERM)
    assert running.finish(10).code == 3
    assert not taskrun.processes()


def test_a_second_term_kills_now(taskrun: Taskrun) -> None:
    running = begin(taskrun, 0, "--grace", "20", text="trap '' TERM; touch started_$TASKRUN_TASKID; sleep 30\n")
    running.send(signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    running.send(signal.SIGTERM)
    result = running.finish(10)
    assert time.monotonic() - began < 3
    assert result.code == 143
    assert causes(result) == [(0, "preempted"), (1, "preempted")]
    assert not taskrun.processes()


def test_an_interrupt_then_a_term(taskrun: Taskrun) -> None:
    running = begin(taskrun, 30)
    running.send(signal.SIGINT)
    time.sleep(0.2)
    running.send(signal.SIGTERM)
    result = running.finish(5)
    assert (result.code, causes(result)) == (3, [(0, "preempted"), (1, "preempted")])


def test_nohup(taskrun: Taskrun) -> None:
    running = begin(taskrun, 1, command=("nohup", *taskrun.command))
    running.send(signal.SIGHUP)
    result = running.finish(10)
    assert (result.code, causes(result)) == (0, [(0, "ok"), (1, "ok"), (2, "ok")])
    assert not result.events("told")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_background_shell_job_ignores_what_its_shell_made_it_ignore(taskrun: Taskrun, number: int) -> None:
    """`taskrun … &` in a script has SIGINT ignored by the shell; TERM is always heard."""
    running = begin(taskrun, 1.5, command=("/bin/sh", "-c", 'trap "" INT; exec "$@"', "sh", *taskrun.command))
    running.send(number)
    result = running.finish(10)
    assert result.code == (0 if number == signal.SIGINT else 3)


@pytest.mark.parametrize("starter", ["parallel", "builtin"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_every_process_of_the_run(taskrun: Taskrun, starter: str, number: int) -> None:
    """As a batch system does: what it ended is given back, never recorded as failed."""
    text = "touch started_$TASKRUN_TASKID; test -e now || sleep 30; echo $TASKRUN_TASKID >> ended\n"
    running = begin(taskrun, 0, "--starter", starter, text=text)
    time.sleep(0.2)
    tree = taskrun.processes()
    assert any("slot.pyc" in line for line in tree.values())
    for pid in sorted(tree, key=lambda pid: pid == running.pid):  # the driver last: tasks end before it knows why
        with contextlib.suppress(ProcessLookupError):  # it ended by itself meanwhile
            os.kill(pid, number)
    result = running.finish(10)
    assert result.code == 3, result.err
    assert result.records() == []
    assert {cause for _, cause in causes(result)} == {"preempted"}
    until(lambda: not taskrun.processes(), 5, "the run to be gone")
    resumes(taskrun, "0", "1", "2")


def test_stopping_early_and_often_never_breaks(taskrun: Taskrun) -> None:
    """A signal at any moment of the start: refused to nothing, resumable or done, never a traceback."""
    taskrun.write({"tasks.txt": "true\n" * 20})
    for number, delay in enumerate((0.02, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.35)):
        running = taskrun.start("tasks.txt", "-s", "localhost:2", "-p", f"early{number}")
        time.sleep(delay)
        running.send(signal.SIGTERM)
        result = running.finish(10)
        assert result.code in (0, 3, -signal.SIGTERM), (delay, result)
        assert "Traceback" not in result.err
        until(lambda: not taskrun.processes(), 5, "the run to be gone")


def test_an_interrupt_when_all_is_said(taskrun: Taskrun) -> None:
    """The second one comes while the last things are put in order: nothing is left lying about."""
    running = begin(taskrun, 0.3)
    running.send(signal.SIGINT)
    while running.process.poll() is None and not re.search(r'"ended": *[0-9]', (taskrun.folder / "run_run.json").read_text()):
        pass
    while running.process.poll() is None:
        running.send(signal.SIGINT)
    running.finish(5)
    assert not (taskrun.folder / "run.lock").exists()


def test_an_interrupt_while_the_stream_is_silent(taskrun: Taskrun) -> None:
    running = taskrun.start("-", "-s", "localhost:1", "-p", "run", stdin=subprocess.PIPE)
    assert running.process.stdin is not None
    running.process.stdin.write(b"touch started\n")
    running.process.stdin.flush()
    until((taskrun.folder / "started").exists)
    running.send(signal.SIGINT)
    result = running.finish(5)
    assert result.code == 3
    assert result.sidecar()["stream_complete"] is False
    assert [each["ReturnCode"] for each in result.records()] == [0]
