"""Records of tasks that the task file no longer has: they are left where they are, and said, so that no work is lost without a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from taskrun.status.reader import StatusIndex
from taskrun.status.record import command_of
from taskrun.visible import visible

_SHOWN = 3
_WIDTH = 40  # characters of a command


class Gone(NamedTuple):
    """How many there are, and the first few: each whole, with the name of its file."""

    number: int
    first: tuple[tuple[str, bytes], ...]


class Unclaimed:
    """Told of what the plan has, finds the records that are of nothing in it.

    Files in which tasks are found by id lose those beyond its end and those that are barriers now, the others all that nothing claims.
    """

    def __init__(self, by_id: Sequence[StatusIndex], by_command: Sequence[StatusIndex]) -> None:
        """Both the newest first."""
        self._by_id = by_id
        self._by_command = by_command
        self.restart()

    def restart(self) -> None:
        """The plan is gone through once more."""
        self._count = 0
        self._first: list[tuple[StatusIndex, int]] = []
        self._claimed = [(bytearray(), set[int]()) for _ in self._by_command]
        self.unsure = False  # a task could not be looked for by its text

    def barrier(self, id_: int) -> None:
        """An id of the plan that is no task's."""
        for index in self._by_id:
            if index.has(id_):
                self._add(index, id_)
                return

    def claim(self, index: StatusIndex, id_: int) -> None:
        """A record that is of a task."""
        marks, others = self._claimed[self._by_command.index(index)]
        if not marks:
            marks.extend(bytes(len(index) + 1))
        if id_ < len(marks):
            marks[id_] = 1
        else:
            others.add(id_)

    def find(self, end: int) -> Gone:
        """The records that are of no task in a plan with so many ids. Raises Refused if a status file was changed meanwhile."""
        for place, index in enumerate(self._by_id):
            newer = self._by_id[:place]
            for id_ in index.ids(end):
                if not any(each.has(id_) for each in newer):
                    self._add(index, id_)
        for index, (marks, others) in zip(self._by_command, self._claimed, strict=True):
            for id_ in index.ids() if not self.unsure else ():
                if not (marks[id_] if id_ < len(marks) else id_ in others):
                    self._add(index, id_)
        first = []
        for index, id_ in self._first:
            line = index.line(id_)
            if line is None:
                raise index.changed()
            first.append((index.path.name, line))
        return Gone(self._count, tuple(first))

    def _add(self, index: StatusIndex, id_: int) -> None:
        self._count += 1
        if len(self._first) < _SHOWN:
            self._first.append((index, id_))


def gone_text(gone: Gone, file: str, new: str) -> str:
    """The sentence, '' if there are none. `file`: the name of the task file; `new`: of a new status file, '' if one is continued."""
    if not gone.number:
        return ""
    shown = [_shown(line) for _, line in gone.first]
    if gone.number > len(shown):
        shown.append(f"{gone.number - len(shown)} more")
    where = ", ".join(dict.fromkeys(name for name, _ in gone.first))
    one = gone.number == 1
    records, which, they = ("1 record", "is of a task", "it stays") if one else (f"{gone.number} records", "are of tasks", "they stay")
    left = f" and {'is' if one else 'are'} not in {new}" if new else ""
    return f"{records} of {where} {which} that {file} does not have any more ({'; '.join(shown)}): {they} there{left}"


def _shown(line: bytes) -> str:
    columns = line.split(b"\t", 14)
    text = visible(command_of(columns[14][:-1]).decode("utf-8", "surrogateescape"))
    return f"task {int(columns[1])}: {text if len(text) <= _WIDTH else text[: _WIDTH - 1] + '…'}"
