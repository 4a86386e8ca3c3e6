"""What bash says of many lines at once is what it says of each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shell_lines import COMMAND, LACKING, SOUP, WHOLE

from taskrun.driver.syntax import Row, refused, rows, syntax_errors
from taskrun.errors import Refused
from taskrun.language.items import Foreach, Lines, PerEngine, Prefix, Repeat, Suffix


def wrong(lines: list[str]) -> list[str]:
    return [row.command.decode() for row, _ in refused([Row(1, line.encode(), line.encode()) for line in lines])]


def one_by_one(lines: list[str]) -> list[str]:
    return [line for line in lines if wrong([line])]


def test_each_wrong_line_of_a_batch_is_found() -> None:
    assert wrong(WHOLE) == []
    refused_alone = [line for line, kind, *_ in LACKING if kind not in ("backslash", "here-document")]
    assert wrong([line for wrong_line in refused_alone for line in (wrong_line, "true")]) == refused_alone


@pytest.mark.parametrize(
    "lines",
    [
        ["echo 'a", "b'"], ['echo "a', 'b"'], ["echo `a", "b`"], ["(a", "b)"], ["{ a", "}"], ["x=$(a", "b)"],
        ["x=$(echo 'a", "x=$( echo 'a"],
        ["if true; then", "a", "fi"], ["true; )", "( true"], ["true; ) }; { (true"], ["a &&", "b"], ["case x in", "a) b;;", "esac"],
        ["f()", "{ a; }"], ["[[ a & b", "true"], ["echo $((1", "+ 1))"], ["echo ${x", "}"], ["x=(a", "b)"], ["(echo 'a", "'b)"],
    ],
)  # fmt: skip
def test_no_line_helps_another(lines: list[str]) -> None:
    assert wrong(lines) == one_by_one(lines) != []


@settings(max_examples=6)
@given(st.lists(st.one_of(SOUP, COMMAND), max_size=4))
def test_a_batch_is_its_lines(lines: list[str]) -> None:
    assert wrong(lines) == one_by_one(lines)


def test_rows_are_what_is_run_and_nothing_is(tmp_path: Path) -> None:
    items = [
        PerEngine(1, "START", b"mkdir x"), Prefix(2, b"( "), Suffix(3, b" ) > log"), Lines(4, b"# c\na\n\nb", 2),
        Repeat(8, 10**9, 0, 1, b"r"), Foreach(9, b"*", b"f {}", b""),
    ]  # fmt: skip
    found = list(rows(items))
    assert [(row.line, row.command) for row in found] == [
        (1, b"mkdir x"), (5, b"( a ) > log"), (7, b"( b ) > log"), (8, b"( r ) > log"), (9, b"( f {} ) > log"),
    ]  # fmt: skip
    mark = tmp_path / "ran"
    touch = f"touch {mark}; $(touch {mark}) `touch {mark}`".encode()
    assert syntax_errors(iter([Row(1, b"x )", b"( x ) )"), Row(2, touch, touch), Row(3, b"x )", b"( x ) )")]))[0][0][1:6] == (
        1, 1, 3, "bash: syntax error near unexpected token `)'", "as it is run: ( x ) )",
    )  # fmt: skip
    assert not mark.exists()


def test_a_file_of_wrong_lines_is_given_up_at_some_line() -> None:
    errors, given_up = syntax_errors(Row(n, b"%d )" % n, b"%d )" % n) for n in range(1, 10_001))
    assert (len(errors), given_up) == (50, 50)


def test_bash_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert shutil.which("bash")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"bash: cannot be started: No such file or directory; --syntax"):
        refused([Row(1, b"a", b"a")])
