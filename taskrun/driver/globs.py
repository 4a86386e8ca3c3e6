"""Globs as bash reads them in its C locale's order: which files match one word. Bytes that are not UTF-8 survive.

`*`, `?`, `[…]`, and `**` as a whole part of the path for any number of folders; what is quoted stands for itself, braces do too.
A name that begins with a dot is only matched by a part that begins with one. Folders are no files: they match a glob that ends in `/`.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

_TEXT = "utf-8", "surrogateescape"
_IN_QUOTES = '$`"\\'  # what a backslash quotes between double quotes
_CLASSES = {"alpha": "a-zA-Z", "digit": "0-9", "alnum": "a-zA-Z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\s", "xdigit": "0-9a-fA-F"}

_Char: TypeAlias = "tuple[str, bool]"  # a character, and whether it is quoted


class Unreadable(NamedTuple):
    """A folder that could not be looked into."""

    path: bytes
    why: str


class Glob:
    """One word. `plain`: it has nothing that matches several names, so it names one file."""

    def __init__(self, word: bytes) -> None:
        chars = _chars(word.decode(*_TEXT))
        self.plain = not any(char in "*?[" and not quoted for char, quoted in chars)
        #: What a shell would have made more of, for hints: "" or what it is called.
        text = "".join(char for char, quoted in chars if not quoted)
        self.unexpanded = "variables" if "$" in text else "braces" if re.search(r"\{.*,.*\}", text) else ""
        self._folders_only = bool(chars) and chars[-1][0] == "/"
        self._root = b"/" if chars and chars[0][0] == "/" else b""
        parts = [_part(part) for part in _split(chars)]
        self._parts = [part for place, part in enumerate(parts) if not (part is None and place and parts[place - 1] is None)]
        if self._parts and self._parts[-1] is None and not self._folders_only:
            self._parts.append(_part([("*", False)]))

    def matches(self, unreadable: list[Unreadable]) -> Iterator[bytes]:
        """Every path that matches, in no order; one may come twice. Folders that cannot be read are added to `unreadable`."""
        left = [(self._root, 0)]
        while left:
            base, at = left.pop()
            if at == len(self._parts):  # a glob that ends in `/`, with all its folders found
                if base and (self._folders_only or not self._parts):
                    yield base
                continue
            part = self._parts[at]
            last = at + 1 == len(self._parts) and not self._folders_only
            if isinstance(part, bytes):
                path = base + part
                if last:
                    if _is_file(path):
                        yield path
                elif _is_path_of_folder(path, unreadable):
                    left.append((path + b"/", at + 1))
                continue
            if part is None:
                left.append((base, at + 1))
            for name, entry in _entries(base, unreadable):
                if part is None:
                    if not name.startswith(b".") and entry.is_dir(follow_symlinks=False):
                        left.append((base + name + b"/", at))
                elif part.fullmatch(name.decode(*_TEXT)) and _is_folder(entry) != last:
                    if last:
                        yield base + name
                    else:
                        left.append((base + name + b"/", at + 1))


def _entries(base: bytes, unreadable: list[Unreadable]) -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    try:
        with os.scandir(base or b".") as entries:
            for entry in entries:
                yield entry.name, entry
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        unreadable.append(Unreadable(base or b".", (error.strerror or str(error)).lower()))


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_path_of_folder(path: bytes, unreadable: list[Unreadable]) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - bytes
    except PermissionError as error:
        unreadable.append(Unreadable(path, (error.strerror or str(error)).lower()))
    except OSError:
        pass
    return False


def _is_file(path: bytes) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - bytes
    except OSError:
        return os.path.lexists(path)  # a link that leads nowhere is what bash would give, too
    return not stat.S_ISDIR(mode)


def _chars(word: str) -> list[_Char]:
    """Each character of the word and whether it stands for itself, the quotes gone; a `~/` at its beginning is the home folder."""
    chars: list[_Char] = []
    quote = ""
    at = 0
    while at < len(word):
        char = word[at]
        at += 1
        if quote == "'":
            if char == "'":
                quote = ""
            else:
                chars.append((char, True))
        elif char == "\\" and (not quote or word[at : at + 1] in _IN_QUOTES):
            chars.append((word[at : at + 1], True))
            at += 1
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            chars.append((char, bool(quote)))
    if chars[:1] == [("~", False)] and (len(chars) == 1 or chars[1][0] == "/"):
        home = os.fsencode(Path("~").expanduser()).decode(*_TEXT)
        chars[:1] = [(char, True) for char in home]
    return chars


def _split(chars: list[_Char]) -> list[list[_Char]]:
    parts: list[list[_Char]] = [[]]
    for char in chars:
        if char[0] == "/":
            parts.append([])
        else:
            parts[-1].append(char)
    return [part for part in parts if part]


def _part(chars: list[_Char]) -> bytes | re.Pattern[str] | None:
    """One part of the path: its name, a pattern for names, or None for `**`."""
    if chars == [("*", False), ("*", False)]:
        return None
    if all(quoted or char not in "*?[" for char, quoted in chars):
        return "".join(char for char, _ in chars).encode(*_TEXT)
    pattern = "" if chars[0][0] == "." else r"(?!\.)"
    at = 0
    while at < len(chars):
        char, quoted = chars[at]
        at += 1
        if quoted or char not in "*?[":
            pattern += re.escape(char)
        elif char == "*":
            pattern += "" if pattern.endswith(".*?") else ".*?"
        elif char == "?":
            pattern += "."
        else:
            bracket, at = _bracket(chars, at)
            pattern += bracket
    return re.compile(pattern, re.DOTALL)


def _bracket(chars: list[_Char], at: int) -> tuple[str, int]:
    """The pattern of `[…]` whose text begins at `at`, and where it ends; a `[` without an end is a character like any other."""
    start = at
    inverted = at < len(chars) and chars[at] in (("!", False), ("^", False))
    at += inverted
    inside = ""
    first = True
    while at < len(chars) and (first or chars[at] != ("]", False)):
        text = "".join(char for char, _ in chars[at : at + 10])
        named = re.match(r"\[:(\w+):\]", text)
        if named and named[1] in _CLASSES:
            inside += _CLASSES[named[1]]
            at += len(named[0])
        else:
            char, quoted = chars[at]
            ranges = char == "-" and not quoted and not first and at + 1 < len(chars) and chars[at + 1] != ("]", False)
            inside += "-" if ranges else re.escape(char)
            at += 1
        first = False
    if at >= len(chars):
        return r"\[", start
    made = f"[{'^' if inverted else ''}{inside}]"
    try:
        re.compile(made)
    except re.error:  # a range that ends before it begins matches nothing
        return r"(?!)", at + 1
    return made, at + 1
