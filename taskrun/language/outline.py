"""The outline of a line of bash: the commands it lists, what separates them, and where a comment begins.

It knows just enough of bash's grammar for that, and says nothing of a line that needs more (case, here-documents, functions).
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Outline(NamedTuple):
    """Commands of the line itself: what stands in quotes, in brackets or in a loop is part of one of them."""

    commands: tuple[tuple[int, int], ...]  # where each begins and ends, blanks included; the last may be blank
    separators: tuple[bytes, ...]  # between them: `;`, `&`, `&&`, `||`, `|`, `|&`
    comment: int  # where a comment begins, -1 if there is none
    is_whole: bool  # nothing is open at its end


_token = re.compile(
    rb"""
    (?P<blank>[ \t]+)
  | (?P<redirection>(?:[0-9]+|\{\w+\})?(?:&>>?|>>|>\||>&|<&|<<<|<<|<>|[<>](?!\()) )
  | (?P<word>[^ \t\\'"$`()<>&|;#]+ | (?<=[^ \t;&|()<>])\#)
  | (?P<quoted>\\. | '[^']*' | "(?:[^"\\]|\\.)*" | \$'(?:[^'\\]|\\.)*' | `(?:[^`\\]|\\.)*` | \$\{[^{}'"`\\]*\} | \$[^({'"])
  | (?P<separator>&&|\|\||\|&|\||;(?![;&])|&)
  | (?P<opening>[<>$]?\()
  | (?P<closing>\))
  | (?P<comment>\#)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
).match

_OPENING = {b"if", b"for", b"while", b"until", b"select", b"{"}
_CLOSING = {b"fi", b"done", b"}"}
_BETWEEN = {b"then", b"do", b"else", b"elif", b"!", b"time"}
_UNKNOWN = {b"case", b"function", b"coproc"}
_assignment = re.compile(rb"\w+\+?=", re.ASCII).match


def outline(text: bytes) -> Outline | None:
    """The outline of a line; None if it is not clear."""
    commands: list[tuple[int, int]] = []
    separators: list[bytes] = []
    nested: list[bytes] = []  # what is open
    begun = at = 0
    comment = -1
    first = True  # the next word begins a command
    start = -1  # of the word at hand
    while at < len(text):
        found = _token(text, at)
        if found is None:
            return Outline((*commands, (begun, len(text))), tuple(separators), -1, False)
        kind, token = found.lastgroup, found[0]
        if kind in ("word", "quoted"):
            if kind == "quoted" and _unclear(token):
                return None
            start = at if start < 0 else start
            at = found.end()
            continue
        if start >= 0:
            word, start = text[start:at], -1
            if nested and nested[-1] == b"[[":
                if word == b"]]":
                    nested.pop()
            elif first:
                if word in _UNKNOWN or (word in _CLOSING and (not nested or nested[-1] == b"(")):
                    return None
                if word in _OPENING or word == b"[[":
                    nested.append(word)
                elif word in _CLOSING:
                    nested.pop()
                first = word in _OPENING - {b"for", b"select"} or word in _BETWEEN or bool(_assignment(word))
            if kind == "opening" and not token[1:] and token == b"(" and not _assignment(word):
                return None  # a function, or a pattern
        if kind == "comment":
            comment = at
            break
        if kind == "opening":
            nested.append(b"(")
            first = True
        elif kind == "closing":
            if not nested or nested[-1] != b"(":
                return None
            nested.pop()
            first = False
        elif kind == "separator":
            first = True
            if not nested:
                commands.append((begun, at))
                separators.append(token)
                begun = found.end()
        elif kind == "redirection" and token.endswith(b"<<") and not token.endswith(b"<<<"):
            return None
        at = found.end()
    if start >= 0 and comment < 0:
        word = text[start:]
        if nested and ((word == b"]]" and nested[-1] == b"[[") or (first and word in _CLOSING)):
            nested.pop()
        elif first and word in (_OPENING | _UNKNOWN | _BETWEEN):
            nested.append(word)
    end = len(text) if comment < 0 else comment
    return Outline((*commands, (begun, end)), tuple(separators), comment, not nested)


def _unclear(quoted: bytes) -> bool:
    """Whether the quote may end elsewhere: a command in it has quotes of its own."""
    return quoted[:1] == b'"' and b"$(" in quoted and quoted.count(b"(") != quoted.count(b")")
