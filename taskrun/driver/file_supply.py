"""A regular task file as a supply: read again as the run goes, compared with what was scanned, and followed when it grows."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple, Protocol

from taskrun.driver import additions
from taskrun.driver.additions import Addition
from taskrun.driver.foreach import FileLists
from taskrun.driver.supply import decided, foreseen
from taskrun.driver.task_text import TaskText
from taskrun.errors import Refused
from taskrun.language import Reader
from taskrun.language.marks import Rereading
from taskrun.model import Skipped, Supplied
from taskrun.planning.expand import Expander
from taskrun.planning.resume import Decision, Resume, mismatch_text

SETTLE = 1.0  # seconds for which a file that differs must stay as it is: who writes it anew empties it first
SETTLE_MOST = 10.0
SHARE = 10  # a look at what was added is followed by so many times its length without one


class Watcher(Protocol):
    """Who is told what becomes of the file."""

    def grown(self, addition: Addition) -> None:
        """Lines were added and will run. Raises RecordsFailed."""

    def refused(self, problems: str) -> None:
        """Lines were added that cannot run."""

    def replaced(self) -> None:
        """Another file, with other lines, stands at the path."""

    def difference(self) -> tuple[int, int]:
        """The lines between which the file differs first from what was scanned; (0, 0): not known."""

    def skipped(self, code: int) -> None:
        """A task that was added has a record."""


class _Piece(NamedTuple):
    """What was read last."""

    data: bytes
    place: int
    line: int  # the one in which it begins


class FileSupply:
    """Stops being of use (`broken`) when it meets bytes that are not those that were scanned (`changed`)."""

    def __init__(
        self,
        text: TaskText,
        lists: FileLists,
        resume: Resume | None,
        codes: array[int] | None,
        watcher: Watcher,
        *,
        ignore_unknown: bool,
        grows: bool,
    ) -> None:
        """`codes`: what was decided before of each task (see supply.Foreseen). `grows`: lines that are added are taken."""
        self.ended = False
        self.broken = ""
        self.changed = False  # the file is not any more what was scanned
        self.always_ready = True
        self.grows = grows
        self._text = text
        self._lists = lists
        self._resume = resume
        self._codes = None if codes is None else iter(codes)
        self._watcher = watcher
        self._scanned = text.scan.lines
        self._again = Rereading(text.scan.end.marks)
        self._reader = Reader(text.shown, ignore_unknown=ignore_unknown)
        self._expander = Expander(lists)
        self._plan: Iterator[Supplied] = iter(())
        self._piece = _Piece(b"", 0, 1)
        self._spent = True  # all of it was handed out
        self._line = 0  # of the last item that was handed out
        self._closed = False  # a last line without its end was taken
        self._limit = 0  # the first line that is not handed out any more, since it was changed
        self._blocked = False  # what comes next is not what was scanned
        self._doubts: tuple[float, float] | None = None  # since when it is blocked, since when the file stays as it is
        self._pause_until = 0.0
        self._replaced_at = 0.0  # when another file was seen at the path
        self._known: tuple[int, ...] = ()  # state of a file of which all was looked at
        self._told = ""

    def read(self, count: int) -> list[Supplied]:
        self._look_around()
        items = self._items(count)
        if items:
            self._line = _line_of(items[-1])
        if self._line > self._scanned:
            for item in items:
                if type(item) is Skipped and item.task.line > self._scanned:
                    self._watcher.skipped(item.code)
        self.always_ready = not self._blocked
        self.ended = bool(self.broken) or (not self._blocked and len(items) < count)
        return items

    def _items(self, count: int) -> list[Supplied]:
        items: list[Supplied] = []
        self._blocked = False
        while len(items) < count and not self.broken and not self._blocked:
            items += islice(self._plan, count - len(items)) if not self._limit else self._above_limit(count - len(items))
            if len(items) < count and not self._blocked:
                self._spent = True
                if not self._advance():
                    break
        if self._blocked:
            self._doubt()
        else:
            self._doubts = None
        return items

    def _above_limit(self, count: int) -> list[Supplied]:
        items: list[Supplied] = []
        for item in self._plan:
            if _line_of(item) >= self._limit:
                self._plan = chain((item,), self._plan)
                self._blocked = True
                break
            items.append(item)
            if len(items) == count:
                break
        return items

    def look(self, *, last: bool) -> bool:
        self._look_around(last=last)
        more = not self.broken and (not self._spent or self._again.wanted > 0 or self._has_tail())
        self.ended = not more
        return more

    # the text

    def _advance(self) -> bool:
        """Make a plan of the next piece. False: there is none, or not yet."""
        wanted = self._again.wanted
        if wanted:
            data = self._text.read(self._again.place, wanted)
            if not self._again.take(data):
                self._blocked = True
                return False
            self._limit = 0
            self._piece = _Piece(data, self._again.place - wanted, self._reader.lines + 1)
            items = self._reader.feed(data)
        elif self._has_tail():
            self._closed = True
            items = self._reader.close()
        else:
            return False
        self._spent = False
        planned = chain.from_iterable(map(self._expander.expand, items))
        if self._codes is None:
            self._plan = decided(planned, self._resume, self._mismatch)
        else:
            self._plan = foreseen(planned, self._codes)
        return True

    def _has_tail(self) -> bool:
        """A last line has no line end, and nobody goes on with it."""
        return self._reader.torn and not (self._text.longer and additions.extends(self._text))

    def _mismatch(self, decision: Decision) -> None:
        self.broken = mismatch_text([decision], begun=True)

    # what happens to the file

    def _look_around(self, *, last: bool = False) -> None:
        text, now = self._text, time.monotonic()
        due = last or now >= self._pause_until
        if due and text.follow():
            self._pause_until = time.monotonic() + SHARE * (time.monotonic() - now)
            self._replaced_at = now
        elif self._replaced_at and now >= self._replaced_at + SETTLE:
            self._replaced_at = 0.0
            if text.replaced:
                self._watcher.replaced()
        if text.touched() or self._blocked:
            self._limit = self._first_changed()
        if self.grows and due and not self._blocked and not self.broken and text.longer and (last or self._known != text.state):
            self._take_added(last=last)
            self._pause_until = time.monotonic() + SHARE * (time.monotonic() - now)

    def _first_changed(self) -> int:
        """The first line that was read, was not handed out and is not any more what it was; 0: there is none."""
        piece = self._piece
        there = self._text.read(piece.place, len(piece.data))
        if self._spent or there == piece.data:
            return 0
        at = self._place_of(self._line + 1)
        at += _same(there[at:], piece.data[at:])
        return piece.line + piece.data.count(b"\n", 0, at) if at < len(piece.data) else 0

    def _place_of(self, line: int) -> int:
        """Where a line begins in the piece."""
        at = 0
        for _ in range(line - self._piece.line):
            at = self._piece.data.find(b"\n", at) + 1
            if not at:
                return len(self._piece.data)
        return at

    def _doubt(self) -> None:
        """What comes next is not what was scanned: a change, if that lasts."""
        now, state = time.monotonic(), self._text.state
        if self._doubts is None or state != self._known:
            self._doubts = (now if self._doubts is None else self._doubts[0], now)
            self._known = state
        elif now - self._doubts[1] >= SETTLE or now - self._doubts[0] >= SETTLE_MOST:
            self._change()

    def _change(self, line: int = 0) -> None:
        """The file is not what was scanned: the reader has met other bytes."""
        self.changed = True
        shown = self._text.shown
        if self._text.failure:
            self.broken = f"{shown}: cannot be read any more: {self._text.failure}: nothing below line {self._line} was run"
            return
        first, until, what = (line, line, "") if line else self._difference()
        what = what or (f"a line from here to line {until} was changed" if until > first else "this line was changed")
        self.broken = f"{shown}:{first}:1: {what} during the run: nothing below line {self._line} was run"

    def _difference(self) -> tuple[int, int, str]:
        """The lines between which the file differs first, and how, if not by a change of these."""
        piece = self._piece
        there = self._text.read(piece.place, len(piece.data))
        known = self._watcher.difference()
        if there == piece.data:
            first = self._reader.lines + 1
            return (*known, "") if known != (0, 0) else (first, first, "a line from here on was changed")
        at = _same(there, piece.data)
        first = piece.line + piece.data.count(b"\n", 0, at)
        if piece.place == 0 or known == (0, 0) or known[0] <= first <= known[1]:
            return first, first, "the file was cut off here" if at == len(there) else ""
        return (*known, "")

    def _take_added(self, *, last: bool) -> None:
        """Take the lines that were added; `last`: what cannot be taken now will not be run."""
        text = self._text
        self._known = text.state
        if additions.extends(text) and (self._closed or self._resume is not None or text.scan.end.reader.tail.startswith(b"#")):
            self._change(text.scan.end.reader.lines + 1)
            return
        if not text.begins():
            return  # its reader meets the change, or nobody has to
        try:
            addition = additions.look(text, self._lists)
        except Refused as error:
            addition = Addition(None, 0, 0, f"{text.shown}: {error}", text.scan.lines + 1, torn=False)
        except OSError:
            return
        if addition.scan is not None:
            text.scan = addition.scan
            self._again.marks = addition.scan.end.marks
            self._watcher.grown(addition)
        elif addition.problems and addition.problems != self._told:
            self._told = addition.problems
            self._watcher.refused(addition.problems)
        if last and addition.line:
            self.broken = additions.left_out(addition, text.shown)


def _line_of(item: Supplied) -> int:
    return item.task.line if isinstance(item, Skipped) else item.line


def _same(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
