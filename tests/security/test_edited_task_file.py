"""A resume runs what the person wrote: lines that have not run and were changed since are refused, whoever changed them."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Result, Taskrun, until

from taskrun.driver import edited
from taskrun.driver.task_text import TaskText
from taskrun.errors import Refused
from taskrun.planning.edits import GROUPS_MOST
from taskrun.status.sidecar import Lines, Sidecar, TaskFile, load

#: Each notes its id; 1 fails with 3 until `now` is there; the third stops the run.
TASKS = """\
# what is done first
echo $TASKRUN_TASKID >> ran
echo $TASKRUN_TASKID >> ran; test -e now || exit 3
echo $TASKRUN_TASKID >> ran; test -e go || kill -TERM $PPID; sleep 0.$TASKRUN_TASKID

# and then
#TASKRUN PREFIX (
#TASKRUN SUFFIX )
echo $TASKRUN_TASKID >> ran
#TASKRUN REPEAT 2 echo $TASKRUN_TASKID >> ran
echo $TASKRUN_TASKID >> ran
"""
FORCED = ("--force-resume",)
MATCHED = ("--match", "command")


def ran(taskrun: Taskrun) -> list[int]:
    """Ids of the tasks that ran since the last question."""
    path = taskrun.folder / "ran"
    ids = sorted(int(line) for line in path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return ids


@pytest.fixture
def stopped(taskrun: Taskrun) -> Taskrun:
    """After a run of which tasks 0 and 1 have records, and nothing else: 2 to 6 have not run."""
    begun(taskrun, TASKS)
    return taskrun


def begun(taskrun: Taskrun, text: str, keep: int = 2) -> None:
    """As if the run had been stopped after its first tasks."""
    taskrun.write({"now": "", "go": "", "tasks.txt": text})
    (taskrun.folder / "now").unlink()
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "one").code == 0
    ran(taskrun)
    path = taskrun.folder / "one_status.txt"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:keep]))


def edit(taskrun: Taskrun, old: str, new: str, text: str = TASKS) -> None:
    assert old in text
    taskrun.write({"tasks.txt": text.replace(old, new, 1)})


def resume(taskrun: Taskrun, *words: str) -> Result:
    return taskrun("-r", "one_status.txt", "-p", "two", *words)


def test_an_unrun_line_that_was_changed_is_refused(stopped: Taskrun) -> None:
    edit(stopped, "sleep 0.$", "rm -rf precious; sleep 0.$")
    result = resume(stopped)
    assert (result.code, ran(stopped)) == (2, [])
    sentence, ways = result.err.splitlines()
    assert sentence == (
        f"taskrun: {stopped.folder}/tasks.txt:4:1: this line is not what it was, or a directive above it is not, when one_status.txt was "
        "written, and 1 task that has not run would run changed: nothing was run"
    )
    assert all(way in ways for way in ("Undo the change", "--match command", "--force-resume"))
    assert not list(stopped.folder.glob("two*"))
    assert resume(stopped, "-R").code == 2
    edit(stopped, "TASKS", "TASKS", "TASKS")
    stopped.write({"tasks.txt": TASKS})
    assert (resume(stopped).code, ran(stopped)) == (0, [2, 3, 4, 5, 6])


@pytest.mark.parametrize("words", [FORCED, MATCHED])
def test_who_says_so_runs_it(stopped: Taskrun, words: tuple[str, ...]) -> None:
    edit(stopped, "sleep 0.$TASKRUN_TASKID", "echo 99 >> ran")
    result = resume(stopped, *words)
    assert (result.code, ran(stopped)) == (0, [2, 3, 4, 5, 6, 99]), result.err


def test_a_failed_line_may_be_changed(stopped: Taskrun) -> None:
    """Which is what -R is for; with a line that was added below, too."""
    edit(stopped, "test -e now || exit 3", "true")
    assert resume(stopped).code == 2, "what is skipped must be what is on record"
    result = resume(stopped, "-R")
    assert (result.code, ran(stopped)) == (0, [1, 2, 3, 4, 5, 6]), result.err
    assert "added" not in result.err


def test_a_failed_line_may_be_changed_and_lines_added(stopped: Taskrun) -> None:
    stopped.write({"tasks.txt": TASKS.replace("test -e now || exit 3", "true") + "# more\necho 7 >> ran\necho 8 >> ran\n"})
    result = resume(stopped, "-R")
    assert (result.code, ran(stopped)) == (0, [1, 2, 3, 4, 5, 6, 7, 8]), result.err
    assert "taskrun: 2 lines were added to tasks.txt since the earlier run\n" in result.err


def test_lines_that_were_added_run(stopped: Taskrun) -> None:
    for text, said in (("echo 7 >> ran\n", "1 line was added to"), ("echo 7 >> ran\n\necho 8 >> ran", "3 lines were added to")):
        stopped.write({"tasks.txt": TASKS + text})
        result = stopped("-r", "one_status.txt", "-p", f"two{len(text)}")
        assert (result.code, ran(stopped)) == (0, [2, 3, 4, 5, 6, 7, 8][: 6 + text.count("8")]), result.err
        assert f"taskrun: {said} tasks.txt since the earlier run\n" in result.err


def test_comments_and_blank_lines_may_come_and_go(stopped: Taskrun) -> None:
    stopped.write({"tasks.txt": "# new\n\n" + TASKS.replace("# and then\n", "").replace("# what is done first", "# first") + "\n"})
    assert (resume(stopped).code, ran(stopped)) == (0, [2, 3, 4, 5, 6])


@pytest.mark.parametrize(
    ("old", "new", "line", "tasks"),
    [
        ("PREFIX (", "PREFIX (rm -rf precious;", 9, 4),
        ("#TASKRUN SUFFIX )\n", "", 8, 4),
        ("REPEAT 2", "REPEAT 3", 10, 4),
        ("#TASKRUN REPEAT", "#TASKRUN BARRIER\n#TASKRUN REPEAT", 11, 3),
        ("# and then\n", "#TASKRUN BARRIER\n", 9, 4),
        ("# and then\n", "echo 99 >> ran\n", 6, 4),
        (
            "echo $TASKRUN_TASKID >> ran\n#TASKRUN REPEAT 2 echo $TASKRUN_TASKID >> ran\n",
            "#TASKRUN REPEAT 3 echo $TASKRUN_TASKID >> ran\n",
            9,
            4,
        ),
        ("SUFFIX )\necho", "SUFFIX )\necho -n '';echo", 9, 1),
    ],
)
def test_directives_above_unrun_lines_count(stopped: Taskrun, old: str, new: str, line: int, tasks: int) -> None:
    edit(stopped, old, new)
    result = resume(stopped)
    assert (result.code, ran(stopped)) == (2, []), result.err
    match = re.search(r"tasks\.txt:(\d+):1: .* (\d+) tasks? that (?:has|have) not run", result.err)
    assert match, result.err
    assert (int(match[1]), int(match[2])) == (line, tasks)


def test_a_dry_run_says_the_same(stopped: Taskrun) -> None:
    edit(stopped, "sleep 0.$", "sleep 0.0$")
    dry, wet = stopped("-r", "one_status.txt", "--dry-run"), resume(stopped)
    assert (dry.code, dry.err) == (2, wet.err)
    assert stopped("-r", "one_status.txt", "--dry-run", *FORCED).code == 0
    stopped.write({"tasks.txt": TASKS + "true\n"})
    assert "1 line was added to tasks.txt" in stopped("-r", "one_status.txt", "--dry-run").err


def test_also_with_the_task_file_named_and_for_a_file_that_is_continued(stopped: Taskrun) -> None:
    edit(stopped, "sleep 0.$", "sleep 0.0$")
    named = ("tasks.txt", "-s", "localhost:1", "-r", "one_status.txt")
    for words in ((*named, "-p", "two"), ("-r", "one_status.txt", "--append"), ("-r", "one_status.txt", "-p", "one")):
        result = stopped(*words)
        assert (result.code, "tasks.txt:4:1: " in result.err) == (2, True), result.err
    assert ran(stopped) == []


def test_a_sidecar_that_does_not_tell_of_lines(stopped: Taskrun) -> None:
    """Of an older version, or of a run that was killed before they were known."""
    path = stopped.folder / "one_run.json"
    sidecar: dict[str, Any] = json.loads(path.read_text())
    assert (sidecar["task_file"]["lines"]["count"], sidecar["task_file"]["lines"]["group"]) == (8, 1)
    del sidecar["task_file"]["lines"]
    path.write_text(json.dumps(sidecar))
    edit(stopped, "sleep 0.$", "sleep 0.0$")
    result = resume(stopped)
    assert result.code == 2
    assert result.err.startswith(
        f"taskrun: {stopped.folder}/tasks.txt: the file was changed since one_status.txt was written, which does not tell whether that "
        "concerns the 5 tasks that have not run: nothing was run\n"
    )
    stopped.write({"tasks.txt": TASKS + "echo 7 >> ran\n"})
    assert (resume(stopped).code, ran(stopped)) == (0, [2, 3, 4, 5, 6, 7]), "the old bytes are all there"


@pytest.mark.parametrize("evil", ["#TASKRUN PREFIX touch evil;\n", "touch evil\n"])
def test_the_last_line_pushed_down_is_no_added_one(taskrun: Taskrun, evil: str) -> None:
    begun(taskrun, "echo 0 >> ran\necho 1 >> ran\n", keep=1)
    taskrun.write({"tasks.txt": f"echo 0 >> ran\n{evil}echo 1 >> ran\n"})
    result = resume(taskrun)
    assert (result.code, "1 task that has not run would run changed" in result.err) == (2, True), result.err
    assert ran(taskrun) == []


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A sidecar as a run writes it."""
    path = tmp_path_factory.mktemp("written") / "x_run.json"
    file = TaskFile("/x", "ab", 3, Lines(2, 1, "0" * 32, ""))
    run = Sidecar("r", "1", [], "/", "x_status.txt", [], {}, "vm", 1, "b", 1.0, file)
    run.write(path)
    assert load(path).task_file == file
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize(
    "change",
    [
        {"count": -1},
        {"count": 10**30},
        {"count": True},
        {"group": 0},
        {"group": 1e300},
        {"digests": "x" * 32},
        {"digests": ""},
        {"directives": None},
        {"directives": "\x1b[2J"},
    ],
    ids=str,
)
def test_lines_that_cannot_be(written: dict[str, Any], tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "x_run.json"
    lines = {**written["task_file"]["lines"], **change}
    path.write_text(json.dumps({**written, "task_file": {**written["task_file"], "lines": lines}}))
    with pytest.raises(Refused, match=r"the key 'task_file.*' has a value it cannot have"):
        load(path)


def test_nothing_that_has_not_run_nothing_to_compare(taskrun: Taskrun) -> None:
    begun(taskrun, TASKS, keep=99)
    edit(taskrun, "test -e now || exit 3", "true")
    assert (resume(taskrun, "-R").code, ran(taskrun)) == (0, [1])


def test_a_resume_compares_with_the_run_before_it(stopped: Taskrun) -> None:
    """Not with the first one: what that run was allowed to run is the file since."""
    edit(stopped, "sleep 0.$TASKRUN_TASKID", "true")
    assert resume(stopped, *FORCED).code == 0
    path = stopped.folder / "two_status.txt"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    ran(stopped)
    assert (stopped("-r", "two_status.txt", "-p", "three").code, ran(stopped)) == (0, [2, 3, 4, 5, 6])
    stopped.write({"tasks.txt": TASKS})
    assert stopped("-r", "two_status.txt", "-p", "four").code == 2


def test_a_long_file_is_compared_in_groups(taskrun: Taskrun) -> None:
    lines = [f"echo {number} >> ran\n" for number in range(2500)]
    begun(taskrun, "".join(lines), keep=2000)
    found = json.loads((taskrun.folder / "one_run.json").read_text())["task_file"]["lines"]
    assert (found["count"], found["group"], len(found["digests"])) == (2500, 3, 834 * 16)
    lines[2100] = "echo evil >> ran\n"
    taskrun.write({"tasks.txt": "".join(lines)})
    result = resume(taskrun)
    assert result.code == 2
    assert "tasks.txt:2101:1: lines 2101 to 2103, or directives above them, are not what they were" in result.err
    assert "3 tasks that have not run may run changed" in result.err
    assert ran(taskrun) == []


# while it runs


def test_a_run_whose_file_was_changed_does_not_suggest_to_go_on_as_it_is(taskrun: Taskrun) -> None:
    text = "touch started; until test -e go; do sleep 0.05; done\n" + "echo >> ran\n" * 300
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": text})
    until((taskrun.folder / "started").exists, what="the first task")
    taskrun.write({"tasks.txt": text.removesuffix("echo >> ran\n" * 100) + "touch evil\n" * 100, "go": ""})
    result = running.finish()
    assert result.code == 3
    assert "tasks.txt:202:1: this line was changed during the run: nothing below line 201 was run" in result.err
    last = result.err.splitlines()[-1]
    assert last == (
        "the task file is not what it was: restore it; or look at what was changed and go on with the file as it is: "
        "taskrun -r one_status.txt --match command (or --force-resume)"
    )
    refused = taskrun("-r", "one_status.txt", "-p", "two")
    assert (refused.code, "100 tasks that have not run would run changed" in refused.err) == (2, True), refused.err
    assert not (taskrun.folder / "evil").exists()


FIRST = {"SLURM_JOB_ID": "77"}
AGAIN = {**FIRST, "SLURM_RESTART_COUNT": "1"}


@pytest.mark.parametrize("words", [(), ("-r", "old_status.txt", *MATCHED)])
def test_a_job_that_is_started_again(taskrun: Taskrun, words: tuple[str, ...]) -> None:
    """Nobody is there to say that the change is right; --match was said of another file."""
    taskrun.write({"old_status.txt": ""})
    text = "echo $TASKRUN_TASKID >> ran\ntouch started; until test -e go; do sleep 0.05; done\necho $TASKRUN_TASKID >> ran\n"
    given = ("tasks.txt", "-s", "localhost:1", *words)
    running = taskrun.start(*given, files={"tasks.txt": text}, env=FIRST)
    until((taskrun.folder / "started").exists, what="the second task")
    running.send(signal.SIGTERM)
    assert running.finish().code == 3
    ran(taskrun)
    taskrun.write({"tasks.txt": text.removesuffix("echo $TASKRUN_TASKID >> ran\n") + "touch evil\n", "go": ""})
    result = taskrun(*given, env=AGAIN)
    assert (result.code, "tasks.txt:3:1: this line is not what it was" in result.err) == (2, True), result.err
    assert not (taskrun.folder / "evil").exists()
    taskrun.write({"tasks.txt": text})
    assert (taskrun(*given, env=AGAIN).code, ran(taskrun)) == (0, [2])


def test_streams_have_no_file(taskrun: Taskrun) -> None:
    text = "echo 0 >> ran\necho 1 >> ran\n"
    assert taskrun("-", "-s", "localhost:1", "-p", "one", stdin=text.encode()).code == 0
    ran(taskrun)
    path = taskrun.folder / "one_status.txt"
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert taskrun("-", "-r", "one_status.txt", "-p", "two", stdin=text.replace("echo 1", "echo 2").encode()).code == 0
    assert ran(taskrun) == [2]


# long files


@pytest.fixture
def long_file(tmp_path: Path) -> Path:
    path = tmp_path / "long.txt"
    path.write_bytes(b"".join(b"true %d\n" % number for number in range(edited.AT_ONCE_LINES + 1)))
    return path


def text_of(path: Path) -> TaskText:
    return TaskText(path, str(path), ignore_unknown=False)


def looked(later: edited.LaterLines) -> Callable[[], Any]:
    return later.step


def test_digests_of_a_long_file_come_later(long_file: Path) -> None:
    text = text_of(long_file)
    later = edited.LaterLines(text, text.scan)
    assert later.step() is None, "not in the first second"
    found = until(looked(later), what="the digests")
    assert found == edited.lines_of(text, text.scan)
    assert (found.count, len(found.digests) // 16) == (edited.AT_ONCE_LINES + 1, -(-found.count // found.group))
    assert len(found.digests) // 16 <= GROUPS_MOST
    assert later.step() is None
    assert later.finish() == found


def test_at_the_end_they_are_there(long_file: Path) -> None:
    text = text_of(long_file)
    assert edited.LaterLines(text, text.scan).finish() == edited.lines_of(text, text.scan)


def test_a_file_that_was_changed_meanwhile_has_none(long_file: Path) -> None:
    text = text_of(long_file)
    os.truncate(long_file, 1000)
    assert edited.lines_of(text, text.scan) is None
    long_file.unlink()
    assert edited.lines_of(text, text.scan) is None


def test_they_are_in_the_sidecar_of_a_run(taskrun: Taskrun) -> None:
    text = "exit 1\n" + "# a comment\n" * (edited.AT_ONCE_LINES + 1)
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": text})
    found = result.sidecar()["task_file"]["lines"]
    assert (found["count"], found["group"], len(found["digests"])) == (1, 20, 16)
