"""Records of tasks that the task file no longer has."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from taskrun.model import NO_REPEAT, Barrier, Task
from taskrun.planning.gone import Gone, gone_text
from taskrun.planning.resume import Resume
from taskrun.status.reader import StatusIndex


def record(number: int, command: str = "") -> bytes:
    return f"    \t{number}\t{number + 1}\t-1\tvm\t1\t0\t0.001\t1.000\t1.001\t0\t''\t0\t''\t{command or f'echo {number}'}\n".encode()


def task(number: int, command: str = "") -> Task:
    return Task(number, number + 1, NO_REPEAT, (command or f"echo {number}").encode())


def gone(folder: Path, files: dict[str, list[bytes]], plan: list[Task | Barrier], match: str = "id") -> Gone:
    with contextlib.ExitStack() as stack:
        indexes = []
        for name, lines in files.items():
            (folder / name).write_bytes(b"".join(lines))
            indexes.append(stack.enter_context(StatusIndex(folder / name)))
        resume = Resume(indexes, match=match)
        for _ in range(2):  # as a run does, which goes through the plan twice
            resume.restart()
            for item in plan:
                if isinstance(item, Task):
                    resume.decide(item)
                else:
                    resume.unclaimed.barrier(item.id)
            found = resume.unclaimed.find(len(plan))
        return found


def test_none_is_gone(tmp_path: Path) -> None:
    records = [record(0), record(1), record(1)]
    for match in ("id", "command"):
        assert gone(tmp_path, {"a": records}, [task(0), task(1), task(2)], match) == Gone(0, ())
    assert gone_text(Gone(0, ()), "tasks.txt", "new") == ""


def test_beyond_the_end_and_where_a_barrier_is_now(tmp_path: Path) -> None:
    stray = 10_000_000  # far from the others
    found = gone(
        tmp_path, {"a": [record(number) for number in (*range(6), stray)]}, [task(0), Barrier(1, 2, False, None, b"#BARRIER"), task(2)]
    )
    assert found == Gone(5, (("a", record(1)), ("a", record(3)), ("a", record(4))))
    text = "5 records of a are of tasks that tasks.txt does not have any more (task 1: echo 1; task 3: echo 3; task 4: echo 4; 2 more)"
    assert gone_text(found, "tasks.txt", "b") == f"{text}: they stay there and are not in b"
    assert gone_text(found, "tasks.txt", "") == f"{text}: they stay there"


def test_each_once_of_several_files_the_newer_one_first(tmp_path: Path) -> None:
    found = gone(tmp_path, {"old": [record(0), record(1), record(2)], "new": [record(1, "x" * 60)]}, [task(0)])
    assert found == Gone(2, (("new", record(1, "x" * 60)), ("old", record(2))))
    assert (
        gone_text(found, "t", "")
        == f"2 records of new, old are of tasks that t does not have any more (task 1: {'x' * 39}…; task 2: echo 2): they stay there"
    )


@pytest.mark.parametrize("numbers", [range(4), (0, 1, 2, 10_000_000)])
def test_by_command_what_no_task_claims(tmp_path: Path, numbers: range) -> None:
    """Of two records with one text the first is claimed by the one task that has it."""
    last = numbers[-1]
    records = [record(0), record(1, "twice"), record(2, "twice"), record(last, "moved")]
    found = gone(tmp_path, {"a": records}, [task(0, "moved"), task(1, "twice")], "command")
    assert found == Gone(2, (("a", record(0)), ("a", record(2, "twice"))))
    assert gone_text(Gone(1, found.first[:1]), "t", "b") == (
        "1 record of a is of a task that t does not have any more (task 0: echo 0): it stays there and is not in b"
    )


def test_by_command_nothing_is_said_where_the_text_does_not_tell_files_apart(tmp_path: Path) -> None:
    plan: list[Task | Barrier] = [task(0)._replace(file=b"a.txt")]
    assert gone(tmp_path, {"a": [record(0)]}, plan, "command") == Gone(0, ())
