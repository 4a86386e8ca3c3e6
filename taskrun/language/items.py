"""What a task file says, in its order: the program items. Nothing is expanded yet, so an item costs no more than its text."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Whether a line is neither blank nor a comment.
task = re.compile(rb"[ \t\r\f\v]*[^ \t\r\f\v#]").match


class Lines(NamedTuple):
    """Consecutive whole lines without a directive; comments and blank lines among them are no tasks."""

    line: int  # 1-based, of the first
    text: bytes  # joined by LF, none at the end
    tasks: int  # how many of the lines are tasks, at least one

    def commands(self) -> Iterator[tuple[int, bytes]]:
        """Each task's line number and its text, to the byte."""
        numbered = enumerate(self.text.split(b"\n"), self.line)
        if self.text.count(b"\n") + 1 == self.tasks:
            return numbered
        return ((number, text) for number, text in numbered if task(text))

    def above(self, line: int) -> Lines | None:
        """The part above a line, None if no task is in it."""
        if self.line + self.text.count(b"\n") < line:
            return self
        kept = self.text.split(b"\n", line - self.line)[: line - self.line]
        tasks = sum(1 for text in kept if task(text))
        return Lines(self.line, b"\n".join(kept), tasks) if tasks else None


class Prefix(NamedTuple):
    """`text` stands before every command from here on."""

    line: int
    text: bytes


class Suffix(NamedTuple):
    """`text` stands after every command from here on."""

    line: int
    text: bytes


class Barrier(NamedTuple):
    """Nothing below starts until everything above has ended."""

    line: int
    check: bool
    key: bytes | None
    text: bytes  # the whole line: the Command column of its record


class Repeat(NamedTuple):
    """`count` tasks of one text; their repeat indices are start, start + step, …"""

    line: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs
    start: int
    step: int
    command: bytes


class Foreach(NamedTuple):
    """A task of one text for each file that the glob matches; `{}` in it stands for the file."""

    line: int
    glob: bytes  # one word, as written
    command: bytes
    text: bytes  # the whole line


class PerEngine(NamedTuple):
    """A command for every engine, before its first task or when it leaves."""

    line: int
    when: Literal["START", "STOP"]
    command: bytes
    check: bool = False  # START: an engine on which it fails is not used


class Stage(NamedTuple):
    """Data that is fetched before tasks, or delivered after them. Words are as written, quotes included."""

    line: int
    way: Literal["in", "out"]
    scope: Literal["RUN", "ENGINE", "TASK"]
    source: bytes  # empty: tasks below have none of this kind any more
    dest: bytes
    text: bytes = b""  # the whole line


class Encrypt(NamedTuple):
    """For whom everything that leaves is encrypted from here on; for nobody, and not at all, when there are no recipients."""

    line: int
    recipients: tuple[str, ...]
    sign: str  # the key that signs, '' for none
    text: bytes = b""  # the whole line


class Allow(NamedTuple):
    """Warnings of these kinds are silent from here on. It changes nothing that runs, so it is no item of the program."""

    line: int
    kinds: tuple[str, ...]


Item: TypeAlias = Lines | Prefix | Suffix | Barrier | Repeat | Foreach | PerEngine | Stage | Encrypt


def above(items: list[Item], line: int) -> list[Item]:
    """The items above a line."""
    parts = (item.above(line) if isinstance(item, Lines) else item for item in items if item.line < line)
    return [part for part in parts if part is not None]
