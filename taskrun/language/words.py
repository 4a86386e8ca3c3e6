"""Words as bash reads them: quotes and backslashes taken off, nothing expanded."""

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
