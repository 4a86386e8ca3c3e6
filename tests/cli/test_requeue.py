"""A SLURM job that is started again goes on by itself; and the ways to go on that a person types: --append, --take-over."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from harness import Record, Result, Running, Taskrun, until

from taskrun.driver.claim import Claim
from taskrun.options import parse

FIRST = {"SLURM_JOB_ID": "77", "SLURM_CLUSTER_NAME": "here"}
AGAIN = {**FIRST, "SLURM_RESTART_COUNT": "1"}
TASKS = "echo 0 >> ran; exit 3\necho 1 >> ran\necho 2 >> ran; touch started; test -e go || sleep 60\necho 3 >> ran\n"


def said(result: Result) -> str:
    return re.sub(r" in \d+\.\d s · ", " in N s · ", result.err)


def rows(records: list[Record]) -> list[tuple[str, int, int]]:
    return [(each["Flags"], each["TaskID"], each["ReturnCode"]) for each in records]


def killed(taskrun: Taskrun, *arguments: str, env: dict[str, str] = FIRST, number: int = signal.SIGTERM) -> None:
    """A run of TASKS that is ended in its third task, when the two before are on record."""
    taskrun.write({"tasks.txt": TASKS})
    running = taskrun.start("tasks.txt", "-s", "localhost:1", *arguments, env=env)
    until((taskrun.folder / "started").exists, what="the third task")
    files = taskrun.folder.rglob
    until(lambda: any(len(path.read_text().splitlines()) >= 2 for path in files("*_status.txt")), what="the first two records")
    running.send(number)
    running.finish()
    (taskrun.folder / "go").touch()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_requeued_job_goes_on_in_its_own_file(taskrun: Taskrun, number: int) -> None:
    killed(taskrun, number=number)
    result = taskrun("tasks.txt", "-s", "localhost:1", env=AGAIN)
    assert result.code == 0
    assert said(result).replace("taskrun: waiting for the last tasks of the earlier run to end\n", "") == (
        "taskrun: SLURM has started this job again: it goes on with tasks.txt_77_status.txt\n"
        "taskrun: 2 tasks done, 1 skipped, 1 failed in N s · tasks.txt_77_status.txt\n"
        "exit code 0; -e counts failures\n"
        "run again what is missing and what failed: taskrun -r tasks.txt_77_status.txt -R\n"
    )
    assert rows(result.records("tasks.txt_77")) == [("R   ", 0, 3), ("    ", 1, 0), ("    ", 2, 0), ("    ", 3, 0)]
    assert (taskrun.folder / "ran").read_text() == "0\n1\n2\n2\n3\n"
    assert len(list(taskrun.folder.glob("*_status.txt"))) == 1
    third = taskrun("tasks.txt", "-s", "localhost:1", env={**FIRST, "SLURM_RESTART_COUNT": "2"})
    assert "nothing is left to run: 3 skipped, 1 failed" in third.err


def test_what_failed_before_is_not_retried_by_the_requeue(taskrun: Taskrun) -> None:
    """-R is about the files of -r: in its own file each failure has had its turn."""
    taskrun(
        "tasks.txt", "-s", "localhost:1", "-p", "old", files={"tasks.txt": TASKS.replace("sleep 60", "false").replace("touch started;", "")}
    )
    taskrun.write({"tasks.txt": TASKS})
    (taskrun.folder / "ran").unlink()
    running = taskrun.start("tasks.txt", "-r", "old_status.txt", "-R", "-s", "localhost:1", "--force-resume", env=FIRST)
    until((taskrun.folder / "started").exists, what="the third task")
    running.send(signal.SIGTERM)
    assert running.finish().code == 3
    (taskrun.folder / "go").touch()
    result = taskrun("tasks.txt", "-r", "old_status.txt", "-R", "-s", "localhost:1", "--force-resume", env=AGAIN)
    assert result.code == 0, result.err
    assert (taskrun.folder / "ran").read_text() == "0\n2\n2\n"
    flags = {each["TaskID"]: each["Flags"] for each in result.records("old.2")}
    assert flags == {0: "R   ", 1: "   S", 2: "    ", 3: "   S"}


@pytest.mark.parametrize("env", [FIRST, {**FIRST, "SLURM_RESTART_COUNT": "0"}, {**FIRST, "SLURM_RESTART_COUNT": "x"}])
def test_the_first_start_takes_a_new_name(taskrun: Taskrun, env: dict[str, str]) -> None:
    taskrun.write({"tasks.txt": "true\n"})
    for _ in range(2):
        assert "again" not in taskrun("tasks.txt", "-s", "localhost:1", env=env).err
    assert {path.name for path in taskrun.folder.glob("*_status.txt")} == {"tasks.txt_77_status.txt", "tasks.txt_77.2_status.txt"}


def test_each_command_of_the_job_finds_its_own_file(taskrun: Taskrun) -> None:
    """Two equal commands and a third one in one job script: after the requeue each goes on with what it wrote."""
    taskrun.write({"tasks.txt": "echo >> ran\n"})
    same = ("tasks.txt", "-s", "localhost:1")
    commands = (same, same, (*same, "-e"))
    for arguments in commands:
        taskrun(*arguments, env=FIRST)
    for arguments, name in zip(commands, ("tasks.txt_77", "tasks.txt_77.2", "tasks.txt_77.3"), strict=True):
        assert f"goes on with {name}_status.txt\n" in taskrun(*arguments, env=AGAIN).err
    assert "again" not in taskrun(*same, env=AGAIN).err, "a command that had not come so far"
    assert (taskrun.folder / "ran").read_text() == "\n" * 4
    assert len(list(taskrun.folder.glob("*_status.txt"))) == 4


def test_a_prefix_given_whole_and_one_that_is_a_folder(taskrun: Taskrun) -> None:
    (taskrun.folder / "out").mkdir()
    for prefix, status in (("run", "run_status.txt"), ("out", "out/tasks.txt_77_status.txt")):
        killed(taskrun, "-p", prefix)
        result = taskrun("tasks.txt", "-s", "localhost:1", "-p", prefix, env=AGAIN)
        assert (result.code, f"goes on with {status}\n" in result.err) == (0, True), result.err
        assert len((taskrun.folder / status).read_text().splitlines()) == 4
        (taskrun.folder / "started").unlink()
        (taskrun.folder / "go").unlink()


def test_another_jobs_files_are_left_alone(taskrun: Taskrun) -> None:
    killed(taskrun, "-p", "run", env={**FIRST, "SLURM_JOB_ID": "76"})
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", env=AGAIN)
    assert result.code == 2
    assert re.fullmatch(r"taskrun: \S*run_status\.txt exists: .*\n", result.err)


def test_a_changed_task_file_is_refused(taskrun: Taskrun) -> None:
    killed(taskrun)
    taskrun.write({"tasks.txt": TASKS.replace("echo 1", "echo one")})
    result = taskrun("tasks.txt", "-s", "localhost:1", env=AGAIN)
    assert (result.code, "1 task is not what tasks.txt_77_status.txt has on record" in result.err) == (2, True)


def test_files_of_foreach_stay_those_of_the_first_start(taskrun: Taskrun) -> None:
    taskrun.write({"d/b": "", "d/c": "", "tasks.txt": "#TASKRUN FOREACH d/* echo {} >> ran; touch started; test -e go || sleep 60\n"})
    running = taskrun.start("tasks.txt", "-s", "localhost:1", env=FIRST)
    until((taskrun.folder / "started").exists, what="the first task")
    running.send(signal.SIGTERM)
    running.finish()
    taskrun.write({"d/a": "", "go": ""})
    assert taskrun("tasks.txt", "-s", "localhost:1", env=AGAIN).code == 0
    assert (taskrun.folder / "ran").read_text() == "d/b\nd/b\nd/c\n"


def lock_of(path: Path, **changes: object) -> None:
    """A lock as a driver on another host left it."""
    owner = {
        "v": 1,
        "run_id": "x",
        "host": "elsewhere",
        "boot_id": "b",
        "pid": 4711,
        "start_time": 1,
        "since": 1.0,
        "token": "t",
        **changes,
    }
    path.write_text(json.dumps(owner) + "\n")


def test_the_lock_of_the_earlier_start_on_another_host_is_taken_over_at_once(taskrun: Taskrun) -> None:
    killed(taskrun)
    lock = taskrun.folder / "tasks.txt_77.lock"
    lock_of(lock, slurm_job="77@here", slurm_start=0)
    old = time.time() - 31
    os.utime(lock, (old, old))
    result = taskrun("tasks.txt", "-s", "localhost:1", env=AGAIN)
    assert (result.code, len(result.records("tasks.txt_77"))) == (0, 4)
    assert not lock.exists()


def test_an_earlier_start_that_was_only_cut_off_is_given_time_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its status file is read, and before anything is started: it still runs tasks, and writes records."""
    for name, value in AGAIN.items():
        monkeypatch.setenv(name, value)
    slept: list[float] = []
    monkeypatch.setattr("taskrun.driver.claim.time.sleep", slept.append)
    for silent in (31.0, 5.0):
        lock = tmp_path / "run.lock"
        lock_of(lock, slurm_job="77@here", slurm_start=0)
        os.utime(lock, (time.time() - silent,) * 2)
        _, options = parse(["tasks.txt", "-p", str(tmp_path / "run"), "--grace", "3"])
        said: list[str] = []
        claim = Claim(options, "me", time.time(), tmp_path, "tasks.txt", True, said.append)
        claim.take()
        claim.release()
    assert (slept, said) == ([18.0], ["the earlier start of this job may live on, on elsewhere: giving it 18 s to stop"])


