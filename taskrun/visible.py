"""Text as a terminal may be sent it: the one place that decides which characters are written as escapes.

Names of files and hosts, commands, and what other programs and hosts say may hold characters that a terminal obeys.
"""

from __future__ import annotations

import codecs

#: Our own signs where an encoding lacks them.
_SIGNS = {"·": "-", "…": "...", "→": "->", "≈": "~", "↑": "up", "↓": "down", "’": "'"}


def spelt(error: UnicodeError) -> tuple[str | bytes, int]:
    """What is written for a character that an encoding lacks (an error handler of codecs): our own signs in ASCII, else an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    error.end = error.start + 1  # one at a time
    sign = _SIGNS.get(error.object[error.start])
    return (sign, error.end) if sign is not None else codecs.backslashreplace_errors(error)


codecs.register_error("spelt", spelt)


def visible(text: str, keep: str = "") -> str:
    """`text` with control, invisible and undecodable characters (surrogates of `surrogateescape`) written as escapes.

    `keep`: characters that stay as they are: newlines of our own messages.
    """
    if text.isprintable():  # as `cell` sees it, and without its tables
        return text
    return "".join(char if char in keep or char.isprintable() else cell(char)[0] for char in text)


def cell(char: str) -> tuple[str, int]:
    """Return how one character is shown, and the columns that takes."""
    if " " <= char <= "~":
        return char, 1
    import unicodedata  # only for what is not ASCII

    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}", 4
    category = unicodedata.category(char)
    if category[0] in "CZ":  # controls, formats (direction of writing), surrogates, and blanks that look like others
        shown = char.encode("unicode_escape").decode("ascii")
        return shown, len(shown)
    if category in ("Mn", "Me"):
        return char, 0
    return char, 2 if unicodedata.east_asian_width(char) in "WF" else 1


def line_of(data: bytes) -> str:
    """A line of raw bytes with columns, such as one of the status file: its tabs and its newline stay."""
    return visible(data.decode("utf-8", "surrogateescape"), keep="\t\n")
