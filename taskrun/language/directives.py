"""The catalogue of directives: which names there are, how each is written, what each is for."""

from __future__ import annotations

from typing import NamedTuple


class Directive(NamedTuple):
    """One directive a task file may hold."""

    name: str
    arguments: str  # how it is written, after the name
    purpose: str
    own: bool = False  # taskrun's alone: only after `#TASKRUN`, so that no comment or disBatch line ever becomes one

    @property
    def usage(self) -> str:
        """How the whole line is written, with the sigil of taskrun."""
        return f"#TASKRUN {self.name} {self.arguments}"


CATALOGUE = {
    directive.name: directive
    for directive in (
        Directive("PREFIX", "[text]", "text before every command from here on"),
        Directive("SUFFIX", "[text]", "text after every command from here on"),
        Directive("BARRIER", "[CHECK] [key]", "what is below waits for what is above; CHECK: and for its success"),
        Directive("REPEAT", "count [start number] [step number] [command]", "the same command several times"),
        Directive("FOREACH", "glob [command]", "the same command for every file that matches; {} is the file", own=True),
        Directive("PERENGINE", "START [CHECK]|STOP command", "a command for every engine, before its first task or when it leaves"),
        Directive(
            "STAGE-IN", "[RUN|ENGINE|TASK] source [dest] [sha256=HEX]", "data that tasks need: once, on every engine, or for each task"
        ),
        Directive("STAGE-OUT", "[RUN|TASK] pattern dest", "data that tasks make: as it is complete, or of each task"),
        Directive("ENCRYPT", "recipient[,recipient] [SIGN key]", "for whom what leaves is encrypted from here on; OFF ends it"),
        Directive("ALLOW", "kind [kind ...]", "no warnings of these kinds from here on", own=True),
    )
}

#: What directives of disBatch 1 are called now.
SUCCESSORS = {"PERNODE": "PERENGINE START"}


def known(sigil: str) -> tuple[str, ...]:
    """The names that may follow a sigil."""
    return tuple(name for name, directive in CATALOGUE.items() if sigil == "#TASKRUN" or not directive.own)


def usable(sigil: str) -> str:
    """The same for hints."""
    return ", ".join(known(sigil))


def nearest(word: str, sigil: str = "#TASKRUN") -> str | None:
    """The name that a misspelt `word` most likely meant, None if it is like none of them."""
    from difflib import get_close_matches  # only for a wrong line, and slow to import

    if word.upper() in SUCCESSORS:
        return SUCCESSORS[word.upper()]
    return next(iter(get_close_matches(word.upper()[:40], known(sigil), 1, 0.65)), None)
