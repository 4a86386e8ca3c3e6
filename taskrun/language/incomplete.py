"""Lines that are not whole commands: found in a block by searches, looked at one by one only where a search found something."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from taskrun.language.items import task
from taskrun.language.recognition import FIRST_WORD, SPECIAL
from taskrun.language.shell_scan import Lack, lack
from taskrun.language.slips import Block, Slip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KIND = "incomplete"
_RESERVED = rb"if|then|elif|else|fi|for|while|until|select|do|done|case|esac|function|coproc"
_WORDS = rb"(?:(?:!|time(?:[ \t]+-p)?)[ \t]+)?(?:%b|\[\[|\{|\})(?![^ \t\n;&|()<>])" % _RESERVED
_STRUCTURE = b"'\"`\\(){}"
_REST = bytes(set(range(256)) - set(_STRUCTURE + b"#\n"))
_CACHED_LENGTH = 1024
_FEW = 8

#: Lines that differ in these characters only, as those made by a program do, lack the same: none of them is in a word of the grammar.
_ALIKE = bytes(
    ord("0") if char in b"0123456789" else ord("_") if char > 126 or char in b"_./,:%+@^~bgjkqvxyz" or 65 <= char <= 90 else char
    for char in range(256)
)

_after: dict[bytes, Callable[..., Iterator[re.Match[bytes]]]] = {
    char: re.compile(rb"%b[ \t]*%b" % (re.escape(char), _WORDS)).finditer for char in (b";", b"&", b"|", b"(", b")", b"{")
}
_ends = {
    b"&": re.compile(rb"&&[ \t]*[#\n]").finditer,
    b"|": re.compile(rb"\|&?[ \t]*[#\n]").finditer,
    b"\\": re.compile(rb"\\\n").finditer,
    b"<": re.compile(rb"<<(?!<)").finditer,
    b"$": re.compile(rb"\$'").finditer,
    b"(": re.compile(rb"\([ \t]*\)").finditer,
    b";": re.compile(rb";[;&]").finditer,
}
#: The structure of a line whose quotes and brackets are certainly closed, with nothing between them that may open others.
_QUOTED = rb"'[^']*'|\"(?:[^\"\\`({]|\{\})*\""
_sound = re.compile(rb"(?:%b|\((?:%b)*\)|\{(?:%b)*\})*" % (_QUOTED, _QUOTED, _QUOTED)).fullmatch

_quoted = re.compile(rb"\$'[^'\\]*(?:\\.[^'\\]*)*'|\$'|'[^']*'|\"[^\"\\]*(?:\\.[^\"\\]*)*\"|\\.", re.DOTALL).sub
_BARE = rb"\w./,:%+@^~-"
_kept = rb"(?:%b|in|time|-p)(?![%b])" % (_RESERVED, _BARE)
_names = re.compile(rb"(?<![%b])(?!%b)[%b]+" % (_BARE, _kept, _BARE), re.ASCII).sub


def incomplete(block: Block) -> Iterator[Slip]:
    """The slips of lines that bash cannot take as commands of their own."""
    prefix, suffix = block.prefix.text, block.suffix.text
    for number, line in _suspects(block, prefix, suffix):
        if block.directive or task(line):
            found = lacking(line, prefix, suffix)
            if found is not None:
                yield _slip(found, number, line, prefix)


def lacking(line: bytes, prefix: bytes = b"", suffix: bytes = b"") -> Lack | None:
    """What a line lacks when it is run between `prefix` and `suffix`."""
    if line.endswith(b"\\") and suffix:  # the suffix hides it from bash, not what was meant
        found = lack(prefix + line)
        if found is not None and found.kind == "backslash":
            return found
    return lack(prefix + line + suffix)


def _slip(found: Lack, number: int, line: bytes, prefix: bytes) -> Slip:
    message, hint = _told(found)
    column = found.place - len(prefix) + 1
    length = found.length
    if column < 1 or column > len(line):
        message += ", together with its PREFIX and SUFFIX"
        column, length = 1, len(line)
    return Slip(number, column, min(length, max(1, len(line) - column + 1)), _KIND, message, hint, line, f"{_KIND} {_group(found)}")


def _group(found: Lack) -> str:
    return "block" if found.kind == "inner" else found.kind


_SCRIPT = "every line is a task of its own: write it in one line, or put it into a script and run that"


def _told(found: Lack) -> tuple[str, str]:
    """Message and hint."""
    if found.kind == "backslash":
        return "this line ends in a backslash, and no line continues in the next", "write the whole command in one line"
    if found.kind == "quote":
        hint = f"close it with {found.missing}" + (r", or write \' for an apostrophe" if found.word == "'" else "")
        return f"{found.word} has no end in this line", hint
    if found.kind == "here-document":
        hint = "write `<<< 'text'` or `printf 'a\\nb\\n' | command`, or put it into a script and run that"
        return "a here-document has no lines: every line is a task of its own", hint
    if found.kind == "operator":
        return f"{found.word} lacks {found.missing} in this line", "write the whole command in one line"
    if found.kind == "inner":
        return f"{found.word} without its {found.missing} in this line", _SCRIPT
    return f"{found.word} has no {found.missing} in this line", _SCRIPT


# Where to look


def _suspects(block: Block, prefix: bytes, suffix: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, text) of each line that most likely lacks something. Most blocks have none, and no line of them is looked at singly."""
    text, start, end = block.text, block.start, block.end
    plain = _neutral(prefix + b"x") and _neutral(b"x" + suffix)
    if plain and not any(text.find(char, start, end) >= 0 for char in SPECIAL):
        rows = block.lines_with(found.start() + 1 for found in FIRST_WORD.finditer(text, start - 1, end + 1))
        return ((number, line) for number, line in rows if _doubtful(line.translate(_ALIKE), prefix, suffix, line))
    lines = text[start:end].split(b"\n")
    shapes = text[start:end].translate(_ALIKE).split(b"\n")
    kinds = set(shapes)
    if plain and len(kinds) > len(lines) // _FEW + _FEW:  # what the lines have in common is not worth the look
        rows = block.lines_with(_places(text, start, end))
        return ((number, line) for number, line in rows if _doubtful(line.translate(_ALIKE), prefix, suffix, line))
    wrong = {shape for shape in kinds if _doubtful(shape, prefix, suffix, shape)}
    if not wrong:
        return iter(())
    return ((number, line) for (number, line), shape in zip(enumerate(lines, block.line), shapes, strict=True) if shape in wrong)


