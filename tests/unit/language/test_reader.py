"""The reader: lines that are not directives, order, streams, the cap."""

from __future__ import annotations

import subprocess
import sys

import pytest

from taskrun.language.diagnostics import CAP
from taskrun.language.items import Barrier, Item, Lines, PerEngine, Prefix, Repeat
from taskrun.language.reader import Reader


def read(text: bytes, ignore_unknown: bool = False) -> tuple[list[Item], Reader]:
    reader = Reader("tasks.txt", ignore_unknown=ignore_unknown)
    return reader.feed(text) + reader.close(), reader


def told(text: bytes, ignore_unknown: bool = False) -> list[tuple[object, ...]]:
    return [diagnostic[:5] for diagnostic in read(text, ignore_unknown)[1].diagnostics]


def test_a_block_of_plain_lines_is_one_item() -> None:
    items, reader = read(b"a\n\n  # comment\n\tb \n\n#TASKRUN BARRIER\nc")
    assert items == [Lines(1, b"a\n\n  # comment\n\tb \n", 2), Barrier(6, False, None, b"#TASKRUN BARRIER"), Lines(7, b"c", 1)]
    assert isinstance(items[0], Lines)
    assert list(items[0].commands()) == [(1, b"a"), (4, b"\tb ")]
    assert reader.lines == 7


@pytest.mark.parametrize(
    "line", [b"", b" ", b"\t\f\v\r ", b"#", b"# x", b" #DISBATCH BARRIER", b"#taskrun FOO", b"#PREFIXES", b"#prefix x"]
)
def test_comments_and_blank_lines_are_nothing(line: bytes) -> None:
    assert read(line + b"\n" + line)[0] == []
    assert all(diagnostic[0] == "warning" for diagnostic in told(line)), "a near miss of a directive is one, too"


@pytest.mark.parametrize("line", [b"x", b" x ", b"x\r", b"a\rb", b"\xa0", b"\x85", b"\xe2\x80\xa8", b"\x1c", b"\xff # no comment"])
def test_everything_else_is_a_task_to_the_byte(line: bytes) -> None:
    assert read(line)[0] == [Lines(1, line, 1)]


def test_lines_come_out_as_they_are_completed() -> None:
    reader = Reader("-")
    assert reader.feed(b"fir") == []
    assert reader.feed(b"st\nsecond\n#TASK") == [Lines(1, b"first\nsecond", 2)]
    assert reader.feed(b"RUN BARRIER") == []
    assert reader.feed(b"\n") == [Barrier(3, False, None, b"#TASKRUN BARRIER")]
    assert reader.feed(b"") == []
    assert reader.feed(b"last") == []
    assert reader.close() == [Lines(4, b"last", 1)]
    assert reader.close() == []


def test_per_engine_comes_before_the_first_task() -> None:
    items, reader = read(b"# x\n#PREFIX p \n#PERENGINE START a\n#SUFFIX  s\n\n#PERENGINE STOP b\ntrue\n")
    assert [item.line for item in items if isinstance(item, PerEngine)] == [3, 6]
    assert reader.diagnostics == []


@pytest.mark.parametrize("closer", [b"true", b"#TASKRUN REPEAT 0", b"#TASKRUN BARRIER"])
def test_a_late_per_engine_is_refused(closer: bytes) -> None:
    text = b"\n#TASKRUN PREFIX x/\n" + closer + b"\n#TASKRUN PERENGINE START y\n"
    assert told(text) == told(text, True) == [("error", 4, 10, 9, "PERENGINE comes too late, below line 3")]
    assert read(b"# x\n\ntrue\n#PERENGINE STOP x")[1].diagnostics[0][:6] == (
        "error", 4, 2, 9, "PERENGINE comes too late, below line 3", "engines run it before any task: move it above line 3",
    )  # fmt: skip