@pytest.mark.parametrize("job", [{}, {"slurm_job": "76@here"}, {"slurm_job": "77@there"}, {"slurm_job": "77@here", "slurm_start": 1}])
def test_any_other_lock_from_elsewhere_is_respected_until_take_over(taskrun: Taskrun, job: dict[str, object]) -> None:
    killed(taskrun)
    lock = taskrun.folder / "tasks.txt_77.lock"
    lock_of(lock, **job)
    result = taskrun("tasks.txt", "-s", "localhost:1", env=AGAIN)
    assert result.code == 2
    assert re.search(r"tasks\.txt_77\.lock is held by run x \(process 4711 on elsewhere, .* or give --take-over if", result.err)
    assert lock.exists()
    assert taskrun("tasks.txt", "-s", "localhost:1", "--take-over", env=FIRST).code == 0, "another name is free"
    for flags in (("--append",), ()):
        lock_of(lock)
        assert taskrun("-r", "tasks.txt_77_status.txt", *flags, "-s", "localhost:1").code == 2
        assert taskrun("-r", "tasks.txt_77_status.txt", *flags, "-s", "localhost:1", "--take-over").code == 0


def test_append_goes_on_in_the_file_of_r(taskrun: Taskrun) -> None:
    killed(taskrun, "-p", "run", env={})
    result = taskrun("-r", "run_status.txt", "--append")
    assert said(result).startswith("taskrun: 2 tasks done, 1 skipped, 1 failed in N s · run_status.txt\n")
    assert rows(result.records("run")) == [("R   ", 0, 3), ("    ", 1, 0), ("    ", 2, 0), ("    ", 3, 0)], "no S lines"
    again = taskrun("-r", "run_status.txt", "-p", "run", "-R")
    assert rows(again.records())[4:] == [("R   ", 0, 3)]


