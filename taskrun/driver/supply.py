"""The plan as a supply: items of the task file, expanded and decided, in batches as the scheduler has room."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import NamedTuple, Protocol

from taskrun.driver.account import OnRecord
from taskrun.driver.foreach import FileLists, take_some
from taskrun.driver.task_text import TaskText
from taskrun.errors import RecordsFailed, Refused, told
from taskrun.language import Diagnostic, Item, Reader, read_items, render_all
from taskrun.language.diagnostics import first_error, in_order
from taskrun.model import Barrier, Skipped, Supplied, Task
from taskrun.planning.edits import Unrun
from taskrun.planning.expand import Expander
from taskrun.planning.gone import Gone, gone_text
from taskrun.planning.resume import Decision, Resume, mismatch_text
from taskrun.status import opening

MISMATCHES_SHOWN = 5
CARRIED_AT_ONCE = 1000


class Supply(Protocol):
    """Where the scheduler's items come from."""

    ended: bool
    broken: str  # why the rest cannot be used, '' if it can
    always_ready: bool  # it never has to be waited for
    grows: bool  # more may come after its end

    def read(self, count: int) -> list[Supplied]:
        """Up to about `count` more items; none when there are none yet."""

    def look(self, *, last: bool) -> bool:
        """Whether there is more after the end. `last`: all that came has ended, so what is there now is all. Raises RecordsFailed."""


def decided(planned: Iterator[Supplied], resume: Resume | None, on_mismatch: Callable[[Decision], None]) -> Iterator[Supplied]:
    """The plan with what is done already replaced by Skipped."""
    if resume is None:
        yield from planned
        return
    for item in planned:
        if isinstance(item, Task):
            decision = resume.decide(item)
            if decision.action == "skip":
                yield decision.skipped()
                continue
            if decision.action == "mismatch":
                on_mismatch(decision)
                return
        elif isinstance(item, Barrier):
            resume.unclaimed.barrier(item.id)
        yield item


class Foreseen(NamedTuple):
    """What was decided of each task when a regular file was gone through before the run, so that it need not be decided twice."""

    codes: array[int]  # by turn: the return code on record of a task that is skipped, RUNS of any other
    counts: OnRecord
    gone: Gone


RUNS = -(1 << 15)


def foreseen(planned: Iterator[Supplied], codes: Iterator[int]) -> Iterator[Supplied]:
    """The plan with what is done already replaced by Skipped, whose records are in the new file already. `codes`: those of Foreseen."""
    for item in planned:
        if type(item) is Task:
            code = next(codes, RUNS)  # a task that was added since
            yield item if code == RUNS else Skipped(item, code, b"")
        else:
            yield item


def plan_file(text: TaskText, lists: FileLists, *, ignore_unknown: bool) -> Iterator[Supplied]:
    """Every task, barrier and per-engine command of a regular file, lazily. Raises Refused when it is not any more what was scanned."""
    expander = Expander(lists)
    for item in read_items(text.again(), text.shown, ignore_unknown=ignore_unknown):
        yield from expander.expand(item)


def find_mismatches(
    text: TaskText,
    lists: FileLists,
    resume: Resume,
    carry: Callable[[list[bytes]], None] | None,
    unrun: Unrun | None,
    *,
    ignore_unknown: bool,
) -> tuple[str, Foreseen]:
    """(text about tasks that are not those on record or '', what was decided) of a whole regular file.

    `carry` is given the S lines of what is skipped, `unrun` the tasks without a record.
    """
    codes = array("h")
    shown: list[Decision] = []
    total = left = skipped = failed = barriers = 0
    lines: list[bytes] = []
    for item in plan_file(text, lists, ignore_unknown=ignore_unknown):
        if not isinstance(item, Task):
            if isinstance(item, Barrier):
                barriers += 1
                resume.unclaimed.barrier(item.id)
            continue
        decision = resume.decide(item)
        if decision.action == "mismatch":
            total += 1
            if len(shown) < MISMATCHES_SHOWN:
                shown.append(decision)
        left += decision.action in ("run", "retry")
        if unrun is not None and decision.action == "run":
            unrun.add(item.line)
        if decision.action != "skip":
            codes.append(RUNS)
            continue
        code = decision.code or 0
        codes.append(code if abs(code) < -RUNS else 1)
        skipped += 1
        failed += code != 0
        if carry is not None:
            lines.append(decision.skipped().record)
            if len(lines) >= CARRIED_AT_ONCE:
                carry(lines)
                lines = []
    if carry is not None and lines:
        carry(lines)
    gone = resume.unclaimed.find(len(codes) + barriers)
    resume.restart()
    return mismatch_text(shown, total) if total else "", Foreseen(codes, OnRecord(skipped, failed, left), gone)


