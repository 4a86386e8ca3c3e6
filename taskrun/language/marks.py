"""Digests of a text at marks on the way, so that who reads it again can compare each piece with what was read first."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

STEP = 1 << 18  # bytes between two marks at first
MOST = 1 << 14  # marks; with more of them every second one goes
_SIZE = 16  # bytes kept of a digest


class Marks:
    """SHA-256 of a text from its first byte up to its end and to each mark."""

    def __init__(self, step: int = STEP, most: int = MOST) -> None:
        self.size = 0  # bytes of the text
        self.step = step
        self._most = most
        self._kept = bytearray()
        self._digest = sha256()
        self._last = [(0, sha256()), (0, sha256())]  # (size, state) at the last two marks

    def feed(self, data: bytes) -> None:
        """Take the next piece of the text."""
        view = memoryview(data)
        while view:
            part = view[: self.after(self.size) - self.size]
            view = view[len(part) :]
            self._digest.update(part)
            self.size += len(part)
            if self.size % self.step == 0:
                self._mark()

    def hexdigest(self) -> str:
        """The digest of all of it."""
        return self._digest.hexdigest()

    def copy(self) -> Marks:
        """One that goes on by itself."""
        other = Marks(self.step, self._most)
        other.size = self.size
        other._kept = self._kept[:]
        other._digest = self._digest.copy()
        other._last = self._last[:]
        return other

    def after(self, place: int) -> int:
        """The mark after a place, which may be behind the end of the text."""
        return (place // self.step + 1) * self.step

    def at(self, place: int) -> bytes:
        """The digest of the text up to a mark or its end."""
        if place == self.size:
            return self._digest.digest()[:_SIZE]
        start = (place // self.step - 1) * _SIZE
        return bytes(self._kept[start : start + _SIZE])

    @property
    def last(self) -> tuple[int, _Hash]:
        """A place near the end, at least one step before it if the text is that long, and the state of the digest there."""
        place, state = self._last[0]
        return place, state.copy()

    def _mark(self) -> None:
        self._kept += self._digest.digest()[:_SIZE]
        self._last = [self._last[1], (self.size, self._digest.copy())]
        if len(self._kept) > self._most * _SIZE:
            kept = self._kept
            self._kept = bytearray(b"".join(kept[at : at + _SIZE] for at in range(_SIZE, len(kept) - _SIZE + 1, 2 * _SIZE)))
            self.step *= 2


class Rereading:
    """Compares a text with its marks while it is read again, from its first byte on."""

    def __init__(self, marks: Marks) -> None:
        self.marks = marks
        self.place = 0  # up to here it is the same
        self._digest = sha256()

    @property
    def wanted(self) -> int:
        """Bytes to read next, 0 at the end."""
        return min(self.marks.after(self.place), self.marks.size) - self.place

    def same(self, data: bytes) -> bool:
        """Whether these bytes, as many as are wanted, are those that were read first."""
        return self._compared(data) is not None

    def take(self, data: bytes) -> bool:
        """The same, and go on behind them. If they are not, they may be read once more."""
        digest = self._compared(data)
        if digest is None:
            return False
        self._digest = digest
        self.place += len(data)
        return True

    def _compared(self, data: bytes) -> _Hash | None:
        wanted = self.wanted
        digest = self._digest.copy()
        digest.update(data)
        same = len(data) == wanted and digest.digest()[:_SIZE] == self.marks.at(self.place + wanted)
        return digest if same else None
