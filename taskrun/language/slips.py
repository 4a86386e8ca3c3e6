"""Slips: text that is allowed, but most likely means something else than its author thinks.

A recogniser is a pure function from a block of plain lines to the slips in it. It begins with a search over the whole block that costs
next to nothing when there is no slip, and looks at single lines only where that search found something. What it finds may not depend on
how the file is cut into blocks.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from taskrun.language.items import Foreach, Item, Prefix, Repeat, Suffix

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


class Block(NamedTuple):
    """Consecutive whole lines without a directive: `text[start:end]`, with a LF before them and one behind.

    Or the command of one REPEAT or FOREACH: then `directive` is that line.
    """

    text: bytes
    start: int
    end: int
    line: int  # number of the first
    quiet: bool = False  # whether there may be comments or blank lines among them
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

RECOGNISERS: tuple[Recogniser, ...] = ()

_place = itemgetter(0, 1)


class Slips:
    """Follows a task file from its first line to its last, and finds the slips in it."""

    def __init__(self) -> None:
        self._prefix = Prefix(0, b"")
        self._suffix = Suffix(0, b"")

    def of_lines(self, text: bytes, start: int, end: int, line: int, quiet: bool) -> list[Slip]:
        """Those of the plain lines text[start:end], in order: see `Block`."""
        return _found(Block(text, start, end, line, quiet, self._prefix, self._suffix))

    def of_directive(self, item: Item | None, line: int, raw: bytes) -> list[Slip]:
        """Those of a directive line; what it is holds for the lines below."""
        if isinstance(item, Prefix):
            self._prefix = item
        elif isinstance(item, Suffix):
            self._suffix = item
        elif isinstance(item, Repeat | Foreach):
            text = b"\n%b\n" % item.command
            slips = _found(Block(text, 1, len(text) - 1, line, False, self._prefix, self._suffix, raw))
            before = len(raw) - len(item.command)
            return [slip._replace(column=slip.column + before, text=raw) for slip in slips]
        return []


def _found(block: Block) -> list[Slip]:
    found = [slip for recognise in RECOGNISERS for slip in recognise(block)]
    return sorted(found, key=_place) if len(found) > 1 else found