def test_an_ignored_directive_closes_the_block_as_in_disbatch_but_a_bare_one_does_not() -> None:
    assert [row[0] for row in told(b"#DISBATCH FOO\n#DISBATCH PERENGINE START x\n", True)] == ["warning", "error"]
    assert [row[0] for row in told(b"#PREFIX\tx\n#PERENGINE START x\n", True)] == ["warning"]


def test_an_unknown_directive_does_not_make_others_wrong() -> None:
    assert [row[1] for row in told(b"#TASKRUN PERENGIN START x\n#TASKRUN PERENGINE START x\n")] == [1]


def test_disbatch_and_bare_directives_do_not_mix() -> None:
    hint = "to disBatch a bare `#NAME` is a comment: write `#TASKRUN NAME` for a directive, `# NAME` for a comment"
    for ignore_unknown in (False, True):
        (diagnostic,) = read(b"#DISBATCH PREFIX x\n#TASKRUN PREFIX x\n#REPEAT after me\n#PREFIX y\n", ignore_unknown)[1].diagnostics
        assert diagnostic[:6] == ("error", 3, 1, 7, "`#REPEAT` in a file that has `#DISBATCH` directives (line 1)", hint)
        (diagnostic,) = read(b"#PREFIX x\n#DISBATCH PREFIX x\n", ignore_unknown)[1].diagnostics
        assert diagnostic[:6] == ("error", 2, 1, 9, "`#DISBATCH` in a file that has bare directives (line 1)", hint)


def test_nothing_is_given_after_the_first_error() -> None:
    text = b"a\n# x\nb\n#TASKRUN X\nc\n#TASKRUN BARRIER\n"
    items, reader = read(text)
    assert items == [Lines(1, b"a\n# x\nb", 2)]
    assert reader.feed(b"d\n#TASKRUN Y\n") == []
    assert [diagnostic.line for diagnostic in reader.diagnostics] == [4, 8]
    assert read(b"a\nb\nc\0\nd\n")[0] == [Lines(1, b"a\nb", 2)]
    assert read(b"\n#\nc\0\nd\n")[0] == []


def test_the_cap_bounds_what_is_kept_and_counts_on() -> None:
    reader = Reader("-")
    for _ in range(30):
        reader.feed(b"#TASKRUN FOO\na\0b\n#TASKRUN BARRIER x CHECK\n" * 10)
    assert (reader.errors, reader.warnings) == (600, 300)
    assert len(reader.diagnostics) == 2 * CAP
    errors = [diagnostic.line for diagnostic in reader.diagnostics if diagnostic.severity == "error"]
    assert errors == [line for line in range(1, 200) if line % 3][:CAP]


def test_huge_repeat_costs_nothing() -> None:
    assert read(b"#TASKRUN REPEAT 1000000000000 x")[0] == [Repeat(1, 10**12, 0, 1, b"x")]


def test_a_torn_line_in_many_pieces_is_put_together_once() -> None:
    reader = Reader("-")
    assert all(reader.feed(b"x" * 10) == [] for _ in range(100_000))
    assert reader.feed(b"\n") == [Lines(1, b"x" * 1_000_000, 1)]


def test_lark_is_not_imported_for_plain_lines() -> None:
    program = (
        "import sys; from taskrun.language import Reader; r = Reader('-'); r.feed(b'true\\n# x\\n');"
        "assert 'lark' not in sys.modules; r.feed(b'#PREFIX\\n'); assert 'lark' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_items_name_their_line() -> None:
    assert read(b"#PREFIX a\r\n#REPEAT 1 x\r\ny\r\n")[0] == [Prefix(1, b"a"), Repeat(2, 1, 0, 1, b"x"), Lines(3, b"y", 1)]


def test_a_line_longer_than_a_frame_could_carry_is_refused_and_not_kept() -> None:
    reader = Reader("tasks.txt")
    assert reader.feed(b"true\n") != []
    for _ in range(8):
        assert reader.feed(b"x" * (1 << 20)) == []
    assert reader.feed(b"\nfalse\n") == []
    (found,) = reader.diagnostics
    assert (found.severity, found.line, found.message) == ("error", 2, "line longer than 3 MiB")