def test_append_takes_over_what_only_another_file_has(taskrun: Taskrun) -> None:
    """Two files of -r: the one that is continued gets an S line for what only the other has on record."""
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "a", files={"tasks.txt": "echo 0 >> ran\n"})
    taskrun.write({"tasks.txt": "echo 0 >> ran\nfalse\necho 2 >> ran\n"})
    text = (taskrun.folder / "a_status.txt").read_text()
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "b")
    kept = [line for line in (taskrun.folder / "b_status.txt").read_text().splitlines(True) if line.split("\t")[1] == "1"]
    (taskrun.folder / "b_status.txt").write_text("".join(kept))
    result = taskrun("-r", "a_status.txt", "-r", "b_status.txt", "--append")
    assert rows(result.records("b")) == [("R   ", 1, 1), ("   S", 0, 0), ("    ", 2, 0)]
    assert (taskrun.folder / "a_status.txt").read_text() == text
    assert "nothing is left to run: 2 skipped, 1 failed" in taskrun("-r", "b_status.txt", "-p", "c").err


def test_append_after_a_torn_line(taskrun: Taskrun) -> None:
    killed(taskrun, "-p", "run", env={})
    path = taskrun.folder / "run_status.txt"
    path.write_bytes(path.read_bytes()[:-5])
    result = taskrun("-r", "run_status.txt", "--append")
    assert "run_status.txt:2: the last line is torn and does not count; its task runs again\n" in result.err
    assert rows(result.records("run")) == [("R   ", 0, 3), ("    ", 1, 0), ("    ", 2, 0), ("    ", 3, 0)]


