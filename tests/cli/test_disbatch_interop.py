"""The real disBatch resumes our status files, and we resume its."""

from __future__ import annotations

import subprocess
import sys

import pytest
from harness import Taskrun, until

TEXT = "echo a >> ran\n#DISBATCH REPEAT 2 start 3 echo r$DISBATCH_REPEAT_INDEX >> ran\n#DISBATCH BARRIER\ntest -e now && echo z >> ran\n"


def disbatch(taskrun: Taskrun, *arguments: str) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "disbatch", "-s", "localhost:2", *arguments],
        cwd=taskrun.folder, env=taskrun.env, capture_output=True, timeout=50, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: not taskrun.processes(), 20, "disBatch's processes to end")
    return done.returncode


def ran(taskrun: Taskrun) -> list[str]:
    path = taskrun.folder / "ran"
    names = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return names


@pytest.mark.timeout(90)
def test_disbatch_resumes_ours(taskrun: Taskrun) -> None:
    assert taskrun("tasks", "-s", "localhost:2", "-p", "ours", files={"tasks": TEXT}).code == 0
    assert ran(taskrun) == ["a", "r3", "r4"]
    (taskrun.folder / "now").touch()
    assert disbatch(taskrun, "-p", "theirs", "-r", "ours_status.txt", "-R", "tasks") == 0
    assert ran(taskrun) == ["z"]


@pytest.mark.timeout(90)
def test_we_resume_disbatch_s(taskrun: Taskrun) -> None:
    taskrun.write({"tasks": TEXT})
    assert disbatch(taskrun, "-p", "theirs", "tasks") == 0
    assert ran(taskrun) == ["a", "r3", "r4"]
    (taskrun.folder / "now").touch()
    result = taskrun("tasks", "-s", "localhost:2", "-r", "theirs_status.txt", "-R", "-p", "ours")
    assert (result.code, ran(taskrun)) == (0, ["z"]), result.err
    assert sorted((each["TaskID"], each["Flags"]) for each in result.records()) == [
        (0, "   S"), (1, "   S"), (2, "   S"), (3, "B    "), (4, "    "),
    ]  # fmt: skip
