"""Words as bash reads them: quotes and backslashes taken off, nothing expanded; and words that differ by one letter."""

from __future__ import annotations

import re

_GLOB = b"*?[$"
_part = re.compile(rb"\\(.)|'([^']*)'|\"((?:[^\"\\]|\\.)*)\"|([^\\'\"]+)", re.DOTALL)
_stars = re.compile(rb"[*?]|\[(?!\$\])").sub
_escaped = re.compile(rb"\\([$`\"\\])").sub


def plain(word: bytes) -> bytes:
    """The text that bash would hand to a program."""
    return b"".join(text for text, _ in _parts(word))


def pattern(word: bytes) -> bytes:
    """The same where `*`, `?`, `[` and `$` mean something: those that were quoted stand in brackets, `[*]`, and mean themselves."""
    return b"".join(
        text if bare else b"".join(b"[%c]" % byte if byte in _GLOB else b"%c" % byte for byte in text) for text, bare in _parts(word)
    )


def template(word: bytes, *, globs: bool) -> bytes:
    """The same where `$` means a variable, as in bash also between double quotes; one that means itself stands in brackets.

    `globs`: `*`, `?` and `[` mean something, too.
    """
    text = b""
    for escaped, single, double, bare in _part.findall(word):
        literal = escaped or single
        quoted = literal or _escaped(lambda found: b"[$]" if found[1] == b"$" else found[1], double)
        if literal:
            quoted = literal.replace(b"$", b"[$]")
        if globs and not bare:
            quoted = _stars(lambda found: b"[%b]" % found[0], quoted)
        text += bare or quoted
    return text


def is_one_edit(one: str, other: str) -> bool:
    """Whether two words are the same but for one letter too many, missing or wrong, or two exchanged."""
    if abs(len(one) - len(other)) > 1:
        return False
    start, least = 0, min(len(one), len(other))
    while start < least and one[start] == other[start]:
        start += 1
    one, other = one[start:], other[start:]
    while one and other and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return (len(one) <= 1 and len(other) <= 1) or (len(one) == 2 and one == other[::-1])


def _parts(word: bytes) -> list[tuple[bytes, bool]]:
    """(text, not quoted) of each stretch."""
    parts = []
    for escaped, single, double, bare in _part.findall(word):
        if bare:
            parts.append((bare, True))
        elif escaped:
            parts.append((escaped, False))
        else:
            parts.append((single or _escaped(rb"\1", double), False))
    return parts
