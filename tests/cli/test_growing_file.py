"""The task file is written to while it is run: what is the same runs on, what is added runs, too, what differs stops the run."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from harness import Running, Taskrun, until

#: Each notes its id; a line of `gate` waits until its file is there.
NOTE = "echo $TASKRUN_TASKID >> ran\n"
RUN = ("tasks.txt", "-s", "localhost:1", "-p", "one")


def gate(number: int) -> str:
    return f"touch at{number}; until test -e go{number}; do sleep 0.02; done\n"


def ran(taskrun: Taskrun) -> list[int]:
    path = taskrun.folder / "ran"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def at(taskrun: Taskrun, number: int) -> None:
    until((taskrun.folder / f"at{number}").exists, what=f"gate {number}")


def go(taskrun: Taskrun, number: int) -> None:
    taskrun.write({f"go{number}": ""})


def start(taskrun: Taskrun, text: str) -> tuple[Running, Path]:
    return taskrun.start(*RUN, files={"tasks.txt": text}), taskrun.folder / "tasks.txt"


def task_file(taskrun: Taskrun) -> dict[str, object]:
    found = json.loads((taskrun.folder / "one_run.json").read_text())["task_file"]
    assert isinstance(found, dict)
    return found


def rename(path: Path, text: str) -> None:
    path.with_name("new").write_text(text)
    path.with_name("new").replace(path)


def test_what_is_added_runs_and_a_resume_knows_it(taskrun: Taskrun) -> None:
    """Also lines that are added while the last task runs, and by an editor that replaces the file; after kill -9 ids are the same."""
    text = NOTE + gate(1) + NOTE * 100
    running, path = start(taskrun, text)
    at(taskrun, 1)
    os.utime(path)
    path.write_text(text)
    rename(path, text)
    text += "#TASKRUN BARRIER\n#TASKRUN REPEAT 2 " + NOTE + gate(2)
    path.write_text(text)
    go(taskrun, 1)
    at(taskrun, 2)
    assert sorted(ran(taskrun)[-2:]) == [103, 104]
    text += NOTE + gate(3) + NOTE
    rename(path, text)
    until(lambda: task_file(taskrun)["size"] == len(text), what="the sidecar to know the added lines")
    assert json.loads((taskrun.folder / "one_run.json").read_text())["counts"]["left"] == 108
    go(taskrun, 2)
    at(taskrun, 3)
    until(lambda: (taskrun.folder / "one_status.txt").read_bytes().count(b"\n") == 107, what="the records of all that has ended")
    os.kill(running.pid, signal.SIGKILL)
    result = running.finish()
    told = "tasks.txt has grown by 3 lines: they are run, and so is what is added until the last task has ended"
    assert result.err.count("has grown") == 1
    assert told in result.err
    go(taskrun, 3)
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert result.code == 0, result.err
    assert "added" not in result.err
    assert sorted(ran(taskrun)) == [0, *range(2, 102), 103, 104, 106, 108]
    assert sorted(each["TaskID"] for each in result.records()) == list(range(109))


def test_a_changed_line_stops_the_run_and_is_named(taskrun: Taskrun) -> None:
    text = gate(1) + NOTE * 120
    running, path = start(taskrun, text)
    at(taskrun, 1)
    path.write_text(gate(1) + NOTE * 110 + "touch evil\n" + NOTE * 9)
    go(taskrun, 1)
    result = running.finish()
    assert result.code == 3
    assert "tasks.txt:112:1: this line was changed during the run: nothing below line 111 was run" in result.err
    assert ran(taskrun) == list(range(1, 111))
    path.write_text(text)
    assert taskrun("-r", "one_status.txt", "-p", "two").code == 0
    assert ran(taskrun) == list(range(1, 121))


def test_another_file_in_its_place(taskrun: Taskrun) -> None:
    """As `sed -i` does it: what was scanned runs, and the end says what was not run."""
    text = gate(1) + NOTE * 120
    running, path = start(taskrun, text)
    at(taskrun, 1)
    rename(path, gate(1) + NOTE * 110 + "touch new\n" + NOTE * 9)
    go(taskrun, 1)
    result = running.finish()
    assert (result.code, ran(taskrun)) == (0, list(range(1, 121)))
    way = "taskrun -r one_status.txt --match command"
    assert f"tasks.txt:112:1: from this line on the file is not any more what was run; `{way}` runs what is new" in result.err
    assert taskrun(*way.split()[1:], "-p", "two").code == 0
    assert len(ran(taskrun)) == 120
    assert (taskrun.folder / "new").exists()


def test_added_lines_with_an_error_are_told_and_left(taskrun: Taskrun) -> None:
    running, path = start(taskrun, gate(1) + NOTE)
    at(taskrun, 1)
    path.write_text(gate(1) + NOTE * 2 + "#TASKRUN X\n")
    until(lambda: "unknown directive `X`" in running.said()[1], what="the error")
    go(taskrun, 1)
    result = running.finish()
    assert (result.code, ran(taskrun)) == (3, [1])
    assert "tasks.txt:3:1: the lines from here on were added during the run and have errors: they were not run" in result.err
    assert result.err.splitlines()[-1] == "run again what is missing: taskrun -r one_status.txt"
