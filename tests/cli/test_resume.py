"""`-r STATUS`: what has a record is not run again, and whatever is unclear is refused before anything runs."""

from __future__ import annotations

import os
import re
import shlex
import signal

import pytest
from harness import COLUMNS, Record, Result, Taskrun, until

#: Each notes its id; 1 fails with 3 until `now` is there.
TASKS = """\
echo $TASKRUN_TASKID >> ran
echo $TASKRUN_TASKID >> ran; test -e now || exit 3
#TASKRUN REPEAT 2 start 5 echo $TASKRUN_TASKID >> ran
#TASKRUN BARRIER
echo $TASKRUN_TASKID >> ran
"""


def first(taskrun: Taskrun, *flags: str, text: str = TASKS) -> Result:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", *flags, files={"tasks.txt": text})
    assert result.code == 0, result.err
    (taskrun.folder / "ran").unlink(missing_ok=True)
    return result


def ran(taskrun: Taskrun) -> list[int]:
    """Ids of the tasks that ran since the last question."""
    path = taskrun.folder / "ran"
    ids = sorted(int(line) for line in path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return ids


def flags(records: list[Record]) -> list[tuple[int, str]]:
    return sorted((each["TaskID"], each["Flags"]) for each in records)


def cut(taskrun: Taskrun, lines: int) -> None:
    """Keep the first lines of the first run's status file only."""
    path = taskrun.folder / "one_status.txt"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:lines]))


def test_what_is_missing_runs(taskrun: Taskrun) -> None:
    first(taskrun)
    cut(taskrun, 3)
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert result.code == 0, result.err
    assert ran(taskrun) == [3, 5]
    assert flags(result.records()) == [(0, "   S"), (1, "R  S"), (2, "   S"), (3, "    "), (4, "B    "), (5, "    ")]
    assert re.match(r"taskrun: 2 tasks done, 2 skipped, 1 failed in ", result.err)


def test_retry_runs_what_failed(taskrun: Taskrun) -> None:
    first(taskrun)
    result = taskrun("-r", "one_status.txt", "-R", "-p", "two")
    assert (result.code, ran(taskrun)) == (0, [1])
    assert flags(result.records()) == [(0, "   S"), (1, "R   "), (2, "   S"), (3, "   S"), (4, "B    "), (5, "   S")]


def test_an_s_line_repeats_the_record(taskrun: Taskrun) -> None:
    old = {each["TaskID"]: each for each in first(taskrun).records()}
    new = {each["TaskID"]: each for each in taskrun("-r", "one_status.txt", "-R", "-p", "two").records()}
    same = set(COLUMNS) - {"Flags", "Elapsed"}
    for number in (0, 2, 3, 5):
        assert {name: new[number][name] for name in same} == {name: old[number][name] for name in same}
        assert new[number]["Elapsed"] == pytest.approx(new[number]["Finish"] - new[number]["Start"], abs=0.0011)


def test_a_run_resumed_again_and_again(taskrun: Taskrun) -> None:
    """Each from the last run alone: S lines count."""
    first(taskrun)
    for prefix, previous in (("two", "one"), ("three", "two"), ("four", "three")):
        assert taskrun("-r", f"{previous}_status.txt", "-R", "-p", prefix).code == 0
        assert ran(taskrun) == [1]
    (taskrun.folder / "now").touch()
    assert taskrun("-r", "four_status.txt", "-R", "-p", "five").code == 0
    assert ran(taskrun) == [1]
    done = taskrun("-r", "five_status.txt", "-R", "-p", "six")
    assert (done.code, ran(taskrun)) == (0, [])
    assert {each["ReturnCode"] for each in done.records()} == {0}


def test_nothing_left_to_do(taskrun: Taskrun) -> None:
    first(taskrun)
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert (result.code, ran(taskrun)) == (0, [])
    assert re.match(r"taskrun: nothing is left to run: 4 skipped, 1 failed", result.err)
    assert len(result.records()) == 6
    assert taskrun("-r", "one_status.txt", "-e", "-p", "three").code == 1, "a failure is on record"


def test_of_several_status_files_the_later_wins(taskrun: Taskrun) -> None:
    first(taskrun)
    (taskrun.folder / "now").touch()
    assert taskrun("-r", "one_status.txt", "-R", "-p", "two").code == 0
    assert ran(taskrun) == [1]
    cut(taskrun, 2)
    two = taskrun.folder / "two_status.txt"
    two.write_text("".join(line for line in two.read_text().splitlines(keepends=True) if line.split("\t")[1] == "1"))
    for files, expected in ((("one", "two"), [2, 3, 5]), (("two", "one"), [1, 2, 3, 5])):
        words = [word for name in files for word in ("-r", f"{name}_status.txt")]
        result = taskrun("tasks.txt", "-s", "localhost:1", *words, "-R", "-p", "-".join(files))
        assert (result.code, ran(taskrun)) == (0, expected)


