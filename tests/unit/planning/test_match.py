"""Records by their text."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskrun.model import NO_REPEAT, Task
from taskrun.planning import match
from taskrun.planning.match import ByCommand, digest_of
from taskrun.planning.resume import Resume
from taskrun.status.reader import StatusIndex


def line(number: int, column: bytes, *, repeat: int = NO_REPEAT, code: int = 0, flags: bytes = b"    ") -> bytes:
    return b"%s\t%d\t1\t%d\tvm\t1\t%d\t0.001\t1.000\t1.001\t0\t''\t0\t''\t%s\n" % (flags, number, repeat, code, column)


@pytest.fixture
def indexed(tmp_path: Path):
    made: list[StatusIndex] = []

    def make(*lines: bytes, name: str = "prev_status.txt") -> StatusIndex:
        (tmp_path / name).write_bytes(b"".join(lines))
        made.append(StatusIndex(tmp_path / name))
        return made[-1]

    yield make
    for index in made:
        index.close()


def task(command: bytes, number: int = 9, repeat: int = NO_REPEAT, file: bytes | None = None) -> Task:
    return Task(number, 5, repeat, command, file)


def test_the_nth_of_a_text_is_the_nth_on_record_in_the_order_of_ids(indexed) -> None:
    index = indexed(line(7, b"a"), line(3, b"a"), line(5, b"b"), line(10**7, b"a"), line(4, b"a", repeat=0))
    records = ByCommand(index)
    assert [records.next(digest_of(task(b"a"))) for _ in range(4)] == [3, 7, 10**7, -1]
    assert [records.next(digest_of(task(text))) for text in (b"b", b"b", b"c")] == [5, -1, -1]
    assert records.next(digest_of(task(b"a", repeat=0))) == 4
    records.restart()
    assert records.next(digest_of(task(b"a"))) == 3


def test_no_records(indexed) -> None:
    assert ByCommand(indexed()).next(digest_of(task(b"a"))) == -1


@pytest.mark.parametrize(
    ("column", "command"),
    [
        (b"b'it\\'s \\xff'", b"it's \xff"),
        (b'b"it\'s \\xff"', b"it's \xff"),
        (b"b'x'", b"b'x'"),
        ("ä".encode(), "ä".encode()),
        (b"a\tb", b"a\tb"),
    ],
)
def test_every_way_of_writing_a_command_is_one_text(indexed, column: bytes, command: bytes) -> None:
    assert Resume([indexed(line(0, column))], match="command").decide(task(command)).action == "skip"


def test_barriers_and_per_engine_lines_are_no_tasks_and_later_lines_win(indexed) -> None:
    index = indexed(line(0, b"a", code=1), line(1, b"a", flags=b"B    "), line(0, b"a", flags=b"   P"), line(0, b"b", flags=b"   S"))
    resume = Resume([index], match="command")
    assert [resume.decide(task(text)).action for text in (b"a", b"b")] == ["run", "skip"]


def test_two_texts_of_one_digest_are_told_apart(indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "digest", lambda repeat, column: 1)
    assert Resume([indexed(line(0, b"a"))], match="command").decide(task(b"b")).action == "run"


def test_a_line_of_now(indexed) -> None:
    decision = Resume([indexed(line(3, b"a"))], match="command").decide(task(b"a", number=9))
    assert decision.reason.startswith("as task 3, ended with 0 on vm")
    assert decision.skipped().record == line(9, b"a", flags=b"   S").replace(b"\t1\t-1", b"\t5\t-1", 1)


def test_the_index_of_a_foreach_may_move(indexed) -> None:
    index = indexed(line(0, b"x a", repeat=0), line(1, b"x c", repeat=1), line(2, b"same", repeat=0))
    resume = Resume([index], match="command")
    assert [resume.decide(task(b"x " + name, number, number, name)).action for number, name in enumerate((b"a", b"b", b"c"))] == [
        "skip", "run", "skip",
    ]  # fmt: skip
    assert resume.decide(task(b"same", 3, 0, b"d")).action == "run", "its text does not name its file"


def test_the_newest_file_that_has_it_wins(indexed) -> None:
    old = indexed(line(0, b"a"), line(1, b"a", code=2), name="old")
    new = indexed(line(5, b"a", code=3), name="new")
    resume = Resume([old, new], match="command", retry=True)
    assert [(each.action, each.code) for each in (resume.decide(task(b"a")) for _ in range(3))] == [
        ("retry", 3),
        ("retry", 2),
        ("run", None),
    ]


def test_the_file_of_this_run_is_found_by_id_and_its_failures_had_their_turn(indexed) -> None:
    old = indexed(line(0, b"a", code=1), line(1, b"b"), name="old")
    own = indexed(line(7, b"a", code=1), line(8, b"c"), name="own")
    resume = Resume([old, own], match="command", retry=True, continued=own, own=True)
    decisions = [resume.decide(task(text, number)) for number, text in ((6, b"b"), (7, b"a"), (8, b"c"), (9, b"c"))]
    assert [(each.action, each.code) for each in decisions] == [("skip", 0), ("skip", 1), ("skip", 0), ("run", None)]
    assert [each.skipped().record != b"" for each in decisions[:3]] == [True, False, False]
