"""From program items to tasks: ids, prefix and suffix, repeats, files."""

from __future__ import annotations

import re
from functools import partial
from itertools import count, repeat
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast

from taskrun.language import items
from taskrun.language.words import pattern, plain, template
from taskrun.model import NO_REPEAT, Barrier, Encryption, PerEngine, Staging, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Expanded: TypeAlias = Task | Barrier | PerEngine | Staging

# A named tuple's own constructor is Python code; a million tasks feel it.
_task = cast("Callable[[tuple[int, int, int, bytes, bytes | None, tuple[Staging, ...]]], Task]", partial(tuple.__new__, Task))

#: What stands for the file in the text of a FOREACH.
PLACE = b"{}"

#: Before a place: what a word of the shell begins after, also within quotes.
_begins_word = re.compile(rb"(?:\A|[\s;|&<>()=`])[\"']?\Z").search
_OPTION = b"./-"  # begins the path of a file whose name a program would take for an option

_safe = re.compile(rb"[\w@%+=:,./-]+", re.ASCII).fullmatch


class Files(Protocol):
    """Which files a FOREACH has; always the same ones, however often it is asked."""

    def take(self, item: items.Foreach, template: bytes) -> int:
        """How many. `template`: its text with prefix and suffix. The first call decides which."""

    def paths(self, item: items.Foreach) -> Iterator[bytes]:
        """Each of them, in order."""


def quoted(path: bytes) -> bytes:
    """A path as bash takes it back, whatever bytes it has."""
    return path if _safe(path) else b"'" + path.replace(b"'", b"'\"'\"'") + b"'"


def is_dotted(glob: bytes) -> bool:
    """Return whether the paths of a glob begin with `./` because it says so."""
    return glob.lstrip(b"\"'\\").startswith(b"./")


def safe_path(path: bytes, glob: bytes) -> bytes:
    """A path that matches a glob as a program may be given it: `./-n.txt` for `-n.txt`."""
    return b"./" + path if path.startswith(b"-") and not is_dotted(glob) else path


def bare_path(path: bytes, glob: bytes) -> bytes:
    """The same without what `safe_path` has put before it."""
    return path[2:] if path.startswith(_OPTION) and not is_dotted(glob) else path


def filled(template: bytes, path: bytes, glob: bytes) -> bytes:
    """The text with the quoted path in its places. Within a word, as in `out_{}`, nothing can be an option: the bare path stands there."""
    bare = bare_path(path, glob)
    if bare is path:
        return template.replace(PLACE, quoted(path))
    before, *rest = template.split(PLACE)
    text = before
    for number, after in enumerate(rest):
        begins = _begins_word(before) and (before.strip(b"\"'") or not number)
        text += quoted(path if begins else bare) + after
        before = after
    return text


class Expander:
    """Follows a program from its first item to its last; what an item becomes depends on the items before it."""

    def __init__(self, files: Files | None = None) -> None:
        """`files`: needed for FOREACH."""
        self._files = files
        self.next_id = 0  # tasks and barriers count together
        self._next = {"START": 0, "STOP": 0}
        self._prefix = b""
        self._suffix = b""
        self.staging: tuple[Staging, ...] = ()  # of each task from here on
        self._encryption: Encryption | None = None

    def expand(self, item: items.Item) -> Iterator[Expanded]:
        """What the item becomes: nothing, one value, or a lazy row of tasks. Ids are given by the call, however late they are used."""
        if isinstance(item, items.Lines):
            return self._lines(item)
        if isinstance(item, items.Repeat):
            ids = self._ids(item.count)
            command = self._command(item.command)
            return map(
                _task,
                zip(
                    ids, repeat(item.line), count(item.start, item.step), repeat(command), repeat(None), repeat(self.staging), strict=False
                ),
            )
        if isinstance(item, items.Foreach):
            return self._foreach(item)
        if isinstance(item, items.Barrier):
            (number,) = self._ids(1)
            return iter((Barrier(number, item.line, item.check, item.key, item.text),))
        if isinstance(item, items.PerEngine):
            number = self._next[item.when]
            self._next[item.when] += 1
            return iter((PerEngine(number, item.line, item.when, self._command(item.command), item.check),))
        if isinstance(item, items.Stage):
            return iter(self._stage(item))
        if isinstance(item, items.Prefix):
            self._prefix = item.text
        elif isinstance(item, items.Suffix):
            self._suffix = item.text
        else:
            self._encryption = Encryption(item.recipients, item.sign) if item.recipients else None
        return iter(())

    def _stage(self, item: items.Stage) -> tuple[Staging, ...]:
        """One of the run or of engines stands in the plan; those of tasks go with every task below."""
        if not item.source:
            self.staging = tuple(each for each in self.staging if each.way != item.way)
            return ()
        if item.scope == "TASK":
            words = template(item.source, globs=True), template(item.dest, globs=False)
        else:
            words = pattern(item.source), plain(item.dest)
        source, dest = (text.decode("utf-8", "surrogateescape") for text in words)
        staging = Staging(item.line, item.way, item.scope, source, dest, self._encryption)
        if item.scope != "TASK":
            return (staging,)
        self.staging = (*self.staging, staging)
        return ()

    def _lines(self, item: items.Lines) -> Iterator[Task]:
        ids = self._ids(item.tasks)
        texts: Iterable[bytes] = item.text.split(b"\n")
        lines: Iterable[int] = count(item.line)
        if item.text.count(b"\n") + 1 != item.tasks:
            commands = list(item.commands())
            lines, texts = [line for line, _ in commands], [text for _, text in commands]
        if self._prefix or self._suffix:
            prefix, suffix = self._prefix, self._suffix
            texts = [prefix + text + suffix for text in texts]
        return map(_task, zip(ids, lines, repeat(NO_REPEAT), texts, repeat(None), repeat(self.staging), strict=False))

    def _foreach(self, item: items.Foreach) -> Iterator[Task]:
        if self._files is None:
            raise ValueError("FOREACH needs its files")
        template = self._command(item.command)
        ids = self._ids(self._files.take(item, template))
        rows = zip(ids, count(), self._files.paths(item), strict=False)
        staging, glob = self.staging, item.glob
        return (Task(id_, item.line, index, filled(template, path, glob), bare_path(path, glob), staging) for id_, index, path in rows)

    def _ids(self, number: int) -> range:
        ids = range(self.next_id, self.next_id + number)
        self.next_id = ids.stop
        return ids

    def _command(self, text: bytes) -> bytes:
        return self._prefix + text + self._suffix
