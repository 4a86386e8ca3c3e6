"""What looks for slips in a task file: the recognisers, applied to its lines in their order.

Most of them are imported when a block has what they look at: their patterns take milliseconds to make, which most files need not pay.
"""

from __future__ import annotations

from copy import copy
from operator import itemgetter
from typing import TYPE_CHECKING

from taskrun.language.incomplete import incomplete
from taskrun.language.items import Foreach, Item, Prefix, Repeat, Suffix
from taskrun.language.not_tasks import NotTasks
from taskrun.language.slips import Block, Slip
from taskrun.language.typography import typography

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskrun.language.background import Departures
    from taskrun.language.joined import Joins
    from taskrun.language.slips import Recogniser


def near_misses(block: Block) -> Iterable[Slip]:
    """Those of `taskrun.language.near_misses`."""
    if not block.quiet or block.text.find(b"#", block.start, block.end) < 0:
        return ()
    from taskrun.language import near_misses

    return near_misses.near_misses(block)


#: All that is looked for.
RECOGNISERS: tuple[Recogniser, ...] = (near_misses, incomplete, typography)

_place = itemgetter(0, 1)


class Recognition:
    """Follows a task file from its first line to its last, and finds the slips in it."""

    def __init__(self) -> None:
        self._prefix = Prefix(0, b"")
        self._suffix = Suffix(0, b"")
        self._file = NotTasks()
        self._joins: Joins | None = None
        self._departures: Departures | None = None

    def fork(self) -> Recognition:
        """One that goes on from here by itself."""
        other = copy(self)
        other._file = copy(self._file)
        return other

    def of_lines(self, text: bytes, start: int, end: int, line: int, quiet: bool) -> list[Slip]:
        """Those of the plain lines text[start:end], in order: see `Block`."""
        return self._found(Block(text, start, end, line, quiet, self._prefix, self._suffix))

    def of_directive(self, item: Item | None, line: int, raw: bytes) -> list[Slip]:
        """Those of a directive line; what it is holds for the lines below."""
        if isinstance(item, Prefix):
            self._prefix = item
            self._renew()
        elif isinstance(item, Suffix):
            self._suffix = item
            self._renew()
        elif isinstance(item, Repeat | Foreach):
            text = b"\n%b\n" % item.command
            slips = self._found(Block(text, 1, len(text) - 1, line, False, self._prefix, self._suffix, raw))
            before = len(raw) - len(item.command)
            return [slip._replace(column=slip.column + before, text=raw) for slip in slips]
        return []

    def _renew(self) -> None:
        """What depends on the prefix and suffix begins anew."""
        from taskrun.language.joined import Joins

        self._joins = Joins(self._prefix, self._suffix)
        self._departures = None

    def _found(self, block: Block) -> list[Slip]:
        found = [slip for recognise in (*RECOGNISERS, self._joined, self._background) for slip in recognise(block)]
        return self._file.judge(block, sorted(found, key=_place) if len(found) > 1 else found)

    def _joined(self, block: Block) -> Iterable[Slip]:
        return self._joins.joined(block) if self._joins is not None else ()

    def _background(self, block: Block) -> Iterable[Slip]:
        if self._departures is None:
            if b"&" not in self._suffix.text and all(
                block.text.find(end, block.start, block.end + 1) < 0 for end in (b"&\n", b"& ", b"&\t")
            ):
                return ()
            from taskrun.language.background import Departures

            self._departures = Departures(self._prefix, self._suffix)
        return self._departures.background(block)
