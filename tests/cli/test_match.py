"""`-r STATUS --match command`: tasks are found by their text when lines were added, removed or moved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Record, Result, Taskrun
from hypothesis import given
from hypothesis import strategies as st

from taskrun.language import Reader
from taskrun.model import Task
from taskrun.planning.expand import Expander
from taskrun.planning.resume import Resume
from taskrun.status.reader import StatusIndex
from taskrun.status.record import command_column, command_of

FIVE = """\
echo a >> ran
echo b >> ran
test -e now; code=$?; echo c >> ran; exit $code
echo a >> ran
#REPEAT 2 echo r$TASKRUN_REPEAT_INDEX >> ran
"""
EDITED = """\
# a comment and new lines
echo new >> ran
#REPEAT 3 echo r$TASKRUN_REPEAT_INDEX >> ran
echo a >> ran
echo a >> ran
echo a >> ran
test -e now; code=$?; echo c >> ran; exit $code
"""


GONE = re.compile(r"taskrun: 1 record of run_status\.txt is of a task that tasks\.txt does not have any more \(task 1: .*\n")


def said(result: Result) -> str:
    """What is said beside that one line is in the file no more."""
    return GONE.sub("", re.sub(r" in \d+\.\d s · ", " in N s · ", result.err))


def ran(taskrun: Taskrun) -> list[str]:
    path = taskrun.folder / "ran"
    lines = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def rows(records: list[Record]) -> list[tuple[str, int, int, int, int]]:
    return sorted(
        ((each["Flags"], each["TaskID"], each["LineNum"], each["RepeatIndex"], each["ReturnCode"]) for each in records),
        key=lambda row: row[1],
    )


@pytest.fixture
def edited(taskrun: Taskrun) -> Taskrun:
    """A run whose task file was edited after its end."""
    taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": FIVE})
    assert ran(taskrun) == ["a", "b", "c", "a", "r0", "r1"]
    taskrun.write({"tasks.txt": EDITED})
    return taskrun


def test_by_id_an_edited_file_is_refused_and_the_way_out_is_named(edited: Taskrun) -> None:
    result = edited("-r", "run_status.txt", "-p", "two")
    assert result.code == 2
    assert result.err.startswith("taskrun: 6 tasks are not what run_status.txt has on record: nothing was run\n")
    ways_out = "Undo the change; or --match command finds tasks by their text, --force-resume skips them all the same; "
    assert result.err.endswith(f"\n{ways_out}without -r every task runs.\n")
    assert ran(edited) == []


def test_exactly_what_has_no_record_runs(edited: Taskrun) -> None:
    result = edited("-r", "run_status.txt", "--match", "command", "-p", "two")
    assert (result.code, said(result).split("\n")[0]) == (0, "taskrun: 3 tasks done, 4 skipped, 1 failed in N s · two_status.txt")
    assert GONE.search(result.err)
    assert ran(edited) == ["new", "r2", "a"]
    assert rows(result.records()) == [
        ("    ", 0, 2, -1, 0),
        ("   S", 1, 3, 0, 0),
        ("   S", 2, 3, 1, 0),
        ("    ", 3, 3, 2, 0),
        ("   S", 4, 4, -1, 0),
        ("   S", 5, 5, -1, 0),
        ("    ", 6, 6, -1, 0),
        ("R  S", 7, 7, -1, 1),
    ]


def test_its_file_resumes_plainly_by_id(edited: Taskrun) -> None:
    edited("-r", "run_status.txt", "--match", "command", "-p", "two")
    ran(edited)
    assert said(edited("-r", "two_status.txt", "-p", "three")).startswith("taskrun: nothing is left to run: 7 skipped, 1 failed")
    (edited.folder / "now").touch()
    result = edited("-r", "two_status.txt", "-R", "-p", "four")
    assert said(result) == "taskrun: 1 task done, 7 skipped, none failed in N s · four_status.txt\n"
    assert ran(edited) == ["c"]


def test_failures_run_again_with_retry(edited: Taskrun) -> None:
    (edited.folder / "now").touch()
    result = edited("-r", "run_status.txt", "-R", "--match", "command", "-p", "two")
    assert said(result) == "taskrun: 4 tasks done, 4 skipped, none failed in N s · two_status.txt\n"
    assert ran(edited) == ["new", "r2", "a", "c"]


def test_both_files_of_two_runs_count_a_task_once(edited: Taskrun) -> None:
    edited("-r", "run_status.txt", "--match", "command", "-p", "two")
    ran(edited)
    edited.write({"tasks.txt": EDITED + "echo a >> ran\n"})
    result = edited("-r", "run_status.txt", "-r", "two_status.txt", "--match", "command", "-p", "three")
    assert said(result).startswith("taskrun: 1 task done, 7 skipped, 1 failed")
    assert ran(edited) == ["a"]


def test_nothing_is_continued_in_place(edited: Taskrun) -> None:
    before = (edited.folder / "run_status.txt").read_bytes()
    for flags in (("--append",), ("-p", "run")):
        result = edited("-r", "run_status.txt", "--match", "command", *flags)
        sentence = f"--match command gives tasks new ids, and {edited.folder}/run_status.txt has the old ones"
        assert (result.code, result.err) == (2, f"taskrun: {sentence}: leave out --append and -p for a new file\n")
    assert (edited.folder / "run_status.txt").read_bytes() == before


def test_it_is_not_inherited_and_dry_run_gives_the_reasons(edited: Taskrun) -> None:
    plan = edited("--dry-run", "-r", "run_status.txt", "--match", "command")
    told = [re.sub(r" at \d{4}-\d\d-\d\d \d\d:\d\d", "", re.sub(r" on \S+", "", line)).split("\t") for line in plan.out.splitlines()]
    assert [(line[0], line[1], line[4]) for line in told] == [
        ("run", "0", "no record"),
        ("skip", "1", "as task 4, ended with 0 (run_status.txt)"),
        ("skip", "2", "as task 5, ended with 0 (run_status.txt)"),
        ("run", "3", "no record"),
        ("skip", "4", "as task 0, ended with 0 (run_status.txt)"),
        ("skip", "5", "as task 3, ended with 0 (run_status.txt)"),
        ("run", "6", "no record"),
        ("skip", "7", "as task 2, ended with 1 (run_status.txt)"),
    ]
    assert re.search(r"^taskrun: 3 to run, 4 skipped, 1 failed; ", plan.err, re.MULTILINE)
    edited("-r", "run_status.txt", "--match", "command", "-p", "two")
    assert "match" not in edited("-r", "two_status.txt", "-p", "three").sidecar("three")["options"]


def test_a_stream_and_bytes_that_are_not_utf8(taskrun: Taskrun) -> None:
    taskrun("-", "-s", "localhost:1", "-p", "run", stdin=b"true \xff\ntrue 'it\\'s' \xe9'\n")
    result = taskrun(
        "-",
        "-r",
        "run_status.txt",
        "--match",
        "command",
        "-s",
        "localhost:1",
        "-p",
        "two",
        stdin=b"true x\ntrue 'it\\'s' \xe9'\ntrue \xff\n",
    )
    assert result.code == 0
    assert sorted((each["TaskID"], each["Flags"][3]) for each in result.records()) == [(0, " "), (1, "S"), (2, "S")]


def test_a_wrong_word_is_refused(taskrun: Taskrun) -> None:
    result = taskrun("t", "--match", "line", files={"t": "true\n"})
    assert result.code == 2
    assert re.fullmatch(
        r"taskrun: argument --match: invalid choice: 'line' \(choose from .*id.*command.*\) \(see taskrun --help\)\n", result.err
    )


# --- any insertion, removal and move of lines

TEXTS = st.sampled_from([b"a", b"b", b"c \xff", b"#REPEAT 2 a", b"#REPEAT 3 start 1 a", b"#BARRIER", b"# x", b"b'\\xff'"])
FILES = st.lists(TEXTS, max_size=10)


def expand(lines: list[bytes]) -> list[Task]:
    reader, expander = Reader("-"), Expander()
    items = reader.feed(b"".join(line + b"\n" for line in lines))
    return [value for item in items for value in expander.expand(item) if isinstance(value, Task)]


def record(task: Task, code: int, flags: bytes = b"    ") -> bytes:
    head = b"%s\t%d\t%d\t%d\tvm\t1\t%d\t0.001\t1.000\t1.001\t0\t''\t0\t''\t" % (flags, task.id, task.line, task.repeat, code)
    return head + command_column(task.command) + b"\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    return tmp_path_factory.mktemp("match")


@given(old=FILES, new=FILES, data=st.data(), retry=st.booleans())
def test_exactly_the_tasks_whose_text_has_a_record_are_skipped(
    folder: Path, old: list[bytes], new: list[bytes], data: st.DataObject, retry: bool
) -> None:
    before, after = expand(old), expand(new)
    ended = [(task, code) for task in before for code in [data.draw(st.sampled_from([None, 0, 3]))] if code is not None]
    path = folder / "old_status.txt"
    path.write_bytes(b"".join(record(*each) for each in data.draw(st.permutations(ended))) or b"")
    codes: dict[tuple[int, bytes], list[int]] = {}
    for task, code in ended:  # the nth of a text is the nth on record
        codes.setdefault((task.repeat, command_column(task.command)), []).append(code)
    with StatusIndex(path) as index:
        resume = Resume([index], retry=retry, match="command")
        for _ in range(2):
            left = {key: list(each) for key, each in codes.items()}
            lines = []
            for task in after:
                decision = resume.decide(task)
                on_record = left.get((task.repeat, command_column(task.command)))
                code = on_record.pop(0) if on_record else None
                expected = "run" if code is None else "retry" if retry and code else "skip"
                assert (decision.action, decision.code) == (expected, code)
                if expected == "skip":
                    lines.append(decision.skipped().record)
            resume.restart()
    path = folder / "new_status.txt"
    path.write_bytes(b"".join(lines))
    with StatusIndex(path) as index:
        by_id = Resume([index])
        assert [by_id.decide(task).action for task in after].count("skip") == len(lines)
        assert not [task for task in after if by_id.decide(task).action == "mismatch"]


def test_a_literal_and_the_bytes_it_means_are_one_text_in_any_quoting() -> None:
    assert command_of(b'b"it\'s \\xff"') == b"it's \xff"
