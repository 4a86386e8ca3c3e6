"""What looks for slips in a task file: the recognisers, applied to its lines in their order.

Most of them are imported when a block has what they look at: their patterns take milliseconds to make, which most files need not pay.
"""

from __future__ import annotations

import re
from copy import copy
from operator import itemgetter
from typing import TYPE_CHECKING

from taskrun.language.items import Foreach, Item, Prefix, Repeat, Suffix
from taskrun.language.slips import Block, Slip

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskrun.language.background import Departures
    from taskrun.language.joined import Joins
    from taskrun.language.not_tasks import NotTasks
    from taskrun.language.slips import Recogniser

#: Of a line that is no whole command there is one of these characters, or its first word has such a letter and what may follow it: the
#: letter decides, as a million lines feel every alternative.
SPECIAL = b"'\"`\\(){};&|<"
_LETTERS, _SECOND = rb"!{}\[itefwusdc", rb"fiouhlsnea\[ \t\n"
_REST = (
    rb"(?:f\b|i\b|or\b|unction\b|hen\b|ime\b|l(?:se|if)\b|sac\b|hile\b|ntil\b|elect\b|o(?:ne)?\b"
    rb"|ase\b|oproc\b|\[|[ \t]|(?=\n))"
)
FIRST_WORD = re.compile(rb"\n[ \t]*[%b]%b" % (_LETTERS, _REST))
#: Lines without a task, and lines that may begin with such a word, by one search: it costs as much as that for the former.
_survey = re.compile(rb"\n[ \t\r\f\v]*(?=[%b#\n])(?:(?=[#\n])|(.)(?=[%b])%b)" % (_LETTERS, _SECOND, _REST)).findall
#: How a line begins that may show that a file is no list of tasks, and in how many of its first lines it may.
_other_file = re.compile(rb"\n(?:#!|#[SPB]|from |import |def |class |if __|library|use |[\w.]+ <- f|[{\[<])").search
_HEAD = 200


def near_misses(block: Block) -> Iterable[Slip]:
    """Those of `taskrun.language.near_misses`."""
    if not block.quiet or block.text.find(b"#", block.start, block.end) < 0:
        return ()
    from taskrun.language import near_misses

    return near_misses.near_misses(block)


def incomplete(block: Block) -> Iterable[Slip]:
    """Those of `taskrun.language.incomplete`."""
    text, start, end = block.text, block.start, block.end
    sides = block.prefix.text or block.suffix.text
    if not sides and not block.words and not any(text.find(char, start, end) >= 0 for char in SPECIAL):
        return ()
    from taskrun.language import incomplete

    return incomplete.incomplete(block)


def typography(block: Block) -> Iterable[Slip]:
    """Those of `taskrun.language.typography`."""
    if block.text.isascii():
        return ()
    from taskrun.language import typography

    return typography.typography(block)


#: All that is looked for.
RECOGNISERS: tuple[Recogniser, ...] = (near_misses, incomplete, typography)

_place = itemgetter(0, 1)
_ends_in_and = re.compile(rb"&(?<!&&)(?=[ \t\n])").search  # or nearly


class Recognition:
    """Follows a task file from its first line to its last, and finds the slips in it."""

    def __init__(self) -> None:
        self._prefix = Prefix(0, b"")
        self._suffix = Suffix(0, b"")
        self._file: NotTasks | None = None
        self._joins: Joins | None = None
        self._departures: Departures | None = None

    def fork(self) -> Recognition:
        """One that goes on from here by itself."""
        other = copy(self)
        other._file = copy(self._file)
        return other

    @staticmethod
    def survey(text: bytes, start: int, end: int) -> tuple[int, bool]:
        """How many of the plain lines text[start:end] are no tasks; and whether one may begin with a word of bash's grammar."""
        found = _survey(text, start - 1, end + 1)
        quiet = found.count(b"")
        return quiet, quiet < len(found)

    def of_lines(self, text: bytes, start: int, end: int, line: int, quiet: bool, words: bool = True) -> list[Slip]:
        """Those of the plain lines text[start:end], in order: see `Block`."""
        return self._found(Block(text, start, end, line, quiet, words, self._prefix, self._suffix))

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
            slips = self._found(Block(text, 1, len(text) - 1, line, False, True, self._prefix, self._suffix, raw))
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
        if len(found) > 1:
            found.sort(key=_place)
        if self._file is None:
            if block.line > _HEAD or block.directive or not _other_file(block.text, block.start - 1, block.end):
                return found
            from taskrun.language.not_tasks import NotTasks

            self._file = NotTasks(_HEAD)
        return self._file.judge(block, found)

    def _joined(self, block: Block) -> Iterable[Slip]:
        return self._joins.joined(block) if self._joins is not None else ()

    def _background(self, block: Block) -> Iterable[Slip]:
        if self._departures is None:
            text, start, end = block.text, block.start, block.end
            if b"&" not in self._suffix.text and (text.find(b"&", start, end) < 0 or not _ends_in_and(text, start, end + 1)):
                return ()
            from taskrun.language.background import Departures

            self._departures = Departures(self._prefix, self._suffix)
        return self._departures.background(block)