def _doubtful(shape: bytes, prefix: bytes, suffix: bytes, line: bytes) -> bool:
    """Whether lines of this shape have to be looked at."""
    if line.endswith(b"\\") or len(shape) > _CACHED_LENGTH:
        return True
    return _alike(shape, prefix, suffix)


def _places(text: bytes, start: int, end: int) -> list[int]:
    """A place in each line that may lack something, ascending."""
    places = [found.start() + 1 for found in FIRST_WORD.finditer(text, start - 1, end + 1)]
    for searches in (_after, _ends):
        for char, search in searches.items():
            if text.find(char, start, end) >= 0:
                places += [found.start() for found in search(text, start, end + 1)]
    if any(text.find(char, start, end) >= 0 for char in _STRUCTURE):
        places += _unsound(text[start:end], start)
    places.sort()
    return places


def _unsound(text: bytes, start: int) -> Iterator[int]:
    """Where lines begin whose quotes or brackets have to be looked at. Lines that differ only in other text are judged once."""
    shapes = text.translate(None, _REST).split(b"\n")
    wrong = {shape for shape in set(shapes) if not _sound(shape)}
    if not wrong:
        return iter(())
    places = accumulate((len(line) + 1 for line in text.split(b"\n")), initial=start)
    return (place for place, shape in zip(places, shapes, strict=False) if shape in wrong)


@lru_cache(64)
def _neutral(text: bytes) -> bool:
    """Whether a prefix or suffix, with an x for the line, opens and closes nothing, and makes the line part of nothing."""
    return b"#" not in text and not _places(b"\n%b\n" % text, 1, len(text) + 1)


@lru_cache(4096)
def _alike(shape: bytes, prefix: bytes, suffix: bytes) -> bool:
    return _lacks(_names(b"w", _quoted(_emptied, prefix + shape + suffix)))


@lru_cache(4096)
def _lacks(shape: bytes) -> bool:
    return lack(shape) is not None


def _emptied(found: re.Match[bytes]) -> bytes:
    text = found[0]
    return text if text == b"$'" or (text[:1] == b'"' and (b"$" in text or b"`" in text or b"\\" in text)) else b"''"
