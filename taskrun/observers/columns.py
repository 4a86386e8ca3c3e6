"""A table whose columns fit the width that there is: the least needed go first, then long words are cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taskrun.visible import visible

_LEAST = 6  # cells of a word that is cut
_BETWEEN = "  "


class Column(NamedTuple):
    head: str
    number: bool = False  # to the right
    goes: int = 0  # its turn when there is no room for all; 0: stays


def table(columns: Sequence[Column], rows: Sequence[Sequence[object]], width: int | None = None, *, cut: str = "…") -> list[str]:
    """The heading and a line for each row, of `width` cells at most where the columns that stay allow that. None: all of it."""
    cells = [[column.head for column in columns], *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(columns))]
    kept = list(range(len(columns)))
    if width is not None:
        for place in sorted((place for place in kept if columns[place].goes), key=lambda place: columns[place].goes):
            if _total(widths, kept) <= width:
                break
            kept.remove(place)
        while (over := _total(widths, kept) - width) > 0:
            words = [place for place in kept if not columns[place].number and widths[place] > _LEAST]
            if not words:
                break
            longest = max(words, key=lambda place: widths[place])
            widths[longest] = max(_LEAST, widths[longest] - over)
    return [_BETWEEN.join(_cell(row[place], widths[place], columns[place], cut) for place in kept).rstrip() for row in cells]


def _total(widths: list[int], kept: list[int]) -> int:
    return sum(widths[place] for place in kept) + len(_BETWEEN) * (len(kept) - 1)


def _cell(text: str, width: int, column: Column, cut: str) -> str:
    if len(text) > width:
        text = text[: width - len(cut)] + cut
    return text.rjust(width) if column.number else text.ljust(width)


def _shown(cell: object) -> str:
    return "-" if cell is None or cell == "" else visible(str(cell))
