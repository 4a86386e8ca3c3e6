"""One driver per prefix, and nobody resumes from a run that lives."""

from __future__ import annotations

import json
import os
import signal
import time

from harness import Running, Taskrun, until

TASK = "echo $TASKRUN_TASKID >> ran; touch started; test -e now || sleep 20\n"


def begin(taskrun: Taskrun) -> Running:
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "true\n" + TASK + "true\n"})
    until((taskrun.folder / "started").exists)
    return running


def end(running: Running) -> None:
    running.send(signal.SIGTERM)
    assert running.finish().code == 3


def test_two_runs_with_one_prefix(taskrun: Taskrun) -> None:
    running = begin(taskrun)
    before = (taskrun.folder / "run_status.txt").read_bytes()
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run")
    assert result.code == 2
    assert "run_status.txt" in result.err
    (taskrun.folder / "run_status.txt").rename(taskrun.folder / "kept")
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run")
    assert result.code == 2
    assert f"{running.pid}" in result.err
    assert result.err.count("\n") == 1
    (taskrun.folder / "kept").rename(taskrun.folder / "run_status.txt")
    assert (taskrun.folder / "run_status.txt").read_bytes() == before
    end(running)
    assert not (taskrun.folder / "run.lock").exists()


def test_resuming_from_a_run_that_lives(taskrun: Taskrun) -> None:
    running = begin(taskrun)
    (taskrun.folder / "link.txt").symlink_to("run_status.txt")
    for name, *flags in (
        ("run_status.txt", "-p", "two"),
        ("run_status.txt",),
        ("run_status.txt", "--append"),
        ("run_status.txt", "-p", "run"),
        ("run_status.txt", "--take-over", "-p", "two"),
        ("link.txt", "-p", "two"),
    ):
        result = taskrun("-r", name, *flags)
        assert result.code == 2, flags
        assert f"{running.pid}" in result.err
        assert result.err.count("\n") == 1
    assert not list(taskrun.folder.glob("two*"))
    end(running)
    (taskrun.folder / "now").touch()
    assert taskrun("-r", "run_status.txt", "-p", "two").code == 0
    assert (taskrun.folder / "ran").read_text() == "1\n1\n"


def test_a_resume_right_after_kill_9(taskrun: Taskrun) -> None:
    running = begin(taskrun)
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    assert (taskrun.folder / "run.lock").exists()
    (taskrun.folder / "now").touch()
    result = taskrun("-r", "run_status.txt", "-p", "two")
    assert result.code == 0, result.err
    assert [(each["Flags"], each["TaskID"]) for each in result.records("two")] == [("   S", 0), ("    ", 1), ("    ", 2)]
    assert (taskrun.folder / "ran").read_text() == "1\n1\n"
    assert not list(taskrun.folder.glob("*.lock*"))


def test_two_resumes_of_one_dead_run_at_once(taskrun: Taskrun) -> None:
    running = begin(taskrun)
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    resumes = [taskrun.start("-r", "run_status.txt", "-p", prefix) for prefix in ("two", "three")]
    until(lambda: [each for each in resumes if each.process.poll() is not None], 15)
    (loser,) = [each for each in resumes if each.process.poll() is not None]
    (winner,) = [each for each in resumes if each is not loser]
    assert loser.finish().code == 2
    assert "Traceback" not in loser.said()[1]
    (taskrun.folder / "now").touch()
    assert winner.finish().code == 0
    assert (taskrun.folder / "ran").read_text() == "1\n1\n"


def test_a_lock_of_another_host(taskrun: Taskrun) -> None:
    running = begin(taskrun)
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    lock = taskrun.folder / "run.lock"
    content = json.loads(lock.read_text())
    content |= {"host": "elsewhere", "boot_id": "0" * 36}
    lock.write_text(json.dumps(content))
    (taskrun.folder / "now").touch()
    result = taskrun("-r", "run_status.txt", "-p", "two")
    assert result.code == 2
    assert "elsewhere" in result.err
    assert "--take-over" in result.err
    old = time.time() - 200
    os.utime(lock, (old, old))
    assert taskrun("-r", "run_status.txt", "-p", "two").code == 0


def test_a_known_dead_run_of_another_host_is_taken_over(taskrun: Taskrun) -> None:
    running = begin(taskrun)
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    lock = taskrun.folder / "run.lock"
    lock.write_text(json.dumps(json.loads(lock.read_text()) | {"host": "elsewhere", "boot_id": "0" * 36}))
    (taskrun.folder / "now").touch()
    assert taskrun("-r", "run_status.txt", "--take-over", "-p", "two").code == 0


def test_a_run_whose_lock_is_taken_over_stops(taskrun: Taskrun) -> None:
    """Nobody writes to a file that is another's: it stops within the time between two looks."""
    running = begin(taskrun)
    (taskrun.folder / "run.lock").unlink()
    result = running.finish(20)
    assert result.code == 4
    assert "taken" in result.err
    until(lambda: not taskrun.processes(), 5)
