"""What becomes of a task when there are records of earlier runs, and how it is said."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from taskrun.errors import Refused
from taskrun.model import NO_REPEAT, Task
from taskrun.planning.resume import Resume, mismatch_text
from taskrun.status.reader import StatusIndex
from taskrun.status.record import command_column

START = 1795167236.469


def record(
    number: int, code: int = 0, command: bytes = b"true", *, flags: bytes = b"    ", line: int = 1, repeat: int = NO_REPEAT
) -> bytes:
    return b"%s\t%d\t%d\t%d\tvm\t1\t%d\t0.001\t1795167236.462\t%.3f\t0\t''\t0\t''\t%s\n" % (
        flags, number, line, repeat, code, START, command_column(command),
    )  # fmt: skip


def task(number: int, command: bytes = b"true", *, line: int = 1, repeat: int = NO_REPEAT) -> Task:
    return Task(number, line, repeat, command)


@pytest.fixture
def indexed(tmp_path: Path):
    made: list[StatusIndex] = []

    def make(*lines: bytes, name: str = "prev_status.txt") -> StatusIndex:
        path = tmp_path / name
        path.write_bytes(b"".join(lines))
        made.append(StatusIndex(path))
        return made[-1]

    yield make
    for index in made:
        index.close()


WHEN = time.strftime("%Y-%m-%d %H:%M", time.localtime(START))


def test_no_record_runs(indexed) -> None:
    decision = Resume([indexed(record(0))]).decide(task(1))
    assert (decision.action, decision.reason) == ("run", "no record")
    with pytest.raises(ValueError, match="task 1 is not skipped"):
        decision.skipped()
    assert Resume([]).decide(task(1)).action == "run"


@pytest.mark.parametrize("code", [0, 3, -9, -100])
def test_any_record_is_skipped_without_retry(indexed, code: int) -> None:
    decision = Resume([indexed(record(0, code))]).decide(task(0, line=99))
    assert (decision.action, decision.code, decision.record) == ("skip", code, record(0, code))
    assert decision.reason == f"ended with {code} on vm at {WHEN} (prev_status.txt)"
    skipped = decision.skipped()
    assert (skipped.task, skipped.code) == (task(0, line=99), code)
    assert skipped.record.startswith(b"%s\t0\t1\t" % (b"R  S" if code else b"   S"))


@pytest.mark.parametrize("code", [3, -9, -100])
def test_retry_runs_failures_again_and_does_not_compare_them(indexed, code: int) -> None:
    decision = Resume([indexed(record(0, code))], retry=True).decide(task(0, b"corrected", repeat=4))
    assert (decision.action, decision.code) == ("retry", code)
    assert decision.reason == f"failed with {code}; -R runs it again (prev_status.txt)"


def test_retry_skips_what_ended_well(indexed) -> None:
    assert Resume([indexed(record(0))], retry=True).decide(task(0)).action == "skip"


@pytest.mark.parametrize("new", [task(0, b"true b"), task(0, repeat=0), task(0, b"")])
@pytest.mark.parametrize("retry", [False, True])
def test_another_task_is_a_mismatch_unless_forced(indexed, new: Task, retry: bool) -> None:
    index = indexed(record(0))
    decision = Resume([index], retry=retry).decide(new)
    assert (decision.action, decision.reason) == ("mismatch", "another task is on record (prev_status.txt)")
    forced = Resume([index], retry=retry, force=True).decide(new)
    assert (forced.action, forced.forced) == ("skip", True)
    assert forced.reason.endswith("; another task is on record, skipped by --force-resume")
    assert forced.skipped().record == record(0).replace(b"    \t", b"   S\t", 1).replace(b"0.001", b"0.007")


def test_the_later_file_wins_and_within_a_file_the_later_line(indexed) -> None:
    old = indexed(record(0, 0), record(1, 1), record(2, 2), name="a")
    new = indexed(record(0, 5), record(0, 6), record(1, 0), name="b")
    resume = Resume([old, new], retry=True)
    decisions = [resume.decide(task(i)) for i in range(4)]
    assert [(one.action, one.code) for one in decisions] == [("retry", 6), ("skip", 0), ("retry", 2), ("run", None)]
    assert [one.source and one.source.name for one in decisions] == ["b", "b", "a", None]
    assert Resume([new, old], retry=True).decide(task(0)).action == "skip"


def test_skipped_and_late_lines_count_barriers_and_per_engine_lines_do_not(indexed) -> None:
    lines = [record(0, flags=b"   S"), record(1, -100), record(1, flags=b"   Z"), record(2, flags=b"B    "), record(3, flags=b"   P")]
    resume = Resume([indexed(*lines)], retry=True)
    assert [resume.decide(task(i)).action for i in range(4)] == ["skip", "skip", "run", "run"]


@pytest.mark.parametrize("command", [b"true \xff", b"it's \xff", b"b'x'", b"b'\\xff'", b'b"', "日本".encode(), b"a\tb", b" a ", b""])
def test_every_command_matches_its_own_record(indexed, command: bytes) -> None:
    assert Resume([indexed(record(0, command=command))]).decide(task(0, command)).action == "skip"


def test_a_literal_in_another_quoting_matches(indexed) -> None:
    line = record(0, command=b"X").replace(b"\tX\n", b"\tb'it\\'s \\xff'\n")
    assert Resume([indexed(line)]).decide(task(0, b"it's \xff")).action == "skip"


def test_a_file_that_changes_under_it_is_refused(indexed, tmp_path: Path) -> None:
    index = indexed(record(0))
    (tmp_path / "prev_status.txt").write_bytes(b"x\t0\ty\n")
    with pytest.raises(Refused, match="was changed"):
        Resume([index]).decide(task(0))


def test_times_nobody_can_read_are_left_out(indexed) -> None:
    line = record(0).replace(b"1795167236.469", b"1e300")
    assert Resume([indexed(line)]).decide(task(0)).reason == "ended with 0 on vm (prev_status.txt)"


def test_mismatches_side_by_side(indexed) -> None:
    index = indexed(record(0, command=b"true b", line=2), record(1, command=b"x" * 100 + b"\ta" + b"y" * 100), record(2))
    resume = Resume([index])
    mismatches = [
        resume.decide(task(0, b"true B", line=3)),
        resume.decide(task(1, b"x" * 100 + b"\tb" + b"y" * 100)),
        resume.decide(task(2, line=12, repeat=5)),
    ]
    assert mismatch_text(mismatches, 9) == (
        "9 tasks are not what prev_status.txt has on record: nothing was run\n"
        "  task 0\n"
        "    on record, line 2: true b\n"
        "    now, line 3:       true B\n"
        "                            ^\n"
        "  task 1\n"
        "    on record, line 1: …xxxxxxxxxxxxxxxxxxxxxx\\tayyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…\n"
        "    now, line 1:       …xxxxxxxxxxxxxxxxxxxxxx\\tbyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy…\n"
        "                                                ^\n"
        "  task 2\n"
        "    on record, line 1:      true\n"
        "    now, line 12, repeat 5: true\n"
        "  … and 6 more\n"
        "Undo the change; or --match command finds tasks by their text, --force-resume skips them all the same; without -r every task runs."
    )


def test_one_mismatch_with_bytes_and_escapes(indexed) -> None:
    decision = Resume([indexed(record(0, command=b"a\x1b[31m\xff"))]).decide(task(0, b"a\x1b[31m\xfe\n"))
    assert mismatch_text([decision]).splitlines()[:4] == [
        "1 task is not what prev_status.txt has on record: nothing was run",
        "  task 0",
        "    on record, line 1: a\\x1b[31m\\xff",
        "    now, line 1:       a\\x1b[31m\\xfe\\n",
    ]
