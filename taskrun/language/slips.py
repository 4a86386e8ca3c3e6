"""Slips: text that is allowed, but most likely means something else than its author thinks.

A recogniser is a pure function from a block of plain lines to the slips in it. It begins with a search over the whole block that costs
next to nothing when there is no slip, and looks at single lines only where that search found something. What it finds may not depend on
how the file is cut into blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from taskrun.language.items import Prefix, Suffix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Slip(NamedTuple):
    """One slip. Those of one group are told once, at the first, with the number of all; '' is no group."""

    line: int
    column: int
    length: int
    kind: str
    message: str
    hint: str
    text: bytes  # the whole line
    group: str = ""
    lines: int = 1  # how many it stands for: the first and others of its group below


class Block(NamedTuple):
    """Consecutive whole lines without a directive: `text[start:end]`, with a LF before them and one behind.

    Or the command of one REPEAT or FOREACH: then `directive` is that line.
    """

    text: bytes
    start: int
    end: int
    line: int  # number of the first
    quiet: bool = False  # whether there may be comments or blank lines among them
    words: bool = True  # whether one may begin with a word of bash's grammar
    prefix: Prefix = Prefix(0, b"")
    suffix: Suffix = Suffix(0, b"")
    directive: bytes = b""

    def lines_with(self, places: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """(number, text) of each line that has one of these ascending places in `text`, each line once."""
        number, counted, end = self.line, self.start, -1
        for place in places:
            if place < end:
                continue
            start = self.text.rfind(b"\n", 0, place) + 1
            end = self.text.index(b"\n", place)
            number += self.text.count(b"\n", counted, start)
            counted = start
            yield number, self.text[start:end]


Recogniser: TypeAlias = "Callable[[Block], Iterable[Slip]]"
