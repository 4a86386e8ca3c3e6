"""Lines that are alike: most files have a million lines and few that differ in more than digits, so one of each is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskrun.language.slips import Block

_digits = bytes(ord("0") if char in b"123456789" else char for char in range(256))

_BUDGET = 2 << 20  # bytes of shapes that are looked at, of one question
_EACH = 100  # bytes that a shape costs beyond its length

T = TypeVar("T")


def shape(text: bytes) -> bytes:
    """The text with a 0 for every digit."""
    return text.translate(_digits)


class First(NamedTuple, Generic[T]):
    """The first of the tasks of a block to which an answer applies, and how many there are."""

    line: int
    text: bytes
    answer: T
    lines: int


class Question(Generic[T]):
    """Something that is asked of every task, and the answers for the shapes that were met.

    Of a file whose lines differ in everything not all are looked at: those after the first two megabytes of shapes count as innocent.
    """

    def __init__(self, may: Callable[[bytes], object], answer: Callable[[bytes], T | None]) -> None:
        """`may`: a cheap search that is true of a shape, or of a block with it, if there may be an answer for it."""
        self._may = may
        self._answer = answer
        self._known: dict[bytes, T | None] = {}
        self._spent = 0

    def first(self, block: Block) -> First[T] | None:
        """The first task of the block for which there is an answer."""
        text = block.text[block.start : block.end]
        if not self._may(text):
            return None
        shapes = shape(text).split(b"\n")
        wrong = {each: answer for each in dict.fromkeys(shapes) if self._may(each) and (answer := self._of(each, block.quiet)) is not None}
        if not wrong:
            return None
        place = next(place for place, each in enumerate(shapes) if each in wrong)
        line = text.split(b"\n", place + 1)[place]
        return First(block.line + place, line, wrong[shapes[place]], sum(map(wrong.__contains__, shapes)))

    def _of(self, shape: bytes, quiet: bool) -> T | None:
        if shape not in self._known:
            if self._spent > _BUDGET or (quiet and shape.lstrip(b" \t\r\f\v")[:1] in (b"", b"#")):
                return None
            self._spent += len(shape) + _EACH
            self._known[shape] = self._answer(shape)
        return self._known[shape]
