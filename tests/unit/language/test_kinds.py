"""Kinds of warnings: ALLOW silences them below, `strict` makes them errors, a group of slips is told once."""

from __future__ import annotations

import io

import pytest

from taskrun.language import recognition
from taskrun.language.diagnostics import render
from taskrun.language.items import Lines
from taskrun.language.kinds import KINDS
from taskrun.language.reader import Reader
from taskrun.language.slips import Block, Slip
from taskrun.language.source import scan
from taskrun.language.whole import parse_whole


def told(text: bytes, *, strict: bool = False, ignore_unknown: bool = False) -> list[tuple[str, int, str]]:
    reader = Reader("tasks.txt", strict=strict, ignore_unknown=ignore_unknown)
    reader.feed(text)
    reader.close()
    assert reader.diagnostics == parse_whole(text, strict=strict, ignore_unknown=ignore_unknown).diagnostics
    return [(each.severity, each.line, each.kind) for each in reader.diagnostics]


KEY = b"#TASKRUN BARRIER a CHECK\n"
EVERY = b"#TASKRUN REPEAT 2 x\n#TASKRUN REPEAT 2 start 5x\n" + KEY + b"#TASKRUN FOREACH * '{}'\n#DISBATCH FOO\n"


def test_every_warning_has_a_kind_that_silences_it_below() -> None:
    kinds = [("warning", 2, "clause"), ("warning", 3, "barrier-key"), ("warning", 4, "braces"), ("warning", 5, "unknown")]
    assert told(EVERY, ignore_unknown=True) == kinds
    assert told(b"#TASKRUN ALLOW crlf\r\ntrue\r\n") == []
    assert told(b"#TASKRUN ALLOW braces\r\ntrue\r\n") == [("warning", 1, "crlf")]
    assert told(b"#TASKRUN ALLOW Unknown  clause\t\n#TASKRUN allow braces barrier-key\n" + EVERY, ignore_unknown=True) == []
    assert told(KEY + b"#TASKRUN ALLOW barrier-key\n" + KEY) == [("warning", 1, "barrier-key")]
    assert told(b"#TASKRUN ALLOW crlf\nPERENGINE may follow\n#TASKRUN ALLOW clause\n") == []
    assert told(b"#TASKRUN ALLOW crlf\n#TASKRUN PERENGINE START x\n") == []


def test_what_cannot_be_silenced_is_strict_about_nothing_else() -> None:
    assert told(EVERY, strict=True)[0] == ("error", 2, "clause")
    assert told(b"\xef\xbb\xbftrue\n") == [("warning", 1, "")]
    assert told(b"\xef\xbb\xbftrue\n", strict=True) == [("error", 1, "")]
    assert told(b"#TASKRUN ALLOW barrier-key\n" + KEY, strict=True) == []


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        (b"#TASKRUN ALLOW", "ALLOW without a kind of warning", "usage: #TASKRUN ALLOW kind [kind ...]; kinds are background,"),
        (b"#TASKRUN ALLOW backgrund", "unknown kind of warning `backgrund`", "did you mean `background`?"),
        (b"#TASKRUN ALLOW near-miss zzz", "unknown kind of warning `zzz`", "kinds are background, barrier-key,"),
        (b"#TASKRUN ALLOW 'a", "a quote has no end", "usage: #TASKRUN ALLOW"),
        (b"#DISBATCH ALLOW crlf", "unknown directive `ALLOW`", "it is taskrun's own: begin the line with `#TASKRUN`"),
    ],
)
def test_a_wrong_allow(line: bytes, message: str, hint: str) -> None:
    (diagnostic,) = scan(io.BytesIO(line), "-").diagnostics
    assert (diagnostic.severity, diagnostic.message) == ("error", message)
    assert (diagnostic.hint or "").startswith(hint)


def test_a_group_of_slips_is_told_once_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def recognise(block: Block) -> list[Slip]:
        places = [place for place in range(block.start, block.end) if block.text[place : place + 1] == b"!"]
        return [
            Slip(number, text.index(b"!") + 1, 1, "joined", "a mark", "leave it out", text, "mark")
            for number, text in block.lines_with(places)
        ]

    monkeypatch.setattr(recognition, "RECOGNISERS", (recognise,))
    text = b"a\n" + b"x!!\n" * 1100 + KEY + b"#TASKRUN REPEAT 2 y!\nz!\n"
    reader = Reader("tasks.txt")
    for place in range(0, len(text), 7):
        reader.feed(text[place : place + 7])
    assert reader.diagnostics == parse_whole(text).diagnostics
    assert [(each.line, each.more) for each in reader.diagnostics] == [(2, 1101), (1102, 0)]
    assert reader.warnings == 2
    assert render(reader.diagnostics[0], "t").splitlines() == [
        "t:2:2: warning: a mark (and 1,101 more lines)",
        "  2 | x!!",
        "    |  ^",
        "  help: leave it out",
        "  help: `#TASKRUN ALLOW joined` above it silences this",
    ]
    assert [each.column for each in parse_whole(b"#TASKRUN REPEAT 2 y!").diagnostics] == [20]
    strict = Reader("tasks.txt", strict=True)
    assert strict.feed(text) == [Lines(1, b"a", 1)]
    assert (strict.errors, strict.warnings) == (2, 0)


def test_names_of_kinds_can_be_written() -> None:
    assert all(name == name.lower() and " " not in name for name in KINDS)
    assert list(KINDS) == sorted(KINDS)
