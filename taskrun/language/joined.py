"""Lines that mean something else together with the PREFIX or SUFFIX around them: slips.

The text is joined as it is written, as disBatch does. What is told, once for each PREFIX or SUFFIX and kind of slip:

- a SUFFIX that begins with `<` or `>` after a word of digits, which becomes a file descriptor;
- two words that become one, because no blank is between them;
- a comment in a line, of which the SUFFIX becomes a part;
- a SUFFIX that redirects the output of the last command of several, while those before it say something, too;
- a PREFIX that is the beginning of a command (`timeout 60 `), before several commands of which it takes the first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from taskrun.language.alike import Question
from taskrun.language.outline import outline
from taskrun.language.slips import Block, Slip

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskrun.language.items import Prefix, Suffix

_KIND = "joined"
_SHOWN = 40  # characters of a prefix or suffix in a message

_descriptor = re.compile(rb"(?:^|(?<!\\)[ \t;|()])([0-9]+|\{[A-Za-z_]\w*\})$").search
_digit_last = re.compile(rb"[0-9}](?![^\n])").search
_word_first = re.compile(rb"^(?=[A-Za-z0-9])", re.MULTILINE).search
_word_last = re.compile(rb"[A-Za-z0-9](?![^\n])").search
_anything_last = re.compile(rb"[^ \t\r\f\v;&|()<>\n](?![^\n])").search
_ends_in_word = re.compile(rb"[A-Za-z0-9]$").search
_begins_with_word = re.compile(rb"[A-Za-z0-9]").match
_begins_with_descriptor = re.compile(rb"[0-9]+[<>]").match
_redirects_output = re.compile(rb"[ \t]*(?:[0-9]+|&)?>").match
_mark = re.compile(rb"#(?<=[ \t;&|()]#)").search
_separator = re.compile(rb"&(?:&|(?<=[^<>&]&)(?![>&]))").search
_first_word = re.compile(rb"[ \t]*(?:!?[ \t]+|\w+\+?=(?:[^ \t'\"\\]|\\.|'[^']*'|\"[^\"]*\")*(?:[ \t]+|$))*([^ \t]*)", re.ASCII).match
_between = re.compile(rb"(?:(?:!|time|then|do|else|elif|\{)(?:[ \t]+|$))*").match
_letters = re.compile(rb"[A-Za-z0-9]+").match
_last_letters = re.compile(rb"[A-Za-z0-9]+$").search

#: Commands that print nothing when all is well.
_SILENT = frozenset(
    b"cd export source . module ml set unset ulimit umask mkdir test [ [[ true : false sleep wait trap shopt alias "
    b"cp mv rm ln touch chmod conda mamba spack exit return declare local let".split()
)
#: Commands to which it makes no difference what a prefix does.
_TRIVIAL = _SILENT - {b"cp", b"mv", b"sleep", b"wait"} | {b"echo", b"printf", b"date", b"kill"}

Place: TypeAlias = "tuple[int, int]"  # column and length in the line


class _Check(NamedTuple):
    """What is asked of the lines below a PREFIX or SUFFIX, and what is said of those for which there is an answer."""

    question: Question[Place]
    told: Callable[[bytes], tuple[str, str]]  # the offending word -> message, hint
    group: str


class Joins:
    """What a PREFIX and a SUFFIX make of the lines below them."""

    def __init__(self, prefix: Prefix, suffix: Suffix) -> None:
        self._checks = [*_checks_of_suffix(prefix.text, suffix), *_checks_of_prefix(prefix)]

    def joined(self, block: Block) -> Iterator[Slip]:
        """The slips in a block, each at its first line."""
        for check in self._checks:
            first = check.question.first(block)
            if first is not None:
                column, length = first.answer
                message, hint = check.told(first.text[column - 1 : column - 1 + length])
                yield Slip(first.line, column, length, _KIND, message, hint, first.text, check.group, first.lines)


def _checks_of_suffix(prefix: bytes, suffix: Suffix) -> Iterator[_Check]:
    text, before = suffix.text, len(prefix)
    if not text.strip(b" \t"):
        return
    name = f"the SUFFIX of line {suffix.line}, `{_text(text.strip())}`,"
    blank = f"begin the text of the SUFFIX with a blank: `#SUFFIX  {_text(text)}`"

    def descriptor(word: bytes) -> tuple[str, str]:
        return f"`{_text(word)}` and {name} make `{_text(word + text[:1])}`, which redirects a file descriptor", blank

    if text.startswith((b"<", b">")):
        yield _Check(Question(_digit_last, lambda line: _made_descriptor(prefix, line)), descriptor, f"descriptor {suffix.line}")
    if _begins_with_word(text):
        may = _anything_last if _begins_with_descriptor(text) else _word_last
        message = f"the end of this line and {name} become one word"
        yield _Check(Question(may, _last_word), lambda _: (message, blank), f"suffix word {suffix.line}")

    comment = f"this comment takes {name} with it", "write the comment into a line of its own"
    yield _Check(Question(_mark, lambda line: _comment(prefix + line, before)), lambda _: comment, f"comment {suffix.line}")

    if _redirects_output(text):
        hint = f"for the output of all, put braces around them: `#PREFIX {{ ` and `#SUFFIX ; }} {_text(text.lstrip())}`"
        last = f"{name} takes no output of this command, only that of the last one", hint
        yield _Check(Question(_may_be_several, lambda line: _uncaptured(prefix + line, before)), lambda _: last, f"last {suffix.line}")


def _checks_of_prefix(prefix: Prefix) -> Iterator[_Check]:
    text, before = prefix.text, len(prefix.text)
    if not text.strip(b" \t"):
        return
    name = f"the PREFIX of line {prefix.line}, `{_text(text.strip())}`,"
    if _ends_in_word(text):
        message = f"{name} and the beginning of this line become one word"
        word = message, "end the text of the PREFIX with a blank"
        yield _Check(Question(_word_first, _leading_word), lambda _: word, f"prefix word {prefix.line}")
    if _begins_a_command(text):
        hint = f"for all of them: `{_text(text.strip())} bash -c '…'`"
        first = f"{name} does not hold for this command, only for the first one", hint
        yield _Check(Question(_may_be_several, lambda line: _beyond(text + line, before)), lambda _: first, f"first {prefix.line}")


def _may_be_several(text: bytes) -> bool:
    return b";" in text or b"||" in text or _separator(text) is not None


def _made_descriptor(prefix: bytes, line: bytes) -> Place | None:
    word = _descriptor(prefix + line)
    if not word or len(word[1]) > len(line):
        return None
    found = outline(prefix + line)
    if found is None or not found.is_whole or found.comment >= 0:
        return None
    return len(line) - len(word[1]) + 1, len(word[1])


def _last_word(line: bytes) -> Place:
    word = _last_letters(line)
    length = len(word[0]) if word else 1
    return len(line) - length + 1, length


def _leading_word(line: bytes) -> Place:
    word = _letters(line)
    return 1, len(word[0]) if word else 1


def _comment(text: bytes, before: int) -> Place | None:
    """The comment at the end of a line."""
    found = outline(text)
    if found is None or found.comment < before:
        return None
    return found.comment - before + 1, len(text) - found.comment


def _uncaptured(text: bytes, before: int) -> Place | None:
    """A command of the line that says something, and whose output no redirection behind the text takes."""
    found = outline(text)
    if found is None or not found.is_whole or found.comment >= 0:
        return None
    for (start, end), separator in zip(found.commands, found.separators, strict=False):
        command = text[start:end]
        if separator in (b"|", b"|&"):
            continue  # its output goes on
        if end > before and command.strip() and not _is(command, _SILENT) and b">" not in command:
            first = max(end - len(command.lstrip()), before)
            return first - before + 1, max(1, start + len(command.rstrip()) - first)
    return None


def _begins_a_command(prefix: bytes) -> bool:
    """Whether a prefix is the beginning of a command that the line continues."""
    found = outline(prefix)
    if found is None or not found.is_whole or found.comment >= 0:
        return False
    start, end = found.commands[-1]
    command = prefix[start:end].strip()
    return bool(_between(command + b" ").end() < len(command))  # type: ignore[union-attr]  # matches anywhere


def _beyond(text: bytes, before: int) -> Place | None:
    """A command of the line that does not begin with the first `before` bytes, and to which they would make a difference."""
    found = outline(text)
    if found is None or not found.is_whole:
        return None
    apart = False
    for (start, end), separator in zip(found.commands, (b"", *found.separators), strict=False):
        if start <= before:
            continue
        apart = apart or separator in (b";", b"&&", b"&")
        command = text[start:end]
        if apart and separator != b"||" and command.strip() and not _is(command, _TRIVIAL):
            return end - len(command.lstrip()) - before + 1, len(command.strip())
    return None


def _is(command: bytes, words: frozenset[bytes]) -> bool:
    """Whether a command is one of these. One that only sets variables is any."""
    word = _first_word(command)
    return word is not None and (not word[1] or word[1] in words)


def _text(data: bytes) -> str:
    text = data.decode("utf-8", "surrogateescape")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
