"""Typographic characters in lines: told where the shell or a program would want an ordinary one, and nowhere else."""

from __future__ import annotations

import pytest

from taskrun.language.items import Prefix, Suffix
from taskrun.language.slips import Block, Slip
from taskrun.language.typography import typography


def slips(text: bytes, prefix: bytes = b"") -> list[Slip]:
    return list(typography(Block(b"\n%b\n" % text, 1, len(text) + 1, 1, True, True, Prefix(0, prefix), Suffix(0, b""))))


@pytest.mark.parametrize(
    ("line", "column", "message", "hint"),
    [
        (
            "grep\u00a0x y",
            5,
            "a no-break space (U+00A0) separates no words: bash takes it as a letter",
            "write an ordinary blank, or quote it",
        ),
        ("run a \u202f b", 7, "a no-break space (U+202F)", "write an ordinary blank"),
        ("run\ufeff a", 4, "a zero-width space (U+FEFF)", "write an ordinary blank"),
        (
            "echo \u201cHello you\u201d",
            6,
            "a typographic quote \u201c (U+201C) quotes nothing: bash takes it as a letter",
            'write ", or quote it',
        ),
        ("awk \u2018{ print }\u2019 x", 5, "a typographic quote \u2018 (U+2018)", "write ', or quote it"),
        ("run --name=\u201ea\u201c", 12, "a typographic quote \u201e (U+201E)", 'write "'),
        (
            "head \u2013n 5 x",
            6,
            "a typographic dash \u2013 (U+2013) begins no option: programs take it as a letter",
            "write -, or quote it",
        ),
        ("run \u2014verbose", 5, "a typographic dash \u2014 (U+2014)", "write --, or quote it"),
        ("run -x \u22125", 8, "a typographic dash \u2212 (U+2212)", "write -"),
        ("echo '\u201ca\u201d' \u2013n", 16, "a typographic dash", "write -"),
    ],
)
def test_a_character_that_was_meant_to_be_another(line: str, column: int, message: str, hint: str) -> None:
    (slip,) = slips(b"true\n" + line.encode() + b"\n# \xc2\xa0")
    assert (slip.line, slip.column, slip.kind) == (2, column, "typography")
    assert slip.message.startswith(message)
    assert slip.hint.startswith(hint)


@pytest.mark.parametrize(
    "line",
    [
        "echo 'it\u2019s \u201cfine\u201d \u2013 really\u00a0!'",
        'printf "\u2013n \u00ab oui\u00a0\u00bb"',
        "echo l\u2019eau \u2013 a\u2013b",
        "# \u201ca comment\u201d\u00a0\u2013x",
        "run x # \u2013n \u201cthat\u201d",
        "run \u00e4\u00f6\u00fc \u65e5\u672c\u8a9e \u2026",
        "rm \\\u2013x",
    ],
)
def test_text_may_have_them(line: str) -> None:
    assert slips(b"true\n" + line.encode()) == []


def test_a_quoting_prefix_makes_text_of_the_line() -> None:
    assert slips("echo \u201ca\u201d".encode(), b"notify '") == []
    assert [slip.group for slip in slips("a \u201cb\u201d\na \u2013n\n\u00e9 \u201cb\u201d".encode())] == [
        "typography 2",
        "typography 3",
        "typography 2",
    ]


def test_a_byte_order_mark_is_told_elsewhere() -> None:
    assert slips(b"\xef\xbb\xbftrue") == []