def test_within_a_file_the_later_line_wins(taskrun: Taskrun) -> None:
    first(taskrun)
    path = taskrun.folder / "one_status.txt"
    columns = next(line for line in path.read_text().splitlines() if line.startswith("R   \t1\t")).split("\t")
    columns[0], columns[6] = "    ", "0"
    path.write_text(path.read_text() + "\t".join(columns) + "\n")
    assert taskrun("-r", "one_status.txt", "-R", "-p", "two").code == 0
    assert ran(taskrun) == []


def test_moved_lines(taskrun: Taskrun) -> None:
    first(taskrun)
    taskrun.write({"tasks.txt": "# a comment\n\n" + TASKS})
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert (result.code, ran(taskrun)) == (0, [])
    assert sorted(each["LineNum"] for each in result.records() if each["Flags"][3] == "S") == [1, 2, 3, 3, 5]


def test_another_command_is_refused_side_by_side(taskrun: Taskrun) -> None:
    first(taskrun)
    taskrun.write({"tasks.txt": "true\n" + TASKS})
    cut(taskrun, 1)
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert result.code == 2
    *lines, advice, end = result.err.split("\n")
    assert lines == [
        "taskrun: 1 task is not what one_status.txt has on record: nothing was run",
        "  task 0",
        "    on record, line 1: echo $TASKRUN_TASKID >> ran",
        "    now, line 1:       true",
        "                       ^",
    ]
    assert "--force-resume" in advice
    assert end == ""
    assert ran(taskrun) == []
    assert not list(taskrun.folder.glob("two*"))
    forced = taskrun("-r", "one_status.txt", "--force-resume", "-p", "two")
    assert forced.code == 0
    (skipped,) = [each for each in forced.records() if each["Flags"][3] == "S"]
    assert skipped["Command"] == "echo $TASKRUN_TASKID >> ran", "the old record"


def test_another_repeat_index_is_another_task(taskrun: Taskrun) -> None:
    first(taskrun)
    taskrun.write({"tasks.txt": TASKS.replace("start 5", "start 6")})
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert result.code == 2
    assert result.err.startswith("taskrun: 2 tasks are not what one_status.txt has on record: nothing was run\n")
    assert "repeat 5" in result.err


def test_tasks_that_run_again_are_not_compared(taskrun: Taskrun) -> None:
    first(taskrun)
    taskrun.write({"tasks.txt": TASKS.replace("test -e now || exit 3", "true")})
    assert taskrun("-r", "one_status.txt", "-p", "two").code == 2
    assert taskrun("-r", "one_status.txt", "-R", "-p", "three").code == 0
    assert ran(taskrun) == [1]


def test_a_longer_file_and_a_shorter_one(taskrun: Taskrun) -> None:
    first(taskrun)
    taskrun.write({"tasks.txt": TASKS + "echo 6 >> ran\n"})
    assert taskrun("-r", "one_status.txt", "-p", "two").code == 0
    assert ran(taskrun) == [6]
    taskrun.write({"tasks.txt": TASKS.partition("\n")[0] + "\n"})
    assert taskrun("-r", "one_status.txt", "-p", "three").code == 0
    assert ran(taskrun) == []


@pytest.mark.parametrize("left", [1, 5, 30, -2])
def test_a_torn_last_line(taskrun: Taskrun, left: int) -> None:
    """Without its newline it is no record, however much of it there is: its task runs again, and that is said."""
    first(taskrun)
    path = taskrun.folder / "one_status.txt"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:left])
    before = path.read_bytes()
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert (result.code, ran(taskrun)) == (0, [2, 3, 5])
    assert re.search(r"one_status\.txt.*(torn|newline|whole|cut)", result.err), result.err
    assert path.read_bytes() == before, "the file is not touched"
    again = taskrun("-r", "one_status.txt", "--append")
    assert (again.code, ran(taskrun)) == (0, [2, 3, 5])
    assert sorted(each["TaskID"] for each in again.records("one")) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("text", ["hello\nworld\n", "\t" * 14 + "\n", "{}\n", "\x7fELF\x00\x01\n" * 20])
def test_a_foreign_file_is_refused(taskrun: Taskrun, text: str) -> None:
    first(taskrun)
    taskrun.write({"notes_status.txt": text})
    result = taskrun("tasks.txt", "-s", "localhost:1", "-r", "notes_status.txt", "-p", "two")
    assert (result.code, ran(taskrun)) == (2, [])
    assert re.match(r"taskrun: \S*notes_status\.txt", result.err)
    assert not list(taskrun.folder.glob("two*"))


