"""What becomes of a task when records of earlier runs are given: run, skip, run again, or stop because it is another task.

Tasks are found by id. Of several files the later one wins, within a file the later line. A task about to be skipped must be the one on
record: the same repeat index and command; its line number may have moved. Tasks that run again are not compared; those without a record
are by edits.py.

With `--match command` they are found by their text instead, the nth of one text being the nth on record. Of several files the later
one that has an nth wins. Nothing can then be another task than the one on record: what has none runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from taskrun.model import NO_REPEAT, Skipped, Task
from taskrun.planning.gone import Unclaimed
from taskrun.planning.match import ByCommand, digest_of, names_its_file
from taskrun.status.reader import StatusIndex
from taskrun.status.record import command_of, same_command, skipped_line
from taskrun.visible import visible

Action: TypeAlias = Literal["run", "skip", "retry", "mismatch"]

_WIDTH = 60  # characters of a command shown around the first difference
_BEFORE = 24  # of these, before it


class Decision(NamedTuple):
    """What becomes of one task, and what it was decided from.

    `run`: it has no record. `skip`: it is done (`forced`: although another task is on record). `retry`: it failed and runs again.
    `mismatch`: it would be skipped, but another task is on record; nothing may run.
    """

    action: Action
    task: Task
    code: int | None = None  # return code on record
    record: bytes | None = None  # the line on record, with its newline
    source: Path | None = None  # the status file it is in
    forced: bool = False
    moved: bool = False  # found by its text: id and line number may be others than those on record
    continued: bool = False  # the file is being continued, so the record is in it already

    @property
    def reason(self) -> str:
        """Why, as a short sentence."""
        if self.record is None or self.source is None:
            return "no record"
        if self.action == "retry":
            return f"failed with {self.code}; -R runs it again ({self.source.name})"
        if self.action == "mismatch":
            return f"another task is on record ({self.source.name})"
        columns = self.record.split(b"\t", 14)
        was = f"as task {int(columns[1])}, " if self.moved and int(columns[1]) != self.task.id else ""
        text = f"{was}ended with {self.code} on {_shown(columns[4])}{_at(columns[9])} ({self.source.name})"
        return text + "; another task is on record, skipped by --force-resume" if self.forced else text

    def skipped(self) -> Skipped:
        """The item for the scheduler, with the S line to write, if any. Raises ValueError if the task is not skipped."""
        if self.action != "skip" or self.record is None or self.code is None:
            raise ValueError(f"task {self.task.id} is not skipped")
        if self.continued:
            return Skipped(self.task, self.code, b"")
        return Skipped(self.task, self.code, skipped_line(self.record, self.task if self.moved else None))


class Resume:
    """Decides task by task, in the order of the task file. `records`: one index per -r, in the order given.

    `retry` is -R, `force` is --force-resume, `match` is --match. `continued`: the one of the records whose file is being continued.
    `own`: it is this very run's, so its tasks are found by id and what failed in it has had its turn.
    """

    def __init__(
        self,
        records: Sequence[StatusIndex],
        *,
        retry: bool = False,
        force: bool = False,
        match: str = "id",
        continued: StatusIndex | None = None,
        own: bool = False,
    ) -> None:
        self._retry = retry
        self._force = force
        self._continued = continued
        self._own = continued if own else None
        by_id = [each for each in reversed(records) if match == "id" or each is self._own]
        self._newest_first = tuple(by_id)
        self._by_command = [ByCommand(each) for each in reversed(records) if each not in by_id]
        self._by_foreach: list[ByCommand] | None = None  # made when the first task of one comes
        self.unclaimed = Unclaimed(by_id, [each.index for each in self._by_command])

    def restart(self) -> None:
        """The tasks are gone through once more, from the first one."""
        for each in (*self._by_command, *(self._by_foreach or ())):
            each.restart()
        self.unclaimed.restart()

    def decide(self, task: Task) -> Decision:
        """What becomes of `task`. Raises Refused if a status file was changed while it is being read."""
        if self._by_command:
            moved = self._find(task)
        for index in self._newest_first:
            line = index.line(task.id)
            if line is not None:
                break
        else:
            return moved if self._by_command else Decision("run", task)
        continued = index is self._continued
        try:
            _, _, _, repeat, _, _, code_text, _, _, _, _, _, _, _, command = line.split(b"\t", 14)
            code = int(code_text)
            same = int(repeat) == task.repeat
        except ValueError:  # it was a record when the file was indexed
            raise index.changed() from None
        if self._retry and code != 0 and index is not self._own:
            return Decision("retry", task, code, line, index.path)
        column = command[:-1]
        if same and (column == task.command or same_command(task.command, column)):
            return Decision("skip", task, code, line, index.path, continued=continued)
        if self._force:
            return Decision("skip", task, code, line, index.path, forced=True, continued=continued)
        return Decision("mismatch", task, code, line, index.path)

    def _find(self, task: Task) -> Decision:
        """What becomes of `task` by its text; every file must be asked, so that each counts how often the text came."""
        by_text = self._by_command
        if task.file is not None:
            if not names_its_file(task):
                self.unclaimed.unsure = True
                return Decision("run", task)
            if self._by_foreach is None:
                self._by_foreach = [ByCommand(each.index, repeats=False) for each in by_text]
            by_text = self._by_foreach
        key = digest_of(task)
        found = None
        for each in by_text:
            id_ = each.next(key)
            if id_ >= 0:
                self.unclaimed.claim(each.index, id_)
                found = found or (each.index, id_)
        if found is None:
            return Decision("run", task)
        index, id_ = found
        line = index.line(id_)
        if line is None:
            raise index.changed()
        columns = line.split(b"\t", 14)
        code = int(columns[6])
        if (task.file is None and int(columns[3]) != task.repeat) or not same_command(task.command, columns[14][:-1]):
            return Decision("run", task)  # another text with the same digest
        if self._retry and code != 0:
            return Decision("retry", task, code, line, index.path, moved=True)
        return Decision("skip", task, code, line, index.path, moved=True)


def mismatch_text(mismatches: Sequence[Decision], total: int | None = None, *, begun: bool = False) -> str:
    """Tasks that are not those on record, each beside its record.

    `mismatches`: the first few; `total`: how many there are in all; `begun`: tasks above them may have run.
    """
    count = total if total is not None else len(mismatches)
    first = mismatches[0].source.name if mismatches and mismatches[0].source else "the status file"
    lines = [f"{count} task{' is' if count == 1 else 's are'} not what {first} has on record: nothing {'more is' if begun else 'was'} run"]
    for one in mismatches:
        lines += _beside(one)
    if count > len(mismatches):
        lines.append(f"  … and {count - len(mismatches)} more")
    lines.append(
        "Undo the change; or --match command finds tasks by their text, --force-resume skips them all the same; without -r every task runs."
    )
    return "\n".join(lines)


def _beside(one: Decision) -> list[str]:
    columns = (one.record or b"").split(b"\t", 14)
    old, new = _shown(command_of(columns[14][:-1])), _shown(one.task.command)
    at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, at - _BEFORE) if max(len(old), len(new)) > _WIDTH else 0
    lines = [
        f"  task {one.task.id}",
        f"    on record, line {int(columns[2])}{_repeat(int(columns[3]))}: ",
        f"    now, line {one.task.line}{_repeat(one.task.repeat)}: ",
    ]
    margin = max(map(len, lines[1:]))
    lines[1] = lines[1].ljust(margin) + _cut(old, start)
    lines[2] = lines[2].ljust(margin) + _cut(new, start)
    if old != new:
        lines.append(" " * (margin + at - start + (1 if start else 0)) + "^")
    return lines


def _cut(text: str, start: int) -> str:
    return ("…" if start else "") + text[start : start + _WIDTH] + ("…" if len(text) > start + _WIDTH else "")


def _shown(command: bytes) -> str:
    return visible(command.decode("utf-8", "surrogateescape"))


def _repeat(index: int) -> str:
    return "" if index == NO_REPEAT else f", repeat {index}"


def _at(seconds: bytes) -> str:
    try:
        when = datetime.fromtimestamp(float(seconds), tz=timezone.utc).astimezone()  # the user's own time, as `date` shows it
        return f" at {when:%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return ""
