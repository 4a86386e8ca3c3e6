"""Where the text of a task file comes from: a file scanned once before the run and read again during it, or a stream."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol, TypeAlias

from taskrun.errors import Refused
from taskrun.language.diagnostics import Diagnostic, render
from taskrun.language.items import Barrier, Encrypt, Foreach, Item, Lines, PerEngine, Prefix, Repeat, Stage, Suffix
from taskrun.language.reader import Reader
from taskrun.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from taskrun.language.marks import Marks

StrPath: TypeAlias = "str | os.PathLike[str]"


class Stream(Protocol):
    def read(self, size: int, /) -> bytes | None:
        """Up to so many bytes, none at the end."""


_SCAN_SIZE = 1 << 20
_READ_SIZE = 1 << 18  # smaller: what is read is held until it has run


class End(NamedTuple):
    """Where a scan has ended, to go on from there: what comes after it depends on what was above."""

    reader: Reader  # before the last line, if that has no line end
    marks: Marks
    prefix: bytes
    suffix: bytes


class Scan(NamedTuple):
    """What is known of a task file before anything runs. If there are errors, tasks, barriers and perengine are those above the first."""

    name: str
    diagnostics: list[Diagnostic]  # up to a cap of each severity
    errors: int
    warnings: int
    lines: int
    tasks: int  # those of REPEAT included, those of FOREACH not: which files there are is not in the text
    barriers: int
    perengine: list[PerEngine]  # as written: prefix and suffix are not applied
    sha256: str
    size: int  # bytes
    foreach: list[tuple[Foreach, bytes]]  # each with its text between the prefix and the suffix of its place
    stages: list[Stage | Encrypt]
    judge: Callable[[Diagnostic], Diagnostic | None]  # what is to be said of something that is found later: see Reader.judge
    end: End
    torn: int | None = None  # tasks of a last line without its line end; None: there is no such line


class Tally:
    """What a run must know of the items that it will meet."""

    def __init__(self, prefix: bytes = b"", suffix: bytes = b"") -> None:
        self.tasks = 0
        self.barriers = 0
        self.perengine: list[PerEngine] = []
        self.foreach: list[tuple[Foreach, bytes]] = []
        self.stages: list[Stage | Encrypt] = []
        self.prefix = prefix
        self.suffix = suffix

    def add(self, items: list[Item]) -> None:
        for item in items:
            if isinstance(item, Lines):
                self.tasks += item.tasks
            elif isinstance(item, Repeat):
                self.tasks += item.count
            elif isinstance(item, Barrier):
                self.barriers += 1
            elif isinstance(item, PerEngine):
                self.perengine.append(item)
            elif isinstance(item, Prefix):
                self.prefix = item.text
            elif isinstance(item, Suffix):
                self.suffix = item.text
            elif isinstance(item, Foreach):
                self.foreach.append((item, self.prefix + item.command + self.suffix))
            else:
                self.stages.append(item)

    def scan(self, name: str, reader: Reader, end: End, torn: int | None) -> Scan:
        return Scan(
            name, reader.diagnostics, reader.errors, reader.warnings, reader.lines, self.tasks, self.barriers, self.perengine,
            end.marks.hexdigest(), end.marks.size, self.foreach, self.stages, reader.judge, end, torn,
        )  # fmt: skip


def scan_file(path: StrPath, *, ignore_unknown: bool = False, strict: bool = False) -> Scan:
    """Reads the file once and keeps what a run must know of it. Raises Refused if it cannot be read."""
    with open_file(path) as stream:
        return scan(stream, os.fspath(path), ignore_unknown=ignore_unknown, strict=strict)


def scan(stream: BinaryIO, name: str, *, ignore_unknown: bool = False, strict: bool = False) -> Scan:
    """The same for an open binary stream, which is read to its end. Raises Refused if it cannot be read."""
    from taskrun.language.marks import Marks  # hashlib: a stream is read without

    reader, marks, tally = Reader(name, ignore_unknown=ignore_unknown, strict=strict), Marks(), Tally()
    while data := _read(stream, _SCAN_SIZE, name):
        marks.feed(data)
        tally.add(reader.feed(data))
    end = End(reader.fork(), marks, tally.prefix, tally.suffix)
    torn = tally.tasks if reader.torn else None
    tally.add(reader.close())
    return tally.scan(name, reader, end, None if torn is None else tally.tasks - torn)


def scan_on(end: End, pieces: Iterable[bytes], name: str) -> tuple[Scan, bool]:
    """What follows a text that was scanned, as far as its lines are complete, and whether a line without its end comes after them.

    Lines, size and digest are those of all of it; whatever else, of what follows.
    """
    reader, marks, tally = end.reader.fork(), end.marks.copy(), Tally(end.prefix, end.suffix)
    reader.begin()
    whole = end.marks  # up to the last line end
    for data in pieces:
        tally.add(reader.feed(data))
        place = data.rfind(b"\n") + 1
        marks.feed(data[:place])
        whole = marks.copy() if place else whole
        marks.feed(data[place:])
    ended = end.reader
    if whole is not end.marks:
        ended = reader.fork()
        ended.drop()
    return tally.scan(name, reader, End(ended, whole, tally.prefix, tally.suffix), None), marks.size > whole.size


def read_items(source: StrPath | Stream, name: str = "-", *, ignore_unknown: bool = False) -> Iterator[Item]:
    """The items of a file or an open binary stream, as soon as each can be had. `name`: of a stream.

    Raises Refused if it cannot be read, or at the first error in it (a file that was scanned before has none, unless it changed).
    """
    name, opened = (os.fspath(source), open_file(source)) if isinstance(source, str | os.PathLike) else (name, nullcontext(source))
    with opened as stream:
        reader = Reader(name, ignore_unknown=ignore_unknown, slips=False)
        data = b"-"
        while data:
            data = _read(stream, _READ_SIZE, name)
            items = reader.feed(data) if data else reader.close()
            if reader.errors:
                raise Refused(render(next(diagnostic for diagnostic in reader.diagnostics if diagnostic.severity == "error"), name))
            yield from items


def open_file(path: StrPath) -> BinaryIO:
    """Raises Refused, with a hint for a misspelt name."""
    name = os.fspath(path)
    try:
        return Path(path).open("rb", buffering=0)
    except FileNotFoundError:
        raise Refused(f"{visible(name)}: no such file{_similar(Path(path))}") from None
    except IsADirectoryError:
        raise Refused(f"{visible(name)}: is a folder, not a task file") from None
    except (OSError, ValueError) as error:
        raise Refused(f"{visible(name)}: cannot be read: {_why(error)}") from None


def _read(stream: Stream, size: int, name: str) -> bytes:
    """What is there, up to `size` bytes: a pipe must not be waited for until it is full."""
    try:
        data: bytes | None = stream.read1(size) if hasattr(stream, "read1") else stream.read(size)
    except OSError as error:
        raise Refused(f"{visible(name)}: cannot be read: {_why(error)}") from None
    return data or b""


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return (reason or str(error)).lower()


def _similar(path: Path) -> str:
    """A hint for a misspelt file name."""
    from difflib import get_close_matches  # only for a mistake

    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
    except OSError:
        return ""
    near = get_close_matches(path.name, names, 1, 0.7)
    return f"; did you mean {visible(str(path.with_name(near[0])))}?" if near else ""
