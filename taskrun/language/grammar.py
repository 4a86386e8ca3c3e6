"""The grammar of the task file, and the parser that is made from it when the first directive line is met."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from taskrun.language.meaning import Meaning, Rules

if TYPE_CHECKING:
    from lark import Lark

_CACHED_LINES = 4096
_CACHED_LENGTH = 1024  # longer lines are seldom said twice, and would fill the memory


def meaning_of(line: bytes) -> Meaning:
    """What one directive line means (no line end; the reader knows that it is a directive). Never raises: what is wrong is a finding."""
    return _remembered(line) if len(line) <= _CACHED_LENGTH else _parse(line)


def parse_lines(text: bytes) -> list[Any]:
    """The lines of a whole text, line ends being LF: a token for each task, a `Meaning` for each directive."""
    return cast("list[Any]", _parser().parse(text.decode("latin-1"), start="taskfile"))


def grammar_text() -> str:
    """The grammar: a package resource when installed, the file in `grammar/` of a checkout."""
    resource = files("taskrun.language").joinpath("taskfile.lark")
    if resource.is_file():
        return resource.read_text("utf-8")
    return (Path(__file__).parents[2] / "grammar" / "taskfile.lark").read_text("utf-8")


def _parse(line: bytes) -> Meaning:
    return cast("Meaning", _parser().parse(line.decode("latin-1"), start="directive"))


_remembered = lru_cache(_CACHED_LINES)(_parse)


@cache
def _parser() -> Lark:
    # 50 ms that a file without directives need not pay. Making the tables anew takes 20 of them: a cache would have to
    # be a file somebody writes, and a generated parser a second definition.
    from lark import Lark

    return Lark(grammar_text(), parser="lalr", start=["taskfile", "directive"], transformer=cast("Any", Rules()))
