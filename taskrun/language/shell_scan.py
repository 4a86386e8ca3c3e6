"""What a line lacks to be a whole command of bash: the end of a quote, of a loop, of a here-document, of an operator.

The scan knows as much of bash's grammar as that takes. Of text that is wrong in any other way it says nothing.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["backslash", "quote", "here-document", "block", "inner", "operator"]


class Lack(NamedTuple):
    """Why bash cannot take a line as a command of its own."""

    kind: Kind
    place: int  # in the text, from 0
    length: int
    word: str  # what has no end, or ends nothing
    missing: str = ""  # what would be its end


def lack(text: bytes) -> Lack | None:
    """What one line lacks; None if nothing, or if it is wrong in another way. Takes any bytes, in linear time."""
    return _Scan(text).run()


class _Frame:
    """Something that was begun and has an end of its own: the line, a quote, a bracket, a loop."""

    __slots__ = ("after", "body", "command", "depth", "kind", "operator", "place", "plain", "quoted", "redirect", "state", "word", "words")

    def __init__(self, kind: str, place: int, state: str = "", quoted: bool = False) -> None:
        self.kind = kind
        self.place = place
        self.state = state
        self.quoted = quoted  # inside double quotes
        self.depth = 2  # parentheses of arithmetic
        self.command = True  # the next word begins a command
        self.after = False  # a compound command has just ended
        self.body = False  # the next command is the body of a function
        self.word = -1  # where the word at hand began
        self.plain = True  # and whether nothing of it is quoted
        self.words = 0
        self.operator: tuple[int, int] | None = None  # one that waits for a command
        self.redirect = False  # one waits for a file


class _Wrong(Exception):  # no error of the program: the end of a scan
    """The text is wrong in a way that is not told."""


_ENDS = {
    "'": "'", '"': '"', "`": "`", "$'": "'", "$(": ")", "(": ")", "<(": ")", "array": ")", "$((": "))", "((": "))", "${": "}", "{": "}",
    "[[": "]]", "if": "fi", "for": "done", "select": "done", "while": "done", "until": "done", "case": "esac",
}  # fmt: skip
_QUOTES = frozenset(("'", '"', "`", "$'", "$((", "((", "${", "[["))
_LOOPS = ("for", "select", "while", "until")
_ROUND = ("$(", "(", "<(")
_OPENERS = {word.encode() for word in ("if", *_LOOPS, "case", "{", "[[")}
_OPENED_BY = {b"then": "if", b"elif": "if", b"else": "if", b"fi": "if", b"do": "for", b"done": "do", b"esac": "case", b"}": "{"}
_STATES = {b"then": ("if",), b"elif": ("then",), b"else": ("then",), b"fi": ("then", "else")}
_NEXT = {b"then": "then", b"elif": "if", b"else": "else"}

_word_run = re.compile(rb"[^ \t;&|()<>'\"`\\$]+").match
_blanks = re.compile(rb"[ \t]*").match
_quoted_run = re.compile(rb"[^\"\\`$]*").match
_param_run = re.compile(rb"[^}\"'\\`$]*").match
_sum_run = re.compile(rb"[^()\"'\\`$]*").match
_condition_run = re.compile(rb"[^ \t\"'\\`$]*").match
_condition_end = re.compile(rb"[ \t]*\]\](?![^ \t;&|()<>])").match
_backtick = re.compile(rb"`[^`\\]*(?:\\.[^`\\]*)*`", re.DOTALL).match
_ansi = re.compile(rb"\$'[^'\\]*(?:\\.[^'\\]*)*'", re.DOTALL).match
_variable = re.compile(rb"\$(?:\w+|[#$?!*@-])", re.ASCII).match
_operator = re.compile(rb";;&|;;|;&|;|&&|\|\||\|&|\||&>>|&>|&|<<<|<<-|<<|<\(|>\(|<&|>&|<>|>\||>>|<|>").match
_time_option = re.compile(rb"(?:[ \t]+-p(?![^ \t;&|()<>]))?").match
_no_words = re.compile(rb"\([ \t]*\)").match
_assignment = re.compile(rb"\w+(?:\[[^\]]*\])?\+?=", re.ASCII).fullmatch
_descriptor = re.compile(rb"[0-9]+|\{\w+\}", re.ASCII).fullmatch


class _Scan:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0
        self._stack = [_Frame("", 0)]

    def run(self) -> Lack | None:
        size = len(self._text)
        try:
            while self._at < size:
                frame = self._stack[-1]
                found = _STEPS.get(frame.kind, _Scan._command)(self, frame)
                if found is not None:
                    return found
            frame = self._stack[-1]
            return (self._end_word(frame, size) if frame.word >= 0 else None) or self._open()
        except _Wrong:
            return None

    def _open(self) -> Lack | None:
        """What has no end when the line has come to its own."""
        frame = self._stack[-1] if self._stack[-1].kind in _QUOTES else self._stack[min(1, len(self._stack) - 1)]
        if frame.kind:
            word = "=(" if frame.kind == "array" else frame.kind
            return Lack("quote" if frame.kind in _QUOTES else "block", frame.place, len(word), word, _ENDS[frame.kind])
        if frame.redirect:
            return None
        if frame.operator is not None:
            start, end = frame.operator
            return Lack("operator", start, end - start, self._text[start:end].decode("ascii", "replace"), "a command")
        if frame.body:
            return Lack("block", frame.place, 1, "function", "{ … }")
        return None

    # Inside quotes and brackets that hold no commands

    def _quoted(self, frame: _Frame) -> Lack | None:
        self._at = _quoted_run(self._text, self._at).end()  # type: ignore[union-attr]  # matches anywhere
        if self._text.startswith(b'"', self._at):
            self._at += 1
            self._stack.pop()
            return None
        return self._special(frame)

    def _param(self, frame: _Frame) -> Lack | None:
        self._at = _param_run(self._text, self._at).end()  # type: ignore[union-attr]
        if self._text.startswith(b"}", self._at):
            self._at += 1
            self._stack.pop()
            return None
        return self._special(frame)

    def _sum(self, frame: _Frame) -> Lack | None:
        self._at = _sum_run(self._text, self._at).end()  # type: ignore[union-attr]
        char = self._text[self._at : self._at + 1]
        if char not in (b"(", b")"):
            return self._special(frame)
        self._at += 1
        frame.depth += 1 if char == b"(" else -1
        if not frame.depth:
            self._stack.pop()
            if frame.kind == "((":
                self._compound_ended()
        return None

    def _condition(self, frame: _Frame) -> Lack | None:
        end = _condition_end(self._text, self._at)
        if end:
            self._at = end.end()
            self._stack.pop()
            self._compound_ended()
            return None
        self._at = _blanks(self._text, self._at).end()  # type: ignore[union-attr]
        if self._text.startswith(b"#", self._at):
            raise _Wrong
        start = self._at
        self._at = _condition_run(self._text, start).end()  # type: ignore[union-attr]
        if self._at > start and self._text[self._at : self._at + 1] in (b" ", b"\t", b""):
            return None
        return self._special(frame)

    def _special(self, frame: _Frame) -> Lack | None:
        """A quote, a backslash or a dollar, wherever they mean something."""
        text, at = self._text, self._at
        char = text[at : at + 1]
        if char == b"\\":
            if at + 1 == len(text):
                return Lack("backslash", at, 1, "\\")
            self._at += 2
        elif char == b"`":
            end = _backtick(text, at)
            if not end:
                return Lack("quote", at, 1, "`", "`")
            self._at = end.end()
        elif char == b'"':
            self._push('"', 1, quoted=True)
        elif char == b"'":
            if frame.quoted:
                raise _Wrong  # what it means here depends on more than is known
            self._at = text.find(b"'", at + 1) + 1
            if not self._at:
                return Lack("quote", at, 1, "'", "'")
        elif char == b"$":
            return self._dollar(frame)
        return None

    def _dollar(self, frame: _Frame) -> Lack | None:
        text, at = self._text, self._at
        if text.startswith(b"$((", at):
            self._push("$((", 3, quoted=frame.quoted)
        elif text.startswith(b"$(", at):
            self._push("$(", 2)
        elif text.startswith(b"${", at):
            self._push("${", 2, quoted=frame.quoted)
        elif text.startswith(b"$'", at) and not frame.quoted:
            end = _ansi(text, at)
            if not end:
                return Lack("quote", at, 2, "$'", "'")
            self._at = end.end()
        elif text.startswith(b"$[", at):
            raise _Wrong
        else:
            name = _variable(text, at)
            self._at = name.end() if name else at + 1
        return None

    def _push(self, kind: str, length: int, state: str = "", quoted: bool = False) -> None:
        self._stack.append(_Frame(kind, self._at, state, quoted))
        self._at += length

    # Where commands are

    def _command(self, frame: _Frame) -> Lack | None:
        text, at = self._text, self._at
        char = text[at : at + 1]
        if char in b" \t":
            found = self._end_word(frame, at) if frame.word >= 0 else None
            if self._stack[-1].kind != "[[":
                self._at = _blanks(text, self._at).end()  # type: ignore[union-attr]
            return found
        if char == b"(":
            return self._opening(frame)
        if char in b";&|<>)":
            if frame.word >= 0 and text[at : at + 2] not in (b"<(", b">("):
                return self._end_word(frame, at)  # and come back
            return self._closing(frame) if char == b")" else self._operated(frame)
        if frame.word < 0:
            if char == b"#":
                self._at = len(text)
                return None
            frame.word, frame.plain = at, True
        run = _word_run(text, at)
        if run:
            self._at = run.end()
            return None
        frame.plain = False
        return self._special(frame)

    def _end_word(self, frame: _Frame, end: int) -> Lack | None:
        """A word ends: what the frame makes of it."""
        word, plain = self._text[frame.word : end], frame.plain
        start, frame.word = frame.word, -1
        if frame.redirect:
            frame.redirect = False
            frame.command = frame.after
            return None
        if plain and self._text[end : end + 1] in (b"<", b">") and _descriptor(word):
            return None
        frame.words += 1
        if frame.kind == "array":
            return None
        if frame.state == "head":  # for NAME [in WORD …]
            if plain and frame.words == 2 and word == b"do":
                self._continue(frame, "do")
            return None
        if frame.state == "subject":  # case WORD in
            if frame.words == 2:
                if word != b"in":
                    raise _Wrong
                frame.state, frame.words = "pattern", 0
            return None
        if frame.state == "pattern":
            if plain and word == b"esac" and frame.words == 1:
                self._stack.pop()
                self._compound_ended()
            return None
        if frame.state == "name":  # function NAME
            frame.state, frame.body = "", True
            return None
        if not frame.command:
            return None
        if plain and (word in _OPENERS or word in _OPENED_BY or word in (b"function", b"coproc", b"!", b"time")):
            return self._reserved(frame, word, start)
        if frame.after or frame.body:
            raise _Wrong
        frame.command, frame.operator = False, None
        frame.words = 1
        return None

    def _reserved(self, frame: _Frame, word: bytes, start: int) -> Lack | None:
        if word in _OPENED_BY:
            return self._closer(frame, word, start)
        if frame.after and not (word == b"{" and frame.body):
            raise _Wrong
        frame.operator = None
        if word in (b"!", b"time"):
            self._at = _time_option(self._text, self._at).end()  # type: ignore[union-attr]
            return None
        if frame.body and word not in _OPENERS:
            raise _Wrong
        if word == b"coproc":
            raise _Wrong
        if word == b"function":
            frame.state, frame.words = "name", 0
            return None
        frame.body = False
        kind = word.decode()
        state = {"if": "if", "while": "do?", "until": "do?", "for": "head", "select": "head", "case": "subject"}.get(kind, "")
        self._stack.append(_Frame(kind, start, state))
        return None

    def _closer(self, frame: _Frame, word: bytes, start: int) -> Lack | None:
        """A word that continues or ends a compound command."""
        if not frame.kind:
            return Lack("inner", start, len(word), word.decode(), _OPENED_BY[word])
        if frame.operator is not None or frame.body:
            raise _Wrong
        if word in _STATES:
            fits = frame.kind == "if" and frame.state in _STATES[word]
        elif word in (b"do", b"done"):
            fits = frame.kind in _LOOPS and frame.state == ("do?" if word == b"do" else "do")
        else:
            fits = frame.kind == ("{" if word == b"}" else "case")
        if not fits:
            raise _Wrong
        if word in _NEXT:
            self._continue(frame, _NEXT[word])
        elif word == b"do":
            self._continue(frame, "do")
        else:
            self._stack.pop()
            self._compound_ended()
        return None

    def _continue(self, frame: _Frame, state: str) -> None:
        frame.state, frame.command, frame.after, frame.words = state, True, False, 0

    def _compound_ended(self) -> None:
        frame = self._stack[-1]
        frame.command = frame.after = True
        frame.body, frame.operator = False, None
        if frame.state == "head":
            frame.state = "do?"

    def _opening(self, frame: _Frame) -> Lack | None:
        text, at = self._text, self._at
        if frame.word >= 0:
            if _assignment(text, frame.word, at):
                frame.plain = False
                self._push("array", 1)
                return None
            empty = _no_words(text, at)
            if not empty or frame.redirect or frame.after or not (frame.command or frame.state == "name") or frame.kind == "array":
                raise _Wrong
            if frame.state in ("head", "subject", "pattern"):
                raise _Wrong
            frame.word, frame.operator = -1, None
            self._function(frame, empty.end())
            return None
        if frame.state == "pattern" and not frame.words:
            self._at += 1
            return None
        if frame.redirect or frame.kind == "array" or frame.after or frame.state in ("subject", "pattern"):
            raise _Wrong
        if frame.state == "head":
            if frame.words or not text.startswith(b"((", at):
                raise _Wrong
            self._push("((", 2)
            return None
        empty = _no_words(text, at)
        if empty and (frame.body or (not frame.command and frame.words == 1)):
            self._function(frame, empty.end())
            return None
        if not frame.command:
            raise _Wrong
        frame.operator, frame.body = None, False
        if text.startswith(b"((", at):
            self._push("((", 2)
        else:
            self._push("(", 1)
        return None

    def _function(self, frame: _Frame, end: int) -> None:
        frame.state = "" if frame.state == "name" else frame.state
        frame.command = frame.body = True
        self._at = end

    def _closing(self, frame: _Frame) -> Lack | None:
        if frame.operator or frame.redirect or frame.body:
            raise _Wrong
        if not frame.kind:
            return Lack("inner", self._at, 1, ")", "(")
        self._at += 1
        if frame.state == "pattern" and frame.words:
            self._continue(frame, "body")
        elif frame.kind in _ROUND or frame.kind == "array":
            self._stack.pop()
            if frame.kind == "(":
                self._compound_ended()
        else:
            raise _Wrong
        return None

    def _operated(self, frame: _Frame) -> Lack | None:
        found = _operator(self._text, self._at)
        sign = found[0] if found else b""
        start, end = self._at, self._at + len(sign)
        if sign in (b"<(", b">("):
            frame.word, frame.plain = frame.word if frame.word >= 0 else start, False
            self._push("<(", 2)
            return None
        if frame.redirect or frame.state in ("subject", "name") or frame.kind == "array":
            raise _Wrong
        self._at = end
        if sign[:1] in (b"<", b">") or sign.startswith(b"&>"):
            if frame.state in ("head", "pattern") or frame.body:
                raise _Wrong
            if sign in (b"<<", b"<<-"):
                return Lack("here-document", start, len(sign), sign.decode())
            frame.redirect = True
            frame.operator = None
            return None
        if frame.state == "pattern":
            if sign != b"|" or not frame.words:
                raise _Wrong
            return None
        empty = frame.command and not frame.after
        if sign.startswith(b";") and len(sign) > 1:
            if not frame.kind and not frame.operator and not frame.body:
                return Lack("inner", start, len(sign), sign.decode(), "case")
            if frame.kind != "case":
                raise _Wrong
            frame.state, frame.words = "pattern", 0
            frame.after = False
            return None
        if frame.state == "head":
            if sign != b";" or not frame.words:
                raise _Wrong
            self._continue(frame, "do?")
            return None
        if empty or frame.body:
            raise _Wrong
        frame.operator = None if sign in (b";", b"&") else (start, end)
        frame.command, frame.after, frame.words = True, False, 0
        return None


_STEPS = {'"': _Scan._quoted, "${": _Scan._param, "$((": _Scan._sum, "((": _Scan._sum, "[[": _Scan._condition}
