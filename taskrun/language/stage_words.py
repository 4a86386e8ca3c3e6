"""Parts of a word of a STAGE line that bash would expand and taskrun does not: variables, `~`; quoted globs; `**` within a name."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: A part of a word: escaped, between single quotes, between double quotes, bare.
_part = re.compile(r"\\.|'[^']*'|\"(?:[^\"\\]|\\.)*\"|[^\\'\"]+", re.DOTALL)
_variable = re.compile(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))")
_stars = re.compile(r"(?:^|/)([^/]*\*\*[^/]*)")
_OURS = ("TASKRUN_", "DISBATCH_")


def slips(word: str, *, task: bool, glob: bool) -> Iterator[tuple[int, int, str, str, str]]:
    """Yield place in the word, length, message, hint and kind of each. `task`: of a TASK line; `glob`: globs mean something in the word."""
    found: re.Match[str] | None
    home = re.match(r"~[\w.-]*(?=/|$)", word)
    if home:
        yield 0, len(home[0]), f"{home[0]} is not expanded in a STAGE line", "write the whole path", "not-expanded"
    for part in _part.finditer(word):
        quote = part[0][0] if part[0][0] in "'\"\\" else ""
        if quote in ("", '"'):
            for found in _variable.finditer(part[0]):
                if not (task and (found[1] or found[2]).startswith(_OURS)):
                    yield part.start() + found.start(), len(found[0]), *_unexpanded(found[0], found[1] or found[2], task=task)
        if glob and quote in ("'", '"') and (found := re.search(r"[*?]|\[.+\]", part[0])):
            hint = 'take it out of the quotes, as in "my data"/*.txt, if it is to match names'
            yield part.start() + found.start(), len(found[0]), f"quoted, {found[0]} means itself", hint, "quoted-glob"
        if glob and not quote:
            for found in _stars.finditer(part[0]):
                if found[1] != "**":
                    hint = f"for files in all directories below write **/{re.sub('[*][*]+', '*', found[1])}"
                    yield part.start() + found.start(1), len(found[1]), f"{found[1]} matches names of one directory", hint, "quoted-glob"


def _unexpanded(text: str, name: str, *, task: bool) -> tuple[str, str, str]:
    if name.startswith(_OURS):
        return f"{text} is not replaced in a line of RUN or ENGINE", "variables of a task are known in TASK lines", "not-expanded"
    where = "only TASKRUN_ and DISBATCH_ variables are" if task else "no variables are"
    return f"{text} is not replaced: {where} in this line", "write its value", "not-expanded"
