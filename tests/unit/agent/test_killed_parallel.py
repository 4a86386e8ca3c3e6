"""GNU Parallel killed in the middle of its start leaves no process behind, though nobody is there who tidies up."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import psutil
import pytest
from harness import MARK, kill, need, processes, until

from taskrun.agent import folder, starter

JOBS = 100  # it starts so many placeholders and two more: some 0.1 s in which it can be hit


@pytest.mark.parametrize("placeholders", [5, 60])
def test_nothing_is_left(tmp_path: Path, placeholders: int) -> None:
    need("parallel")
    path, version = starter.find_parallel(os.environ["PATH"])
    mark = uuid.uuid4().hex
    env = {**os.environb, MARK.encode(): mark.encode()}
    parallel = starter.Parallel(["/bin/true"], path, version, JOBS, str(tmp_path), env)
    try:
        parallel.start("1")
        assert parallel.process
        its = psutil.Process(parallel.process.pid)
        until(lambda: len(its.children()) >= placeholders, what="its placeholders")
        parallel.process.send_signal(signal.SIGKILL)  # and not its process group, as an agent does
        parallel.process.wait()
        end = time.monotonic() + 5
        while (left := {pid: line for pid, line in processes(mark).items() if line}) and time.monotonic() < end:
            time.sleep(0.02)
        assert not left
    finally:
        parallel.kill()
        kill(processes(mark))


def test_a_slot_that_is_started_when_all_has_gone_says_nothing(tmp_path: Path) -> None:
    need("parallel")
    path, version = starter.find_parallel(os.environ["PATH"])
    (tmp_path / "gone").mkdir()
    parallel = starter.Parallel(["/nowhere/slot"], path, version, 1, str(tmp_path / "gone"), dict(os.environb))
    line = parallel.line
    (tmp_path / "gone").rename(tmp_path / "away")
    done = subprocess.run(["/bin/sh", "-c", line], check=False, capture_output=True, timeout=5)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_it_makes_when_all_has_gone_can_be_removed(tmp_path: Path) -> None:
    """It makes its home anew, with all folders above: nobody else may enter them, so they count as the agent's."""
    need("parallel")
    path, version = starter.find_parallel(os.environ["PATH"])
    private = tmp_path / "private"
    private.mkdir(0o700)
    parallel = starter.Parallel(["/bin/true"], path, version, 1, str(private), dict(os.environb))
    folder.remove(str(private))
    assert not private.exists()
    try:
        parallel.start("1")
        until((private / "parallel/tmp").exists, what="its home")
    finally:
        parallel.kill()
    assert private.stat().st_mode & 0o777 == 0o700
    folder.remove(str(private))
    assert not private.exists()


def test_there_is_none_where_the_agent_s_folder_has_gone(tmp_path: Path) -> None:
    need("parallel")
    path, version = starter.find_parallel(os.environ["PATH"])
    with pytest.raises(FileNotFoundError):
        starter.Parallel(["/bin/true"], path, version, 1, str(tmp_path / "gone"), dict(os.environb))
    assert not (tmp_path / "gone").exists()


def test_its_placeholder_is_a_program_of_ours(tmp_path: Path) -> None:
    env = starter.parallel_environment({b"PATH": b"/usr/bin:/bin"}, str(tmp_path))
    starter.save_placeholder(str(tmp_path))
    subprocess.run(["sleep", "10101"], env=env, check=True, timeout=5)
