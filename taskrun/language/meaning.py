"""What one directive line means: an item, and what there is to say about it. Called by the parser, rule by rule."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from taskrun.language.diagnostics import Diagnostic
from taskrun.language.directives import CATALOGUE, known, nearest, usable
from taskrun.language.items import Allow, Barrier, Encrypt, Foreach, Item, PerEngine, Prefix, Repeat, Stage, Suffix
from taskrun.language.kinds import KINDS, nearest_kind
from taskrun.language.words import is_one_edit, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lark import Token

#: `unknown` is an error, but a warning where unknown directives are ignored as disBatch does.
Weight: TypeAlias = Literal["error", "warning", "unknown"]

LIMIT = 2**63  # counts and indices stay below, so that they fit everywhere
_DIGITS = len(str(LIMIT))
_SHOWN = 40  # characters of a wrong word quoted in a message

_BLANKS = " \t\r\f\v"
_BLANK_NAMES = {" ": "a second blank", "\t": "a TAB", "\r": "a CR", "\f": "a form feed", "\v": "a vertical tab"}
_words = re.compile(r"[ \t\r\f\v]*([^ \t\r\f\v]*)[^\n]*")
_sha256 = re.compile("[0-9a-f]{64}").fullmatch
_check_word = re.compile(r"(?<![^ \t\r\f\v])CHECK(?![^ \t\r\f\v])").search
_quoted_braces = re.compile(r"['\"]\{\}['\"]?|\{\}['\"]").search
_clause = re.compile(rb"(start|step)[ \t\r\f\v]+[-+]?[0-9]", re.IGNORECASE).match

_SCOPES = ("RUN", "ENGINE", "TASK")


class Finding(NamedTuple):
    """Something to say about a place in a line."""

    weight: Weight
    column: int
    length: int
    message: str
    hint: str
    kind: str = ""  # of a warning

    def of(self, line: int, raw: bytes, ignore_unknown: bool) -> Diagnostic:
        """What is said of the line `raw`."""
        warns = self.weight == "warning" or (self.weight == "unknown" and ignore_unknown)
        kind = (self.kind or self.weight) if warns else ""
        return Diagnostic.at("warning" if warns else "error", line, self.column, self.length, self.message, self.hint, raw, kind)


class Meaning(NamedTuple):
    """One directive line, understood. Its item has line 0 and a barrier no text: who knows them puts them in."""

    item: Item | Allow | None = None
    findings: tuple[Finding, ...] = ()
    sigil: str = ""  # `#TASKRUN`, `#DISBATCH`, or `#`
    line: int = 1  # in the text that was parsed
    #: Where unknown directives are ignored: this is what disBatch makes of it; or a task like any other line.
    fallback: Item | Literal["task"] | None = None


class Rules:
    """One method for each rule of the grammar, called from the bottom up with what its parts gave."""

    def taskfile(self, children: list[Any]) -> list[Any]:
        return children

    def task(self, children: list[Any]) -> Token:
        task: Token = children[0]
        return task

    def directive(self, children: list[Any]) -> Meaning:
        sigil, meaning = children
        return _signed(sigil, meaning)

    def wrong_sigil(self, children: list[Any]) -> Meaning:
        sigil, rest = children
        fallback: Literal["task"] | None = "task" if sigil == "#DISBATCH" else None  # no other is one to disBatch
        if rest is None:
            return _nameless(sigil, fallback)
        word = _word(rest)
        if rest[0] in _BLANKS:
            finding = _blank(rest, sigil, "the name", _remedy(word, sigil))
        else:
            near = nearest(word, sigil)
            hint = (
                f"did you mean `#TASKRUN {near}`?"
                if near
                else f"write `#TASKRUN NAME`, or begin a comment with `# `; NAME is one of {usable(sigil)}"
            )
            finding = Finding("unknown", _column(sigil), len(sigil) + len(word), f"`{sigil}{_cut(word)}` is not a directive", hint)
        return _signed(sigil, Meaning(None, (finding,), fallback=fallback))

    def wrong_name(self, children: list[Any]) -> Meaning:
        sigil, rest = children
        if rest is None:
            return _nameless(sigil, None)
        word = _word(rest)
        if rest[0] in _BLANKS:
            return _signed(sigil, Meaning(None, (_blank(rest, sigil, "the name", _remedy(word, sigil)),)))
        glued = next((name for name in known(sigil) if word.upper().startswith(name)), None)
        near = glued or nearest(word, sigil)
        if word.upper() in CATALOGUE:
            hint = "it is taskrun's own: begin the line with `#TASKRUN`"
        elif glued and word[len(glued) :].isalnum():
            hint = f"did you mean `{glued} {_cut(word[len(glued) :])}`?"
        else:
            hint = f"did you mean {near}?" if near else f"directives are {usable(sigil)}"
        finding = Finding("unknown", _column(rest), len(word), f"unknown directive `{_cut(word)}`", hint)
        # disBatch does not look at what follows the word BARRIER; dropping a barrier would be worse than keeping it.
        fallback = Barrier(0, False, None, b"") if word.startswith("BARRIER") else None
        return _signed(sigil, Meaning(None, (finding,), fallback=fallback))

    def prefix(self, children: list[Any]) -> Meaning:
        return Meaning(Prefix(0, _bytes(children[1])))

    def suffix(self, children: list[Any]) -> Meaning:
        return Meaning(Suffix(0, _bytes(children[1])))

    def wrong_prefix(self, children: list[Any]) -> Meaning:
        return Meaning(None, (_blank(children[1], "PREFIX", "its text"),))

    def wrong_suffix(self, children: list[Any]) -> Meaning:
        return Meaning(None, (_blank(children[1], "SUFFIX", "its text"),))

    def barrier(self, children: list[Any]) -> Meaning:
        key = children[1]
        findings: tuple[Finding, ...] = ()
        check = _check_word(key or "")
        if key is not None and _nearly_check(word := _word(key)):
            message = f"`{word}` is the key of this barrier, which checks nothing"
            hint = f"did you mean `#TASKRUN BARRIER CHECK{key[len(word) :]}`?"
            findings = (Finding("warning", _column(key), len(word), message, hint, "barrier-key"),)
        elif check:
            hint = "to check, write `#TASKRUN BARRIER CHECK [key]`: one blank, CHECK first"
            findings = (
                Finding(
                    "warning",
                    _column(key) + check.start(),
                    len("CHECK"),
                    "this CHECK is part of the key; the barrier checks nothing",
                    hint,
                    "barrier-key",
                ),
            )
        return Meaning(Barrier(0, False, _bytes(key) or None, b""), findings)

    def check(self, children: list[Any]) -> Meaning:
        return Meaning(Barrier(0, True, _bytes(children[2]) or None, b""))

    def wrong_check(self, children: list[Any]) -> Meaning:
        rest = children[1]
        word = _word(rest[1:])
        hint = _usage("BARRIER")
        if rest.startswith(" CHECK"):  # to disBatch this is CHECK
            blank = word == "CHECK"
            message = (
                f"{_BLANK_NAMES[rest[6]]} after CHECK" if blank else f"`{_cut(word)}` is neither CHECK nor a key: no key begins with CHECK"
            )
            finding = Finding("unknown", _column(rest) + (6 if blank else 1), 1 if blank else len(word), message, hint)
            return Meaning(None, (finding,), fallback=Barrier(0, True, None, b""))
        finding = Finding("unknown", _column(rest) + 1, len(word), f"`{word}` must be written CHECK", hint)
        return Meaning(None, (finding,), fallback=Barrier(0, False, _bytes(rest)[1:], b""))

    def wrong_barrier(self, children: list[Any]) -> Meaning:
        return Meaning(None, (_blank(children[1], "BARRIER", "what follows"),), fallback=Barrier(0, False, None, b""))

    def repeat(self, children: list[Any]) -> Meaning:
        _, *numbers, command = children
        findings = []
        values = []
        for number, default in zip(numbers, (0, 0, 1), strict=True):
            digits = "" if number is None else number.lstrip("0")
            value = default if number is None else int(digits[: _DIGITS + 1] or "0")
            values.append(value)
            if number is not None and value >= LIMIT:
                findings.append(Finding("error", _column(number), len(number), "the number is too large", f"it must be below {LIMIT:,}"))
        too_large = bool(findings)
        text = _bytes(command)
        clause = None if too_large else _clause(text)
        if command is not None and clause:
            message = f"`{clause[1].decode()}` is part of the command here"
            findings.append(Finding("warning", _column(command), len(clause[1]), message, _usage("REPEAT"), "clause"))
        count, start, step = values
        return Meaning(None if too_large else Repeat(0, count, start, step, text), tuple(findings))

    def foreach(self, children: list[Any]) -> Meaning:
        _, glob, command = children
        findings: tuple[Finding, ...] = ()
        quoted = _quoted_braces(command or "")
        if quoted:
            message = "{} is quoted already: no quotes go around it"
            hint = "write {} alone, or {}.out"
            findings = (Finding("warning", _column(command) + quoted.start(), len(quoted[0]), message, hint, "braces"),)
        return Meaning(Foreach(0, _bytes(glob), _bytes(command), b""), findings)

    def wrong_glob(self, children: list[Any]) -> Meaning:
        name, rest = children
        if rest is None:
            finding = Finding("unknown", _column(name), len(name), "FOREACH without a glob", _usage("FOREACH"))
        elif rest[0] in _BLANKS:
            finding = _blank(rest, "FOREACH", "the glob", _usage("FOREACH"))
        else:
            finding = Finding("unknown", _column(rest), len(rest), "a quote in the glob has no end", _usage("FOREACH"))
        return Meaning(None, (finding,))

    def wrong_foreach(self, children: list[Any]) -> Meaning:
        return Meaning(None, (_blank(children[2], "the glob", "the command", _usage("FOREACH")),))

    def wrong_count(self, children: list[Any]) -> Meaning:
        name, rest = children
        if rest is None:
            finding = Finding("unknown", _column(name), len(name), "REPEAT without a count", _usage("REPEAT"))
        else:
            word = _word(rest)
            finding = Finding("unknown", _column(rest), len(word), f"the count `{_cut(word)}` must be digits only", _usage("REPEAT"))
        return Meaning(None, (finding,))

    def wrong_repeat(self, children: list[Any]) -> Meaning:
        return Meaning(None, (_blank(children[2], "the count", "the command", _usage("REPEAT")),))

    def perengine(self, children: list[Any]) -> Meaning:
        _, when, text = children
        word = _word(text or "")
        findings: tuple[Finding, ...] = ()
        column = 0 if text is None else _column(text) + len(text) - len(text.lstrip(_BLANKS))
        if _when(when) == "START" and _nearly_check(word):
            hint = "did you mean `#TASKRUN PERENGINE START CHECK command`?"
            findings = (Finding("warning", column, len(word), f"`{word}` is part of the command here", hint, "clause"),)
        elif word.upper() == "CHECK":
            hint = "to check engines, write START CHECK in capitals, one blank between, in a line that does not begin with #DISBATCH"
            findings = (Finding("warning", column, len(word), f"`{word}` is part of the command here", hint, "clause"),)
        return Meaning(PerEngine(0, _when(when), _bytes(text)), findings)

    def perengine_check(self, children: list[Any]) -> Meaning:
        _, when, check, text = children
        if _when(when) == "STOP":
            message = "STOP has no CHECK: the engine leaves anyway"
            return Meaning(None, (Finding("error", _column(check) + 1, len("CHECK"), message, _usage("PERENGINE")),))
        findings: tuple[Finding, ...] = ()
        if not (text or "").strip(_BLANKS):
            message = "START CHECK with a blank command checks nothing"
            findings = (Finding("warning", _column(check) + 1, len("CHECK"), message, _usage("PERENGINE"), "clause"),)
        return Meaning(PerEngine(0, "START", _bytes(text), check=True), findings)

    def wrong_perengine_check(self, children: list[Any]) -> Meaning:
        name, when, check, rest = children
        if rest is not None:
            return Meaning(None, (_blank(rest, "CHECK", "the command", _usage("PERENGINE")),))
        length = _column(check) - _column(name) + len(check)
        return Meaning(None, (Finding("error", _column(name), length, f"{name} {when} CHECK without a command", _usage("PERENGINE")),))

    def wrong_when(self, children: list[Any]) -> Meaning:
        name, rest = children
        if rest is None:
            finding = Finding("unknown", _column(name), len(name), "PERENGINE without START or STOP", _usage("PERENGINE"))
        elif rest[0] in _BLANKS:
            finding = _blank(rest, "PERENGINE", "START or STOP", _usage("PERENGINE"))
        else:
            word = _word(rest)
            finding = Finding("unknown", _column(rest), len(word), f"`{_cut(word)}` is neither START nor STOP", _usage("PERENGINE"))
        return Meaning(None, (finding,))

    def wrong_perengine(self, children: list[Any]) -> Meaning:
        name, when, rest = children
        if rest is not None:
            return Meaning(None, (_blank(rest, str(when), "the command", _usage("PERENGINE")),))
        length = _column(when) - _column(name) + len(when)
        return Meaning(None, (Finding("unknown", _column(name), length, f"{name} {when} without a command", _usage("PERENGINE")),))

    def stage(self, children: list[Any]) -> Meaning:
        name, *words = children
        way: Literal["in", "out"] = "in" if name.upper() == "STAGE-IN" else "out"
        usage = _usage(name.upper())
        scope: Literal["RUN", "ENGINE", "TASK"] = words.pop(0).upper() if words and words[0].upper() in _SCOPES else "RUN"
        if scope == "ENGINE" and way == "out":
            message = "STAGE-OUT has no ENGINE: RUN looks on every engine that does not share this folder"
            return Meaning(None, (Finding("error", _column(children[1]), len(children[1]), message, usage),))
        if scope == "TASK" and [word.upper() for word in words] == ["OFF"]:
            return Meaning(Stage(0, way, "TASK", b"", b""))
        promised, wrong = _promise(words, way)
        if wrong:
            return Meaning(None, wrong)
        least = 1 if way == "in" else 2
        if len(words) < least:
            missing = ("its source" if way == "in" else "its pattern and where it goes") if not words else "where it goes"
            return Meaning(None, (Finding("error", _column(name), len(name), f"{name} without {missing}", usage),))
        if len(words) > 2:
            message = f"`{_cut(words[2])}` is one word too many: quote a name with blanks"
            return Meaning(None, (Finding("error", _column(words[2]), len(words[2]), message, usage),))
        findings = tuple(each for place, word in enumerate(words) for each in _unexpanded(word, scope, glob=place == 0))
        return Meaning(Stage(0, way, scope, _bytes(words[0]) + promised, _bytes(words[1]) if len(words) > 1 else b""), findings)

    def encrypt(self, children: list[Any]) -> Meaning:
        name, *words = children
        usage = f"{_usage('ENCRYPT')}, or #TASKRUN ENCRYPT OFF"
        if not words:
            return Meaning(None, (Finding("error", _column(name), len(name), "ENCRYPT without a recipient", usage),))
        recipients = tuple(_text(each) for each in plain(_bytes(words[0])).split(b",") if each.strip())
        if len(words) > 1 and (len(words) != 3 or words[1].upper() != "SIGN"):
            message = (
                "SIGN without a key" if words[1].upper() == "SIGN" and len(words) == 2 else f"`{_cut(words[1])}` is not SIGN and a key"
            )
            return Meaning(None, (Finding("error", _column(words[1]), len(words[1]), message, usage),))
        if not recipients:
            return Meaning(None, (Finding("error", _column(words[0]), len(words[0]), "ENCRYPT names nobody", usage),))
        if words[0].upper() == "OFF":
            if len(words) > 1:
                return Meaning(None, (Finding("error", _column(words[1]), len(words[1]), "nothing follows OFF", usage),))
            return Meaning(Encrypt(0, (), ""))
        return Meaning(Encrypt(0, recipients, _text(plain(_bytes(words[2]))) if len(words) > 1 else ""))

    def allow(self, children: list[Any]) -> Meaning:
        name, *words = children
        if not words:
            hint = f"{_usage('ALLOW')}; kinds are {', '.join(KINDS)}"
            return Meaning(None, (Finding("error", _column(name), len(name), "ALLOW without a kind of warning", hint),))
        findings = tuple(_unknown_kind(word) for word in words if word.lower() not in KINDS)
        return Meaning(None if findings else Allow(0, tuple(word.lower() for word in words)), findings)

    def wrong_word(self, children: list[Any]) -> Meaning:
        name, rest = children[0], children[-1]
        finding = Finding("error", _column(rest), len(rest), "a quote has no end", _usage(name.upper()))
        return Meaning(None, (finding,))


def _signed(sigil: Token, meaning: Meaning) -> Meaning:
    """The meaning of the whole line; its hints are written with the sigil the person uses."""
    if meaning.findings and sigil != "#TASKRUN":
        written = "#" if sigil == "#" else sigil + " "
        findings = tuple(finding._replace(hint=finding.hint.replace("#TASKRUN ", written)) for finding in meaning.findings)
        meaning = meaning._replace(findings=findings)
    return meaning._replace(sigil=str(sigil), line=sigil.line or 1)


def _nameless(sigil: Token, fallback: Literal["task"] | None) -> Meaning:
    hint = f"write `#TASKRUN NAME`; NAME is one of {usable(sigil)}"
    finding = Finding("unknown", _column(sigil), len(sigil), f"no directive after `{sigil}`", hint)
    return _signed(sigil, Meaning(None, (finding,), fallback=fallback))


def _nearly_check(word: str) -> bool:
    """Whether a word is CHECK but for one letter. In small letters it is some other word."""
    return word.isalpha() and not word.islower() and word.upper() != "CHECK" and is_one_edit(word.upper(), "CHECK")


def _unknown_kind(word: Token) -> Finding:
    near = nearest_kind(word)
    hint = f"did you mean `{near}`?" if near else f"kinds are {', '.join(KINDS)}"
    return Finding("error", _column(word), len(word), f"unknown kind of warning `{_cut(word)}`", hint)


def _promise(words: list[Token], way: str) -> tuple[bytes, tuple[Finding, ...]]:
    """Take `sha256=` off the end of the words of a STAGE line: what is added to the source for it, or what is wrong with it."""
    if len(words) < 2 or not words[-1].lower().startswith("sha256="):
        return b"", ()
    word = words.pop()
    if way != "in" or not words[0].strip("'\"").lower().startswith("https://"):
        return b"", (Finding("error", _column(word), len(word), "sha256= goes with STAGE-IN from https:// alone", _usage("STAGE-IN")),)
    value = word[len("sha256=") :].lower()
    if not _sha256(value):
        return b"", (Finding("error", _column(word), len(word), "sha256= takes 64 hexadecimal digits", "as `sha256sum FILE` prints them"),)
    return f"#sha256={value}".encode("ascii"), ()


def _unexpanded(word: Token, scope: str, *, glob: bool) -> Iterator[Finding]:
    if not any(char in word for char in "$~*?["):
        return
    from taskrun.language.stage_words import slips

    for place, length, message, hint, kind in slips(word, task=scope == "TASK", glob=glob):
        yield Finding("warning", _column(word) + place, length, message, hint, kind)


def _when(word: Token) -> Literal["START", "STOP"]:
    return "START" if word.upper() == "START" else "STOP"


def _blank(rest: Token, after: str, before: str, hint: str | None = None) -> Finding:
    """The wrong blank: exactly one separates the words."""
    length = len(rest) - len(rest.lstrip(_BLANKS))
    message = f"{_BLANK_NAMES[rest[0]]} after {after}: exactly one blank goes before {before}"
    return Finding("unknown", _column(rest), length, message, hint or _usage(after))


def _remedy(word: str, sigil: str) -> str:
    """How the line begins when the name is written in its place."""
    near = word.upper() if word.upper() in known(sigil) else nearest(word, sigil)
    return f"write `#TASKRUN {near or 'NAME'}`" + ("" if near else f"; NAME is one of {usable(sigil)}")


def _usage(name: str) -> str:
    return f"usage: {CATALOGUE[name].usage}"


def _word(rest: str) -> str:
    """The first word of what is left of a line. One character is one byte."""
    return _words.sub(r"\1", rest, count=1)


def _cut(word: str) -> str:
    """A word as a message quotes it: its bytes are UTF-8 in most files."""
    text = word.encode("latin-1").decode("utf-8", "surrogateescape")
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _column(token: Token) -> int:
    return token.column or 1


def _bytes(token: str | None) -> bytes:
    return b"" if token is None else token.encode("latin-1")


def _text(data: bytes) -> str:
    return data.strip().decode("utf-8", "surrogateescape")