class Slurm:
    """A scontrol that knows one running job, and notes when it is to be started again."""

    def __init__(self, taskrun: Taskrun) -> None:
        self.taskrun = taskrun
        self.start = 0
        programs = taskrun.folder / "programs"
        programs.mkdir()
        (programs / "scontrol").write_text(
            f"""#!/bin/sh
            [ "$1" != requeue ] || {{ echo >> {taskrun.folder}/requeued; echo ended by a test >&2; exit 1; }}
            echo "JobId=77 UserId=me JobState=RUNNING Requeue=1 BatchFlag=1 EndTime=Unknown Command=/x" """
        )
        (programs / "scontrol").chmod(0o755)
        self.env = {**FIRST, "PATH": f"{programs}:{os.environ['PATH']}"}

    def begin(self, *flags: str) -> Running:
        """The next start of the job."""
        arguments = ("tasks.txt", "-s", "localhost:1", "-p", "run", "--requeue", *flags)
        running = self.taskrun.start(*arguments, env={**self.env, "SLURM_RESTART_COUNT": str(self.start)})
        self.start += 1
        return running

    def run(self, *flags: str, number: int = signal.SIGUSR1) -> Result:
        """A start whose time is over while a task runs."""
        started = self.taskrun.folder / "started"
        started.unlink(missing_ok=True)
        running = self.begin(*flags)
        until(started.exists, what="a task to start")
        running.send(number)
        return running.finish()

    @property
    def requeued(self) -> int:
        path = self.taskrun.folder / "requeued"
        return len(path.read_text()) if path.exists() else 0


NO_PROGRESS = "taskrun: no task ended in two starts: tasks need more than the job's time; raise --time\n"


def test_a_job_that_makes_no_progress_is_not_started_again(taskrun: Taskrun) -> None:
    """Two starts in a row that reached the time limit; one that was killed, or ended by another signal, says nothing about the time."""
    slurm = Slurm(taskrun)
    taskrun.write({"tasks.txt": "touch started; exec sleep 60\n"})
    for number, code, requeued in (
        (signal.SIGUSR1, 3, 1),
        (signal.SIGKILL, -9, 1),
        (signal.SIGTERM, 3, 2),
    ):
        result = slurm.run(number=number)
        assert (result.code, slurm.requeued, NO_PROGRESS in result.err) == (code, requeued, False), result.err
    last = slurm.run()
    assert (last.code, slurm.requeued, last.err.count(NO_PROGRESS)) == (3, 2, 1), last.err
    log = (taskrun.folder / "run_driver.log").read_text()
    for text in (
        "SIGUSR1: what runs is given back, ",
        "stopped: SIGUSR1",
        "SLURM is asked to start this job again (--requeue)",
        "SLURM has started this job again: it goes on with run_status.txt",
        NO_PROGRESS.removeprefix("taskrun: "),
    ):
        assert text in log, text


def test_a_task_that_ended_meanwhile_is_progress(taskrun: Taskrun) -> None:
    """Also in a start that was killed, of which the sidecar knows nothing."""
    slurm = Slurm(taskrun)
    taskrun.write({"tasks.txt": "until test -e go; do touch started; sleep 0.05; done\ntouch started; exec sleep 60\n"})
    assert slurm.run().code == 3
    started = taskrun.folder / "started"
    running = slurm.begin()
    (taskrun.folder / "go").touch()
    status = taskrun.folder / "run_status.txt"
    until(lambda: status.read_text() != "", what="a record")
    running.send(signal.SIGKILL)
    running.finish()
    assert NO_PROGRESS not in slurm.run().err
    assert started.exists()
    assert slurm.run().err.count(NO_PROGRESS) == 1


def test_restarts(taskrun: Taskrun) -> None:
    slurm = Slurm(taskrun)
    taskrun.write({"tasks.txt": "touch started; exec sleep 60\n"})
    assert slurm.run("--restarts", "1").code == 3
    last = slurm.run("--restarts", "1", number=signal.SIGTERM)
    said = "taskrun: SLURM has started this job again 1 time, and --restarts 1 allows no more: submit it anew to carry on\n"
    assert (last.code, slurm.requeued, last.err.count(said)) == (3, 1, 1), last.err
