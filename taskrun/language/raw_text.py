"""What is seen of the text before its lines are: line ends, a byte order mark, NUL bytes."""

from __future__ import annotations

import re
import shlex
from heapq import merge
from typing import TYPE_CHECKING

from taskrun.language.diagnostics import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A line of which the language has something to say. The grammar knows the rest; a test holds both together.
directive = re.compile(
    rb"#(?:TASKRUN|DISBATCH|(?:PREFIX|SUFFIX|BARRIER|REPEAT|PERENGINE|STAGE-IN|STAGE-OUT|ENCRYPT)(?![^ \t\r\f\v\n]))"
).match

_comment = re.compile(rb"[ \t\r\f\v]*#").match
_bare_lf = re.compile(rb"(?<!\r)\n").search
_MARK = b"\xef\xbb\xbf"

#: Bytes of a line at most: with the longest prefix and suffix it still fits a frame of the link, escaped.
LINE_MAX = 3 << 20


class RawText:
    """Makes every line end an LF, and finds what no line may hold. Fed with blocks of whole lines, from the first on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._crlf: bool | None = None  # how the first line ends
        self._mixed = False

    def admit(self, block: bytes, first: int) -> tuple[bytes, Iterator[Diagnostic]]:
        """The block with LF line ends, and its problems in order.

        `first` is the number of its first line. A block without a final LF is a last line without its end.
        """
        ends: list[Diagnostic] = []
        if block.endswith(b"\n"):
            block = self._line_ends(block, first, ends)
        if first == 1 and block.startswith(_MARK):
            ends.insert(0, _byte_order_mark(block))
        long = list(_too_long(block, first)) if len(block) > LINE_MAX else []
        if not ends and not long and b"\0" not in block:
            return block, iter(())
        return block, merge(ends, long, _nuls(block, first), key=lambda diagnostic: (diagnostic.line, diagnostic.column))

    def _line_ends(self, block: bytes, first: int, found: list[Diagnostic]) -> bytes:
        pairs = block.count(b"\r\n") if b"\r" in block else 0
        if self._crlf is None:
            end = block.index(b"\n")
            self._crlf = block.endswith(b"\r", 0, end)
            if self._crlf:
                hint = "the CR is not taken as a part of the command; " + self._remedy()
                found.append(Diagnostic.at("warning", first, end, 1, "lines end in CRLF", hint, block[: end - 1], "crlf"))
        if not self._mixed and (pairs > 0 if not self._crlf else pairs < block.count(b"\n")):
            self._mixed = True
            found.append(self._mix(block, first))
        return block.replace(b"\r\n", b"\n") if pairs else block

    def _mix(self, block: bytes, first: int) -> Diagnostic:
        bare = _bare_lf(block) if self._crlf else None
        place = bare.start() if bare else block.index(b"\r\n")
        start = block.rfind(b"\n", 0, place) + 1
        this, before = ("LF", "CRLF") if self._crlf else ("CRLF", "LF")
        line = first + block.count(b"\n", 0, place)
        message = f"mixed line ends: this line ends in {this}, those before in {before}"
        return Diagnostic.at("error", line, place - start + 1, 1, message, self._remedy(), block[start:place])

    def _remedy(self) -> str:
        if self._name == "-":
            return "end every line in LF"
        return rf"to end every line in LF: sed -i 's/\r$//' {shlex.quote(self._name)}"


def _byte_order_mark(block: bytes) -> Diagnostic:
    """A directive behind the mark would be lost without a word; a task takes the mark as the beginning of its command."""
    lost = directive(block, len(_MARK))
    message = "a byte order mark hides this directive" if lost else "a byte order mark is part of the first line"
    hint = "save the file as UTF-8 without a byte order mark"
    return Diagnostic.at("error" if lost else "warning", 1, 1, len(_MARK), message, hint, block[: block.find(b"\n") % (len(block) + 1)])


def _too_long(block: bytes, first: int) -> Iterator[Diagnostic]:
    """Each line longer than a command may be, comments included: it is most likely not a text file."""
    for number, text in enumerate(block.split(b"\n"), first):
        if len(text) > LINE_MAX:
            hint = "put the work into a script and run that; is this a text file?"
            yield Diagnostic.at("error", number, 1, 1, f"line longer than {LINE_MAX >> 20} MiB", hint, text)


def _nuls(block: bytes, first: int) -> Iterator[Diagnostic]:
    """Each line with a NUL byte, comments excepted."""
    line, counted = first, 0
    place = block.find(b"\0")
    while place >= 0:
        start = block.rfind(b"\n", 0, place) + 1
        end = block.find(b"\n", place) % (len(block) + 1)
        line += block.count(b"\n", counted, start)
        counted = start
        if directive(block, start) or not _comment(block, start):
            hint = "no command can hold one; is this a text file?"
            yield Diagnostic.at("error", line, place - start + 1, 1, "NUL byte", hint, block[start:end])
        place = block.find(b"\0", end)
