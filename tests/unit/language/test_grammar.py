"""The grammar as the definition of a whole file."""

from __future__ import annotations

from pathlib import Path

from taskrun.language.grammar import grammar_text, parse_lines
from taskrun.language.items import Barrier, Lines, Prefix
from taskrun.language.meaning import Meaning
from taskrun.language.whole import parse_whole


def test_the_grammar_is_the_file_in_the_checkout() -> None:
    assert grammar_text() == Path(__file__).parents[3].joinpath("grammar", "taskfile.lark").read_text("utf-8")


def test_a_whole_file() -> None:
    whole = parse_whole(b"\xff\n\n # x\n#PREFIX  p/\n#BARRIER k\ntrue")
    assert whole.items == [Lines(1, b"\xff", 1), Prefix(4, b" p/"), Barrier(5, False, b"k", b"#BARRIER k"), Lines(6, b"true", 1)]
    assert whole.diagnostics == []
    assert parse_whole(b"") == ([], [])


def test_every_directive_line_has_a_meaning_with_its_place() -> None:
    first, second = parse_lines(b"\n#TASKRUN X\n\n#REPEAT 1")
    assert isinstance(first, Meaning)
    assert isinstance(second, Meaning)
    assert [(first.sigil, first.line), (second.sigil, second.line)] == [("#TASKRUN", 2), ("#", 4)]
