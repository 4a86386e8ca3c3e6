"""The text of a regular task file while it is run: an open descriptor, what was scanned, and what stands at the path meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from taskrun.errors import Refused
from taskrun.language.marks import Rereading
from taskrun.language.source import open_file, scan

PIECE = 1 << 18  # bytes: with more the run would wait for what is done with them
WHOLE = 16 << 20  # bytes of a text that is compared from its beginning when it grows, 10 to 40 ms; of a longer one the last part


class TaskText:
    """`scan`: what is known of it, up to the end of what may run."""

    def __init__(self, path: Path, shown: str, *, ignore_unknown: bool, strict: bool = False) -> None:
        """Scan the file. `shown`: its name as the person typed it. Raises Refused."""
        self.path = path
        self.shown = shown
        self.failure = ""  # why it could not be read
        self._other: tuple[int, ...] = ()  # state of another file at the path, which was looked at
        with open_file(shown) as file:
            self._first = self._seen = _state(os.fstat(file.fileno()))
            self.scan = scan(file, shown, ignore_unknown=ignore_unknown, strict=strict)
            self.fd = os.dup(file.fileno())

    def close(self) -> None:
        os.close(self.fd)

    # reading

    def read(self, place: int, size: int) -> bytes:
        """The bytes there, fewer only at the end of the file or after a failure."""
        self.failure = ""
        try:
            return _read(self.fd, place, size)
        except OSError as error:
            self.failure = os.strerror(error.errno or 0).lower()
            return b""

    def pieces(self, size: int) -> Iterator[bytes]:
        """The first bytes of the file as it is now, fewer if it has fewer. Raises OSError."""
        return _pieces(self.fd, size)

    def added(self) -> Iterator[bytes]:
        """What follows the text that was scanned. Raises OSError."""
        return _pieces(self.fd, os.fstat(self.fd).st_size, self.scan.size)

    def again(self) -> TextAgain:
        """A stream of the text that was scanned."""
        return TextAgain(self)

    # what happens to the file

    def touched(self) -> bool:
        """Whether the open file is another than at the last question, by its size and times."""
        try:
            now = _state(os.fstat(self.fd))
        except OSError:
            return False
        before, self._seen = self._seen, now
        return now != before

    @property
    def disturbed(self) -> bool:
        """Something has happened to the file since it was opened, or may have."""
        self.follow()
        self.touched()
        return self._seen != self._first or bool(self._other)

    @property
    def state(self) -> tuple[int, ...]:
        """The state of the open file at the last question."""
        return self._seen

    @property
    def longer(self) -> bool:
        """The open file has more bytes than were scanned."""
        try:
            return os.fstat(self.fd).st_size > self.scan.size
        except OSError:
            return False

    def follow(self) -> bool:
        """Whether another file, which was not looked at before, stands at the path: one that begins with this text takes its place.

        A path that cannot be looked at says nothing.
        """
        try:
            there = self.path.stat()
            if _place(there) == self._seen[:2] or _state(there) == self._other:
                return False
            self._other = _state(there)
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            there = os.fstat(fd)
            if stat.S_ISREG(there.st_mode) and self._begins(fd, 0):
                os.dup2(fd, self.fd, inheritable=False)  # whoever reads this one in a thread reads on
                self._other = ()
        except OSError:
            pass
        finally:
            os.close(fd)
        return True

    @property
    def replaced(self) -> bool:
        """Another file with other lines stands at the path, as far as is known."""
        return bool(self._other)

    def begins(self) -> bool:
        """Whether the open file begins with the text that was scanned; of a long one only the last part is compared."""
        place = 0 if self.scan.size <= WHOLE else self.scan.end.marks.last[0]
        try:
            return self._begins(self.fd, place)
        except OSError:
            return False

    def _begins(self, fd: int, place: int) -> bool:
        digest = self.scan.end.marks.last[1] if place else sha256()
        for data in _pieces(fd, self.scan.size, place):
            digest.update(data)
        return os.fstat(fd).st_size >= self.scan.size and digest.hexdigest() == self.scan.sha256

    def compare(self) -> tuple[bool, int, int]:
        """(whether the file at the path begins with this text, its lines after that, the first line that differs or 0).

        Raises OSError: it cannot be read.
        """
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return False, 0, 0
            if self._begins(fd, 0):
                ends, last = 0, b"\n"
                for data in _pieces(fd, status.st_size, self.scan.size):
                    ends, last = ends + data.count(b"\n"), data[-1:]
                unended = self.scan.torn is not None and status.st_size > self.scan.size
                return True, ends + (last != b"\n") - unended, 0
            return False, 0, first_difference(_pieces(self.fd, self.scan.size), _pieces(fd, status.st_size))
        finally:
            os.close(fd)


class TextAgain:
    """The text of a task file as it was scanned, as a stream. `read` raises Refused when the file was changed."""

    def __init__(self, text: TaskText) -> None:
        self._text = text
        self._again = Rereading(text.scan.end.marks)

    def read(self, _size: int = -1) -> bytes:
        data = self._text.read(self._again.place, self._again.wanted)
        if not self._again.take(data):
            why = "the file was changed while it was being read: try again"
            if self._text.failure:
                why = f"cannot be read: {self._text.failure}"
            raise Refused(f"{self._text.shown}: {why}")
        return data


def first_difference(one: Iterator[bytes], other: Iterator[bytes]) -> int:
    """The number of the first line that is not the same, 0 if there is none. Both come in pieces of the same size."""
    line = 1
    for data in one:
        there = next(other, b"")
        if data != there:
            at = next((at for at, (a, b) in enumerate(zip(data, there, strict=False)) if a != b), min(len(data), len(there)))
            return line + data.count(b"\n", 0, at)
        line += data.count(b"\n")
    return line if next(other, b"") else 0


def _read(fd: int, place: int, size: int) -> bytes:
    """Raises OSError."""
    data = os.pread(fd, size, place)
    while data and len(data) < size:
        more = os.pread(fd, size - len(data), place + len(data))
        if not more:
            break
        data += more
    return data


def _pieces(fd: int, end: int, place: int = 0) -> Iterator[bytes]:
    while place < end and (data := _read(fd, place, min(PIECE, end - place))):
        place += len(data)
        yield data


def _place(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _state(status: os.stat_result) -> tuple[int, ...]:
    """Values that change when a file does."""
    return (*_place(status), status.st_size, status.st_mtime_ns, status.st_ctime_ns)
