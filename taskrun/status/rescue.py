"""Where lines go that their file did not take: beside it, else into the folder for temporary files, else back to the caller."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from taskrun.errors import RecordsFailed
from taskrun.status import names, opening
from taskrun.status.durable import write_all


class Unwritten(RecordsFailed):
    """Lines that could not be written or made durable. The driver prints `lines`; they are nowhere else.

    `saved`: the files that took lines. They hold whole lines only and are read like the file they belong to.
    """

    def __init__(self, sentence: str, lines: tuple[bytes, ...] = (), saved: tuple[Path, ...] = ()) -> None:
        super().__init__(sentence)
        self.lines = lines
        self.saved = saved


def save(data: bytes, path: Path) -> tuple[tuple[Path, ...], tuple[bytes, ...]]:
    """Saves the lines in `data` that were meant for `path`: first in `PATH.unwritten`, what that does not take in TMPDIR.

    Returns the files that took lines, and the lines that none took.
    """
    saved = []
    for opened in (_beside, _temporary):
        if not data:
            break
        try:
            fd, where = opened(path)
        except OSError:
            continue
        try:
            taken = _append(fd, data)
        finally:
            with contextlib.suppress(OSError):
                os.close(fd)
        if taken:
            saved.append(where)
            data = data[taken:]
        else:
            _remove_empty(where)
    return tuple(saved), tuple(line + b"\n" for line in data.split(b"\n")[:-1])


def unwritten(path: Path, what: str, error: OSError | None, data: bytes) -> Unwritten:
    """Saves the lines in `data` and says so: the error to raise about `path`. `what`: the verb, as in "cannot be written"."""
    saved, left = save(data, path)
    sentence = f"{path} {what}" + (f": {os.strerror(error.errno) if error.errno else error}" if error else "")
    if saved:
        sentence += f"; {_count(data.count(NEWLINE) - len(left))} saved in {' and '.join(map(str, saved))}"
        if path.name.endswith(names.STATUS):
            sentence += ", to be given with -r as well when this run is resumed"
    if left:
        sentence += f"; {_count(len(left))} saved nowhere"
    return Unwritten(sentence, left, saved)


def together(problems: list[RecordsFailed]) -> Unwritten:
    """One error of several, each told once; where a file first failed comes before what that led to."""
    sentences = dict.fromkeys(str(problem) for problem in reversed(problems))
    lines = [line for problem in problems for line in getattr(problem, "lines", ())]
    saved = [where for problem in problems for where in getattr(problem, "saved", ())]
    return Unwritten("; ".join(sentences), tuple(lines), tuple(dict.fromkeys(saved)))


NEWLINE = b"\n"


def _count(lines: int) -> str:
    return "1 line is" if lines == 1 else f"{lines} lines are"


def _beside(path: Path) -> tuple[int, Path]:
    where = names.with_suffix(path, names.UNWRITTEN)
    return opening.own(where), where


def _temporary(path: Path) -> tuple[int, Path]:
    fd, where = tempfile.mkstemp(prefix=f"{path.name}.", suffix=names.UNWRITTEN)
    return fd, Path(where)


def _append(fd: int, data: bytes) -> int:
    """How many bytes of `data`, whole lines all of them, are durably at the end of the file."""
    before = None
    try:
        before = os.fstat(fd).st_size
        if before and os.pread(fd, 1, before - 1) != b"\n":
            write_all(fd, b"\n")  # an earlier rescue was cut short: its last line stays apart, and does not count
            before += 1
        with contextlib.suppress(OSError):
            write_all(fd, data)
        size = os.fstat(fd).st_size
        taken = data.rfind(b"\n", 0, size - before) + 1
        os.ftruncate(fd, before + taken)
        os.fsync(fd)
    except OSError:
        if before is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, before)
        return 0
    return taken


def _remove_empty(where: Path) -> None:
    with contextlib.suppress(OSError):
        if where.stat().st_size == 0:
            where.unlink()
