"""Where the text of a task file comes from: a file scanned once before the run and read again during it, or a stream."""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeAlias

from taskrun.errors import Refused
from taskrun.language.diagnostics import Diagnostic, render
from taskrun.language.items import Barrier, Encrypt, Foreach, Item, Lines, PerEngine, Prefix, Repeat, Stage, Suffix
from taskrun.language.reader import Reader
from taskrun.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

StrPath: TypeAlias = "str | os.PathLike[str]"

_SCAN_SIZE = 1 << 20
_READ_SIZE = 1 << 18  # smaller: what is read is held until it has run


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


def scan_file(path: StrPath, *, ignore_unknown: bool = False) -> Scan:
    """Reads the file once and keeps what a run must know of it. Raises Refused if it cannot be read."""
    with _open(path) as stream:
        return scan(stream, os.fspath(path), ignore_unknown=ignore_unknown)


def scan(stream: BinaryIO, name: str, *, ignore_unknown: bool = False) -> Scan:
    """The same for an open binary stream, which is read to its end. Raises Refused if it cannot be read."""
    from hashlib import sha256  # a stream is read without

    reader = Reader(name, ignore_unknown=ignore_unknown)
    digest = sha256()
    size = tasks = barriers = 0
    perengine: list[PerEngine] = []
    foreach: list[tuple[Foreach, bytes]] = []
    stages: list[Stage | Encrypt] = []
    prefix = suffix = b""
    ended = False
    while not ended:
        data = _read(stream, _SCAN_SIZE, name)
        ended = not data
        digest.update(data)
        size += len(data)
        for item in reader.close() if ended else reader.feed(data):
            if isinstance(item, Lines):
                tasks += item.tasks
            elif isinstance(item, Repeat):
                tasks += item.count
            elif isinstance(item, Barrier):
                barriers += 1
            elif isinstance(item, PerEngine):
                perengine.append(item)
            elif isinstance(item, Prefix):
                prefix = item.text
            elif isinstance(item, Suffix):
                suffix = item.text
            elif isinstance(item, Foreach):
                foreach.append((item, prefix + item.command + suffix))
            else:
                stages.append(item)
    return Scan(
        name, reader.diagnostics, reader.errors, reader.warnings, reader.lines, tasks, barriers, perengine,
        digest.hexdigest(), size, foreach, stages,
    )  # fmt: skip


def read_items(source: StrPath | BinaryIO, *, ignore_unknown: bool = False) -> Iterator[Item]:
    """The items of a file or an open binary stream, as soon as each can be had.

    Raises Refused if it cannot be read, or at the first error in it (a file that was scanned before has none, unless it changed).
    """
    name, opened = (os.fspath(source), _open(source)) if isinstance(source, str | os.PathLike) else ("-", nullcontext(source))
    with opened as stream:
        reader = Reader(name, ignore_unknown=ignore_unknown)
        data = b"-"
        while data:
            data = _read(stream, _READ_SIZE, name)
            items = reader.feed(data) if data else reader.close()
            if reader.errors:
                raise Refused(render(next(diagnostic for diagnostic in reader.diagnostics if diagnostic.severity == "error"), name))
            yield from items


def _open(path: StrPath) -> BinaryIO:
    name = os.fspath(path)
    try:
        return Path(path).open("rb", buffering=0)
    except FileNotFoundError:
        raise Refused(f"{visible(name)}: no such file{_similar(Path(path))}") from None
    except IsADirectoryError:
        raise Refused(f"{visible(name)}: is a folder, not a task file") from None
    except (OSError, ValueError) as error:
        raise Refused(f"{visible(name)}: cannot be read: {_why(error)}") from None


def _read(stream: BinaryIO, size: int, name: str) -> bytes:
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