def test_a_status_file_that_cannot_be_read(taskrun: Taskrun) -> None:
    first(taskrun)
    (taskrun.folder / "dir_status.txt").mkdir()
    for name in ("nosuch_status.txt", "dir_status.txt"):
        result = taskrun("tasks.txt", "-s", "localhost:1", "-r", name, "-p", "two")
        assert (result.code, ran(taskrun)) == (2, [])
        assert name in result.err
    assert not list(taskrun.folder.glob("two*"))


def test_options_are_inherited(taskrun: Taskrun) -> None:
    given = ("-s", "localhost:3", "-c", "1.5", "-e", "-l", "mine", "--status-header", "--logfile", "first.log")
    result = taskrun("tasks.txt", *given, "-p", "one", files={"tasks.txt": "echo >> ran\nfalse\n"})
    assert result.code == 1
    again = taskrun("-r", "one_status.txt", "-R", "-p", "two")
    assert again.code == 1, "-e is inherited"
    assert [each["context"] for each in again.events("context")] == ["mine"]
    assert [each["slots"] for each in again.events("engine") if each["what"] == "joined"] == [2]
    assert (taskrun.folder / "two_status.txt").read_text().startswith("ROE[ PSZ]\t")
    assert (taskrun.folder / "two_driver.log").exists(), "--logfile is not inherited"
    assert again.sidecar()["options"]["exit_code"] == {"value": True, "origin": "inherited"}
    other = taskrun("-r", "one_status.txt", "-R", "-s", "localhost:1", "-c", "1", "-p", "three")
    assert [each["slots"] for each in other.events("engine") if each["what"] == "joined"] == [1]
    taskrun("-r", "two_status.txt")
    assert (taskrun.folder / "two.2_status.txt").exists(), "-p is not inherited"


