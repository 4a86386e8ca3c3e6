"""--dry-run: what would run, expanded, with the reason; nothing runs and nothing is written."""

from __future__ import annotations

import re

import pytest
from harness import Taskrun

TEXT = """\
#TASKRUN PERENGINE START touch ran
#TASKRUN PREFIX nice\x20
true
#TASKRUN REPEAT 2 start 5 step 3 test -e now
#TASKRUN BARRIER CHECK key
touch ran; echo 'a\tb'
"""


def test_the_plan(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:2", "--dry-run", files={"tasks.txt": TEXT})
    assert result.code == 0
    rows = [line.split("\t", 5) for line in result.out.splitlines()]
    assert [row[:4] + row[5:] for row in rows] == [
        ["start", "0", "1", "", "touch ran"],
        ["run", "0", "3", "", "nice true"],
        ["run", "1", "4", "5", "nice test -e now"],
        ["run", "2", "4", "8", "nice test -e now"],
        ["barrier", "3", "5", "", "#TASKRUN BARRIER CHECK key"],
        ["run", "4", "6", "", "nice touch ran; echo 'a\tb'"],
    ]
    assert all(row[4] == "no record" for row in rows if row[0] == "run")
    assert re.search(r"4 to run; 2 slots on \S+\. Nothing was run", result.err)
    assert [path.name for path in taskrun.folder.iterdir()] == ["tasks.txt"]


def test_the_plan_of_a_resume(taskrun: Taskrun) -> None:
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": "true\nexit 3\n"})
    taskrun.write({"tasks.txt": "true\nexit 3\ntouch ran\n"})
    before = {path.name: path.read_bytes() for path in taskrun.folder.iterdir()}
    for words, actions in (((), ["skip", "skip", "run"]), (("-R",), ["skip", "retry", "run"])):
        result = taskrun("-r", "one_status.txt", *words, "--dry-run")
        assert result.code == 0, result.err
        rows = [line.split("\t", 5) for line in result.out.splitlines()]
        assert [row[0] for row in rows] == actions
        assert re.fullmatch(r"ended with 0 on \S+ at \d{4}-\d\d-\d\d \d\d:\d\d \(one_status\.txt\)", rows[0][4])
        assert rows[2][4] == "no record"
    assert rows[1][4] == "failed with 3; -R runs it again (one_status.txt)"
    assert {path.name: path.read_bytes() for path in taskrun.folder.iterdir()} == before


@pytest.mark.parametrize(
    ("first", "more", "words", "actions", "left"),
    [
        (
            "false\n",
            "#BARRIER CHECK\ntrue\n#REPEAT 2\n",
            (),
            "skip barrier left left left",
            "line 2 stops the run: a task above it had failed",
        ),
        ("test -e now || ! touch now\n", "#BARRIER CHECK\ntrue\n", ("-R",), "retry barrier run", ""),
        ("false\n", "#BARRIER\n#BARRIER CHECK\ntrue\n", (), "skip barrier barrier run", ""),
        ("false\ntrue\n", "true\n", ("-f",), "skip skip left", "--fail-fast stops the run: a skipped task had failed"),
    ],
)
def test_what_a_failure_on_record_stops_is_planned_as_it_is_run(
    taskrun: Taskrun, first: str, more: str, words: tuple[str, ...], actions: str, left: str
) -> None:
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": first})
    taskrun.write({"tasks.txt": first + more})
    planned = taskrun("-r", "one_status.txt", *words, "--dry-run")
    rows = [line.split("\t") for line in planned.out.splitlines()]
    assert [row[0] for row in rows] == actions.split()
    assert {row[4] for row in rows if row[0] == "left"} == ({left} if left else set())
    assert (f", {actions.count('left')} not run;" in planned.err) == bool(left)
    result = taskrun("-r", "one_status.txt", *words, "-p", "two")
    ran = [record["TaskID"] for record in result.records() if record["Flags"] in ("    ", "R   ")]
    assert ran == [int(row[1]) for row in rows if row[0] in ("run", "retry")]


def test_a_stream(taskrun: Taskrun) -> None:
    result = taskrun("-", "-s", "localhost:2", "--dry-run", stdin=b"touch ran\n#TASKRUN REPEAT 2 true \xe9\n")
    assert result.code == 0
    assert [line.split("\t", 5)[0] for line in result.out.splitlines()] == ["run"] * 3
    assert list(taskrun.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("touch ran\n#TASKRUN BARIER\n", ("-s", "localhost:1")),
        ("true\n", ("-s", "localhost:0")),
        ("true\n", ("-s", "localhost:1", "-c", "2")),
        ("true\n", ("-s", "localhost:1", "-p", "gone/run")),
        ("true\n", ("-s", "localhost:1", "-p", "taken")),
        ("true\n", ("-s", "localhost:1", "--append")),
        ("true\r\nfalse\n", ("-s", "localhost:1")),
    ],
)
def test_what_a_run_refuses_it_refuses(taskrun: Taskrun, text: str, words: tuple[str, ...]) -> None:
    result = taskrun("tasks.txt", *words, "--dry-run", files={"tasks.txt": text, "taken_status.txt": ""})
    assert result.code == 2
    assert (result.err, result.out) == (taskrun("tasks.txt", *words).err, "")
