"""The kinds of warnings: the names by which `#TASKRUN ALLOW` silences them."""

from __future__ import annotations

#: Name -> what a warning of this kind says. A name is never changed: task files have it.
KINDS = {
    "background": "a command that ends in &, recorded as done while it still runs",
    "barrier-key": "a word CHECK in the key of a barrier, which checks nothing",
    "braces": "quotes around {} of FOREACH, which is quoted already",
    "clause": "start, step or CHECK in the text of a command, where it is no clause of the directive",
    "crlf": "lines that end in CRLF",
    "incomplete": "a line that is not a whole command: an open quote, a loop without its done, a here-document",
    "joined": "a line that means something else together with the PREFIX or SUFFIX around it",
    "near-miss": "a comment that looks like a misspelt directive",
    "no-match": "a glob of FOREACH that matches no file",
    "not-expanded": "a variable or ~ in a STAGE line, which stands for itself there",
    "not-tasks": "a file that is a script, a program or data, and no list of tasks",
    "quoted-glob": "a glob character in quotes, or ** within a name, of a STAGE line: it matches less than it seems",
    "typography": "a no-break space, typographic quote or dash where bash or a program wants an ordinary one",
    "unknown": "a directive that is unknown, or wrong, and ignored (--ignore-unknown)",
}


def nearest_kind(word: str) -> str | None:
    """The kind that a misspelt `word` most likely meant, None if it is like none of them."""
    from difflib import get_close_matches  # only for a wrong line, and slow to import

    return next(iter(get_close_matches(word.lower()[:40], KINDS, 1, 0.6)), None)
