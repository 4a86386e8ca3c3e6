"""Words as bash reads them: quotes and backslashes taken off, nothing expanded."""

from __future__ import annotations

import re

_GLOB = b"*?[$"
_part = re.compile(rb"\\(.)|'([^']*)'|\"((?:[^\"\\]|\\.)*)\"|([^\\'\"]+)", re.DOTALL)
_escaped = re.compile(rb"\\([$`\"\\])").sub


def plain(word: bytes) -> bytes:
    """The text that bash would hand to a program."""
    return b"".join(text for text, _ in _parts(word))


def pattern(word: bytes) -> bytes:
    """The same where `*`, `?`, `[` and `$` mean something: those that were quoted stand in brackets, `[*]`, and mean themselves."""
    return b"".join(
        text if bare else b"".join(b"[%c]" % byte if byte in _GLOB else b"%c" % byte for byte in text) for text, bare in _parts(word)
    )


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
