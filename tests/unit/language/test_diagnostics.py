"""The picture of a problem."""

from __future__ import annotations

from taskrun.language.diagnostics import CAP, Diagnostic, first_error, render, render_all
from taskrun.visible import visible


def picture(raw: bytes, column: int, length: int, line: int = 12) -> list[str]:
    return render(Diagnostic.at("error", line, column, length, "wrong", None, raw), "tasks.txt").split("\n")[1:]


def test_place_message_line_caret_hint() -> None:
    diagnostic = Diagnostic.at("error", 12, 10, 6, "unknown directive `BARIER`", "did you mean BARRIER?", b"#TASKRUN BARIER")
    assert render(diagnostic, "tasks.txt") == (
        "tasks.txt:12:10: error: unknown directive `BARIER`\n  12 | #TASKRUN BARIER\n     |          ^^^^^^\n  help: did you mean BARRIER?"
    )


def test_colour_only_adds_escapes() -> None:
    diagnostic = Diagnostic.at("warning", 1, 1, 1, "odd", "one\ntwo", b"x")
    assert render(diagnostic, "t") == "t:1:1: warning: odd\n  1 | x\n    | ^\n  help: one\n  help: two"
    assert render(diagnostic, "t", color=True).split("\n") == [
        "\x1b[1mt:1:1:\x1b[0m \x1b[1;33mwarning:\x1b[0m \x1b[1modd\x1b[0m",
        "\x1b[34m  1 |\x1b[0m x",
        "\x1b[34m    |\x1b[0m \x1b[1;33m^\x1b[0m",
        "  \x1b[36mhelp:\x1b[0m one",
        "  \x1b[36mhelp:\x1b[0m two",
    ]


def test_the_caret_stands_below_its_place() -> None:
    assert picture(b"a\tb\tX", 5, 1) == ["  12 | a    b    X", "     |           ^"]
    assert picture("日本 X".encode(), 8, 1) == ["  12 | 日本 X", "     |      ^"]
    assert picture("日本 X".encode(), 1, 6) == ["  12 | 日本 X", "     | ^^^^"]
    assert picture("e\u0301X".encode(), 4, 1) == ["  12 | e\u0301X", "     |  ^"]
    assert picture(b"\xff\x1b[31mX", 7, 1) == [r"  12 | \xff\x1b[31mX", r"     |             ^"]
    assert picture(b"a\0b", 2, 1) == [r"  12 | a\x00b", "     |  ^^^^"]
    assert picture(b"x", 2, 1) == ["  12 | x", "     |  ^"]
    assert picture(b"", 1, 1) == ["  12 |", "     | ^"]


def test_long_lines_are_cut_around_the_place() -> None:
    raw = b"x" * 5000 + b"HERE" + b"y" * 5000
    source, caret = picture(raw, 5001, 4)
    assert source == "  12 | ..." + "x" * 30 + "HERE" + "y" * 66 + "..."
    assert caret == "     |    " + " " * 30 + "^^^^"
    source, caret = picture(raw, 1, 5)
    assert source == "  12 | " + "x" * 100 + "..."
    assert caret == "     | ^^^^^"
    source, caret = picture(raw, 10_004, 1)
    assert source == "  12 | ..." + "y" * 100
    assert caret == "     |    " + " " * 99 + "^"
    source, caret = picture(b"x" * 200, 1, 200)
    assert caret == "     | " + "^" * 100


def test_a_cut_does_not_tear_a_character() -> None:
    raw = "ä".encode() * 3000 + b"X"
    for column in (6001, 3001, 3002):
        source, caret = picture(raw, column, 1)
        assert "\\x" not in source
        assert source.startswith("  12 | ...ä")
        assert "^" in caret


def test_little_is_kept_of_a_long_line() -> None:
    diagnostic = Diagnostic.at("error", 1, 500_000, 1, "wrong", None, b"x" * 1_000_000)
    assert (len(diagnostic.text), diagnostic.before, diagnostic.after) == (400, 499_899, 499_701)


def test_visible_hides_nothing_and_harms_nothing() -> None:
    assert visible("plain") == "plain"
    assert visible("ä 日 \t\x1b\x85\u202e\U000e0001\udcff") == r"ä 日 \t\x1b\x85\u202e\U000e0001\xff"


def test_more_than_the_cap_are_counted() -> None:
    diagnostic = Diagnostic.at("error", 3, 1, 1, "wrong", None, b"x")
    text = render_all([diagnostic], "t\n", CAP + 1234, CAP)
    assert text == "t\\n:3:1: error: wrong\n  3 | x\n    | ^\nt\\n: 1,234 more errors not shown\n"
    assert render_all([], "t", 0, 0) == ""
    assert first_error([diagnostic._replace(severity="warning", line=1), diagnostic]) == 3
    assert first_error([]) == 0
