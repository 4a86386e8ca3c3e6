"""Commands that end in `&`: bash ends at once, and with it the task, while the command still runs. Slips."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from taskrun.language.alike import Question
from taskrun.language.outline import outline
from taskrun.language.slips import Block, Slip

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskrun.language.items import Prefix, Suffix

_KIND = "background"
_MESSAGE = "this command goes to the background: its task is recorded as done at once, while the command still runs"
_HINT = "leave the & out: tasks run side by side anyway"

_last = re.compile(rb"&[ \t]*(?:[ \t]#[^\n]*)?(?![^\n])").search


class Departures:
    """The commands below a PREFIX and a SUFFIX that go to the background."""

    def __init__(self, prefix: Prefix, suffix: Suffix) -> None:
        self._suffix = suffix
        text = suffix.text.strip(b" \t")
        self._by_suffix = text.endswith(b"&")
        self._possible = self._by_suffix or not text
        self._question = Question(bool if self._by_suffix else _may_be_left, lambda line: _left(prefix.text, line, suffix.text))

    def background(self, block: Block) -> Iterator[Slip]:
        """The first in a block."""
        first = self._question.first(block) if self._possible else None
        if first is None:
            return
        if self._by_suffix:
            message = f"with the SUFFIX of line {self._suffix.line} {_MESSAGE}"
            yield Slip(first.line, 1, len(first.text), _KIND, message, _HINT, first.text, f"{_KIND} {self._suffix.line}", first.lines)
        else:
            yield Slip(first.line, first.answer, 1, _KIND, _MESSAGE, _HINT, first.text, _KIND, first.lines)


def _may_be_left(text: bytes) -> bool:
    return b"&" in text and _last(text) is not None


def _left(prefix: bytes, line: bytes, suffix: bytes) -> int | None:
    """The column of the `&`, or 1 behind the line."""
    found = outline(prefix + line + suffix)
    if not line or found is None or not found.is_whole or not found.separators:
        return None
    start, end = found.commands[-1]
    if found.separators[-1] != b"&" or (prefix + line + suffix)[start:end].strip():
        return None
    return start - len(prefix)
