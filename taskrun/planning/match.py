"""Tasks found by their text: the nth task of one text is the nth on record, in the order of ids.

Text is the command and the repeat index; of a FOREACH the command alone, since its index moves on when a file comes between others.
20 bytes a record: the digest of its text, its id, and how often the text has been asked for. Two texts of one digest are told apart
by whoever reads the record that was found.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from taskrun.model import Task
from taskrun.planning.expand import quoted, safe_path
from taskrun.status.reader import StatusIndex
from taskrun.status.record import command_column, command_of

ANY_REPEAT = -2  # in place of the repeat index, where it does not count


def digest(repeat: int, column: bytes) -> int:
    """The digest of a task's text; `column`: its Command column."""
    if column.startswith((b"b'", b'b"')):  # disBatch quotes a literal in more ways than one
        column = command_column(command_of(column))
    return hash((repeat, column))


def digest_of(task: Task) -> int:
    return digest(task.repeat if task.file is None else ANY_REPEAT, command_column(task.command))


def names_its_file(task: Task) -> bool:
    """Whether the text of a FOREACH's task tells it from the others."""
    return task.file is not None and (quoted(task.file) in task.command or quoted(safe_path(task.file, b"")) in task.command)


class ByCommand:
    """The records of one status file by their text."""

    def __init__(self, index: StatusIndex, *, repeats: bool = True) -> None:
        """`repeats`: whether the repeat index counts. Raises Refused if the file was changed while it is being read."""
        self.index = index
        digests, ids = array("q"), array("q")
        for id_ in index.ids():
            line = index.line(id_)
            if line is None:
                raise index.changed()
            columns = line.split(b"\t", 14)
            digests.append(digest(int(columns[3]) if repeats else ANY_REPEAT, columns[14][:-1]))
            ids.append(id_)
        order = sorted(range(len(ids)), key=digests.__getitem__)  # keeps the order of ids where digests are the same
        self._digests = array("q", map(digests.__getitem__, order))
        self._ids = array("q", map(ids.__getitem__, order))
        self.restart()

    def restart(self) -> None:
        """Begin again with the first task of every text."""
        self._asked = array("I", bytes(4 * len(self._ids)))

    def next(self, key: int) -> int:
        """The id on record of the next task with this digest; -1 if there is none."""
        digests = self._digests
        first = bisect_left(digests, key)
        if first == len(digests) or digests[first] != key:
            return -1
        place = first + self._asked[first]
        self._asked[first] += 1
        return self._ids[place] if place < len(digests) and digests[place] == key else -1
