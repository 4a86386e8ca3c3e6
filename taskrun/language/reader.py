"""Reads a task file piece by piece, at the speed of a search: only lines that begin with `#` are looked at singly."""

from __future__ import annotations

import re
from copy import copy
from typing import TYPE_CHECKING

from taskrun.language.diagnostics import Diagnostic, Problems, first_error
from taskrun.language.items import Allow, Item, Lines, above
from taskrun.language.order import Order
from taskrun.language.raw_text import LINE_MAX, RawText, directive
from taskrun.language.recognition import Recognition

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAY_BE_OURS = b" RBC{#F\xef0123456789"  # first bytes of files that a run writes

_no_tasks = re.compile(rb"\n[ \t\r\f\v]*(?=[#\n])").findall


class Reader:
    """Turns text into items as its lines become complete. What is wrong is collected, never raised.

    From the first error on there are no more items, only diagnostics: what follows a wrong line may not mean what it says.
    """

    def __init__(self, name: str, *, ignore_unknown: bool = False, strict: bool = False, slips: bool = True) -> None:
        """`name` is how hints call the file. `ignore_unknown`: unknown directives are warnings, and mean what disBatch makes of them.

        `strict`: warnings are errors. `slips`: whether they are looked for.
        """
        self.lines = 0  # complete lines so far
        self._ignore_unknown = ignore_unknown
        self._torn: list[bytes] = []  # a line whose end has not come, in its pieces
        self._torn_size = 0
        self._unended = False  # the last line was taken without its line end
        self._raw = RawText(name)
        self._name = name
        self._foreign = False  # no task file: nothing more of it is looked at
        self._order = Order(ignore_unknown)
        self._problems = Problems(strict)
        self._slips = Recognition() if slips else None
        self._earlier: Iterator[Diagnostic] = iter(())  # problems of this block that no line has passed yet
        self._next: Diagnostic | None = None
        self._taken = 0  # of `diagnostics`

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """What is wrong so far, in the order of the file. Grows up to a cap; `errors` and `warnings` count on."""
        return self._problems.kept

    @property
    def errors(self) -> int:
        """How many errors there are so far."""
        return self._problems.count["error"]

    @property
    def warnings(self) -> int:
        """How many warnings there are so far."""
        return self._problems.count["warning"]

    def take_new(self) -> list[Diagnostic]:
        """The diagnostics since the last call: a stream tells them as its lines come."""
        new = self.diagnostics[self._taken :]
        self._taken += len(new)
        return new

    def judge(self, diagnostic: Diagnostic) -> Diagnostic | None:
        """What is to be said of something that was found elsewhere, in the lines so far: nothing, if it is a warning that is silenced."""
        return self._problems.judge(diagnostic)

    @property
    def torn(self) -> bool:
        """Whether a line has begun whose end has not come."""
        return self._torn_size > 0

    @property
    def tail(self) -> bytes:
        """The line that has begun, as far as it has come."""
        return b"".join(self._torn)

    def feed(self, data: bytes) -> list[Item]:
        """The items of the lines that `data` completes. After `close` it begins with the line end that was missing, if one was."""
        if self._foreign:
            return []
        if self._unended:
            self._unended = False
            data = data[2:] if data.startswith(b"\r\n") else data.removeprefix(b"\n")
        end = data.rfind(b"\n") + 1
        if not end:
            if self._torn_size <= LINE_MAX:  # more of a line that is too long need not be kept
                self._torn.append(data)
                self._torn_size += len(data)
            return []
        block = b"".join((*self._torn, data[:end])) if self._torn else data[:end]
        self._torn = [data[end:]] if end < len(data) else []
        self._torn_size = len(data) - end
        return self._block(block)

    def close(self) -> list[Item]:
        """The items of a last line without its line end."""
        block = b"".join(self._torn)
        self._torn = []
        self._torn_size = 0
        self._unended = bool(block)
        return self._block(block) if block else []

    def fork(self) -> Reader:
        """One that goes on from here by itself, without the problems so far."""
        other = copy(self)
        other._torn = self._torn[:]
        other._raw = copy(self._raw)
        other._order = self._order.copy()
        other._problems = self._problems.fork()
        other._slips = self._slips.fork() if self._slips is not None else None
        other._taken = 0
        return other

    def drop(self) -> None:
        """Forget the beginning of a line whose end has not come: it is read once more."""
        self._torn = []
        self._torn_size = 0

    def begin(self) -> None:
        """Whatever was read, engines run: PERENGINE comes too late from here on."""
        if not self._order.closed:
            self._order.close(self.lines + 1)

    def _block(self, block: bytes) -> list[Item]:
        line = self.lines + 1
        sound = not self.errors
        if line == 1 and block[:1] in _MAY_BE_OURS and self._is_ours(block):
            return []
        block, self._earlier = self._raw.admit(block, line)
        self._next = next(self._earlier, None)
        text = b"\n%b" % block if block.endswith(b"\n") else b"\n%b\n" % block  # so that every line stands between two
        items: list[Item] = []
        start = 1  # of the lines without a directive before `place`
        place = text.find(b"\n#") if b"#" in text else -1  # one byte is found much faster than two
        while place >= 0:
            if not directive(text, place + 1):
                place = text.find(b"\n#", place + 1)
                continue
            if start <= place:
                line = self._plain(text, start, place, line, items)
            end = text.index(b"\n", place + 1)
            self._directive(text[place + 1 : end], line, items)
            line += 1
            start = end + 1
            place = text.find(b"\n#", end)
        if start < len(text):
            line = self._plain(text, start, len(text) - 1, line, items)
        self._tell_up_to(line)
        self.lines = line - 1
        if not self.errors:
            return items
        return above(items, first_error(self.diagnostics)) if sound else []

    def _is_ours(self, block: bytes) -> bool:
        """Whether the text begins as a file that a run writes; the problem is kept."""
        from taskrun.language import own_files  # only where the first byte raises the suspicion

        found = own_files.problem(block, self._name)
        if found is not None:
            self._foreign = True
            self._torn, self._torn_size = [], 0
            self._problems.add(found)
        return self._foreign

    def _plain(self, text: bytes, start: int, end: int, line: int, items: list[Item]) -> int:
        """Adds the lines in text[start:end], the first of which is `line`; the number of the line after them."""
        count = text.count(b"\n", start, end) + 1
        words = False
        if self._slips is None:
            quiet = len(_no_tasks(text, start - 1, end + 1))
        else:
            quiet, words = self._slips.survey(text, start, end)
        tasks = count - quiet
        if tasks:
            lines = Lines(line, text[start:end], tasks)
            items.append(lines)
            if not self._order.closed:
                self._order.close(next(lines.commands())[0])
        if self._slips is not None:
            for slip in self._slips.of_lines(text, start, end, line, quiet > 0, words):
                self._tell_up_to(slip.line, slip.column)
                self._problems.add_slip(slip)
        return line + count

    def _directive(self, raw: bytes, line: int, items: list[Item]) -> None:
        from taskrun.language.grammar import meaning_of  # a file without directives does without the parser

        item, findings = self._order.admit(meaning_of(raw), line, raw)
        if isinstance(item, Allow):
            self._problems.allow(item.kinds, line)
            item = None
        elif item is not None:
            items.append(item)
        for finding in findings:
            self._tell_up_to(line, finding.column)
            self._problems.add(finding.of(line, raw, self._ignore_unknown))
        if self._slips is not None:
            for slip in self._slips.of_directive(item, line, raw):
                self._tell_up_to(line, slip.column)
                self._problems.add_slip(slip)

    def _tell_up_to(self, line: int, column: int = 0) -> None:
        """Keeps diagnostics in the order of the file, whoever found them."""
        while self._next is not None and (self._next.line, self._next.column) <= (line, column):
            self._problems.add(self._next)
            self._next = next(self._earlier, None)
