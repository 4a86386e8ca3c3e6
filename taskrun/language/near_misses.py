"""Near misses: comments that look like a misspelt directive. A recogniser of slips.

Prose, headings and commented-out code are comments, too, so the shape decides. A line is taken for a near miss when its first word is the
name of a directive, or has one letter too many, too few, wrong, or two exchanged (hyphens do not count), and

- the name is in capitals right after the `#`, and what follows is no headline in capitals; or
- the name is in capitals after `# `, alone or with arguments that prose would not have; or
- the name is in any case right after the `#`, alone or with such arguments; or
- the name stands after a word like TASKRUN or DISBATCH, in any case right after the `#`, in capitals after `# `.

`##` begins a comment that is none of these.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from taskrun.language.directives import CATALOGUE, SUCCESSORS
from taskrun.language.kinds import KINDS
from taskrun.language.slips import Block, Slip
from taskrun.language.words import is_one_edit

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = (*CATALOGUE, *SUCCESSORS)
_SIGILS = ("TASKRUN", "DISBATCH")
_SHOWN = 60  # bytes of arguments in a suggestion

_comments = re.compile(rb"\n([ \t\r\f\v]*)#([ \t]*)([A-Za-z][\w-]*)([:;,.!]*)(?=[ \t\r\f\v\n])([^\n]*)").finditer
_second = re.compile(rb"[ \t]+([A-Za-z][\w-]*)([:;,.!]*)(?![^ \t\r\f\v])").match
_letters = re.compile(rb"[A-Za-z]+").findall
_words = re.compile(r"[^ \t\r\f\v]+").findall
_command = re.compile(r"[;&|<>$/={}*'\"\\()]").search

#: Words in capitals that a directive may have.
_CAPITALS = {b"CHECK", b"START", b"STOP", b"RUN", b"ENGINE", b"TASK", b"SIGN", b"OFF"}

#: Arguments of which each begins as no prose does: what is meant is a directive, however its name is written.
_shapes = {
    "BARRIER": re.compile(r"CHECK([ \t]+[^ \t]+)?", re.IGNORECASE),
    "REPEAT": re.compile(r"\d+([ \t]+(start|step)[ \t]+\d.*)?", re.IGNORECASE),
    "FOREACH": re.compile(r"[^ \t]*[*?{][^ \t]*([ \t].*)?"),
    "PERENGINE": re.compile(r"(START|STOP)([ \t]+[^ \t]+){0,2}", re.IGNORECASE),
    "PERNODE": re.compile(r"(START|STOP)([ \t]+[^ \t]+){0,2}", re.IGNORECASE),
    "STAGE-IN": re.compile(r"((RUN|ENGINE|TASK)[ \t]+)?[^ \t]*[/:*][^ \t]*([ \t]+[^ \t]+)?"),
    "STAGE-OUT": re.compile(r"((RUN|TASK)[ \t]+)?[^ \t]*[/:*][^ \t]*[ \t]+[^ \t]+"),
    "ENCRYPT": re.compile(r"OFF|[^ \t]+@[^ \t]+([ \t]+SIGN[ \t]+[^ \t]+)?"),
    "ALLOW": re.compile(rf"({'|'.join(KINDS)})\b.*"),
}


def near_misses(block: Block) -> Iterator[Slip]:
    """The comments in a block that look like a directive."""
    if not block.quiet:
        return
    number, counted = block.line, block.start
    for found in _comments(block.text, block.start - 1, block.end + 1):
        indent, gap, word, mark, rest = found.groups()
        written = _meant(not gap, word, mark, rest)
        if written is None:
            continue
        start = found.start() + 1
        number += block.text.count(b"\n", counted, start)
        counted = start
        shown = (b"#%b%b%b" % (gap, word, mark)).decode("latin-1")
        place = ", from the first column on" if indent else ""
        hint = f"did you mean `{written}`{place}? A line that begins with ## is always a comment"
        message = f"`{shown}` is a comment here, not a directive"
        yield Slip(number, len(indent) + 1, len(shown), "near-miss", message, hint, found[0][1:], f"near-miss {shown}")


def _meant(glued: bool, word: bytes, mark: bytes, rest: bytes) -> str | None:
    """The directive line that a comment most likely was to be, None if it is a comment."""
    likely = _like(word, _NAMES)
    arguments = rest.decode("utf-8", "surrogateescape").strip(" \t\r\f\v")
    if likely is not None:
        return _written("#", likely, arguments) if _is_meant(glued, word, mark, likely, arguments, rest) else None
    sigil = _like(word, _SIGILS)
    second = _second(rest) if sigil is not None else None
    if sigil is None or second is None:
        return None
    name = _like(second[1], _NAMES)
    arguments = arguments[len(second[0].strip()) :].strip(" \t\r\f\v")
    if name is None or (second[1].upper().decode() != name and not second[1].isupper()):
        return None
    if glued or (second[1].isupper() and (not arguments or _fits(name, arguments))):
        return _written(f"#{sigil} ", name, arguments)
    return None


def _is_meant(glued: bool, word: bytes, mark: bytes, name: str, arguments: str, rest: bytes) -> bool:
    exact = word.upper().decode() == name
    if word.isupper() and glued:
        return _fits(name, arguments) if name == "ALLOW" else not _is_headline(rest) or _fits(name, arguments)
    if mark or not (glued or word.isupper()):
        return False
    if not arguments:
        return name != "ALLOW" and (exact or word.isupper() or not word.lower().endswith(b"s"))
    one_key = name == "BARRIER" and word.isupper() and len(_words(arguments)) == 1
    return one_key or _fits(name, arguments)


def _is_headline(rest: bytes) -> bool:
    letters = _letters(rest)
    return len([each for each in letters if each not in _CAPITALS]) > 1 and all(each.isupper() for each in letters)


def _fits(name: str, arguments: str) -> bool:
    if name in ("PREFIX", "SUFFIX"):
        return _command(arguments) is not None and not arguments.endswith((".", ":"))
    first = arguments.partition(" ")[0].upper()
    if _command(arguments) and ((name == "REPEAT" and first.isdigit()) or (name.startswith("PER") and first in ("START", "STOP"))):
        return True
    return _shapes[name].fullmatch(arguments) is not None


def _written(sigil: str, name: str, arguments: str) -> str:
    name = SUCCESSORS.get(name, name)
    if name.partition(" ")[2] and arguments.upper().startswith(("START", "STOP")):
        name = name.partition(" ")[0]
    if CATALOGUE[name.partition(" ")[0]].own:
        sigil = "#TASKRUN "
    whole = f"{sigil}{name} {arguments}".rstrip()
    return whole if len(arguments) <= _SHOWN else f"{sigil}{name} …"


@lru_cache(4096)
def _like(word: bytes, names: tuple[str, ...]) -> str | None:
    """The name that the word is, or is but for one slip of the finger."""
    if len(word) > 12:
        return None
    letters = word.upper().decode("latin-1")
    plain = letters.replace("-", "").replace("_", "")
    for name in names:
        if letters == name or is_one_edit(plain, name.replace("-", "")):
            return name
    return None
