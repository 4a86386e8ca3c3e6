"""What looks for slips in a task file: the recognisers, applied to its lines in their order."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from taskrun.language.items import Foreach, Item, Prefix, Repeat, Suffix
from taskrun.language.near_misses import near_misses
from taskrun.language.slips import Block, Slip

if TYPE_CHECKING:
    from taskrun.language.slips import Recogniser

#: All that is looked for.
RECOGNISERS: tuple[Recogniser, ...] = (near_misses,)

_place = itemgetter(0, 1)


class Recognition:
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