def test_from_another_directory(taskrun: Taskrun, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tasks run where the run was; a given -p is where the person is."""
    first(taskrun)
    cut(taskrun, 2)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    result = taskrun("-r", os.path.relpath(taskrun.folder / "one_status.txt", elsewhere), "-p", "two", cwd=elsewhere)
    assert result.code == 0, result.err
    assert ran(taskrun) == [2, 3, 5]
    assert (elsewhere / "two_status.txt").exists()
    assert not (elsewhere / "ran").exists()
    command = result.err.partition("what failed: ")[2].split()
    again = taskrun(*command[1:], cwd=elsewhere)
    assert again.code == 0, "the command it prints works where the person is"
    command = again.err.partition("what failed: ")[2].split()
    assert taskrun(*command[1:], cwd=elsewhere).code == 0, "also where the new files are in the folder of the run"


def test_a_working_directory_that_is_gone(taskrun: Taskrun) -> None:
    work = taskrun.folder / "work"
    work.mkdir()
    taskrun.write({"tasks.txt": "true\nfalse\n"})
    assert taskrun("../tasks.txt", "-s", "localhost:1", "-p", "../one", cwd=work).code == 0
    work.rmdir()
    result = taskrun("-r", "one_status.txt", "-R")
    assert result.code == 2
    assert re.match(r"taskrun: \S*/work, .*cannot be entered", result.err)


def test_a_task_file_that_is_gone(taskrun: Taskrun) -> None:
    first(taskrun)
    (taskrun.folder / "tasks.txt").rename(taskrun.folder / "renamed.txt")
    result = taskrun("-r", "one_status.txt", "-R")
    assert result.code == 2
    assert re.match(r"taskrun: \S*tasks\.txt, the task file of one_status\.txt, is gone: ", result.err)
    assert taskrun("renamed.txt", "-s", "localhost:1", "-r", "one_status.txt", "-p", "two").code == 0
    assert ran(taskrun) == []


def test_without_a_sidecar(taskrun: Taskrun) -> None:
    first(taskrun)
    (taskrun.folder / "one_run.json").unlink()
    result = taskrun("-r", "one_status.txt")
    assert result.code == 2
    assert "one_run.json" in result.err or "task file" in result.err
    assert taskrun("tasks.txt", "-s", "localhost:1", "-r", "one_status.txt", "-p", "two").code == 0
    assert ran(taskrun) == []


@pytest.mark.parametrize("words", [("--append",), ("-p", "one")])
def test_the_old_file_is_continued(taskrun: Taskrun, words: tuple[str, ...]) -> None:
    first(taskrun)
    cut(taskrun, 3)
    path = taskrun.folder / "one_status.txt"
    before = path.read_bytes()
    result = taskrun("-r", "one_status.txt", *words)
    assert (result.code, ran(taskrun)) == (0, [3, 5])
    assert path.read_bytes().startswith(before)
    assert flags(result.records("one")) == [(0, "    "), (1, "R   "), (2, "    "), (3, "    "), (4, "B    "), (5, "    ")]
    assert taskrun("-r", "one_status.txt", "-R", *words).code == 0
    assert ran(taskrun) == [1]
    assert len(list(taskrun.folder.glob("*_status.txt"))) == 1


def test_per_engine_commands_and_barriers_run_again(taskrun: Taskrun) -> None:
    text = "#TASKRUN PERENGINE START echo start >> engine\n#TASKRUN PERENGINE STOP echo stop >> engine\n" + TASKS
    first(taskrun, text=text)
    result = taskrun("-r", "one_status.txt", "-R", "-p", "two")
    assert (result.code, ran(taskrun)) == (0, [1])
    assert (taskrun.folder / "engine").read_text().split() == ["start", "stop"] * 2
    assert [each["Flags"] for each in result.records() if each["Flags"][3] == "P"] == ["   P", "   P"]


def test_a_skipped_failure_counts(taskrun: Taskrun) -> None:
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": "exit 3\n#TASKRUN BARRIER CHECK\necho 2 >> ran\n"})
    for prefix, words in (("two", ()), ("three", ("--fail-fast",))):
        result = taskrun("-r", "one_status.txt", *words, "-p", prefix)
        assert (result.code, ran(taskrun)) == (1, [])


def test_commands_of_any_bytes(taskrun: Taskrun) -> None:
    text = b"echo 0 >> ran; : 'latin1 \xe9'\necho 1 >> ran; : \"both ' \xe9\"\necho 2 >> ran; : tab\there\necho 3 >> ran; : b'x'\n"
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": text})
    assert ran(taskrun) == [0, 1, 2, 3]
    assert taskrun("-r", "one_status.txt", "-p", "two").code == 0
    assert taskrun("-r", "two_status.txt", "-p", "three").code == 0
    assert ran(taskrun) == []


def test_after_kill_9_the_files_it_left_are_enough(taskrun: Taskrun) -> None:
    text = "echo 0 >> ran\necho 1 >> ran; test -e now || sleep 30\necho 2 >> ran\n"
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": text})
    until(lambda: (taskrun.folder / "ran").exists() and (taskrun.folder / "ran").read_text() == "0\n1\n")
    until(lambda: (taskrun.folder / "one_status.txt").read_text().endswith("\techo 0 >> ran\n"))
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    assert ran(taskrun) == [0, 1]
    (taskrun.folder / "now").touch()
    assert taskrun("-r", "one_status.txt", "-p", "two").code == 0
    assert ran(taskrun) == [1, 2]


@pytest.mark.parametrize("words", [(), ("-p", "one")])
def test_a_run_is_resumed_through_a_link_to_its_folder(taskrun: Taskrun, words: tuple[str, ...]) -> None:
    first(taskrun)
    cut(taskrun, 3)
    (taskrun.folder / "linked").symlink_to(".")
    result = taskrun("-r", "linked/one_status.txt", *words)
    assert result.code == 0, result.err
    assert ran(taskrun) == [3, 5]
    assert not list(taskrun.folder.glob("*.lock"))


def test_resumes_lie_beside_the_first_run_and_the_newest_goes_on(taskrun: Taskrun, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With an odd name, from another folder; the command that is printed is pasted. The older file is refused, unless a run is named."""
    (taskrun.folder / "out").mkdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    taskrun.write({"tasks.txt": "echo 0 >> ran\necho 1 >> ran; exit 1\n"})
    said = taskrun("tasks.txt", "-s", "localhost:1", "-p", "out/it's").err
    ran(taskrun)
    pasted = shlex.split(said.rstrip("\n").rpartition("what failed: ")[2])[1:]
    assert pasted == ["-r", "out/it's_status.txt", "-R"]
    second = taskrun(*pasted)
    assert (second.code, ran(taskrun)) == (0, [1])
    assert "/it's.2_status.txt\n" in second.err
    third = taskrun("-r", str(taskrun.folder / "out/it's.2_status.txt"), "-R", cwd=elsewhere)
    assert (third.code, ran(taskrun)) == (0, [1])
    again = shlex.split(third.err.rstrip("\n").rpartition("what failed: ")[2])
    assert again == ["taskrun", "-r", str(taskrun.folder / "out/it's.3_status.txt"), "-R"]
    assert list(elsewhere.iterdir()) == []
    refused = taskrun("-r", "out/it's_status.txt", "-R")
    assert (refused.code, ran(taskrun)) == (2, [])
    typed = shlex.quote("out/it's.3_status.txt")
    assert f"go on from there with -r {typed}; or name" in refused.err
    assert refused.err == taskrun("-r", "out/it's_status.txt", "-R", "--dry-run").err
    named = taskrun("-r", "out/it's_status.txt", "-R", "-p", "own")
    assert (named.code, ran(taskrun)) == (0, [1])
    assert "was carried on by it's.3_status.txt: what that ran" in named.err
