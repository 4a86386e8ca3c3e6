"""`--dry-run`: every task with its reason and a summary, at any length; nothing is run and nothing is written."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
from harness import Result, Taskrun

TASKS = """\
#PERENGINE START mkdir -p out
#PREFIX nice\x20
true
test -e now
#REPEAT 2 start 5 true
#BARRIER CHECK
#BARRIER
false
"""


def plain(result: Result) -> list[str]:
    """stdout without times and the name of the machine."""
    return [re.sub(r" on \S+ at \d{4}-\d\d-\d\d \d\d:\d\d", " on HOST", line) for line in result.out.split("\n")]


def summary(result: Result) -> str:
    return re.sub(r"slots? on \S+\.", "slots on HOST.", result.err)


def test_every_task_with_its_reason(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "--dry-run", "-s", "localhost:2", files={"tasks.txt": TASKS})
    assert result.code == 0
    assert plain(result) == [
        "start\t0\t1\t\ton each engine, before its first task\tmkdir -p out",
        "run\t0\t3\t\tno record\tnice true",
        "run\t1\t4\t\tno record\tnice test -e now",
        "run\t2\t5\t5\tno record\tnice true",
        "run\t3\t5\t6\tno record\tnice true",
        "barrier\t4\t6\t\twaits for all above, stops if one failed\t#BARRIER CHECK",
        "barrier\t5\t7\t\twaits for all above\t#BARRIER",
        "run\t6\t8\t\tno record\tnice false",
        "",
    ]
    assert summary(result) == "taskrun: 5 to run; 2 slots on HOST. Nothing was run (--dry-run).\n"
    assert [path.name for path in taskrun.folder.iterdir()] == ["tasks.txt"]


def test_with_records_of_an_earlier_run(taskrun: Taskrun) -> None:
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": TASKS.replace("#BARRIER CHECK\n", "#BARRIER\n")})
    taskrun.write({"tasks.txt": TASKS.replace("#BARRIER CHECK\n", "#BARRIER\n") + "true new\n"})
    names = {path.name for path in taskrun.folder.iterdir()}
    result = taskrun("--dry-run", "-r", "run_status.txt", "-R")
    assert [line.split("\t")[0:1] + line.split("\t")[4:5] for line in plain(result)[1:-1]] == [
        ["skip", "ended with 0 on HOST (run_status.txt)"],
        ["retry", "failed with 1; -R runs it again (run_status.txt)"],
        ["skip", "ended with 0 on HOST (run_status.txt)"],
        ["skip", "ended with 0 on HOST (run_status.txt)"],
        ["barrier", "waits for all above"],
        ["barrier", "waits for all above"],
        ["retry", "failed with 1; -R runs it again (run_status.txt)"],
        ["run", "no record"],
    ]
    assert result.err.endswith("Nothing was run (--dry-run).\n")
    assert "taskrun: 1 to run, 2 to run again, 3 skipped; " in result.err
    assert {path.name for path in taskrun.folder.iterdir()} == names


def test_a_mismatch_is_shown_and_refused(taskrun: Taskrun) -> None:
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "true\ntrue\n"})
    taskrun.write({"tasks.txt": "true 1\ntrue\n"})
    result = taskrun("--dry-run", "-r", "run_status.txt")
    assert (result.code, plain(result)[0]) == (2, "mismatch\t0\t1\t\tanother task is on record (run_status.txt)\ttrue 1")
    assert result.err.startswith("taskrun: 1 task is not what run_status.txt has on record: nothing was run\n  task 0\n")


def test_a_stream(taskrun: Taskrun) -> None:
    result = taskrun("-", "--dry-run", "-s", "localhost:1", stdin=b"true\n#REPEAT 2 x\nhalf \xff")
    assert (result.code, result.out.count("\n")) == (0, 4)
    assert list(taskrun.folder.iterdir()) == []


@pytest.fixture
def long_file(taskrun: Taskrun) -> Path:
    path = taskrun.folder / "tasks.txt"
    with path.open("w") as file:
        file.writelines(f"/bin/true {number} > /dev/null\n" for number in range(1_000_000))
    return path


def test_a_million_lines_stream(taskrun: Taskrun, long_file: Path) -> None:
    """Flat memory, and a reader that has seen enough is no error."""
    measure = "import os, resource, subprocess, sys; code = subprocess.call(sys.argv[1:], stdout=open('out', 'wb'))\n"
    measure += "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    shell = Taskrun(taskrun.folder, taskrun.env, command=(sys.executable, "-c", measure))
    result = shell(sys.executable, "-m", "taskrun", "tasks.txt", "--dry-run", "-s", "localhost:1", timeout=50)
    code, peak = map(int, result.out.split())
    assert (code, peak < 60_000) == (0, True), peak
    assert result.err.startswith("taskrun: 1000000 to run; ")
    with (taskrun.folder / "out").open("rb") as file:
        assert sum(1 for _ in file) == 1_000_000
    shell.close()
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    command = f"{shlex.quote(sys.executable)} -m taskrun"
    head = shell(f"set -o pipefail; {command} tasks.txt --dry-run -s localhost:1 | head -n 2")
    assert (head.code, head.err) == (0, "")
    assert head.out == "run\t0\t1\t\tno record\t/bin/true 0 > /dev/null\nrun\t1\t2\t\tno record\t/bin/true 1 > /dev/null\n"
    check = shell(f"{command} check tasks.txt")
    assert (check.code, check.out) == (0, "tasks.txt: 1,000,000 tasks; no problems\n")
    shell.close()
