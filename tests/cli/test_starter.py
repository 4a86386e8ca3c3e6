"""Who starts slots: GNU Parallel where it is there, else the agent itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from harness import Result, Taskrun, need, until

HOLD = "touch started_$TASKRUN_TASKID; until [ -e go ]; do sleep 0.02; done\n"


def parents(pid: int) -> list[str]:
    """Command lines from a process up to the first one."""
    lines = []
    while pid > 1:
        lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return lines


def hold(taskrun: Taskrun, *flags: str, env: dict[str, str] | None = None) -> tuple[list[str], Result]:
    """The ancestors of a running task, and the result."""
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", *flags, env=env, files={"tasks.txt": HOLD})
    until((taskrun.folder / "started_0").exists)
    task = min(pid for pid, line in taskrun.processes().items() if line.startswith("/bin/bash -c "))  # a fork of it looks the same
    line = parents(task)
    (taskrun.folder / "go").touch()
    return line, running.finish()


def starter_of(result: Result) -> str:
    (joined,) = [event for event in result.events("engine") if event["what"] == "joined"]
    return str(joined["starter"])


def path_without_parallel(taskrun: Taskrun, folder: Path) -> str:
    """A PATH with what tasks and runs need, and no GNU Parallel."""
    folder.mkdir()
    for name in ("bash", "sh", "sleep", "touch", "cat", "perl", "env"):
        found = shutil.which(name, path=taskrun.env["PATH"])
        if found:
            (folder / name).symlink_to(found)
    return str(folder)


@pytest.mark.parametrize("flags", [(), ("--starter", "parallel"), ("--starter", "auto")])
def test_gnu_parallel_starts_slots(taskrun: Taskrun, flags: tuple[str, ...]) -> None:
    need("parallel")
    line, result = hold(taskrun, *flags)
    task, slot, parallel, agent, driver = line[:5]
    assert "started_" in task
    assert "slot.pyc" in slot
    assert re.search(r"perl \S*/parallel --plain -u -j1 ", parallel)
    assert "agent.main" in agent
    assert driver.startswith(sys.executable)
    assert re.fullmatch(r"parallel \d{8}", starter_of(result))
    assert result.code == 0


def test_the_built_in_starter(taskrun: Taskrun) -> None:
    line, result = hold(taskrun, "--starter", "builtin")
    task, slot, agent, driver = line[:4]
    assert "started_" in task
    assert "slot.pyc" in slot
    assert "agent.main" in agent
    assert driver.startswith(sys.executable)
    assert starter_of(result) == "builtin"
    assert not [each for each in line if "/parallel" in each]


def test_without_gnu_parallel(taskrun: Taskrun, tmp_path: Path) -> None:
    path = path_without_parallel(taskrun, tmp_path / "bin")
    line, result = hold(taskrun, env={"PATH": path})
    assert starter_of(result) == "builtin"
    assert result.code == 0
    assert not [each for each in line if "/parallel" in each]


def test_gnu_parallel_asked_for_and_not_there(taskrun: Taskrun, tmp_path: Path) -> None:
    env = {"PATH": path_without_parallel(taskrun, tmp_path / "bin")}
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--starter", "parallel", env=env, files={"tasks.txt": "true\n"})
    assert "GNU Parallel was asked for" in result.err
    assert "Traceback" not in result.err


def test_another_program_of_that_name(taskrun: Taskrun, tmp_path: Path) -> None:
    """moreutils has one, which would run nothing as it should."""
    path = path_without_parallel(taskrun, tmp_path / "bin")
    (tmp_path / "bin" / "parallel").write_text("#!/bin/sh\ntouch moreutils\n")
    (tmp_path / "bin" / "parallel").chmod(0o755)
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", env={"PATH": path}, files={"tasks.txt": "true\n"})
    assert (result.code, starter_of(result)) == (0, "builtin")
    assert not (taskrun.folder / "moreutils").exists()


def test_gnu_parallel_behind_another_program_of_that_name(taskrun: Taskrun, tmp_path: Path) -> None:
    need("parallel")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "parallel").write_text("#!/bin/sh\ntouch moreutils\n")
    (tmp_path / "bin" / "parallel").chmod(0o755)
    env = {"PATH": f"{tmp_path}/bin:{taskrun.env['PATH']}"}
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", env=env, files={"tasks.txt": "true\n"})
    assert (result.code, starter_of(result)[:9]) == (0, "parallel ")
    assert not (taskrun.folder / "moreutils").exists()


def test_a_gnu_parallel_that_cannot_run(taskrun: Taskrun, tmp_path: Path) -> None:
    """It looks right and dies at once: said once, and the built-in starter takes over."""
    path = path_without_parallel(taskrun, tmp_path / "bin")
    (tmp_path / "bin" / "parallel").write_text("#!/bin/sh\n# $Global::version = 20221122;\nexit 9\n")
    (tmp_path / "bin" / "parallel").chmod(0o755)
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", env={"PATH": path}, files={"tasks.txt": "true\n" * 5})
    assert (result.code, len(result.records())) == (0, 5)
    assert result.err.count("GNU Parallel cannot start slots here") == 1


def test_the_user_s_settings_of_gnu_parallel_change_nothing(taskrun: Taskrun) -> None:
    need("parallel")
    home = Path(taskrun.env["HOME"])
    (home / ".parallel").mkdir()
    (home / ".parallel" / "config").write_text("--dry-run\n")
    env = {"PARALLEL": "--dry-run -j1", "PARALLEL_HOME": str(home), "PERL5OPT": "-MNoSuchModule", "PERL5LIB": "/nowhere"}
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", env=env, files={"tasks.txt": "touch ran\n"})
    assert (result.code, starter_of(result)[:9]) == (0, "parallel ")
    assert (taskrun.folder / "ran").exists()
    assert sorted(path.name for path in home.rglob("*")) == [".parallel", "config"], "and nothing is written there"


def test_gnu_parallel_is_killed_in_the_middle(taskrun: Taskrun) -> None:
    """What runs goes on to its end, what is left runs, nothing is charged and nothing runs twice."""
    need("parallel")
    text = "#TASKRUN REPEAT 2 touch started_$TASKRUN_TASKID; sleep 1; echo $TASKRUN_TASKID >> ran\n"
    text += "#TASKRUN REPEAT 20 echo $TASKRUN_TASKID >> ran\n"
    running = taskrun.start("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text})
    until(lambda: len(list(taskrun.folder.glob("started_*"))) == 2)
    (parallel,) = [pid for pid, line in taskrun.processes().items() if "/parallel --plain" in line]
    os.kill(parallel, signal.SIGKILL)
    result = running.finish()
    assert result.code == 0
    assert sorted(int(line) for line in (taskrun.folder / "ran").read_text().split()) == list(range(22))
    assert {each["cause"] for each in result.events("attempt")} == {"ok"}


def test_no_citation_notice_reaches_the_person(taskrun: Taskrun) -> None:
    need("parallel")
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": "true\n"})
    assert "cit" not in result.err.lower()
    assert not list(Path(taskrun.env["HOME"]).rglob("*")), "and nothing is written to the home folder"