class StreamSupply:
    """A stream: what it gives is copied to PREFIX_tasks.txt before any of it runs, and parsed as it comes.

    The loop calls `readable` when the descriptor has something; nothing here waits.
    """

    def __init__(
        self, fd: int, name: str, copy: Path, lists: FileLists, resume: Resume | None, warn: Callable[[str], None], reader: Reader
    ) -> None:
        """Raises RecordsFailed when the copy cannot be made."""
        self.fd = fd
        self.ended = False
        self.broken = ""
        self.grows = False
        mode = os.fstat(fd).st_mode
        self.always_ready = not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd))
        self.given = 0  # items handed out
        self.warn = warn
        self.complete = False  # the end of the stream was read
        self._name = name
        self._reader = reader
        self._nameless: list[Diagnostic] = []  # of the FOREACH that came last and have no file
        self._expander = Expander(lists)
        self._lists = lists
        self.hungry = True  # all that was read has been handed out
        self._resume = resume
        self._plan: Iterator[Supplied] = iter(())
        self._copy_path = copy
        try:
            self._copy = opening.new(copy)
        except OSError as error:
            raise RecordsFailed(f"{copy} cannot be made: {os.strerror(error.errno or 0)}") from None

    def readable(self) -> None:
        """Take what the stream has. Raises RecordsFailed."""
        try:
            data = os.read(self.fd, 1 << 18)
        except OSError as error:
            self._break(f"{self._name}: cannot be read: {os.strerror(error.errno or 0)}")
            return
        if data:
            self._keep(data)
        torn = not data and self._reader.torn
        items = self._reader.feed(data) if data else self._reader.close()
        self._plan = decided(chain.from_iterable(self._expand(items)), self._resume, self._mismatch)
        self.hungry = False
        if torn:
            said = "taskrun: {} ended within line {}, which has no line end: it is taken as it is; see that nothing of it is missing"
            self.warn(said.format(self._name if self._name != "-" else "standard input", self._reader.lines))
        if self._reader.errors:
            self._break(render_all(self._reader.diagnostics, self._name, self._reader.errors, self._reader.warnings, False).rstrip("\n"))
        elif new := in_order(self._reader.take_new(), self._nameless):
            self.warn(render_all(new, self._name, 0, 0).rstrip("\n"))
        if not data:
            self.complete = not self.broken
            self._close()

    @property
    def drained(self) -> bool:
        """Nothing more will come from the descriptor."""
        return self._copy < 0

    def read(self, count: int) -> list[Supplied]:
        items = list(islice(self._plan, count))
        self.given += len(items)
        if len(items) < count:
            self.hungry = True
            self.ended = self.drained
            if self.ended and self.complete and self._resume is not None:
                gone, self._resume = self._resume.unclaimed.find(self._expander.next_id), None
                if text := gone_text(gone, "the stream", ""):
                    self.warn(told(text))
        return items

    def look(self, *, last: bool) -> bool:  # noqa: ARG002 - its end was read
        return False

    def give_up(self, why: str, unused: int) -> None:
        """What was read last cannot be run: those items and all that would follow."""
        self.given -= unused
        self._plan = iter(())
        self.hungry = False
        self.ended = True
        self._break(f"{self._name}: {why}")

    def _expand(self, items: list[Item]) -> list[Iterator[Supplied]]:
        """A row of tasks for each item; the files of FOREACH are taken now."""
        rows: list[Iterator[Supplied]] = []
        self._nameless = []
        try:
            for item in items:
                rows.append(self._expander.expand(item))
                problems = take_some([item], self._lists, self._reader.judge)
                if first_error(problems):
                    self._break(render_all(problems, self._name, 0, 0).rstrip("\n"))
                    break
                self._nameless += problems
        except Refused as error:
            self._break(f"{self._name}: {error}")
        for note in self._lists.take_notes():
            self.warn(f"taskrun: {note}")
        return rows

    def _mismatch(self, decision: Decision) -> None:
        self._break(mismatch_text([decision], begun=True))

    def _break(self, why: str) -> None:
        self.broken = self.broken or why
        self._close()

    def _keep(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._copy, view) :]
        except OSError as error:
            raise RecordsFailed(f"{self._copy_path} cannot be written: {os.strerror(error.errno or 0)}") from None

    def _close(self) -> None:
        if self._copy >= 0:
            os.close(self._copy)
            self._copy = -1
