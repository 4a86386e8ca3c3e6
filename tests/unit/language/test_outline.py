"""The outline of a line is what bash makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrun.language.outline import outline

CLEAR = {
    "a; b": ["a", ";", "b"],
    "a && b > x 2>&1 | c &": ["a", "&&", "b > x 2>&1", "|", "c", "&", ""],
    "a |& b || c": ["a", "|&", "b", "||", "c"],
    "(a; b) > x; c": ["(a; b) > x", ";", "c"],
    "for i in 1 2; do a; b; done > x": ["for i in 1 2; do a; b; done > x"],
    "if a; then b; fi && c": ["if a; then b; fi", "&&", "c"],
    "while a; do if b; then c; fi; done; d": ["while a; do if b; then c; fi; done", ";", "d"],
    "echo 'a;b' \"c;$(d;e)\" # x; y": ["echo 'a;b' \"c;$(d;e)\""],
    "echo a#b $# 'x'#y; c": ["echo a#b $# 'x'#y", ";", "c"],
    "# a; b": [""],
    r"find . -exec rm {} \; -print": [r"find . -exec rm {} \; -print"],
    "[[ a < b && c ]] && d": ["[[ a < b && c ]]", "&&", "d"],
    "{ a; b; }; c": ["{ a; b; }", ";", "c"],
    "x=$(a; b) c; d": ["x=$(a; b) c", ";", "d"],
    "x=(a b); d": ["x=(a b)", ";", "d"],
    "a <(b; c) > d; `e; f`": ["a <(b; c) > d", ";", "`e; f`"],
    "echo ${x:-a;b} {1..3} done; a": ["echo ${x:-a;b} {1..3} done", ";", "a"],
    "a <<< x; (( i++ )); b": ["a <<< x", ";", "(( i++ ))", ";", "b"],
    "a &> x; b >& y; c 2>&1 <&3": ["a &> x", ";", "b >& y", ";", "c 2>&1 <&3"],
    r"$'it\'s; ' ; b": [r"$'it\'s; '", ";", "b"],
    "! a; time b": ["! a", ";", "time b"],
}


@pytest.mark.parametrize("line", CLEAR)
def test_a_line_that_is_clear(line: str) -> None:
    found = outline(line.encode())
    assert found is not None
    assert found.is_whole
    commands = [line[start:end].strip() for start, end in found.commands]
    parts = [part for pair in zip(commands, [sep.decode() for sep in found.separators], strict=False) for part in pair]
    assert [*parts, commands[-1]] == CLEAR[line]
    assert found.comment == (line.index("# ") if "# x" in line or line[0] == "#" else -1)


@pytest.mark.parametrize("line", ["bash -c '", 'echo "', "( a; ", "if a; then ", "{ ", "x=$(", "a `b", "for i in 1; do b"])
def test_a_line_that_is_open(line: str) -> None:
    found = outline(line.encode())
    assert found is not None
    assert not found.is_whole


@pytest.mark.parametrize("line", ["f() { a; }", "case a in b) c;; esac", 'echo "$(a "b; c")"; d', "a <<E", "a )"])
def test_a_line_that_is_not_clear(line: str) -> None:
    assert outline(line.encode()) is None


@given(st.text("ab1 ;&|<>()[]{}'\"\\$`#!=", max_size=40), st.text("xif do ne{}", max_size=10))
def test_any_line_has_an_outline_or_none(one: str, other: str) -> None:
    text = (one + other).encode()
    found = outline(text)
    if found is not None:
        assert len(found.commands) == len(found.separators) + 1
        assert found.commands[0][0] == 0
        for (_, end), separator, (start, _) in zip(found.commands, found.separators, found.commands[1:], strict=False):
            assert (text[end:start], end) == (separator, start - len(separator))
