"""BARRIER: nothing after it starts before everything before it has ended; CHECK stops at a failure."""

from __future__ import annotations

import re
import socket

import pytest
from harness import Taskrun

NOTE = "echo start $TASKRUN_TASKID >> notes; sleep 0.1; echo end $TASKRUN_TASKID >> notes\n"


@pytest.mark.parametrize("starter", ["parallel", "builtin"])
def test_order(taskrun: Taskrun, starter: str) -> None:
    text = f"#TASKRUN REPEAT 7 {NOTE}#TASKRUN BARRIER first\n#TASKRUN REPEAT 3 {NOTE}#TASKRUN BARRIER\n#TASKRUN BARRIER\n{NOTE}"
    result = taskrun("tasks.txt", "-s", "localhost:4", "-p", "run", "--starter", starter, files={"tasks.txt": text})
    assert result.code == 0
    notes = [line.split() for line in (taskrun.folder / "notes").read_text().splitlines()]
    groups = [{str(n) for n in range(7)}, {"8", "9", "10"}, {"13"}]
    at = 0
    for group in groups:
        part = notes[at : at + 2 * len(group)]
        assert {number for _, number in part} == group
        at += 2 * len(group)
    records = result.records()
    assert [each["TaskID"] for each in records if each["Flags"] == "B    "] == [7, 11, 12]
    before = [each for each in records if each["TaskID"] < 7]
    (barrier,) = [each for each in records if each["TaskID"] == 7]
    assert records.index(barrier) == 7
    assert (barrier["LineNum"], barrier["RepeatIndex"], barrier["ReturnCode"], barrier["Node"]) == (2, -1, 0, socket.gethostname())
    assert barrier["Command"] == "#TASKRUN BARRIER first"
    assert barrier["Finish"] >= max(each["Finish"] for each in before) - 0.01
    assert [(each["id"], each["check"], each["ok"], each.get("key")) for each in result.events("barrier")] == [
        (7, False, True, "first"), (11, False, True, None), (12, False, True, None),
    ]  # fmt: skip


def test_a_check_that_passes(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": "true\n#TASKRUN BARRIER CHECK\ntouch after\n"})
    assert result.code == 0
    assert (taskrun.folder / "after").exists()
    assert [each["Flags"] for each in result.records()] == ["    ", "C    ", "    "]


def test_a_check_that_fails(taskrun: Taskrun) -> None:
    text = "true\nexit 3\nsleep 0.2; touch before\n#TASKRUN BARRIER CHECK\ntouch after\ntouch after\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text})
    assert result.code == 1
    assert (taskrun.folder / "before").exists(), "what runs ends by itself"
    assert not (taskrun.folder / "after").exists()
    assert sorted((each["TaskID"], each["Flags"], each["ReturnCode"]) for each in result.records()) == [
        (0, "    ", 0), (1, "R   ", 3), (2, "    ", 0), (3, "C    ", 0),
    ]  # fmt: skip
    assert "line 2, task 1, exit 3: exit 3" in result.err
    assert re.search(r"BARRIER CHECK in line 4 failed", result.err)
    assert re.search(r"\b2 not run\b", result.err)
    assert [(each["id"], each["check"], each["ok"]) for each in result.events("barrier")] == [(3, True, False)]


def test_a_plain_barrier_forgives_what_was_before_it(taskrun: Taskrun) -> None:
    text = "exit 3\n#TASKRUN BARRIER\ntrue\n#TASKRUN BARRIER CHECK\ntouch after\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text})
    assert result.code == 0
    assert (taskrun.folder / "after").exists()


def test_the_person_mends_it_and_goes_on(taskrun: Taskrun) -> None:
    text = "test -e mended\n#TASKRUN BARRIER CHECK\ntouch after\n"
    assert taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": text}).code == 1
    (taskrun.folder / "mended").touch()
    result = taskrun("-r", "run_status.txt", "-R", "-p", "two")
    assert result.code == 0
    assert (taskrun.folder / "after").exists()


def test_a_barrier_first_last_and_alone(taskrun: Taskrun) -> None:
    for number, text in enumerate(("#TASKRUN BARRIER\n", "#TASKRUN BARRIER CHECK\ntrue\n", "true\n#TASKRUN BARRIER\n")):
        result = taskrun("tasks.txt", "-s", "localhost:2", "-p", f"run{number}", files={"tasks.txt": text})
        assert result.code == 0
        assert len(result.records()) == text.count("\n")
