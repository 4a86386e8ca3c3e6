"""Characters that a word processor or a web page puts where the shell wants an ordinary blank, quote or hyphen."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from taskrun.language.items import task
from taskrun.language.slips import Block, Slip

if TYPE_CHECKING:
    from collections.abc import Iterator

_KIND = "typography"
_SPACES = "\u00a0\u2007\u202f\u200b\u3000\ufeff"
_QUOTES = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u00ab\u00bb"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\uff0d"


def _any(characters: str) -> bytes:
    return b"|".join(character.encode() for character in characters)


_candidates = re.compile(_any(_SPACES + _QUOTES + _DASHES)).finditer
#: A blank anywhere, a quote where a word or a value begins, a dash where an option begins.
_slip = re.compile(
    rb"(%b)|(?<![^ \t=:;|&(<>,])(%b)|(?<![^ \t])(%b)(?=[-A-Za-z0-9]|%b)" % tuple(map(_any, (_SPACES, _QUOTES, _DASHES, _DASHES)))
).search
#: What is text for a program to print, not for bash to understand.
_text = re.compile(rb"'[^']*'|\"[^\"\\]*(?:\\.[^\"\\]*)*\"|\\.|(?<![^ \t;&|()])#.*", re.DOTALL).sub


def typography(block: Block) -> Iterator[Slip]:
    """The slips of lines with such a character outside quotes."""
    if block.text.isascii():
        return
    if any(quote in side for quote in (b"'", b'"', b"`") for side in (block.prefix.text, block.suffix.text)):
        return  # the whole line may be text
    places = (found.start() for found in _candidates(block.text, block.start, block.end))
    for number, line in block.lines_with(places):
        if not block.directive and not task(line):
            continue
        found = _slip(_text(_covered, line))
        if found and not (number == 1 and not found.start()):  # there it is a byte order mark
            message, hint = _told(found)
            yield Slip(number, found.start() + 1, len(found[0]), _KIND, message, hint, line, f"{_KIND} {found.lastindex}")


def _covered(found: re.Match[bytes]) -> bytes:
    return b"x" * len(found[0])


def _told(found: re.Match[bytes]) -> tuple[str, str]:
    """Message and hint."""
    character = found[0].decode()
    code = f"U+{ord(character):04X}"
    if found.lastindex == 1:
        what = "a zero-width space" if character in "\u200b\ufeff" else "a no-break space" if character != "\u3000" else "a wide space"
        return f"{what} ({code}) separates no words: bash takes it as a letter", "write an ordinary blank, or quote it"
    if found.lastindex == 2:
        straight = "'" if character in "\u2018\u2019\u201a\u201b" else '"'
        return f"a typographic quote {character} ({code}) quotes nothing: bash takes it as a letter", f"write {straight}, or quote it"
    hyphen = "--" if character == "\u2014" else "-"
    return f"a typographic dash {character} ({code}) begins no option: programs take it as a letter", f"write {hyphen}, or quote it"
